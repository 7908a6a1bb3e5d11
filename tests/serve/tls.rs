//! MQTT over TLS at the door of the real process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rustls::version::{TLS12, TLS13};

use crate::broker::{Broker, connect, read_exactly, refused_start};
use crate::certificates::{Authority, Certified, Files, Options, TlsStream};
use crate::session::Client;
use crate::{CONNACK_V311, PINGREQ, PINGRESP, publish, subscribe};

/// A broker with a certificate of an authority, and the files that it has.
struct Served {
    broker: Broker,
    authority: Authority,
    files: Files,
}

impl Served {
    fn start(flags: &[&str]) -> Self {
        Self::start_with(|_, _| Vec::new(), flags)
    }

    /// With flags that name further files.
    fn start_with(further: impl FnOnce(&Files, &Authority) -> Vec<String>, flags: &[&str]) -> Self {
        let (authority, files) = (Authority::new("the plant's"), Files::new());
        let mut all = files.server_flags(&authority.server()).to_vec();
        all.extend(further(&files, &authority));
        let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
        all.extend(["--shards=1", "--tls-listen=127.0.0.1:0", "--websocket-tls-listen=127.0.0.1:0"]);
        all.extend(flags);
        Self { broker: Broker::start(&all), authority, files }
    }

    fn client(&self, options: &Options<'_>) -> TlsStream {
        self.authority.secure(self.broker.connect_as("mqtts"), options)
    }

    /// The code of the CONNACK that this client gets; none if its handshake fails.
    fn code_of(&self, level: u8, certified: Option<&Certified>) -> Option<u8> {
        let mut client = self.client(&Options { certified, ..Options::default() });
        client.write_all(&connect(level, "device")).ok()?;
        let mut connack = [0; 4];
        client.read_exact(&mut connack).ok()?;
        assert_eq!((connack[0], connack[2]), (0x20, 0));
        Some(connack[3])
    }

    fn gate_counters(&self) -> String {
        self.broker.signal("USR1");
        self.broker.wait_for_line("counters gate ")
    }
}

/// All that comes until the broker says that this is all; a connection that only breaks off is an error.
fn read_to_end(stream: &mut TlsStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("close_notify");
    bytes
}

#[test]
fn messages_pass_exactly_once_in_both_versions_of_tls() {
    let served = Served::start(&[]);
    for (name, versions) in [("1.2", &[&TLS12]), ("1.3", &[&TLS13])] {
        let secured = || served.client(&Options { versions, ..Options::default() });
        let (mut subscriber, _) = Client::resume_over(secured(), &format!("{name} dashboard"));
        subscriber.subscribe("t");
        let (mut publisher, _) = Client::resume_over(secured(), &format!("{name} sensor"));
        for id in 1..=20 {
            publisher.publish_whole(id, "t", &id.to_string());
        }
        let expected: Vec<String> = (1..=20).map(|id| id.to_string()).collect();
        assert_eq!(subscriber.take_messages(20), expected);
        publisher.leave();
        subscriber.leave();
    }
    let line = served.gate_counters();
    assert!(line.contains(" tls_handshakes=4 tls_handshakes_failed=0"), "{line}");
}

/// Handshake, CONNECT and all that follows in single bytes and in one piece, with a message larger than all buffers.
#[test]
fn records_and_packets_need_not_be_aligned() {
    let served = Served::start(&["--recv-buffers=16", "--recv-buffer-bytes=256"]);
    let payload: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
    let message = publish(b't', &payload);
    let (subscribe, suback) = subscribe(b't');
    let packets = [&connect(4, "hasty"), &subscribe[..], &message].concat();
    for versions in [&[&TLS12], &[&TLS13]] {
        let mut client = served.client(&Options { versions, ..Options::default() });
        client.write_all(&packets).expect("sent");
        let mut answers = vec![0; 9 + message.len()];
        client.read_exact(&mut answers).expect("all answers");
        assert_eq!(answers[..9], [&CONNACK_V311[..], &suback].concat());
        assert!(answers[9..] == message, "every byte in its place");
    }
    let mut slow = served.client(&Options::default());
    slow.sock.set_nodelay(true).expect("a socket");
    while slow.conn.is_handshaking() || slow.conn.wants_write() {
        let mut flight = Vec::new();
        while slow.conn.wants_write() {
            slow.conn.write_tls(&mut flight).expect("a vector");
        }
        for byte in flight {
            slow.sock.write_all(&[byte]).expect("sent");
        }
        if slow.conn.is_handshaking() {
            slow.conn.read_tls(&mut slow.sock).expect("an answer");
            slow.conn.process_new_packets().expect("a good one");
        }
    }
    for byte in connect(4, "slow") {
        slow.write_all(&[byte]).expect("sent");
    }
    let mut connack = [0; 4];
    slow.read_exact(&mut connack).expect("CONNACK");
    assert_eq!(connack, CONNACK_V311);
}

#[test]
fn both_sides_say_goodbye() {
    let served = Served::start(&[]);
    let mut client = served.client(&Options::default());
    client.write_all(&[&connect(4, "polite")[..], &PINGREQ, &[0xE0, 0]].concat()).expect("sent");
    assert_eq!(read_to_end(&mut client), [&CONNACK_V311[..], &PINGRESP].concat());
    // A client that only says that nothing more comes gets its answers.
    let mut client = served.client(&Options::default());
    client.write_all(&[&connect(4, "terse")[..], &PINGREQ].concat()).expect("sent");
    client.conn.send_close_notify();
    client.flush().expect("sent");
    assert_eq!(read_to_end(&mut client), [&CONNACK_V311[..], &PINGRESP].concat());
    // A refusal is the end, too.
    let mut client = served.client(&Options::default());
    client.write_all(&connect(3, "old")).expect("sent");
    assert_eq!(read_to_end(&mut client), [0x20, 2, 0, 1]);
    let mut client = served.client(&Options::default());
    client.write_all(&PINGREQ).expect("sent");
    assert!(read_to_end(&mut client).is_empty());
    // And so is the broker's.
    let mut client = served.client(&Options::default());
    client.write_all(&connect(5, "last")).expect("sent");
    let mut connack = [0; 2];
    client.read_exact(&mut connack).expect("CONNACK");
    served.broker.signal("TERM");
    let rest = read_to_end(&mut client);
    assert_eq!(rest[usize::from(connack[1])..][..3], [0xE0, 2, 0x8B]);
    drop(client);
    assert_eq!(served.broker.wait().0, Some(0));
}

/// The wills of those whose stream is cut off, and of those who are cut off because of what they send, are published.
#[test]
fn who_breaks_off_or_breaks_records_leaves_a_will() {
    let served = Served::start(&[]);
    let mut watcher = Client::transient(&served.broker, "watcher");
    watcher.subscribe("gone");
    let mut greeting = vec![0x10, 24, 0, 4, b'M', b'Q', b'T', b'T', 4, 0b1_0110, 0, 0];
    greeting.extend_from_slice(b"\0\x01r\0\x04gone\0\x03why");
    for (id, is_garbled) in [(1, false), (2, true)] {
        let mut client = served.client(&Options::default());
        client.write_all(&greeting).expect("sent");
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("CONNACK");
        if is_garbled {
            client
                .sock
                .write_all(&[0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
                .expect("sent");
            let error = client.read_exact(&mut connack).expect_err("an alert");
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
        }
        client.sock.shutdown(Shutdown::Both).expect("a socket");
        assert_eq!(watcher.take_messages(1), ["why"], "{id}");
    }
}

#[test]
fn garbage_in_place_of_a_handshake_touches_nobody_else() {
    let served = Served::start(&[]);
    let mut healthy = served.client(&Options::default());
    healthy.write_all(&connect(4, "healthy")).expect("sent");
    let mut connack = [0; 4];
    healthy.read_exact(&mut connack).expect("CONNACK");
    let garbage: [&[u8]; 5] = [
        &connect(4, "plain"),
        b"GET /mqtt HTTP/1.1\r\n\r\n",
        &[0x16, 3, 1, 0xFF, 0xFF, 1, 0xFF, 0xFF, 0xFF],
        &[0x16, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF],
        &[0; 600],
    ];
    for bytes in garbage {
        let mut client = served.broker.connect_as("mqtts");
        client.write_all(bytes).expect("sent");
        // Of a handshake that may still go on, only the end shows that it does not.
        client.shutdown(Shutdown::Write).expect("a socket");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 0x15, "an alert: {answer:02x?}");
        healthy.write_all(&PINGREQ).expect("sent");
        let mut pong = [0; 2];
        healthy.read_exact(&mut pong).expect("PINGRESP");
    }
    let line = served.gate_counters();
    assert!(line.contains(" tls_handshakes=1 tls_handshakes_failed=5"), "{line}");
}

#[test]
fn slow_handshakes_make_way_when_their_time_is_up() {
    let served = Served::start(&["--max-half-open=1", "--connect-timeout=500ms"]);
    let mut hello = Vec::new();
    served.client(&Options::default()).conn.write_tls(&mut hello).expect("a vector");
    for sent in [&[][..], &hello[..20], &hello] {
        let mut slow = served.broker.connect_as("mqtts");
        slow.write_all(sent).expect("sent");
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).expect("the broker ends the stream");
        assert!(rest.is_empty() || sent.len() == hello.len());
    }
    // One of them has not begun. The last may be counted after its connection has ended.
    while !served.gate_counters().contains(" tls_handshakes=0 tls_handshakes_failed=2") {}
}

#[test]
fn old_versions_and_other_protocols_are_refused() {
    let served = Served::start(&["--tls-min-version=1.3"]);
    let connected = |options: &Options<'_>| served.client(options).write_all(&PINGREQ).is_ok();
    assert!(!connected(&Options { versions: &[&TLS12], ..Options::default() }));
    assert!(connected(&Options { versions: &[&TLS13], ..Options::default() }));
    for (alpn, expected) in [(&["mqtt"][..], true), (&["h2", "mqtt"], true), (&["h2"], false)] {
        let mut client = served.client(&Options { alpn, ..Options::default() });
        assert_eq!(client.write_all(&PINGREQ).is_ok(), expected, "{alpn:?}");
        assert_eq!(client.conn.alpn_protocol(), expected.then_some(&b"mqtt"[..]), "{alpn:?}");
    }
}

#[test]
fn a_web_socket_is_served_over_tls() {
    let served = Served::start(&["--websocket-path=/devices"]);
    let options = Options { alpn: &["http/1.1"], ..Options::default() };
    let mut client = served.authority.secure(served.broker.connect_as("wss"), &options);
    let request = "GET /devices HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    // A mask that changes nothing.
    let binary = |packet: &[u8]| [&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0][..], packet].concat();
    let close = [0x88, 0x80, 0, 0, 0, 0];
    let frames = [binary(&connect(4, "browser")), binary(&PINGREQ), binary(&[0xE0, 0]), close.to_vec()].concat();
    client.write_all(&[request.as_bytes(), &frames].concat()).expect("sent");
    let answer = read_to_end(&mut client);
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer") + 4;
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let mut frames = &answer[head..];
    let mut payloads = Vec::new();
    while let [0x82, length, rest @ ..] = frames {
        payloads.extend_from_slice(&rest[..usize::from(*length)]);
        frames = &rest[usize::from(*length)..];
    }
    assert_eq!(payloads, [&CONNACK_V311[..], &PINGRESP].concat());
    assert_eq!(frames, [0x88, 0], "the answer to the client's");
    let mut lost = served.authority.secure(served.broker.connect_as("wss"), &options);
    lost.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert!(read_to_end(&mut lost).starts_with(b"HTTP/1.1 404 "));
}

#[test]
fn clients_have_to_show_a_certificate_of_the_authority() {
    let further = |files: &Files, authority: &Authority| {
        vec![
            files.flag("--tls-client-ca", "clients.pem", &authority.pem()),
            files.flag("--tls-crl", "revoked.pem", &authority.revocations(&[7])),
        ]
    };
    let served = Served::start_with(further, &[]);
    let strangers = Authority::new("the neighbour's");
    assert_eq!(served.code_of(4, Some(&served.authority.client(6, "pump-6", None))), Some(0));
    assert_eq!(served.code_of(4, Some(&served.authority.client(7, "pump-7", None))), None, "revoked");
    assert_eq!(served.code_of(4, Some(&strangers.client(6, "pump-6", None))), None, "another authority");
    assert_eq!(served.code_of(4, None), None, "none");
    let line = served.gate_counters();
    assert!(line.contains("identified=0 ") && line.contains(" tls_handshakes=1 tls_handshakes_failed=3"), "{line}");
}

#[test]
fn a_name_in_a_certificate_is_an_account() {
    for (identity, codes) in [("cn", [0, 0]), ("san", [5, 0])] {
        let further = |files: &Files, authority: &Authority| {
            vec![
                files.flag("--tls-client-ca", "clients.pem", &authority.pem()),
                // Nobody has a password.
                files.flag("--password-file", "people", ""),
            ]
        };
        let served = Served::start_with(further, &[&format!("--tls-identity={identity}")]);
        let without = served.authority.client(6, "pump-6", None);
        let with = served.authority.client(7, "pump-7", Some("pump-7@plant.example"));
        assert_eq!([&without, &with].map(|client| served.code_of(4, Some(client))), codes.map(Some), "{identity}");
        let in_v5 = codes.map(|code| Some(if code == 0 { 0 } else { 0x87 }));
        assert_eq!([&without, &with].map(|client| served.code_of(5, Some(client))), in_v5, "{identity}");
        let named = 2 * codes.iter().filter(|code| **code == 0).count();
        let line = served.gate_counters();
        assert!(line.contains(&format!("identified={named} ")), "{line}");
        assert!(line.contains(&format!("refused_nameless={} ", 4 - named)), "{line}");
        // Elsewhere a certificate shows nothing.
        let mut plain: TcpStream = served.broker.connect();
        plain.write_all(&connect(4, "plain")).expect("sent");
        assert_eq!(read_exactly::<4>(&mut plain), [0x20, 2, 0, 5]);
    }
}

#[test]
fn certificates_are_read_again_on_sighup() {
    let further =
        |files: &Files, authority: &Authority| vec![files.flag("--tls-client-ca", "clients.pem", &authority.pem())];
    let served = Served::start_with(further, &[]);
    let own = served.authority.client(6, "pump-6", None);
    let mut connected = served.client(&Options { certified: Some(&own), ..Options::default() });
    connected.write_all(&connect(4, "stays")).expect("sent");
    let mut connack = [0; 4];
    connected.read_exact(&mut connack).expect("CONNACK");
    // Another server's certificate, and other clients'.
    let successor = Authority::new("the successor's");
    served.files.server_flags(&successor.server());
    served.files.flag("", "clients.pem", &successor.pem());
    served.broker.reload();
    let code_of = |authority: &Authority, certified| {
        let options = Options { certified: Some(certified), ..Options::default() };
        let mut client = authority.secure(served.broker.connect_as("mqtts"), &options);
        client.write_all(&connect(4, "device")).ok()?;
        let mut connack = [0; 4];
        client.read_exact(&mut connack).ok()?;
        Some(connack[3])
    };
    let new = successor.client(6, "pump-6", None);
    assert_eq!(code_of(&successor, &new), Some(0));
    assert_eq!(code_of(&successor, &own), None, "the client's authority is another one");
    assert_eq!(code_of(&served.authority, &new), None, "and the server's");
    // What is wrong changes nothing.
    served.files.flag("", "server.key", "no key");
    served.broker.signal("HUP");
    let line = served.broker.wait_for_line("the certificates that were read before stay in use");
    assert!(line.contains("--tls-key ") && line.contains("server.key: there is no private key in it"), "{line}");
    assert_eq!(code_of(&successor, &new), Some(0));
    connected.write_all(&PINGREQ).expect("sent");
    let mut pong = [0; 2];
    connected.read_exact(&mut pong).expect("PINGRESP");
    assert_eq!(pong, PINGRESP);
}

#[test]
fn files_that_do_not_serve_are_told_by_flag_and_name() {
    let (authority, files) = (Authority::new("the plant's"), Files::new());
    let server = authority.server();
    let [certificate, key] = files.server_flags(&server);
    let missing = key.replace("server.key", "missing.key");
    let other_key = files.flag("--tls-key", "other.key", &authority.server().key_pem());
    let no_key = files.flag("--tls-key", "no.key", &server.pem());
    let locked = server.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
    let locked = files.flag("--tls-key", "locked.key", &locked);
    let no_certificate = files.flag("--tls-certificate", "no.pem", &server.key_pem());
    let garbled = files.flag("--tls-certificate", "garbled.pem", &server.pem().replace("MII", "AII"));
    let no_authority = files.flag("--tls-client-ca", "ca.pem", "");
    let authority = files.flag("--tls-client-ca", "authority.pem", &authority.pem());
    let no_list = files.flag("--tls-crl", "crl.pem", &server.pem());
    for (flags, told) in [
        (vec![&certificate, &missing], "--tls-key ... missing.key: No such file"),
        (vec![&certificate, &other_key], "--tls-key ... other.key: the key is not that of --tls-certificate"),
        (vec![&certificate, &no_key], "--tls-key ... no.key: there is no private key in it"),
        (vec![&certificate, &locked], "--tls-key ... locked.key: the key in it is encrypted"),
        (vec![&no_certificate, &key], "--tls-certificate ... no.pem: there is no certificate in it"),
        (vec![&garbled, &key], "--tls-certificate ... garbled.pem: "),
        (vec![&certificate, &key, &no_authority], "--tls-client-ca ... ca.pem: there is no certificate in it"),
        (vec![&certificate, &key, &authority, &no_list], "--tls-crl ... crl.pem: there is no revocation list in it"),
    ] {
        let mut all = vec!["--listen=127.0.0.1:0", "--tls-listen=127.0.0.1:0", "--durability=none"];
        all.extend(flags.into_iter().map(String::as_str));
        let (code, text) = refused_start(&all);
        assert_eq!(code, Some(1), "{told}: {text}");
        let told = told.split(" ... ").collect::<Vec<_>>();
        assert!(told.iter().all(|part| text.contains(part)), "{told:?}: {text}");
    }
}

#[test]
fn an_expired_certificate_is_told_and_served() {
    let (authority, files) = (Authority::new("the plant's"), Files::new());
    let [certificate, key] = files.server_flags(&authority.expired_server());
    let broker = Broker::start(&["--shards=1", "--tls-listen=127.0.0.1:0", &certificate, &key]);
    let line = broker.wait_for_line("server.pem: it has expired on ");
    assert!(line.contains("WARN") && line.contains("2001"), "{line}");
}
