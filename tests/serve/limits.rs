//! How many clients may come from one address, how fast, and how much memory the broker may take.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker::{Broker, connect, read_exactly};
use crate::http::get;
use crate::{CONNACK_V311, read_to_end};

/// The code of the CONNACK that a client gets.
fn code_of(broker: &Broker, level: u8, client_id: &str) -> u8 {
    let mut client = broker.connect();
    client.write_all(&connect(level, client_id)).expect("sent");
    let connack = read_exactly::<4>(&mut client);
    read_to_end(&mut client);
    connack[3]
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let broker = Broker::start(&["--shards=1", "--max-connections-per-address=2"]);
    let mut clients: Vec<TcpStream> = ["first", "second"]
        .map(|client_id| {
            let mut client = broker.connect();
            client.write_all(&connect(4, client_id)).expect("sent");
            assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);
            client
        })
        .into();
    assert_eq!([4, 5].map(|level| code_of(&broker, level, "third")), [3, 0x97]);
    broker.signal("USR1");
    let line = broker.wait_for_line("counters gate ");
    assert!(line.contains(" refused_address_full=2 "), "{line}");
    clients.pop();
    loop {
        let mut next = broker.connect();
        next.write_all(&connect(4, "next")).expect("sent");
        match read_exactly::<4>(&mut next) {
            CONNACK_V311 => break,
            refused => assert_eq!(refused, [0x20, 2, 0, 3]),
        }
    }
}

/// Who does not get to his CONNECT takes a place of his address, and not one of all.
#[test]
fn an_address_has_as_many_half_open_connections_as_it_may() {
    let broker = Broker::start(&["--shards=1", "--max-connections-per-address=2"]);
    let silent: Vec<TcpStream> = (0..2).map(|_| broker.connect()).collect();
    // They are accepted in their order.
    let mut unheard = broker.connect();
    let mut answer = Vec::new();
    let _ = unheard.read_to_end(&mut answer);
    assert!(answer.is_empty());
    let line = broker.wait_for_line("its address has --max-connections-per-address already");
    assert!(line.contains("127.0.0.1:"), "{line}");
    drop(silent);
    loop {
        let mut client = broker.connect();
        let mut connack = [0; 4];
        if client.write_all(&connect(4, "sensor")).and_then(|()| client.read_exact(&mut connack)).is_ok() {
            assert_eq!(connack, CONNACK_V311);
            break;
        }
    }
}

/// Nobody is refused for that.
#[test]
fn clients_that_come_too_fast_wait() {
    let broker = Broker::start(&["--shards=1", "--max-connect-rate=20"]);
    let mut clients: Vec<TcpStream> = (0..10).map(|_| broker.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&connect(4, &format!("client-{number}"))).expect("sent");
    }
    for client in &mut clients {
        assert_eq!(read_exactly::<4>(client), CONNACK_V311);
    }
    broker.wait_for_line("clients come faster than --max-connect-rate");
    broker.signal("USR1");
    let line = broker.wait_for_line("counters gate ");
    let paused = line.split("accepts_paused=").nth(1).expect("the count");
    assert_ne!(paused, "0", "{line}");
    assert!(line.contains(" admitted=10 refused=0 "), "{line}");
}

/// A broker that takes more than it may from the start.
#[test]
fn who_is_new_is_refused_when_memory_is_short() {
    let broker = Broker::start(&["--shards=2", "--max-memory=1MiB", "--admin-listen=127.0.0.1:0"]);
    let line = broker.wait_for_line("memory: ");
    let told =
        "of --max-memory 1 MiB are taken: clients without a session are refused, publishers wait, and QoS 0 messages";
    assert!(line.contains(told), "{line}");
    // The shards were told before.
    assert_eq!([4, 5].map(|level| code_of(&broker, level, "newcomer")), [3, 0x89]);
    let metrics = get(&broker, "/metrics").body;
    for sample in ["oncemq_memory_stage{shard=\"1\"} 3", "oncemq_refused_total{shard=\"0\",reason=\"memory\"}"] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
}
