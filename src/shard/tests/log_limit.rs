//! A log that is as long as it may be: publishers are refused, and nothing that was acknowledged is lost.

use std::num::NonZeroU64;

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Less than the least bound, which is eight segments of 64 KiB.
fn bounded() -> Limits {
    Limits { max_log_bytes: NonZeroU64::new(1), queue_memory_bytes: 10_000, receive_maximum: 65_535, ..limits() }
}

const BOUND: u64 = 8 << 16;

/// The name of a client on the shard of the subscriber, or on another one.
fn name(shards: u16, is_here: bool) -> String {
    let is_it = |name: &String| (shard_of(name, shards) == shard_of("subscriber", shards)) == is_here;
    (0..).map(|number| format!("publisher-{number}")).find(is_it).expect("half of all names do")
}

/// A durable subscriber that is away, and a 5.0 publisher.
fn absent(shards: u16) -> (Fleet, Client) {
    let mut fleet = Fleet::durable_with_limits(shards, bounded());
    let subscriber = fleet.connect_v5("subscriber", 1000);
    fleet.subscribe(subscriber, "t/#", ExactlyOnce);
    fleet.disconnect(subscriber);
    let publisher = fleet.connect_v5(&name(shards, shards == 1), 10);
    fleet.got(publisher);
    (fleet, publisher)
}

/// Publishes until a message is refused; how many were taken before.
fn fill(fleet: &mut Fleet, publisher: Client) -> u16 {
    for id in 1..=u16::MAX {
        fleet.publish(publisher, "t", &format!("{id:01000}"), ExactlyOnce, id);
        match fleet.got(publisher)[..] {
            [Got::Ack(AcknowledgementKind::Pubrec, got, ReasonCode::Success)] if got == id => {}
            [Got::Ack(AcknowledgementKind::Pubrec, got, ReasonCode::QuotaExceeded)] if got == id => return id - 1,
            ref got => panic!("{got:?}"),
        }
    }
    panic!("nothing was refused")
}

fn fetch(fleet: &mut Fleet) -> Vec<u16> {
    let subscriber = fleet.connect_v5("subscriber", 1000);
    let mut numbers = Vec::new();
    loop {
        let got = fleet.got(subscriber);
        if got.is_empty() {
            fleet.disconnect(subscriber);
            return numbers;
        }
        for packet in got {
            if let Got::Publish { payload, id, .. } = packet {
                numbers.push(payload.parse().expect("a number"));
                fleet.ack(subscriber, AcknowledgementKind::Pubrec, id);
                fleet.ack(subscriber, AcknowledgementKind::Pubcomp, id);
            }
        }
    }
}

/// Every message that was taken is there, also after a crash; when they are fetched, new ones are taken, again and again.
#[test]
fn a_full_log_refuses_and_loses_nothing() {
    for shards in [1, 2] {
        let (mut fleet, publisher) = absent(shards);
        let taken = fill(&mut fleet, publisher);
        assert!(taken > 120, "a quarter of the bound can be alive, however short the segments: {taken}");
        let longest = fleet.shards.iter().map(|shard| shard.log().bytes()).max();
        assert!(longest.is_some_and(|bytes| bytes <= BOUND), "{longest:?}");
        assert_eq!(fleet.count(|counters| counters.refused_log_full), 1);
        fleet.crash(Duration::from_secs(1));
        let expected: Vec<_> = (1..=taken).collect();
        assert_eq!(fetch(&mut fleet), expected, "{shards} shards");
        for _ in 0..3 {
            fleet.pass(Duration::from_secs(2));
            let publisher = fleet.connect(Version::V5, "publisher", true);
            fleet.got(publisher);
            let taken = fill(&mut fleet, publisher);
            assert!(taken > 120, "{taken}");
            assert_eq!(fetch(&mut fleet).len(), usize::from(taken));
        }
        assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 0);
    }
}

/// What the others are told of it leaves in the turn in which it is noticed, for there may be none behind. The simulator found
/// letters that waited for one, with its seed 414.
#[test]
fn the_others_hear_of_a_full_log_in_the_same_turn() {
    let mut fleet = Fleet::durable_with_limits(2, bounded());
    let subscriber = fleet.connect_v5("subscriber", 1000);
    fleet.subscribe(subscriber, "t/#", ExactlyOnce);
    fleet.disconnect(subscriber);
    let publisher = fleet.connect_v5(&name(2, true), 10);
    fleet.rings_flow = false;
    fleet.logs_flow = false;
    let (home, key) = fleet.place_of(publisher);
    let mut bytes = Vec::new();
    let payload = vec![0; (BOUND / 8) as usize];
    for packet_id in (1..=10).map(id) {
        let publish = Publish {
            dup: false,
            qos: ExactlyOnce,
            retain: false,
            topic: "t",
            packet_id: Some(packet_id),
            properties: Properties::EMPTY,
            payload: &payload,
        };
        Packet::Publish(publish).encode(Version::V5, &mut bytes);
    }
    let now = fleet.now;
    let shard = &mut fleet.shards[home];
    shard.handle_received(now, key, &bytes);
    let _goes_on = shard.poll_lookups(now);
    let letters = shard.poll_letters(ShardId::new(1 - home as u16).expect("the other of two"), 100);
    let is_word = |letter: &Letter| matches!(letter, Letter::LogAtLimit { is_full: true });
    assert!(letters.is_some_and(|letters| letters.iter().any(is_word)));
}

/// Only what would have to be logged there is refused.
#[test]
fn a_full_log_is_no_concern_of_others() {
    for shards in [1, 2] {
        let (mut fleet, publisher) = absent(shards);
        let reader = fleet.connect(Version::V311, "reader", true);
        fleet.subscribe(reader, "#", AtMostOnce);
        fill(&mut fleet, publisher);
        fleet.got(reader);
        fleet.publish(publisher, "other", "x", AtLeastOnce, 60_000);
        fleet.publish(publisher, "t", "x", AtMostOnce, 0);
        fleet.publish(publisher, "t", "x", AtLeastOnce, 60_001);
        assert_eq!(
            fleet.got(publisher),
            [
                Got::Ack(AcknowledgementKind::Puback, 60_000, ReasonCode::Success),
                Got::Ack(AcknowledgementKind::Puback, 60_001, ReasonCode::QuotaExceeded),
            ]
        );
        let delivered = fleet.got(reader).into_iter().filter(|got| matches!(got, Got::Publish { .. })).count();
        assert_eq!(delivered, 2, "{shards} shards");
    }
}

/// A message that was taken before is not refused when it is repeated: its publisher would publish it anew.
#[test]
fn a_repeated_message_is_not_refused() {
    let (mut fleet, publisher) = absent(1);
    let taken = fill(&mut fleet, publisher);
    fleet.drop_connection(publisher);
    let publisher = fleet.connect_v5(&name(1, true), 10);
    fleet.got(publisher);
    fleet.publish_with(publisher, "t", &format!("{taken:01000}"), ExactlyOnce, taken, true, false);
    fleet.publish_with(publisher, "t", "new", ExactlyOnce, taken + 1, true, false);
    assert_eq!(
        fleet.got(publisher),
        [
            Got::Ack(AcknowledgementKind::Pubrec, taken, ReasonCode::Success),
            Got::Ack(AcknowledgementKind::Pubrec, taken + 1, ReasonCode::QuotaExceeded),
        ]
    );
}

/// [3.1.1: MQTT-3.3.5-2]: it has no word for a refusal but the end of the connection.
#[test]
fn an_old_publisher_is_disconnected() {
    let (mut fleet, publisher) = absent(1);
    fill(&mut fleet, publisher);
    let old = fleet.connect(Version::V311, "old", true);
    fleet.got(old);
    fleet.publish(old, "t", "x", ExactlyOnce, 1);
    assert_eq!((fleet.got(old), fleet.commands(old)), (Vec::new(), vec!["finish"]));
}
