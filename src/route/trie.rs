//! The subscription trie: which filters match a topic.
//!
//! One per shard. A node is a filter, and holds both the shard's own subscribers of it and the set
//! of other shards that have some, so that a publish walks one tree once. The latter is this
//! shard's replica of the interest table; keeping the replicas equal is not the trie's work, nor is
//! choosing one copy when several filters of one subscriber match, nor are shared subscriptions.
//!
//! Invariants:
//! - every node but the root has local subscribers, a remote shard, or children: nothing is left
//!   behind by a filter that nobody wants any more;
//! - a [`FilterKey`] stays valid while its filter has a local subscriber or a remote shard, and may
//!   then be reused;
//! - a node's two wildcard links name exactly its children by the levels `+` and `#`.

use std::hash::Hash;

use super::{
    ShardId, ShardSet,
    level_tree::{Hashing, LevelTree, NodeKey},
    subscribers::{Subscriber, Subscribers, Subscription},
    topic::{TopicFilter, TopicName},
};

/// The filters that have subscribers, by level. `S` names a subscriber.
#[derive(Debug)]
pub struct SubscriptionTrie<S> {
    tree: LevelTree<Interest<S>>,
    hashing: Hashing,
    local_filters: usize,
    subscriptions: usize,
    version: u64,
}

/// One filter of a [`SubscriptionTrie`]. A subscriber keeps it to take its subscriptions back
/// without the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FilterKey(NodeKey);

/// What [`SubscriptionTrie::subscribe`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The filter.
    pub key: FilterKey,
    /// The subscriber had subscribed to the filter before.
    pub replaced: bool,
}

/// What [`SubscriptionTrie::unsubscribe`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribed {
    /// The filter, for the subscriber to forget; the trie may have done so already.
    pub key: FilterKey,
    /// The shard has no subscriber of the filter any more: the other shards have to learn of it.
    pub last_local: bool,
}

/// What [`SubscriptionTrie::remove`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Removed {
    /// The shard has other subscribers of the filter.
    OthersRemain,
    /// The shard has no subscriber of the filter any more: the other shards have to learn of it.
    LastLocal {
        /// The filter's text.
        filter: String,
    },
}

/// The answer of [`SubscriptionTrie::matches`]; meant to be kept and used again, so that it stops
/// allocating.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// The matching filters that have local subscribers, each once.
    pub filters: Vec<FilterKey>,
    /// The other shards that have a subscriber of a matching filter.
    pub remote: ShardSet,
    /// Those of them that have one which outlives the broker.
    pub remote_durable: ShardSet,
    /// The nodes that match the levels walked so far.
    reached: Vec<NodeKey>,
    /// Those that match one level more.
    reached_next: Vec<NodeKey>,
}

#[derive(Debug)]
struct Interest<S> {
    local: Subscribers<S>,
    /// Other shards with subscribers; boxed to keep the node within its cache line.
    remote: Option<Box<RemoteInterest>>,
    /// The child by `+`.
    single_level: Option<NodeKey>,
    /// The child by `#`.
    multi_level: Option<NodeKey>,
}

/// Which other shards have subscribers of a filter.
#[derive(Debug, Default)]
struct RemoteInterest {
    any: ShardSet,
    /// A part of `any`.
    durable: ShardSet,
}

impl<S: Copy + Eq + Hash> SubscriptionTrie<S> {
    /// An empty trie. The seed should be secret, for clients choose the text that is hashed.
    pub fn new(seed: u64) -> Self {
        Self { tree: LevelTree::new(seed), hashing: Hashing::new(seed), local_filters: 0, subscriptions: 0, version: 1 }
    }

    /// Adds a local subscriber of a filter, or replaces what it asked for before [MQTT-3.8.4-3].
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn subscribe(&mut self, filter: &TopicFilter<'_>, subscriber: S, subscription: Subscription) -> Subscribed {
        let key = self.node_or_insert(filter);
        let local = &mut self.tree.value_mut(key).local;
        let first_local = local.is_empty();
        let replaced = local.insert(Subscriber { subscriber, subscription }, &self.hashing);
        self.local_filters += usize::from(first_local);
        self.version += u64::from(first_local);
        self.subscriptions += usize::from(!replaced);
        Subscribed { key: FilterKey(key), replaced }
    }

    /// Whether a local subscriber has a subscription of that filter, which [`subscribe`](Self::subscribe) would replace.
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn is_subscribed(&self, filter: &TopicFilter<'_>, subscriber: S) -> bool {
        self.node(filter).is_some_and(|key| self.tree.value(key).local.contains(subscriber, &self.hashing))
    }

    /// The filter, if this or another shard has a subscriber of it or of one that it is the beginning of.
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn find(&self, filter: &TopicFilter<'_>) -> Option<FilterKey> {
        self.node(filter).map(FilterKey)
    }

    /// Takes back a local subscription by its filter; `None` if there is none. Only a filter that
    /// is equal character by character counts [MQTT-3.10.4-1].
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn unsubscribe(&mut self, filter: &TopicFilter<'_>, subscriber: S) -> Option<Unsubscribed> {
        let key = self.node(filter)?;
        if !self.remove_local(key, subscriber) {
            return None;
        }
        let last_local = self.tree.value(key).local.is_empty();
        self.prune(key);
        Some(Unsubscribed { key: FilterKey(key), last_local })
    }

    /// Takes back a local subscription by its key, when the subscriber's session ends.
    ///
    /// # Panics
    /// If the subscriber has no subscription of that key.
    pub fn remove(&mut self, key: FilterKey, subscriber: S) -> Removed {
        let FilterKey(key) = key;
        assert!(self.remove_local(key, subscriber), "a subscriber keeps only keys of its own subscriptions");
        if !self.tree.value(key).local.is_empty() {
            return Removed::OthersRemain;
        }
        let filter = self.tree.path(key);
        self.prune(key);
        Removed::LastLocal { filter }
    }

    /// Notes that another shard has a subscriber of a filter, which may be one that outlives the
    /// broker. Saying the same again changes nothing.
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn add_remote(&mut self, filter: &TopicFilter<'_>, shard: ShardId, is_durable: bool) {
        let key = self.node_or_insert(filter);
        let remote = self.tree.value_mut(key).remote.get_or_insert_default();
        self.version += 1;
        remote.any.insert(shard);
        if is_durable {
            remote.durable.insert(shard);
        }
    }

    /// Notes that another shard has no subscriber of a filter any more; with `durable_only`, none
    /// that outlives the broker.
    ///
    /// # Panics
    /// If the filter is shared.
    pub fn remove_remote(&mut self, filter: &TopicFilter<'_>, shard: ShardId, durable_only: bool) {
        let Some(key) = self.node(filter) else { return };
        let remote = &mut self.tree.value_mut(key).remote;
        let Some(interest) = remote else { return };
        self.version += 1;
        interest.durable.remove(shard);
        if !durable_only {
            interest.any.remove(shard);
            if interest.any.is_empty() {
                *remote = None;
            }
            self.prune(key);
        }
    }

    /// Finds the filters that match the topic; what `found` held before is cleared.
    ///
    /// The work is bounded by the nodes that match a prefix of the topic: each of them is reached
    /// once.
    pub fn matches(&self, topic: TopicName<'_>, found: &mut Matches) {
        found.clear();
        found.reached.push(NodeKey::ROOT);
        // [MQTT-4.7.2-1]
        let mut wildcards_match = !topic.is_dollar();
        for level in topic.levels() {
            self.step(level, wildcards_match, found);
            if found.reached.is_empty() {
                return;
            }
            wildcards_match = true;
        }
        for index in 0..found.reached.len() {
            let key = found.reached[index];
            self.collect(key, found);
            // `a/#` matches the parent level `a` too.
            if let Some(multi_level) = self.tree.value(key).multi_level {
                self.collect(multi_level, found);
            }
        }
    }

    /// Another one as soon as a topic may match other filters or shards than before; never 0.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The hash of a whole topic, that clients can't foresee either.
    pub(super) fn hash_of(&self, topic: TopicName<'_>) -> u64 {
        self.hashing.of(&topic)
    }

    /// The local subscribers of a filter, in no particular order.
    pub fn subscribers(&self, key: FilterKey) -> &[Subscriber<S>] {
        self.tree.value(key.0).local.as_slice()
    }

    /// What a local subscriber of a filter asked for; none if it is none of them.
    pub fn subscription_of(&self, key: FilterKey, subscriber: S) -> Option<Subscription> {
        self.tree.value(key.0).local.subscription_of(subscriber, &self.hashing)
    }

    /// The text of a filter.
    pub fn filter_of(&self, key: FilterKey) -> String {
        self.tree.path(key.0)
    }

    /// How many filters have local subscribers.
    pub fn local_filters(&self) -> usize {
        self.local_filters
    }

    /// How many local subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Whether no shard, this one included, has a subscriber.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Replaces the reached nodes by those one level further down, and collects the filters that
    /// end with `#` here.
    fn step(&self, level: &str, wildcards_match: bool, found: &mut Matches) {
        found.reached_next.clear();
        for index in 0..found.reached.len() {
            let key = found.reached[index];
            if wildcards_match {
                let interest = self.tree.value(key);
                if let Some(multi_level) = interest.multi_level {
                    self.collect(multi_level, found);
                }
                found.reached_next.extend(interest.single_level);
            }
            found.reached_next.extend(self.tree.child(key, level));
        }
        std::mem::swap(&mut found.reached, &mut found.reached_next);
    }

    fn collect(&self, key: NodeKey, found: &mut Matches) {
        let interest = self.tree.value(key);
        if !interest.local.is_empty() {
            found.filters.push(FilterKey(key));
        }
        if let Some(remote) = &interest.remote {
            found.remote = found.remote.union(remote.any);
            found.remote_durable = found.remote_durable.union(remote.durable);
        }
    }

    fn node(&self, filter: &TopicFilter<'_>) -> Option<NodeKey> {
        assert_eq!(filter.share(), None, "shared subscriptions are kept elsewhere");
        filter.levels().try_fold(NodeKey::ROOT, |key, level| self.tree.child(key, level))
    }

    fn node_or_insert(&mut self, filter: &TopicFilter<'_>) -> NodeKey {
        assert_eq!(filter.share(), None, "shared subscriptions are kept elsewhere");
        let mut key = NodeKey::ROOT;
        for level in filter.levels() {
            let (child, created) = self.tree.child_or_insert(key, level);
            if created {
                let parent = self.tree.value_mut(key);
                match level {
                    "+" => parent.single_level = Some(child),
                    "#" => parent.multi_level = Some(child),
                    _literal => {}
                }
            }
            key = child;
        }
        key
    }

    /// Takes the subscriber out and keeps the counts; the caller prunes.
    fn remove_local(&mut self, key: NodeKey, subscriber: S) -> bool {
        let local = &mut self.tree.value_mut(key).local;
        let removed = local.remove(subscriber, &self.hashing);
        if removed {
            self.local_filters -= usize::from(local.is_empty());
            self.version += u64::from(local.is_empty());
            self.subscriptions -= 1;
        }
        removed
    }

    /// Removes the node, and then its ancestors, as far up as nobody needs them.
    fn prune(&mut self, from: NodeKey) {
        let mut key = from;
        while key != NodeKey::ROOT && self.tree.is_leaf(key) && self.tree.value(key).is_unwanted() {
            let (_, parent) = self.tree.remove_leaf(key);
            self.tree.value_mut(parent).unlink(key);
            key = parent;
        }
    }
}

impl Matches {
    /// No match yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn clear(&mut self) {
        self.filters.clear();
        self.remote = ShardSet::EMPTY;
        self.remote_durable = ShardSet::EMPTY;
        self.reached.clear();
        self.reached_next.clear();
    }
}

impl<S> Interest<S> {
    const fn is_unwanted(&self) -> bool {
        matches!(self.local, Subscribers::None) && self.remote.is_none()
    }

    fn unlink(&mut self, child: NodeKey) {
        for link in [&mut self.single_level, &mut self.multi_level] {
            if *link == Some(child) {
                *link = None;
            }
        }
    }
}

impl<S> Default for Interest<S> {
    fn default() -> Self {
        Self { local: Subscribers::None, remote: None, single_level: None, multi_level: None }
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::proto::{QoS, SubscriptionOptions};

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).expect("a valid topic name")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid topic filter")
    }

    fn shard(number: u16) -> ShardId {
        ShardId::new(number).expect("below MAX_SHARDS")
    }

    fn subscription(identifier: u32) -> Subscription {
        Subscription {
            options: SubscriptionOptions::from_qos(QoS::ExactlyOnce),
            identifier: NonZeroU32::new(identifier),
        }
    }

    /// The texts of the local filters that match, sorted.
    fn matching(trie: &SubscriptionTrie<u32>, topic: &str) -> Vec<String> {
        let mut found = Matches::new();
        trie.matches(name(topic), &mut found);
        let mut texts: Vec<_> = found.filters.iter().map(|&key| trie.filter_of(key)).collect();
        texts.sort();
        texts
    }

    #[test]
    fn a_filter_is_one_cache_line() {
        assert_eq!(size_of::<Interest<u32>>(), 32);
        assert_eq!(size_of::<FilterKey>(), 4);
    }

    /// Trap 25, and [MQTT-4.7.2-1].
    #[test]
    fn matches_follow_the_wildcard_rules() {
        let mut trie = SubscriptionTrie::new(1);
        for text in [
            "#", "+", "+/+", "/+", "/#", "/", "a", "a/#", "a/+", "a/+/#", "a//b", "+/b", "a/b", "$SYS/#", "$SYS/+",
            "$SYS", "a/b/c",
        ] {
            trie.subscribe(&filter(text), 1, subscription(0));
        }
        for (topic, expected) in [
            ("a", &["#", "+", "a", "a/#"][..]),
            ("a/b", &["#", "+/+", "+/b", "a/#", "a/+", "a/+/#", "a/b"]),
            ("a/b/c", &["#", "a/#", "a/+/#", "a/b/c"]),
            ("a/", &["#", "+/+", "a/#", "a/+", "a/+/#"]),
            ("a//b", &["#", "a/#", "a/+/#", "a//b"]),
            ("/", &["#", "+/+", "/", "/#", "/+"]),
            ("/b", &["#", "+/+", "+/b", "/#", "/+"]),
            ("//", &["#", "/#"]),
            ("x/y/z", &["#"]),
            ("$SYS", &["$SYS", "$SYS/#"]),
            ("$SYS/b", &["$SYS/#", "$SYS/+"]),
            ("$other/b", &[]),
            ("a/$SYS", &["#", "+/+", "a/#", "a/+", "a/+/#"]),
        ] {
            assert_eq!(matching(&trie, topic), expected, "{topic}");
        }
    }

    #[test]
    fn subscribe_tells_what_it_replaced() {
        let mut trie = SubscriptionTrie::new(1);
        let first = trie.subscribe(&filter("a/+"), 1, subscription(0));
        assert!(!first.replaced);
        let again = trie.subscribe(&filter("a/+"), 1, subscription(9));
        assert_eq!(again, Subscribed { key: first.key, replaced: true });
        assert!(trie.is_subscribed(&filter("a/+"), 1) && !trie.is_subscribed(&filter("a/+"), 2));
        assert!(!trie.is_subscribed(&filter("a/b"), 1), "filters are compared as they are written");
        let second = trie.subscribe(&filter("a/+"), 2, subscription(0));
        assert_eq!(second, Subscribed { key: first.key, replaced: false });
        assert_eq!(
            trie.subscribers(first.key),
            [
                Subscriber { subscriber: 1, subscription: subscription(9) },
                Subscriber { subscriber: 2, subscription: subscription(0) },
            ]
        );
        assert_eq!((trie.local_filters(), trie.subscriptions()), (1, 2));
    }

    /// [MQTT-3.10.4-1]
    #[test]
    fn unsubscribe_takes_only_the_equal_filter() {
        let mut trie = SubscriptionTrie::new(1);
        let key = trie.subscribe(&filter("a/+/c"), 1, subscription(0)).key;
        trie.subscribe(&filter("a/+/c"), 2, subscription(0));
        for text in ["a/b/c", "a/+", "a/+/#", "a/+/c/d", "A/+/c", "#"] {
            assert_eq!(trie.unsubscribe(&filter(text), 1), None, "{text}");
        }
        assert_eq!(trie.unsubscribe(&filter("a/+/c"), 3), None);
        assert_eq!(trie.unsubscribe(&filter("a/+/c"), 1), Some(Unsubscribed { key, last_local: false }));
        assert_eq!(trie.unsubscribe(&filter("a/+/c"), 1), None);
        assert_eq!(trie.unsubscribe(&filter("a/+/c"), 2), Some(Unsubscribed { key, last_local: true }));
        assert!(trie.is_empty());
    }

    #[test]
    fn remove_tells_the_filter_with_the_last_subscriber() {
        let mut trie = SubscriptionTrie::new(1);
        let key = trie.subscribe(&filter("/a//#"), 1, subscription(0)).key;
        trie.subscribe(&filter("/a//#"), 2, subscription(0));
        assert_eq!(trie.remove(key, 1), Removed::OthersRemain);
        assert_eq!(trie.remove(key, 2), Removed::LastLocal { filter: "/a//#".to_owned() });
        assert!(trie.is_empty());
    }

    #[test]
    fn remote_interest_alone_keeps_a_filter_but_lists_no_subscribers() {
        let mut trie = SubscriptionTrie::new(1);
        let mut found = Matches::new();
        trie.add_remote(&filter("a/#"), shard(3), true);
        trie.add_remote(&filter("a/#"), shard(3), false);
        trie.add_remote(&filter("+"), shard(5), false);
        trie.matches(name("a"), &mut found);
        assert_eq!((found.filters.len(), found.remote.iter().count()), (0, 2));
        trie.matches(name("a/b"), &mut found);
        assert_eq!(found.remote.iter().collect::<Vec<_>>(), [shard(3)]);
        trie.matches(name("b/c"), &mut found);
        assert!(found.remote.is_empty());

        trie.matches(name("a/b"), &mut found);
        assert_eq!(found.remote_durable.iter().collect::<Vec<_>>(), [shard(3)]);
        trie.remove_remote(&filter("a/#"), shard(3), true);
        trie.matches(name("a/b"), &mut found);
        assert!(found.remote.contains(shard(3)) && found.remote_durable.is_empty());

        // The key outlives the last local subscriber only because of the remote shard.
        let key = trie.subscribe(&filter("a/#"), 1, subscription(0)).key;
        assert_eq!(trie.remove(key, 1), Removed::LastLocal { filter: "a/#".to_owned() });
        assert!(trie.subscribers(key).is_empty());
        trie.remove_remote(&filter("a/#"), shard(4), false);
        trie.remove_remote(&filter("never/seen"), shard(4), false);
        trie.remove_remote(&filter("a/#"), shard(3), false);
        trie.remove_remote(&filter("+"), shard(5), false);
        assert!(trie.is_empty());
    }

    #[test]
    fn a_filter_in_the_middle_of_a_path_leaves_the_ends_alone() {
        let mut trie = SubscriptionTrie::new(1);
        for text in ["a", "a/b", "a/b/c"] {
            trie.subscribe(&filter(text), 1, subscription(0));
        }
        trie.unsubscribe(&filter("a/b"), 1);
        assert_eq!(matching(&trie, "a/b"), [""; 0]);
        assert_eq!(matching(&trie, "a/b/c"), ["a/b/c"]);
        trie.unsubscribe(&filter("a/b/c"), 1);
        assert_eq!(matching(&trie, "a"), ["a"]);
        trie.unsubscribe(&filter("a"), 1);
        assert!(trie.is_empty());
    }

    #[test]
    fn a_wildcard_link_ends_with_its_child() {
        let mut trie = SubscriptionTrie::new(1);
        trie.subscribe(&filter("a"), 1, subscription(0));
        for text in ["+/x", "#"] {
            trie.subscribe(&filter(text), 1, subscription(0));
            trie.unsubscribe(&filter(text), 1);
            // The freed node is taken by a filter that must not match through a stale link.
            trie.subscribe(&filter("b"), 1, subscription(0));
            assert_eq!(matching(&trie, "a"), ["a"]);
            trie.unsubscribe(&filter("b"), 1);
        }
    }

    #[test]
    #[should_panic(expected = "shared subscriptions are kept elsewhere")]
    fn a_shared_filter_is_a_fault_of_the_caller() {
        let mut trie = SubscriptionTrie::new(1);
        trie.subscribe(&filter("$share/g/a"), 1, subscription(0));
    }
}
