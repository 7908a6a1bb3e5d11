//! The subscribers of one filter.
//!
//! They are one contiguous slice, because fan-out walks it. Most filters of a fleet have a single
//! subscriber, so that one lives in the node itself; a filter that thousands share gets an index by
//! subscriber, so that leaving it costs the same for the first and the last. The order of the slice
//! is not kept when a subscriber leaves.

use std::{hash::Hash, num::NonZeroU32};

use hashbrown::HashTable;

use super::level_tree::Hashing;
use crate::proto::SubscriptionOptions;

/// Up to this many subscribers a search through the slice is as cheap as the index.
const SEARCHED_MAX: usize = 64;

/// Below this many the index goes; the gap to [`SEARCHED_MAX`] keeps a filter at the edge from
/// building it again and again.
const INDEXED_MIN: usize = SEARCHED_MAX / 2;

/// What a subscriber asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The options byte of the SUBSCRIBE.
    pub options: SubscriptionOptions,
    /// The Subscription Identifier, which goes with every message delivered because of this
    /// subscription.
    pub identifier: Option<NonZeroU32>,
}

/// One subscriber of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber<S> {
    /// Who it is.
    pub subscriber: S,
    /// What it asked for.
    pub subscription: Subscription,
}

#[derive(Debug, Default)]
pub(super) enum Subscribers<S> {
    #[default]
    None,
    One(Subscriber<S>),
    Many(Box<Many<S>>),
}

#[derive(Debug)]
pub(super) struct Many<S> {
    /// At least two.
    list: Vec<Subscriber<S>>,
    /// The positions in `list`, by subscriber; present while the list is too long to search.
    index: Option<HashTable<u32>>,
}

impl<S: Copy + Eq + Hash> Subscribers<S> {
    pub(super) fn as_slice(&self) -> &[Subscriber<S>] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => &many.list,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn contains(&self, subscriber: S, hashing: &Hashing) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one.subscriber == subscriber,
            Self::Many(many) => many.position(subscriber, hashing).is_some(),
        }
    }

    /// What a subscriber asked for; none if it is not there.
    pub(super) fn subscription_of(&self, subscriber: S, hashing: &Hashing) -> Option<Subscription> {
        match self {
            Self::None => None,
            Self::One(one) => (one.subscriber == subscriber).then_some(one.subscription),
            Self::Many(many) => many.position(subscriber, hashing).map(|position| many.list[position].subscription),
        }
    }

    /// Adds a subscriber, or replaces what it asked for before; true if it was there.
    pub(super) fn insert(&mut self, new: Subscriber<S>, hashing: &Hashing) -> bool {
        match self {
            Self::None => {
                *self = Self::One(new);
                false
            }
            Self::One(old) if old.subscriber == new.subscriber => {
                *old = new;
                true
            }
            Self::One(old) => {
                let list = vec![*old, new];
                *self = Self::Many(Box::new(Many { list, index: None }));
                false
            }
            Self::Many(many) => many.insert(new, hashing),
        }
    }

    /// Takes a subscriber out; false if it was not there.
    pub(super) fn remove(&mut self, subscriber: S, hashing: &Hashing) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => {
                let found = one.subscriber == subscriber;
                if found {
                    *self = Self::None;
                }
                found
            }
            Self::Many(many) => {
                let found = many.remove(subscriber, hashing);
                if let [only] = many.list[..] {
                    *self = Self::One(only);
                }
                found
            }
        }
    }
}

impl<S: Copy + Eq + Hash> Many<S> {
    fn insert(&mut self, new: Subscriber<S>, hashing: &Hashing) -> bool {
        if let Some(position) = self.position(new.subscriber, hashing) {
            self.list[position] = new;
            return true;
        }
        let position = self.list.len();
        self.list.push(new);
        let list = &self.list;
        if let Some(index) = &mut self.index {
            index_position(index, list, position, hashing);
        } else if list.len() > SEARCHED_MAX {
            let mut index = HashTable::with_capacity(list.len());
            for position in 0..list.len() {
                index_position(&mut index, list, position, hashing);
            }
            self.index = Some(index);
        }
        false
    }

    fn remove(&mut self, subscriber: S, hashing: &Hashing) -> bool {
        let Some(position) = self.position(subscriber, hashing) else {
            return false;
        };
        let last = self.list.len() - 1;
        if let Some(index) = &mut self.index {
            let hash = hashing.of(&subscriber);
            let entry = index.find_entry(hash, |&at| at as usize == position);
            entry.expect("the index has every position").remove();
            if position != last {
                let hash = hashing.of(&self.list[last].subscriber);
                let moved = index.find_mut(hash, |&at| at as usize == last);
                *moved.expect("the index has every position") = position as u32;
            }
        }
        self.list.swap_remove(position);
        self.shrink();
        true
    }

    fn position(&self, subscriber: S, hashing: &Hashing) -> Option<usize> {
        match &self.index {
            Some(index) => index
                .find(hashing.of(&subscriber), |&at| self.list[at as usize].subscriber == subscriber)
                .map(|&at| at as usize),
            None => self.list.iter().position(|entry| entry.subscriber == subscriber),
        }
    }

    /// Gives memory back once three quarters of it are unused, so that the cost stays constant per
    /// removal.
    fn shrink(&mut self) {
        if self.list.len() < INDEXED_MIN {
            self.index = None;
        }
        if self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to(self.list.len() * 2);
        }
    }
}

fn index_position<S: Copy + Eq + Hash>(
    index: &mut HashTable<u32>,
    list: &[Subscriber<S>],
    position: usize,
    hashing: &Hashing,
) {
    let at = u32::try_from(position).expect("a subscriber key has 32 bits, so there are fewer subscribers");
    index.insert_unique(hashing.of(&list[position].subscriber), at, |&at| hashing.of(&list[at as usize].subscriber));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::QoS;

    fn entry(subscriber: u32, identifier: u32) -> Subscriber<u32> {
        Subscriber {
            subscriber,
            subscription: Subscription {
                options: SubscriptionOptions::from_qos(QoS::ExactlyOnce),
                identifier: NonZeroU32::new(identifier),
            },
        }
    }

    #[test]
    fn a_single_subscriber_needs_no_allocation() {
        assert_eq!(size_of::<Subscription>(), 8);
        assert_eq!(size_of::<Subscriber<u32>>(), 12);
        assert_eq!(size_of::<Subscribers<u32>>(), 16);
    }

    #[test]
    fn a_second_insert_replaces_the_subscription() {
        let hashing = Hashing::new(3);
        let mut subscribers = Subscribers::default();
        // Alone, in a short list, and in an indexed one.
        for subscriber in 0..200 {
            assert!(!subscribers.insert(entry(subscriber, 1), &hashing));
            assert!(subscribers.insert(entry(subscriber, 2), &hashing));
            assert_eq!(subscribers.as_slice().len(), subscriber as usize + 1);
        }
        assert!(subscribers.as_slice().iter().all(|entry| entry.subscription.identifier == NonZeroU32::new(2)));
    }

    #[test]
    fn subscribers_leave_in_any_order() {
        let hashing = Hashing::new(3);
        for stride in [1, 7, 499] {
            let mut subscribers = Subscribers::default();
            for subscriber in 0..500 {
                subscribers.insert(entry(subscriber, 0), &hashing);
            }
            for step in 0..500 {
                let leaving = step * stride % 500;
                assert!(subscribers.contains(leaving, &hashing));
                assert!(subscribers.remove(leaving, &hashing));
                assert!(!subscribers.contains(leaving, &hashing));
                assert!(!subscribers.remove(leaving, &hashing));
                assert_eq!(subscribers.as_slice().len(), 499 - step as usize);
            }
            assert!(subscribers.is_empty());
        }
    }

    #[test]
    fn memory_is_given_back_when_most_subscribers_left() {
        let hashing = Hashing::new(3);
        let mut subscribers = Subscribers::default();
        for subscriber in 0..10_000 {
            subscribers.insert(entry(subscriber, 0), &hashing);
        }
        for subscriber in 0..9_998 {
            subscribers.remove(subscriber, &hashing);
        }
        let Subscribers::Many(many) = &subscribers else {
            panic!("two subscribers are a list");
        };
        assert!(many.index.is_none());
        assert!(many.list.capacity() <= 16);
        subscribers.remove(9_998, &hashing);
        assert!(matches!(subscribers, Subscribers::One(Subscriber { subscriber: 9_999, .. })));
    }
}
