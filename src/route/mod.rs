//! Routing: who gets a message.
//!
//! Pure data structures that every shard owns for itself. [`TopicName`] and [`TopicFilter`] are
//! parsed once and cannot be wrong afterwards; [`SubscriptionTrie`] answers, in one walk over a
//! topic, which filters with local subscribers match it and which other shards want it, and
//! [`MatchCache`] remembers that; [`RetainedTree`] answers the opposite question, which retained topics a filter matches.
//!
//! Nothing here knows about sessions, connections, threads, clocks or packets: a subscriber is a
//! small opaque key, a shard is a number. Randomness comes in as the seed of the hash tables, so
//! that equal seeds give equal runs.

mod author;
mod letter;
mod level_tree;
mod match_cache;
mod message;
mod message_bytes;
mod retained;
mod share;
mod subscribers;
mod terms;
mod topic;
mod topic_set;
mod trie;

pub use author::Author;
pub use letter::{Letter, PageLimit, PageRequest, Publisher, RouteSequence, RouteStamp, Ticket};
pub(crate) use level_tree::Hashing;
pub use match_cache::MatchCache;
pub use message::{Message, WillMessage};
pub use message_bytes::MessageBytes;
pub use retained::{RetainedTree, Visit, WalkKey};
pub use share::{Presence, Share, SharedTerms, Standing};
pub use subscribers::{Subscriber, Subscription};
pub use terms::{Identifiers, Terms};
pub use topic::{MAX_TOPIC_LEVELS, TopicError, TopicFilter, TopicName};
pub use topic_set::TopicSet;
pub use trie::{FilterKey, Matches, Removed, Subscribed, SubscriptionTrie, Unsubscribed};

/// How many shards one broker may have: a [`ShardSet`] is one machine word.
pub const MAX_SHARDS: usize = 64;

const _: () = assert!(MAX_SHARDS == u64::BITS as usize);

/// The number of a shard, below [`MAX_SHARDS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard that every broker has.
    pub const FIRST: Self = Self(0);

    /// The shard with this number, or `None` from [`MAX_SHARDS`] on.
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < MAX_SHARDS { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The number, to index an array that has one entry per shard.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// A set of shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ShardSet(u64);

impl ShardSet {
    /// No shard.
    pub const EMPTY: Self = Self(0);

    /// All shards that there can be.
    pub const ALL: Self = Self(u64::MAX);

    /// Adds a shard; false if it was there already.
    pub const fn insert(&mut self, shard: ShardId) -> bool {
        let added = !self.contains(shard);
        self.0 |= shard.bit();
        added
    }

    /// Takes a shard out; false if it was not there.
    pub const fn remove(&mut self, shard: ShardId) -> bool {
        let removed = self.contains(shard);
        self.0 &= !shard.bit();
        removed
    }

    /// Whether the shard is in the set.
    pub const fn contains(self, shard: ShardId) -> bool {
        self.0 & shard.bit() != 0
    }

    /// Whether no shard is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many shards are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether a shard is in both sets.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The shards that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The shards of the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let lowest = left.trailing_zeros() as u16;
            left &= left - 1;
            Some(ShardId(lowest))
        })
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::EMPTY;
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(number: u16) -> ShardId {
        ShardId::new(number).expect("below MAX_SHARDS")
    }

    #[test]
    fn a_shard_number_is_below_the_maximum() {
        assert_eq!(ShardId::new(63).map(ShardId::index), Some(63));
        assert_eq!(ShardId::new(64), None);
        assert_eq!(ShardId::new(u16::MAX), None);
    }

    #[test]
    fn a_shard_set_holds_the_first_and_the_last_shard() {
        let mut set = ShardSet::EMPTY;
        assert!(set.is_empty());
        assert!(set.insert(shard(63)));
        assert!(set.insert(shard(0)));
        assert!(!set.insert(shard(0)));
        assert_eq!(set.len(), 2);
        assert!(set.contains(shard(63)) && !set.contains(shard(62)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [shard(0), shard(63)]);
        assert!(set.remove(shard(0)));
        assert!(!set.remove(shard(0)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [shard(63)]);
    }

    #[test]
    fn a_union_has_the_shards_of_both_sets() {
        let left: ShardSet = [shard(1), shard(2)].into_iter().collect();
        let right: ShardSet = [shard(2), shard(40)].into_iter().collect();
        let both = left.union(right);
        assert_eq!(both.iter().collect::<Vec<_>>(), [shard(1), shard(2), shard(40)]);
        assert!(left.meets(right) && !left.meets(ShardSet::EMPTY));
    }
}
