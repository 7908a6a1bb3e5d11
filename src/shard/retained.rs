//! The retained messages of which this shard is the home: found by topic, and walked in the order of an arena, so that a
//! checkpoint can go through them piece by piece.

use slab::Slab;

use crate::route::{Message, RetainedTree, RouteStamp, TopicFilter, TopicName, Visit, WalkKey};
use crate::store::LogPosition;

/// A retained message at its home, and where and when it was published.
#[derive(Debug)]
pub(super) struct RetainedMessage {
    pub(super) message: Message,
    pub(super) stamp: RouteStamp,
    /// The log knows it when it is stable up to here.
    pub(super) logged: LogPosition,
}

#[derive(Debug)]
pub(super) struct RetainedMessages {
    arena: Slab<RetainedMessage>,
    by_topic: RetainedTree<u32>,
    /// Bytes of all of them.
    bytes: u64,
}

impl RetainedMessages {
    /// None. The seed should be secret, for clients choose the topics that are hashed.
    pub(super) fn new(seed: u64) -> Self {
        Self { arena: Slab::new(), by_topic: RetainedTree::new(seed), bytes: 0 }
    }

    /// Keeps a message for its topic, in place of the one before.
    pub(super) fn set(&mut self, topic: TopicName<'_>, retained: RetainedMessage) {
        self.bytes += retained.message.bytes() as u64;
        if let Some(key) = self.by_topic.value_of(topic) {
            let replaced = std::mem::replace(&mut self.arena[*key as usize], retained);
            self.bytes -= replaced.message.bytes() as u64;
            return;
        }
        let key = u32::try_from(self.arena.insert(retained)).expect("a shard retains fewer than 2^32 messages");
        self.by_topic.set(topic, key);
    }

    /// Forgets the message of a topic; whether there was one.
    pub(super) fn remove(&mut self, topic: TopicName<'_>) -> bool {
        let Some(key) = self.by_topic.remove(topic) else { return false };
        let removed = self.arena.remove(key as usize);
        self.bytes -= removed.message.bytes() as u64;
        true
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

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of all messages together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
