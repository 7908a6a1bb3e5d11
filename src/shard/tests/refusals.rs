//! What a client is refused without being sent away: a session, a subscription, a topic. Each in both versions.

use std::num::NonZeroU32;

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn with_will<'a>(version: Version, client_id: &'a str, topic: &'a str) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id,
        will: Some(Will { topic, payload: b"gone", qos: AtMostOnce, retain: false, properties: Properties::EMPTY }),
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn refused(reason: ReasonCode) -> [Got; 1] {
    [Got::Connack { session_present: false, reason }]
}

/// A session too many is refused; one that exists is resumed, or makes way for the one that its client begins.
#[test]
fn sessions_are_limited() {
    let mut fleet = Fleet::with_limits(1, Limits { max_sessions: NonZeroU32::new(2), ..limits() });
    let away = fleet.connect(Version::V311, "away", false);
    fleet.disconnect(away);
    let present = fleet.connect_v5("present", 10);
    let answers = [(Version::V311, ReasonCode::ServerUnavailable), (Version::V5, ReasonCode::QuotaExceeded)];
    for (version, reason) in answers {
        let third = fleet.connect(version, "third", true);
        assert_eq!(fleet.got(third), refused(reason));
        assert_eq!(fleet.commands(third), ["finish"]);
    }
    let away = fleet.connect(Version::V311, "away", false);
    assert_eq!(fleet.got(away), [Got::Connack { session_present: true, reason: ReasonCode::Success }]);
    // Its session ends with the connection, and then there is room.
    let again = fleet.connect(Version::V5, "present", true);
    assert_eq!(fleet.got(again), [Got::Connack { session_present: false, reason: ReasonCode::Success }]);
    assert_eq!(fleet.got(present)[1..], [Got::Disconnect(ReasonCode::SessionTakenOver)]);
    fleet.disconnect(again);
    let third = fleet.connect(Version::V5, "third", true);
    assert_eq!(fleet.got(third), [Got::Connack { session_present: false, reason: ReasonCode::Success }]);
    assert_eq!(fleet.count(|counters| counters.refused_max_sessions), 2);
    assert_eq!(fleet.count(|counters| counters.sessions), 2);
    assert_eq!(fleet.count(|counters| counters.protocol_violations), 0);
}

/// A subscription too many is refused on its own; one that exists is replaced, and one taken back gives its place to another.
#[test]
fn subscriptions_of_a_session_are_limited() {
    for shards in [1, 2] {
        for (version, refusal) in [(Version::V311, 0x80), (Version::V5, 0x97)] {
            let mut fleet = Fleet::with_limits(shards, Limits { max_subscriptions: 2, ..limits() });
            let client = fleet.connect(version, "client", true);
            fleet.got(client);
            for (filter, code) in [("a/+", 2), ("b", 2), ("c", refusal), ("a/b", refusal), ("a/+", 2)] {
                fleet.subscribe(client, filter, ExactlyOnce);
                assert_eq!(fleet.got(client), [Got::Suback(vec![code])], "{filter}");
            }
            fleet.unsubscribe(client, "b");
            fleet.subscribe(client, "c", ExactlyOnce);
            assert_eq!(fleet.got(client)[1..], [Got::Suback(vec![2])]);
            let other = fleet.connect(version, "other", true);
            fleet.subscribe(other, "b", ExactlyOnce);
            assert_eq!(fleet.got(other)[1..], [Got::Suback(vec![2])], "each session has its own");
            assert_eq!(fleet.count(|counters| counters.refused_max_subscriptions), 2);
            assert_eq!(fleet.count(|counters| counters.subscriptions), 3);
        }
    }
}

/// A topic that is too deep is refused as one that is not valid.
#[test]
fn levels_of_a_topic_are_limited() {
    let mut fleet = Fleet::with_limits(1, Limits { max_topic_levels: 3, ..limits() });
    for (version, refusal) in [(Version::V311, 0x80), (Version::V5, 0x8F)] {
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        for (filter, code) in [("a/+/#", 2), ("a/b/c/#", refusal)] {
            fleet.subscribe(client, filter, ExactlyOnce);
            assert_eq!(fleet.got(client), [Got::Suback(vec![code])], "{filter}");
        }
        fleet.publish(client, "a/b/c", "x", AtMostOnce, 0);
        assert!(matches!(fleet.got(client)[..], [Got::Publish { .. }]));
        fleet.publish(client, "a/b/c/d", "x", AtMostOnce, 0);
        let said = match version {
            Version::V311 => vec![],
            Version::V5 => vec![Got::Disconnect(ReasonCode::TopicNameInvalid)],
        };
        assert_eq!(fleet.got(client), said);
        assert_eq!(fleet.commands(client), ["finish"]);
        let client = fleet.connect_with(with_will(version, "client", "a/b/c/d"));
        let said = match version {
            Version::V311 => vec![],
            Version::V5 => refused(ReasonCode::TopicNameInvalid).to_vec(),
        };
        assert_eq!(fleet.got(client), said);
    }
    assert_eq!(fleet.count(|counters| counters.refused_max_topic_levels), 6);
    assert_eq!(fleet.count(|counters| counters.sessions), 0);
}

/// Nobody gets what a client publishes to a topic of the broker's own. 5.0 clients are told; 3.1.1 clients end the exchange.
/// 3.1.1: [MQTT-3.3.5-2].
#[test]
fn the_topics_of_the_broker_are_not_for_clients_to_publish_to() {
    for version in BOTH {
        let mut fleet = Fleet::new(2);
        let watcher = fleet.connect(version, "watcher", true);
        for filter in ["$SYS/#", "#"] {
            fleet.subscribe(watcher, filter, ExactlyOnce);
        }
        fleet.got(watcher);
        let client = fleet.connect(version, "client", true);
        fleet.got(client);
        let reason = match version {
            Version::V311 => ReasonCode::Success,
            Version::V5 => ReasonCode::NotAuthorized,
        };
        fleet.publish_with(client, "$SYS/broker/uptime", "x", AtMostOnce, 0, false, true);
        assert_eq!(fleet.got(client), []);
        fleet.publish_with(client, "$SYS/broker/uptime", "x", AtLeastOnce, 1, false, true);
        assert_eq!(fleet.got(client), [Got::Ack(AcknowledgementKind::Puback, 1, reason)]);
        fleet.publish_with(client, "$SYS/broker/uptime", "x", ExactlyOnce, 1, false, true);
        assert_eq!(fleet.got(client), [Got::Ack(AcknowledgementKind::Pubrec, 1, reason)]);
        if version == Version::V311 {
            fleet.ack(client, AcknowledgementKind::Pubrel, 1);
            assert_eq!(fleet.got(client), [Got::Ack(AcknowledgementKind::Pubcomp, 1, ReasonCode::Success)]);
        }
        assert_eq!(fleet.got(watcher), []);
        assert_eq!(fleet.count(|counters| counters.retained + counters.inbound_inflight), 0);
        assert_eq!(fleet.count(|counters| counters.refused_reserved_topic), 3);
        // The id is free for the next message, and what bridges say of their connection passes.
        fleet.publish(client, "$SYS/broker/connection/edge/state", "1", ExactlyOnce, 1);
        assert_eq!(fleet.got(client), [Got::Ack(AcknowledgementKind::Pubrec, 1, ReasonCode::Success)]);
        assert!(matches!(&fleet.got(watcher)[..], [Got::Publish { payload, .. }] if payload == "1"));
    }
}

#[test]
fn a_will_for_a_topic_of_the_broker_is_refused() {
    for version in BOTH {
        let mut fleet = Fleet::new(1);
        let client = fleet.connect_with(with_will(version, "client", "$SYS/broker/uptime"));
        assert_eq!(fleet.got(client), refused(ReasonCode::NotAuthorized));
        assert_eq!(fleet.count(|counters| counters.refused_reserved_topic), 1);
        let bridge = fleet.connect_with(with_will(version, "bridge", "$SYS/broker/connection/edge/state"));
        assert_eq!(fleet.got(bridge), [Got::Connack { session_present: false, reason: ReasonCode::Success }]);
    }
}

/// Held up by a slow subscriber, refusals wait in their order, and within the Receive Maximum [MQTT-3.3.4-9].
#[test]
fn refusals_that_are_held_back_are_bounded() {
    let mut fleet = Fleet::with_limits(1, Limits { congestion_messages: 4, max_inflight: 2, ..limits() });
    let subscriber = fleet.connect_v5("subscriber", 2);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let publisher = fleet.connect(Version::V5, "publisher", true);
    for number in 1..=6 {
        fleet.publish(publisher, "t", "x", AtLeastOnce, number);
    }
    fleet.got(publisher);
    for number in 7..=15 {
        fleet.publish(publisher, "$SYS/x", "x", AtLeastOnce, number);
    }
    assert_eq!(fleet.got(publisher), [], "ten are held back");
    fleet.publish(publisher, "$SYS/x", "x", ExactlyOnce, 16);
    assert_eq!(fleet.got(publisher), [Got::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
}
