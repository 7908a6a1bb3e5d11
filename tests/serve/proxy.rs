//! The header of a proxy in front of every kind of listener: who is served, who is not, and whose address counts.

use std::io::{Read, Write};
use std::net::TcpStream;

use oncemq::config::{FREE_FAILURES, OPEN_ATTEMPTS_MAX};

use crate::access::{ALICE, People, connect_with};
use crate::broker::{Broker, connect, read_exactly};
use crate::certificates::{Authority, Files, Options};
use crate::http::get;
use crate::session::Client;
use crate::{CONNACK_V311, PINGREQ, PINGRESP, read_to_end, web_socket};

/// An address that is not of this machine.
const ELSEWHERE: [u8; 4] = [203, 0, 113, 9];

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn start(flags: &[&str]) -> Broker {
    Broker::start(&[&["--shards=1", "--proxy-protocol=on", "--proxy-from=127.0.0.0/8"], flags].concat())
}

/// A header of version 2 with this command and family, and behind its addresses these values.
fn header(command: u8, family: u8, addresses: &[u8], values: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + values.len()).expect("a length").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, addresses, values].concat()
}

/// A header of version 2 about a client at this address, with these values.
fn v2_with(client: [u8; 4], values: &[u8]) -> Vec<u8> {
    let [high, low] = 51234_u16.to_be_bytes();
    header(0x21, 0x11, &[&client[..], &[192, 0, 2, 1, high, low, 7, 91]].concat(), values)
}

fn v2(client: [u8; 4]) -> Vec<u8> {
    v2_with(client, &[])
}

fn v1(client: [u8; 4]) -> Vec<u8> {
    let [a, b, c, d] = client;
    format!("PROXY TCP4 {a}.{b}.{c}.{d} 192.0.2.1 51234 1883\r\n").into_bytes()
}

/// A value of version 2.
fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// What a proxy says of a client that has shown a certificate with this name.
fn certificate(verify: u8, common_name: &str) -> Vec<u8> {
    value(0x20, &[&[7, 0, 0, 0, verify][..], &value(0x22, common_name.as_bytes())].concat())
}

/// A connection on which this was sent in one piece.
fn sent(broker: &Broker, parts: &[&[u8]]) -> TcpStream {
    let mut client = broker.connect();
    client.write_all(&parts.concat()).expect("sent");
    client
}

/// The code of the CONNACK that a client of this version gets behind a header.
fn code_of(broker: &Broker, header: &[u8], connect: &[u8]) -> u8 {
    let connack = read_exactly::<4>(&mut sent(broker, &[header, connect]));
    assert_eq!((connack[0], connack[2]), (0x20, 0));
    connack[3]
}

/// The codes of both versions.
fn codes_of(broker: &Broker, header: &[u8]) -> [u8; 2] {
    [4, 5].map(|level| code_of(broker, header, &connect(level, "sensor")))
}

/// All that comes of what a client sends that is not served; it may see a reset instead of an end.
fn answer_to(broker: &Broker, parts: &[&[u8]]) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = sent(broker, parts).read_to_end(&mut answer);
    answer
}

fn gate_counters(broker: &Broker) -> String {
    broker.signal("USR1");
    broker.wait_for_line("counters gate ")
}

#[test]
fn clients_of_every_kind_are_served_behind_a_header() {
    let (authority, files) = (Authority::new("the plant's"), Files::new());
    let [certificate, key] = files.server_flags(&authority.server());
    let tls = ["--tls-listen=127.0.0.1:0", "--websocket-tls-listen=127.0.0.1:0", "--websocket-listen=127.0.0.1:0"];
    let broker = start(&[&tls[..], &["--allow-anonymous", &certificate, &key]].concat());
    let behind = |scheme, header: Vec<u8>| {
        let mut stream = broker.connect_as(scheme);
        stream.write_all(&header).expect("sent");
        stream
    };
    for (name, header) in [("v1", v1(ELSEWHERE)), ("v2", v2(ELSEWHERE))] {
        let mut plain = sent(&broker, &[&header, &connect(4, name), &PINGREQ]);
        assert_eq!(read_exactly::<4>(&mut plain), CONNACK_V311);
        assert_eq!(read_exactly::<2>(&mut plain), PINGRESP);
        // The header and all that follows in single pieces, and the request in one with the header.
        let mut browser = behind("ws", [&header, web_socket::REQUEST.as_bytes()].concat());
        web_socket::read_answer(&mut browser);
        browser.write_all(&web_socket::binary(&connect(4, name))).expect("sent");
        assert_eq!(web_socket::read_frame(&mut browser), CONNACK_V311);
        for scheme in ["mqtts", "wss"] {
            let mut secured = authority.secure(behind(scheme, header.clone()), &Options::default());
            let connect = connect(4, &format!("{name} {scheme}"));
            let mut connack = [0; 4];
            if scheme == "wss" {
                secured.write_all(web_socket::REQUEST.as_bytes()).expect("sent");
                web_socket::read_answer(&mut secured);
                secured.write_all(&web_socket::binary(&connect)).expect("sent");
                let mut frame = [0; 2];
                secured.read_exact(&mut frame).expect("a frame");
            } else {
                secured.write_all(&connect).expect("sent");
            }
            secured.read_exact(&mut connack).expect("CONNACK");
            assert_eq!(connack, CONNACK_V311, "{name} {scheme}");
        }
    }
    let line = gate_counters(&broker);
    assert!(line.contains(" proxied=8 "), "{line}");
}

/// A handshake of TLS in one piece with the header, and both in single bytes.
#[test]
fn headers_need_not_be_aligned() {
    let (authority, files) = (Authority::new("the plant's"), Files::new());
    let [certificate, key] = files.server_flags(&authority.server());
    let broker = start(&["--allow-anonymous", "--tls-listen=127.0.0.1:0", &certificate, &key]);
    let mut secured = authority.secure(broker.connect_as("mqtts"), &Options::default());
    let mut hello = v2(ELSEWHERE);
    secured.conn.write_tls(&mut hello).expect("a vector");
    secured.sock.write_all(&hello).expect("sent");
    secured.write_all(&connect(4, "hasty")).expect("sent");
    let mut connack = [0; 4];
    secured.read_exact(&mut connack).expect("CONNACK");
    assert_eq!(connack, CONNACK_V311);
    for header in [v1(ELSEWHERE), v2_with(ELSEWHERE, &value(4, &[0; 200]))] {
        let mut slow = broker.connect();
        slow.set_nodelay(true).expect("a socket");
        for byte in [header, connect(4, "slow")].concat() {
            slow.write_all(&[byte]).expect("sent");
        }
        assert_eq!(read_exactly::<4>(&mut slow), CONNACK_V311);
    }
}

#[test]
fn who_brings_no_header_is_not_served() {
    let broker = start(&["--connect-timeout=500ms"]);
    let mut wrong_sum = v2_with(ELSEWHERE, &value(3, &[1, 2, 3, 4]));
    let half = wrong_sum.split_off(20);
    let whole = [&wrong_sum[..], &half].concat();
    for bytes in [
        &connect(4, "sensor")[..],
        &connect(5, "sensor"),
        b"GET /mqtt HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234\r\n",
        &[&whole, &connect(4, "sensor")[..]].concat(),
        &[b"\r\n\r\n\0\r\nQUIT\n", &[0x21, 0x11, 0xFF, 0xFF][..]].concat(),
    ] {
        assert!(answer_to(&broker, &[bytes]).is_empty(), "{}", String::from_utf8_lossy(bytes));
    }
    // Nor who does not bring it to its end.
    assert!(read_to_end(&mut sent(&broker, &[&v2(ELSEWHERE)[..20]])).is_empty());
    broker.wait_for_line("the proxy 127.0.0.1:");
    let line = gate_counters(&broker);
    assert!(line.contains(" refused_proxy_header=6 proxied=0 "), "{line}");
    assert_eq!(codes_of(&broker, &v2(LOOPBACK)), [0, 0]);
}

#[test]
fn a_header_from_elsewhere_is_not_believed() {
    let broker = Broker::start(&["--shards=1", "--proxy-protocol=on", "--proxy-from=192.0.2.0/24,::1"]);
    for parts in [&[&v2(LOOPBACK)[..], &connect(4, "sensor")][..], &[&connect(5, "sensor")]] {
        assert!(answer_to(&broker, parts).is_empty());
    }
    let line = broker.wait_for_line(" is not served: the listener is for the proxies of --proxy-from alone");
    assert!(line.contains("WARN"), "{line}");
    let line = gate_counters(&broker);
    assert!(line.contains(" refused_untrusted_proxy=2 refused_proxy_header=0 proxied=0 "), "{line}");
}

/// A listener for others beside that for the proxy.
#[test]
fn other_listeners_want_no_header() {
    let flags = ["--listen=127.0.0.2:0", "--proxy-protocol=127.0.0.2:0", "--proxy-from=127.0.0.1"];
    let broker = Broker::start(&[&["--shards=1"], &flags[..]].concat());
    assert_eq!(codes_of(&broker, &[]), [0, 0]);
    assert!(answer_to(&broker, &[&v2(LOOPBACK), &connect(4, "sensor")]).is_empty());
}

/// The proxy is on this machine; whether its clients are, says the header.
#[test]
fn only_clients_of_this_machine_are_served_without_accounts() {
    let broker = start(&[]);
    let unix_path = [0; 216];
    for (header, codes) in [
        (v2(LOOPBACK), [0, 0]),
        (v1(LOOPBACK), [0, 0]),
        (b"PROXY TCP6 ::1 ::1 51234 1883\r\n".to_vec(), [0, 0]),
        (header(0x20, 0, &[], &[]), [0, 0]), // the proxy itself
        (v2(ELSEWHERE), [5, 0x87]),
        (v1(ELSEWHERE), [5, 0x87]),
        (b"PROXY TCP6 2001:db8::9 ::1 51234 1883\r\n".to_vec(), [5, 0x87]),
        (b"PROXY UNKNOWN\r\n".to_vec(), [5, 0x87]),
        (header(0x21, 0, &[], &[]), [5, 0x87]),
        (header(0x21, 0x31, &unix_path, &[]), [5, 0x87]),
    ] {
        assert_eq!(codes_of(&broker, &header), codes, "{}", String::from_utf8_lossy(&header));
    }
    let line = gate_counters(&broker);
    assert!(line.contains(" refused_anonymous=12 "), "{line}");
}

#[test]
fn failed_attempts_are_counted_by_the_clients_address() {
    let people = People::new("");
    let broker = start(&[&people.flag()]);
    let wrong = connect_with(5, Some(("alice", "wrong")));
    for _ in 0..=FREE_FAILURES {
        assert_eq!(code_of(&broker, &v2(ELSEWHERE), &wrong), 0x86);
    }
    let mut open: Vec<TcpStream> =
        (0..4 * OPEN_ATTEMPTS_MAX).map(|_| sent(&broker, &[&v2(ELSEWHERE), &wrong])).collect();
    assert_eq!(code_of(&broker, &v2([203, 0, 113, 10]), &wrong), 0x86, "another client of the same proxy");
    let codes: Vec<u8> = open.iter_mut().map(|client| read_exactly::<4>(client)[3]).collect();
    assert!(codes.contains(&0x89), "{codes:02x?}");
}

#[test]
fn the_operator_sees_the_clients_address() {
    let broker = start(&["--allow-anonymous", "--admin-listen=127.0.0.1:0"]);
    let mut elsewhere = sent(&broker, &[&v2(ELSEWHERE), &connect(4, "elsewhere")]);
    assert_eq!(read_exactly::<4>(&mut elsewhere), CONNACK_V311);
    let mut unknown = sent(&broker, &[b"PROXY UNKNOWN\r\n", &connect(4, "unknown")]);
    assert_eq!(read_exactly::<4>(&mut unknown), CONNACK_V311);
    for (client, address) in
        [("elsewhere", "203.0.113.9:51234".to_owned()), ("unknown", unknown.local_addr().expect("its own").to_string())]
    {
        let found = get(&broker, &format!("/api/v1/clients/{client}")).json();
        assert_eq!(found["connection"]["address"], address, "{found}");
    }
}

#[test]
fn a_name_in_a_certificate_that_the_proxy_has_verified_is_an_account() {
    let people = People::new(&ALICE.replacen("alice:", "c:", 1));
    let broker = start(&["--proxy-identity=cn", "--client-id-rule=user", &people.flag()]);
    for (header, codes) in [
        (v2_with(ELSEWHERE, &certificate(0, "sensor")), [0, 0]),
        (v2_with(ELSEWHERE, &certificate(0, "other")), [2, 0x85]),
        (v2_with(ELSEWHERE, &certificate(0, "")), [5, 0x87]),
        // Who shows none has to say who he is.
        (v2_with(ELSEWHERE, &certificate(1, "sensor")), [5, 0x87]),
        (v2(ELSEWHERE), [5, 0x87]),
        (v1(LOOPBACK), [5, 0x87]),
        (header(0x20, 0, &[], &certificate(0, "sensor")), [5, 0x87]),
    ] {
        assert_eq!(codes_of(&broker, &header), codes, "{}", String::from_utf8_lossy(&header));
    }
    for header in [v2(ELSEWHERE), v2_with(ELSEWHERE, &certificate(1, "sensor"))] {
        assert_eq!(code_of(&broker, &header, &connect_with(5, Some(("c", "secret")))), 0);
        assert_eq!(code_of(&broker, &header, &connect_with(5, Some(("c", "wrong")))), 0x86);
    }
    let line = gate_counters(&broker);
    for part in ["identified=6 refused_anonymous=8 refused_credentials=2 ", " refused_nameless=2 "] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// Without the flag, what a header says of certificates is nothing.
#[test]
fn a_name_in_a_header_is_not_asked_for_unless_told_so() {
    let people = People::new("");
    let broker = start(&[&people.flag()]);
    assert_eq!(codes_of(&broker, &v2_with(ELSEWHERE, &certificate(0, "sensor"))), [5, 0x87]);
}

/// Where TLS passes through the proxy, the handshake is with the client, and its certificate is the client's.
#[test]
fn a_certificate_that_passes_through_the_proxy_counts() {
    let (authority, files) = (Authority::new("the plant's"), Files::new());
    let [certificate_flag, key] = files.server_flags(&authority.server());
    let clients = files.flag("--tls-client-ca", "clients.pem", &authority.pem());
    let tls = ["--tls-listen=127.0.0.1:0", "--tls-identity=cn", "--proxy-identity=cn", "--client-id-rule=user"];
    let broker = start(&[&tls[..], &[&certificate_flag, &key, &clients]].concat());
    let shown = authority.client(6, "sensor", None);
    for (header, code) in [
        (v2(ELSEWHERE), 0),
        (v2_with(ELSEWHERE, &certificate(0, "sensor")), 0),
        // The handshake is the proxy's own, then, and the client is who the proxy says.
        (v2_with(ELSEWHERE, &certificate(0, "other")), 2),
        (v2_with(ELSEWHERE, &certificate(1, "sensor")), 5),
    ] {
        let mut stream = broker.connect_as("mqtts");
        stream.write_all(&header).expect("sent");
        let mut client = authority.secure(stream, &Options { certified: Some(&shown), ..Options::default() });
        client.write_all(&connect(4, "sensor")).expect("sent");
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("CONNACK");
        assert_eq!(connack, [0x20, 2, 0, code], "{}", String::from_utf8_lossy(&header));
    }
}

#[test]
fn each_address_behind_a_proxy_has_its_own_places() {
    let broker = start(&["--allow-anonymous", "--max-connections-per-address=1"]);
    let mut first = sent(&broker, &[&v2(ELSEWHERE), &connect(4, "first")]);
    assert_eq!(read_exactly::<4>(&mut first), CONNACK_V311);
    assert_eq!(codes_of(&broker, &v2(ELSEWHERE)), [3, 0x97]);
    assert_eq!(codes_of(&broker, &v2([203, 0, 113, 10])), [0, 0], "another client of the same proxy");
}

#[test]
fn messages_pass_exactly_once_behind_a_proxy() {
    let broker = start(&[]);
    let (mut subscriber, _) = Client::resume_over(sent(&broker, &[&v2(LOOPBACK)]), "dashboard");
    subscriber.subscribe("t");
    let (mut publisher, _) = Client::resume_over(sent(&broker, &[&v1(LOOPBACK)]), "sensor");
    for id in 1..=20 {
        publisher.publish_whole(id, "t", &id.to_string());
    }
    let expected: Vec<String> = (1..=20).map(|id| id.to_string()).collect();
    assert_eq!(subscriber.take_messages(20), expected);
}
