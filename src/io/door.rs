//! The way into a shard for everybody who is not a shard: the gate hands clients over, the main thread asks for counters
//! and for the end.
//!
//! The queue behind a door has no bound of its own: a client in it holds a [`ConnectionPermit`], so there are never more
//! than `--max-connections`, and requests of the main thread are a handful in a process's life.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::route::ShardId;
use crate::shard::Admission;

use super::bell::Bell;
use super::permit::ConnectionPermit;

/// A client that the gate hands over.
pub struct Arrival {
    /// Its socket, on which no operation is in flight.
    pub socket: OwnedFd,
    /// What the gate learned about it.
    pub admission: Admission,
    /// Its share of `--max-connections`.
    pub permit: ConnectionPermit,
}

/// What a shard may be asked.
pub(super) enum Request {
    /// Take a client over.
    Admit(Arrival),
    /// Write the counters to the log.
    LogCounters,
    /// End every connection, then say so.
    ShutDown,
}

/// The doors of all shards.
#[derive(Clone)]
pub struct Doors {
    doors: Arc<[Door]>,
}

pub(super) struct Door {
    pub(super) requests: Sender<Request>,
    pub(super) bell: Arc<Bell>,
}

impl Doors {
    pub(super) fn new(doors: Vec<Door>) -> Self {
        Self { doors: doors.into() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("no more shards than SHARDS_MAX")
    }

    /// Hands a client to the shard that owns it.
    pub fn admit(&self, shard: ShardId, arrival: Arrival) {
        self.doors[shard.index()].request(Request::Admit(arrival));
    }

    /// Asks every shard to write its counters to the log.
    pub fn log_counters(&self) {
        for door in self.doors.iter() {
            door.request(Request::LogCounters);
        }
    }

    /// Asks every shard to end its connections.
    pub fn shut_down(&self) {
        for door in self.doors.iter() {
            door.request(Request::ShutDown);
        }
    }
}

impl Door {
    fn request(&self, request: Request) {
        // Only a shard whose thread has ended does not listen, and such a thread takes the process with it.
        if self.requests.send(request).is_ok() {
            self.bell.ring_if_sleeping();
        }
    }
}
