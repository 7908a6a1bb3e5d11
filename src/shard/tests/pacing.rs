//! Publishers that are faster than they may be wait, and lose nothing.

use std::num::{NonZeroU32, NonZeroU64};

use super::*;
use QoS::{AtMostOnce, ExactlyOnce};

const SECOND: Duration = Duration::from_secs(1);
/// Timers fire within a tick of 64 ms.
const TICK: Duration = Duration::from_millis(64);

fn paced(messages: u32, bytes: u64) -> Limits {
    Limits {
        max_publish_rate: NonZeroU32::new(messages),
        max_publish_bytes_rate: NonZeroU64::new(bytes),
        receive_maximum: 65_535,
        ..limits()
    }
}

fn publisher(fleet: &mut Fleet, version: Version) -> Client {
    let client = fleet.connect(version, "publisher", true);
    fleet.got(client);
    client
}

/// Lets time pass, tick by tick, until the client is told that it is read again.
fn until_resumed(fleet: &mut Fleet, client: Client) -> Duration {
    let begin = fleet.now;
    while fleet.commands(client) != ["resume"] {
        fleet.pass(TICK);
        assert!(fleet.now.since(begin) < SECOND * 100, "it is never read again");
    }
    fleet.now.since(begin)
}

#[test]
fn who_keeps_to_the_rate_is_read_all_the_time() {
    let mut fleet = Fleet::with_limits(1, paced(10, 1000));
    let client = publisher(&mut fleet, Version::V5);
    for id in 1..=500 {
        fleet.publish(client, "t", &"x".repeat(90), ExactlyOnce, id);
        fleet.pass(SECOND / 10);
    }
    assert_eq!(fleet.commands(client), [""; 0]);
    assert_eq!(fleet.count(|counters| counters.paced_publishers), 0);
}

#[test]
fn who_publishes_faster_waits_and_loses_nothing() {
    for version in [Version::V311, Version::V5] {
        let mut fleet = Fleet::with_limits(1, paced(10, 0));
        let client = publisher(&mut fleet, version);
        // A second's worth at once is allowed.
        for id in 1..=10 {
            fleet.publish(client, "t", "x", ExactlyOnce, id);
        }
        assert_eq!(fleet.commands(client), [""; 0]);
        // What was on its way already is served, too.
        for id in 11..=30 {
            fleet.publish(client, "t", "x", ExactlyOnce, id);
        }
        assert_eq!(fleet.commands(client), ["pause"]);
        assert_eq!(fleet.got(client).len(), 30, "each has its PUBREC");
        let waited = until_resumed(&mut fleet, client);
        assert!(waited >= SECOND * 2 && waited <= SECOND * 2 + TICK * 2, "{waited:?} for twenty messages");
        assert_eq!(fleet.count(|counters| counters.paced_publishers), 1);
        // It has nothing saved up.
        fleet.pass(SECOND / 10 - TICK);
        fleet.publish(client, "t", "x", AtMostOnce, 0);
        fleet.publish(client, "t", "x", AtMostOnce, 0);
        assert_eq!(fleet.commands(client), ["pause"]);
    }
}

#[test]
fn bytes_have_a_rate_of_their_own() {
    let mut fleet = Fleet::with_limits(1, paced(1000, 1000));
    let client = publisher(&mut fleet, Version::V5);
    fleet.publish(client, "t", &"x".repeat(900), AtMostOnce, 0);
    assert_eq!(fleet.commands(client), [""; 0]);
    fleet.publish(client, "t", &"x".repeat(900), AtMostOnce, 0);
    assert_eq!(fleet.commands(client), ["pause"]);
    let waited = until_resumed(&mut fleet, client);
    assert!(waited >= SECOND * 8 / 10 && waited <= SECOND, "{waited:?} for 800 bytes more than a second's");
}

#[test]
fn what_waits_too_long_already_waits_no_longer_for_more() {
    let mut fleet = Fleet::with_limits(1, paced(0, 1));
    let client = publisher(&mut fleet, Version::V5);
    fleet.publish(client, "t", &"x".repeat(100_000), AtMostOnce, 0);
    fleet.publish(client, "t", &"x".repeat(100_000), AtMostOnce, 0);
    let waited = until_resumed(&mut fleet, client);
    assert!(waited >= SECOND * 60 && waited <= SECOND * 61, "{waited:?}, which is the bound");
}

#[test]
fn the_end_of_one_that_waits_is_seen() {
    let mut fleet = Fleet::with_limits(1, paced(1, 0));
    let client = publisher(&mut fleet, Version::V5);
    fleet.publish(client, "t", "x", AtMostOnce, 0);
    fleet.publish(client, "t", "x", AtMostOnce, 0);
    assert_eq!(fleet.commands(client), ["pause"]);
    // It had been received before reading could stop.
    fleet.disconnect(client);
    assert_eq!(fleet.commands(client), ["resume", "close"]);
    // Its timer fires into nothing, also once somebody else is in its place.
    let next = publisher(&mut fleet, Version::V5);
    fleet.pass(SECOND * 2);
    assert_eq!(fleet.commands(next), [""; 0]);
}

/// A client that is not read from cannot be blamed for its silence [MQTT-3.1.2-22].
#[test]
fn who_waits_is_not_timed_out() {
    let mut fleet = Fleet::with_limits(1, paced(0, 10));
    let client =
        fleet.connect_with(Connect { keep_alive_seconds: 2, ..connect(Version::V5, "publisher", Properties::EMPTY) });
    fleet.got(client);
    fleet.publish(client, "t", &"x".repeat(300), AtMostOnce, 0);
    assert_eq!(fleet.commands(client), ["pause"]);
    assert!(until_resumed(&mut fleet, client) > SECOND * 25);
    assert_eq!(fleet.got(client), [], "and no DISCONNECT");
}
