//! The subscription trie with few and with many filters: what a match takes should not depend on their number.

use std::hint::black_box;

use criterion::Criterion;
use oncemq::proto::{QoS, SubscriptionOptions};
use oncemq::route::{Matches, Subscription, SubscriptionTrie, TopicFilter, TopicName};

/// Topics that take turns.
const TOPICS: usize = 1024;

pub(super) fn benches(criterion: &mut Criterion) {
    for filters in super::sizes([1, 1000, 100_000, 1_000_000]) {
        let mut trie = SubscriptionTrie::new(7);
        for number in 0..filters {
            subscribe(&mut trie, &filter(number), number);
        }
        let mut found = Matches::new();
        // Far from one another, so that neighbours do not help.
        let topics: Vec<String> = (0..TOPICS).map(|number| topic(number * filters / TOPICS)).collect();
        let mut topics = topics.iter().cycle();
        criterion.bench_function(&format!("trie/match 1 of {filters}"), |bencher| {
            bencher.iter(|| {
                let topic = topics.next().expect("they go round");
                trie.matches(TopicName::parse(topic).expect("a topic"), &mut found);
                black_box(&found);
            });
        });
        let one_more = filter(filters);
        criterion.bench_function(&format!("trie/add and remove one beside {filters}"), |bencher| {
            bencher.iter(|| {
                subscribe(&mut trie, &one_more, filters);
                trie.unsubscribe(&TopicFilter::parse(&one_more).expect("a filter"), filters);
            });
        });
    }
}

fn topic(number: usize) -> String {
    format!("sites/{}/sensors/{number}/temperature", number / 1000)
}

fn filter(number: usize) -> String {
    format!("sites/{}/sensors/{number}/+", number / 1000)
}

fn subscribe(trie: &mut SubscriptionTrie<usize>, filter: &str, subscriber: usize) {
    let options = SubscriptionOptions::from_qos(QoS::ExactlyOnce);
    let filter = TopicFilter::parse(filter).expect("a filter");
    trie.subscribe(&filter, subscriber, Subscription { options, identifier: None });
}
