//! Bridges of ours: the shard as a client of another broker, which the tests play.

use std::sync::Arc;

use super::*;
use crate::bridge::{Bridge, BridgedTopic, Direction, Topics};
use crate::proto::{Auth, PacketType, Suback};

/// A bridge "up" that carries these: pattern, direction, local and remote prefix.
pub(super) fn bridge(topics: &[(&str, Direction, &str, &str)]) -> Arc<Bridge> {
    let topic = |&(pattern, direction, local, remote): &(&str, Direction, &str, &str)| {
        BridgedTopic::new(pattern, direction, QoS::ExactlyOnce, local, remote).expect("a good pattern")
    };
    Arc::new(Bridge {
        name: "up".into(),
        host: "hub".into(),
        port: 1883,
        version: Version::V5,
        client_id: "edge.up".into(),
        keep_alive_seconds: 60,
        username: None,
        password: None,
        receive_maximum: None,
        max_inflight: 10,
        topics: Topics::from(topics.iter().map(topic).collect::<Vec<_>>()),
    })
}

fn outward() -> Arc<Bridge> {
    bridge(&[("#", Direction::Out, "out/", "edge/")])
}

fn both_ways() -> Arc<Bridge> {
    bridge(&[("#", Direction::Both, "both/", "far/")])
}

/// A fleet with logs that keeps this bridge.
fn fleet_with(bridge: &Arc<Bridge>) -> Fleet {
    let mut fleet = Fleet::durable(2);
    fleet.keep_bridges(&[Arc::clone(bridge)]);
    fleet
}

fn publish(topic: &str, payload: &str, packet_id: u16, dup: bool) -> Got {
    Got::Publish {
        topic: topic.into(),
        payload: payload.into(),
        qos: QoS::ExactlyOnce,
        id: packet_id,
        dup,
        retain: false,
    }
}

fn subscribe(packet_id: u16, filters: &[&str]) -> Got {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    Got::Subscribe(packet_id, filters.iter().map(|filter| ((*filter).to_owned(), options)).collect())
}

fn suback(fleet: &mut Fleet, remote: Client, packet_id: u16, codes: &[u8]) {
    let suback = Suback { packet_id: id(packet_id), properties: Properties::EMPTY, codes };
    fleet.send(remote, &Packet::Suback(suback));
}

fn pubrel(packet_id: u16) -> Got {
    Got::Ack(AcknowledgementKind::Pubrel, packet_id, ReasonCode::Success)
}

/// A remote that opened the bridge, with its subscription granted; the local session was not known to it.
fn carrying(fleet: &mut Fleet, bridge: &Arc<Bridge>) -> Client {
    let remote = fleet.open_bridge(bridge, false, Properties::EMPTY);
    match &fleet.got(remote)[..] {
        [] => {}
        [Got::Subscribe(packet_id, filters)] => {
            suback(fleet, remote, *packet_id, &vec![2; filters.len()]);
        }
        other => panic!("{other:?}"),
    }
    remote
}

#[test]
fn messages_wait_for_the_first_connection() {
    let bridge = outward();
    let mut fleet = fleet_with(&bridge);
    let sensor = fleet.connect_v5_transient("sensor");
    fleet.publish(sensor, "out/a", "1", QoS::ExactlyOnce, 1);
    fleet.publish(sensor, "other", "x", QoS::ExactlyOnce, 2);
    fleet.publish(sensor, "out/b", "2", QoS::ExactlyOnce, 3);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    assert_eq!(fleet.got(remote), [publish("edge/a", "1", 1, false), publish("edge/b", "2", 2, false)]);
    fleet.ack(remote, AcknowledgementKind::Pubrec, 1);
    assert_eq!(fleet.got(remote), [pubrel(1)]);
    fleet.ack(remote, AcknowledgementKind::Pubcomp, 1);
    fleet.publish(sensor, "out/c", "3", QoS::ExactlyOnce, 4);
    assert_eq!(fleet.got(remote), [publish("edge/c", "3", 3, false)]);
}

#[test]
fn what_comes_in_does_not_go_back() {
    let bridge = both_ways();
    for crash in [false, true] {
        let mut fleet = fleet_with(&bridge);
        let mut remote = carrying(&mut fleet, &bridge);
        if crash {
            fleet.crash(Duration::from_secs(1));
            fleet.keep_bridges(&[Arc::clone(&bridge)]);
            remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
            assert_eq!(fleet.got(remote), [], "the subscription is known to be there");
        }
        let dash = fleet.connect_v5_transient("dash");
        fleet.subscribe(dash, "both/#", QoS::ExactlyOnce);
        fleet.got(dash);
        fleet.publish(remote, "far/x", "in", QoS::ExactlyOnce, 7);
        assert_eq!(
            fleet.got(remote),
            [Got::Ack(AcknowledgementKind::Pubrec, 7, ReasonCode::Success)],
            "nothing but the acknowledgement"
        );
        assert_eq!(fleet.got(dash), [publish("both/x", "in", 1, false)]);
        // Nothing of the broker's own may come in.
        fleet.publish(remote, "elsewhere", "lost", QoS::ExactlyOnce, 8);
        assert_eq!(fleet.got(remote), [Got::Ack(AcknowledgementKind::Pubrec, 8, ReasonCode::Success)]);
        fleet.ack(remote, AcknowledgementKind::Pubrel, 8);
        fleet.got(remote);
        assert_eq!(fleet.got(dash), []);
        assert_eq!(fleet.count(|counters| counters.dropped_not_bridged), 1);
    }
}

#[test]
fn messages_go_out_behind_the_subscription() {
    let bridge = both_ways();
    let mut fleet = fleet_with(&bridge);
    let sensor = fleet.connect_v5_transient("sensor");
    fleet.publish(sensor, "both/a", "1", QoS::ExactlyOnce, 1);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    assert_eq!(fleet.got(remote), [subscribe(1, &["far/#"])]);
    fleet.publish(sensor, "both/b", "2", QoS::ExactlyOnce, 2);
    assert_eq!(fleet.got(remote), []);
    suback(&mut fleet, remote, 1, &[2]);
    assert_eq!(fleet.got(remote), [publish("far/a", "1", 1, false), publish("far/b", "2", 2, false)]);
}

/// [MQTT-4.4.0-1] [MQTT-4.3.3-10], as a client.
#[test]
fn both_halves_outlive_connections_and_crashes() {
    let bridge = both_ways();
    for crash in [false, true] {
        let mut fleet = fleet_with(&bridge);
        assert!(!fleet.is_bridge_shared(&bridge));
        let remote = carrying(&mut fleet, &bridge);
        assert!(fleet.is_bridge_shared(&bridge));
        let sensor = fleet.connect_v5_transient("sensor");
        fleet.publish(sensor, "both/a", "1", QoS::ExactlyOnce, 1);
        fleet.publish(sensor, "both/b", "2", QoS::ExactlyOnce, 2);
        fleet.ack(remote, AcknowledgementKind::Pubrec, 1);
        fleet.publish(remote, "far/x", "in", QoS::ExactlyOnce, 7);
        fleet.got(remote);
        if crash {
            fleet.crash(Duration::from_secs(1));
            fleet.keep_bridges(&[Arc::clone(&bridge)]);
        } else {
            fleet.drop_connection(remote);
        }
        assert!(fleet.is_bridge_shared(&bridge));
        let remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
        assert_eq!(fleet.got(remote), [pubrel(1), publish("far/b", "2", 2, true)]);
        fleet.publish_with(remote, "far/x", "in", QoS::ExactlyOnce, 7, true, false);
        assert_eq!(fleet.got(remote), [Got::Ack(AcknowledgementKind::Pubrec, 7, ReasonCode::Success)]);
        assert_eq!(fleet.count(|counters| counters.duplicates_suppressed), 1);
    }
}

/// What was never linked must not resume what somebody else has left at the remote [MQTT-3.2.2-4].
#[test]
fn a_session_is_shared_once_that_is_stable() {
    let bridge = both_ways();
    let mut fleet = fleet_with(&bridge);
    fleet.crash(Duration::from_secs(1));
    fleet.keep_bridges(&[Arc::clone(&bridge)]);
    assert!(!fleet.is_bridge_shared(&bridge));
    fleet.logs_flow = false;
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    assert_eq!(fleet.got(remote), [], "SUBSCRIBE waits for the log");
    fleet.crash(Duration::from_secs(1));
    fleet.keep_bridges(&[Arc::clone(&bridge)]);
    assert!(!fleet.is_bridge_shared(&bridge));
}

/// [MQTT-3.2.2-5]: ids mean nothing any more, but messages that were not acknowledged are still brought there.
#[test]
fn a_lost_session_loses_no_message() {
    let bridge = both_ways();
    for crash in [false, true] {
        let mut fleet = fleet_with(&bridge);
        let remote = carrying(&mut fleet, &bridge);
        let sensor = fleet.connect_v5_transient("sensor");
        for number in 1..=3 {
            fleet.publish(sensor, "both/a", &number.to_string(), QoS::ExactlyOnce, number);
        }
        fleet.ack(remote, AcknowledgementKind::Pubrec, 1);
        fleet.publish(remote, "far/x", "in", QoS::ExactlyOnce, 7);
        fleet.drop_connection(remote);
        let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
        assert_eq!(fleet.got(remote), [subscribe(4, &["far/#"])]);
        let notice = BridgeNotice::SessionLost { bridge: "up".into(), unacknowledged: 2, confirmed: 1, received: 1 };
        assert_eq!(fleet.notices(), [notice]);
        let remote = if crash {
            // What was forgotten is forgotten for good.
            fleet.crash(Duration::from_secs(1));
            fleet.keep_bridges(&[Arc::clone(&bridge)]);
            let remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
            assert_eq!(fleet.got(remote), [subscribe(4, &["far/#"])]);
            remote
        } else {
            remote
        };
        suback(&mut fleet, remote, 4, &[2]);
        assert_eq!(fleet.got(remote), [publish("far/a", "2", 2, crash), publish("far/a", "3", 3, crash)]);
        fleet.publish(remote, "far/x", "new", QoS::ExactlyOnce, 7);
        assert_eq!(fleet.count(|counters| counters.duplicates_suppressed), 0, "the id is a new one");
    }
}

#[test]
fn a_subscription_is_made_again_when_it_has_changed_or_was_not_granted() {
    let bridge = bridge(&[("#", Direction::In, "", "far/"), ("x", Direction::In, "", "$SYS/")]);
    let mut fleet = fleet_with(&bridge);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    let both = subscribe(1, &["far/#", "$SYS/x"]);
    assert_eq!(fleet.got(remote), std::slice::from_ref(&both));
    suback(&mut fleet, remote, 1, &[1, 0x87]);
    assert_eq!(
        fleet.notices(),
        [
            BridgeNotice::SubscriptionLowered { bridge: "up".into(), filter: "far/#".into(), qos: QoS::AtLeastOnce },
            BridgeNotice::SubscriptionRefused {
                bridge: "up".into(),
                filter: "$SYS/x".into(),
                reason: ReasonCode::NotAuthorized
            },
        ]
    );
    fleet.drop_connection(remote);
    let remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
    assert_eq!(fleet.got(remote), [both]);
    suback(&mut fleet, remote, 1, &[2, 2]);
    fleet.drop_connection(remote);
    let remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
    assert_eq!(fleet.got(remote), []);
    fleet.drop_connection(remote);
    let changed = self::bridge(&[("#", Direction::In, "", "far/")]);
    let remote = fleet.open_bridge(&changed, true, Properties::EMPTY);
    assert_eq!(fleet.got(remote), [subscribe(1, &["far/#"])]);
}

#[test]
fn local_subscriptions_follow_the_configuration() {
    let mut fleet = fleet_with(&bridge(&[("a", Direction::Out, "", ""), ("b", Direction::Out, "", "")]));
    assert_eq!(fleet.count(|counters| counters.subscriptions), 2);
    fleet.crash(Duration::from_secs(1));
    let changed =
        bridge(&[("b", Direction::Out, "", ""), ("c", Direction::Both, "", ""), ("d", Direction::In, "", "")]);
    fleet.keep_bridges(&[changed]);
    assert_eq!(fleet.count(|counters| counters.subscriptions), 2);
    let sensor = fleet.connect_v5_transient("sensor");
    for (number, topic) in (1..).zip(["a", "b", "c", "d"]) {
        fleet.publish(sensor, topic, "x", QoS::ExactlyOnce, number);
    }
    assert_eq!(fleet.count(|counters| counters.queued), 2);
    fleet.crash(Duration::from_secs(1));
    fleet.keep_bridges(&[]);
    assert_eq!(fleet.notices(), [BridgeNotice::SessionEnded { session: "$bridge/up".into() }]);
    assert_eq!(fleet.count(|counters| counters.sessions + counters.queued + counters.subscriptions), 0);
    fleet.crash(Duration::from_secs(1));
    assert_eq!(fleet.count(|counters| counters.sessions), 0, "for good");
}

/// More messages in flight that are not bridged any more than the remote takes at once: those behind them go on all the same.
/// Seed 15,108 of the simulator left them waiting.
#[test]
fn what_is_no_longer_bridged_keeps_nothing_waiting() {
    let old = bridge(&[("#", Direction::Out, "a/", ""), ("#", Direction::Out, "b/", "")]);
    let mut fleet = fleet_with(&old);
    let remote = fleet.open_bridge(&old, false, Properties::EMPTY);
    let sensor = fleet.connect_v5_transient("sensor");
    for number in 1..=8 {
        fleet.publish(sensor, "a/1", "in flight", QoS::AtLeastOnce, number);
    }
    assert_eq!(fleet.got(remote).len(), 8);
    fleet.drop_connection(remote);
    fleet.publish(sensor, "b/2", "queued", QoS::ExactlyOnce, 9);
    fleet.crash(Duration::from_secs(1));
    let new = bridge(&[("#", Direction::Out, "b/", "")]);
    fleet.keep_bridges(&[Arc::clone(&new)]);
    let mut properties = PropertyWriter::new();
    let remote = fleet.open_bridge(&new, true, properties.push(Property::ReceiveMaximum(3)).properties());
    let got = fleet.got(remote);
    assert!(matches!(&got[..], [Got::Publish { topic, .. }] if topic == "2"), "{got:?}");
}

/// A message whose topic is not bridged any more is not sent; but the remote may hold its id, and that must come free.
#[test]
fn what_is_no_longer_bridged_leaves_no_id_behind() {
    let old = bridge(&[("#", Direction::Out, "a/", ""), ("#", Direction::Out, "b/", "")]);
    let mut fleet = fleet_with(&old);
    let remote = fleet.open_bridge(&old, false, Properties::EMPTY);
    let sensor = fleet.connect_v5_transient("sensor");
    fleet.publish(sensor, "a/1", "in flight", QoS::ExactlyOnce, 1);
    fleet.publish(sensor, "b/1", "in flight", QoS::ExactlyOnce, 2);
    assert_eq!(fleet.got(remote).len(), 2);
    fleet.drop_connection(remote);
    fleet.publish(sensor, "a/2", "queued", QoS::ExactlyOnce, 3);
    fleet.publish(sensor, "b/2", "queued", QoS::ExactlyOnce, 4);
    fleet.crash(Duration::from_secs(1));
    let new = bridge(&[("#", Direction::Out, "b/", "")]);
    fleet.keep_bridges(&[Arc::clone(&new)]);
    let remote = fleet.open_bridge(&new, true, Properties::EMPTY);
    let got = fleet.got(remote);
    assert!(got.contains(&pubrel(1)) && got.contains(&publish("1", "in flight", 2, true)), "{got:?}");
    assert!(!got.iter().any(|got| matches!(got, Got::Publish { id: 1, .. })), "{got:?}");
    fleet.ack_with(remote, AcknowledgementKind::Pubcomp, 1, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(fleet.count(|counters| counters.outbound_inflight), 2);
    assert_eq!(fleet.count(|counters| counters.dropped_not_bridged), 2);
}

/// [MQTT-3.2.2-14] [MQTT-3.2.2-15] [MQTT-3.3.4-9] [MQTT-3.1.2-21]
#[test]
fn the_limits_of_the_remote_are_kept() {
    let bridge = outward();
    let mut fleet = fleet_with(&bridge);
    let mut properties = PropertyWriter::new();
    properties.push(Property::ReceiveMaximum(2));
    properties.push(Property::MaximumPacketSize(50));
    properties.push(Property::RetainAvailable(false));
    properties.push(Property::ServerKeepAlive(10));
    properties.push(Property::TopicAliasMaximum(1));
    let remote = fleet.open_bridge(&bridge, false, properties.properties());
    let sensor = fleet.connect_v5_transient("sensor");
    fleet.publish(sensor, "out/a", &"x".repeat(60), QoS::ExactlyOnce, 1);
    assert_eq!(fleet.got(remote), []);
    assert_eq!(fleet.count(|counters| counters.dropped_too_large), 1);
    fleet.publish_with(sensor, "out/a", "1", QoS::ExactlyOnce, 2, false, true);
    fleet.publish(sensor, "out/a", "2", QoS::ExactlyOnce, 3);
    fleet.publish(sensor, "out/a", "3", QoS::ExactlyOnce, 4);
    // The first one introduces the alias of its topic at the remote.
    assert_eq!(fleet.got(remote), [publish("edge/a", "1", 2, false), publish("", "2", 3, false)]);
    fleet.pass(Duration::from_millis(5200));
    assert_eq!(fleet.got(remote), [Got::Pingreq]);
}

/// [MQTT-3.1.2-20] [MQTT-3.12.4-1]
#[test]
fn a_silent_remote_is_given_up() {
    let bridge = outward();
    let mut fleet = fleet_with(&bridge);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    for _ in 0..5 {
        fleet.pass(Duration::from_secs(31));
        assert_eq!(fleet.got(remote), [Got::Pingreq]);
        fleet.send(remote, &Packet::Pingresp);
    }
    for _ in 0..2 {
        fleet.pass(Duration::from_secs(31));
        assert_eq!(fleet.got(remote), [Got::Pingreq]);
    }
    fleet.pass(Duration::from_secs(31));
    assert_eq!(fleet.got(remote), [Got::Disconnect(ReasonCode::UnspecifiedError)]);
    assert_eq!(fleet.notices(), [BridgeNotice::Ended { bridge: "up".into(), text: "the remote is silent" }]);
}

#[test]
fn a_remote_that_does_not_answer_subscribe_is_given_up() {
    let bridge = both_ways();
    let mut fleet = fleet_with(&bridge);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    fleet.got(remote);
    for _ in 0..2 {
        fleet.pass(Duration::from_secs(31));
        assert_eq!(fleet.got(remote), [Got::Pingreq]);
        fleet.send(remote, &Packet::Pingresp);
    }
    fleet.pass(Duration::from_secs(31));
    assert_eq!(fleet.got(remote), [Got::Disconnect(ReasonCode::UnspecifiedError)]);
}

/// Each packet from a remote is either what a server may send, or ends the connection.
#[test]
fn a_remote_may_send_what_a_server_may() {
    let ack = |kind: fn(Acknowledgement<'static>) -> Packet<'static>, reason| {
        kind(Acknowledgement { packet_id: id(9), reason, properties: Properties::EMPTY })
    };
    let mut identified = PropertyWriter::new();
    identified.push(Property::SubscriptionIdentifier(3));
    let mut aliased = PropertyWriter::new();
    aliased.push(Property::TopicAlias(1));
    let message = |properties| {
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "far/x",
            packet_id: None,
            properties,
            payload: b"x",
        })
    };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    let connack = Connack { session_present: false, reason: ReasonCode::Success, properties: Properties::EMPTY };
    let answer = Suback { packet_id: id(9), properties: Properties::EMPTY, codes: &[0] };
    let mut raw = Vec::new();
    let filter = ("x", SubscriptionOptions::from_qos(QoS::AtMostOnce));
    encode_subscribe(&mut raw, Version::V5, id(9), Properties::EMPTY, std::iter::once(filter));
    let Ok(subscribe) = decode(Version::V5, &raw) else { panic!("a legal SUBSCRIBE") };
    let mut raw = Vec::new();
    encode_unsubscribe(&mut raw, Version::V5, id(9), Properties::EMPTY, std::iter::once("x"));
    let Ok(unsubscribe) = decode(Version::V5, &raw) else { panic!("a legal UNSUBSCRIBE") };
    let goodbye = Disconnect { reason: ReasonCode::ServerShuttingDown, properties: Properties::EMPTY };
    let rows = [
        (Packet::Connect(connect), Some(ReasonCode::ProtocolError)),
        (Packet::Connack(connack), Some(ReasonCode::ProtocolError)),
        (message(Properties::EMPTY), None),
        (message(identified.properties()), None),
        (message(aliased.properties()), Some(ReasonCode::TopicAliasInvalid)),
        (ack(Packet::Puback, ReasonCode::Success), None),
        (ack(Packet::Pubrec, ReasonCode::UnspecifiedError), None),
        (ack(Packet::Pubrel, ReasonCode::Success), None),
        (ack(Packet::Pubcomp, ReasonCode::Success), None),
        (subscribe, Some(ReasonCode::ProtocolError)),
        (Packet::Suback(answer), Some(ReasonCode::ProtocolError)),
        (unsubscribe, Some(ReasonCode::ProtocolError)),
        (Packet::Unsuback(answer), Some(ReasonCode::ProtocolError)),
        (Packet::Pingreq, Some(ReasonCode::ProtocolError)),
        (Packet::Pingresp, None),
        (Packet::Disconnect(goodbye), None),
        (
            Packet::Auth(Auth { reason: ReasonCode::ContinueAuthentication, properties: Properties::EMPTY }),
            Some(ReasonCode::ProtocolError),
        ),
    ];
    for packet_type in PacketType::ALL {
        assert!(rows.iter().any(|(packet, _)| packet.packet_type() == packet_type), "{packet_type:?} is missing");
    }
    for (packet, expected) in rows {
        let bridge = both_ways();
        let mut fleet = fleet_with(&bridge);
        let remote = carrying(&mut fleet, &bridge);
        fleet.send(remote, &packet);
        let ended = fleet.got(remote).into_iter().find_map(|got| match got {
            Got::Disconnect(reason) => Some(reason),
            _ => None,
        });
        assert_eq!(ended, expected, "{packet:?}");
        let closes = matches!(packet, Packet::Disconnect(_));
        assert_eq!(fleet.is_closed(remote), closes, "{packet:?}");
    }
}

#[test]
fn subscription_identifiers_of_the_remote_stay_there() {
    let bridge = both_ways();
    let mut fleet = fleet_with(&bridge);
    let remote = carrying(&mut fleet, &bridge);
    let dash = fleet.connect_v5_transient("dash");
    fleet.subscribe(dash, "both/#", QoS::AtMostOnce);
    fleet.got(dash);
    let mut properties = PropertyWriter::new();
    properties.push(Property::SubscriptionIdentifier(3));
    properties.push(Property::ContentType("text"));
    fleet.send(
        remote,
        &Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "far/x",
            packet_id: None,
            properties: properties.properties(),
            payload: b"1",
        }),
    );
    let bytes = fleet.received(dash);
    let Ok(Packet::Publish(publish)) = decode(Version::V5, &bytes) else { panic!("a PUBLISH") };
    assert_eq!((publish.topic, publish.properties.content_type()), ("both/x", Some("text")));
    assert_eq!(publish.properties.subscription_identifier(), None);
}

/// What only a server may say is not said to one (5.0, table 3-10); 3.1.1 clients say goodbye, too.
#[test]
fn a_bridge_takes_its_leave_as_a_client() {
    for version in [Version::V5, Version::V311] {
        let mut bridge = Bridge::clone(&outward());
        bridge.version = version;
        let bridge = Arc::new(bridge);
        let mut fleet = fleet_with(&bridge);
        let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
        fleet.shut_down();
        assert_eq!(fleet.got(remote), [Got::Disconnect(ReasonCode::Success)]);
        assert_eq!(fleet.notices(), []);
        assert_eq!(fleet.commands(remote), ["finish"]);
    }
}

#[test]
fn a_bridge_whose_log_has_failed_is_not_opened() {
    let bridge = outward();
    let mut fleet = Fleet::durable(1);
    fleet.keep_bridges(&[Arc::clone(&bridge)]);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    fleet.logs_flow = false;
    let sensor = fleet.connect_v5_transient("sensor");
    fleet.publish(sensor, "out/a", "1", QoS::ExactlyOnce, 1);
    fleet.fail_log(0, LogFailure::Io);
    assert_eq!(fleet.got(remote), [Got::Disconnect(ReasonCode::ImplementationSpecificError)]);
    fleet.end_of_stream(remote);
    let remote = fleet.open_bridge(&bridge, true, Properties::EMPTY);
    assert!(fleet.is_closed(remote));
    assert_eq!(fleet.got(remote), []);
}
