//! The exchanges of QoS 1 and 2, through the shard, undisturbed and resumed.

use super::*;
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn publish(payload: &str, id: u16, dup: bool) -> Got {
    Got::Publish { topic: "t".into(), payload: payload.into(), qos: ExactlyOnce, id, dup, retain: false }
}

/// A publisher and a subscriber of `t` on one shard, or on two where that is possible.
fn pair(shards: u16, version: Version) -> (Fleet, Client, Client) {
    let mut fleet = Fleet::new(shards);
    let publisher = fleet.connect(version, "publisher", true);
    // "subscriber" lands beside "publisher"'s shard when there are two.
    let name = (0..)
        .map(|number| format!("subscriber-{number}"))
        .find(|name| shards == 1 || shard_of(name, shards) != shard_of("publisher", shards))
        .expect("half of all names do");
    let subscriber = match version {
        Version::V311 => fleet.connect(version, &name, false),
        Version::V5 => fleet.connect_v5(&name, 10),
    };
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(publisher);
    let got = fleet.got(subscriber);
    assert_eq!(got, [Got::Connack { session_present: false, reason: ReasonCode::Success }, Got::Suback(vec![2])]);
    (fleet, publisher, subscriber)
}

/// [MQTT-4.3.3-1..11]: all eight packets of the two hops.
#[test]
fn one_message_exactly_once() {
    for (shards, version) in [(1, Version::V311), (1, Version::V5), (2, Version::V311), (2, Version::V5)] {
        let (mut fleet, publisher, subscriber) = pair(shards, version);
        fleet.publish(publisher, "t", "22.5", ExactlyOnce, 7);
        assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, ReasonCode::Success)]);
        assert_eq!(fleet.got(subscriber), [publish("22.5", 1, false)]);
        fleet.ack(subscriber, Pubrec, 1);
        assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, ReasonCode::Success)]);
        fleet.ack(publisher, Pubrel, 7);
        assert_eq!(fleet.got(publisher), [Got::Ack(Pubcomp, 7, ReasonCode::Success)]);
        fleet.ack(subscriber, Pubcomp, 1);
        assert_eq!(fleet.got(subscriber), []);
        assert_eq!(fleet.count(|counters| counters.messages), 0);
        assert_eq!(fleet.count(|counters| counters.inbound_inflight + counters.outbound_inflight), 0);
    }
}

/// Trap 1: PUBLISH resent with DUP is answered and not routed again, before and after a reconnect.
#[test]
fn a_repeated_publish_is_routed_once() {
    for version in BOTH {
        let (mut fleet, _, subscriber) = pair(1, version);
        let publisher = match version {
            Version::V311 => fleet.connect(version, "persistent", false),
            Version::V5 => fleet.connect_v5("persistent", 10),
        };
        fleet.publish(publisher, "t", "once", ExactlyOnce, 7);
        fleet.publish_with(publisher, "t", "once", ExactlyOnce, 7, true, false);
        fleet.drop_connection(publisher);
        let publisher = match version {
            Version::V311 => fleet.connect(version, "persistent", false),
            Version::V5 => fleet.connect_v5("persistent", 10),
        };
        fleet.publish_with(publisher, "t", "once", ExactlyOnce, 7, true, false);
        assert_eq!(
            fleet.got(publisher),
            [
                Got::Connack { session_present: true, reason: ReasonCode::Success },
                Got::Ack(Pubrec, 7, ReasonCode::Success)
            ]
        );
        fleet.ack(publisher, Pubrel, 7);
        assert_eq!(fleet.got(publisher), [Got::Ack(Pubcomp, 7, ReasonCode::Success)]);
        assert_eq!(fleet.got(subscriber), [publish("once", 1, false)]);
        assert_eq!(fleet.count(|counters| counters.duplicates_suppressed), 2);
        // Trap 47: behind PUBCOMP the same id is a new message.
        fleet.publish(publisher, "t", "twice", ExactlyOnce, 7);
        assert_eq!(fleet.got(subscriber), [publish("twice", 2, false)]);
    }
}

/// Trap 4: PUBREL for an unknown id is answered.
#[test]
fn a_pubrel_for_an_unknown_id_gets_its_pubcomp() {
    let mut fleet = Fleet::new(1);
    for (version, reason) in [(Version::V311, ReasonCode::Success), (Version::V5, ReasonCode::PacketIdentifierNotFound)]
    {
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        fleet.ack(client, Pubrel, 99);
        assert_eq!(fleet.got(client), [Got::Ack(Pubcomp, 99, reason)]);
        // And a PUBREC gets a PUBREL, while the ends of old exchanges are ignored.
        fleet.ack(client, Pubrec, 98);
        assert_eq!(fleet.got(client), [Got::Ack(Pubrel, 98, reason)]);
        fleet.ack(client, Pubcomp, 97);
        fleet.ack(client, Puback, 96);
        assert_eq!(fleet.got(client), []);
        assert!(!fleet.is_closed(client));
    }
}

/// Trap 3, rows 3 and 4 of the recovery table: PUBLISH again with DUP before PUBREC, PUBREL and never PUBLISH after it.
#[test]
fn a_resumed_subscriber_gets_publish_or_pubrel_in_the_original_order() {
    for version in BOTH {
        let (mut fleet, publisher, subscriber) = pair(1, version);
        for number in 1..=3 {
            fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, number);
        }
        fleet.ack(subscriber, Pubrec, 2);
        fleet.got(subscriber);
        fleet.drop_connection(subscriber);
        fleet.publish(publisher, "t", "4", ExactlyOnce, 4);
        let subscriber = match version {
            Version::V311 => fleet.connect(version, "subscriber-0", false),
            Version::V5 => fleet.connect_v5("subscriber-0", 10),
        };
        assert_eq!(
            fleet.got(subscriber),
            [
                Got::Connack { session_present: true, reason: ReasonCode::Success },
                publish("1", 1, true),
                Got::Ack(Pubrel, 2, ReasonCode::Success),
                publish("3", 3, true),
                publish("4", 4, false),
            ]
        );
    }
}

/// Trap 14: the client's Receive Maximum counts resends too, and a PUBREL passes a full window (trap 6).
#[test]
fn the_receive_maximum_of_the_client_is_kept() {
    let (mut fleet, publisher, subscriber) = pair(1, Version::V5);
    for number in 1..=4 {
        fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, number);
    }
    fleet.ack(subscriber, Pubrec, 3);
    fleet.drop_connection(subscriber);
    let subscriber = fleet.connect_v5("subscriber-0", 1);
    assert_eq!(
        fleet.got(subscriber)[1..],
        [Got::Ack(Pubrel, 3, ReasonCode::Success)],
        "the exchange that goes on holds the only slot"
    );
    fleet.ack(subscriber, Pubcomp, 3);
    assert_eq!(fleet.got(subscriber), [publish("1", 1, true)]);
    fleet.ack(subscriber, Pubrec, 1);
    fleet.ack(subscriber, Pubcomp, 1);
    assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, ReasonCode::Success), publish("2", 2, true)]);
}

/// Trap 5: a PUBREC with an error ends the exchange and frees its slot.
#[test]
fn a_refused_message_is_not_released() {
    let (mut fleet, publisher, subscriber) = pair(1, Version::V5);
    fleet.publish(publisher, "t", "no", ExactlyOnce, 1);
    fleet.got(subscriber);
    fleet.ack_with(subscriber, Pubrec, 1, ReasonCode::QuotaExceeded);
    assert_eq!(fleet.got(subscriber), []);
    assert_eq!(fleet.count(|counters| counters.outbound_inflight + counters.messages), 0);
}

/// Trap 12: an acknowledgement that does not fit ends only its own connection.
#[test]
fn an_acknowledgement_of_another_kind_is_a_protocol_error() {
    let (mut fleet, publisher, subscriber) = pair(1, Version::V5);
    fleet.publish(publisher, "t", "a", ExactlyOnce, 1);
    fleet.got(subscriber);
    fleet.ack(subscriber, Puback, 1);
    assert_eq!(fleet.got(subscriber), [Got::Disconnect(ReasonCode::ProtocolError)]);
    assert_eq!(fleet.count(|counters| counters.outbound_inflight), 1, "the exchange is still open for a resume");
}

/// Traps 10 and 15: the lower QoS rules, DUP is not passed on, and overlapping subscriptions yield one copy.
#[test]
fn each_subscriber_gets_one_copy_at_the_lower_qos() {
    let mut fleet = Fleet::new(2);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let names: Vec<String> = (0..6).map(|number| format!("s{number}")).collect();
    let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce];
    let subscribers: Vec<Client> = names.iter().map(|name| fleet.connect(Version::V311, name, true)).collect();
    for (index, &subscriber) in subscribers.iter().enumerate() {
        fleet.subscribe(subscriber, "t/+", qos[index % 3]);
        if index >= 3 {
            fleet.subscribe(subscriber, "t/#", ExactlyOnce);
        }
        fleet.got(subscriber);
    }
    fleet.publish_with(publisher, "t/1", "x", AtLeastOnce, 1, true, true);
    for (index, &subscriber) in subscribers.iter().enumerate() {
        let expected = if index >= 3 { AtLeastOnce } else { AtLeastOnce.min(qos[index % 3]) };
        let got = fleet.got(subscriber);
        let [Got::Publish { qos, dup: false, retain: false, .. }] = got[..] else { panic!("{index}: {got:?}") };
        assert_eq!(qos, expected, "subscriber {index}");
    }
}

/// Trap 40: packets pipelined behind CONNECT are answered behind CONNACK, in order.
#[test]
fn early_bytes_are_answered_behind_connack() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect(Version::V5, "client", true);
    let mut bytes = Vec::new();
    Packet::Pingreq.encode(Version::V5, &mut bytes);
    encode_subscribe(
        &mut bytes,
        Version::V5,
        id(1),
        Properties::EMPTY,
        std::iter::once(("t", SubscriptionOptions::from_qos(AtMostOnce))),
    );
    Packet::Pingreq.encode(Version::V5, &mut bytes);
    for byte in bytes {
        fleet.send_bytes(client, &[byte]);
    }
    assert_eq!(
        fleet.got(client),
        [
            Got::Connack { session_present: false, reason: ReasonCode::Success },
            Got::Pingresp,
            Got::Suback(vec![0]),
            Got::Pingresp
        ]
    );
}

/// Property forwarding: traps 33 and 35.
#[test]
fn properties_are_forwarded_in_order_and_the_expiry_shrinks() {
    let mut fleet = Fleet::new(2);
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.disconnect(subscriber);
    let publisher = fleet.connect(Version::V5, "publisher", true);
    let mut properties = PropertyWriter::new();
    let pair = |name, value| Property::UserProperty(crate::proto::StringPair { name, value });
    properties
        .push(pair("b", "1"))
        .push(Property::MessageExpiryInterval(30))
        .push(pair("a", "2"))
        .push(pair("b", "3"))
        .push(Property::CorrelationData(&[0, 255]));
    for (payload, packet_id) in [("kept", 1), ("expires", 2)] {
        if packet_id == 2 {
            properties = PropertyWriter::new();
            properties.push(Property::MessageExpiryInterval(3));
        }
        fleet.send(
            publisher,
            &Packet::Publish(Publish {
                dup: false,
                qos: ExactlyOnce,
                retain: false,
                topic: "t",
                packet_id: PacketId::new(packet_id),
                properties: properties.properties(),
                payload: payload.as_bytes(),
            }),
        );
    }
    fleet.pass(Duration::from_secs(10));
    let subscriber = fleet.connect_v5("subscriber", 10);
    let bytes = fleet.received(subscriber);
    let connack = crate::proto::frame_length(&bytes, u32::MAX).expect("legal").expect("whole");
    let Ok(Packet::Publish(publish)) = decode(Version::V5, &bytes[connack..]) else { panic!("one PUBLISH only") };
    assert_eq!(publish.payload, b"kept");
    let properties: Vec<_> = publish.properties.iter().collect();
    assert_eq!(
        properties,
        [
            Property::MessageExpiryInterval(20),
            pair("b", "1"),
            pair("a", "2"),
            pair("b", "3"),
            Property::CorrelationData(&[0, 255]),
        ]
    );
    assert_eq!(fleet.count(|counters| counters.dropped_expired), 1);
}

/// Each subscriber of a fan-out gets the packet that is his: of his version, with the QoS and RETAIN of his subscription, under
/// his own packet id, and never that of another message.
#[test]
fn copies_of_one_message_differ_in_what_is_the_subscribers_own() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let mut subscribers = Vec::new();
    for number in 0..24u16 {
        let version = if number % 3 == 0 { Version::V5 } else { Version::V311 };
        let subscriber = fleet.connect(version, &format!("subscriber-{number}"), true);
        let qos = [ExactlyOnce, ExactlyOnce, ExactlyOnce, AtLeastOnce, AtMostOnce][usize::from(number) % 5];
        let retain_as_published = version == Version::V5 && number % 2 == 0;
        fleet.subscribe_with(
            subscriber,
            "t/#",
            SubscriptionOptions { retain_as_published, ..SubscriptionOptions::from_qos(qos) },
        );
        // So that his ids are his own.
        for before in 0..number % 4 {
            fleet.subscribe(subscriber, "alone", ExactlyOnce);
            fleet.publish(publisher, "alone", "before", ExactlyOnce, 100 + 10 * number + before);
            fleet.unsubscribe(subscriber, "alone");
        }
        fleet.got(subscriber);
        subscribers.push((subscriber, qos, retain_as_published, number % 4));
    }
    let long = "x".repeat(10_000);
    let mut sent = 0;
    for (topic, payload, retain) in
        [("t/1", "first", false), ("t/22", "second", true), ("t", &long, false), ("t", "", false)]
    {
        sent += 1;
        fleet.publish_with(publisher, topic, payload, ExactlyOnce, sent, false, retain);
        for &(subscriber, qos, retain_as_published, before) in &subscribers {
            let expected = Got::Publish {
                topic: topic.to_owned(),
                payload: payload.to_owned(),
                qos,
                id: if qos == AtMostOnce { 0 } else { before + sent },
                dup: false,
                retain: retain && retain_as_published,
            };
            assert_eq!(fleet.got(subscriber), [expected], "{subscriber:?}");
        }
    }
}
