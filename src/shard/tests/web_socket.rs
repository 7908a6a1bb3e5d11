//! Clients of MQTT over WebSocket: what is in their frames counts as it does elsewhere, and both sides close.

use super::*;
use QoS::{AtMostOnce, ExactlyOnce};

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 4] = [0x82, 2, 0xD0, 0];
/// A close frame without a code, of the client.
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];
const CLOSED_NORMALLY: [u8; 4] = [0x88, 2, 3, 0xE8];
const CONNACK_V311: [u8; 6] = [0x82, 4, 0x20, 2, 0, 0];

/// A short frame of a client, with a mask that changes nothing.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    [&[first_byte, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat()
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x82, payload)
}

fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id,
        will: Some(Will {
            topic: "will",
            payload: b"gone",
            qos: AtMostOnce,
            retain: false,
            properties: Properties::EMPTY,
        }),
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

/// A 3.1.1 client of a WebSocket that has its CONNACK, and one that waits for its will.
fn with_watcher(fleet: &mut Fleet) -> (Client, Client) {
    let watcher = fleet.connect(Version::V311, "watcher", true);
    fleet.subscribe(watcher, "will", AtMostOnce);
    fleet.got(watcher);
    let client = fleet.connect_web_socket(connect(Version::V311, "client"), &[]);
    assert_eq!(fleet.received(client), CONNACK_V311);
    (client, watcher)
}

/// [MQTT-6.0.0-2]
#[test]
fn packets_need_not_be_aligned_to_frames() {
    let mut fleet = Fleet::new(1);
    let subscribe = [0x82, 6, 0, 1, 0, 1, b't', 0];
    // The rest of CONNECT's frame has a PINGREQ and a half SUBSCRIBE, and that of the second one a PUBLISH.
    let early_bytes = [binary(&PINGREQ), binary(&subscribe[..3])].concat();
    let client = fleet.connect_web_socket(connect(Version::V311, "client"), &early_bytes);
    assert_eq!(fleet.received(client), [0x82, 6, 0x20, 2, 0, 0, 0xD0, 0], "one frame for one send");
    let publish = [0x30, 7, 0, 1, b't', b'2', b'2', b'.', b'5'];
    let rest = binary(&[&subscribe[3..], &publish, &PINGREQ[..1]].concat());
    for byte in rest {
        fleet.send_bytes(client, &[byte]);
    }
    fleet.send_bytes(client, &binary(&PINGREQ[1..]));
    let delivered = [&[0x82, 9][..], &publish].concat();
    assert_eq!(fleet.received(client), [&[0x82, 5, 0x90, 3, 0, 1, 0][..], &delivered, &PINGRESP].concat());
}

#[test]
fn a_ping_is_answered_behind_what_was_asked_before_it() {
    let mut fleet = Fleet::new(1);
    let (client, _) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &[binary(&PINGREQ), frame(0x89, b"?"), binary(&PINGREQ)].concat());
    assert_eq!(fleet.received(client), [0x82, 4, 0xD0, 0, 0xD0, 0, 0x8A, 1, b'?']);
    fleet.send_bytes(client, &frame(0x89, b""));
    assert_eq!(fleet.received(client), [0x8A, 0], "also with nothing to go behind");
}

/// The log holds up what it has to, and the close frame behind that.
#[test]
fn a_ping_does_not_wait_for_the_log_and_the_end_does() {
    let mut fleet = Fleet::durable(1);
    let client = fleet.connect_web_socket(Connect { clean_start: false, ..connect(Version::V311, "client") }, &[]);
    fleet.received(client);
    fleet.logs_flow = false;
    let publish = [0x34, 6, 0, 1, b't', 0, 7, b'x'];
    fleet.send_bytes(client, &[binary(&publish), frame(0x89, b"")].concat());
    assert_eq!(fleet.received(client), [0x8A, 0]);
    fleet.send_bytes(client, &[binary(&[0xE0, 0]), frame(0x89, b"")].concat());
    assert_eq!(fleet.received(client), [0x8A, 0]);
    assert!(fleet.commands(client).is_empty());
    fleet.sync();
    assert_eq!(fleet.received(client), [&[0x82, 4, 0x50, 2, 0, 7][..], &CLOSED_NORMALLY].concat());
    assert_eq!(fleet.commands(client), ["finish"]);
}

#[test]
fn a_client_that_says_goodbye_hears_a_close_frame_and_sends_its_own() {
    let mut fleet = Fleet::new(1);
    let (client, watcher) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &binary(&[0xE0, 0]));
    assert_eq!(fleet.received(client), CLOSED_NORMALLY);
    assert_eq!(fleet.commands(client), ["finish"], "its close frame is still to come");
    fleet.send_bytes(client, &binary(&PINGREQ));
    fleet.send_bytes(client, &CLOSE);
    assert_eq!(fleet.commands(client), ["close"]);
    assert!(fleet.received(client).is_empty());
    assert_eq!(fleet.got(watcher), []);
    // Both at once; or the end of the connection in place of a close frame.
    let (client, _) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &[binary(&[0xE0, 0]), CLOSE.to_vec()].concat());
    assert_eq!(fleet.received(client), [0x88, 0]);
    assert_eq!(fleet.commands(client), ["close"]);
    let (client, _) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &binary(&[0xE0, 0]));
    fleet.end_of_stream(client);
    assert_eq!(fleet.commands(client), ["finish", "close"]);
}

#[test]
fn a_close_frame_alone_breaks_off() {
    let mut fleet = Fleet::new(1);
    let (client, watcher) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &[binary(&PINGREQ), frame(0x88, &[3, 0xE9]), binary(&PINGREQ)].concat());
    assert_eq!(fleet.received(client), [&PINGRESP[..], &[0x88, 2, 3, 0xE9]].concat(), "with the client's code");
    assert_eq!(fleet.commands(client), ["close"]);
    assert!(matches!(&fleet.got(watcher)[..], [Got::Publish { payload, .. }] if payload == "gone"));
}

/// As a client that has shut its side.
#[test]
fn what_waits_for_other_shards_comes_before_the_answer_to_a_close_frame() {
    let mut fleet = Fleet::new(2);
    let client = fleet.connect_web_socket(connect(Version::V311, "client"), &[]);
    fleet.received(client);
    fleet.rings_flow = false;
    fleet.send_bytes(client, &[binary(&[0x82, 6, 0, 1, 0, 1, b't', 0]), CLOSE.to_vec()].concat());
    assert!(fleet.received(client).is_empty());
    fleet.flow();
    assert_eq!(fleet.received(client), [0x82, 5, 0x90, 3, 0, 1, 0, 0x88, 0]);
    assert!(fleet.is_closed(client));
}

/// [MQTT-6.0.0-1]
#[test]
fn what_is_no_binary_frame_ends_the_connection() {
    for (received, code) in
        [(frame(0x81, b"text"), 1003u16), (vec![0x82, 2, 0xC0, 0], 1002), (frame(0x80, &PINGREQ), 1002)]
    {
        let mut fleet = Fleet::new(1);
        let (client, watcher) = with_watcher(&mut fleet);
        fleet.send_bytes(client, &[binary(&PINGREQ), received, binary(&PINGREQ)].concat());
        let answer = fleet.received(client);
        assert_eq!(answer[..4], PINGRESP);
        assert_eq!((answer[4], &answer[6..8]), (0x88, &code.to_be_bytes()[..]));
        assert_eq!(usize::from(answer[5]), answer.len() - 6, "the last frame, with words");
        assert_eq!(fleet.commands(client), ["finish"]);
        assert!(matches!(&fleet.got(watcher)[..], [Got::Publish { payload, .. }] if payload == "gone"));
        assert_eq!(fleet.count(|counters| counters.protocol_violations), 1);
        fleet.end_of_stream(client);
        assert!(fleet.is_closed(client));
    }
}

#[test]
fn who_is_sent_away_hears_it_in_both_protocols() {
    // 3.1.1 has no word for it.
    for (version, disconnect, close) in [
        (Version::V5, &[0x82, 4, 0xE0, 2, 0x8B, 0][..], &[0x88, 2, 3, 0xE9][..]),
        (Version::V311, &[], &[0x88, 2, 3, 0xE9]),
    ] {
        let mut fleet = Fleet::new(1);
        let client = fleet.connect_web_socket(connect(version, "client"), &[]);
        fleet.received(client);
        fleet.shut_down();
        assert_eq!(fleet.received(client), [disconnect, close].concat());
        assert_eq!(fleet.commands(client), ["finish"]);
    }
    let mut fleet = Fleet::new(1);
    let (client, _) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &binary(&[0x82, 0]));
    let close = fleet.received(client);
    assert_eq!((close[0], &close[2..4]), (0x88, &1008u16.to_be_bytes()[..]));
    assert!(close.len() > 4, "the reason in words");
}

#[test]
fn a_refused_client_hears_it_in_a_frame() {
    let mut fleet = Fleet::with_limits(1, Limits { max_sessions: std::num::NonZeroU32::new(1), ..limits() });
    fleet.connect(Version::V311, "first", true);
    // What it has sent already is not served, and yet followed: a close frame comes in the middle of it.
    let (begun, rest) = CLOSE.split_at(3);
    let early_bytes = [&binary(&PINGREQ), begun].concat();
    let client = fleet.connect_web_socket(connect(Version::V311, "second"), &early_bytes);
    let answer = fleet.received(client);
    assert_eq!(answer[..6], [0x82, 4, 0x20, 2, 0, 3]);
    assert_eq!((answer[6], &answer[8..10]), (0x88, &1008u16.to_be_bytes()[..]));
    assert_eq!(fleet.commands(client), ["finish"]);
    fleet.send_bytes(client, rest);
    assert!(fleet.is_closed(client));
}

/// Large payloads go out as they lie, in one frame with the rest.
#[test]
fn a_large_payload_is_framed_where_it_lies() {
    let mut fleet = Fleet::new(1);
    let (client, _) = with_watcher(&mut fleet);
    fleet.send_bytes(client, &binary(&[0x82, 6, 0, 1, 0, 1, b't', 2]));
    fleet.received(client);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let payload = "x".repeat(100_000);
    fleet.publish(publisher, "t", &payload, ExactlyOnce, 1);
    let got = fleet.received(client);
    let packet_bytes = 1 + 3 + 2 + 1 + 2 + payload.len();
    assert_eq!(got[..2], [0x82, 127]);
    assert_eq!(got[2..10], (packet_bytes as u64).to_be_bytes());
    assert_eq!(got[10], 0x34);
    assert_eq!(got.len(), 10 + packet_bytes);
    assert!(got.ends_with(payload.as_bytes()));
}
