//! A short visit at the broker: connect, subscribe if that is wanted, leave again.

use oncemq::proto::{Packet, QoS, Version};

use crate::connection::{Client, Fault, Flow, Kick, drive};
use crate::dial::open;
use crate::fleet::Seat;
use crate::opening::{Login, Opening, Session, encode_disconnect};
use crate::transport::Route;

/// Connects as `login` says, subscribes to `filters` at `qos`, and leaves normally. `number` tells all clients apart.
pub(crate) async fn visit(seat: &Seat, login: Login, filters: Vec<String>, qos: QoS, number: u32) -> Result<(), Fault> {
    visit_at(&seat.route, seat, login, filters, qos, number).await
}

async fn visit_at(
    route: &Route,
    seat: &Seat,
    login: Login,
    filters: Vec<String>,
    qos: QoS,
    number: u32,
) -> Result<(), Fault> {
    let mut visitor = Visitor { version: login.version, opening: Opening::new(login, filters, qos) };
    let mut connection = open(route, number).await?;
    drive(&mut connection, &mut visitor, &Kick::new(), seat.clock).await?;
    Ok(())
}

/// Ends the session of this login at the broker, if there is one: visits with a clean start.
pub(crate) async fn end_session(seat: &Seat, login: &Login, number: u32) -> Result<(), Fault> {
    end_session_at(&seat.route, seat, login, number).await
}

/// As [`end_session`], at the broker at the end of this route.
pub(crate) async fn end_session_at(route: &Route, seat: &Seat, login: &Login, number: u32) -> Result<(), Fault> {
    let login = Login { session: Session::Transient, ..login.clone() };
    visit_at(route, seat, login, Vec::new(), QoS::AtMostOnce, number).await
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
        Ok(Flow::Leave)
    }

    fn poll(&mut self, _now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        self.opening.poll(out);
        Ok(Flow::Continue)
    }
}
