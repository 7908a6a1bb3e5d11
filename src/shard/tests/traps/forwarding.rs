//! Traps of what is forwarded with a message, and of what is left out.

use super::*;

/// Trap 23: an empty payload with RETAIN is a message like any other to those who are subscribed.
#[test]
fn a_message_that_clears_a_retained_one_is_forwarded() {
    let mut fleet = Fleet::new(2);
    let publisher = fleet.connect(V5, "publisher", true);
    let subscribers = ["a", "b", "c", "d"].map(|name| fleet.connect(V5, name, true));
    for subscriber in subscribers {
        fleet.subscribe(subscriber, "t", ExactlyOnce);
    }
    fleet.publish_with(publisher, "t", "value", AtMostOnce, 0, false, true);
    fleet.publish_with(publisher, "t", "", AtMostOnce, 0, false, true);
    for subscriber in subscribers {
        assert_eq!(payloads(&mut fleet, subscriber), ["value", ""]);
    }
    assert_eq!(fleet.count(|counters| counters.retained), 0);
}

/// Trap 23: a retained message keeps its QoS, which the subscription may only lower; its delivery is an exchange.
#[test]
fn a_retained_message_keeps_its_qos() {
    for (published, subscribed) in [(ExactlyOnce, ExactlyOnce), (ExactlyOnce, AtLeastOnce), (AtLeastOnce, ExactlyOnce)]
    {
        let mut fleet = Fleet::durable(2);
        let publisher = fleet.connect(V311, "publisher", true);
        fleet.publish_with(publisher, "t", "kept", published, 1, false, true);
        let subscriber = fleet.connect_v5("subscriber", 10);
        fleet.subscribe(subscriber, "t", subscribed);
        let qos = published.min(subscribed);
        let kept = |dup| Got::Publish { topic: "t".into(), payload: "kept".into(), qos, id: 1, dup, retain: true };
        assert_eq!(fleet.got(subscriber)[2..], [kept(false)]);
        fleet.drop_connection(subscriber);
        let subscriber = fleet.connect_v5("subscriber", 10);
        assert_eq!(fleet.got(subscriber), [connack(true), kept(true)]);
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4], trap 27: one copy with the identifiers of all subscriptions that match.
#[test]
fn every_matching_identifier_arrives() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 10);
    for (filter, identifier) in [("a/b", Some(1)), ("a/+", None), ("a/#", Some(300)), ("c", Some(4)), ("#", Some(5))] {
        let mut properties = PropertyWriter::new();
        if let Some(identifier) = identifier {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let mut bytes = Vec::new();
        let options = SubscriptionOptions::from_qos(ExactlyOnce);
        encode_subscribe(&mut bytes, V5, id(1), properties.properties(), std::iter::once((filter, options)));
        fleet.send_bytes(subscriber, &bytes);
    }
    fleet.received(subscriber);
    fleet.publish(publisher, "a/b", "x", AtMostOnce, 0);
    let received = fleet.received(subscriber);
    let [publish] = publishes(&received)[..] else { panic!("one copy") };
    let mut identifiers: Vec<_> = publish.properties.subscription_identifiers().collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [1, 5, 300]);
}

/// [MQTT-3.14.2-3], trap 31.
#[test]
fn a_reason_string_is_left_out_for_a_client_that_has_no_room_for_it() {
    for (max_packet_bytes, has_text) in [(1000, true), (30, false)] {
        let mut fleet = Fleet::new(1);
        let mut properties = PropertyWriter::new();
        properties.push(Property::MaximumPacketSize(max_packet_bytes));
        let client = fleet.connect_with(connect("client", &properties, None));
        fleet.received(client);
        fleet.send_bytes(client, &[0xD0, 0]);
        let received = fleet.received(client);
        let Ok(Packet::Disconnect(disconnect)) = decode(V5, &received) else { panic!("DISCONNECT only") };
        assert_eq!(disconnect.reason, ReasonCode::ProtocolError);
        assert_eq!(disconnect.properties.reason_string().is_some(), has_text);
    }
}

/// [MQTT-3.1.2-29], trap 32: acknowledgements are as short as they can be for who asked for no more.
#[test]
fn acknowledgements_carry_no_text_for_who_wants_none() {
    let mut fleet = Fleet::new(1);
    let mut properties = PropertyWriter::new();
    properties.push(Property::RequestProblemInformation(false));
    let client = fleet.connect_with(connect("client", &properties, None));
    fleet.received(client);
    fleet.publish(client, "t", "x", AtLeastOnce, 1);
    fleet.publish(client, "t", "x", ExactlyOnce, 1);
    fleet.ack(client, Pubrel, 1);
    fleet.ack(client, Pubrel, 1);
    fleet.ack(client, Pubrec, 1);
    fleet.subscribe(client, "a#", ExactlyOnce);
    fleet.unsubscribe(client, "a#");
    let expected: [&[u8]; 7] = [
        &[0x40, 2, 0, 1],
        &[0x50, 2, 0, 1],
        &[0x70, 2, 0, 1],
        &[0x70, 3, 0, 1, 0x92],
        &[0x62, 3, 0, 1, 0x92],
        &[0x90, 4, 0, 9, 0, 0x8F],
        &[0xB0, 4, 0, 9, 0, 0x8F],
    ];
    assert_eq!(fleet.received(client), expected.concat());
}

/// Trap 33: a message whose time is over while it is in flight is brought to its end, on the next connection too.
#[test]
fn a_message_that_expires_in_flight_is_completed() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V5, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let mut properties = PropertyWriter::new();
    properties.push(Property::MessageExpiryInterval(5));
    for (payload, packet_id) in [("1", 1), ("2", 2)] {
        let publish = Publish { properties: properties.properties(), ..message("t", payload, ExactlyOnce, packet_id) };
        fleet.send(publisher, &Packet::Publish(publish));
    }
    assert_eq!(payloads(&mut fleet, subscriber), ["1", "2"]);
    fleet.pass(Duration::from_secs(10));
    fleet.ack(subscriber, Pubrec, 1);
    assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, SUCCESS)]);
    fleet.crash(Duration::from_secs(1));
    let subscriber = fleet.connect_v5("subscriber", 10);
    let second =
        Got::Publish { topic: "t".into(), payload: "2".into(), qos: ExactlyOnce, id: 2, dup: true, retain: false };
    assert_eq!(fleet.got(subscriber), [connack(true), Got::Ack(Pubrel, 1, SUCCESS), second]);
}

/// [MQTT-3.3.2-6], traps 33 and 49: the lifetime shrinks wherever the message waits, and while the broker is down.
#[test]
fn every_kind_of_waiting_counts_against_the_expiry() {
    let mut fleet = Fleet::durable(2);
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "queued", AtLeastOnce);
    fleet.subscribe(subscriber, "will", AtLeastOnce);
    fleet.disconnect(subscriber);
    let mut properties = PropertyWriter::new();
    properties.push(Property::MessageExpiryInterval(30));
    let expiring = |topic| Publish { properties: properties.properties(), ..message(topic, topic, AtLeastOnce, 1) };
    let will =
        Will { qos: AtLeastOnce, retain: true, topic: "will", properties: properties.properties(), payload: b"will" };
    let none = PropertyWriter::new();
    let client = fleet.connect_with(connect("client", &none, Some(will)));
    fleet.pass(Duration::from_secs(40));
    fleet.send(client, &Packet::Publish(expiring("queued")));
    fleet.send(client, &Packet::Publish(Publish { retain: true, ..expiring("retained") }));
    // The lifetime of the will begins here.
    fleet.drop_connection(client);
    fleet.pass(Duration::from_secs(4));
    fleet.crash(Duration::from_secs(6));
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "retained", AtLeastOnce);
    fleet.subscribe(subscriber, "will", AtLeastOnce);
    let received = fleet.received(subscriber);
    let left: Vec<_> = publishes(&received)
        .iter()
        .map(|publish| (publish.topic, publish.retain, publish.properties.message_expiry_interval()))
        .collect();
    let expected = [("queued", false), ("will", false), ("retained", true), ("will", true)];
    assert_eq!(left, expected.map(|(topic, retain)| (topic, retain, Some(20))));
    fleet.pass(Duration::from_secs(21));
    let late = fleet.connect(V5, "late", true);
    fleet.subscribe(late, "#", AtLeastOnce);
    assert_eq!(payloads(&mut fleet, late), [""; 0], "all are over");
}

/// Trap 50: each PUBLISH that only a server may send, or nobody, is refused with its code.
#[test]
fn publishes_that_a_client_may_not_send() {
    let rows: [(&str, &[u8], ReasonCode); 7] = [
        ("QoS 0 with DUP", b"\x38\x04\x00\x01t\x00", ReasonCode::MalformedPacket),
        ("a subscription identifier", b"\x30\x06\x00\x01t\x02\x0b\x01", ReasonCode::ProtocolError),
        ("a response topic with a wildcard", b"\x30\x08\x00\x01t\x04\x08\x00\x01#", ReasonCode::ProtocolError),
        ("an empty response topic", b"\x30\x07\x00\x01t\x03\x08\x00\x00", ReasonCode::ProtocolError),
        ("a payload format indicator of 2", b"\x30\x06\x00\x01t\x02\x01\x02", ReasonCode::ProtocolError),
        ("a topic with a wildcard", b"\x30\x04\x00\x01+\x00", ReasonCode::TopicNameInvalid),
        ("no topic and no alias", b"\x30\x03\x00\x00\x00", ReasonCode::ProtocolError),
    ];
    let mut fleet = Fleet::new(1);
    let watcher = fleet.connect(V5, "watcher", true);
    fleet.subscribe(watcher, "#", ExactlyOnce);
    for (name, bytes, reason) in rows {
        let client = fleet.connect(V5, "client", true);
        fleet.got(client);
        fleet.send_bytes(client, bytes);
        assert_eq!(fleet.got(client), [Got::Disconnect(reason)], "{name}");
    }
    assert_eq!(payloads(&mut fleet, watcher), [""; 0]);
}
