//! Connections, sessions and the messages between them: everything a delivery touches, and what is sent to clients.
//!
//! Apart from the rest of the shard, so that a fan-out can walk the subscribers in the trie while it delivers.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;

use crate::auth::AccessRules;
use crate::config::{Limits, Service};
use crate::proto::Packet;
use crate::route::{MessageBytes, ShardId};
use crate::store::{Log, LogPosition};
use crate::time::Timestamp;

use super::backlog::Backlogs;
use super::connection::{Acknowledgement, Connection, ConnectionKey, Phase};
use super::counters::Counters;
use super::encoder::Encoder;
use super::latency::Sampling;
use super::links::Links;
use super::memory::Memory;
use super::messages::Messages;
use super::outbox::Outbox;
use super::output::Transmit;
use super::packet_counts::PacketCounts;
use super::sessions::{SessionKey, Sessions};
use super::sharing::Completed;
use super::timers::Timers;
use super::{Command, TimerKey};

#[derive(Debug)]
pub(super) struct Clients {
    pub(super) id: ShardId,
    pub(super) now: Timestamp,
    pub(super) limits: Limits,
    pub(super) service: Service,
    /// What clients may do; none if everything.
    pub(super) access_rules: Option<Arc<AccessRules>>,
    pub(super) connections: Slab<Connection>,
    /// Connections that serve a session.
    pub(super) attached: u64,
    pub(super) sessions: Sessions,
    pub(super) messages: Messages,
    /// Where packets that come through a transport are opened, one receive at a time.
    pub(super) opened: Vec<u8>,
    /// Where the bytes of new messages go.
    pub(super) message_bytes: MessageBytes,
    pub(super) backlogs: Backlogs,
    pub(super) log: Log,
    /// The log is as long as it may be.
    pub(super) is_log_at_limit: bool,
    pub(super) counters: Counters,
    /// Packets that have come.
    pub(super) received: PacketCounts,
    pub(super) commands: VecDeque<Command>,
    pub(super) outbox: Outbox,
    pub(super) links: Links,
    /// Clients whose durable sessions have ended, with the positions from which on that is stable: until then a crash would
    /// bring the sessions back.
    pub(super) ended: VecDeque<(LogPosition, Box<str>)>,
    /// What is over of the messages that came through groups.
    pub(super) completed: Completed,
    pub(super) timers: Timers<TimerKey>,
    /// Connections whose output may have something to send, each once.
    dirty: Vec<ConnectionKey>,
    /// Connections of clients that are to be sent away behind this event, because a queue has overflowed.
    pub(super) overflowed: Vec<ConnectionKey>,
    /// Connections with output that waits for the log, each once.
    awaiting_log: Vec<ConnectionKey>,
    pub(super) encoder: Encoder,
    /// How short memory is.
    pub(super) memory: Memory,
    /// How long messages take.
    pub(super) sampling: Sampling,
}

impl Clients {
    pub(super) fn new(
        id: ShardId,
        outbox: Outbox,
        sessions: Sessions,
        log: Log,
        encoder: Encoder,
        limits: Limits,
        service: Service,
    ) -> Self {
        Self {
            id,
            now: Timestamp::default(),
            limits,
            service,
            access_rules: None,
            connections: Slab::new(),
            attached: 0,
            sessions,
            messages: Messages::default(),
            opened: Vec::new(),
            message_bytes: MessageBytes::default(),
            backlogs: Backlogs::default(),
            log,
            is_log_at_limit: false,
            counters: Counters::default(),
            received: PacketCounts::default(),
            commands: VecDeque::new(),
            links: Links::new(outbox.shards()),
            outbox,
            ended: VecDeque::new(),
            completed: Completed::default(),
            timers: Timers::default(),
            dirty: Vec::new(),
            overflowed: Vec::new(),
            awaiting_log: Vec::new(),
            encoder,
            memory: Memory::default(),
            sampling: Sampling::new(),
        }
    }

    #[inline]
    pub(super) fn connection(&mut self, key: ConnectionKey) -> &mut Connection {
        &mut self.connections[key.index()]
    }

    /// Sends a publisher the PUBACK or PUBREC of its message: behind those before it, as soon as the log is stable up to
    /// `after` and neither a subscriber nor a lack of memory holds the publisher up [MQTT-4.6.0-2] [MQTT-4.6.0-3].
    #[inline]
    pub(super) fn send_receipt(&mut self, key: ConnectionKey, receipt: Acknowledgement, after: LogPosition) {
        let connection = &mut self.connections[key.index()];
        if connection.held_by > 0 || !connection.receipts.is_empty() || self.memory.holds_receipts() {
            if self.memory.holds_receipts() {
                self.memory.note_held(key);
            }
            connection.receipts.push_back(receipt, after);
            return;
        }
        self.encoder.acknowledgement(connection, receipt, after);
        self.mark_dirty(key);
    }

    /// Sends the receipts that nothing holds up any more.
    pub(super) fn flush_receipts(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key.index()];
        if connection.held_by > 0 {
            return;
        }
        if self.memory.holds_receipts() {
            self.memory.note_held(key);
            return;
        }
        while let Some((receipt, after)) = connection.receipts.pop_front() {
            // What became stable while it was held up is not released by a later write.
            let after = if self.log.is_stable(after) { LogPosition::NOTHING } else { after };
            self.encoder.acknowledgement(connection, receipt, after);
        }
        self.mark_dirty(key);
    }

    /// Sends a PUBREL or PUBCOMP, in the order of what it answers [MQTT-4.6.0-4]; nobody holds it up but the log.
    #[inline]
    pub(super) fn send_release(&mut self, key: ConnectionKey, release: Acknowledgement, after: LogPosition) {
        self.encoder.acknowledgement(&mut self.connections[key.index()], release, after);
        self.mark_dirty(key);
    }

    /// Appends a packet that leaves when the log is stable up to `after`.
    ///
    /// # Panics
    /// If the client does not accept packets of that size: who is not sure asks first, or uses [`Self::send_if_accepted`].
    pub(super) fn send(&mut self, key: ConnectionKey, packet: &Packet<'_>, after: LogPosition) {
        let is_sent = self.send_if_accepted(key, packet, after);
        assert!(is_sent, "{:?} is larger than its client accepts", packet.packet_type());
    }

    /// Appends a packet that leaves when the log is stable up to `after`; false, and nothing is sent, if it exceeds the
    /// client's Maximum Packet Size [MQTT-3.1.2-24].
    pub(super) fn send_if_accepted(&mut self, key: ConnectionKey, packet: &Packet<'_>, after: LogPosition) -> bool {
        let is_sent = self.encoder.packet(&mut self.connections[key.index()], packet, after);
        self.mark_dirty(key);
        is_sent
    }

    /// Appends a packet that is encoded already.
    pub(super) fn send_encoded(&mut self, key: ConnectionKey, packet: &[u8], after: LogPosition) {
        self.encoder.sent.count(packet[0]);
        let connection = &mut self.connections[key.index()];
        connection.output.section(after, &mut self.encoder.buffers).buffer().extend_from_slice(packet);
        self.mark_dirty(key);
    }

    /// What a promise to the client of this session waits for: all that was logged so far. A session that ends with its
    /// connection has nothing in the log.
    #[inline]
    pub(super) fn logged_for(&mut self, session: SessionKey) -> LogPosition {
        if self.sessions.get(session).is_durable { self.log.wait_for_appended() } else { LogPosition::NOTHING }
    }

    /// The log is stable further than before: lets go what waited for it.
    pub(super) fn release_outputs(&mut self) {
        let stable = self.log.stable();
        let ended = self.ended.iter().take_while(|(after, _)| *after <= stable).count();
        self.ended.drain(..ended);
        let mut waiting = std::mem::take(&mut self.awaiting_log);
        waiting.retain(|key| {
            let connection = &mut self.connections[key.index()];
            let is_waiting = connection.output.release(stable, &mut self.encoder.buffers);
            connection.is_awaiting_log = is_waiting;
            self.mark_dirty(*key);
            is_waiting
        });
        assert!(self.awaiting_log.is_empty(), "a connection that still waits has not been forgotten");
        self.awaiting_log = waiting;
    }

    /// Whether messages may be added to the connection's output; control packets may always.
    pub(super) fn has_room(&self, key: ConnectionKey) -> bool {
        self.connections[key.index()].output.waiting_bytes() < self.limits.max_output_bytes as usize
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key.index()];
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(key);
        }
        if !connection.is_awaiting_log && connection.output.is_holding() {
            connection.is_awaiting_log = true;
            self.awaiting_log.push(key);
        }
    }

    /// The next transmit that may go to the kernel.
    pub(super) fn poll_transmit(&mut self) -> Option<(ConnectionKey, Transmit)> {
        loop {
            let key = self.dirty.pop()?;
            let connection = &mut self.connections[key.index()];
            connection.is_dirty = false;
            if connection.phase == Phase::Closing {
                continue;
            }
            if let Some(transmit) = connection.output.take_transmit(&mut connection.transport) {
                self.counters.bytes_sent += transmit.len() as u64;
                if connection.has_samples {
                    connection.has_samples = self.sampling.hand_over(key, self.log.stable());
                }
                return Some((key, transmit));
            }
        }
    }

    /// Takes a transmit back. Whether all output is written.
    pub(super) fn handle_sent(&mut self, key: ConnectionKey, transmit: Transmit) -> bool {
        let connection = &mut self.connections[key.index()];
        connection.output.handle_sent(transmit, &mut self.encoder.buffers);
        let is_flushed = connection.is_flushed();
        if !is_flushed {
            self.mark_dirty(key);
        }
        is_flushed
    }

    /// Forgets output that can't be written any more.
    pub(super) fn discard_output(&mut self, key: ConnectionKey) {
        self.connections[key.index()].output.discard(&mut self.encoder.buffers);
    }

    /// Stops reading from a client until the rings and the log have drained.
    pub(super) fn pause_source(&mut self, key: ConnectionKey) {
        if !self.connections[key.index()].paused_by_backlog {
            self.outbox.paused.push(key);
            self.set_pause(key, |connection| connection.paused_by_backlog = true);
        }
    }

    /// Whether so much waits for the log that who causes more has to stop.
    pub(super) fn is_log_full(&self) -> bool {
        self.log.filling_bytes() >= self.limits.max_log_backlog_bytes as usize
    }

    /// Reads again from the clients that were stopped, once the rings and the log have drained.
    pub(super) fn resume_sources(&mut self) {
        if self.outbox.paused.is_empty() || !self.outbox.has_drained() || self.is_log_full() {
            return;
        }
        for key in std::mem::take(&mut self.outbox.paused) {
            if self.connections.contains(key.index()) {
                self.set_pause(key, |connection| connection.paused_by_backlog = false);
            }
        }
    }

    /// The connections that are promised something by the log: those of durable sessions, and those with output that
    /// waits for it.
    pub(super) fn connections_with_promises(&self) -> Vec<ConnectionKey> {
        let is_durable =
            |connection: &Connection| connection.session.is_some_and(|session| self.sessions.get(session).is_durable);
        self.connections
            .iter()
            .filter(|(_, connection)| is_durable(connection) || connection.output.is_holding())
            .map(|(index, _)| ConnectionKey::from_index(index))
            .collect()
    }

    /// Forgets output that waits for a log that has failed.
    pub(super) fn discard_held_output(&mut self, key: ConnectionKey) {
        self.connections[key.index()].output.discard_held(&mut self.encoder.buffers);
    }

    /// Takes a connection out whose socket is closed.
    pub(super) fn remove_connection(&mut self, key: ConnectionKey) {
        let connection = self.connections.remove(key.index());
        if connection.is_dirty {
            self.dirty.retain(|dirty| *dirty != key);
        }
        if connection.is_awaiting_log {
            self.awaiting_log.retain(|waiting| *waiting != key);
        }
        if connection.has_samples {
            self.sampling.forget(key);
        }
    }

    /// Stops or goes on reading from a client that does not read what it gets.
    pub(super) fn balance_output(&mut self, key: ConnectionKey) {
        let high = self.limits.max_output_bytes as usize;
        let connection = &mut self.connections[key.index()];
        if !connection.is_open() {
            return;
        }
        let waiting = connection.output.waiting_bytes();
        if !connection.paused_by_output && waiting >= high {
            self.set_pause(key, |connection| connection.paused_by_output = true);
        } else if connection.paused_by_output && waiting <= high / 2 {
            self.set_pause(key, |connection| connection.paused_by_output = false);
        }
    }

    /// Changes a reason for not reading from a connection, and tells the driver if that changes whether to read.
    pub(super) fn set_pause(&mut self, key: ConnectionKey, change: impl FnOnce(&mut Connection)) {
        let connection = &mut self.connections[key.index()];
        let was_paused = connection.is_paused();
        change(connection);
        if connection.phase == Phase::Closing || connection.is_paused() == was_paused {
            return;
        }
        if was_paused {
            // What the client has sent meanwhile is read only now: its silence counts from here.
            connection.last_packet_at = self.now;
            self.commands.push_back(Command::ResumeReceiving(key));
        } else {
            self.commands.push_back(Command::PauseReceiving(key));
        }
    }
}
