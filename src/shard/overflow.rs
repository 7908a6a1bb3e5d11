//! Full queues, and clients that do not read: what is dropped, and who is sent away.
//!
//! | class | bound | policies |
//! |---|---|---|
//! | QoS 0, to a client that is connected | `max_output_bytes` of its connection | drop the newest, disconnect |
//! | QoS 1 and 2, sessions that end with the broker | `max_queued_messages`, `max_queued_bytes` | drop the newest, drop the oldest, disconnect |
//! | QoS 1 and 2, sessions that outlive the broker | none, or the same two | keep, or the same three |
//!
//! A message is acknowledged to its publisher when it is logged, which may be on another shard and before anybody knows whether
//! the queue that it goes to is full. So a session that outlives the broker has no queue that could be: its messages go to the
//! log when memory is short ([`backlog`](super::backlog)), and only an operator who says so lets them be dropped.
//!
//! A queue whose client makes progress takes more than its bounds from publishers that are held up for it
//! ([`congestion`](super::congestion)): the policies are for clients that are away or have stalled.
//!
//! What is dropped was never sent: an exchange that has begun is never touched. A message that is dropped from within a queue
//! uses its number up, behind an open exchange with a place in the table of those in flight; if the ids run out there, which
//! takes 65,534 of them, the newest is dropped instead of the oldest.
//!
//! A client is disconnected behind the event that overflowed its queue: the message may come in the middle of a fan-out, or
//! from that very client.

use crate::config::{QueuePolicy, SlowReaderPolicy};
use crate::proto::ReasonCode;
use crate::session::QueueLimit;

use super::Shard;
use super::clients::Clients;
use super::connection::ConnectionKey;
use super::journal;
use super::receiving::Violation;
use super::sessions::SessionKey;

const TOO_SLOW: Violation =
    Violation { reason: ReasonCode::QuotaExceeded, text: "messages come faster than this client takes them" };

impl Clients {
    /// What may wait for a session.
    pub(super) fn queue_limit(&self, is_durable: bool) -> QueueLimit {
        match self.queue_policy(is_durable) {
            Some(_) => QueueLimit { messages: self.limits.max_queued_messages, bytes: self.limits.max_queued_bytes },
            None => QueueLimit::NONE,
        }
    }

    /// Makes room in a full queue for a message of so many bytes, if the policy is to do so. If not, the message is to be
    /// dropped, and is counted.
    #[cold]
    pub(super) fn make_room(&mut self, session: SessionKey, is_durable: bool, bytes: u64) -> bool {
        let limit = self.queue_limit(is_durable);
        let has_room = match self.queue_policy(is_durable) {
            None => true,
            Some(QueuePolicy::DropNewest) => false,
            Some(QueuePolicy::DropOldest) => {
                bytes <= limit.bytes && self.drop_oldest(session, is_durable, bytes, limit)
            }
            Some(QueuePolicy::Disconnect) => {
                self.overflowed.extend(self.sessions.get(session).connection);
                false
            }
        };
        self.counters.dropped_queue_full += u64::from(!has_room);
        has_room
    }

    /// Drops what has waited longest until a message of so many bytes has room. Whether it has.
    fn drop_oldest(&mut self, session: SessionKey, is_durable: bool, bytes: u64, limit: QueueLimit) -> bool {
        loop {
            let outbound = self.sessions.outbound(session);
            if outbound.has_room(bytes, limit) {
                return true;
            }
            let number = if let Some((number, delivery)) = outbound.discard_queued() {
                self.end_delivery(session, &delivery);
                number
            } else if let Some(number) = outbound.discard_away() {
                self.backlogs.forget(session, number);
                number
            } else {
                return false;
            };
            self.counters.dropped_queue_full += 1;
            journal::log_completed(&mut self.log, is_durable, session, number);
        }
    }

    /// A QoS 0 message for a client whose output is full.
    #[cold]
    pub(super) fn drop_for_slow_reader(&mut self, key: ConnectionKey) {
        self.counters.dropped_slow_subscriber += 1;
        match self.limits.slow_reader_policy {
            SlowReaderPolicy::DropNewest => {}
            SlowReaderPolicy::Disconnect => self.overflowed.push(key),
        }
    }

    fn queue_policy(&self, is_durable: bool) -> Option<QueuePolicy> {
        if is_durable { self.limits.durable_queue_policy } else { Some(self.limits.queue_policy) }
    }
}

impl Shard {
    /// Sends the clients away whose queues have overflowed; at the end of an event.
    #[inline]
    pub(super) fn end_overflowed(&mut self) {
        // Their wills may overflow other queues.
        while let Some(key) = self.clients.overflowed.pop() {
            if self.clients.connection(key).is_open() {
                self.clients.counters.disconnected_queue_full += 1;
                self.end_for(key, TOO_SLOW);
            }
        }
    }
}
