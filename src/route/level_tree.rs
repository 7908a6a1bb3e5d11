//! A tree whose edges are topic levels: what the subscription trie and the retained messages have
//! in common.
//!
//! Nodes live in one slab and know their parent; the edges of the whole tree live in one hash
//! table, keyed by parent and level. A node therefore needs no table of its own, which is what
//! makes a tree of a million leaves affordable, and a step down costs one probe plus one node,
//! however many siblings there are.
//!
//! Wildcards mean nothing here: `+` and `#` are levels like any other. A node is removed only when
//! its owner says so.

use std::{
    hash::{Hash, Hasher},
    num::NonZeroU32,
};

use foldhash::{SharedSeed, fast::FoldHasher};
use hashbrown::HashTable;
use slab::Slab;

/// Where a node is. Stable for as long as the node exists, then reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct NodeKey(NonZeroU32);

impl NodeKey {
    /// The node above the first level; it always exists.
    pub(super) const ROOT: Self = Self(NonZeroU32::MIN);

    fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("the callers bound the tree far below 2^32 nodes"))
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The tree; each node carries a `T`.
#[derive(Debug)]
pub(super) struct LevelTree<T> {
    nodes: Slab<Node<T>>,
    edges: HashTable<NodeKey>,
    hashing: Hashing,
}

#[derive(Debug)]
struct Node<T> {
    /// The root is its own parent.
    parent: NodeKey,
    children: u32,
    level: Level,
    value: T,
}

impl<T: Default> LevelTree<T> {
    /// A tree that has only its root.
    pub(super) fn new(seed: u64) -> Self {
        let mut nodes = Slab::new();
        let root =
            nodes.insert(Node { parent: NodeKey::ROOT, children: 0, level: Level::new(""), value: T::default() });
        assert_eq!(root, NodeKey::ROOT.index());
        Self { nodes, edges: HashTable::new(), hashing: Hashing::new(seed) }
    }

    /// The child of `parent` by that level; if there was none, a new one with the default value,
    /// and `true`.
    pub(super) fn child_or_insert(&mut self, parent: NodeKey, level: &str) -> (NodeKey, bool) {
        if let Some(child) = self.child(parent, level) {
            return (child, false);
        }
        let child = NodeKey::from_index(self.nodes.insert(Node {
            parent,
            children: 0,
            level: Level::new(level),
            value: T::default(),
        }));
        self.nodes[parent.index()].children += 1;
        let Self { nodes, edges, hashing } = self;
        edges.insert_unique(hashing.edge(parent, level.as_bytes()), child, |&key| {
            let node = &nodes[key.index()];
            hashing.edge(node.parent, node.level.as_bytes())
        });
        (child, true)
    }

    /// Removes a node that has no children, and returns its value and its parent.
    pub(super) fn remove_leaf(&mut self, key: NodeKey) -> (T, NodeKey) {
        assert_ne!(key, NodeKey::ROOT);
        assert!(self.is_leaf(key));
        let Node { parent, level, value, children: _ } = self.nodes.remove(key.index());
        let hash = self.hashing.edge(parent, level.as_bytes());
        self.edges.find_entry(hash, |&edge| edge == key).expect("every node but the root has an edge").remove();
        self.nodes[parent.index()].children -= 1;
        (value, parent)
    }
}

impl<T> LevelTree<T> {
    /// The child of `parent` by that level.
    #[inline]
    pub(super) fn child(&self, parent: NodeKey, level: &str) -> Option<NodeKey> {
        // The last step of most walks ends at a leaf: spare it the hash.
        if self.is_leaf(parent) {
            return None;
        }
        let hash = self.hashing.edge(parent, level.as_bytes());
        let is_child = |&key: &NodeKey| {
            let node = &self.nodes[key.index()];
            node.parent == parent && node.level.as_bytes() == level.as_bytes()
        };
        self.edges.find(hash, is_child).copied()
    }

    pub(super) fn value(&self, key: NodeKey) -> &T {
        &self.nodes[key.index()].value
    }

    pub(super) fn value_mut(&mut self, key: NodeKey) -> &mut T {
        &mut self.nodes[key.index()].value
    }

    pub(super) fn is_leaf(&self, key: NodeKey) -> bool {
        self.nodes[key.index()].children == 0
    }

    /// Whether the root is the only node.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The parent; of the root, the root itself.
    pub(super) fn parent(&self, key: NodeKey) -> NodeKey {
        self.nodes[key.index()].parent
    }

    /// The bytes of the level by which the node hangs on its parent.
    pub(super) fn level(&self, key: NodeKey) -> &[u8] {
        self.nodes[key.index()].level.as_bytes()
    }

    /// The levels from the root to the node, joined by `/`.
    pub(super) fn path(&self, key: NodeKey) -> String {
        let mut ancestors = Vec::new();
        let mut next = key;
        while next != NodeKey::ROOT {
            let node = &self.nodes[next.index()];
            ancestors.push(node.level.as_bytes());
            next = node.parent;
        }
        ancestors.reverse();
        String::from_utf8(ancestors.join(&b'/')).expect("every level came in as text")
    }
}

/// The hash function of one tree, or of another table of topics.
///
/// Topics come from clients, so both seeds of the hash are the table's own: with the library's fixed
/// shared seed, levels that collide under every seed could be worked out from its source.
#[derive(Debug)]
pub(crate) struct Hashing {
    seed: u64,
    shared_seed: SharedSeed,
}

impl Hashing {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, shared_seed: SharedSeed::from_u64(seed) }
    }

    pub(crate) fn of(&self, value: &impl Hash) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[inline]
    fn edge(&self, parent: NodeKey, level: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write_u32(parent.0.get());
        hasher.write(level);
        hasher.finish()
    }
}

/// The text of a level, inside the node if it is short, as nearly all are.
#[derive(Debug)]
enum Level {
    Short { bytes: [u8; Level::SHORT_BYTES_MAX], used: u8 },
    Long(Box<[u8]>),
}

impl Level {
    /// What fits beside the length and the discriminant into the three words that `Long` needs
    /// anyway.
    const SHORT_BYTES_MAX: usize = 22;

    fn new(text: &str) -> Self {
        let text = text.as_bytes();
        if text.len() > Self::SHORT_BYTES_MAX {
            return Self::Long(text.into());
        }
        let mut bytes = [0; Self::SHORT_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Self::Short { bytes, used: text.len() as u8 }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { bytes, used } => &bytes[..usize::from(*used)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_half_a_cache_line_without_its_value() {
        assert_eq!(size_of::<Level>(), 24);
        assert_eq!(size_of::<Node<()>>(), 32);
        assert_eq!(size_of::<Option<NodeKey>>(), 4);
    }

    #[test]
    fn children_are_found_by_parent_and_level() {
        let mut tree = LevelTree::<u32>::new(7);
        let (a, created) = tree.child_or_insert(NodeKey::ROOT, "a");
        assert!(created);
        let (ab, _) = tree.child_or_insert(a, "b");
        let (b, _) = tree.child_or_insert(NodeKey::ROOT, "b");
        assert_eq!(tree.child_or_insert(a, "b"), (ab, false));
        assert_eq!(tree.child(NodeKey::ROOT, "b"), Some(b));
        assert_eq!(tree.child(a, "a"), None);
        assert_eq!(tree.child(ab, "b"), None);
        *tree.value_mut(ab) = 5;
        assert_eq!(tree.path(ab), "a/b");
        assert_eq!(tree.level(ab), b"b");
        assert_eq!(tree.remove_leaf(ab), (5, a));
        assert_eq!(tree.child(a, "b"), None);
        assert_eq!(tree.child(NodeKey::ROOT, "b"), Some(b));
        tree.remove_leaf(a);
        tree.remove_leaf(b);
        assert!(tree.is_empty());
    }

    #[test]
    fn levels_of_every_length_keep_their_text() {
        let mut tree = LevelTree::<()>::new(0);
        for length in [0, 1, 21, 22, 23, 1_000, 65_535] {
            let level = "x".repeat(length);
            let (key, created) = tree.child_or_insert(NodeKey::ROOT, &level);
            assert!(created, "{length}");
            assert_eq!(tree.path(key), level);
            assert_eq!(tree.child(NodeKey::ROOT, &level), Some(key));
        }
    }

    #[test]
    fn many_siblings_survive_the_growth_of_the_table() {
        let mut tree = LevelTree::<()>::new(1);
        let keys: Vec<_> =
            (0..5_000).map(|number| tree.child_or_insert(NodeKey::ROOT, &number.to_string()).0).collect();
        for (number, key) in keys.into_iter().enumerate() {
            assert_eq!(tree.child(NodeKey::ROOT, &number.to_string()), Some(key));
            tree.remove_leaf(key);
        }
        assert!(tree.is_empty());
    }
}
