//! Full queues, full rings, clients that do not read: every limit is a designed case.

use super::*;
use QoS::{AtMostOnce, ExactlyOnce};

/// [MQTT-3.3.4-9], trap 7: the Receive Maximum is enforced, on 5.0 publishers, and repeats do not count twice.
#[test]
fn a_publisher_may_not_exceed_the_receive_maximum() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V5, "publisher", true);
    fleet.got(publisher);
    for number in 1..=10 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, number);
    }
    fleet.publish_with(publisher, "t", "x", ExactlyOnce, 10, true, false);
    assert_eq!(fleet.got(publisher).len(), 11);
    fleet.publish(publisher, "t", "x", ExactlyOnce, 11);
    assert_eq!(fleet.got(publisher), [Got::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
    let publisher = fleet.connect(Version::V311, "old", true);
    for number in 1..=500 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, number);
    }
    assert_eq!(fleet.got(publisher).len(), 501, "3.1.1 knows no Receive Maximum");
}

/// A full queue drops the newest message, counted; what was accepted before stays.
#[test]
fn a_full_queue_drops_the_newest() {
    let mut fleet = Fleet::with_limits(1, Limits { max_queued_messages: 3, ..limits() });
    let subscriber = fleet.connect(Version::V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.disconnect(subscriber);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    for number in 1..=5 {
        fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, number);
    }
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 2);
    assert_eq!(fleet.count(|counters| counters.messages), 3);
    let subscriber = fleet.connect(Version::V311, "subscriber", false);
    let payloads: Vec<_> = fleet.got(subscriber)[1..]
        .iter()
        .map(|got| match got {
            Got::Publish { payload, .. } => payload.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, ["1", "2", "3"]);
}

/// Trap 42: what waits for a client that does not read is bounded, and it is not read from either.
#[test]
fn a_client_that_does_not_read_is_held_back() {
    let mut fleet = Fleet::with_limits(1, Limits { max_output_bytes: 2000, max_inflight: 1000, ..limits() });
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.subscribe(subscriber, "t/#", ExactlyOnce);
    fleet.got(subscriber);
    fleet.stall(subscriber);
    let payload = "x".repeat(100);
    for number in 1..=100 {
        fleet.publish(publisher, "t/2", &payload, ExactlyOnce, number);
        fleet.publish(publisher, "t/0", &payload, AtMostOnce, 0);
    }
    let counters = fleet.shards[0].counters();
    assert!(counters.outbound_inflight < 30, "{counters}");
    assert_eq!(counters.queued + counters.outbound_inflight, 100);
    assert!(counters.dropped_slow_subscriber > 50, "{counters}");
    for _ in 0..500 {
        fleet.send(subscriber, &Packet::Pingreq);
    }
    assert_eq!(fleet.commands(subscriber), ["pause"]);
    fleet.unstall(subscriber);
    assert_eq!(fleet.commands(subscriber), ["resume"]);
    let messages = fleet.got(subscriber).into_iter().filter(|got| matches!(got, Got::Publish { id: 1.., .. })).count();
    assert_eq!(messages, 100, "nothing of QoS 2 is lost");
}

/// A full ring pauses its sources, loses no QoS 2 message and lets them go on.
#[test]
fn a_full_ring_pauses_its_sources() {
    let mut fleet = Fleet::with_limits(2, Limits { max_waiting_letters: 8, max_inflight: 1000, ..limits() });
    let names = ["a", "b", "c", "d", "e", "f"];
    let here = names[0];
    let there =
        names.into_iter().find(|name| shard_of(name, 2) != shard_of(here, 2)).expect("one of the names hashes apart");
    let publisher = fleet.connect(Version::V311, here, true);
    let subscriber = fleet.connect(Version::V311, there, true);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    for number in 1..=20 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, number);
        fleet.publish(publisher, "t", "x", AtMostOnce, 0);
    }
    assert_eq!(fleet.commands(publisher), ["pause"]);
    assert_eq!(fleet.count(|counters| counters.waiting_letters), 24, "4 of QoS 0 before it was full, 20 of QoS 2");
    assert_eq!(fleet.count(|counters| counters.dropped_ring_full), 16);
    fleet.flow();
    assert_eq!(fleet.commands(publisher), ["resume"]);
    let messages = fleet.got(subscriber).into_iter().filter(|got| matches!(got, Got::Publish { id: 1.., .. })).count();
    assert_eq!(messages, 20);
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25], traps 31 and 46: too large for the client is as if sent, and costs no slot.
#[test]
fn a_message_too_large_for_the_client_is_skipped() {
    let mut fleet = Fleet::new(1);
    let mut properties = PropertyWriter::new();
    properties.push(Property::MaximumPacketSize(50)).push(Property::ReceiveMaximum(1));
    let subscriber = fleet.connect_with(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id: "subscriber",
        will: None,
        username: None,
        password: None,
        properties: properties.properties(),
    });
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.publish(publisher, "t", &"x".repeat(100), ExactlyOnce, 1);
    fleet.publish(publisher, "t", "small", ExactlyOnce, 2);
    fleet.publish(publisher, "t", &"y".repeat(100), ExactlyOnce, 3);
    fleet.publish(publisher, "t", "small too", ExactlyOnce, 4);
    let got = fleet.got(subscriber);
    let [Got::Publish { ref payload, id, .. }] = got[..] else { panic!("{got:?}") };
    assert_eq!(payload, "small");
    fleet.ack(subscriber, AcknowledgementKind::Pubrec, id);
    fleet.ack(subscriber, AcknowledgementKind::Pubcomp, id);
    let got = fleet.got(subscriber);
    assert!(matches!(&got[1..], [Got::Publish { payload, .. }] if payload == "small too"), "{got:?}");
    assert_eq!(fleet.count(|counters| counters.dropped_too_large), 2);
    assert_eq!(fleet.count(|counters| counters.messages), 1);
}

/// A payload above the threshold of sending by reference arrives whole, with what surrounds it.
#[test]
fn large_payloads_arrive_whole() {
    let mut fleet = Fleet::new(2);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscribers = ["a", "b", "c", "d"].map(|name| fleet.connect(Version::V5, name, true));
    for subscriber in subscribers {
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.got(subscriber);
    }
    let payload = "0123456789abcdef".repeat(6000);
    fleet.publish(publisher, "t", &payload, ExactlyOnce, 1);
    fleet.publish(publisher, "t", "small", ExactlyOnce, 2);
    for subscriber in subscribers {
        let got = fleet.got(subscriber);
        let [Got::Publish { payload: ref large, .. }, Got::Publish { payload: ref small, .. }] = got[..] else {
            panic!("two messages")
        };
        assert!(*large == payload && small == "small");
    }
}
