//! What the operator lets the broker serve and tell, on the wire of the real process.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker::{Broker, connect, read_exactly};

/// The next packet: its first byte, and what stands behind the length.
fn read_packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let [first, remaining] = read_exactly::<2>(stream);
    assert!(remaining < 0x80, "the packets of these tests are short");
    let mut body = vec![0; usize::from(remaining)];
    stream.read_exact(&mut body).expect("the rest of the packet");
    (first, body)
}

fn contains(packet: &[u8], part: &[u8]) -> bool {
    packet.windows(part.len()).any(|window| window == part)
}

/// [MQTT-3.2.2-9] [MQTT-3.1.2-28], trap 34: the flags reach CONNACK, each as its property.
#[test]
fn the_flags_are_told_in_connack() {
    let broker = Broker::start(&[
        "--shards=1",
        "--max-qos=1",
        "--retain-available=false",
        "--wildcard-subscription-available=false",
        "--subscription-identifiers-available=false",
        "--shared-subscription-available=false",
        "--max-keep-alive=30",
        "--response-information=replies/",
    ]);
    // With keep-alive 60 and Request Response Information.
    let mut greeting = connect(5, "sensor");
    greeting.splice(12..13, [2, 25, 1]);
    greeting[1] += 2;
    let mut client = broker.connect();
    client.write_all(&greeting).expect("sent");
    let (first, connack) = read_packet(&mut client);
    assert_eq!((first, &connack[..2]), (0x20, &[0, 0][..]));
    for told in [&[36, 1][..], &[37, 0], &[40, 0], &[41, 0], &[42, 0], &[19, 0, 30], b"\x1A\x00\x08replies/"] {
        assert!(contains(&connack, told), "{told:02x?} in {connack:02x?}");
    }
    // SUBSCRIBE to `#`.
    client.write_all(&[0x82, 7, 0, 1, 0, 0, 1, b'#', 0]).expect("sent");
    let (first, disconnect) = read_packet(&mut client);
    assert_eq!((first, disconnect[0]), (0xE0, 0xA2));
}

/// A client that does not fit, and those that are served when the broker stops, are sent to the other server.
#[test]
fn clients_are_sent_to_the_other_server() {
    let other = "other.example:1883";
    let referral = [&[28, 0, other.len() as u8], other.as_bytes()].concat();
    let broker = Broker::start(&["--shards=1", "--max-connections=1", "--server-reference", other]);
    let mut first = broker.connect();
    first.write_all(&connect(5, "first")).expect("sent");
    assert_eq!(read_packet(&mut first).0, 0x20);
    let mut second = broker.connect();
    second.write_all(&connect(5, "second")).expect("sent");
    let (connack, body) = read_packet(&mut second);
    assert_eq!((connack, &body[..2]), (0x20, &[0, 0x9C][..]));
    assert!(contains(&body, &referral), "{body:02x?}");
    let mut old = broker.connect();
    old.write_all(&connect(4, "old")).expect("sent");
    assert_eq!(read_packet(&mut old), (0x20, vec![0, 3]));
    broker.signal("TERM");
    let (disconnect, body) = read_packet(&mut first);
    assert_eq!((disconnect, body[0]), (0xE0, 0x9C));
    assert!(contains(&body, &referral), "{body:02x?}");
}

/// A payload that is not the UTF-8 that it claims to be is refused on request.
#[test]
fn payload_formats_are_validated_on_request() {
    for (flags, code) in [(&["--shards=1"][..], None), (&["--shards=1", "--validate-payload-format"], Some(0x99))] {
        let broker = Broker::start(flags);
        let mut client = broker.connect();
        // QoS 2, packet id 1, Payload Format Indicator 1, a byte that is in no UTF-8.
        let publish = [0x34, 9, 0, 1, b't', 0, 1, 2, 1, 1, 0xFF];
        client.write_all(&[&connect(5, "sensor")[..], &publish].concat()).expect("sent");
        assert_eq!(read_packet(&mut client).0, 0x20);
        let (first, pubrec) = read_packet(&mut client);
        assert_eq!((first, &pubrec[..2], pubrec.get(2).copied()), (0x50, &[0, 1][..], code));
    }
}

/// A client that accepts less than CONNACK needs is told so if it accepts even that, and is not served.
#[test]
fn a_client_too_small_for_connack_is_refused() {
    let broker = Broker::start(&["--shards=1"]);
    for (max_packet_bytes, answer) in [(5, &[0x20, 3, 0, 0x95, 0][..]), (4, &[])] {
        let mut greeting = connect(5, "sensor");
        greeting.splice(12..13, [5, 39, 0, 0, 0, max_packet_bytes]);
        greeting[1] += 5;
        let mut client = broker.connect();
        client.write_all(&greeting).expect("sent");
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("the broker ends the stream");
        assert_eq!(bytes, answer);
    }
}
