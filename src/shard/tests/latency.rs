//! How long messages take: what counts, and what does not.

use super::*;
use AcknowledgementKind::{Pubcomp, Pubrec};
use QoS::{AtMostOnce, ExactlyOnce};
use Version::V311;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Between two samples, even of a broker that has nothing else to do.
const PAUSE: Duration = Duration::from_millis(200);

/// Ends the turn of all shards; what their latencies are by then, all together.
fn end_turn(fleet: &mut Fleet) -> (u64, Duration) {
    let now = fleet.now;
    fleet.shards.iter_mut().for_each(|shard| shard.end_turn(now));
    let latencies = fleet.shards.iter().map(|shard| shard.report(&Census::default()).latencies);
    latencies.fold((0, Duration::ZERO), |(count, sum), of_shard| (count + of_shard.count(), sum + of_shard.sum()))
}

#[test]
fn the_time_to_the_end_of_the_turn_counts_for_every_subscriber() {
    for (shards, qos) in [(1, AtMostOnce), (1, ExactlyOnce), (2, ExactlyOnce)] {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        for number in 0..5 {
            let subscriber = fleet.connect(V311, &format!("subscriber-{number}"), true);
            fleet.subscribe(subscriber, "t", qos);
        }
        fleet.publish(publisher, "t", "x", qos, if qos == AtMostOnce { 0 } else { 1 });
        fleet.now = fleet.now + MILLISECOND;
        assert_eq!(end_turn(&mut fleet), (5, 5 * MILLISECOND), "{shards} {qos:?}");
        fleet.publish(publisher, "nobody/listens", "x", AtMostOnce, 0);
        assert_eq!(end_turn(&mut fleet).0, 5);
    }
}

#[test]
fn the_log_and_the_window_are_waited_for() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect_v5("subscriber", 1);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.logs_flow = false;
    fleet.publish(publisher, "t", "x", ExactlyOnce, 1);
    fleet.pass(3 * MILLISECOND);
    assert_eq!(end_turn(&mut fleet).0, 0, "nothing is stable");
    fleet.sync();
    assert_eq!(end_turn(&mut fleet), (1, 3 * MILLISECOND));
    fleet.logs_flow = true;
    fleet.pass(PAUSE);
    fleet.publish(publisher, "t", "y", ExactlyOnce, 2);
    fleet.pass(5 * MILLISECOND);
    assert_eq!(end_turn(&mut fleet).0, 1, "the window is full");
    fleet.ack(subscriber, Pubrec, 1);
    fleet.ack(subscriber, Pubcomp, 1);
    assert_eq!(end_turn(&mut fleet), (2, 8 * MILLISECOND));
}

#[test]
fn who_was_away_and_what_is_sent_again_do_not_count() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect_v5("subscriber", 1);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.publish(publisher, "t", "sent", ExactlyOnce, 1);
    assert_eq!(end_turn(&mut fleet).0, 1);
    fleet.pass(PAUSE);
    fleet.publish(publisher, "t", "queued", ExactlyOnce, 2);
    fleet.drop_connection(subscriber);
    fleet.pass(PAUSE);
    fleet.publish(publisher, "t", "behind its back", ExactlyOnce, 3);
    let subscriber = fleet.connect_v5("subscriber", 10);
    let got = fleet.got(subscriber);
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Publish { .. })).count(), 3);
    assert_eq!(end_turn(&mut fleet).0, 1);
    fleet.pass(PAUSE);
    fleet.publish(publisher, "t", "live", ExactlyOnce, 4);
    assert_eq!(end_turn(&mut fleet).0, 2);
}

#[test]
fn a_connection_that_ends_takes_its_samples_along() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.logs_flow = false;
    fleet.publish(publisher, "t", "x", ExactlyOnce, 1);
    fleet.drop_connection(subscriber);
    // It may have the key of the one before.
    let _successor = fleet.connect(V311, "successor", true);
    fleet.sync();
    assert_eq!(end_turn(&mut fleet).0, 0);
}
