//! Both ends of TLS in memory: what passes between them is cut, garbled and ended here.

use rustls::SupportedProtocolVersion;

use super::testing::{connected, ends, said_by, sent_by, take};
use super::*;
use crate::transport::Transport;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn transmit(content: &[u8]) -> Transmit {
    let mut transmit = Transmit::default();
    transmit.buffer().extend_from_slice(content);
    transmit
}

fn bytes(transmit: &Transmit) -> &[u8] {
    transmit.as_single().expect("records lie in one piece")
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn content_passes_both_ways_however_it_is_cut() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version);
        for (length, step) in [(1, 1), (700, 1), (40_000, 7), (40_000, 4096), (300_000, usize::MAX)] {
            let sent = content(length);
            let records = said_by(&mut client, &sent);
            let mut packets = Vec::new();
            for piece in records.chunks(step) {
                assert_eq!(tls.open(piece, &mut packets), Ok(()));
            }
            assert!(packets == sent, "{length} bytes in pieces of {step}");
            assert!(!tls.has_records(true), "nothing is to be said to that");
            let sealed = tls.seal(transmit(&sent), false);
            assert!(sealed.len() > length, "{} bytes", sealed.len());
            assert!(take(&mut client, bytes(&sealed)).expect("good records") == sent, "{length} bytes");
        }
    }
}

#[test]
fn close_notify_is_the_end_of_the_stream_and_told_once() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version);
        let mut records = said_by(&mut client, b"DISCONNECT");
        client.send_close_notify();
        records.extend(sent_by(&mut client));
        let mut packets = Vec::new();
        assert_eq!(tls.open(&records, &mut packets), Err(Ended::ByClient));
        assert_eq!(packets, b"DISCONNECT");
        assert_eq!(tls.open(b"behind the end", &mut packets), Ok(()));
        assert_eq!(packets, b"DISCONNECT");
        assert!(tls.failure().is_none());
    }
}

#[test]
fn close_notify_is_the_last_that_is_said() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version);
        tls.end(Close::NORMAL);
        assert!(!tls.has_records(false) && tls.has_records(true), "it follows on the last packet");
        let first = tls.seal(transmit(b"first "), false);
        let last = tls.seal(transmit(b"last"), true);
        assert!(!tls.has_records(true), "once");
        assert!(tls.seal(transmit(b"late"), true).is_empty());
        let mut packets = Vec::new();
        for received in [said_by(&mut client, b"late"), b"no record at all".to_vec()] {
            assert_eq!(tls.open(&received, &mut packets), Ok(()), "nobody listens");
        }
        assert!(packets.is_empty() && !tls.has_records(true), "there is no alert");
        assert_eq!(take(&mut client, bytes(&first)).expect("good records"), b"first ");
        assert_eq!(take(&mut client, bytes(&last)).expect("good records"), b"last");
        let state = client.process_new_packets().expect("nothing more");
        assert!(state.peer_has_closed());
    }
}

#[test]
fn a_record_that_can_not_be_opened_is_answered_by_an_alert_and_nothing_else() {
    for version in VERSIONS {
        for flipped in [0, 1, 5, 20] {
            let (mut client, mut tls) = connected(version);
            let mut records = said_by(&mut client, b"before");
            let mut garbled = said_by(&mut client, b"a packet");
            garbled[flipped] ^= 0x40;
            records.extend(garbled);
            let mut packets = Vec::new();
            assert_eq!(tls.open(&records, &mut packets), Err(Ended::ByBrokenRecord), "{flipped}");
            assert_eq!(packets, b"before", "{flipped}");
            assert!(tls.failure().is_some());
            assert!(tls.has_records(false), "the alert");
            let alert = tls.seal(transmit(b"a packet to it"), true);
            let told = take(&mut client, bytes(&alert)).expect_err("an alert");
            assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
            assert!(tls.seal(transmit(b"another"), true).is_empty() && !tls.has_records(true));
            assert_eq!(tls.open(b"more", &mut packets), Ok(()), "it is told once");
            assert_eq!(packets, b"before");
        }
    }
}

#[test]
fn what_is_no_handshake_ends_it() {
    for foreign in
        [&b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0"[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xFF, 0xFF, 1]]
    {
        let (_, mut tls) = ends(&rustls::version::TLS13);
        let mut packets = Vec::new();
        assert_eq!(tls.open(foreign, &mut packets), Err(Ended::ByBrokenRecord), "{foreign:02x?}");
        assert!(packets.is_empty() && tls.failure().is_some());
        assert_eq!(tls.records(&[], false)[0], 0x15, "an alert");
    }
}

/// A length alone makes no room: what is kept of a record is what has come of it.
#[test]
fn a_record_that_is_not_complete_waits() {
    let (mut client, mut tls) = connected(&rustls::version::TLS13);
    let records = said_by(&mut client, b"half");
    let (first, second) = records.split_at(records.len() - 1);
    let mut packets = Vec::new();
    assert_eq!(tls.open(first, &mut packets), Ok(()));
    assert!(packets.is_empty());
    assert_eq!(tls.open(second, &mut packets), Ok(()));
    assert_eq!(packets, b"half");
}

/// The answer to new keys leaves before the next packet, at the latest.
#[test]
fn new_keys_are_answered() {
    let (mut client, mut tls) = connected(&rustls::version::TLS13);
    client.refresh_traffic_keys().expect("1.3 has that");
    let mut packets = Vec::new();
    assert_eq!(tls.open(&said_by(&mut client, b"under new keys"), &mut packets), Ok(()));
    assert_eq!(packets, b"under new keys");
    let mut transport = Transport::from(Box::new(tls));
    assert!(!transport.ends_with_disconnect());
    let (mut answered, mut sealed) = (Vec::new(), 0);
    for _ in 0..2 {
        let records = transport.seal(transmit(b"under new keys"), false);
        sealed += records.len();
        answered.extend(take(&mut client, bytes(&records)).expect("good records"));
    }
    assert_eq!(answered, b"under new keysunder new keys");
    assert!(sealed > 2 * (5 + b"under new keys".len() + 17), "there was an answer, too");
}

/// What the gate has taken out of records and did not need comes first, also if nothing is received with it.
#[test]
fn what_was_opened_before_comes_first() {
    let (mut client, mut tls) = connected(&rustls::version::TLS13);
    tls.carry(None, b"early ".to_vec());
    let mut packets = Vec::new();
    assert_eq!(tls.open(&[], &mut packets), Ok(()));
    assert_eq!(packets, b"early ");
    assert_eq!(tls.open(&said_by(&mut client, b"and late"), &mut packets), Ok(()));
    assert_eq!(packets, b"early and late");
}

/// A client may have said all that it has to say before it is handed over.
#[test]
fn an_end_that_came_before_is_told_again() {
    let (mut client, mut tls) = connected(&rustls::version::TLS13);
    let mut records = said_by(&mut client, b"CONNECT");
    client.send_close_notify();
    records.extend(sent_by(&mut client));
    let mut opened = Vec::new();
    assert_eq!(tls.open(&records, &mut opened), Err(Ended::ByClient));
    assert!(tls.has_ended());
    tls.carry(None, opened);
    let mut packets = Vec::new();
    assert_eq!(tls.open(&[], &mut packets), Err(Ended::ByClient));
    assert_eq!(packets, b"CONNECT");
    assert_eq!(tls.open(&[], &mut packets), Ok(()));
}

#[test]
fn a_web_socket_lies_in_records() {
    let (mut client, mut tls) = connected(&rustls::version::TLS13);
    // A mask that changes nothing.
    let binary = |content: &[u8]| [&[0x82, 0x80 | content.len() as u8, 0, 0, 0, 0][..], content].concat();
    tls.carry(Some(Box::default()), binary(b"early "));
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    let mut packets = Vec::new();
    let records = said_by(&mut client, &[&binary(b"and late")[..], &ping].concat());
    for piece in records.chunks(3) {
        assert_eq!(tls.open(piece, &mut packets), Ok(()));
    }
    assert_eq!(packets, b"early and late");
    assert!(tls.has_records(false), "the pong");
    let sealed = tls.seal(transmit(b"answer"), false);
    assert_eq!(take(&mut client, bytes(&sealed)).expect("good records"), *b"\x82\x06answer\x8A\0");
    let close = [0x88, 0x80, 0, 0, 0, 0];
    assert_eq!(tls.open(&said_by(&mut client, &close), &mut packets), Err(Ended::ByClient));
    tls.end(Close::GOING_AWAY);
    let sealed = tls.seal(Transmit::default(), true);
    assert_eq!(take(&mut client, bytes(&sealed)).expect("good records"), [0x88, 0]);
    assert_eq!(packets, b"early and late");
}

/// What every TLS client costs beside a plain one, in the structure itself; rustls keeps some 4 KiB more to receive into.
#[test]
fn the_state_is_small() {
    assert!(size_of::<Tls>() < 2048, "{}", size_of::<Tls>());
}
