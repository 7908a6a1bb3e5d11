//! The real process from outside: start, the bytes at its front door, signals, and what it says when it cannot start.

mod access;
mod admin;
mod broker;
mod certificates;
mod configuration;
mod durable;
#[cfg(feature = "planted-faults")]
mod failing_disk;
mod holdings;
mod http;
mod limits;
mod live;
mod proxy;
mod service;
mod session;
mod small_disk;
mod supervision;
mod tls;
mod unix_socket;
mod web_socket;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use broker::{Broker, connect, connect_as, read_exactly, refused_start};
use session::Client;

const CONNACK_V311: [u8; 4] = [0x20, 2, 0, 0];
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

/// A QoS 0 PUBLISH to a topic of one byte.
fn publish(topic: u8, payload: &[u8]) -> Vec<u8> {
    let mut remaining = 3 + payload.len();
    let mut frame = vec![0x30];
    while remaining > 0 {
        let more = if remaining > 127 { 0x80 } else { 0 };
        frame.push((remaining % 128) as u8 | more);
        remaining /= 128;
    }
    frame.extend_from_slice(&[0, 1, topic]);
    frame.extend_from_slice(payload);
    frame
}

/// SUBSCRIBE of a 3.1.1 client with packet id 1 to a topic of one byte, QoS 0, and the SUBACK that it gets.
fn subscribe(topic: u8) -> ([u8; 8], [u8; 5]) {
    ([0x82, 6, 0, 1, 0, 1, topic, 0], [0x90, 3, 0, 1, 0])
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the broker ends the stream");
    bytes
}

#[test]
fn a_client_is_served_until_the_broker_is_terminated() {
    let broker = Broker::start(&["--shards", "2"]);
    let mut client = broker.connect();
    client.write_all(&connect(4, "sensor")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
    client.write_all(&PINGREQ).expect("sent");
    assert_eq!(read_exactly::<2>(&mut client), PINGRESP);
    broker.signal("TERM");
    assert!(read_to_end(&mut client).is_empty(), "3.1.1 knows no DISCONNECT from the server");
    drop(client);
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("counters shard=0 ") && log.contains("counters shard=1 "), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_5_0_client_is_told_that_the_broker_stops() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    client.write_all(&connect(5, "sensor")).expect("sent");
    let [0x20, remaining] = read_exactly::<2>(&mut client) else { panic!("no CONNACK") };
    let mut connack = vec![0; usize::from(remaining)];
    client.read_exact(&mut connack).expect("the rest of CONNACK");
    assert_eq!(connack[..2], [0, 0]);
    broker.signal("INT");
    assert_eq!(read_to_end(&mut client)[..3], [0xE0, 2, 0x8B][..]);
    drop(client);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn the_banner_says_what_runs() {
    let broker = Broker::start(&["--shards", "2", "--pin", "none", "--max-connections", "7"]);
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0));
    for part in [
        env!("CARGO_PKG_VERSION"),
        "listeners: 127.0.0.1:",
        "shards: 2 shard-0=unpinned shard-1=unpinned",
        "durability: sync; survives kill -9 of the broker and power loss",
        "data directory: ",
        "max_connections=7 ",
        "ready on 127.0.0.1:",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn the_ready_line_comes_at_every_log_level() {
    let broker = Broker::start(&["--log-level", "error"]);
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0));
    assert_eq!(log.lines().count(), 1, "only the ready line: {log}");
}

#[test]
fn counters_are_logged_on_request() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    client.write_all(&connect(4, "sensor")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
    broker.signal("USR1");
    let line = broker.wait_for_line("counters shard=0 ");
    assert!(line.contains(" connections=1 "), "{line}");
}

#[test]
fn packets_sent_behind_connect_are_answered_in_order() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    let (subscribe, suback) = subscribe(b't');
    let message = publish(b't', b"22.5");
    let sent = [&connect(4, "sensor"), &subscribe[..], &message, &PINGREQ].concat();
    client.write_all(&sent).expect("sent");
    let mut answer = vec![0; CONNACK_V311.len() + suback.len() + message.len() + PINGRESP.len()];
    client.read_exact(&mut answer).expect("all answers");
    let (ordered, rest) = answer.split_at(CONNACK_V311.len() + suback.len());
    assert_eq!(ordered, [&CONNACK_V311[..], &suback].concat());
    // The message goes through the session's queue, so the PINGRESP may overtake it.
    assert!(rest == [&message[..], &PINGRESP].concat() || rest == [&PINGRESP[..], &message].concat(), "{rest:?}");
}

#[test]
fn a_connect_in_single_bytes_is_understood() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    client.set_nodelay(true).expect("a socket");
    for byte in connect(4, "sensor") {
        client.write_all(&[byte]).expect("sent");
    }
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
}

#[test]
fn a_client_without_a_name_gets_one() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    client.write_all(&connect(5, "")).expect("sent");
    let [0x20, remaining] = read_exactly::<2>(&mut client) else { panic!("no CONNACK") };
    let mut connack = vec![0; usize::from(remaining)];
    client.read_exact(&mut connack).expect("the rest of CONNACK");
    assert!(String::from_utf8_lossy(&connack).contains("once-"), "{connack:?}");
}

/// A client of 3.1 is served as one of 3.1.1: its id may be long, and a filter that is refused has the code that 3.1 had not.
#[test]
fn a_client_of_mqtt_31_is_served() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = broker.connect();
    let malformed_filter = [0x82, 7, 0, 1, 0, 2, b'a', b'#', 0];
    let message = publish(b't', b"22.5");
    let (subscribe, suback) = subscribe(b't');
    let greeting = connect_as(b"MQIsdp", 3, "a-client-id-of-more-than-23-bytes");
    client.write_all(&[&greeting, &malformed_filter[..], &subscribe].concat()).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
    assert_eq!(read_exactly::<5>(&mut client), [0x90, 3, 0, 1, 0x80]);
    assert_eq!(read_exactly::<5>(&mut client), suback);
    client.write_all(&message).expect("sent");
    assert_eq!(read_exactly::<9>(&mut client)[..], message);
}

#[test]
fn refusals_are_answered_and_the_stream_ends() {
    let broker = Broker::start(&["--shards", "1"]);
    for (greeting, answer) in [
        (connect(3, "sensor"), &[0x20, 2, 0, 1][..]),
        (connect(6, "sensor"), &[0x20, 3, 0, 0x84, 0]),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[]),
        (PINGREQ.to_vec(), &[]),
        (vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], &[]), // 256 MiB to come
    ] {
        let mut client = broker.connect();
        client.write_all(&greeting).expect("sent");
        let mut bytes = Vec::new();
        // A client that is not answered may see a reset instead of an end: nothing was to be read.
        let _ = client.read_to_end(&mut bytes);
        assert_eq!(bytes, answer, "{greeting:?}");
    }
}

#[test]
fn a_full_broker_refuses_until_a_client_leaves() {
    let broker = Broker::start(&["--shards", "1", "--max-connections", "1"]);
    let mut first = broker.connect();
    first.write_all(&connect(4, "first")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut first), CONNACK_V311);
    let mut second = broker.connect();
    second.write_all(&connect(4, "second")).expect("sent");
    assert_eq!(read_to_end(&mut second), [0x20, 2, 0, 3]);
    drop(first);
    loop {
        let mut third = broker.connect();
        third.write_all(&connect(4, "third")).expect("sent");
        match read_exactly::<4>(&mut third) {
            CONNACK_V311 => break,
            refused => assert_eq!(refused, [0x20, 2, 0, 3]),
        }
    }
}

#[test]
fn a_session_too_many_is_refused_and_others_are_resumed() {
    let broker = Broker::start(&["--shards", "1", "--max-sessions", "1"]);
    let (first, _) = Client::resume(&broker, "first");
    first.leave();
    let mut second = broker.connect();
    second.write_all(&connect(4, "second")).expect("sent");
    assert_eq!(read_to_end(&mut second), [0x20, 2, 0, 3]);
    let (_first, is_present) = Client::resume(&broker, "first");
    assert!(is_present);
}

#[test]
fn silent_clients_make_way_when_their_time_is_up() {
    let broker = Broker::start(&["--shards", "1", "--max-half-open", "1", "--connect-timeout", "100ms"]);
    let mut silent = broker.connect();
    silent.write_all(&connect(4, "slow")[..5]).expect("sent");
    let mut client = broker.connect();
    client.write_all(&connect(4, "sensor")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
    assert!(read_to_end(&mut silent).is_empty());
}

#[test]
fn a_message_larger_than_all_buffers_passes() {
    let broker = Broker::start(&["--shards", "1", "--recv-buffers", "16", "--recv-buffer-bytes", "256"]);
    let mut client = broker.connect();
    let (subscribe, suback) = subscribe(b't');
    client.write_all(&[&connect(4, "sensor"), &subscribe[..]].concat()).expect("sent");
    assert_eq!(read_exactly::<9>(&mut client)[4..], suback);
    let payload: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
    let message = publish(b't', &payload);
    client.write_all(&message).expect("sent");
    let mut echo = vec![0; message.len()];
    client.read_exact(&mut echo).expect("the message");
    assert!(echo == message, "every byte in its place");
}

#[test]
fn floods_are_answered_to_their_last_byte_and_a_flood_that_breaks_off_takes_nothing_with_it() {
    const MESSAGES: u16 = 20_000;
    let broker = Broker::start(&["--shards", "1", "--recv-buffers", "32", "--recv-buffer-bytes", "512"]);
    let flood = |mut client: TcpStream| {
        let mut packets = connect(4, &format!("flood-{:?}", thread::current().id()));
        for id in 1..=MESSAGES {
            packets.extend_from_slice(&[0x32, 9, 0, 1, b't']);
            packets.extend_from_slice(&id.to_be_bytes());
            packets.extend_from_slice(b"abcd");
        }
        let mut sending = client.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(move || {
                sending.write_all(&packets).expect("sent");
                // The end of the stream comes behind all that waits of it.
                sending.shutdown(Shutdown::Write).expect("half closed");
            });
            let mut expected = CONNACK_V311.to_vec();
            for id in 1..=MESSAGES {
                expected.extend_from_slice(&[0x40, 2]);
                expected.extend_from_slice(&id.to_be_bytes());
            }
            assert!(read_to_end(&mut client) == expected, "every message is acknowledged, in its order");
        });
    };
    let break_off = |mut client: TcpStream| {
        let mut packets = connect(4, &format!("gone-{:?}", thread::current().id()));
        packets.extend_from_slice(&publish(b't', b"abcd").repeat(20_000));
        client.write_all(&packets).expect("sent");
        // Dropped with CONNACK unread, the socket is reset.
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            let (whole, broken) = (broker.connect(), broker.connect());
            scope.spawn(move || flood(whole));
            scope.spawn(move || break_off(broken));
        }
    });
    let mut client = broker.connect();
    client.write_all(&[&connect(4, "sensor"), &PINGREQ[..]].concat()).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
    assert_eq!(read_exactly::<2>(&mut client), PINGRESP);
}

#[test]
fn many_clients_come_and_go() {
    const CLIENTS: usize = 200;
    let broker = Broker::start(&["--shards", "2", "--ring-entries", "64", "--recv-buffers", "16"]);
    for round in 0..3 {
        let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| broker.connect()).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            client.write_all(&connect(4, &format!("client-{round}-{i}"))).expect("sent");
        }
        for client in &mut clients {
            assert_eq!(read_exactly::<4>(client), CONNACK_V311);
            client.write_all(&PINGREQ).expect("sent");
        }
        for client in &mut clients {
            assert_eq!(read_exactly::<2>(client), PINGRESP);
        }
        // One half says goodbye, the other half is gone with the end of the round.
        for client in clients.iter_mut().step_by(2) {
            client.write_all(&[0xE0, 0]).expect("sent");
            assert!(read_to_end(client).is_empty());
        }
    }
}

#[test]
fn a_bad_value_ends_the_start_with_the_flag_and_what_is_allowed() {
    for (arguments, parts) in [
        (["--listen", "0.0.0.0:1883"], ["--listen", "anyone who reaches this address could connect"]),
        (["--durability", "maybe"], ["--durability", "allowed is sync, write or none"]),
        (["--shards", "0"], ["--shards", "from 1 to 64"]),
        (["--recv-buffers", "1000"], ["--recv-buffers", "a power of two"]),
    ] {
        let (code, text) = refused_start(&arguments);
        assert_eq!(code, Some(2), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn a_cpu_that_does_not_exist_is_named() {
    let (code, text) = refused_start(&["--pin", "4095", "--durability", "none"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("CPU 4095") && text.contains("allowed: 0"), "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, text) = refused_start(&["--listen", &address, "--durability", "none"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}
