//! Subscriptions, retained messages, and what both mean across shards.

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

fn payloads(fleet: &mut Fleet, client: Client) -> Vec<(String, bool)> {
    fleet
        .got(client)
        .into_iter()
        .filter_map(|got| match got {
            Got::Publish { payload, retain, .. } => Some((payload, retain)),
            _ => None,
        })
        .collect()
}

/// [MQTT-3.3.1-5..8], trap 23.
#[test]
fn a_retained_message_waits_for_its_subscribers() {
    for shards in [1, 2, 4] {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(Version::V311, "publisher", true);
        for (topic, payload) in [("a/1", "old"), ("a/1", "new"), ("a/2", "two"), ("b/1", "other")] {
            fleet.publish_with(publisher, topic, payload, AtMostOnce, 0, false, true);
        }
        for name in ["s1", "s2", "s3", "s4"] {
            let subscriber = fleet.connect(Version::V311, name, true);
            fleet.subscribe(subscriber, "a/+", ExactlyOnce);
            let mut got = payloads(&mut fleet, subscriber);
            got.sort();
            assert_eq!(got, [("new".into(), true), ("two".into(), true)], "{shards} shards");
            fleet.subscribe(subscriber, "b/1", ExactlyOnce);
            assert_eq!(payloads(&mut fleet, subscriber), [("other".into(), true)]);
            // A live delivery carries RETAIN 0 [MQTT-3.3.1-9 of 3.1.1].
            fleet.publish_with(publisher, "b/1", "live", AtMostOnce, 0, false, true);
            assert_eq!(payloads(&mut fleet, subscriber), [("live".into(), false)]);
            fleet.publish_with(publisher, "b/1", "other", AtMostOnce, 0, false, true);
            fleet.disconnect(subscriber);
        }
        fleet.publish_with(publisher, "a/1", "", AtMostOnce, 0, false, true);
        assert_eq!(fleet.count(|counters| counters.retained), 2);
        let subscriber = fleet.connect(Version::V311, "s5", true);
        fleet.subscribe(subscriber, "a/#", ExactlyOnce);
        assert_eq!(payloads(&mut fleet, subscriber), [("two".into(), true)]);
        assert_eq!(fleet.count(|counters| counters.pending_subscribes), 0);
    }
}

/// [MQTT-3.3.1-9..11], trap 24.
#[test]
fn retain_handling() {
    let mut fleet = Fleet::new(2);
    let publisher = fleet.connect(Version::V5, "publisher", true);
    fleet.publish_with(publisher, "t", "kept", AtMostOnce, 0, false, true);
    let subscriber = fleet.connect(Version::V5, "subscriber", true);
    let options =
        |retain_handling| SubscriptionOptions { retain_handling, ..SubscriptionOptions::from_qos(ExactlyOnce) };
    let rows = [
        (RetainHandling::SendNever, 0),
        (RetainHandling::SendIfNew, 0),
        (RetainHandling::SendAlways, 1),
        (RetainHandling::SendAlways, 1),
    ];
    for (handling, expected) in rows {
        fleet.subscribe_with(subscriber, "t", options(handling));
        assert_eq!(payloads(&mut fleet, subscriber).len(), expected, "{handling:?}");
    }
    fleet.unsubscribe(subscriber, "t");
    fleet.subscribe_with(subscriber, "t", options(RetainHandling::SendIfNew));
    assert_eq!(payloads(&mut fleet, subscriber).len(), 1, "the subscription is new again");
}

/// [MQTT-3.3.1-13] [MQTT-3.8.3-3]
#[test]
fn retain_as_published_and_no_local() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect(Version::V5, "client", true);
    let other = fleet.connect(Version::V5, "other", true);
    let options =
        SubscriptionOptions { no_local: true, retain_as_published: true, ..SubscriptionOptions::from_qos(AtMostOnce) };
    for client in [client, other] {
        fleet.subscribe_with(client, "t", options);
    }
    fleet.publish_with(client, "t", "x", AtMostOnce, 0, false, true);
    assert_eq!(payloads(&mut fleet, client), []);
    assert_eq!(payloads(&mut fleet, other), [("x".into(), true)]);
}

/// [MQTT-3.8.3-3], trap 27: no local holds for retained messages too, whoever's home their topics have, behind a restart with
/// another number of shards, and for the will of the client.
#[test]
fn no_local_leaves_out_retained_messages_of_the_client() {
    let mut fleet = Fleet::durable(3);
    let options = |no_local| SubscriptionOptions { no_local, ..SubscriptionOptions::from_qos(AtLeastOnce) };
    let mut expected = Vec::new();
    for number in 0..6 {
        for name in ["client", "other"] {
            let publisher = fleet.connect(Version::V5, name, true);
            fleet.publish_with(publisher, &format!("t/{name}/{number}"), name, AtLeastOnce, 1, false, true);
        }
        expected.push(("other".to_owned(), true));
    }
    let with_will = fleet.connect_with(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id: "client",
        will: Some(Will {
            qos: AtLeastOnce,
            retain: true,
            topic: "t/will",
            properties: Properties::EMPTY,
            payload: b"client",
        }),
        username: None,
        password: None,
        properties: Properties::EMPTY,
    });
    fleet.drop_connection(with_will);
    let check = |fleet: &mut Fleet| {
        let client = fleet.connect(Version::V5, "client", true);
        fleet.subscribe_with(client, "t/#", options(true));
        assert_eq!(payloads(fleet, client), expected);
        fleet.subscribe_with(client, "t/will", options(false));
        assert_eq!(payloads(fleet, client), [("client".into(), true)]);
    };
    check(&mut fleet);
    fleet.crash(Duration::from_secs(1));
    check(&mut fleet);
    fleet.crash_and_redeal(2);
    check(&mut fleet);
}

/// Trap 49: expired retained messages do not stay, neither in memory nor in the log.
#[test]
fn expired_retained_messages_are_removed() {
    let mut fleet = Fleet::durable(2);
    let publisher = fleet.connect(Version::V5, "publisher", true);
    for number in 0..40_u32 {
        let seconds = 1 + number % 4;
        let mut properties = PropertyWriter::new();
        properties.push(Property::MessageExpiryInterval(seconds));
        let publish = Publish {
            dup: false,
            qos: AtLeastOnce,
            retain: true,
            topic: &format!("t/{number}"),
            packet_id: Some(id(1)),
            properties: properties.properties(),
            payload: b"x",
        };
        fleet.send(publisher, &Packet::Publish(publish));
    }
    fleet.publish_with(publisher, "t/kept", "kept", AtMostOnce, 0, false, true);
    for (seconds, left) in [(0, 41), (2, 21), (3, 11), (5, 1)] {
        fleet.pass(Duration::from_secs(seconds));
        for _ in 0..20 {
            fleet.pass(Duration::from_millis(100));
        }
        assert!(fleet.count(|counters| counters.retained) <= left, "{left}");
    }
    assert_eq!(fleet.count(|counters| counters.retained), 1);
    assert_eq!(fleet.count(|counters| counters.expired_retained), 40);
    fleet.crash(Duration::ZERO);
    assert_eq!(fleet.count(|counters| counters.retained), 1);
}

/// A bridge of 3.1.1 has by its sign what 5.0 asks for with options: a topic bridged in both directions does not loop.
#[test]
fn a_bridge_gets_what_others_publish_as_they_did() {
    let mut fleet = Fleet::new(1);
    let bridge = fleet.connect_bridge("bridge");
    let client = fleet.connect(Version::V311, "client", true);
    for subscriber in [bridge, client] {
        fleet.subscribe(subscriber, "t", AtMostOnce);
    }
    fleet.publish_with(bridge, "t", "from the bridge", AtMostOnce, 0, false, true);
    fleet.publish_with(client, "t", "from the client", AtMostOnce, 0, false, true);
    assert_eq!(payloads(&mut fleet, bridge), [("from the client".into(), true)]);
    let both = [("from the bridge".into(), false), ("from the client".into(), false)];
    assert_eq!(payloads(&mut fleet, client), both);
}

/// A message published with RETAIN while a SUBSCRIBE is on its way through the shards comes once: live or retained.
#[test]
fn a_concurrent_retained_message_arrives_once() {
    let mut fleet = Fleet::new(3);
    let names: Vec<String> = (0..30).map(|number| format!("n{number}")).collect();
    let on =
        |shard: usize| names.iter().find(|name| shard_of(name, 3).index() == shard).expect("30 names reach 3 shards");
    let subscriber = fleet.connect(Version::V311, on(0), true);
    let publisher = fleet.connect(Version::V311, on(1), true);
    let topic = (0..).map(|n| format!("t{n}")).find(|topic| shard_of(topic, 3).index() == 2).expect("some topic");
    fleet.rings_flow = false;
    fleet.publish_with(publisher, &topic, "before", AtMostOnce, 0, false, true);
    fleet.subscribe(subscriber, &topic, ExactlyOnce);
    fleet.publish_with(publisher, &topic, "between", AtMostOnce, 0, false, true);
    assert_eq!(payloads(&mut fleet, subscriber), [], "no shard knows of the subscription yet");
    fleet.flow();
    assert_eq!(payloads(&mut fleet, subscriber), [("between".into(), true)]);
    fleet.publish_with(publisher, &topic, "after", AtMostOnce, 0, false, true);
    assert_eq!(payloads(&mut fleet, subscriber), [("after".into(), false)]);
}

/// SUBACK comes only when every shard has applied the subscription.
#[test]
fn suback_waits_for_all_shards() {
    let mut fleet = Fleet::new(2);
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    assert_eq!(fleet.got(subscriber), []);
    assert_eq!(fleet.count(|counters| counters.pending_subscribes), 1);
    fleet.flow();
    assert_eq!(fleet.got(subscriber), [Got::Suback(vec![2])]);
    assert_eq!(fleet.count(|counters| counters.pending_subscribes), 0);
}

/// A client that goes away while its SUBSCRIBE waits leaves nothing behind.
#[test]
fn a_subscriber_that_leaves_while_it_waits() {
    let mut fleet = Fleet::new(4);
    fleet.rings_flow = false;
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.subscribe(subscriber, "t/#", ExactlyOnce);
    fleet.drop_connection(subscriber);
    fleet.flow();
    let counters: Vec<_> = fleet.shards.iter().map(Shard::counters).collect();
    assert!(
        counters.iter().all(|counters| counters.pending_subscribes + counters.subscriptions + counters.sessions == 0),
        "{counters:?}"
    );
    assert!(fleet.shards.iter().all(|shard| shard.subscriptions.is_empty()));
}

/// A shard that another client had interested already sends a message live while it is also found retained: it comes
/// once, and in the order of its publisher.
#[test]
fn a_retained_message_is_found_only_once_beside_the_live_one() {
    let mut fleet = Fleet::new(3);
    let names: Vec<String> = (0..60).map(|number| format!("n{number}")).collect();
    let mut on = names.iter();
    let mut next_on =
        |shard: usize| on.find(|name| shard_of(name, 3).index() == shard).expect("60 names reach 3 shards").as_str();
    let earlier = fleet.connect(Version::V311, next_on(0), true);
    let subscriber = fleet.connect(Version::V311, next_on(0), true);
    let publisher = fleet.connect(Version::V311, next_on(1), true);
    let topic = (0..).map(|n| format!("t{n}")).find(|topic| shard_of(topic, 3).index() == 2).expect("some topic");
    fleet.subscribe(earlier, &topic, AtMostOnce);
    for client in [earlier, subscriber] {
        fleet.got(client);
    }
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, &topic, ExactlyOnce);
    for payload in ["one", "two"] {
        fleet.publish_with(publisher, &topic, payload, AtMostOnce, 0, false, true);
    }
    fleet.slow_ring = Some((1, 0));
    fleet.flow();
    assert_eq!(fleet.got(subscriber), [], "the publisher's shard has not answered");
    fleet.slow_ring = None;
    fleet.flow();
    for client in [subscriber, earlier] {
        assert_eq!(payloads(&mut fleet, client), [("one".into(), false), ("two".into(), false)]);
    }
}

/// SUBACK waits for all shards also if another client of this shard has subscribed to the filter just before.
#[test]
fn suback_waits_for_the_interest_that_another_client_caused() {
    let mut fleet = Fleet::new(2);
    let first = fleet.connect(Version::V5, "first", true);
    let names: Vec<String> = (0..30).map(|number| format!("n{number}")).collect();
    let neighbour =
        names.iter().find(|name| shard_of(name, 2) == shard_of("first", 2)).expect("30 names reach 2 shards");
    let second = fleet.connect(Version::V5, neighbour, true);
    fleet.got(second);
    fleet.rings_flow = false;
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendNever,
        ..SubscriptionOptions::from_qos(ExactlyOnce)
    };
    fleet.subscribe_with(first, "t", options);
    fleet.subscribe_with(second, "t", options);
    assert_eq!(fleet.got(second), []);
    fleet.flow();
    assert_eq!(fleet.got(second), [Got::Suback(vec![2])]);
}

/// [MQTT-3.10.4-2]: what is retained does not come behind UNSUBACK.
#[test]
fn an_unsubscribe_stops_the_retained_messages_on_their_way() {
    let mut fleet = Fleet::new(2);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.publish_with(publisher, "t", "x", AtMostOnce, 0, false, true);
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.unsubscribe(subscriber, "t");
    fleet.flow();
    assert_eq!(fleet.got(subscriber), [Got::Unsuback(vec![]), Got::Suback(vec![2])]);
    assert_eq!(fleet.count(|counters| counters.messages), 0);
}

/// A SUBSCRIBE is answered on its own connection or not at all, also when the next connection of the client has the same
/// key [MQTT-3.8.4-2].
#[test]
fn suback_does_not_come_on_the_next_connection() {
    let mut fleet = Fleet::new(2);
    let first = fleet.connect(Version::V311, "subscriber", false);
    fleet.rings_flow = false;
    fleet.subscribe(first, "t", ExactlyOnce);
    fleet.drop_connection(first);
    let second = fleet.connect(Version::V311, "subscriber", false);
    fleet.flow();
    assert_eq!(fleet.got(second), [Got::Connack { session_present: true, reason: ReasonCode::Success }]);
    assert_eq!(fleet.count(|counters| counters.pending_subscribes), 0);
}

/// Traps 26, 28.
#[test]
fn suback_and_unsuback_have_one_code_per_filter() {
    let mut fleet = Fleet::new(1);
    let new = fleet.connect(Version::V5, "new", true);
    let old = fleet.connect(Version::V311, "old", true);
    fleet.got(new);
    fleet.got(old);
    let rows =
        [("a/+", 2, 2), ("a/#/b", 0x8F, 0x80), ("$share/g/t", 2, 2), ("$share/g/$share/h/t", 0x8F, 0x80), ("#", 2, 2)];
    for (filter, new_code, old_code) in rows {
        fleet.subscribe(new, filter, ExactlyOnce);
        fleet.subscribe(old, filter, ExactlyOnce);
        assert_eq!(fleet.got(new), [Got::Suback(vec![new_code])], "{filter}");
        assert_eq!(fleet.got(old), [Got::Suback(vec![old_code])], "{filter}");
    }
    fleet.unsubscribe(new, "a/+");
    fleet.unsubscribe(new, "a/+");
    fleet.unsubscribe(old, "#");
    assert_eq!(fleet.got(new), [Got::Unsuback(vec![0]), Got::Unsuback(vec![0x11])]);
    assert_eq!(fleet.got(old), [Got::Unsuback(vec![])]);
}

/// Trap 40: a client that has shut its side gets the SUBACK that other shards have a part in, and then the end.
#[test]
fn a_half_closed_subscriber_gets_its_suback() {
    let mut fleet = Fleet::new(2);
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.end_of_stream(subscriber);
    assert!(!fleet.is_closed(subscriber));
    fleet.flow();
    assert_eq!(fleet.got(subscriber), [Got::Suback(vec![2])]);
    assert!(fleet.is_closed(subscriber));
}
