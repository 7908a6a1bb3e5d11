//! Connections as the world sees them: two streams of bytes that are cut, delayed, broken off and swallowed.

use std::collections::VecDeque;

use oncemq::shard::{ConnectionKey, Transmit};

use crate::client::{Meaning, Outgoing};
use crate::random::Random;
use crate::web_socket::Wire;

/// How a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// In order, behind all bytes.
    Finished,
    /// Broken off.
    Reset,
}

/// Where the broker's end of a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The gate collects the CONNECT.
    Gate,
    /// The gate hands it over.
    Admitting,
    /// A shard has it.
    Serving(ConnectionKey),
    /// The shard has said that it is to be closed.
    Closing(ConnectionKey),
    Closed,
}

/// A send in progress.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) transmit: Transmit,
    pub(crate) bytes: Vec<u8>,
    pub(crate) written: usize,
}

/// One connection between a client and the broker.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) shard: usize,
    pub(crate) stage: Stage,
    /// Bytes on their way to the broker, and how their stream ends.
    pub(crate) up: VecDeque<u8>,
    pub(crate) up_end: Option<End>,
    pub(crate) up_is_scheduled: bool,
    /// The broker has been told of the end.
    pub(crate) up_end_is_known: bool,
    up_written: u64,
    up_read: u64,
    /// What the packets mean that end at these offsets.
    meanings: VecDeque<(u64, Meaning)>,
    /// What the gate has read.
    pub(crate) gate: Vec<u8>,
    /// The shard does not want to read.
    pub(crate) is_paused: bool,
    pub(crate) sending: Option<Sending>,
    pub(crate) write_is_scheduled: bool,
    /// Bytes on their way to the client, and how their stream ends.
    pub(crate) down: VecDeque<u8>,
    pub(crate) down_end: Option<End>,
    pub(crate) down_is_scheduled: bool,
    /// Nothing arrives any more, and nobody is told.
    pub(crate) is_black_hole: bool,
    /// The client has closed its socket.
    pub(crate) is_abandoned: bool,
    pub(crate) wire: Wire,
    /// The broker has closed its WebSocket.
    pub(crate) is_closed_by_frame: bool,
}

impl Connection {
    pub(crate) fn new(client: usize, shard: usize) -> Self {
        Self {
            client,
            shard,
            stage: Stage::Gate,
            up: VecDeque::new(),
            up_end: None,
            up_is_scheduled: false,
            up_end_is_known: false,
            up_written: 0,
            up_read: 0,
            meanings: VecDeque::new(),
            gate: Vec::new(),
            is_paused: false,
            sending: None,
            write_is_scheduled: false,
            down: VecDeque::new(),
            down_end: None,
            down_is_scheduled: false,
            is_black_hole: false,
            is_abandoned: false,
            wire: Wire::Plain,
            is_closed_by_frame: false,
        }
    }

    /// The client writes a packet.
    pub(crate) fn write(&mut self, packet: Outgoing) {
        assert!(self.up_end != Some(End::Finished), "an honest client does not write behind its end");
        if self.up_end == Some(End::Reset) {
            // It has not noticed yet.
            return;
        }
        self.up_written += packet.bytes.len() as u64;
        self.up.extend(packet.bytes);
        self.meanings.push_back((self.up_written, packet.meaning));
    }

    /// The broker reads a piece of what has arrived.
    pub(crate) fn read(&mut self, bytes: usize) -> Vec<u8> {
        self.up_read += bytes as u64;
        self.up.drain(..bytes).collect()
    }

    /// What the packets mean that the broker has read to their end by now, once.
    pub(crate) fn take_meaning(&mut self) -> Option<Meaning> {
        match self.meanings.front() {
            Some((end, _)) if *end <= self.up_read => self.meanings.pop_front().map(|(_, meaning)| meaning),
            Some(_) | None => None,
        }
    }

    /// The connection breaks: in both directions the bytes behind some point are lost.
    pub(crate) fn reset(&mut self, random: &mut Random) {
        self.up.truncate(random.between(0, self.up.len() as u64) as usize);
        self.up_end = Some(End::Reset);
        self.down.truncate(random.between(0, self.down.len() as u64) as usize);
        self.down_end = Some(End::Reset);
    }

    /// The client closes its socket, or only its sending side.
    pub(crate) fn finish(&mut self) {
        self.up_end.get_or_insert(End::Finished);
    }
}
