//! Traps of sessions, wills and subscriptions.

use super::*;

/// Trap 16: without session present the ids of the client are void, so that a repeated PUBLISH is a new message.
#[test]
fn a_clean_start_voids_the_ids_of_the_client() {
    let mut fleet = Fleet::durable(1);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let publisher = fleet.connect(V311, "publisher", false);
    fleet.publish(publisher, "t", "before", ExactlyOnce, 7);
    fleet.drop_connection(publisher);
    let publisher = fleet.connect(V311, "publisher", true);
    assert_eq!(fleet.got(publisher), [connack(false)]);
    fleet.publish_with(publisher, "t", "behind", ExactlyOnce, 7, true, false);
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, SUCCESS)]);
    assert_eq!(payloads(&mut fleet, subscriber), ["before", "behind"]);
}

/// Trap 17: an expiry of 0xFFFFFFFF is none, also across a restart.
#[test]
fn an_expiry_of_all_ones_never_ends() {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    let mut fleet = Fleet::durable(1);
    let properties = expiry_of(u32::MAX);
    let client = fleet.connect_with(connect("client", &properties, None));
    fleet.disconnect(client);
    fleet.pass(TEN_YEARS);
    fleet.crash(TEN_YEARS);
    fleet.pass(TEN_YEARS);
    let client = fleet.connect_with(connect("client", &properties, None));
    assert_eq!(fleet.got(client), [connack(true)]);
}

/// Trap 17: DISCONNECT may change an expiry that was not 0, in both directions; a restart knows it.
#[test]
fn disconnect_changes_the_expiry() {
    for (expiry_seconds, away_seconds, session_present) in [(600, 500, true), (5, 10, false), (0, 1, false)] {
        let mut fleet = Fleet::durable(1);
        let client = fleet.connect_v5("client", 10);
        let properties = expiry_of(expiry_seconds);
        let disconnect = Disconnect { reason: SUCCESS, properties: properties.properties() };
        fleet.send(client, &Packet::Disconnect(disconnect));
        // Nobody waits for this record, so it may be written a little later.
        fleet.pass(Duration::from_secs(1));
        fleet.crash(Duration::from_secs(away_seconds));
        fleet.pass(Duration::from_secs(1));
        let client = fleet.connect_v5("client", 10);
        assert_eq!(fleet.got(client), [connack(session_present)], "{expiry_seconds} s");
    }
}

/// Trap 22: a broker that stops publishes the wills of those it sends away, and does not do so again when it starts.
#[test]
fn a_shutdown_publishes_wills_once() {
    let mut fleet = Fleet::durable(1);
    let watcher = fleet.connect(V311, "watcher", false);
    fleet.subscribe(watcher, "will", AtLeastOnce);
    fleet.connect_with_will("transient", 0, 0);
    fleet.connect_with_will("durable", 60, 0);
    let now = fleet.now;
    fleet.shards[0].handle_shutdown(now);
    fleet.run();
    fleet.pass(Duration::from_secs(2));
    assert!(fleet.shards[0].is_drained());
    fleet.crash(Duration::from_secs(1));
    let watcher = fleet.connect(V311, "watcher", false);
    fleet.pass(Duration::from_secs(120));
    assert_eq!(payloads(&mut fleet, watcher), ["gone", "gone"]);
}

/// Trap 48: all properties of a will but its delay arrive, and its payload may be empty.
#[test]
fn a_will_brings_its_properties_and_may_be_empty() {
    let mut fleet = Fleet::new(1);
    let watcher = fleet.connect_v5("watcher", 10);
    fleet.subscribe(watcher, "will", AtLeastOnce);
    let forwarded = [
        Property::PayloadFormatIndicator(1),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("answers"),
        Property::CorrelationData(&[0, 255]),
        Property::UserProperty(crate::proto::StringPair { name: "a", value: "1" }),
        Property::UserProperty(crate::proto::StringPair { name: "a", value: "1" }),
    ];
    let mut properties = PropertyWriter::new();
    properties.push(Property::WillDelayInterval(5));
    for property in forwarded {
        properties.push(property);
    }
    let will =
        Will { qos: AtLeastOnce, retain: false, topic: "will", properties: properties.properties(), payload: b"" };
    let expiry = expiry_of(60);
    let client = fleet.connect_with(connect("client", &expiry, Some(will)));
    fleet.drop_connection(client);
    fleet.pass(Duration::from_secs(6));
    let received = fleet.received(watcher);
    let [publish] = publishes(&received)[..] else { panic!("one will") };
    assert_eq!(publish.payload, b"");
    assert!(publish.properties.iter().eq(forwarded));
}

/// Trap 48: a will needs a topic name, without wildcards and not empty.
#[test]
fn a_will_without_a_topic_name_is_refused() {
    for topic in ["", "a/#", "+", "a/+/b"] {
        let mut fleet = Fleet::new(1);
        let none = PropertyWriter::new();
        let will = Will { qos: AtMostOnce, retain: false, topic, properties: none.properties(), payload: b"gone" };
        let new = fleet.connect_with(connect("new", &none, Some(will)));
        let refused = Got::Connack { session_present: false, reason: ReasonCode::TopicNameInvalid };
        assert_eq!(fleet.got(new), [refused], "{topic:?}");
        let old = Connect { version: V311, clean_start: true, ..connect("old", &none, Some(will)) };
        let old = fleet.connect_with(old);
        assert_eq!(fleet.got(old), [], "3.1.1 has no return code for it");
        assert_eq!(fleet.commands(old), ["finish"]);
        assert_eq!(fleet.count(|counters| counters.sessions), 0);
    }
}

/// [MQTT-3.8.3-3], trap 27: a will is its client's own message, whichever connection of the client comes next.
#[test]
fn a_will_is_local_to_its_client() {
    let mut fleet = Fleet::durable(1);
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::from_qos(AtLeastOnce) };
    let watcher = fleet.connect_v5("watcher", 10);
    fleet.subscribe_with(watcher, "will", options);
    let client = fleet.connect_with_will("client", 60, 0);
    fleet.subscribe_with(client, "will", options);
    // Once at the end of the connection, once when the delay is over.
    for delay_seconds in [0, 5] {
        let client = fleet.connect_with_will("client", 60, delay_seconds);
        fleet.drop_connection(client);
        fleet.pass(Duration::from_secs(6));
    }
    let client = fleet.connect_v5("client", 10);
    assert_eq!(fleet.got(client), [connack(true)]);
    assert_eq!(payloads(&mut fleet, watcher), ["gone", "gone", "gone"], "that of the take-over too");
}

/// [MQTT-3.8.3-4], trap 26.
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_v5("client", 10);
    fleet.got(client);
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::from_qos(ExactlyOnce) };
    fleet.subscribe_with(client, "$share/group/t", options);
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::ProtocolError)]);
}

/// [MQTT-3.8.4-6] [MQTT-3.11.3-1], trap 28: one code for each filter of the packet, in their order.
#[test]
fn every_filter_of_a_packet_has_its_code_in_its_place() {
    let filters = ["a/#", "a/#/b", "b", "", "c"];
    for (version, granted, ended) in
        [(V311, vec![2, 0x80, 1, 0x80, 0], vec![]), (V5, vec![2, 0x8F, 1, 0x8F, 0], vec![0, 0x8F, 0, 0x8F, 0])]
    {
        let mut fleet = Fleet::new(2);
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        let options =
            [ExactlyOnce, ExactlyOnce, AtLeastOnce, AtMostOnce, AtMostOnce].map(SubscriptionOptions::from_qos);
        let mut bytes = Vec::new();
        encode_subscribe(&mut bytes, version, id(1), Properties::EMPTY, filters.into_iter().zip(options));
        encode_unsubscribe(&mut bytes, version, id(2), Properties::EMPTY, filters.into_iter());
        fleet.send_bytes(client, &bytes);
        let mut got = fleet.got(client);
        // SUBACK waits for the other shard.
        got.sort_by_key(|got| matches!(got, Got::Unsuback(_)));
        assert_eq!(got, [Got::Suback(granted), Got::Unsuback(ended)]);
    }
}

/// Trap 51: a subscription has the identifier of the last SUBSCRIBE, or none, and a restart keeps it.
#[test]
fn a_subscription_identifier_is_replaced_and_outlives_the_broker() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 10);
    let subscribe = |fleet: &mut Fleet, identifier: Option<u32>| {
        let mut properties = PropertyWriter::new();
        if let Some(identifier) = identifier {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let mut bytes = Vec::new();
        let options = SubscriptionOptions::from_qos(AtMostOnce);
        encode_subscribe(&mut bytes, V5, id(1), properties.properties(), std::iter::once(("t", options)));
        fleet.send_bytes(subscriber, &bytes);
    };
    let identifiers = |fleet: &mut Fleet, publisher: Client, subscriber: Client| {
        fleet.received(subscriber);
        fleet.publish(publisher, "t", "x", AtMostOnce, 0);
        let received = fleet.received(subscriber);
        let [publish] = publishes(&received)[..] else { panic!("one message") };
        publish.properties.subscription_identifiers().collect::<Vec<_>>()
    };
    for identifier in [Some(1), Some(268_435_455), None, Some(3)] {
        subscribe(&mut fleet, identifier);
        assert_eq!(identifiers(&mut fleet, publisher, subscriber), Vec::from_iter(identifier));
    }
    fleet.crash(Duration::ZERO);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 10);
    assert_eq!(identifiers(&mut fleet, publisher, subscriber), [3]);
}
