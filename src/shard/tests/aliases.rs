//! Topic aliases, from clients and to them.

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// How a PUBLISH to a client named its topic, and its payload.
#[derive(Debug)]
struct Named {
    topic: String,
    alias: Option<u16>,
    payload: String,
}

impl PartialEq<(&str, Option<u16>, &str)> for Named {
    fn eq(&self, (topic, alias, payload): &(&str, Option<u16>, &str)) -> bool {
        self.topic == *topic && self.alias == *alias && self.payload == *payload
    }
}

/// The PUBLISH packets that the client got since it was last asked.
fn named(fleet: &mut Fleet, client: Client, version: Version) -> Vec<Named> {
    let bytes = fleet.received(client);
    let (mut received, mut framer) = (Received::new(&bytes), Framer::default());
    let mut named = Vec::new();
    while let Some(frame) = framer.next_frame(&mut received, u32::MAX).expect("the broker sends whole packets") {
        if let Packet::Publish(publish) = decode(version, frame.bytes()).expect("the broker sends legal packets") {
            named.push(Named {
                topic: publish.topic.to_owned(),
                alias: publish.properties.topic_alias(),
                payload: String::from_utf8(publish.payload.to_vec()).expect("test payloads are text"),
            });
        }
    }
    named
}

/// A 5.0 client that accepts aliases up to this one, and whose session outlives its connection.
fn connect_accepting(fleet: &mut Fleet, client_id: &str, topic_alias_maximum: u16, packet_bytes_max: u32) -> Client {
    let mut properties = PropertyWriter::new();
    properties
        .push(Property::TopicAliasMaximum(topic_alias_maximum))
        .push(Property::MaximumPacketSize(packet_bytes_max));
    fleet.connect_v5_with(client_id, properties)
}

fn subscriber_accepting(fleet: &mut Fleet, client_id: &str, topic_alias_maximum: u16) -> Client {
    let subscriber = connect_accepting(fleet, client_id, topic_alias_maximum, 100_000);
    fleet.subscribe(subscriber, "#", ExactlyOnce);
    fleet.got(subscriber);
    subscriber
}

/// Publishes with a topic alias; with an id at QoS 2, with 0 at QoS 0.
fn publish_as(fleet: &mut Fleet, client: Client, alias: u16, topic: &str, payload: &str, packet_id: u16) {
    let mut properties = PropertyWriter::new();
    properties.push(Property::TopicAlias(alias));
    fleet.send(
        client,
        &Packet::Publish(Publish {
            dup: false,
            qos: if packet_id == 0 { AtMostOnce } else { ExactlyOnce },
            retain: false,
            topic,
            packet_id: PacketId::new(packet_id),
            properties: properties.properties(),
            payload: payload.as_bytes(),
        }),
    );
}

fn announced(fleet: &mut Fleet, version: Version) -> Option<u16> {
    let client = fleet.connect(version, "asks", true);
    let bytes = fleet.received(client);
    let Packet::Connack(connack) = decode(version, &bytes).expect("one packet") else { panic!("{bytes:?}") };
    connack.properties.topic_alias_maximum()
}

fn without_aliases() -> Limits {
    Limits { topic_alias_maximum: 0, max_outbound_topic_aliases: 0, ..limits() }
}

/// 5.0 section 3.2.2.3.8: CONNACK says how many aliases a client may use, and nothing if none.
#[test]
fn connack_announces_the_topic_alias_maximum() {
    assert_eq!(announced(&mut Fleet::new(1), Version::V5), Some(10));
    assert_eq!(announced(&mut Fleet::new(1), Version::V311), None);
    assert_eq!(announced(&mut Fleet::with_limits(1, without_aliases()), Version::V5), None);
}

/// [MQTT-3.3.2-12]: every alias up to the announced maximum is taken; it stands for the topic it came with last. Others
/// get the full topic and not the alias, of whatever version they are and on whatever shard.
#[test]
fn an_alias_is_set_used_and_replaced() {
    let mut fleet = Fleet::new(2);
    let old = ["a", "b", "c", "d"].map(|name| fleet.connect(Version::V311, name, true));
    let new = ["e", "f", "g", "h"].map(|name| fleet.connect(Version::V5, name, true));
    let versions = old.map(|client| (client, Version::V311)).into_iter().chain(new.map(|client| (client, Version::V5)));
    let subscribers: Vec<_> = versions.collect();
    for (subscriber, _) in &subscribers {
        fleet.subscribe(*subscriber, "#", AtMostOnce);
        fleet.got(*subscriber);
    }
    let publisher = fleet.connect(Version::V5, "publisher", true);
    for alias in 1..=10 {
        publish_as(&mut fleet, publisher, alias, &format!("sensors/{alias}"), "set", 0);
    }
    publish_as(&mut fleet, publisher, 1, "", "used", 0);
    publish_as(&mut fleet, publisher, 10, "", "used", 2);
    publish_as(&mut fleet, publisher, 1, "actors/1", "replaced", 0);
    publish_as(&mut fleet, publisher, 1, "", "used again", 4);
    publish_as(&mut fleet, publisher, 10, "sensors/10", "repeated", 0);
    for (subscriber, version) in subscribers {
        let got = named(&mut fleet, subscriber, version);
        assert_eq!(
            got[9..],
            [
                ("sensors/10", None, "set"),
                ("sensors/1", None, "used"),
                ("sensors/10", None, "used"),
                ("actors/1", None, "replaced"),
                ("actors/1", None, "used again"),
                ("sensors/10", None, "repeated"),
            ]
        );
    }
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18], trap 30: 0x94 for 0, for what is above the announced maximum,
/// and for any alias if none was announced.
#[test]
fn an_alias_out_of_bounds_ends_the_connection() {
    let invalid = [Got::Disconnect(ReasonCode::TopicAliasInvalid)];
    for (limits, alias) in [(limits(), 0_u16), (limits(), 11), (limits(), u16::MAX), (without_aliases(), 1)] {
        let mut fleet = Fleet::with_limits(1, limits);
        let publisher = fleet.connect(Version::V5, "publisher", true);
        fleet.got(publisher);
        let [high, low] = alias.to_be_bytes();
        fleet.send_bytes(publisher, &[0x30, 7, 0, 1, b't', 3, 0x23, high, low]);
        assert_eq!(fleet.got(publisher), invalid, "alias {alias}");
    }
}

/// 5.0 section 3.3.2.3.4, trap 30: 0x82 for an alias that stands for nothing, also between others that do, and for an empty
/// topic without an alias [MQTT-4.7.3-1]. A wildcard is not a topic with an alias either [MQTT-3.3.2-2].
#[test]
fn an_alias_that_was_never_set_ends_the_connection() {
    for (alias, topic, reason) in [
        (Some(1), "", ReasonCode::ProtocolError),
        (Some(3), "", ReasonCode::ProtocolError),
        (None, "", ReasonCode::ProtocolError),
        (Some(3), "a/#", ReasonCode::TopicNameInvalid),
    ] {
        let mut fleet = Fleet::new(1);
        let publisher = fleet.connect(Version::V5, "publisher", true);
        publish_as(&mut fleet, publisher, 2, "two", "", 0);
        publish_as(&mut fleet, publisher, 4, "four", "", 0);
        fleet.got(publisher);
        match alias {
            Some(alias) => publish_as(&mut fleet, publisher, alias, topic, "", 1),
            None => fleet.publish(publisher, topic, "", AtMostOnce, 0),
        }
        assert_eq!(fleet.got(publisher), [Got::Disconnect(reason)], "{alias:?} {topic}");
    }
}

/// [MQTT-3.3.2-7]: an alias does not outlive its connection, though the session does; nor does another client know it.
#[test]
fn an_alias_ends_with_its_connection() {
    let mut fleet = Fleet::new(1);
    let first = fleet.connect_v5("publisher", 10);
    publish_as(&mut fleet, first, 1, "topic", "", 1);
    let other = fleet.connect_v5("other", 10);
    fleet.drop_connection(first);
    let second = fleet.connect_v5("publisher", 10);
    for client in [other, second] {
        fleet.got(client);
        publish_as(&mut fleet, client, 1, "", "", 1);
        assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::ProtocolError)]);
    }
}

/// A PUBLISH that goes no further sets its alias all the same: a repetition of QoS 2 after a resume introduces it again.
#[test]
fn a_repetition_sets_its_alias() {
    let mut fleet = Fleet::new(1);
    let subscriber = fleet.connect(Version::V5, "subscriber", true);
    fleet.subscribe(subscriber, "#", AtMostOnce);
    let publisher = fleet.connect_v5("publisher", 10);
    publish_as(&mut fleet, publisher, 1, "topic", "first", 1);
    fleet.drop_connection(publisher);
    let publisher = fleet.connect_v5("publisher", 10);
    publish_as(&mut fleet, publisher, 1, "topic", "first", 1);
    publish_as(&mut fleet, publisher, 1, "", "second", 2);
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("topic", None, "first"), ("topic", None, "second")]);
}

/// The log has the full topic of a message that was published by its alias.
#[test]
fn a_message_published_by_its_alias_outlives_the_broker() {
    let mut fleet = Fleet::durable(2);
    let subscribers = ["a", "b", "c", "d"];
    for name in subscribers {
        let subscriber = fleet.connect_v5(name, 10);
        fleet.subscribe(subscriber, "sensors/#", ExactlyOnce);
        fleet.drop_connection(subscriber);
    }
    let publisher = fleet.connect_v5("publisher", 10);
    publish_as(&mut fleet, publisher, 7, "sensors/1", "set", 1);
    publish_as(&mut fleet, publisher, 7, "", "used", 2);
    fleet.crash(Duration::ZERO);
    for name in subscribers {
        let subscriber = fleet.connect_v5(name, 10);
        let got = named(&mut fleet, subscriber, Version::V5);
        assert_eq!(got, [("sensors/1", None, "set"), ("sensors/1", None, "used")]);
    }
}

/// 5.0 section 3.3.2.3.4: topic and alias at first, the alias alone from then on, at every QoS. What the client uses
/// itself is apart from that.
#[test]
fn a_client_gets_an_introduction_and_then_the_alias() {
    let mut fleet = Fleet::new(1);
    let subscriber = subscriber_accepting(&mut fleet, "subscriber", 5);
    publish_as(&mut fleet, subscriber, 2, "sensors/1", "a", 1);
    publish_as(&mut fleet, subscriber, 1, "sensors/2", "b", 0);
    publish_as(&mut fleet, subscriber, 2, "", "c", 0);
    publish_as(&mut fleet, subscriber, 1, "", "d", 2);
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("sensors/1", Some(1), "a"), ("sensors/2", Some(2), "b"), ("", Some(1), "c"), ("", Some(2), "d")]);
}

/// A topic that is not longer than the property would gain nothing.
#[test]
fn a_short_topic_gets_no_alias() {
    let mut fleet = Fleet::new(1);
    let subscriber = subscriber_accepting(&mut fleet, "subscriber", 5);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    for topic in ["abc", "abcd", "abc", "abcd"] {
        fleet.publish(publisher, topic, "x", AtMostOnce, 0);
    }
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("abc", None, "x"), ("abcd", Some(1), "x"), ("abc", None, "x"), ("", Some(1), "x")]);
}

/// [MQTT-3.1.2-26] [MQTT-3.3.2-11]: no alias is above the client's maximum, or above the broker's own; further topics leave with
/// their names, and every alias stands for one topic to the end.
#[test]
fn aliases_end_at_the_lower_maximum() {
    for (client_maximum, own_maximum, expected) in [(3, 16, 3), (100, 5, 5), (u16::MAX, u16::MAX, 40)] {
        let limits = Limits { max_outbound_topic_aliases: own_maximum, ..limits() };
        let mut fleet = Fleet::with_limits(1, limits);
        let subscriber = subscriber_accepting(&mut fleet, "subscriber", client_maximum);
        let publisher = fleet.connect(Version::V311, "publisher", true);
        for round in 0..3 {
            for number in 1..=40 {
                fleet.publish(publisher, &format!("topic/{number}"), &number.to_string(), AtMostOnce, 0);
            }
            let got = named(&mut fleet, subscriber, Version::V5);
            for (number, named) in (1..=40).zip(got) {
                let (topic, payload) = (format!("topic/{number}"), number.to_string());
                let alias = (number <= expected).then_some(number);
                let name = if round > 0 && alias.is_some() { "" } else { &*topic };
                assert_eq!(named, (name, alias, &*payload), "maximum {expected}, round {round}");
            }
        }
    }
}

/// [MQTT-3.1.2-27]: no aliases to a client whose Topic Alias Maximum is absent or 0, which is every one of 3.1.1, and none if the
/// broker is told to give none.
#[test]
fn no_aliases_to_a_client_that_takes_none() {
    let mut fleet = Fleet::new(1);
    let zero = subscriber_accepting(&mut fleet, "zero", 0);
    let [absent, old] = [("absent", Version::V5), ("old", Version::V311)].map(|(name, version)| {
        let subscriber = fleet.connect(version, name, true);
        fleet.subscribe(subscriber, "#", ExactlyOnce);
        subscriber
    });
    let mut without = Fleet::with_limits(1, without_aliases());
    let forbidden = subscriber_accepting(&mut without, "forbidden", 10);
    for fleet in [&mut fleet, &mut without] {
        let publisher = fleet.connect(Version::V311, "publisher", true);
        fleet.publish(publisher, "topic", "1", AtMostOnce, 0);
        fleet.publish(publisher, "topic", "2", ExactlyOnce, 1);
    }
    let plain = [("topic", None, "1"), ("topic", None, "2")];
    assert_eq!(named(&mut fleet, zero, Version::V5), plain);
    assert_eq!(named(&mut fleet, absent, Version::V5), plain);
    assert_eq!(named(&mut fleet, old, Version::V311), plain);
    assert_eq!(named(&mut without, forbidden, Version::V5), plain);
}

/// [MQTT-3.3.2-7], trap 30: the aliases of a resumed session begin anew, so that the first resend has the full topic; a client
/// that takes no more aliases gets none.
#[test]
fn a_resend_after_a_resume_has_the_full_topic() {
    let mut fleet = Fleet::new(1);
    let subscriber = subscriber_accepting(&mut fleet, "subscriber", 5);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.publish(publisher, "other", "0", AtMostOnce, 0);
    fleet.publish(publisher, "topic", "1", AtLeastOnce, 1);
    fleet.publish(publisher, "topic", "2", ExactlyOnce, 2);
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("other", Some(1), "0"), ("topic", Some(2), "1"), ("", Some(2), "2")]);
    fleet.drop_connection(subscriber);
    let subscriber = connect_accepting(&mut fleet, "subscriber", 5, 100_000);
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("topic", Some(1), "1"), ("", Some(1), "2")]);
    fleet.drop_connection(subscriber);
    let subscriber = connect_accepting(&mut fleet, "subscriber", 0, 100_000);
    assert_eq!(named(&mut fleet, subscriber, Version::V5), [("topic", None, "1"), ("topic", None, "2")]);
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]: an introduction that is too large leaves without the alias; what is dropped introduces
/// nothing. What only its alias would let through is dropped, too: a resend on the next connection would be too large. The topic takes 10 bytes, the rest of a PUBLISH of QoS 0 five, and the property three.
#[test]
fn an_alias_never_makes_a_message_too_large() {
    let mut fleet = Fleet::new(1);
    let subscriber = connect_accepting(&mut fleet, "subscriber", 5, 50);
    fleet.subscribe(subscriber, "#", AtMostOnce);
    fleet.got(subscriber);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let payloads = [36, 35, 33, 32, 35, 36, 1].map(|bytes| "x".repeat(bytes));
    for payload in &payloads {
        fleet.publish(publisher, "long/topic", payload, AtMostOnce, 0);
    }
    let [_, plain, plain_too, introduction, largest, _, small] = &payloads;
    assert_eq!(
        named(&mut fleet, subscriber, Version::V5),
        [
            ("long/topic", None, &**plain),
            ("long/topic", None, plain_too),
            ("long/topic", Some(1), introduction),
            ("", Some(1), largest),
            ("", Some(1), small),
        ]
    );
    assert_eq!(fleet.count(|counters| counters.dropped_too_large), 2);
}

/// An alias does not overtake its introduction, though that waits for the log and a message of QoS 0 would not.
#[test]
fn an_alias_stays_behind_an_introduction_that_waits_for_the_log() {
    let mut fleet = Fleet::durable(1);
    let subscriber = subscriber_accepting(&mut fleet, "subscriber", 5);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.logs_flow = false;
    fleet.publish(publisher, "topic", "logged", ExactlyOnce, 1);
    fleet.publish(publisher, "topic", "not logged", AtMostOnce, 0);
    assert!(fleet.received(subscriber).is_empty(), "nothing leaves before its log is stable");
    fleet.sync();
    let got = named(&mut fleet, subscriber, Version::V5);
    assert_eq!(got, [("topic", Some(1), "logged"), ("", Some(1), "not logged")]);
}
