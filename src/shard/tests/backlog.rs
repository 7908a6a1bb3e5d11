//! Queues of which the end is only in the log.

use super::*;
use AcknowledgementKind::{Pubcomp, Pubrec, Pubrel};
use QoS::ExactlyOnce;
use Version::V311;

const SUCCESS: ReasonCode = ReasonCode::Success;

/// No memory for queues: beyond the few that every session may keep, everything goes away.
fn no_memory() -> Limits {
    Limits { queue_memory_bytes: 0, max_queued_messages: 100_000, ..limits() }
}

/// A publisher, and the name of a subscriber of `t` that is away.
fn absent_subscriber(fleet: &mut Fleet) -> Client {
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.drop_connection(subscriber);
    fleet.got(publisher);
    publisher
}

fn publish(fleet: &mut Fleet, publisher: Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let id = (number % 60_000) as u16 + 1;
        fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, id);
        fleet.ack(publisher, Pubrel, id);
    }
    fleet.got(publisher);
}

/// Completes what comes, until so many messages have come or nothing does any more; their numbers, each as often as it came
/// without DUP.
fn take(fleet: &mut Fleet, subscriber: Client, count: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let got = fleet.got(subscriber);
        if got.is_empty() {
            break;
        }
        for packet in got {
            match packet {
                Got::Publish { payload, id, dup, .. } => {
                    if !dup {
                        taken.push(payload.parse().expect("a number"));
                    }
                    fleet.ack(subscriber, Pubrec, id);
                }
                Got::Ack(Pubrel, id, _) => fleet.ack(subscriber, Pubcomp, id),
                other => assert!(matches!(other, Got::Connack { session_present: true, reason: SUCCESS }), "{other:?}"),
            }
        }
    }
    taken
}

fn away(fleet: &Fleet) -> u64 {
    fleet.shards.iter().map(|shard| shard.clients.backlogs.size().0).sum()
}

/// Nothing is left of anything.
fn assert_at_rest(fleet: &Fleet) {
    assert_eq!(fleet.count(|counters| counters.messages + counters.queued + counters.outbound_inflight), 0);
    for shard in &fleet.shards {
        assert!(shard.clients.backlogs.is_empty() && shard.clients.backlogs.size() == (0, 0));
        assert_eq!((shard.clients.messages.references(), shard.clients.messages.logged_bytes()), (0, 0));
    }
}

#[test]
fn a_queue_keeps_its_order_in_flight_in_memory_and_away() {
    for shards in [1, 2] {
        let mut fleet = Fleet::durable_with_limits(shards, no_memory());
        let publisher = absent_subscriber(&mut fleet);
        publish(&mut fleet, publisher, 0..1_000);
        assert!(away(&fleet) >= 900, "{}", away(&fleet));
        assert!(fleet.count(|counters| counters.messages) < 100, "what is away is not in memory");
        let subscriber = fleet.connect(V311, "subscriber", false);
        let mut taken = take(&mut fleet, subscriber, 300);
        // Messages that come while others are away go behind them.
        publish(&mut fleet, publisher, 1_000..1_100);
        taken.extend(take(&mut fleet, subscriber, usize::MAX));
        assert!(taken.iter().copied().eq(0..1_100), "{taken:?}");
        assert_at_rest(&fleet);
        publish(&mut fleet, publisher, 1_100..1_101);
        assert_eq!(take(&mut fleet, subscriber, 1), [1_100]);
    }
}

#[test]
fn a_client_that_keeps_up_never_waits_for_the_disk() {
    let mut fleet = Fleet::durable_with_limits(1, no_memory());
    let publisher = absent_subscriber(&mut fleet);
    let subscriber = fleet.connect(V311, "subscriber", false);
    for number in 0..500 {
        publish(&mut fleet, publisher, number..number + 1);
        assert_eq!(take(&mut fleet, subscriber, 1), [number]);
    }
    assert_eq!(fleet.disks[0].read_bytes, 0);
}

#[test]
fn a_restart_in_the_middle_of_a_drain_goes_on_there() {
    for stop in [0, 1, 9, 63, 64, 65, 200, 777, 999] {
        let mut fleet = Fleet::durable_with_limits(1, no_memory());
        let publisher = absent_subscriber(&mut fleet);
        publish(&mut fleet, publisher, 0..1_000);
        let subscriber = fleet.connect(V311, "subscriber", false);
        let mut taken = if stop > 0 { take(&mut fleet, subscriber, stop) } else { Vec::new() };
        fleet.pass(Duration::from_secs(1));
        // What has come and was not looked at comes again, with DUP.
        for packet in fleet.got(subscriber) {
            if let Got::Publish { payload, dup: false, .. } = packet {
                taken.push(payload.parse().expect("a number"));
            }
        }
        fleet.crash(Duration::from_secs(1));
        assert!(fleet.count(|counters| counters.messages) < 400, "what is away stays away");
        let subscriber = fleet.connect(V311, "subscriber", false);
        taken.extend(take_all(&mut fleet, subscriber));
        taken.sort_unstable();
        taken.dedup();
        assert!(taken.iter().copied().eq(0..1_000), "stopped at {stop}: {taken:?}");
        assert_at_rest(&fleet);
    }
}

/// As [`take`], with what comes with DUP, in order.
fn take_all(fleet: &mut Fleet, subscriber: Client) -> Vec<u32> {
    let mut taken: Vec<u32> = Vec::new();
    loop {
        let got = fleet.got(subscriber);
        if got.is_empty() {
            assert!(taken.is_sorted(), "{taken:?}");
            return taken;
        }
        for packet in got {
            match packet {
                Got::Publish { payload, id, .. } => {
                    taken.push(payload.parse().expect("a number"));
                    fleet.ack(subscriber, Pubrec, id);
                }
                Got::Ack(Pubrel, id, _) => fleet.ack(subscriber, Pubcomp, id),
                Got::Connack { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A checkpoint moves what is away, also while it is being delivered, and lets old segments go.
#[test]
fn a_checkpoint_moves_what_is_away() {
    let mut fleet = Fleet::durable_with_limits(1, no_memory());
    let publisher = absent_subscriber(&mut fleet);
    publish(&mut fleet, publisher, 0..2_000);
    let payload = "x".repeat(2_000);
    let churn = |fleet: &mut Fleet| {
        for id in 1..=600 {
            let topic = format!("kept/{}", id % 3);
            fleet.publish_with(publisher, &topic, &payload, QoS::AtLeastOnce, id, false, true);
            fleet.got(publisher);
        }
    };
    churn(&mut fleet);
    let removed = fleet.disks[0].removed;
    assert!(removed > 0, "the log was cleaned");
    publish(&mut fleet, publisher, 2_000..3_000);
    churn(&mut fleet);
    assert!(fleet.disks[0].removed > removed, "and again");
    fleet.crash(Duration::ZERO);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.got(publisher);
    let mut taken = take(&mut fleet, subscriber, 1_000);
    for round in 0..40 {
        for id in 1..=20 {
            let topic = format!("kept/{}", id % 3);
            fleet.publish_with(publisher, &topic, &payload, QoS::AtLeastOnce, id, false, true);
            fleet.got(publisher);
        }
        if round == 20 {
            fleet.crash(Duration::ZERO);
            return drained_after(fleet, taken);
        }
        taken.extend(take(&mut fleet, subscriber, 20));
    }
}

fn drained_after(mut fleet: Fleet, mut taken: Vec<u32>) {
    let subscriber = fleet.connect(V311, "subscriber", false);
    taken.extend(take_all(&mut fleet, subscriber));
    taken.sort_unstable();
    taken.dedup();
    assert!(taken.iter().copied().eq(0..3_000), "{taken:?}");
}

/// Trap 33: an expired message is not started, and its number is used up.
#[test]
fn a_message_that_expires_while_it_is_away_is_not_started() {
    let mut fleet = Fleet::durable_with_limits(1, no_memory());
    absent_subscriber(&mut fleet);
    let publisher = fleet.connect_v5_transient("other");
    fleet.got(publisher);
    for number in 0..500_u16 {
        let mut properties = PropertyWriter::new();
        if number % 2 == 0 {
            properties.push(Property::MessageExpiryInterval(10));
        }
        let (payload, packet_id) = (number.to_string(), PacketId::new(number + 1));
        fleet.send(
            publisher,
            &Packet::Publish(Publish {
                dup: false,
                qos: ExactlyOnce,
                retain: false,
                topic: "t",
                packet_id,
                properties: properties.properties(),
                payload: payload.as_bytes(),
            }),
        );
        fleet.ack(publisher, Pubrel, number + 1);
        fleet.got(publisher);
    }
    fleet.pass(Duration::from_secs(11));
    let subscriber = fleet.connect(V311, "subscriber", false);
    let taken = take(&mut fleet, subscriber, usize::MAX);
    assert!(taken.iter().copied().eq((0..500).filter(|number| number % 2 == 1)), "{taken:?}");
    assert_eq!(fleet.count(|counters| counters.dropped_expired), 250);
    assert_at_rest(&fleet);
}

#[test]
fn the_end_of_a_session_frees_what_is_away() {
    let mut fleet = Fleet::durable_with_limits(1, no_memory());
    let publisher = absent_subscriber(&mut fleet);
    publish(&mut fleet, publisher, 0..500);
    let subscriber = fleet.connect(V311, "subscriber", true);
    assert_at_rest(&fleet);
    // The next session has the same key in the log, and the same numbers.
    fleet.got(subscriber);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.drop_connection(subscriber);
    publish(&mut fleet, publisher, 1_000..1_500);
    fleet.crash(Duration::ZERO);
    let subscriber = fleet.connect(V311, "subscriber", false);
    let taken = take(&mut fleet, subscriber, usize::MAX);
    assert!(taken.iter().copied().eq(1_000..1_500), "{taken:?}");
}

/// Sessions that wait for the same messages come back in one pass over the log.
#[test]
fn what_is_read_for_one_is_there_for_all() {
    let mut fleet = Fleet::durable_with_limits(1, Limits { queue_memory_bytes: 200_000, ..no_memory() });
    let publisher = fleet.connect(V311, "publisher", true);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let subscriber = fleet.connect(V311, name, false);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.drop_connection(subscriber);
    }
    fleet.got(publisher);
    publish(&mut fleet, publisher, 0..2_000);
    assert!(away(&fleet) > 5_000);
    let subscribers = names.map(|name| fleet.connect(V311, name, false));
    let mut taken: [Vec<u32>; 5] = Default::default();
    for _ in 0..3_000 {
        for (subscriber, taken) in subscribers.into_iter().zip(&mut taken) {
            taken.extend(take(&mut fleet, subscriber, 1));
        }
    }
    for taken in taken {
        assert!(taken.iter().copied().eq(0..2_000), "{taken:?}");
    }
    assert_at_rest(&fleet);
}

#[test]
fn a_batch_that_has_changed_fails_the_log() {
    let mut fleet = Fleet::durable_with_limits(1, no_memory());
    let publisher = absent_subscriber(&mut fleet);
    publish(&mut fleet, publisher, 0..500);
    fleet.disks[0].damage();
    let subscriber = fleet.connect(V311, "subscriber", false);
    let taken = take(&mut fleet, subscriber, usize::MAX);
    assert!(taken.iter().copied().eq(0..taken.len() as u32), "nothing is skipped: {taken:?}");
    assert_eq!((fleet.damaged, fleet.commands(subscriber).last()), (1, Some(&"finish")));
}
