//! MQTT over WebSocket at the door of the real process, in raw bytes.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker::{Broker, connect, read_exactly};
use crate::{CONNACK_V311, PINGREQ, PINGRESP, publish, read_to_end, subscribe};

/// With the example of RFC 6455, section 1.2.
pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://panel.example\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

fn start(flags: &[&str]) -> Broker {
    Broker::start(&[&["--shards=1", "--websocket-listen=127.0.0.1:0"], flags].concat())
}

/// A frame of a client, with a mask.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xC1, 0, 0x5E, 0xFF];
    let mut frame = vec![first_byte];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0xFF);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(crate) fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x82, payload)
}

/// A client whose request is granted.
fn web_socket(broker: &Broker) -> TcpStream {
    let mut client = broker.connect_web_socket();
    client.write_all(REQUEST.as_bytes()).expect("sent");
    read_answer(&mut client);
    client
}

/// Reads the answer that grants the request.
pub(crate) fn read_answer(client: &mut impl Read) {
    let mut answer = [0; ANSWER.len()];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), ANSWER);
}

/// The payload of the next frame, which has to be a binary one.
pub(crate) fn read_frame(client: &mut TcpStream) -> Vec<u8> {
    let [0x82, length] = read_exactly::<2>(client) else { panic!("no binary frame") };
    let length = match length {
        127 => u64::from_be_bytes(read_exactly(client)) as usize,
        126 => usize::from(u16::from_be_bytes(read_exactly(client))),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).expect("the rest of the frame");
    payload
}

/// [MQTT-6.0.0-4]
#[test]
fn a_client_is_served_over_a_web_socket() {
    let broker = start(&[]);
    let mut client = web_socket(&broker);
    client.write_all(&binary(&connect(4, "browser"))).expect("sent");
    assert_eq!(read_frame(&mut client), CONNACK_V311);
    client.write_all(&frame(0x89, b"still there?")).expect("sent");
    assert_eq!(read_exactly::<14>(&mut client), *b"\x8A\x0Cstill there?");
    // Its messages go to clients elsewhere, too.
    let mut plain = broker.connect();
    let (subscribe, suback) = subscribe(b't');
    plain.write_all(&[&connect(4, "device"), &subscribe[..]].concat()).expect("sent");
    assert_eq!(read_exactly::<9>(&mut plain)[4..], suback);
    client.write_all(&binary(&publish(b't', b"22.5"))).expect("sent");
    assert_eq!(read_exactly::<9>(&mut plain)[..], publish(b't', b"22.5"));
    client.write_all(&binary(&[0xE0, 0])).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), [0x88, 2, 3, 0xE8]);
    client.write_all(&CLOSE).expect("sent");
    assert!(read_to_end(&mut client).is_empty());
}

/// [MQTT-6.0.0-2]: nor to segments; and the request is not, either.
#[test]
fn single_bytes_are_understood() {
    let broker = start(&[]);
    let mut client = broker.connect_web_socket();
    client.set_nodelay(true).expect("a socket");
    for byte in REQUEST.bytes().chain(frame(0x89, b"?")) {
        client.write_all(&[byte]).expect("sent");
    }
    assert_eq!(read_exactly::<{ ANSWER.len() }>(&mut client), *ANSWER.as_bytes());
    assert_eq!(read_exactly::<3>(&mut client), *b"\x8A\x01?", "before CONNECT is complete");
    let greeting = connect(4, "slow").into_iter().flat_map(|byte| binary(&[byte]));
    for byte in greeting.chain(binary(&PINGREQ)) {
        client.write_all(&[byte]).expect("sent");
    }
    let mut answers = read_frame(&mut client);
    while answers.len() < CONNACK_V311.len() + PINGRESP.len() {
        answers.extend(read_frame(&mut client));
    }
    assert_eq!(answers, [&CONNACK_V311[..], &PINGRESP].concat());
}

/// Request, CONNECT and all that follows in one piece, with a frame that ends in the middle of a packet.
#[test]
fn all_at_once_is_understood() {
    let broker = start(&["--recv-buffers=16", "--recv-buffer-bytes=256"]);
    let mut client = broker.connect_web_socket();
    let payload: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
    let message = publish(b't', &payload);
    let (subscribe, suback) = subscribe(b't');
    let packets = [&connect(4, "hasty"), &subscribe[..], &message].concat();
    let (first, second) = packets.split_at(40);
    let sent = [REQUEST.as_bytes(), &frame(0x02, first), &frame(0x80, second)].concat();
    client.write_all(&sent).expect("sent");
    assert_eq!(read_exactly::<{ ANSWER.len() }>(&mut client), *ANSWER.as_bytes());
    let mut answers = Vec::new();
    while answers.len() < CONNACK_V311.len() + suback.len() + message.len() {
        answers.extend(read_frame(&mut client));
    }
    assert_eq!(answers[..9], [&CONNACK_V311[..], &suback].concat());
    assert!(answers[9..] == message, "every byte in its place");
}

#[test]
fn requests_that_are_not_granted_are_told_why() {
    let broker = start(&["--websocket-origin=https://panel.example"]);
    for (request, status, text) in [
        (REQUEST.replace("GET", "PUT"), "405", "with GET"),
        (REQUEST.replace("/mqtt", "/"), "404", "not served at this path"),
        (REQUEST.replace("Upgrade: websocket\r\n", ""), "426", "not a page"),
        (REQUEST.replace("panel", "evil"), "403", "origin"),
        (REQUEST.replace(": mqtt", ": chat"), "400", "subprotocol"),
        (REQUEST.replace("Host", &"x".repeat(10_000)), "431", "too large"),
        ("BREW /pot\r\n\r\n".to_owned(), "400", "not a request"),
    ] {
        let mut client = broker.connect_web_socket();
        client.write_all(request.as_bytes()).expect("sent");
        let answer = String::from_utf8(read_to_end(&mut client)).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with('\n') && answer.contains(text), "{answer}");
    }
    web_socket(&broker);
}

/// Each gets an answer that its protocol has.
#[test]
fn who_does_not_say_connect_is_sent_away() {
    let broker = start(&["--max-connections=1"]);
    let foreign = "the first packet is not CONNECT";
    let policy = |text: &str| [&[0x88, 2 + text.len() as u8, 3, 0xF0][..], text.as_bytes()].concat();
    let wrong_version = [&[0x82, 4, 0x20, 2, 0, 1][..], &policy("the protocol version is not served")].concat();
    for (sent, answer) in [
        (binary(&PINGREQ), policy(foreign)),
        (frame(0x81, b"text"), [&[0x88, 29, 3, 0xEB][..], b"MQTT comes in binary frames"].concat()),
        (CLOSE.to_vec(), vec![0x88, 0]),
        (binary(&connect(3, "old")), wrong_version),
    ] {
        let mut client = web_socket(&broker);
        client.write_all(&sent).expect("sent");
        let got = read_to_end(&mut client);
        assert_eq!(got, answer, "{sent:02x?}: {}", String::from_utf8_lossy(&got));
    }
    // To MQTT without a WebSocket there is none.
    let mut client = broker.connect_web_socket();
    client.write_all(&connect(4, "lost")).expect("sent");
    let mut nothing = Vec::new();
    // It may see a reset instead of an end.
    let _ = client.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
}

#[test]
fn the_banner_says_where() {
    let broker = start(&["--websocket-path=/devices"]);
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0));
    assert!(log.contains("ws://127.0.0.1:") && log.contains("/devices"), "{log}");
}
