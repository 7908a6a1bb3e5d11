//! The retained messages of which this shard is the home: found by topic, and walked in the order of an arena, so that a
//! checkpoint can go through them piece by piece.
//!
//! Expired messages are found by a sweep over the arena, also piece by piece: it begins when the first may have expired, and
//! notes on its way when the next one does. Nothing is kept for it with each message, and where nothing expires it costs nothing.

use std::borrow::Cow;
use std::time::Duration;

use slab::Slab;

use crate::route::{Author, Message, RetainedTree, RouteStamp, TopicFilter, TopicName, Visit, WalkKey};
use crate::store::{LogPosition, Record};
use crate::time::Timestamp;

use super::{Shard, TimerKey};

/// Places that the sweep for expired messages visits at once: less than a tenth of a millisecond.
const SWEPT_AT_ONCE: usize = 1024;

/// Between two pieces of a sweep, and between two sweeps.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_BETWEEN_SWEEPS: Duration = Duration::from_secs(1);

use super::topics;

/// A retained message at its home, and where and when it was published.
#[derive(Debug)]
pub(super) struct RetainedMessage {
    pub(super) message: Message,
    pub(super) author: Author,
    pub(super) stamp: RouteStamp,
    /// The log knows it when it is stable up to here.
    pub(super) logged: LogPosition,
}

impl RetainedMessage {
    /// Whether the broker says it of itself, for this run only: it is not logged.
    pub(super) fn is_of_the_broker(&self) -> bool {
        let topic = self.message.topic_name();
        topic.starts_with('$') && TopicName::parse(topic).is_ok_and(topics::is_reserved)
    }
}

#[derive(Debug)]
pub(super) struct RetainedMessages {
    arena: Slab<RetainedMessage>,
    by_topic: RetainedTree<u32>,
    /// Bytes of all of them.
    bytes: u64,
    /// How many of them the broker says of itself.
    of_the_broker: usize,
    sweep: Sweep,
}

/// How far the search for expired messages has come.
#[derive(Debug, Default)]
struct Sweep {
    /// The place at which it goes on; 0 between two sweeps.
    place: usize,
    /// When it goes on; none if nothing can expire.
    due: Option<Timestamp>,
    /// The first deadline of those that it has left alone, or that came meanwhile.
    next_deadline: Option<Timestamp>,
}

impl Sweep {
    /// A message comes, or is left alone, that expires then.
    fn note(&mut self, deadline: Timestamp) {
        let earlier = |other: Option<Timestamp>| Some(other.map_or(deadline, |other| other.min(deadline)));
        self.next_deadline = earlier(self.next_deadline);
        if self.place == 0 {
            self.due = earlier(self.due);
        }
    }
}

impl RetainedMessages {
    /// None. The seed should be secret, for clients choose the topics that are hashed.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            arena: Slab::new(),
            by_topic: RetainedTree::new(seed),
            bytes: 0,
            of_the_broker: 0,
            sweep: Sweep::default(),
        }
    }

    /// Keeps a message for its topic, in place of the one before.
    pub(super) fn set(&mut self, topic: TopicName<'_>, retained: RetainedMessage) {
        self.bytes += retained.message.bytes() as u64;
        if let Some(deadline) = retained.message.expires_at {
            self.sweep.note(deadline);
        }
        if let Some(key) = self.by_topic.value_of(topic) {
            let replaced = std::mem::replace(&mut self.arena[*key as usize], retained);
            self.bytes -= replaced.message.bytes() as u64;
            return;
        }
        self.of_the_broker += usize::from(retained.is_of_the_broker());
        let key = u32::try_from(self.arena.insert(retained)).expect("a shard retains fewer than 2^32 messages");
        self.by_topic.set(topic, key);
    }

    /// Forgets the message of a topic; whether there was one.
    pub(super) fn remove(&mut self, topic: TopicName<'_>) -> bool {
        let Some(key) = self.by_topic.remove(topic) else { return false };
        let removed = self.arena.remove(key as usize);
        self.bytes -= removed.message.bytes() as u64;
        self.of_the_broker -= usize::from(removed.is_of_the_broker());
        true
    }

    /// The message of a topic.
    pub(super) fn of_topic(&self, topic: TopicName<'_>) -> Option<&RetainedMessage> {
        self.by_topic.value_of(topic).map(|key| &self.arena[*key as usize])
    }

    /// The message at a place in the arena.
    pub(super) fn at_place(&self, place: usize) -> Option<&RetainedMessage> {
        self.arena.get(place)
    }

    /// How many places there are in the arena, empty ones included.
    pub(super) fn places(&self) -> usize {
        self.arena.capacity()
    }

    /// Whether a message is retained for exactly this topic.
    pub(super) fn contains(&self, topic: TopicName<'_>) -> bool {
        self.by_topic.value_of(topic).is_some()
    }

    /// Whether the message with this stamp is retained for the topic, and known to a log that is stable up to a position.
    pub(super) fn is_stable(&self, topic: TopicName<'_>, stamp: RouteStamp, stable: LogPosition) -> bool {
        let retained = self.by_topic.value_of(topic).map(|key| &self.arena[*key as usize]);
        retained.is_some_and(|retained| retained.stamp == stamp && retained.logged <= stable)
    }

    /// Begins a walk over the messages whose topics the filter matches: [`RetainedTree::begin_walk`].
    pub(super) fn begin_walk(&mut self, filter: &TopicFilter<'_>) -> WalkKey {
        self.by_topic.begin_walk(filter)
    }

    /// Takes a walk one topic on: to a message, and its place.
    pub(super) fn visit_next(&mut self, walk: WalkKey) -> Visit<(usize, &RetainedMessage)> {
        match self.by_topic.visit_next(walk) {
            Visit::Match(key) => Visit::Match((*key as usize, &self.arena[*key as usize])),
            Visit::Nothing => Visit::Nothing,
            Visit::End => Visit::End,
        }
    }

    /// Whether a walk has come to its end.
    pub(super) fn is_through(&self, walk: WalkKey) -> bool {
        self.by_topic.is_through(walk)
    }

    pub(super) fn end_walk(&mut self, walk: WalkKey) {
        self.by_topic.end_walk(walk);
    }

    /// The message at a place, if it is still the one with this stamp.
    pub(super) fn at(&self, place: usize, stamp: RouteStamp) -> Option<&RetainedMessage> {
        self.arena.get(place).filter(|retained| retained.stamp == stamp)
    }

    /// The first message at or behind a place in the arena, and its place.
    pub(super) fn at_or_behind(&self, place: usize) -> Option<(usize, &RetainedMessage)> {
        (place..self.arena.capacity()).find_map(|place| Some((place, self.arena.get(place)?)))
    }

    /// When the sweep goes on: [`Self::sweep`].
    pub(super) fn sweep_due(&self) -> Option<Timestamp> {
        self.sweep.due
    }

    /// Takes the sweep a piece on: removes expired messages, and returns their topics.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Vec<String> {
        let begin = self.sweep.place;
        if begin == 0 {
            self.sweep.next_deadline = None;
        }
        let end = self.arena.capacity().min(begin + SWEPT_AT_ONCE);
        self.sweep.place = end;
        let mut expired = Vec::new();
        for place in begin..end {
            let Some(retained) = self.arena.get(place) else { continue };
            if retained.message.is_expired(now) {
                expired.push(retained.message.topic_name().to_owned());
            } else if let Some(deadline) = retained.message.expires_at {
                self.sweep.note(deadline);
            }
        }
        for topic in &expired {
            self.remove(TopicName::parse(topic).expect("parsed when it was published"));
        }
        self.sweep.due = if end < self.arena.capacity() {
            Some(now + SWEEP_PAUSE)
        } else {
            self.sweep.place = 0;
            self.sweep.next_deadline.map(|deadline| deadline.max(now + PAUSE_BETWEEN_SWEEPS))
        };
        expired
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    /// How many were published by clients; the others the broker says of itself.
    pub(super) fn of_clients(&self) -> usize {
        self.arena.len() - self.of_the_broker
    }

    /// Bytes of all messages together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Shard {
    /// Sees to it that the sweep for expired messages begins, or goes on, in time.
    pub(super) fn arm_sweep(&mut self) {
        let Some(due) = self.retained.sweep_due() else { return };
        if self.sweep_timer_at.is_none_or(|armed| armed > due) {
            self.sweep_timer_at = Some(due);
            self.clients.timers.arm(due, TimerKey::Sweep);
        }
    }

    /// It is time to look for expired messages.
    pub(super) fn sweep_timeout(&mut self, deadline: Timestamp) {
        if self.sweep_timer_at != Some(deadline) {
            return;
        }
        self.sweep_timer_at = None;
        for topic in self.retained.sweep(self.clients.now) {
            self.clients.counters.expired_retained += 1;
            self.clients.log.append(&Record::RetainedRemoved { topic: Cow::Owned(topic) });
        }
        self.arm_sweep();
    }
}
