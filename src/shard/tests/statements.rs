//! What the standards demand of a server and no other test of the shard shows by itself: a statement or a few per test. The
//! tables in `tests/spec` say which test proves what.
//!
//! Numbers are those of 5.0; where 3.1.1 says the same, its table names the same test.

use super::*;
use crate::proto::{PropertyIdentifier, StringPair, frame_length};
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const SUCCESS: ReasonCode = ReasonCode::Success;

fn will(retain: bool, properties: Properties<'_>) -> Option<Will<'_>> {
    Some(Will { qos: AtMostOnce, retain, topic: "will", properties, payload: b"gone" })
}

/// The packets that the client got, each as its bytes.
fn frames(fleet: &mut Fleet, client: Client) -> Vec<Vec<u8>> {
    let bytes = fleet.received(client);
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = frame_length(rest, u32::MAX).expect("a legal header").expect("a whole packet");
        let (frame, behind) = rest.split_at(length);
        frames.push(frame.to_vec());
        rest = behind;
    }
    frames
}

/// The only packet that a 5.0 client got.
fn only_frame(fleet: &mut Fleet, client: Client) -> Vec<u8> {
    let mut frames = frames(fleet, client);
    assert_eq!(frames.len(), 1, "{frames:02x?}");
    frames.remove(0)
}

/// The messages among what the client got: payload, QoS and RETAIN.
fn messages(fleet: &mut Fleet, client: Client) -> Vec<(String, QoS, bool)> {
    let got = fleet.got(client).into_iter();
    got.filter_map(|got| match got {
        Got::Publish { payload, qos, retain, .. } => Some((payload, qos, retain)),
        Got::Connack { .. }
        | Got::Ack(..)
        | Got::Suback(_)
        | Got::Unsuback(_)
        | Got::Pingresp
        | Got::Subscribe(..)
        | Got::Pingreq
        | Got::Disconnect(_) => None,
    })
    .collect()
}

fn publish_properties(fleet: &mut Fleet, client: Client, topic: &str, qos: QoS, id: u16, properties: Properties<'_>) {
    let packet_id = PacketId::new(id);
    let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"x" };
    fleet.send(client, &Packet::Publish(publish));
}

/// [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1] [MQTT-3.2.2-3] [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.1.2-28]
/// [MQTT-3.1.4-5] [MQTT-4.12.0-6]
#[test]
fn connack_comes_first_and_says_nothing_unasked() {
    let mut properties = PropertyWriter::new();
    properties.push(Property::SessionExpiryInterval(60)).push(Property::RequestResponseInformation(false));
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        for (clean_start, flags) in [(false, 0), (false, 1), (true, 0)] {
            let connect = Connect { clean_start, ..connect(version, "client", properties.properties()) };
            let client = fleet.connect_with(connect);
            fleet.send(client, &Packet::Pingreq);
            let got = frames(&mut fleet, client);
            let [connack, pingresp] = &got[..] else { panic!("{got:02x?}") };
            assert_eq!((connack[0], connack[2], connack[3]), (0x20, flags, 0));
            assert_eq!(pingresp, &[0xD0, 0]);
            let Ok(Packet::Connack(connack)) = decode(version, connack) else { panic!("a CONNACK") };
            for unasked in [
                PropertyIdentifier::ResponseInformation,
                PropertyIdentifier::AuthenticationMethod,
                PropertyIdentifier::ReasonString,
                PropertyIdentifier::UserProperty,
            ] {
                assert!(!connack.properties.contains(unasked), "{}", unasked.name());
            }
            fleet.drop_connection(client);
        }
    }
}

/// [MQTT-3.1.3-5]
#[test]
fn client_ids_of_the_plain_alphabet_are_accepted() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        for client_id in ["0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "a"] {
            let client = fleet.connect(version, client_id, true);
            assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason: SUCCESS }]);
        }
        assert_eq!(fleet.count(|counters| counters.sessions), 4);
    }
}

/// [MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.14.0-1]
#[test]
fn what_follows_a_refused_connect_is_not_processed() {
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        let will = Some(Will { topic: "a/#", ..will(false, Properties::EMPTY).expect("a will") });
        let client = fleet.connect_with(Connect { will, ..connect(version, "client", Properties::EMPTY) });
        let refusal = Got::Connack { session_present: false, reason: ReasonCode::TopicNameInvalid };
        let expected = match version {
            // No return code of 3.1.1 says that.
            Version::V311 => vec![],
            Version::V5 => vec![refusal],
        };
        assert_eq!(fleet.got(client), expected);
        fleet.publish_with(client, "t", "x", AtLeastOnce, 1, false, true);
        assert_eq!(fleet.got(client), []);
        assert_eq!(fleet.commands(client), ["finish"]);
        assert_eq!(fleet.count(|counters| counters.retained + counters.sessions), 0);
    }
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15]
#[test]
fn a_will_is_retained_if_it_says_so() {
    for version in BOTH {
        for retain in [false, true] {
            let mut fleet = Fleet::new(2);
            let will = will(retain, Properties::EMPTY);
            let client = fleet.connect_with(Connect { will, ..connect(version, "client", Properties::EMPTY) });
            fleet.drop_connection(client);
            assert_eq!(fleet.count(|counters| counters.retained), u64::from(retain));
            let late = fleet.connect(version, "late", true);
            fleet.subscribe(late, "will", ExactlyOnce);
            let expected = if retain { vec![("gone".to_owned(), AtMostOnce, true)] } else { vec![] };
            assert_eq!(messages(&mut fleet, late), expected);
        }
    }
}

/// [MQTT-3.1.2-10], and 3.1.1: [MQTT-3.1.2-12].
#[test]
fn a_will_is_published_once() {
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        let watcher = fleet.connect(version, "watcher", true);
        fleet.subscribe(watcher, "will", AtMostOnce);
        let mut properties = PropertyWriter::new();
        properties.push(Property::SessionExpiryInterval(60));
        let properties = properties.properties();
        let without = Connect { clean_start: false, ..connect(version, "client", properties) };
        let with = Connect { will: will(false, Properties::EMPTY), ..without };

        let client = fleet.connect_with(with);
        fleet.drop_connection(client);
        assert_eq!(messages(&mut fleet, watcher).len(), 1);
        let client = fleet.connect_with(without);
        fleet.drop_connection(client);
        assert_eq!(messages(&mut fleet, watcher), [], "it was published, and this connection has none");

        let client = fleet.connect_with(with);
        fleet.disconnect(client);
        let client = fleet.connect_with(without);
        fleet.drop_connection(client);
        assert_eq!(messages(&mut fleet, watcher), [], "it was taken back");
    }
}

/// [MQTT-3.1.3-10]
#[test]
fn a_will_keeps_its_properties_and_their_order() {
    let mut fleet = Fleet::new(2);
    let watcher = fleet.connect_v5_transient("watcher");
    fleet.subscribe(watcher, "will", AtMostOnce);
    fleet.got(watcher);
    let pair = |name, value| Property::UserProperty(StringPair { name, value });
    let sent = [pair("b", "1"), Property::ContentType("text"), pair("a", "2"), pair("b", "1")];
    let mut properties = PropertyWriter::new();
    for property in sent {
        properties.push(property);
    }
    let will = will(false, properties.properties());
    let client = fleet.connect_with(Connect { will, ..connect(Version::V5, "client", Properties::EMPTY) });
    fleet.drop_connection(client);
    let frame = only_frame(&mut fleet, watcher);
    let Ok(Packet::Publish(publish)) = decode(Version::V5, &frame) else { panic!("the will") };
    assert_eq!(publish.properties.iter().collect::<Vec<_>>(), sent);
}

/// [MQTT-3.3.4-1] [MQTT-4.3.1-1] [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-2.2.1-2] [MQTT-2.2.1-5]
#[test]
fn each_publish_gets_the_answer_of_its_qos() {
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        let subscriber = fleet.connect(version, "subscriber", true);
        let publisher = fleet.connect(version, "publisher", true);
        fleet.subscribe(subscriber, "t", AtMostOnce);
        fleet.got(subscriber);
        fleet.got(publisher);
        fleet.publish(publisher, "t", "0", AtMostOnce, 0);
        assert_eq!(fleet.got(publisher), []);
        fleet.publish(publisher, "t", "1", AtLeastOnce, 7);
        assert_eq!(fleet.got(publisher), [Got::Ack(Puback, 7, SUCCESS)]);
        // Behind PUBACK the identifier means a new message, whatever DUP says.
        fleet.publish_with(publisher, "t", "1 again", AtLeastOnce, 7, true, false);
        assert_eq!(fleet.got(publisher), [Got::Ack(Puback, 7, SUCCESS)]);
        fleet.publish(publisher, "t", "2", ExactlyOnce, 7);
        assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, SUCCESS)]);
        let expected = ["0", "1", "1 again", "2"].map(|payload| Got::Publish {
            topic: "t".into(),
            payload: payload.into(),
            qos: AtMostOnce,
            id: 0,
            dup: false,
            retain: false,
        });
        assert_eq!(fleet.got(subscriber), expected);
    }
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn properties_reach_every_subscriber_unaltered() {
    let mut fleet = Fleet::new(2);
    let subscribers = ["a", "b", "c", "d"].map(|name| fleet.connect_v5_transient(name));
    for subscriber in subscribers {
        fleet.subscribe(subscriber, "t", AtMostOnce);
        fleet.got(subscriber);
    }
    let pair = |name, value| Property::UserProperty(StringPair { name, value });
    let sent = [
        pair("z", "1"),
        Property::PayloadFormatIndicator(1),
        Property::CorrelationData(&[0, 0xFF, 0xC3]),
        pair("a", ""),
        Property::ResponseTopic("answers/here"),
        Property::ContentType("text/plain"),
        pair("z", "1"),
    ];
    let mut properties = PropertyWriter::new();
    for property in sent {
        properties.push(property);
    }
    let publisher = fleet.connect_v5_transient("publisher");
    publish_properties(&mut fleet, publisher, "t", ExactlyOnce, 1, properties.properties());
    for subscriber in subscribers {
        let frame = only_frame(&mut fleet, subscriber);
        let Ok(Packet::Publish(publish)) = decode(Version::V5, &frame) else { panic!("the message") };
        assert_eq!(publish.properties.iter().collect::<Vec<_>>(), sent);
    }
}

/// [MQTT-3.1.2-27], and nothing above the maximum of a client that has said 0: [MQTT-3.1.2-26] [MQTT-3.3.2-11]
#[test]
fn a_client_that_takes_no_topic_aliases_gets_none() {
    let mut zero = PropertyWriter::new();
    zero.push(Property::TopicAliasMaximum(0));
    for properties in [Properties::EMPTY, zero.properties()] {
        let mut fleet = Fleet::new(1);
        let subscriber = fleet.connect_with(connect(Version::V5, "subscriber", properties));
        fleet.subscribe(subscriber, "t", AtMostOnce);
        fleet.got(subscriber);
        for _ in 0..3 {
            fleet.publish(subscriber, "t", "x", AtMostOnce, 0);
            let frame = only_frame(&mut fleet, subscriber);
            let Ok(Packet::Publish(publish)) = decode(Version::V5, &frame) else { panic!("the message") };
            assert_eq!(publish.topic, "t");
            assert!(!publish.properties.contains(PropertyIdentifier::TopicAlias));
        }
    }
}

/// [MQTT-3.3.1-8], and 3.1.1: [MQTT-3.1.2-7] [MQTT-3.3.1-12].
#[test]
fn a_retained_message_outlives_its_session() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        let publisher = fleet.connect(version, "publisher", true);
        fleet.publish_with(publisher, "t", "kept", AtLeastOnce, 1, false, true);
        fleet.publish(publisher, "t", "live", AtLeastOnce, 2);
        fleet.publish(publisher, "t", "", AtLeastOnce, 3);
        fleet.disconnect(publisher);
        assert_eq!(fleet.count(|counters| counters.sessions), 0);
        let subscriber = fleet.connect(version, "subscriber", true);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        assert_eq!(messages(&mut fleet, subscriber), [("kept".to_owned(), AtLeastOnce, true)]);
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4]; as there is one copy, [MQTT-3.3.4-5] asks for nothing more.
#[test]
fn one_copy_carries_all_subscription_identifiers() {
    let mut fleet = Fleet::new(2);
    let subscriber = fleet.connect_v5_transient("subscriber");
    for (filter, identifier) in [("t/+", 1), ("t/#", 268_435_455), ("u", 3)] {
        let mut properties = PropertyWriter::new();
        properties.push(Property::SubscriptionIdentifier(identifier));
        let filters = std::iter::once((filter, SubscriptionOptions::from_qos(AtMostOnce)));
        let mut bytes = Vec::new();
        encode_subscribe(&mut bytes, Version::V5, id(1), properties.properties(), filters);
        fleet.send_bytes(subscriber, &bytes);
    }
    fleet.got(subscriber);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    for (topic, expected) in [("t/1", &[1, 268_435_455][..]), ("u", &[3])] {
        fleet.publish(publisher, topic, "x", AtMostOnce, 0);
        let frame = only_frame(&mut fleet, subscriber);
        let Ok(Packet::Publish(publish)) = decode(Version::V5, &frame) else { panic!("the message") };
        let mut identifiers: Vec<u32> = publish.properties.subscription_identifiers().collect();
        identifiers.sort_unstable();
        assert_eq!(identifiers, expected, "{topic}");
    }
}

/// [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn a_full_window_holds_back_nothing_but_messages() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 1);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    for number in 1..=3 {
        fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, number);
    }
    assert_eq!(messages(&mut fleet, subscriber), [("1".to_owned(), ExactlyOnce, false)]);
    fleet.send(subscriber, &Packet::Pingreq);
    fleet.subscribe(subscriber, "u", AtMostOnce);
    fleet.unsubscribe(subscriber, "u");
    fleet.publish(subscriber, "elsewhere", "x", AtLeastOnce, 5);
    fleet.ack(subscriber, Pubrec, 1);
    assert_eq!(
        fleet.got(subscriber),
        [
            Got::Pingresp,
            Got::Suback(vec![0]),
            Got::Unsuback(vec![0]),
            Got::Ack(Puback, 5, SUCCESS),
            Got::Ack(Pubrel, 1, SUCCESS),
        ]
    );
    fleet.ack(subscriber, Pubcomp, 1);
    assert_eq!(messages(&mut fleet, subscriber), [("2".to_owned(), ExactlyOnce, false)]);
}

/// [MQTT-3.1.2-29], and for each of these packets that no reason string and no user property makes it too large:
/// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
/// [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
#[test]
fn acknowledgements_carry_nothing_that_could_be_too_large() {
    let mut properties = PropertyWriter::new();
    properties.push(Property::RequestProblemInformation(false)).push(Property::MaximumPacketSize(32));
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_with(connect(Version::V5, "client", properties.properties()));
    fleet.got(client);
    fleet.publish(client, "t", "x", AtLeastOnce, 1);
    fleet.publish(client, "t", "x", ExactlyOnce, 2);
    fleet.ack(client, Pubrel, 2);
    // Identifiers that nobody knows.
    fleet.ack(client, Pubrel, 3);
    fleet.ack(client, Pubrec, 4);
    fleet.subscribe(client, "not/#/valid", ExactlyOnce);
    fleet.unsubscribe(client, "nothing");
    let got = frames(&mut fleet, client);
    let first_bytes: Vec<u8> = got.iter().map(|frame| frame[0]).collect();
    assert_eq!(first_bytes, [0x40, 0x50, 0x70, 0x70, 0x62, 0x90, 0xB0]);
    for frame in got {
        let properties = match decode(Version::V5, &frame) {
            Ok(Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack)) => {
                ack.properties
            }
            Ok(Packet::Suback(suback) | Packet::Unsuback(suback)) => suback.properties,
            other => panic!("{other:?}"),
        };
        assert!(properties.is_empty(), "{frame:02x?}");
    }
}

/// [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5]
#[test]
fn answers_carry_the_identifier_of_their_request() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        for identifier in [1, 0x1234, u16::MAX] {
            let mut bytes = Vec::new();
            let filters = std::iter::once(("t", SubscriptionOptions::from_qos(AtMostOnce)));
            encode_subscribe(&mut bytes, version, id(identifier), Properties::EMPTY, filters);
            fleet.send_bytes(client, &bytes);
            let suback = only_frame(&mut fleet, client);
            assert_eq!((suback[0], &suback[2..4]), (0x90, &identifier.to_be_bytes()[..]));
            bytes.clear();
            encode_unsubscribe(&mut bytes, version, id(identifier), Properties::EMPTY, std::iter::once("nothing"));
            fleet.send_bytes(client, &bytes);
            let unsuback = only_frame(&mut fleet, client);
            assert_eq!((unsuback[0], &unsuback[2..4]), (0xB0, &identifier.to_be_bytes()[..]));
        }
    }
}

/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1] [MQTT-3.10.4-6] [MQTT-3.11.3-1]
#[test]
fn several_filters_get_one_answer_in_their_order() {
    for (version, granted, deleted) in
        [(Version::V311, vec![2, 0x80, 0, 1], vec![]), (Version::V5, vec![2, 0x8F, 0, 1], vec![0, 0x11, 0, 0x11])]
    {
        let mut fleet = Fleet::new(2);
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        let filters = [("a", ExactlyOnce), ("a/#/b", AtLeastOnce), ("b", AtMostOnce), ("c/+", AtLeastOnce)];
        let filters = filters.iter().map(|(filter, qos)| (*filter, SubscriptionOptions::from_qos(*qos)));
        let mut bytes = Vec::new();
        encode_subscribe(&mut bytes, version, id(1), Properties::EMPTY, filters);
        fleet.send_bytes(client, &bytes);
        assert_eq!(fleet.got(client), [Got::Suback(granted)]);
        bytes.clear();
        let filters = ["a", "nothing", "b", "a"].into_iter();
        encode_unsubscribe(&mut bytes, version, id(2), Properties::EMPTY, filters);
        fleet.send_bytes(client, &bytes);
        assert_eq!(fleet.got(client), [Got::Unsuback(deleted)]);
        assert_eq!(fleet.count(|counters| counters.subscriptions), 1, "the one that was not named");
    }
}

/// [MQTT-3.8.4-3] [MQTT-3.8.4-4]
#[test]
fn a_subscription_to_the_same_filter_replaces_the_one_before() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        let publisher = fleet.connect(version, "publisher", true);
        fleet.publish_with(publisher, "t", "kept", ExactlyOnce, 1, false, true);
        let subscriber = fleet.connect(version, "subscriber", true);
        for qos in [AtMostOnce, ExactlyOnce, AtLeastOnce] {
            fleet.subscribe(subscriber, "t", qos);
            assert_eq!(messages(&mut fleet, subscriber), [("kept".to_owned(), qos, true)]);
            fleet.publish(publisher, "t", "live", ExactlyOnce, 2);
            fleet.ack(publisher, Pubrel, 2);
            assert_eq!(messages(&mut fleet, subscriber), [("live".to_owned(), qos, false)], "one copy");
        }
        assert_eq!(fleet.count(|counters| counters.subscriptions), 1);
    }
}

/// [MQTT-3.10.4-2] [MQTT-3.10.4-3]
#[test]
fn an_unsubscribe_completes_what_is_in_flight() {
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        let publisher = fleet.connect(version, "publisher", true);
        let subscriber = fleet.connect(version, "subscriber", true);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.publish(publisher, "t", "1", ExactlyOnce, 1);
        fleet.publish(publisher, "t", "2", AtLeastOnce, 2);
        assert_eq!(messages(&mut fleet, subscriber).len(), 2);
        fleet.unsubscribe(subscriber, "t");
        fleet.publish(publisher, "t", "3", ExactlyOnce, 3);
        assert!(matches!(fleet.got(subscriber)[..], [Got::Unsuback(_)]), "and nothing new");
        fleet.ack(subscriber, Pubrec, 1);
        assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, SUCCESS)]);
        fleet.ack(subscriber, Pubcomp, 1);
        fleet.ack(subscriber, Puback, 2);
        assert_eq!(fleet.count(|counters| counters.outbound_inflight + counters.messages), 0);
    }
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-13]
#[test]
fn a_message_in_flight_does_not_expire() {
    let mut fleet = Fleet::new(1);
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    let publisher = fleet.connect_v5_transient("publisher");
    fleet.got(publisher);
    let mut properties = PropertyWriter::new();
    properties.push(Property::MessageExpiryInterval(3));
    publish_properties(&mut fleet, publisher, "t", ExactlyOnce, 7, properties.properties());
    assert_eq!(messages(&mut fleet, subscriber).len(), 1);
    fleet.drop_connection(subscriber);
    fleet.pass(Duration::from_secs(10));
    let subscriber = fleet.connect_v5("subscriber", 10);
    let got = fleet.got(subscriber);
    assert!(matches!(got[1..], [Got::Publish { id: 1, dup: true, .. }]), "{got:?}");
    fleet.ack(subscriber, Pubrec, 1);
    assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, SUCCESS)]);
    fleet.ack(publisher, Pubrel, 7);
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, SUCCESS), Got::Ack(Pubcomp, 7, SUCCESS)]);
}

/// [MQTT-4.4.0-2]
#[test]
fn what_a_subscriber_refuses_is_not_sent_again() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.publish(publisher, "t", "1", AtLeastOnce, 1);
    fleet.publish(publisher, "t", "2", ExactlyOnce, 2);
    assert_eq!(messages(&mut fleet, subscriber).len(), 2);
    fleet.ack_with(subscriber, Puback, 1, ReasonCode::QuotaExceeded);
    fleet.ack_with(subscriber, Pubrec, 2, ReasonCode::QuotaExceeded);
    fleet.drop_connection(subscriber);
    let subscriber = fleet.connect_v5("subscriber", 10);
    assert_eq!(fleet.got(subscriber), [Got::Connack { session_present: true, reason: SUCCESS }]);
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[test]
fn each_subscriber_gets_a_topic_in_the_order_of_its_publisher() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        let publisher = fleet.connect(version, "publisher", true);
        let subscribers = ["a", "b", "c", "d"].map(|name| fleet.connect(version, name, true));
        for subscriber in subscribers {
            fleet.subscribe(subscriber, "t", ExactlyOnce);
        }
        let qos = [AtMostOnce, AtLeastOnce, ExactlyOnce];
        let sent: Vec<_> = (1..=9).map(|number| (number.to_string(), qos[number % 3], false)).collect();
        for (packet_id, (payload, qos, _)) in (1..).zip(&sent) {
            fleet.publish(publisher, "t", payload, *qos, if *qos == AtMostOnce { 0 } else { packet_id });
        }
        for subscriber in subscribers {
            assert_eq!(messages(&mut fleet, subscriber), sent);
        }
    }
}

/// [MQTT-4.7.3-4]
#[test]
fn topics_are_matched_byte_by_byte() {
    // Two forms of one letter, two cases, and levels that differ by nothing that can be seen.
    let topics = ["\u{e9}", "e\u{301}", "t", "T", "t/", "/t", "t ", "\u{feff}t"];
    let mut fleet = Fleet::new(2);
    let subscribers = ["0", "1", "2", "3", "4", "5", "6", "7"].map(|name| fleet.connect(Version::V311, name, true));
    for (subscriber, topic) in subscribers.into_iter().zip(topics) {
        fleet.subscribe(subscriber, topic, AtMostOnce);
    }
    let publisher = fleet.connect(Version::V311, "publisher", true);
    for topic in topics {
        fleet.publish(publisher, topic, topic, AtMostOnce, 0);
    }
    for (subscriber, topic) in subscribers.into_iter().zip(topics) {
        assert_eq!(messages(&mut fleet, subscriber), [(topic.to_owned(), AtMostOnce, false)], "{topic:?}");
    }
}

/// [MQTT-3.14.2-2]
#[test]
fn the_server_sends_no_session_expiry_with_disconnect() {
    let mut fleet = Fleet::new(1);
    let taken = fleet.connect_v5("taken", 10);
    let illegal = fleet.connect_v5("illegal", 10);
    fleet.got(taken);
    fleet.got(illegal);
    fleet.connect_v5("taken", 10);
    fleet.send_bytes(illegal, &[0, 0]);
    for client in [taken, illegal] {
        let frame = only_frame(&mut fleet, client);
        let Ok(Packet::Disconnect(disconnect)) = decode(Version::V5, &frame) else { panic!("DISCONNECT") };
        assert!(!disconnect.properties.contains(PropertyIdentifier::SessionExpiryInterval));
    }
}

/// [MQTT-3.14.2-3] [MQTT-3.14.2-4]
#[test]
fn a_small_client_hears_the_reason_without_words() {
    let mut small = PropertyWriter::new();
    small.push(Property::MaximumPacketSize(18));
    for (properties, hears_words) in [(Properties::EMPTY, true), (small.properties(), false)] {
        let mut fleet = Fleet::new(1);
        let client = fleet.connect_with(connect(Version::V5, "client", properties));
        fleet.got(client);
        fleet.send_bytes(client, &[0, 0]);
        let frame = only_frame(&mut fleet, client);
        let Ok(Packet::Disconnect(disconnect)) = decode(Version::V5, &frame) else { panic!("DISCONNECT") };
        assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);
        assert_eq!(disconnect.properties.contains(PropertyIdentifier::ReasonString), hears_words);
        assert!(hears_words || frame.len() <= 18, "{frame:02x?}");
    }
}
