//! What every client of a fleet does besides its messages: open, report readiness, stay alive, leave when told.

use std::rc::Rc;

use oncemq::proto::{Packet, Version};
use tokio::sync::OwnedSemaphorePermit;

use crate::connection::{Client, Fault, Flow, Kick, drive};
use crate::dial::open;
use crate::fleet::{Phase, Seat};
use crate::opening::{BrokerLimits, KeepAlive, Login, Opening, Session, encode_disconnect, unexpected};
use crate::visit::end_session;

/// The common part of a client's state.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) seat: Rc<Seat>,
    version: Version,
    opening: Opening,
    keep_alive: KeepAlive,
    /// Held until the client is ready.
    permit: Option<OwnedSemaphorePermit>,
}

impl Participant {
    pub(crate) fn new(
        seat: Rc<Seat>,
        version: Version,
        keep_alive_seconds: u16,
        opening: Opening,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { seat, version, opening, keep_alive: KeepAlive::new(keep_alive_seconds), permit }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opening.is_open()
    }

    /// Takes a packet that belongs to no message exchange. The broker's limits when this completes the opening.
    pub(crate) fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<BrokerLimits>, Fault> {
        match packet {
            Packet::Pingresp => Ok(None),
            other if self.opening.is_open() => Err(unexpected(other)),
            other => {
                let limits = self.opening.handle_packet(other, out)?;
                if self.opening.take_session_lost() {
                    return Err(Fault::SessionLost);
                }
                if limits.is_some() {
                    self.permit = None;
                    self.seat.counters.ready.add(1);
                }
                Ok(limits)
            }
        }
    }

    /// Opens, leaves in [`Phase::Close`], stays alive. Call last in a client's `poll`.
    pub(crate) fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Flow {
        self.opening.poll(out);
        let flow = match self.seat.phase() {
            Phase::Open | Phase::Publish | Phase::Drain => Flow::Continue,
            Phase::Close => {
                encode_disconnect(self.version, out);
                Flow::Leave
            }
        };
        self.keep_alive.poll(self.version, now_ns, out);
        flow
    }
}

/// Connects a client and runs it to its end, and ends its session if that outlives it. A fault is reported under its client
/// id. `number` tells all clients apart.
pub(crate) async fn attend<C: Client>(seat: Rc<Seat>, login: Login, number: u32, kick: Rc<Kick>, mut client: C) -> C {
    let ended = match open(&seat.route, number).await {
        Ok(mut connection) => drive(&mut connection, &mut client, &kick, seat.clock).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = ended {
        seat.control.report(&login.client_id, &fault);
    }
    match login.session {
        Session::Transient => {}
        Session::Persistent(_) => {
            // Not all of them at once.
            let _turn = seat.admission().await;
            if let Err(fault) = end_session(&seat, &login, number).await {
                seat.control.report(&login.client_id, &fault);
            }
        }
    }
    client
}

/// The workers' tasks are never cancelled, and a panic ends the process.
pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.expect("a task of this worker ended without a result")
}
