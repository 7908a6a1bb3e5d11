//! Back-pressure: publishers wait for a subscriber that falls behind, instead of its messages being dropped.
//!
//! When [`congestion_messages`](crate::config::Limits::congestion_messages) wait for a connected client, or half of the bytes that
//! its queue may hold, whoever publishes another message to it gets no PUBACK or PUBREC until half of that is gone. A publisher
//! stops by itself when its window of unacknowledged messages is full; what it sent until then is in the queue, also beyond the
//! queue's limit, for it would be lost otherwise while its publisher does what it should. Nothing else of it is held up: its
//! acknowledgements as a subscriber, its PUBRELs and PINGREQs go on, so two clients that publish to each other cannot
//! lock each other up.
//!
//! Only a client that makes progress may slow others down. One that has acknowledged nothing for
//! [`stall_timeout`](crate::config::Limits::stall_timeout) has stalled: its publishers are let go, and its queue then fills
//! up to its limit and drops by policy. The same holds for a client that is away.
//!
//! | session                      | event                                | becomes   | publishers               |
//! |------------------------------|--------------------------------------|-----------|--------------------------|
//! | clear                        | queue reaches the mark               | congested | the message's is held    |
//! | congested                    | another message is queued            | congested | its publisher is held    |
//! | congested, stalled           | the queue is down to half the mark   | clear     | all are let go           |
//! | congested, stalled           | the client disconnects               | clear     | all are let go           |
//! | congested                    | no acknowledgement for too long      | stalled   | all are let go           |
//! | stalled                      | an acknowledgement                   | congested | –                        |
//!
//! A publisher may live on another shard; letters then carry the word.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::route::{Letter, Publisher, ShardId};
use crate::session::QueueLength;
use crate::time::Timestamp;

use super::TimerKey;
use super::clients::Clients;
use super::connection::{Connection, ConnectionKey};
use super::sessions::SessionKey;

/// A publisher and the shard that it lives on.
pub(super) type Origin = (ShardId, Publisher);

/// Whom a session with a long queue holds up.
#[derive(Debug)]
pub(super) struct Congestion {
    held: HashSet<Origin, FixedState>,
    is_stalled: bool,
    last_progress: Timestamp,
    /// The deadline of the timer that counts.
    timer_at: Timestamp,
}

impl Clients {
    /// A message was queued for a session, whose queue is that long now.
    #[inline]
    pub(super) fn note_queued(&mut self, session: SessionKey, queue: QueueLength, origin: Option<Origin>) {
        if (queue.messages >= self.limits.congestion_messages as usize
            || queue.bytes >= self.limits.max_queued_bytes / 2)
            && let Some(origin) = origin
            && self.sessions.get(session).connection.is_some()
        {
            self.congest(session, origin);
        }
    }

    fn congest(&mut self, session: SessionKey, origin: Origin) {
        let now = self.now;
        let congestion = self.sessions.get_mut(session).congestion.get_or_insert_with(|| {
            Box::new(Congestion {
                held: HashSet::default(),
                is_stalled: false,
                last_progress: now,
                timer_at: Timestamp::default(),
            })
        });
        if congestion.is_stalled {
            return;
        }
        let is_first = congestion.held.is_empty();
        if !congestion.held.insert(origin) {
            return;
        }
        if is_first {
            let deadline = now + self.limits.stall_timeout;
            congestion.last_progress = now;
            congestion.timer_at = deadline;
            self.timers.arm(deadline, TimerKey::Congestion(session));
        }
        self.hold(origin);
    }

    /// The client has acknowledged something.
    #[inline]
    pub(super) fn note_progress(&mut self, session: SessionKey) {
        if let Some(congestion) = &mut self.sessions.get_mut(session).congestion {
            congestion.last_progress = self.now;
            congestion.is_stalled = false;
        }
    }

    /// The queue of a session has become shorter.
    #[inline]
    pub(super) fn note_dequeued(&mut self, session: SessionKey, queue: QueueLength) {
        if queue.messages <= self.limits.congestion_messages as usize / 2
            && queue.bytes <= self.limits.max_queued_bytes / 4
            && self.sessions.get(session).congestion.is_some()
        {
            self.clear_congestion(session);
        }
    }

    /// Whether the queue of a session takes a message of this origin beyond its limit: if its client makes progress, and the
    /// publisher is held up for it.
    #[cold]
    pub(super) fn is_held_up_for(&self, session: SessionKey, origin: Option<Origin>) -> bool {
        let session = self.sessions.get(session);
        origin.is_some()
            && session.connection.is_some()
            && session.congestion.as_ref().is_some_and(|congestion| !congestion.is_stalled)
    }

    /// Lets all publishers go that a session holds up.
    pub(super) fn clear_congestion(&mut self, session: SessionKey) {
        if let Some(congestion) = self.sessions.get_mut(session).congestion.take() {
            self.let_go(congestion.held);
        }
    }

    pub(super) fn congestion_timeout(&mut self, session: SessionKey, deadline: Timestamp) {
        let (now, stall_timeout) = (self.now, self.limits.stall_timeout);
        let Some(session_record) = self.sessions.get_if_alive(session) else { return };
        let Some(congestion) = &mut session_record.congestion else { return };
        if congestion.timer_at != deadline {
            return;
        }
        let stalls_at = congestion.last_progress + stall_timeout;
        if stalls_at > now {
            congestion.timer_at = stalls_at;
            self.timers.arm(stalls_at, TimerKey::Congestion(session));
            return;
        }
        congestion.is_stalled = true;
        let held = std::mem::take(&mut congestion.held);
        self.counters.stalled_subscribers += 1;
        self.let_go(held);
    }

    fn hold(&mut self, (shard, publisher): Origin) {
        if shard == self.id {
            self.hold_publisher(publisher);
        } else {
            self.outbox.post(shard, Letter::HoldPublisher(publisher));
        }
    }

    fn let_go(&mut self, held: HashSet<Origin, FixedState>) {
        for (shard, publisher) in held {
            if shard == self.id {
                self.let_publisher_go(publisher);
            } else {
                self.outbox.post(shard, Letter::LetPublisherGo(publisher));
            }
        }
    }

    /// One more session holds this publisher of ours up.
    pub(super) fn hold_publisher(&mut self, publisher: Publisher) {
        if let Some((_, connection)) = self.find_publisher(publisher) {
            connection.held_by += 1;
            self.counters.held_publishers += 1;
        }
    }

    /// One session less holds this publisher of ours up.
    pub(super) fn let_publisher_go(&mut self, publisher: Publisher) {
        if let Some((key, connection)) = self.find_publisher(publisher) {
            assert!(connection.held_by > 0, "a session lets go whom it has held");
            connection.held_by -= 1;
            if connection.held_by == 0 {
                self.flush_receipts(key);
            }
        }
    }

    /// The publisher's connection, if it is still the same.
    fn find_publisher(&mut self, publisher: Publisher) -> Option<(ConnectionKey, &mut Connection)> {
        let key = ConnectionKey::from_index(publisher.connection as usize);
        let connection = self.connections.get_mut(key.index())?;
        (connection.serial == publisher.serial).then_some((key, connection))
    }
}
