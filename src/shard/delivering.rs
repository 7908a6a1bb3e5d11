//! From a message to a client: into its session, through its window, onto its connection; and again after a resume.

use crate::proto::{AcknowledgementKind, QoS, ReasonCode};
use crate::route::{Message, RouteStamp, Terms};
use crate::session::{Acknowledged, NextPublish, QueueLength, Reopened, Resend, Resending, packet_id_of};
use crate::store::{Log, LogPosition, Record};

use super::backlog;
use super::clients::Clients;
use super::connection::{Acknowledgement, ConnectionKey};
use super::encoder::{OutgoingPublish, Unsent};
use super::journal;
use super::links::Links;
use super::messages::{Delivery, MessageKey, Messages};
use super::publishing::Provenance;
use super::sessions::{Held, HeldDelivery, Session, SessionKey};
use super::template::Copies;

/// Messages of a queue that are given allocations of their own when its client goes away. Those behind lie among the bytes of
/// others only as far as the shard's bound lets them.
const COMPACTED_OF_QUEUE: u64 = 1024;

/// A message on its way to the sessions of this shard; put in the arena when the first of them has to hold it.
///
/// It holds a reference of its own, given back by [`Clients::end_post`].
#[derive(Debug)]
#[must_use]
pub(super) struct Post<'m> {
    message: &'m Message,
    stored: Option<MessageKey>,
    provenance: Provenance,
    copies: Copies,
}

impl<'m> Post<'m> {
    pub(super) fn new(message: &'m Message, provenance: Provenance) -> Self {
        Self { message, stored: None, provenance, copies: Copies::default() }
    }

    /// A message whose publisher is past being held up, and of which the log knows.
    pub(super) fn of_the_past(message: &'m Message, stamp: RouteStamp) -> Self {
        Self::new(message, Provenance { session: None, origin: None, stamp, may_come_again: false })
    }

    pub(super) fn message(&self) -> &'m Message {
        self.message
    }

    pub(super) fn provenance(&self) -> Provenance {
        self.provenance
    }

    fn key(&mut self, messages: &mut Messages) -> MessageKey {
        *self.stored.get_or_insert_with(|| messages.insert(self.message.clone()))
    }
}

impl Clients {
    /// Gives a message to a session: onto its connection if it may go at once, into its queue if it may not.
    pub(super) fn deliver(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        // What comes through a group need not be put in order with retained messages.
        if self.sessions.get(to).held.is_some() && terms.shared().is_none() {
            return self.hold_back(to, post, terms);
        }
        if !self.may_have(to, post.message) {
            self.counters.dropped_acl += 1;
            if terms.qos > QoS::AtMostOnce {
                self.note_completed(to, &terms);
            }
            return;
        }
        match terms.qos {
            QoS::AtMostOnce => self.deliver_at_most_once(to, post, &terms),
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.deliver_reliably(to, post, terms),
        }
    }

    /// Every session that gets the message has got it.
    pub(super) fn end_post(&mut self, post: Post<'_>) {
        if let Some(key) = post.stored {
            self.messages.release(key);
        }
    }

    /// Keeps a message behind the retained ones that a SUBSCRIBE of the session still waits for.
    fn hold_back(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        let message = post.key(&mut self.messages);
        let limit = self.queue_limit(self.sessions.get(to).is_durable);
        let session = self.sessions.get_mut(to);
        let is_logged = session.is_durable && terms.qos > QoS::AtMostOnce;
        if is_logged && post.provenance.may_come_again {
            // Its publisher's shard had not heard of the SUBSCRIBE when it routed the message, or it would have numbered and
            // logged it. In this log it could outlive what that shard knows of it, and be delivered again.
            return;
        }
        let held = session.held.as_mut().expect("asked for by the caller");
        if held.deliveries.len() >= limit.messages as usize {
            self.counters.dropped_queue_full += 1;
            return;
        }
        if is_logged {
            held.is_logged = true;
            journal::log_held_back(&mut self.log, &mut self.messages, to, message, &terms);
        }
        self.messages.refer(message);
        held.deliveries.push_back(HeldDelivery { message, terms, stamp: post.provenance.stamp, is_live: true });
    }

    /// Puts retained messages in their places among what is held back for a session.
    pub(super) fn hold_retained(&mut self, to: SessionKey, retained: Vec<HeldDelivery>) {
        if retained.is_empty() {
            return;
        }
        let session = self.sessions.get_mut(to);
        let held = session.held.get_or_insert_default();
        for superfluous in held.merge(retained, &self.messages) {
            self.messages.release(superfluous.message);
        }
        if session.is_durable {
            let has_logged = journal::log_held(&mut self.log, &mut self.messages, to, held);
            held.is_logged |= has_logged;
        }
    }

    /// Gives a session what was held for it, if no SUBSCRIBE of it waits any more.
    pub(super) fn release_held(&mut self, to: SessionKey) {
        let Some(held) = self.sessions.get_mut(to).held.take_if(|held| held.pending_subscribes == 0) else { return };
        let Held { deliveries, is_logged, .. } = *held;
        for HeldDelivery { message: key, terms, stamp, .. } in deliveries {
            let message = self.messages.get(key).clone();
            // The reference of the holding is the post's now.
            let mut post = Post { stored: Some(key), ..Post::of_the_past(&message, stamp) };
            self.deliver(to, &mut post, terms);
            self.end_post(post);
        }
        if is_logged {
            self.log.append(&Record::HeldReleased { session: to.id() });
        }
    }

    fn deliver_at_most_once(&mut self, to: SessionKey, post: &mut Post<'_>, terms: &Terms) {
        let Some(key) = self.sessions.get(to).connection else { return };
        if !self.has_room(key) {
            return self.drop_for_slow_reader(key);
        }
        let connection = &mut self.connections[key.index()];
        let Terms { retain, ref identifiers, .. } = *terms;
        let packet = OutgoingPublish { id: None, dup: false, qos: QoS::AtMostOnce, retain, identifiers };
        let Post { message, copies, .. } = post;
        match self.encoder.publish_copy(connection, self.now, message, copies, packet, LogPosition::NOTHING) {
            Ok(()) => {
                self.sampling.note(key, connection, message);
                self.mark_dirty(key);
            }
            Err(unsent) => self.counters.count_unsent(unsent),
        }
    }

    fn deliver_reliably(&mut self, to: SessionKey, post: &mut Post<'_>, terms: Terms) {
        let message = post.key(&mut self.messages);
        let Session { connection, is_durable, .. } = *self.sessions.get(to);
        let is_away = connection.is_none();
        let connection = connection.filter(|key| self.has_room(*key));
        let outbound = self.sessions.outbound(to);
        let delivery = Delivery { message, bytes: post.message.bytes() as u32, terms };
        if let Some(key) = connection.filter(|_| outbound.is_clear()) {
            let (next, reserved) = outbound.send_now(delivery);
            if is_durable {
                journal::log_delivered(&mut self.log, &mut self.messages, to, next.number, next.message);
                journal::log_reserved(&mut self.log, to, reserved);
            }
            let after = leaves_after(&mut self.log, &self.links, is_durable, &next.message.terms);
            let NextPublish { number, id, dup, message: Delivery { terms, .. } } = next;
            let Terms { qos, retain, ref identifiers } = *terms;
            let packet = OutgoingPublish { id: Some(id), dup, qos, retain, identifiers };
            let connection = &mut self.connections[key.index()];
            let Post { message: body, copies, .. } = post;
            match self.encoder.publish_copy(connection, self.now, body, copies, packet, after) {
                Ok(()) => {
                    self.sampling.note(key, connection, body);
                    self.messages.refer(message);
                    self.mark_dirty(key);
                }
                Err(unsent) => {
                    // As if it had been sent and acknowledged [MQTT-3.1.2-25].
                    let abandoned = outbound.abandon(id).expect("it has just been given this id");
                    self.counters.count_unsent(unsent);
                    journal::log_completed(&mut self.log, is_durable, to, number);
                    self.note_completed(to, &abandoned.terms);
                }
            }
            return;
        }
        let limit = self.queue_limit(is_durable);
        let bytes = delivery.bytes.into();
        let is_taken = self.sessions.outbound(to).has_room(bytes, limit)
            || self.is_held_up_for(to, post.provenance.origin)
            || self.make_room(to, is_durable, bytes);
        if !is_taken {
            return self.note_completed(to, &delivery.terms);
        }
        let outbound = self.sessions.outbound(to);
        if is_durable && backlog::goes_away(outbound, &self.messages, &self.limits) {
            let number = outbound.enqueue_away(bytes);
            let queue = outbound.queue_length();
            journal::log_away(&mut self.log, &mut self.messages, to, number, message, &delivery.terms);
            self.backlogs.add(to, number, self.log.filling(), bytes);
            self.note_queued(to, queue, post.provenance.origin);
            return;
        }
        let waits_long = connection.is_none() || self.messages.are_chunks_short();
        let (number, delivery) = outbound.enqueue(delivery);
        self.messages.refer(message);
        if is_durable {
            journal::log_delivered(&mut self.log, &mut self.messages, to, number, delivery);
        }
        if waits_long {
            self.messages.compact(message);
        }
        if is_away {
            self.messages.stop_measuring(message);
        }
        let queue = outbound.queue_length();
        self.note_queued(to, queue, post.provenance.origin);
    }

    /// A client goes away: what it has not acknowledged may be kept for long from now on.
    pub(super) fn compact_unfinished(&mut self, session: SessionKey) {
        let Some(outbound) = self.sessions.outbound_if_any(session) else { return };
        let end = outbound.next_to_start() + COMPACTED_OF_QUEUE;
        for (_, exchange) in outbound.held_from(0).take_while(|(number, _)| *number < end) {
            match exchange {
                Reopened::Unacknowledged(delivery) => {
                    self.messages.compact(delivery.message);
                    self.messages.stop_measuring(delivery.message);
                }
                Reopened::AwaitingPubcomp | Reopened::Done => {}
            }
        }
    }

    /// Sends what a session's window and its connection's output have room for.
    #[inline]
    pub(super) fn pump(&mut self, session: SessionKey) {
        // So it is after nearly every acknowledgement.
        if self.sessions.outbound_if_any(session).is_none_or(|outbound| outbound.has_nothing_to_send()) {
            return self.note_dequeued(session, QueueLength::default());
        }
        // What is given up may leave its place in the window to others, and no acknowledgement will come for it.
        while self.send_what_fits(session) > 0 {}
    }

    /// Sends the same until the window is full, with what can't be sent again in it. Says how much of that has been given up.
    fn send_what_fits(&mut self, session: SessionKey) -> usize {
        let Session { connection: Some(key), is_durable, .. } = *self.sessions.get(session) else { return 0 };
        self.update_permit(key, session);
        let is_judged = self.access_rules.is_some();
        let Some(outbound) = self.sessions.outbound_if_any(session) else { return 0 };
        let connection = &mut self.connections[key.index()];
        let mut has_sent = false;
        // Deliveries that are over without having been sent, if a group is to hear of that.
        let mut over: Vec<Terms> = Vec::new();
        let mut unsent = Vec::new();
        while connection.output.waiting_bytes() < self.limits.max_output_bytes as usize {
            if let Some(next) = outbound.next_queued()
                && let message = self.messages.get(next.message)
                // Trap 33: an expired message is not started. Nor is one that its client may not read any more, or could not be
                // asked about while it was away.
                && let is_expired = message.is_expired(self.now)
                && (is_expired || (is_judged && !connection.may_read(message)))
            {
                let Some((number, unsent)) = outbound.discard_queued() else { break };
                self.messages.release(unsent.message);
                over.extend(unsent.terms.shared().is_some().then_some(unsent.terms));
                if is_expired {
                    self.counters.dropped_expired += 1;
                } else {
                    self.counters.dropped_acl += 1;
                }
                journal::log_completed(&mut self.log, is_durable, session, number);
                continue;
            }
            let Some((next, reserved)) = outbound.next_publish() else { break };
            let NextPublish { number, id, dup, message: delivery } = next;
            let message = self.messages.get(delivery.message);
            if dup && is_judged && !connection.may_read(message) {
                unsent.push((number, Unsent::NotReadable));
                continue;
            }
            let Terms { qos, retain, ref identifiers } = delivery.terms;
            let packet = OutgoingPublish { id: Some(id), dup, qos, retain, identifiers };
            if is_durable {
                journal::log_reserved(&mut self.log, session, reserved);
            }
            let after = leaves_after(&mut self.log, &self.links, is_durable, &delivery.terms);
            match self.encoder.publish(connection, self.now, message, packet, after) {
                Ok(_start) => {
                    has_sent = true;
                    self.counters.publishes_resent += u64::from(dup);
                    if !dup {
                        self.sampling.note(key, connection, message);
                    }
                }
                Err(reason) if dup => unsent.push((number, reason)),
                Err(reason) => {
                    let abandoned = outbound.abandon(id).expect("it has just been given this id");
                    self.messages.release(abandoned.message);
                    over.extend(abandoned.terms.shared().is_some().then_some(abandoned.terms));
                    self.counters.count_unsent(reason);
                    journal::log_completed(&mut self.log, is_durable, session, number);
                }
            }
        }
        let queue = outbound.queue_length();
        for terms in &over {
            self.note_completed(session, terms);
        }
        let given_up = unsent.len();
        for (number, reason) in unsent {
            self.counters.count_unsent(reason);
            if let Some(terms) = self.give_up(key, session, number, Resending::Again) {
                self.note_completed(session, &terms);
            }
        }
        if has_sent {
            self.mark_dirty(key);
        }
        self.note_dequeued(session, queue);
        self.ask_for_backlog(session);
        given_up
    }

    /// Resends what the session's exchanges need on its new connection, in the original order [MQTT-4.4.0-1].
    pub(super) fn resume(&mut self, session: SessionKey, resending: Resending) {
        let after = self.logged_for(session);
        let Session { connection, window, .. } = *self.sessions.get(session);
        let key = connection.expect("a session is resumed by a connection");
        if self.sessions.outbound_to_read(session).is_none() {
            return;
        }
        self.update_permit(key, session);
        let is_judged = self.access_rules.is_some();
        let outbound = self.sessions.outbound(session);
        let connection = &mut self.connections[key.index()];
        let dup = resending == Resending::Again;
        let mut unsent = Vec::new();
        outbound.attach(window, resending, |resend| match resend {
            Resend::Publish(number, delivery) => {
                let message = self.messages.get(delivery.message);
                if is_judged && !connection.may_read(message) {
                    return unsent.push((number, Unsent::NotReadable));
                }
                let Terms { qos, retain, ref identifiers } = delivery.terms;
                let packet = OutgoingPublish { id: Some(packet_id_of(number)), dup, qos, retain, identifiers };
                match self.encoder.publish(connection, self.now, message, packet, after) {
                    Ok(_start) => self.counters.publishes_resent += 1,
                    Err(reason) => unsent.push((number, reason)),
                }
            }
            Resend::Pubrel(number) => self.encoder.acknowledgement(
                connection,
                Acknowledgement {
                    kind: AcknowledgementKind::Pubrel,
                    id: packet_id_of(number),
                    reason: ReasonCode::Success,
                    text: None,
                },
                after,
            ),
        });
        for (number, reason) in unsent {
            self.counters.count_unsent(reason);
            self.give_up(key, session, number, resending);
        }
        self.mark_dirty(key);
        self.pump(session);
    }

    /// Gives up a message in flight that can't be sent again. If it is of QoS 2, the peer may hold its packet id, and would take
    /// the next message with that id for the same: PUBREL frees it, whether it is held or not [MQTT-4.3.3-12]. The terms of
    /// the delivery, if it is over.
    fn give_up(&mut self, key: ConnectionKey, session: SessionKey, number: u64, resending: Resending) -> Option<Terms> {
        let id = packet_id_of(number);
        let outbound = self.sessions.outbound_if_any(session).expect("it is in flight");
        if resending == Resending::Again
            && let Acknowledged::Received(_, delivery) = outbound.handle_pubrec(id, false)
        {
            self.messages.release(delivery.expect("it was held until now").message);
            self.log_confirmed(session, number);
            let release =
                Acknowledgement { kind: AcknowledgementKind::Pubrel, id, reason: ReasonCode::Success, text: None };
            let after = self.logged_for(session);
            self.send_release(key, release, after);
            return None;
        }
        let abandoned = outbound.abandon(id).expect("it is in flight");
        self.messages.release(abandoned.message);
        self.log_completed(session, number);
        Some(abandoned.terms)
    }
}

/// What has to be stable before a delivery leaves that has just been given its id: what the log says of it, if it says anything.
fn leaves_after(log: &mut Log, links: &Links, is_durable: bool, terms: &Terms) -> LogPosition {
    match (is_durable, terms.waits_for_log()) {
        (true, _) => log.wait_for_appended(),
        // All that is said of it may be that the letter has come which brought it, and that is said when the batch is sealed.
        (false, true) if links.have_unlogged() => log.wait_for_filling(),
        (false, true) => log.wait_for_appended(),
        (false, false) => LogPosition::NOTHING,
    }
}
