//! Full queues, full rings, clients that do not read: every limit is a designed case.

use super::*;
use QoS::{AtMostOnce, ExactlyOnce};

/// [MQTT-3.3.4-7], trap 7: the Receive Maximum is enforced, on 5.0 publishers, and repeats do not count twice.
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

/// A message in flight that the client does not take any more after a resume: it may hold the packet id, which must not stay in
/// its way. PUBREL frees it [MQTT-4.3.3-12], and the message is not sent again.
#[test]
fn a_message_in_flight_that_has_become_too_large_frees_its_id() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 1);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.publish(publisher, "t", &"x".repeat(100), ExactlyOnce, 1);
    fleet.publish(publisher, "t", "small", ExactlyOnce, 2);
    fleet.drop_connection(subscriber);
    let mut properties = PropertyWriter::new();
    properties.push(Property::MaximumPacketSize(50)).push(Property::ReceiveMaximum(1));
    let subscriber = fleet.connect_v5_with("subscriber", properties);
    let pubrel = Got::Ack(AcknowledgementKind::Pubrel, 1, ReasonCode::Success);
    assert_eq!(fleet.got(subscriber)[1..], [pubrel], "it holds the only slot until PUBCOMP");
    assert_eq!(fleet.count(|counters| counters.dropped_too_large), 1);
    fleet.ack_with(subscriber, AcknowledgementKind::Pubcomp, 1, ReasonCode::PacketIdentifierNotFound);
    let got = fleet.got(subscriber);
    assert!(matches!(&got[..], [Got::Publish { payload, id: 2, dup: false, .. }] if payload == "small"), "{got:?}");
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

/// A slow subscriber on the first shard and its publisher, on the same shard or on another one.
fn slow_subscriber(shards: u16) -> (Fleet, Client, Client) {
    let limits = Limits { congestion_messages: 4, max_inflight: 2, ..limits() };
    let mut fleet = Fleet::with_limits(shards, limits);
    let subscriber = fleet.connect_v5("subscriber", 2);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    let name = (0..)
        .map(|number| format!("publisher-{number}"))
        .find(|name| shards == 1 || shard_of(name, shards) != shard_of("subscriber", shards))
        .expect("half of all names do");
    let publisher = fleet.connect(Version::V5, &name, true);
    fleet.got(publisher);
    (fleet, publisher, subscriber)
}

/// Answers everything that is in flight to the subscriber, and counts the messages it has got.
fn complete(fleet: &mut Fleet, subscriber: Client) -> usize {
    let mut messages = 0;
    for got in fleet.got(subscriber) {
        if let Got::Publish { id, .. } = got {
            messages += 1;
            fleet.ack(subscriber, AcknowledgementKind::Pubrec, id);
            fleet.ack(subscriber, AcknowledgementKind::Pubcomp, id);
        }
    }
    messages
}

/// Publishers wait for a subscriber that falls behind, and go on when it has caught up; nothing is dropped.
#[test]
fn publishers_wait_for_a_slow_subscriber() {
    for shards in [1, 2] {
        let (mut fleet, publisher, subscriber) = slow_subscriber(shards);
        for number in 1..=9 {
            fleet.publish(publisher, "t", "x", ExactlyOnce, number);
        }
        // Two are in flight and four in the queue when the word goes out; from another shard the word comes behind its cause.
        let at_once = fleet.got(publisher).len();
        assert_eq!(at_once, if shards == 1 { 5 } else { 6 }, "{shards} shards");
        // What is not a receipt is not held up.
        fleet.send(publisher, &Packet::Pingreq);
        fleet.ack(publisher, AcknowledgementKind::Pubrel, 1);
        assert_eq!(
            fleet.got(publisher),
            [Got::Pingresp, Got::Ack(AcknowledgementKind::Pubcomp, 1, ReasonCode::Success)]
        );
        let mut messages = complete(&mut fleet, subscriber);
        assert_eq!(fleet.got(publisher), [], "five still wait");
        messages += complete(&mut fleet, subscriber);
        assert_eq!(fleet.got(publisher), [], "three still wait");
        messages += complete(&mut fleet, subscriber);
        let receipts = fleet.got(publisher);
        let expected: Vec<_> = (at_once as u16 + 1..=9)
            .map(|number| Got::Ack(AcknowledgementKind::Pubrec, number, ReasonCode::Success))
            .collect();
        assert_eq!(receipts, expected, "in the order of the PUBLISHes");
        while messages < 9 {
            messages += complete(&mut fleet, subscriber);
        }
        assert_eq!(fleet.count(|counters| counters.messages + counters.dropped_queue_full), 0);
    }
}

/// What publishers have in flight when they are held up is in the queue whatever its limit is: they could not know, and it would be
/// lost. That holds for many messages and for large ones.
#[test]
fn a_queue_takes_more_than_its_limit_of_who_is_held_up_for_it() {
    let few = Limits { max_queued_messages: 6, congestion_messages: 3, ..limits() };
    let small = Limits { max_queued_bytes: 600, ..limits() };
    for (limits, payload) in [(few, "x".to_owned()), (small, "x".repeat(100))] {
        for shards in [1, 2] {
            let mut fleet =
                Fleet::with_limits(shards, Limits { stall_timeout: Duration::from_secs(10), ..limits.clone() });
            let subscriber = fleet.connect_v5("subscriber", 1);
            fleet.subscribe(subscriber, "t", ExactlyOnce);
            fleet.got(subscriber);
            let publishers: Vec<Client> =
                (0..4).map(|number| fleet.connect(Version::V5, &format!("publisher-{number}"), true)).collect();
            for number in 1..=10 {
                for publisher in &publishers {
                    fleet.publish(*publisher, "t", &payload, ExactlyOnce, number);
                }
            }
            let mut messages = 0;
            while messages < 40 {
                fleet.pass(Duration::from_secs(2));
                let more = complete(&mut fleet, subscriber);
                assert!(more > 0, "{messages} have come");
                messages += more;
            }
            let receipts: usize = publishers
                .iter()
                .map(|publisher| fleet.got(*publisher).iter().filter(|got| matches!(got, Got::Ack(..))).count())
                .sum();
            assert_eq!(receipts, 40);
            assert_eq!(fleet.count(|counters| counters.messages + counters.dropped_queue_full), 0);
        }
    }
}

/// Trap 42: a subscriber that makes no progress, or goes away, does not hold others up.
#[test]
fn a_stalled_subscriber_lets_its_publishers_go() {
    for shards in [1, 2] {
        for leaves in [false, true] {
            let (mut fleet, publisher, subscriber) = slow_subscriber(shards);
            for number in 1..=9 {
                fleet.publish(publisher, "t", "x", ExactlyOnce, number);
            }
            let at_once = fleet.got(publisher).len();
            if leaves {
                fleet.drop_connection(subscriber);
            } else {
                fleet.pass(Duration::from_secs(11));
            }
            assert_eq!(fleet.got(publisher).len(), 9 - at_once);
            fleet.publish(publisher, "t", "x", ExactlyOnce, 10);
            assert_eq!(fleet.got(publisher).len(), 1, "not held again");
            assert_eq!(fleet.count(|counters| counters.stalled_subscribers), u64::from(!leaves));
        }
    }
}

/// A publisher that goes away while it is held up, and another one with the same key, are not mixed up.
#[test]
fn a_held_publisher_that_reconnects_is_another_one() {
    let (mut fleet, publisher, subscriber) = slow_subscriber(1);
    for number in 1..=7 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, number);
    }
    fleet.drop_connection(publisher);
    let publisher = fleet.connect(Version::V5, "somebody-else", true);
    fleet.got(publisher);
    fleet.publish(publisher, "other", "x", ExactlyOnce, 1);
    assert_eq!(fleet.got(publisher).len(), 1);
    while complete(&mut fleet, subscriber) > 0 {}
    assert_eq!(fleet.count(|counters| counters.messages), 0);
}

/// [MQTT-3.3.4-7] for QoS 1 too.
#[test]
fn receipts_held_back_are_bounded() {
    let (mut fleet, publisher, subscriber) = slow_subscriber(1);
    for number in 1..=15 {
        fleet.publish(publisher, "t", "x", QoS::AtLeastOnce, number);
    }
    assert_eq!(fleet.got(publisher).len(), 5, "ten are held back");
    fleet.publish(publisher, "t", "x", QoS::AtLeastOnce, 16);
    assert_eq!(fleet.got(publisher), [Got::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
    // 3.1.1 knows no Receive Maximum, but its ids are as many.
    let old = fleet.connect(Version::V311, "old", true);
    for number in 1..=u16::MAX {
        fleet.publish(old, "t", "x", QoS::AtLeastOnce, number);
    }
    assert_eq!(fleet.commands(old), [""; 0]);
    fleet.publish(old, "t", "x", QoS::AtLeastOnce, 1);
    assert_eq!(fleet.commands(old), ["finish"]);
    for number in 0..15 + u32::from(u16::MAX) {
        fleet.ack(subscriber, AcknowledgementKind::Puback, (number % u32::from(u16::MAX)) as u16 + 1);
    }
    assert_eq!(fleet.count(|counters| counters.messages), 0);
}

/// A client that is not read from cannot be blamed for its silence.
#[test]
fn a_paused_client_is_not_timed_out() {
    let mut fleet = Fleet::with_limits(2, Limits { max_waiting_letters: 8, ..limits() });
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let on = |shard: usize| names.iter().find(|name| shard_of(name, 2).index() == shard).expect("20 names reach both");
    let publisher = fleet.connect_with(Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive_seconds: 10,
        client_id: on(0),
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    });
    let subscriber = fleet.connect(Version::V311, on(1), true);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.rings_flow = false;
    for number in 1..=10 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, number);
    }
    assert_eq!(fleet.commands(publisher), ["pause"]);
    for _ in 0..5 {
        fleet.pass(Duration::from_secs(10));
    }
    assert!(!fleet.is_closed(publisher));
    fleet.flow();
    assert_eq!(fleet.commands(publisher), ["resume"]);
    fleet.pass(Duration::from_secs(14));
    assert_eq!(fleet.commands(publisher), [""; 0], "its silence counts from the resumption");
    fleet.pass(Duration::from_secs(2));
    assert_eq!(fleet.commands(publisher), ["finish"], "read from again, and silent");
}
