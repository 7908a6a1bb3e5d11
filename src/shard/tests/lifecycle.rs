//! Connections and sessions: take-over, expiry, wills, keep-alive, and who hears what at the end.

use super::*;
use crate::session::Reopened;
use QoS::{AtMostOnce, ExactlyOnce};

fn connect<'a>(version: Version, client_id: &'a str, will: Option<Will<'a>>, keep_alive_seconds: u16) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive_seconds,
        client_id,
        will,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

fn will(payload: &[u8]) -> Option<Will<'_>> {
    Some(Will { topic: "will", payload, qos: AtMostOnce, retain: false, properties: Properties::EMPTY })
}

fn wills_got(fleet: &mut Fleet, watcher: Client) -> Vec<String> {
    fleet
        .got(watcher)
        .into_iter()
        .filter_map(|got| match got {
            Got::Publish { payload, .. } => Some(payload),
            _ => None,
        })
        .collect()
}

/// [MQTT-3.1.4-3], trap 19: the old connection hears why, the session and its queue go on.
#[test]
fn a_second_connection_takes_the_session_over() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let first = fleet.connect_v5("taken", 1);
    fleet.subscribe(first, "t", ExactlyOnce);
    fleet.publish(publisher, "t", "1", ExactlyOnce, 1);
    fleet.publish(publisher, "t", "2", ExactlyOnce, 2);
    fleet.got(first);
    let second = fleet.connect_v5("taken", 10);
    assert_eq!(fleet.got(first), [Got::Disconnect(ReasonCode::SessionTakenOver)]);
    assert_eq!(fleet.commands(first), ["finish"]);
    let got = fleet.got(second);
    assert_eq!(got[0], Got::Connack { session_present: true, reason: ReasonCode::Success });
    let payloads: Vec<_> = got[1..]
        .iter()
        .map(|got| match got {
            Got::Publish { payload, id, dup, .. } => (&payload[..], *id, *dup),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [("1", 1, true), ("2", 2, false)]);
    // Trap 13: what the old connection still says does not count.
    fleet.ack(first, AcknowledgementKind::Pubrec, 1);
    assert_eq!(fleet.got(second), []);
    fleet.end_of_stream(first);
    assert!(fleet.is_closed(first));
    assert_eq!(fleet.count(|counters| counters.takeovers), 1);
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6], traps 16 and 18.
#[test]
fn session_present_is_told_only_of_a_session_that_is_there() {
    let present = |fleet: &mut Fleet, client| match fleet.got(client)[..] {
        [Got::Connack { session_present, reason: ReasonCode::Success }, ..] => session_present,
        ref other => panic!("{other:?}"),
    };
    let mut fleet = Fleet::new(1);
    let client = fleet.connect(Version::V311, "c", false);
    assert!(!present(&mut fleet, client));
    fleet.disconnect(client);
    let client = fleet.connect(Version::V311, "c", false);
    assert!(present(&mut fleet, client));
    fleet.disconnect(client);
    let client = fleet.connect(Version::V311, "c", true);
    assert!(!present(&mut fleet, client), "a clean session deletes the older one");
    fleet.disconnect(client);
    let client = fleet.connect(Version::V311, "c", false);
    assert!(!present(&mut fleet, client), "a clean session leaves none behind");
    fleet.disconnect(client);
    // A 5.0 client with expiry 0 that is taken over has no session to take.
    let first = fleet.connect(Version::V5, "d", false);
    let second = fleet.connect(Version::V5, "d", false);
    assert!(!present(&mut fleet, second));
    assert_eq!(fleet.got(first)[1..], [Got::Disconnect(ReasonCode::SessionTakenOver)]);
}

/// Trap 17: the expiry runs from the disconnect, and nothing is left of the session.
#[test]
fn a_session_ends_so_long_after_its_connection() {
    let mut fleet = Fleet::new(2);
    let client = fleet.connect_v5("c", 10);
    fleet.subscribe(client, "t/#", ExactlyOnce);
    fleet.pass(Duration::from_secs(600));
    fleet.disconnect(client);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.publish(publisher, "t/1", "x", ExactlyOnce, 1);
    fleet.pass(Duration::from_secs(59));
    assert_eq!(fleet.count(|counters| counters.sessions), 2);
    assert_eq!(fleet.count(|counters| counters.queued), 1);
    fleet.pass(Duration::from_secs(2));
    assert_eq!(fleet.count(|counters| counters.sessions), 1);
    assert_eq!(fleet.count(|counters| counters.queued + counters.messages + counters.subscriptions), 0);
}

#[test]
fn a_resume_in_time_stops_the_expiry() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_v5("c", 10);
    fleet.disconnect(client);
    fleet.pass(Duration::from_secs(59));
    let client = fleet.connect_v5("c", 10);
    fleet.pass(Duration::from_secs(600));
    assert_eq!(fleet.got(client), [Got::Connack { session_present: true, reason: ReasonCode::Success }]);
    assert_eq!(fleet.count(|counters| counters.sessions), 1);
}

/// 5.0 section 3.14.2.2.2, trap 17.
#[test]
fn an_expiry_of_zero_cannot_be_raised_by_disconnect() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect(Version::V5, "c", true);
    fleet.got(client);
    let mut properties = PropertyWriter::new();
    properties.push(Property::SessionExpiryInterval(5));
    let disconnect = Disconnect { reason: ReasonCode::Success, properties: properties.properties() };
    fleet.send(client, &Packet::Disconnect(disconnect));
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::ProtocolError)]);
}

/// [MQTT-3.1.2-8], trap 22: the will is due on everything but a normal DISCONNECT.
#[test]
fn wills() {
    let mut fleet = Fleet::new(2);
    let watcher = fleet.connect(Version::V5, "watcher", true);
    fleet.subscribe(watcher, "will", AtMostOnce);
    fleet.got(watcher);

    let client = fleet.connect_with(connect(Version::V5, "normal", will(b"normal"), 0));
    fleet.disconnect(client);
    assert_eq!(wills_got(&mut fleet, watcher), [""; 0]);

    let client = fleet.connect_with(connect(Version::V5, "with-will", will(b"asked for"), 0));
    let disconnect = Disconnect { reason: ReasonCode::DisconnectWithWill, properties: Properties::EMPTY };
    fleet.send(client, &Packet::Disconnect(disconnect));
    assert_eq!(wills_got(&mut fleet, watcher), ["asked for"]);

    let client = fleet.connect_with(connect(Version::V311, "broken", will(b"broken"), 0));
    fleet.drop_connection(client);
    assert_eq!(wills_got(&mut fleet, watcher), ["broken"]);

    let client = fleet.connect_with(connect(Version::V311, "closed", will(b"closed"), 0));
    fleet.end_of_stream(client);
    assert_eq!(wills_got(&mut fleet, watcher), ["closed"]);

    let client = fleet.connect_with(connect(Version::V311, "illegal", will(b"illegal"), 0));
    fleet.send_bytes(client, &[0xFF]);
    assert_eq!(wills_got(&mut fleet, watcher), ["illegal"]);

    fleet.connect_with(connect(Version::V311, "silent", will(b"silent"), 10));
    fleet.pass(Duration::from_secs(16));
    assert_eq!(wills_got(&mut fleet, watcher), ["silent"]);

    fleet.connect_with(connect(Version::V5, "taken", will(b"taken over"), 0));
    fleet.connect_with(connect(Version::V5, "taken", None, 0));
    assert_eq!(wills_got(&mut fleet, watcher), ["taken over"]);
}

/// [MQTT-3.1.2-22], trap 41: whole packets keep a connection alive, trickling bytes do not.
#[test]
fn keep_alive() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_with(connect(Version::V5, "c", None, 10));
    fleet.got(client);
    for _ in 0..5 {
        fleet.pass(Duration::from_secs(14));
        fleet.send(client, &Packet::Pingreq);
        assert_eq!(fleet.got(client), [Got::Pingresp]);
    }
    fleet.pass(Duration::from_secs(14));
    fleet.send_bytes(client, &[0x30]);
    fleet.pass(Duration::from_secs(2));
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::KeepAliveTimeout)]);
    assert_eq!(fleet.commands(client), ["finish"]);
    fleet.pass(Duration::from_secs(2));
    assert_eq!(fleet.commands(client), ["close"], "the linger time is over");
}

/// [MQTT-3.1.2-22]: zero turns it off.
#[test]
fn keep_alive_zero_is_none() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_with(connect(Version::V5, "c", None, 0));
    fleet.pass(Duration::from_secs(1_000_000));
    assert!(!fleet.is_closed(client));
}

/// Trap 43: 5.0 says why, 3.1.1 closes without a word; and nobody else is touched.
#[test]
fn a_violation_ends_one_connection_with_its_reason() {
    let mut fleet = Fleet::new(1);
    let healthy = fleet.connect(Version::V5, "healthy", true);
    fleet.got(healthy);
    let old = fleet.connect(Version::V311, "old", true);
    fleet.got(old);
    fleet.send_bytes(old, &[0x00, 0x00]);
    assert_eq!(fleet.got(old), []);
    assert_eq!(fleet.commands(old), ["finish"]);
    let new = fleet.connect(Version::V5, "new", true);
    fleet.got(new);
    fleet.send_bytes(new, &[0x00, 0x00]);
    assert_eq!(fleet.got(new), [Got::Disconnect(ReasonCode::MalformedPacket)]);
    fleet.send_bytes(new, b"ignored from here on");
    fleet.end_of_stream(new);
    assert_eq!(fleet.commands(new), ["finish", "close"]);
    fleet.send(healthy, &Packet::Pingreq);
    assert_eq!(fleet.got(healthy), [Got::Pingresp]);
    assert_eq!(fleet.count(|counters| counters.protocol_violations), 2);
}

/// [MQTT-3.1.0-2], traps 44 and 50.
#[test]
fn packets_that_a_client_may_not_send() {
    let packets: [(&[u8], ReasonCode); 5] = [
        (&[0x20, 3, 0, 0, 0], ReasonCode::ProtocolError),
        (&[0x90, 4, 0, 1, 0, 0], ReasonCode::ProtocolError),
        (&[0xB0, 4, 0, 1, 0, 0], ReasonCode::ProtocolError),
        (&[0xD0, 0], ReasonCode::ProtocolError),
        (&[0xF0, 0], ReasonCode::ProtocolError),
    ];
    let mut fleet = Fleet::new(1);
    for (bytes, reason) in packets {
        let client = fleet.connect(Version::V5, "c", true);
        fleet.got(client);
        fleet.send_bytes(client, bytes);
        assert_eq!(fleet.got(client), [Got::Disconnect(reason)], "{bytes:02x?}");
    }
    let client = fleet.connect(Version::V5, "c", true);
    fleet.got(client);
    fleet.send(client, &Packet::Connect(connect(Version::V5, "c", None, 0)));
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::ProtocolError)]);
}

/// [MQTT-3.1.0-2]: found by the mutations of `tests/malformed`; a second CONNECT of a version that is not served was told 0x84,
/// which DISCONNECT cannot carry.
#[test]
fn a_second_connect_is_a_protocol_error_whatever_it_says() {
    let frames: [&[u8]; 4] = [
        b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00",
        b"\x10\x0C\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
        b"\x10\x0D\x00\x04MQTX\x05\x02\x00\x00\x00\x00\x00",
        b"\x10\x00",
    ];
    let mut fleet = Fleet::new(1);
    for frame in frames {
        for (version, said) in [(Version::V311, None), (Version::V5, Some(ReasonCode::ProtocolError))] {
            let client = fleet.connect(version, "c", true);
            fleet.got(client);
            fleet.send_bytes(client, frame);
            assert_eq!(fleet.got(client), Vec::from_iter(said.map(Got::Disconnect)), "{frame:02x?}");
            assert_eq!(fleet.commands(client), ["finish"]);
        }
    }
}

/// A broker that stops says so, publishes wills and keeps the sessions.
#[test]
fn shutdown() {
    let mut fleet = Fleet::new(1);
    let new = fleet.connect_v5("new", 10);
    let old = fleet.connect(Version::V311, "old", true);
    fleet.got(new);
    fleet.got(old);
    let now = fleet.now;
    fleet.shards[0].handle_shutdown(now);
    fleet.run();
    assert_eq!(fleet.got(new), [Got::Disconnect(ReasonCode::ServerShuttingDown)]);
    assert_eq!(fleet.got(old), []);
    assert!(!fleet.shards[0].is_drained());
    fleet.pass(Duration::from_secs(2));
    assert!(fleet.shards[0].is_drained());
    assert_eq!(fleet.count(|counters| counters.sessions), 1);
}

/// A client that is away may stay away for long, and what it has not acknowledged would keep the messages beside it.
#[test]
fn what_a_client_leaves_unfinished_is_copied_out() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let subscriber = fleet.connect_v5("leaving", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.publish(publisher, "t", "x", ExactlyOnce, 1);
    let address = |fleet: &mut Fleet| {
        let Clients { sessions, messages, .. } = &mut fleet.shards[0].clients;
        let session = sessions.find("leaving").expect("it has not expired");
        let held = sessions.outbound_if_any(session).and_then(|outbound| outbound.held_from(0).next());
        let Some((_, Reopened::Unacknowledged(delivery))) = held else { panic!("PUBREC is due") };
        messages.get(delivery.message).body_address()
    };
    let in_chunk = address(&mut fleet);
    fleet.drop_connection(subscriber);
    assert_ne!(address(&mut fleet), in_chunk);
    let subscriber = fleet.connect_v5("leaving", 10);
    let resent =
        Got::Publish { topic: "t".into(), payload: "x".into(), qos: ExactlyOnce, id: 1, dup: true, retain: false };
    assert!(fleet.got(subscriber).contains(&resent));
}
