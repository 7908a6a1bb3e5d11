//! The filters that a session is subscribed to, small where there are few: most clients of a fleet have one to three
//! subscriptions, which then cost nothing beside the session's record.
//!
//! The order is not kept when one leaves.

use crate::route::FilterKey;

/// So many lie in the record itself: they take no more room than a list elsewhere would.
const FEW: usize = 3;

/// A list elsewhere of which less than this part is used is made smaller.
const USED_MIN: usize = 4;

/// Filters, each once.
#[derive(Debug)]
pub(super) enum FilterKeys {
    /// The first ones are there, the others are not.
    Few([Option<FilterKey>; FEW]),
    /// More than [`FEW`].
    Many(Box<Many>),
}

#[derive(Debug)]
pub(super) struct Many {
    keys: Vec<FilterKey>,
}

impl FilterKeys {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.iter().flatten().count(),
            Self::Many(many) => many.keys.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = FilterKey> {
        let (few, many) = match self {
            Self::Few(few) => (&few[..], &[][..]),
            Self::Many(many) => (&[][..], &many.keys[..]),
        };
        few.iter().copied().flatten().chain(many.iter().copied())
    }

    /// Adds a filter, which is not to be there.
    pub(super) fn push(&mut self, key: FilterKey) {
        match self {
            Self::Few(few) => match few.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(key),
                None => {
                    let keys = few.iter().copied().flatten().chain([key]).collect();
                    *self = Self::Many(Box::new(Many { keys }));
                }
            },
            Self::Many(many) => many.keys.push(key),
        }
    }

    /// Takes a filter out; whether it was there.
    pub(super) fn remove(&mut self, key: FilterKey) -> bool {
        let Some(position) = self.iter().position(|known| known == key) else { return false };
        match self {
            Self::Few(few) => {
                few[position] = None;
                few[position..].rotate_left(1);
            }
            Self::Many(many) => {
                many.keys.swap_remove(position);
                if let [first, second, third] = many.keys[..] {
                    *self = Self::Few([first, second, third].map(Some));
                } else if many.keys.len() < many.keys.capacity() / USED_MIN {
                    many.keys.shrink_to(many.keys.len() * 2);
                }
            }
        }
        true
    }
}

impl Default for FilterKeys {
    fn default() -> Self {
        Self::Few([None; FEW])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{QoS, SubscriptionOptions};
    use crate::route::{Subscription, SubscriptionTrie, TopicFilter};

    fn keys(count: usize) -> Vec<FilterKey> {
        let mut trie = SubscriptionTrie::new(1);
        let subscription = Subscription { options: SubscriptionOptions::from_qos(QoS::ExactlyOnce), identifier: None };
        let texts = (0..count).map(|number| format!("f/{number}"));
        texts
            .map(|text| trie.subscribe(&TopicFilter::parse(&text).expect("a filter"), 1u32, subscription).key)
            .collect()
    }

    fn sorted(keys: impl Iterator<Item = FilterKey>) -> Vec<String> {
        let mut texts: Vec<String> = keys.map(|key| format!("{key:?}")).collect();
        texts.sort();
        texts
    }

    #[test]
    fn few_filters_take_two_words() {
        assert_eq!(size_of::<FilterKeys>(), 16);
    }

    #[test]
    fn filters_come_and_leave_in_any_order() {
        for count in [1, 2, 3, 4, 5, 40] {
            let all = keys(count);
            for stride in [1, 3, 7].into_iter().filter(|stride| *stride == 1 || count % stride != 0) {
                let mut list = FilterKeys::default();
                all.iter().for_each(|key| list.push(*key));
                let mut left = all.clone();
                for step in 0..count {
                    assert_eq!(list.len(), left.len());
                    assert_eq!(sorted(list.iter()), sorted(left.iter().copied()));
                    assert_eq!(matches!(list, FilterKeys::Few(_)), left.len() <= FEW, "{} left", left.len());
                    let leaving = all[step * stride % count];
                    assert!(list.remove(leaving));
                    assert!(!list.remove(leaving));
                    left.retain(|key| *key != leaving);
                }
                assert_eq!(list.len(), 0);
            }
        }
    }

    #[test]
    fn memory_is_given_back_when_most_have_left() {
        let all = keys(1000);
        let mut list = FilterKeys::default();
        all.iter().for_each(|key| list.push(*key));
        all[..990].iter().for_each(|key| assert!(list.remove(*key)));
        let FilterKeys::Many(many) = &list else { panic!("ten are a list") };
        assert!(many.keys.capacity() <= 40, "{}", many.keys.capacity());
    }
}
