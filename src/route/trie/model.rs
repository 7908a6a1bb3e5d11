//! The trie against a list: random subscriptions, unsubscriptions, ends of sessions and remote
//! interest are done to both, and [`TopicFilter::matches`] over the list says what the trie must
//! find. At the end everybody leaves, and nothing may be left.

use std::num::NonZeroU32;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    proto::{QoS, SubscriptionOptions},
    route::topic::strategies,
};

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
    Subscription { options: SubscriptionOptions::from_qos(QoS::ExactlyOnce), identifier: NonZeroU32::new(identifier) }
}

/// What a trie must know, as a list.
#[derive(Default)]
struct Model {
    local: Vec<(String, u32, Subscription)>,
    remote: Vec<(String, ShardId)>,
}

#[derive(Clone, Debug)]
enum Operation {
    Subscribe { filter: String, subscriber: u32, identifier: u32 },
    Unsubscribe { filter: String, subscriber: u32 },
    EndSession { subscriber: u32 },
    SetRemote { filter: String, shard: u16, interested: bool },
}

fn operations() -> impl Strategy<Value = Operation> {
    let subscriber = || 0..4_u32;
    prop_oneof![
        4 => (strategies::filter(), subscriber(), 0..3_u32)
            .prop_map(|(filter, subscriber, identifier)| {
                Operation::Subscribe { filter, subscriber, identifier }
            }),
        2 => (strategies::filter(), subscriber())
            .prop_map(|(filter, subscriber)| Operation::Unsubscribe { filter, subscriber }),
        1 => subscriber().prop_map(|subscriber| Operation::EndSession { subscriber }),
        2 => (strategies::filter(), select(vec![0_u16, 1, 63]), any::<bool>())
            .prop_map(|(filter, shard, interested)| {
                Operation::SetRemote { filter, shard, interested }
            }),
    ]
}

impl Model {
    fn has_local(&self, text: &str) -> bool {
        self.local.iter().any(|(filter, ..)| filter == text)
    }

    fn position(&self, text: &str, who: u32) -> Option<usize> {
        self.local.iter().position(|(filter, subscriber, _)| filter == text && *subscriber == who)
    }

    /// Does the same to the model and to the trie, and compares what the trie says about it.
    fn apply(&mut self, trie: &mut SubscriptionTrie<u32>, operation: &Operation) {
        match operation {
            Operation::Subscribe { filter: text, subscriber, identifier } => {
                let position = self.position(text, *subscriber);
                let new = (text.clone(), *subscriber, subscription(*identifier));
                match position {
                    Some(position) => self.local[position] = new,
                    None => self.local.push(new),
                }
                let done = trie.subscribe(&filter(text), *subscriber, subscription(*identifier));
                assert_eq!(done.replaced, position.is_some());
                assert_eq!(trie.filter_of(done.key), *text);
            }
            Operation::Unsubscribe { filter: text, subscriber } => {
                let position = self.position(text, *subscriber);
                position.map(|position| self.local.remove(position));
                let last_local = position.map(|_| !self.has_local(text));
                let done = trie.unsubscribe(&filter(text), *subscriber);
                assert_eq!(done.map(|done| done.last_local), last_local);
            }
            Operation::EndSession { subscriber } => self.end_session(trie, *subscriber),
            Operation::SetRemote { filter: text, shard: number, interested } => {
                self.remote.retain(|remote| *remote != (text.clone(), shard(*number)));
                if *interested {
                    self.remote.push((text.clone(), shard(*number)));
                }
                if *interested {
                    trie.add_remote(&filter(text), shard(*number), false);
                } else {
                    trie.remove_remote(&filter(text), shard(*number), false);
                }
            }
        }
    }

    /// A session knows its keys; here they are found again by subscribing once more.
    fn end_session(&mut self, trie: &mut SubscriptionTrie<u32>, who: u32) {
        while let Some(position) = self.local.iter().position(|(_, subscriber, _)| *subscriber == who) {
            let (text, _, asked) = self.local.remove(position);
            let key = trie.subscribe(&filter(&text), who, asked).key;
            let expected =
                if self.has_local(&text) { Removed::OthersRemain } else { Removed::LastLocal { filter: text } };
            assert_eq!(trie.remove(key, who), expected);
        }
    }

    fn check(&self, trie: &SubscriptionTrie<u32>, topic: &str, found: &mut Matches) {
        let topic = name(topic);
        let mut expected: Vec<_> =
            self.local.iter().filter(|(text, ..)| filter(text).matches(topic)).cloned().collect();
        trie.matches(topic, found);
        let mut actual: Vec<_> = found
            .filters
            .iter()
            .flat_map(|&key| {
                let text = trie.filter_of(key);
                assert!(!trie.subscribers(key).is_empty());
                trie.subscribers(key).iter().map(move |entry| (text.clone(), entry.subscriber, entry.subscription))
            })
            .collect();
        let order = |(text, subscriber, _): &(String, u32, Subscription)| (text.clone(), *subscriber);
        expected.sort_by_key(order);
        actual.sort_by_key(order);
        assert_eq!(actual, expected, "{topic:?}");

        let remote = self.remote.iter().filter(|(text, _)| filter(text).matches(topic));
        assert_eq!(found.remote, remote.map(|(_, shard)| *shard).collect(), "{topic:?}");
    }
}

proptest! {
    #[test]
    fn the_trie_equals_a_list(
        steps in vec(operations(), 1..60),
        topics in vec(strategies::name(), 1..20),
        seed in any::<u64>(),
    ) {
        let mut trie = SubscriptionTrie::new(seed);
        let mut model = Model::default();
        let mut found = Matches::new();
        for step in &steps {
            model.apply(&mut trie, step);
            prop_assert_eq!(trie.subscriptions(), model.local.len());
            let mut filters: Vec<_> = model.local.iter().map(|(text, ..)| text).collect();
            filters.sort();
            filters.dedup();
            prop_assert_eq!(trie.local_filters(), filters.len());
            prop_assert_eq!(trie.is_empty(), model.local.is_empty() && model.remote.is_empty());
        }
        for topic in &topics {
            model.check(&trie, topic, &mut found);
        }

        for subscriber in 0..4 {
            model.end_session(&mut trie, subscriber);
        }
        for (text, shard) in model.remote {
            trie.remove_remote(&filter(&text), shard, false);
        }
        prop_assert!(trie.is_empty());
        prop_assert_eq!((trie.local_filters(), trie.subscriptions()), (0, 0));
    }
}
