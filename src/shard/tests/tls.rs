//! Clients of MQTT over TLS: what is in their records counts as it does elsewhere, both sides close, and what is no record ends
//! the connection in whatever state it is.

use rustls::ClientConnection;
use rustls::version::TLS13;

use super::*;
use crate::transport::tls_testing::{connected, said_by, sent_by, take};
use QoS::{AtMostOnce, ExactlyOnce};

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];
const CONNACK_V311: [u8; 4] = [0x20, 2, 0, 0];
/// A record of no connection.
const GARBAGE: [u8; 25] = [0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0];

/// A 3.1.1 client that has its CONNACK, with its end of TLS, and one that waits for its will.
struct Secured {
    fleet: Fleet,
    client: Client,
    end: ClientConnection,
    watcher: Client,
}

impl Secured {
    fn new() -> Self {
        let mut fleet = Fleet::durable(1);
        let watcher = fleet.connect(Version::V311, "watcher", true);
        fleet.subscribe(watcher, "will", AtMostOnce);
        fleet.got(watcher);
        let (end, tls) = connected(&TLS13);
        let client = fleet.connect_through(Box::new(tls).into(), connect(), &[]);
        let mut secured = Self { fleet, client, end, watcher };
        assert_eq!(secured.heard(), CONNACK_V311);
        secured
    }

    fn say(&mut self, packets: &[u8]) {
        let records = said_by(&mut self.end, packets);
        self.fleet.send_bytes(self.client, &records);
    }

    fn say_close_notify(&mut self) {
        self.end.send_close_notify();
        let records = sent_by(&mut self.end);
        self.fleet.send_bytes(self.client, &records);
    }

    /// The packets that the client has got.
    fn heard(&mut self) -> Vec<u8> {
        let records = self.fleet.received(self.client);
        take(&mut self.end, &records).expect("good records")
    }

    /// Whether the client has heard that nothing more comes.
    fn has_heard_the_end(&mut self) -> bool {
        self.end.process_new_packets().expect("good records").peer_has_closed()
    }

    fn will_is_published(&mut self) -> bool {
        !self.fleet.got(self.watcher).is_empty()
    }
}

fn connect() -> Connect<'static> {
    let will = Will { topic: "will", payload: b"gone", qos: AtMostOnce, retain: false, properties: Properties::EMPTY };
    Connect {
        version: Version::V311,
        clean_start: false,
        keep_alive_seconds: 0,
        client_id: "client",
        will: Some(will),
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

#[test]
fn packets_need_not_be_aligned_to_records() {
    let mut secured = Secured::new();
    let subscribe = [0x82, 6, 0, 1, 0, 1, b't', 0];
    secured.say(&[&PINGREQ[..], &subscribe[..3]].concat());
    assert_eq!(secured.heard(), PINGRESP);
    let publish = [0x30, 7, 0, 1, b't', b'2', b'2', b'.', b'5'];
    let records = said_by(&mut secured.end, &[&subscribe[3..], &publish].concat());
    for byte in records {
        secured.fleet.send_bytes(secured.client, &[byte]);
    }
    assert_eq!(secured.heard(), [&[0x90, 3, 0, 1, 0][..], &publish].concat());
}

/// Large payloads are sealed in their places, with the packets around them.
#[test]
fn a_large_payload_is_sealed_where_it_lies() {
    let mut secured = Secured::new();
    secured.say(&[0x82, 6, 0, 1, 0, 1, b't', 2]);
    secured.heard();
    let publisher = secured.fleet.connect(Version::V311, "publisher", true);
    let payload = "x".repeat(100_000);
    secured.fleet.publish(publisher, "t", &payload, ExactlyOnce, 1);
    let heard = secured.heard();
    assert_eq!(heard[0], 0x34);
    assert_eq!(heard.len(), 1 + 3 + 2 + 1 + 2 + payload.len());
    assert!(heard.ends_with(payload.as_bytes()));
}

#[test]
fn a_client_that_says_goodbye_hears_close_notify_and_says_its_own() {
    let mut secured = Secured::new();
    secured.say(&DISCONNECT);
    assert!(secured.heard().is_empty() && secured.has_heard_the_end());
    assert_eq!(secured.fleet.commands(secured.client), ["finish"], "the client's own is still to come");
    secured.say_close_notify();
    secured.fleet.end_of_stream(secured.client);
    assert_eq!(secured.fleet.commands(secured.client), ["close"]);
    assert!(!secured.will_is_published());
    // Both at once.
    let mut secured = Secured::new();
    let mut records = said_by(&mut secured.end, &DISCONNECT);
    secured.end.send_close_notify();
    records.extend(sent_by(&mut secured.end));
    secured.fleet.send_bytes(secured.client, &records);
    assert!(secured.heard().is_empty() && secured.has_heard_the_end());
    assert_eq!(secured.fleet.commands(secured.client), ["close"]);
}

#[test]
fn close_notify_alone_breaks_off_behind_the_answers() {
    let mut secured = Secured::new();
    secured.fleet.logs_flow = false;
    let publish = [0x34, 6, 0, 1, b't', 0, 7, b'x'];
    secured.say(&publish);
    secured.say_close_notify();
    assert!(secured.heard().is_empty() && !secured.has_heard_the_end(), "PUBREC waits for the log, and the end for it");
    secured.fleet.sync();
    assert_eq!(secured.heard(), [0x50, 2, 0, 7]);
    assert!(secured.has_heard_the_end());
    assert_eq!(secured.fleet.commands(secured.client), ["close"]);
    secured.fleet.logs_flow = true;
    assert!(secured.will_is_published());
}

#[test]
fn what_is_no_record_ends_the_connection_with_an_alert_alone() {
    let mut secured = Secured::new();
    secured.fleet.logs_flow = false;
    // An answer that waits for the log does not come any more.
    secured.say(&[0x34, 6, 0, 1, b't', 0, 7, b'x']);
    secured.fleet.send_bytes(secured.client, &GARBAGE);
    let records = secured.fleet.received(secured.client);
    assert!(take(&mut secured.end, &records).is_err(), "an alert");
    assert_eq!(secured.fleet.commands(secured.client), ["finish"]);
    assert_eq!(secured.fleet.count(|counters| counters.protocol_violations), 1);
    secured.fleet.sync();
    secured.fleet.send_bytes(secured.client, &GARBAGE);
    assert!(secured.fleet.received(secured.client).is_empty(), "nothing follows");
    secured.fleet.end_of_stream(secured.client);
    assert!(secured.fleet.is_closed(secured.client));
    secured.fleet.logs_flow = true;
    assert!(secured.will_is_published());
}

#[test]
fn what_is_no_record_does_not_disturb_the_end() {
    // Nothing is left to send, and no alert follows on `close_notify`.
    let mut secured = Secured::new();
    secured.say(&DISCONNECT);
    assert!(secured.heard().is_empty() && secured.has_heard_the_end());
    secured.fleet.send_bytes(secured.client, &GARBAGE);
    assert!(secured.fleet.received(secured.client).is_empty());
    secured.fleet.end_of_stream(secured.client);
    assert_eq!(secured.fleet.commands(secured.client), ["finish", "close"]);
    // An answer waits for the log, and could not be sealed any more.
    let mut secured = Secured::new();
    secured.fleet.logs_flow = false;
    secured.say(&[&[0x34, 6, 0, 1, b't', 0, 7, b'x'][..], &DISCONNECT].concat());
    secured.fleet.send_bytes(secured.client, &GARBAGE);
    assert_eq!(secured.fleet.commands(secured.client), ["close"]);
    secured.fleet.sync();
}

#[test]
fn who_is_sent_away_hears_the_end() {
    let mut secured = Secured::new();
    secured.fleet.shut_down();
    assert!(secured.heard().is_empty() && secured.has_heard_the_end(), "3.1.1 has no further word");
    assert_eq!(secured.fleet.commands(secured.client), ["finish"]);
    let mut secured = Secured::new();
    secured.say(&[0x82, 0]);
    assert!(secured.heard().is_empty() && secured.has_heard_the_end());
    assert_eq!(secured.fleet.commands(secured.client), ["finish"]);
}
