//! Retained messages by topic: which retained topics a filter matches.
//!
//! The tree knows topics, not messages: the value is the caller's, and so is the bound on how many
//! there are, their expiry, and the rule that an empty payload means
//! [`remove`](RetainedTree::remove).
//!
//! A tree of millions of topics is not walked at once. A *walk* is begun, taken on one node at a time, and left alone in
//! between for as long as its owner likes, while topics come and go. It comes to every topic that the filter matches and that
//! is there from its beginning until it gets there, and to none twice, unless the topic leaves and comes again; topics that
//! come meanwhile it may miss.
//!
//! Invariants: every node but the root has a value or children; the children of a node form a list
//! through their sibling links, beginning at the node's first child, and new ones come first; the steps that a walk has still
//! to take name nodes that exist.

use slab::Slab;

use super::{
    level_tree::{LevelTree, NodeKey},
    topic::{TopicFilter, TopicName},
};

/// Values by topic name.
#[derive(Debug)]
pub struct RetainedTree<V> {
    tree: LevelTree<Entry<V>>,
    len: usize,
    walks: Slab<Walk>,
}

/// Names a walk that has been begun and not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkKey(usize);

/// What a walk comes to with one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit<T> {
    /// A topic that the filter matches.
    Match(T),
    /// A node without a value, or one that the filter does not match.
    Nothing,
    /// Every topic has been visited.
    End,
}

#[derive(Debug)]
struct Entry<V> {
    value: Option<V>,
    first_child: Option<NodeKey>,
    previous_sibling: Option<NodeKey>,
    next_sibling: Option<NodeKey>,
}

impl<V> RetainedTree<V> {
    /// An empty tree. The seed should be secret, for clients choose the text that is hashed.
    pub fn new(seed: u64) -> Self {
        Self { tree: LevelTree::new(seed), len: 0, walks: Slab::new() }
    }

    /// Puts a value under a topic, and returns the one it replaces [MQTT-3.3.1-5].
    pub fn set(&mut self, topic: TopicName<'_>, value: V) -> Option<V> {
        let mut key = NodeKey::ROOT;
        for level in topic.levels() {
            let (child, created) = self.tree.child_or_insert(key, level);
            if created {
                self.link(key, child);
            }
            key = child;
        }
        let replaced = self.tree.value_mut(key).value.replace(value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// The value of a topic.
    pub fn value_of(&self, topic: TopicName<'_>) -> Option<&V> {
        let key = topic.levels().try_fold(NodeKey::ROOT, |key, level| self.tree.child(key, level))?;
        self.tree.value(key).value.as_ref()
    }

    /// Takes the value of a topic out [MQTT-3.3.1-6].
    pub fn remove(&mut self, topic: TopicName<'_>) -> Option<V> {
        let key = topic.levels().try_fold(NodeKey::ROOT, |key, level| self.tree.child(key, level))?;
        let removed = self.tree.value_mut(key).value.take()?;
        self.len -= 1;
        self.prune(key);
        Some(removed)
    }

    /// Begins a walk over the topics that the filter matches, in no particular order. A shared
    /// filter is taken without its share name; that it gets no retained messages is for the caller
    /// to decide. It costs memory, and every removal some time, until it is [ended](Self::end_walk).
    pub fn begin_walk(&mut self, filter: &TopicFilter<'_>) -> WalkKey {
        let pending = vec![Step { key: NodeKey::ROOT, level_at: 0, siblings_too: false }];
        WalkKey(self.walks.insert(Walk { filter: filter.as_str().into(), pending }))
    }

    /// Takes a walk to its next node.
    ///
    /// # Panics
    /// If the walk has been ended.
    pub fn visit_next(&mut self, walk: WalkKey) -> Visit<&V> {
        let walk = &mut self.walks[walk.0];
        let Some(step) = walk.pending.pop() else { return Visit::End };
        let entry = self.tree.value(step.key);
        if step.siblings_too {
            walk.pending.extend(entry.next_sibling.map(|next| Step { key: next, ..step }));
        }
        if !step.is_hidden(&self.tree)
            && walk.descend(&self.tree, step)
            && let Some(value) = &entry.value
        {
            return Visit::Match(value);
        }
        Visit::Nothing
    }

    /// Whether a walk has visited all.
    ///
    /// # Panics
    /// If the walk has been ended.
    pub fn is_through(&self, walk: WalkKey) -> bool {
        self.walks[walk.0].pending.is_empty()
    }

    /// Forgets a walk.
    ///
    /// # Panics
    /// If it has been ended before.
    pub fn end_walk(&mut self, walk: WalkKey) {
        self.walks.remove(walk.0);
    }

    /// How many topics have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no topic has a value.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Puts a new child at the head of its parent's list.
    fn link(&mut self, parent: NodeKey, child: NodeKey) {
        let second = self.tree.value_mut(parent).first_child.replace(child);
        self.tree.value_mut(child).next_sibling = second;
        if let Some(second) = second {
            self.tree.value_mut(second).previous_sibling = Some(child);
        }
    }

    /// Removes the node, and then its ancestors, as far up as they hold nothing.
    fn prune(&mut self, from: NodeKey) {
        let mut key = from;
        while key != NodeKey::ROOT && self.tree.is_leaf(key) && self.tree.value(key).value.is_none() {
            let (entry, parent) = self.tree.remove_leaf(key);
            for (_, walk) in &mut self.walks {
                walk.leave(key, entry.next_sibling);
            }
            match entry.previous_sibling {
                Some(previous) => self.tree.value_mut(previous).next_sibling = entry.next_sibling,
                None => self.tree.value_mut(parent).first_child = entry.next_sibling,
            }
            if let Some(next) = entry.next_sibling {
                self.tree.value_mut(next).previous_sibling = entry.previous_sibling;
            }
            key = parent;
        }
    }
}

impl<V> Default for Entry<V> {
    fn default() -> Self {
        Self { value: None, first_child: None, previous_sibling: None, next_sibling: None }
    }
}

/// A walk over the tree. It goes depth first and keeps at most two steps per level of the tree, whatever the number of
/// topics.
#[derive(Debug)]
struct Walk {
    /// Without the share name.
    filter: Box<str>,
    pending: Vec<Step>,
}

/// A node that is still to be visited.
#[derive(Clone, Copy, Debug)]
struct Step {
    key: NodeKey,
    /// Where in the filter the level begins that the node's children, or with `#` the node itself, are
    /// compared with. Behind its end for a node that matches the whole filter.
    level_at: u32,
    /// The node stands for itself and for the siblings after it.
    siblings_too: bool,
}

impl Step {
    /// Whether a wildcard at the beginning of the filter must not lead to this node [MQTT-4.7.2-1].
    fn is_hidden<V>(&self, tree: &LevelTree<Entry<V>>) -> bool {
        self.siblings_too && tree.parent(self.key) == NodeKey::ROOT && tree.level(self.key).first() == Some(&b'$')
    }
}

impl Walk {
    /// Puts the steps below a node on the stack; true if the filter matches the node itself.
    fn descend<V>(&mut self, tree: &LevelTree<Entry<V>>, step: Step) -> bool {
        let Some(rest) = self.filter.get(step.level_at as usize..) else {
            return true;
        };
        let level = rest.split('/').next().unwrap_or_default();
        let next_level_at = step.level_at + level.len() as u32 + 1;
        let first_child = tree.value(step.key).first_child;
        match level {
            // Everything below, by the same level again, and the parent level itself.
            "#" => {
                let siblings = |key| Step { key, level_at: step.level_at, siblings_too: true };
                self.pending.extend(first_child.map(siblings));
                true
            }
            "+" => {
                let siblings = |key| Step { key, level_at: next_level_at, siblings_too: true };
                self.pending.extend(first_child.map(siblings));
                false
            }
            literal => {
                let node = |key| Step { key, level_at: next_level_at, siblings_too: false };
                self.pending.extend(tree.child(step.key, literal).map(node));
                false
            }
        }
    }

    /// A node is gone: who has still to visit it goes to the sibling behind it, if it stood for that too.
    fn leave(&mut self, gone: NodeKey, next_sibling: Option<NodeKey>) {
        self.pending.retain_mut(|step| {
            if step.key != gone {
                return true;
            }
            match next_sibling.filter(|_| step.siblings_too) {
                Some(next) => {
                    step.key = next;
                    true
                }
                None => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::route::topic::strategies;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).expect("a valid topic name")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid topic filter")
    }

    /// The values that a whole walk comes to, in their order.
    fn found(tree: &mut RetainedTree<u32>, text: &str) -> Vec<u32> {
        let walk = tree.begin_walk(&filter(text));
        let mut values = Vec::new();
        loop {
            match tree.visit_next(walk) {
                Visit::Match(value) => values.push(*value),
                Visit::Nothing => {}
                Visit::End => break,
            }
        }
        tree.end_walk(walk);
        values.sort_unstable();
        values
    }

    #[test]
    fn a_topic_has_one_value() {
        let mut tree = RetainedTree::new(1);
        assert_eq!(tree.set(name("a/b"), 1), None);
        assert_eq!(tree.set(name("a/b"), 2), Some(1));
        assert_eq!(tree.len(), 1);
        assert_eq!(tree.remove(name("a")), None);
        assert_eq!(tree.remove(name("a/b/c")), None);
        assert_eq!(tree.remove(name("a/b")), Some(2));
        assert_eq!(tree.remove(name("a/b")), None);
        assert!(tree.is_empty());
        assert_eq!(tree.len(), 0);
    }

    /// Trap 25, and [MQTT-4.7.2-1].
    #[test]
    fn filters_find_topics_by_the_wildcard_rules() {
        let mut tree = RetainedTree::new(1);
        let topics = ["a", "a/b", "a/b/c", "/", "/x", "b/", "$SYS/a", "a/$SYS"];
        for (value, topic) in topics.into_iter().enumerate() {
            tree.set(name(topic), value as u32);
        }
        for (text, expected) in [
            ("#", &["/", "/x", "a", "a/$SYS", "a/b", "a/b/c", "b/"][..]),
            ("a/#", &["a", "a/$SYS", "a/b", "a/b/c"]),
            ("a/b/c/#", &["a/b/c"]),
            ("+", &["a"]),
            ("+/+", &["/", "/x", "a/$SYS", "a/b", "b/"]),
            ("+/b/#", &["a/b", "a/b/c"]),
            ("/+", &["/", "/x"]),
            ("+/a", &[]),
            ("$SYS/#", &["$SYS/a"]),
            ("$SYS/+", &["$SYS/a"]),
            ("a/b", &["a/b"]),
            ("a/c", &[]),
            ("b", &[]),
        ] {
            let mut found: Vec<_> = found(&mut tree, text).into_iter().map(|value| topics[value as usize]).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn siblings_stay_linked_whichever_leaves() {
        for leaving in 0..3 {
            let mut tree = RetainedTree::new(1);
            for (value, topic) in (0..).zip(["a", "b", "c"]) {
                tree.set(name(topic), value);
            }
            tree.remove(name(["a", "b", "c"][leaving as usize]));
            let mut expected = vec![0, 1, 2];
            expected.retain(|value| *value != leaving);
            assert_eq!(found(&mut tree, "+"), expected);
        }
    }

    #[test]
    fn a_walk_keeps_no_list_of_siblings() {
        let mut tree = RetainedTree::new(1);
        for number in 0..1_000 {
            tree.set(name(&format!("{number}/x")), number);
        }
        let walk = tree.begin_walk(&filter("#"));
        let mut topics = 0;
        loop {
            match tree.visit_next(walk) {
                Visit::Match(_) => topics += 1,
                Visit::Nothing => {}
                Visit::End => break,
            }
            assert!(tree.walks[walk.0].pending.len() <= 4);
        }
        assert_eq!(topics, 1_000);
    }

    proptest! {
        #[test]
        fn the_tree_equals_a_map(
            steps in vec((strategies::name(), prop::option::of(any::<u32>())), 1..60),
            filters in vec(strategies::filter(), 1..20),
            seed in any::<u64>(),
        ) {
            let mut tree = RetainedTree::new(seed);
            let mut model = BTreeMap::new();
            for (topic, value) in steps {
                let (actual, expected) = match value {
                    Some(value) => (tree.set(name(&topic), value), model.insert(topic, value)),
                    None => (tree.remove(name(&topic)), model.remove(&topic)),
                };
                prop_assert_eq!(actual, expected);
                prop_assert_eq!((tree.len(), tree.is_empty()), (model.len(), model.is_empty()));
            }
            for text in &filters {
                let mut expected = model.clone();
                expected.retain(|topic, _| filter(text).matches(name(topic)));
                let mut expected: Vec<u32> = expected.into_values().collect();
                expected.sort_unstable();
                prop_assert_eq!(found(&mut tree, text), expected, "{}", text);
            }
            for topic in model.keys() {
                tree.remove(name(topic));
            }
            prop_assert!(tree.is_empty());
        }

        /// While topics come and go, a walk comes once to every one that stays, and to none that the filter does not match.
        #[test]
        fn a_walk_goes_on_whatever_changes_meanwhile(
            before in vec(strategies::name(), 1..40),
            text in strategies::filter(),
            changes in vec((strategies::name(), any::<bool>()), 0..60),
        ) {
            let mut tree = RetainedTree::new(3);
            let topics: BTreeSet<String> = before.into_iter().collect();
            let topics: Vec<String> = topics.into_iter().collect();
            for (value, topic) in (0..).zip(&topics) {
                tree.set(name(topic), value);
            }
            let mut staying: BTreeSet<u32> = (0..topics.len() as u32).collect();
            let walk = tree.begin_walk(&filter(&text));
            let mut found = Vec::new();
            let mut changes = changes.into_iter();
            loop {
                match tree.visit_next(walk) {
                    Visit::Match(value) => found.push(*value),
                    Visit::Nothing => {}
                    Visit::End => break,
                }
                for (topic, comes) in changes.by_ref().take(1) {
                    if comes {
                        // What is there keeps its value; another topic gets one that none had before.
                        let value = tree.value_of(name(&topic)).copied().unwrap_or(u32::MAX);
                        tree.set(name(&topic), value);
                    } else if let Some(value) = tree.remove(name(&topic)) {
                        staying.remove(&value);
                    }
                }
            }
            let old: Vec<u32> = found.iter().copied().filter(|value| *value != u32::MAX).collect();
            let once: BTreeSet<u32> = old.iter().copied().collect();
            prop_assert_eq!(old.len(), once.len(), "a topic is found once");
            for (value, topic) in (0..).zip(&topics) {
                let is_match = filter(&text).matches(name(topic));
                prop_assert!(!once.contains(&value) || is_match);
                prop_assert!(once.contains(&value) || !is_match || !staying.contains(&value), "{} is missed", topic);
            }
        }
    }
}
