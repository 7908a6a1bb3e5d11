//! A short visit at the broker: connect, subscribe if that is wanted, leave again.

use std::net::SocketAddr;

use oncemq::proto::{Packet, QoS, Version};

use crate::connection::{Client, Fault, Flow, Kick, drive, open};
use crate::fleet::Seat;
use crate::opening::{Login, Opening, Session, encode_disconnect};

/// Connects as `login` says, subscribes to `filters` at `qos`, and leaves normally. `number` tells all clients apart.
pub(crate) async fn visit(seat: &Seat, login: Login, filters: Vec<String>, qos: QoS, number: u32) -> Result<(), Fault> {
    visit_at(seat.address, seat, login, filters, qos, number).await
}

async fn visit_at(
    address: SocketAddr,
    seat: &Seat,
    login: Login,
    filters: Vec<String>,
    qos: QoS,
    number: u32,
) -> Result<(), Fault> {
    let mut visitor = Visitor { version: login.version, opening: Opening::new(login, filters, qos) };
    let stream = open(address, number).await?;
    drive(&stream, &mut visitor, &Kick::new(), seat.clock).await?;
    Ok(())
}

/// Ends the session of this login at the broker, if there is one: visits with a clean start.
pub(crate) async fn end_session(seat: &Seat, login: &Login, number: u32) -> Result<(), Fault> {
    end_session_at(seat.address, seat, login, number).await
}

/// As [`end_session`], at the broker with this address.
pub(crate) async fn end_session_at(address: SocketAddr, seat: &Seat, login: &Login, number: u32) -> Result<(), Fault> {
    let login = Login { session: Session::Transient, ..login.clone() };
    visit_at(address, seat, login, Vec::new(), QoS::AtMostOnce, number).await
}

/// Has nothing to do once it is open.
struct Visitor {
    version: Version,
    opening: Opening,
}

impl Client for Visitor {
    fn version(&self) -> Version {
        self.version
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, _now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        if self.opening.handle_packet(packet, out)?.is_none() {
            return Ok(Flow::Continue);
        }
        encode_disconnect(self.version, out);
        Ok(Flow::Close)
    }

    fn poll(&mut self, _now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        self.opening.poll(out);
        Ok(Flow::Continue)
    }
}
