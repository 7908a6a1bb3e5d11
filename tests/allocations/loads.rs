//! Loads in steady state: rounds in which every publisher sends the same messages again, at QoS 2.

use oncemq::proto::{Properties, Version};

use super::fleet::{Client, Durability, Fleet};

/// A fleet that publishes and subscribes.
pub(crate) struct Load {
    fleet: Fleet,
    publishers: Vec<(Client, &'static str)>,
    /// Messages of each publisher in a round.
    burst: u64,
    /// Subscribers that get each message.
    listeners: u64,
}

/// Topics of the pairs.
const PAIRS: [&str; 10] = [
    "pairs/0/value",
    "pairs/1/value",
    "pairs/2/value",
    "pairs/3/value",
    "pairs/4/value",
    "pairs/5/value",
    "pairs/6/value",
    "pairs/7/value",
    "pairs/8/value",
    "pairs/9/value",
];

/// Subscribers of a fan-out, publishers of a fan-in.
const FAN: u64 = 100;

impl Load {
    /// Ten publishers, each with a subscriber of its own on the next shard.
    pub(crate) fn pairs(version: Version, durability: Durability, shards: u16) -> Self {
        let mut fleet = Fleet::new(shards, durability);
        let connect = |(pair, topic)| {
            let (from, to) = (pair % usize::from(shards), (pair + 1) % usize::from(shards));
            let (publisher, subscriber) = (fleet.connect(from, version), fleet.connect(to, version));
            fleet.subscribe(subscriber, topic, None);
            (publisher, topic)
        };
        let publishers = PAIRS.into_iter().enumerate().map(connect).collect();
        Self { fleet, publishers, burst: 3, listeners: 1 }
    }

    /// One publisher that many hear.
    pub(crate) fn fan_out(version: Version, durability: Durability) -> Self {
        let mut fleet = Fleet::new(1, durability);
        let publisher = fleet.connect(0, version);
        for _ in 0..FAN {
            let subscriber = fleet.connect(0, version);
            fleet.subscribe(subscriber, "news/+", None);
        }
        Self { fleet, publishers: vec![(publisher, "news/today")], burst: 1, listeners: FAN }
    }

    /// Many publishers that one hears.
    pub(crate) fn fan_in(version: Version, durability: Durability) -> Self {
        let mut fleet = Fleet::new(1, durability);
        let subscriber = fleet.connect(0, version);
        fleet.subscribe(subscriber, "sensors/#", None);
        let publishers = (0..FAN).map(|_| (fleet.connect(0, version), "sensors/temperature")).collect();
        Self { fleet, publishers, burst: 1, listeners: 1 }
    }

    /// Lets so many rounds happen, and all of each to its end; says how many messages were delivered.
    pub(crate) fn repeat(&mut self, rounds: u64) -> u64 {
        self.fleet.take_results();
        for _ in 0..rounds {
            for (publisher, topic) in &self.publishers {
                (0..self.burst).for_each(|_| self.fleet.publish(*publisher, topic, Properties::EMPTY));
            }
            self.fleet.run();
        }
        let published = rounds * self.burst * self.publishers.len() as u64;
        let delivered = published * self.listeners;
        assert_eq!(self.fleet.take_results(), (delivered, published), "every exchange is complete");
        delivered
    }
}
