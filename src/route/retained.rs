//! Retained messages by topic: which retained topics a filter matches.
//!
//! The tree knows topics, not messages: the value is the caller's, and so is the bound on how many
//! there are, their expiry, and the rule that an empty payload means
//! [`remove`](RetainedTree::remove).
//!
//! Invariants: every node but the root has a value or children; the children of a node form a list
//! through their sibling links, beginning at the node's first child.

use super::{
    level_tree::{LevelTree, NodeKey},
    topic::{TopicFilter, TopicName},
};

/// Values by topic name.
#[derive(Debug)]
pub struct RetainedTree<V> {
    tree: LevelTree<Entry<V>>,
    len: usize,
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
        Self { tree: LevelTree::new(seed), len: 0 }
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

    /// The topics that the filter matches, with their values, in no particular order. A shared
    /// filter is taken without its share name; that it gets no retained messages is for the caller
    /// to decide.
    pub fn find<'t>(&'t self, filter: &TopicFilter<'t>) -> Retained<'t, V> {
        Retained { tree: &self.tree, levels: filter.levels().collect(), pending: vec![Step::node(NodeKey::ROOT, 0)] }
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

/// The iterator of [`RetainedTree::find`].
///
/// It walks depth first and keeps at most two steps per level of the tree, whatever the number of
/// topics.
#[derive(Debug)]
pub struct Retained<'t, V> {
    tree: &'t LevelTree<Entry<V>>,
    levels: Vec<&'t str>,
    pending: Vec<Step>,
}

/// A node that is still to be visited.
#[derive(Clone, Copy, Debug)]
struct Step {
    key: NodeKey,
    /// The index of the filter's level that the node's children, or with `#` the node itself, are
    /// compared with.
    level_index: usize,
    /// The node stands for itself and for the siblings after it.
    siblings_too: bool,
}

impl Step {
    const fn node(key: NodeKey, level_index: usize) -> Self {
        Self { key, level_index, siblings_too: false }
    }

    const fn siblings(first: NodeKey, level_index: usize) -> Self {
        Self { key: first, level_index, siblings_too: true }
    }
}

impl<'t, V> Retained<'t, V> {
    /// Puts the steps below a node on the stack; true if the filter matches the node itself.
    fn descend(&mut self, key: NodeKey, level_index: usize) -> bool {
        let Some(&level) = self.levels.get(level_index) else {
            return true;
        };
        let first_child = self.tree.value(key).first_child;
        match level {
            // Everything below, by the same level again, and the parent level itself.
            "#" => {
                self.pending.extend(first_child.map(|child| Step::siblings(child, level_index)));
                true
            }
            "+" => {
                self.pending.extend(first_child.map(|child| Step::siblings(child, level_index + 1)));
                false
            }
            literal => {
                let child = self.tree.child(key, literal);
                self.pending.extend(child.map(|child| Step::node(child, level_index + 1)));
                false
            }
        }
    }

    /// Whether a wildcard at the beginning of the filter must not lead to this node [MQTT-4.7.2-1].
    fn is_hidden(&self, step: Step) -> bool {
        step.siblings_too
            && self.tree.parent(step.key) == NodeKey::ROOT
            && self.tree.level(step.key).first() == Some(&b'$')
    }
}

impl<'t, V> Iterator for Retained<'t, V> {
    type Item = (String, &'t V);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(step) = self.pending.pop() {
            let entry = self.tree.value(step.key);
            if step.siblings_too {
                self.pending.extend(entry.next_sibling.map(|next| Step { key: next, ..step }));
            }
            if self.is_hidden(step) {
                continue;
            }
            if self.descend(step.key, step.level_index)
                && let Some(value) = &entry.value
            {
                return Some((self.tree.path(step.key), value));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::route::topic::strategies;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).expect("a valid topic name")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid topic filter")
    }

    fn found(tree: &RetainedTree<u32>, text: &str) -> BTreeMap<String, u32> {
        let pairs: Vec<_> = tree.find(&filter(text)).collect();
        let map: BTreeMap<_, _> = pairs.iter().map(|(topic, value)| (topic.clone(), **value)).collect();
        assert_eq!(map.len(), pairs.len(), "each topic is found once");
        map
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
        for (value, topic) in ["a", "a/b", "a/b/c", "/", "/x", "b/", "$SYS/a", "a/$SYS"].into_iter().enumerate() {
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
            assert_eq!(found(&tree, text).into_keys().collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn siblings_stay_linked_whichever_leaves() {
        for leaving in ["a", "b", "c"] {
            let mut tree = RetainedTree::new(1);
            for topic in ["a", "b", "c"] {
                tree.set(name(topic), 0);
            }
            tree.remove(name(leaving));
            let mut expected = vec!["a", "b", "c"];
            expected.retain(|topic| *topic != leaving);
            assert_eq!(found(&tree, "+").into_keys().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_find_keeps_no_list_of_siblings() {
        let mut tree = RetainedTree::new(1);
        for number in 0..1_000 {
            tree.set(name(&format!("{number}/x")), number);
        }
        let mut walk = tree.find(&filter("#"));
        let mut topics = 0;
        while walk.next().is_some() {
            topics += 1;
            assert!(walk.pending.len() <= 4);
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
                prop_assert_eq!(found(&tree, text), expected, "{}", text);
            }
            for topic in model.keys() {
                tree.remove(name(topic));
            }
            prop_assert!(tree.is_empty());
        }
    }
}
