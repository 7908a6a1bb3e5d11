//! What the topics of late have matched: a sensor publishes to the same few topics again and again, and the walk through the
//! trie would find the same each time.
//!
//! An entry counts while the trie is as it was ([`SubscriptionTrie::version`]): a filter that gains its first or loses its
//! last subscriber makes all of them worthless, another subscriber of a filter that has some does not. Topics share the
//! places by their hashes, and a newer one takes the place of an older one; nothing is allocated after the start. A topic
//! that is long or matches many filters is not kept.

use std::hash::Hash;

use super::ShardSet;
use super::topic::TopicName;
use super::trie::{FilterKey, Matches, SubscriptionTrie};

/// Places, a power of two. A shard spends half a megabyte on them.
const PLACES: usize = 4096;

/// What an entry of two cache lines has room for.
const FILTERS_MAX: usize = 5;
const TOPIC_BYTES_MAX: usize = 82;

/// Goes with one trie.
#[derive(Debug)]
pub struct MatchCache {
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry {
    /// The trie's; of an entry that was never used, that of no trie.
    version: u64,
    remote: ShardSet,
    remote_durable: ShardSet,
    /// Those that match are before the first `None`.
    filters: [Option<FilterKey>; FILTERS_MAX],
    topic_bytes: u8,
    topic: [u8; TOPIC_BYTES_MAX],
}

const _: () = assert!(size_of::<Entry>() == 128 && TOPIC_BYTES_MAX <= u8::MAX as usize);

impl Entry {
    const UNUSED: Self = Self {
        version: 0,
        remote: ShardSet::EMPTY,
        remote_durable: ShardSet::EMPTY,
        filters: [None; FILTERS_MAX],
        topic_bytes: 0,
        topic: [0; TOPIC_BYTES_MAX],
    };

    fn topic(&self) -> &[u8] {
        &self.topic[..usize::from(self.topic_bytes)]
    }
}

impl MatchCache {
    /// As [`SubscriptionTrie::matches`] of the one trie that this cache goes with.
    #[inline]
    pub fn matches<S: Copy + Eq + Hash>(
        &mut self,
        trie: &SubscriptionTrie<S>,
        topic: TopicName<'_>,
        found: &mut Matches,
    ) {
        let text = topic.as_str().as_bytes();
        if text.len() > TOPIC_BYTES_MAX {
            return trie.matches(topic, found);
        }
        let entry = &mut self.entries[trie.hash_of(topic) as usize % PLACES];
        if entry.version == trie.version() && entry.topic() == text {
            found.filters.clear();
            found.filters.extend(entry.filters.iter().map_while(|filter| *filter));
            found.remote = entry.remote;
            found.remote_durable = entry.remote_durable;
            return;
        }
        trie.matches(topic, found);
        if found.filters.len() <= FILTERS_MAX {
            entry.version = trie.version();
            entry.remote = found.remote;
            entry.remote_durable = found.remote_durable;
            entry.filters = [None; FILTERS_MAX];
            for (place, filter) in entry.filters.iter_mut().zip(&found.filters) {
                *place = Some(*filter);
            }
            entry.topic_bytes = text.len() as u8;
            entry.topic[..text.len()].copy_from_slice(text);
        }
    }
}

impl Default for MatchCache {
    fn default() -> Self {
        Self { entries: vec![Entry::UNUSED; PLACES].into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{QoS, SubscriptionOptions};
    use crate::route::{ShardId, Subscription, TopicFilter};

    #[derive(Clone, Debug)]
    enum Change {
        Subscribe(usize, u32),
        Unsubscribe(usize, u32),
        AddRemote(usize, u16, bool),
        RemoveRemote(usize, u16, bool),
    }

    const FILTERS: [&str; 9] = ["a", "a/b", "a/+", "a/#", "#", "+/b", "+", "$SYS/#", "a/b/c"];

    fn change() -> impl Strategy<Value = Change> {
        let filter = 0..FILTERS.len();
        prop_oneof![
            (filter.clone(), 0..3u32).prop_map(|(filter, who)| Change::Subscribe(filter, who)),
            (filter.clone(), 0..3u32).prop_map(|(filter, who)| Change::Unsubscribe(filter, who)),
            (filter.clone(), 1..3u16, any::<bool>()).prop_map(|(filter, who, how)| Change::AddRemote(filter, who, how)),
            (filter, 1..3u16, any::<bool>()).prop_map(|(filter, who, how)| Change::RemoveRemote(filter, who, how)),
        ]
    }

    fn apply(trie: &mut SubscriptionTrie<u32>, change: &Change) {
        let filter = |index: usize| TopicFilter::parse(FILTERS[index]).expect("a filter");
        let shard = |number| ShardId::new(number).expect("below MAX_SHARDS");
        let options = SubscriptionOptions::from_qos(QoS::ExactlyOnce);
        match *change {
            Change::Subscribe(index, who) => {
                trie.subscribe(&filter(index), who, Subscription { options, identifier: None });
            }
            Change::Unsubscribe(index, who) => {
                trie.unsubscribe(&filter(index), who);
            }
            Change::AddRemote(index, who, is_durable) => trie.add_remote(&filter(index), shard(who), is_durable),
            Change::RemoveRemote(index, who, durable_only) => {
                trie.remove_remote(&filter(index), shard(who), durable_only);
            }
        }
    }

    proptest! {
        /// Whatever changes, and whatever was asked before.
        #[test]
        fn finds_what_the_trie_finds(changes in prop::collection::vec(change(), 0..60)) {
            let mut trie = SubscriptionTrie::new(7);
            let mut cache = MatchCache::default();
            let (mut cached, mut walked) = (Matches::new(), Matches::new());
            for change in &changes {
                apply(&mut trie, change);
                for text in ["a", "a/b", "b", "$SYS/a", "a", "a/b/c", "x/b"] {
                    let topic = TopicName::parse(text).expect("a topic");
                    cache.matches(&trie, topic, &mut cached);
                    trie.matches(topic, &mut walked);
                    prop_assert_eq!(&cached.filters, &walked.filters, "{}", text);
                    prop_assert_eq!((cached.remote, cached.remote_durable), (walked.remote, walked.remote_durable));
                }
            }
        }
    }

    #[test]
    fn what_has_no_room_is_found_all_the_same() {
        let mut trie = SubscriptionTrie::new(7);
        let options = SubscriptionOptions::from_qos(QoS::ExactlyOnce);
        let long = "x".repeat(TOPIC_BYTES_MAX + 1);
        for text in ["#", "+", "+/#", "a", "a/#", "+/+/#", long.as_str()] {
            let filter = TopicFilter::parse(text).expect("a filter");
            trie.subscribe(&filter, 1, Subscription { options, identifier: None });
        }
        let mut cache = MatchCache::default();
        let mut found = Matches::new();
        for (text, count) in [("a", 5), (&long[1..], 3), (&long, 4), ("a/b", 4), ("a/b", 4), ("a/b/c", 4)] {
            for _ in 0..2 {
                cache.matches(&trie, TopicName::parse(text).expect("a topic"), &mut found);
                assert_eq!(found.filters.len(), count, "{text}");
            }
        }
    }

    #[test]
    fn another_subscriber_of_a_filter_leaves_the_cache_its_worth() {
        let mut trie = SubscriptionTrie::new(7);
        apply(&mut trie, &Change::Subscribe(0, 1));
        let version = trie.version();
        apply(&mut trie, &Change::Subscribe(0, 2));
        apply(&mut trie, &Change::Unsubscribe(0, 1));
        assert_eq!(trie.version(), version);
        apply(&mut trie, &Change::Unsubscribe(0, 2));
        assert_ne!(trie.version(), version);
    }
}
