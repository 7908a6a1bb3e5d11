//! How often a shard allocates for a QoS 2 exchange in steady state: not at all, but for the exceptions below, each of which
//! has its exact number here. What the numbers mean for a broker stands in tuning.md, "Memory on the hot path".
//!
//! Shards are driven here as their driver does it, and only what happens inside of them is counted. An exchange is all of it,
//! from the PUBLISH of the publisher to the PUBCOMPs of both hops, with the records in the log and the letters between
//! shards. Before it counts, each test lets tables and buffers grow to what it needs.

mod counting;
mod fleet;
mod idle;
mod loads;

use oncemq::proto::{Properties, Property, PropertyWriter, Version};

use counting::take_allocations;
use fleet::{Durability, Fleet};
use loads::Load;

/// Rounds until everything has grown.
const WARM_UP_ROUNDS: u64 = 300;

/// Rounds that count.
const ROUNDS: u64 = 100;

/// Lets `round` happen over and over, in which so many messages are published and delivered; what that allocates, once
/// everything has grown.
fn allocations(fleet: &mut Fleet, published: u64, delivered: u64, mut round: impl FnMut(&mut Fleet)) -> u64 {
    let mut repeat = |fleet: &mut Fleet, rounds: u64| {
        fleet.take_results();
        for _ in 0..rounds {
            round(fleet);
            fleet.run();
        }
        assert_eq!(fleet.take_results(), (rounds * delivered, rounds * published), "every exchange is complete");
    };
    repeat(fleet, WARM_UP_ROUNDS);
    take_allocations();
    fleet.segments = 0;
    repeat(fleet, ROUNDS);
    take_allocations()
}

/// As [`allocations`], of a load that others measure, too.
fn allocations_of(mut load: Load) -> u64 {
    load.repeat(WARM_UP_ROUNDS);
    take_allocations();
    load.repeat(ROUNDS);
    take_allocations()
}

fn every_kind(mut allocations: impl FnMut(Version, Durability) -> u64) {
    for version in [Version::V311, Version::V5] {
        for durability in [Durability::None, Durability::Logged] {
            assert_eq!(allocations(version, durability), 0, "{version:?}, {durability:?}");
        }
    }
}

#[test]
fn pairs_on_one_shard_allocate_nothing() {
    every_kind(|version, durability| allocations_of(Load::pairs(version, durability, 1)));
}

#[test]
fn pairs_across_shards_allocate_nothing() {
    every_kind(|version, durability| allocations_of(Load::pairs(version, durability, 2)));
}

#[test]
fn fan_out_allocates_nothing() {
    every_kind(|version, durability| allocations_of(Load::fan_out(version, durability)));
}

#[test]
fn fan_in_allocates_nothing() {
    every_kind(|version, durability| allocations_of(Load::fan_in(version, durability)));
}

/// Also with an alias, and a lifetime: what belongs to the hop is left out where the message is copied.
#[test]
fn topic_aliases_and_lifetimes_allocate_nothing() {
    for durability in [Durability::None, Durability::Logged] {
        let mut fleet = Fleet::new(1, durability);
        let (publisher, subscriber) = (fleet.connect(0, Version::V5), fleet.connect(0, Version::V5));
        fleet.subscribe(subscriber, "a/long/topic/name/that/is/worth/an/alias", Some(3));
        let mut properties = PropertyWriter::new();
        properties.push(Property::TopicAlias(1)).push(Property::MessageExpiryInterval(60));
        fleet.publish(publisher, "a/long/topic/name/that/is/worth/an/alias", properties.properties());
        fleet.run();
        let count = allocations(&mut fleet, 1, 1, |fleet| fleet.publish(publisher, "", properties.properties()));
        assert_eq!(count, 0);
    }
}

/// Each message is judged twice: by what its publisher may write, and by what its subscriber may read. Also on more topics than
/// are remembered.
#[test]
fn rules_allocate_nothing() {
    const RULES: &str =
        "topic deny secret/#\npattern write own/%c/#\npattern read own/#\ntopic write open/#\ntopic read open/+\n";
    for (version, durability) in [(Version::V311, Durability::None), (Version::V5, Durability::Logged)] {
        for topics in [1, 100] {
            let mut fleet = Fleet::new(2, durability);
            fleet.set_rules(RULES);
            let (publisher, subscriber) = (fleet.connect(0, version), fleet.connect(1, version));
            fleet.subscribe(subscriber, "#", None);
            let topics: Vec<String> = (0..topics).map(|number| format!("open/{number}")).collect();
            let count = allocations(&mut fleet, 100, 100, |fleet| {
                topics.iter().cycle().take(100).for_each(|topic| fleet.publish(publisher, topic, Properties::EMPTY));
            });
            assert_eq!(count, 0, "{version:?}, {durability:?}, {} topics", topics.len());
        }
    }
}

#[test]
fn shared_subscriptions_allocate_nothing() {
    for shards in [1, 2] {
        every_kind(|version, durability| {
            let mut fleet = Fleet::new(shards, durability);
            let publisher = fleet.connect(0, version);
            for member in 0..4 {
                let member = fleet.connect(member % usize::from(shards), version);
                fleet.subscribe(member, "$share/group/tasks/+", None);
            }
            allocations(&mut fleet, 8, 8, |fleet| {
                (0..8).for_each(|_| fleet.publish(publisher, "tasks/new", Properties::EMPTY));
            })
        });
    }
}

/// Several subscriptions of a client that match count as one; their identifiers are an allocation of each delivery.
#[test]
fn several_subscription_identifiers_are_one_allocation_per_delivery() {
    for (identifiers, expected) in [([None, None], 0), ([Some(1), None], 0), ([Some(1), Some(2)], 1)] {
        let mut fleet = Fleet::new(1, Durability::Logged);
        let (publisher, subscriber) = (fleet.connect(0, Version::V5), fleet.connect(0, Version::V5));
        fleet.subscribe(subscriber, "both/#", identifiers[0]);
        fleet.subscribe(subscriber, "both/+", identifiers[1]);
        let count = allocations(&mut fleet, 1, 1, |fleet| fleet.publish(publisher, "both/match", Properties::EMPTY));
        assert_eq!(count, expected * ROUNDS);
    }
}

/// What waits in the queue of a client that is there stays where it lies.
#[test]
fn a_queue_allocates_nothing() {
    let mut fleet = Fleet::new(1, Durability::Logged);
    let publisher = fleet.connect(0, Version::V5);
    let subscriber = fleet.connect_with(0, Version::V5, &[Property::ReceiveMaximum(4)]);
    fleet.subscribe(subscriber, "burst", None);
    let published = 30;
    let count = allocations(&mut fleet, published, published, |fleet| {
        (0..published).for_each(|_| fleet.publish(publisher, "burst", Properties::EMPTY));
    });
    assert_eq!(count, 0);
}

/// One for its bytes, and one for the count of those who refer to them.
#[test]
fn a_message_longer_than_a_chunk_is_two_allocations() {
    let mut fleet = Fleet::new(1, Durability::None);
    let (publisher, subscriber) = (fleet.connect(0, Version::V5), fleet.connect(0, Version::V5));
    fleet.subscribe(subscriber, "long", None);
    for (payload_bytes, expected) in [(4000, 0), (5000, 2)] {
        fleet.payload_bytes = payload_bytes;
        let count = allocations(&mut fleet, 1, 1, |fleet| fleet.publish(publisher, "long", Properties::EMPTY));
        assert_eq!(count, expected * ROUNDS);
    }
}

/// A segment of the log is an allocation for its index, and may be one for the head in front of its first batch.
#[test]
fn a_segment_of_the_log_is_at_most_two_allocations() {
    for segment_bytes in [64, 128, 256].map(|kilobytes| kilobytes * 1024) {
        let mut fleet = Fleet::new(1, Durability::Segmented(segment_bytes));
        let (publisher, subscriber) = (fleet.connect(0, Version::V5), fleet.connect(0, Version::V5));
        fleet.subscribe(subscriber, "logged", None);
        let count = allocations(&mut fleet, 1, 1, |fleet| fleet.publish(publisher, "logged", Properties::EMPTY));
        assert!(fleet.segments > 5);
        assert!(count <= 2 * fleet.segments, "{count} for {} segments", fleet.segments);
    }
}

/// A packet of which a receive has only the beginning is collected: one allocation, whatever else the receive had.
#[test]
fn a_packet_cut_between_two_receives_is_one_allocation() {
    let mut fleet = Fleet::new(1, Durability::None);
    let (publisher, subscriber) = (fleet.connect(0, Version::V5), fleet.connect(0, Version::V5));
    fleet.subscribe(subscriber, "cut", None);
    // Inside the last PUBLISH, and inside the third last of the acknowledgements, which have four bytes each.
    fleet.cut_bytes = 10;
    let count = allocations(&mut fleet, 10, 10, |fleet| {
        (0..10).for_each(|_| fleet.publish(publisher, "cut", Properties::EMPTY));
    });
    let receives = ["PUBLISHes", "PUBRECs", "PUBRELs", "PUBCOMPs"].len() as u64;
    assert_eq!(count, receives * ROUNDS);
}
