//! Connections, sessions and the messages between them: everything a delivery touches.
//!
//! Apart from the rest of the shard, so that a fan-out can walk the subscribers in the trie while it delivers.

use std::collections::VecDeque;

use slab::Slab;

use crate::config::Limits;
use crate::proto::{AcknowledgementKind, Packet, QoS, ReasonCode};
use crate::route::{Message, RouteStamp, ShardId, Terms};
use crate::session::{QueueLimit, Resend};
use crate::store::{Log, Promise};
use crate::time::Timestamp;

use super::congestion::Origin;
use super::connection::{Acknowledgement, Connection, ConnectionKey, Phase};
use super::counters::Counters;
use super::encoder::{Encoder, OutgoingPublish};
use super::messages::{Delivery, MessageKey, Messages};
use super::outbox::Outbox;
use super::output::Transmit;
use super::sessions::{HeldDelivery, SessionKey, Sessions};
use super::timers::Timers;
use super::{Command, TimerKey};

/// Messages that a queue holds before those behind are given allocations of their own.
const QUEUED_BEFORE_COMPACTION: usize = 16;

#[derive(Debug)]
pub(super) struct Clients {
    pub(super) id: ShardId,
    pub(super) now: Timestamp,
    pub(super) limits: Limits,
    pub(super) connections: Slab<Connection>,
    pub(super) sessions: Sessions,
    pub(super) messages: Messages,
    pub(super) log: Log,
    pub(super) counters: Counters,
    pub(super) commands: VecDeque<Command>,
    pub(super) outbox: Outbox,
    pub(super) timers: Timers<TimerKey>,
    /// Connections whose output may have something to send, each once.
    dirty: Vec<ConnectionKey>,
    /// Connections with acknowledgements that wait for the log; one of them may be listed twice.
    awaiting_log: Vec<ConnectionKey>,
    encoder: Encoder,
}

/// A message on its way to the sessions of this shard; put in the arena when the first of them has to hold it.
///
/// It holds a reference of its own, given back by [`Clients::end_post`].
#[derive(Debug)]
#[must_use]
pub(super) struct Post<'m> {
    message: &'m Message,
    stored: Option<MessageKey>,
    origin: Option<Origin>,
    stamp: RouteStamp,
}

impl<'m> Post<'m> {
    /// `origin` is held up if a session falls behind.
    pub(super) fn new(message: &'m Message, origin: Option<Origin>, stamp: RouteStamp) -> Self {
        Self { message, stored: None, origin, stamp }
    }

    fn key(&mut self, messages: &mut Messages) -> MessageKey {
        *self.stored.get_or_insert_with(|| messages.insert(self.message.clone()))
    }
}

impl Clients {
    pub(super) fn new(id: ShardId, outbox: Outbox, sessions: Sessions, limits: Limits) -> Self {
        Self {
            id,
            now: Timestamp::default(),
            limits,
            connections: Slab::new(),
            sessions,
            messages: Messages::default(),
            log: Log::off(),
            counters: Counters::default(),
            commands: VecDeque::new(),
            outbox,
            timers: Timers::default(),
            dirty: Vec::new(),
            awaiting_log: Vec::new(),
            encoder: Encoder::default(),
        }
    }

    #[inline]
    pub(super) fn connection(&mut self, key: ConnectionKey) -> &mut Connection {
        &mut self.connections[key.index()]
    }

    /// Gives a message to a session: onto its connection if it may go at once, into its queue if it may not.
    pub(super) fn deliver(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        if self.sessions.get(to).held.is_some() {
            return self.hold_back(to, post, terms);
        }
        match terms.qos {
            QoS::AtMostOnce => self.deliver_at_most_once(to, post.message, &terms),
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.deliver_reliably(to, post, terms),
        }
    }

    /// Every session that gets the message has got it.
    pub(super) fn end_post(&mut self, post: Post<'_>) {
        if let Some(key) = post.stored {
            self.messages.release(key);
        }
    }

    fn hold_back(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        let message = post.key(&mut self.messages);
        let held = self.sessions.get_mut(to).held.as_mut().expect("asked for by the caller");
        if held.deliveries.len() >= self.limits.max_queued_messages as usize {
            self.counters.dropped_queue_full += 1;
            return;
        }
        self.messages.refer(message);
        held.deliveries.push_back(HeldDelivery { message, terms, stamp: post.stamp, is_live: true });
    }

    /// Gives a session what was held for it.
    pub(super) fn deliver_held(&mut self, to: SessionKey, deliveries: VecDeque<HeldDelivery>) {
        for HeldDelivery { message: key, terms, stamp, .. } in deliveries {
            let message = self.messages.get(key).clone();
            // The reference of the holding is the post's now.
            let mut post = Post { message: &message, stored: Some(key), origin: None, stamp };
            self.deliver(to, &mut post, terms);
            self.end_post(post);
        }
    }

    fn deliver_at_most_once(&mut self, to: SessionKey, message: &Message, terms: &Terms) {
        let Some(key) = self.sessions.get(to).connection else { return };
        if !self.has_room(key) {
            self.counters.dropped_slow_subscriber += 1;
            return;
        }
        let connection = &mut self.connections[key.index()];
        let packet = OutgoingPublish { id: None, dup: false, qos: QoS::AtMostOnce, retain: terms.retain };
        if self.encoder.publish(connection, self.now, message, packet, &terms.identifiers) {
            self.counters.publishes_sent += 1;
            self.mark_dirty(key);
        } else {
            self.counters.dropped_too_large += 1;
        }
    }

    fn deliver_reliably(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        let message = post.key(&mut self.messages);
        let connection = self.sessions.get(to).connection.filter(|key| self.has_room(*key));
        let outbound = self.sessions.outbound(to);
        let delivery = Delivery {
            message,
            bytes: post.message.bytes() as u32,
            qos: terms.qos,
            retain: terms.retain,
            identifiers: terms.identifiers,
        };
        if let Some(key) = connection.filter(|_| outbound.is_clear()) {
            let (id, delivery) = outbound.send_now(delivery);
            let packet = OutgoingPublish { id: Some(id), dup: false, qos: delivery.qos, retain: delivery.retain };
            let connection = &mut self.connections[key.index()];
            if self.encoder.publish(connection, self.now, post.message, packet, &delivery.identifiers) {
                self.messages.refer(message);
                self.counters.publishes_sent += 1;
                self.mark_dirty(key);
            } else {
                // As if it had been sent and acknowledged [MQTT-3.1.2-25].
                outbound.abandon(id);
                self.counters.dropped_too_large += 1;
            }
            return;
        }
        let limit = QueueLimit { messages: self.limits.max_queued_messages, bytes: self.limits.max_queued_bytes };
        let waits_long = connection.is_none() || outbound.queued() >= QUEUED_BEFORE_COMPACTION;
        match outbound.enqueue(delivery, limit) {
            Ok(()) => {
                self.messages.refer(message);
                if waits_long {
                    self.messages.compact(message);
                }
                let queued = outbound.queued();
                self.note_queued(to, queued, post.origin);
            }
            Err(_) => self.counters.dropped_queue_full += 1,
        }
    }

    /// Sends what a session's window and its connection's output have room for.
    pub(super) fn pump(&mut self, session: SessionKey) {
        let Some(key) = self.sessions.get(session).connection else { return };
        let Some(outbound) = self.sessions.outbound_if_any(session) else { return };
        let connection = &mut self.connections[key.index()];
        let mut sent = 0;
        while connection.output.waiting_bytes() < self.limits.max_output_bytes as usize {
            if let Some(next) = outbound.next_queued()
                && self.messages.get(next.message).is_expired(self.now)
            {
                // Trap 33: an expired message is not started.
                let expired = outbound.discard_queued().expect("peeked above");
                self.messages.release(expired.message);
                self.counters.dropped_expired += 1;
                continue;
            }
            let Some((id, dup, delivery)) = outbound.next_publish() else { break };
            let message = self.messages.get(delivery.message);
            let packet = OutgoingPublish { id: Some(id), dup, qos: delivery.qos, retain: delivery.retain };
            if self.encoder.publish(connection, self.now, message, packet, &delivery.identifiers) {
                sent += 1;
                self.counters.publishes_resent += u64::from(dup);
            } else {
                let abandoned = outbound.abandon(id).expect("it has just been given this id");
                self.messages.release(abandoned.message);
                self.counters.dropped_too_large += 1;
            }
        }
        let queued = outbound.queued();
        if sent > 0 {
            self.counters.publishes_sent += sent;
            self.mark_dirty(key);
        }
        self.note_dequeued(session, queued);
    }

    /// Resends what the session's exchanges need on its new connection, in the original order [MQTT-4.4.0-1].
    pub(super) fn resume(&mut self, session: SessionKey) {
        let key = self.sessions.get(session).connection.expect("a session is resumed by a connection");
        let window = self.sessions.get(session).window;
        let Some(outbound) = self.sessions.outbound_if_any(session) else { return };
        let connection = &mut self.connections[key.index()];
        let mut too_large = Vec::new();
        outbound.attach(window, |resend| match resend {
            Resend::Publish(id, delivery) => {
                let message = self.messages.get(delivery.message);
                let packet = OutgoingPublish { id: Some(id), dup: true, qos: delivery.qos, retain: delivery.retain };
                if self.encoder.publish(connection, self.now, message, packet, &delivery.identifiers) {
                    self.counters.publishes_sent += 1;
                    self.counters.publishes_resent += 1;
                } else {
                    too_large.push(id);
                }
            }
            Resend::Pubrel(id) => self.encoder.acknowledgement(
                connection,
                Acknowledgement { kind: AcknowledgementKind::Pubrel, id, reason: ReasonCode::Success },
            ),
        });
        for id in too_large {
            let abandoned = outbound.abandon(id).expect("it is in flight");
            self.messages.release(abandoned.message);
            self.counters.dropped_too_large += 1;
        }
        self.mark_dirty(key);
        self.pump(session);
    }

    /// Promises a publisher the PUBACK or PUBREC of its message: it leaves behind those promised before, as soon as all
    /// that has been logged so far is stable and no subscriber holds the publisher up.
    #[inline]
    pub(super) fn receipt(&mut self, key: ConnectionKey, receipt: Acknowledgement) {
        let promise = self.log.promise(receipt);
        let connection = &mut self.connections[key.index()];
        if connection.held_by == 0 && connection.receipts.is_empty() {
            match self.log.redeem(promise) {
                Ok(receipt) => {
                    self.encoder.acknowledgement(connection, receipt);
                    self.mark_dirty(key);
                }
                Err(promise) => {
                    connection.receipts.push_back(promise);
                    self.awaiting_log.push(key);
                }
            }
            return;
        }
        connection.receipts.push_back(promise);
    }

    /// Promises a PUBREL or PUBCOMP, likewise; nobody holds it up but the log.
    #[inline]
    pub(super) fn release(&mut self, key: ConnectionKey, release: Acknowledgement) {
        let promise = self.log.promise(release);
        let connection = &mut self.connections[key.index()];
        if !connection.releases.is_empty() {
            connection.releases.push_back(promise);
            return;
        }
        match self.log.redeem(promise) {
            Ok(release) => {
                self.encoder.acknowledgement(connection, release);
                self.mark_dirty(key);
            }
            Err(promise) => {
                connection.releases.push_back(promise);
                self.awaiting_log.push(key);
            }
        }
    }

    /// The log is stable further than before: sends the acknowledgements that waited for it, in order [MQTT-4.6.0-2..4].
    pub(super) fn redeem_promises(&mut self) {
        for key in std::mem::take(&mut self.awaiting_log) {
            self.flush_receipts(key);
            let connection = &mut self.connections[key.index()];
            let waits = redeem_all(&self.log, &mut self.encoder, connection, |connection| &mut connection.releases);
            if waits {
                self.awaiting_log.push(key);
            }
            self.mark_dirty(key);
        }
    }

    /// Sends the receipts that nothing holds up any more.
    pub(super) fn flush_receipts(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key.index()];
        if connection.held_by > 0 || connection.receipts.is_empty() {
            return;
        }
        let waits = redeem_all(&self.log, &mut self.encoder, connection, |connection| &mut connection.receipts);
        if waits {
            self.awaiting_log.push(key);
        }
        self.mark_dirty(key);
    }

    /// Appends a packet that promises nothing.
    pub(super) fn send(&mut self, key: ConnectionKey, packet: &Packet<'_>) {
        self.encoder.packet(&mut self.connections[key.index()], packet);
        self.mark_dirty(key);
    }

    /// Whether messages may be added to the connection's output; control packets may always.
    fn has_room(&self, key: ConnectionKey) -> bool {
        self.connections[key.index()].output.waiting_bytes() < self.limits.max_output_bytes as usize
    }

    #[inline]
    fn mark_dirty(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key.index()];
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(key);
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
            if let Some(transmit) = connection.output.take_transmit() {
                return Some((key, connection.transport.seal(transmit)));
            }
        }
    }

    /// Takes a transmit back. Whether all output is written.
    pub(super) fn handle_sent(&mut self, key: ConnectionKey, transmit: Transmit) -> bool {
        let connection = &mut self.connections[key.index()];
        connection.output.handle_sent(transmit, &mut self.encoder.buffers);
        let is_flushed = connection.output.is_flushed();
        if !is_flushed {
            self.mark_dirty(key);
        }
        is_flushed
    }

    /// Forgets output that can't be written any more.
    pub(super) fn discard_output(&mut self, key: ConnectionKey) {
        self.connections[key.index()].output.discard(&mut self.encoder.buffers);
    }

    /// Takes a connection out whose socket is closed.
    pub(super) fn remove_connection(&mut self, key: ConnectionKey) {
        let connection = self.connections.remove(key.index());
        if connection.is_dirty {
            self.dirty.retain(|dirty| *dirty != key);
        }
        // Without a log this is always empty.
        self.awaiting_log.retain(|waiting| *waiting != key);
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

/// Sends what may be sent of a queue of promises, in order; whether some of them still wait for the log.
fn redeem_all(
    log: &Log,
    encoder: &mut Encoder,
    connection: &mut Connection,
    queue: impl Fn(&mut Connection) -> &mut VecDeque<Promise<Acknowledgement>>,
) -> bool {
    while let Some(promise) = queue(connection).pop_front() {
        match log.redeem(promise) {
            Ok(acknowledgement) => encoder.acknowledgement(connection, acknowledgement),
            Err(promise) => {
                queue(connection).push_front(promise);
                return true;
            }
        }
    }
    false
}
