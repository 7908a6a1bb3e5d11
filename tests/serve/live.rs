//! What the broker tells every second, and who gets to know.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use oncemq::config::{ADMIN_LIVE_INTERVAL, ADMIN_REQUEST_TIMEOUT, ADMIN_WATCHERS_MAX};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::http::{ADMIN, get};
use crate::session::Client;

/// Somebody who watches.
struct Watcher {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Watcher {
    /// Asks for events; an error is the status of who may not have them.
    fn try_join(broker: &Broker) -> Result<Self, u16> {
        let mut stream = broker.connect_as("http");
        stream.write_all(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().expect("an answer").expect("text");
        match status.split(' ').nth(1) {
            Some("200") => Ok(Self { lines }),
            status => Err(status.and_then(|status| status.parse().ok()).expect("a status")),
        }
    }

    fn join(broker: &Broker) -> Self {
        Self::try_join(broker).unwrap_or_else(|status| panic!("refused with {status}"))
    }

    fn next_event(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("the stream goes on").expect("text");
            if let Some(event) = line.strip_prefix("data: ") {
                return serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
            }
        }
    }
}

/// By how much something has moved between two events.
fn moved(event: &Value, total: &str) -> f64 {
    let rate = &event["total"]["per_second"][total];
    rate.as_f64().unwrap_or_else(|| panic!("{total}: {event}")) * event["interval_seconds"].as_f64().expect("seconds")
}

#[test]
fn what_is_exchanged_is_seen_in_the_next_event() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let mut watcher = Watcher::join(&broker);
    let first = watcher.next_event();
    assert_eq!((&first["state"], &first["total"]["per_second"]), (&json!("ready"), &Value::Null));
    assert_eq!(first["shards"].as_array().map(Vec::len), Some(2));
    let (mut dash, _) = Client::resume(&broker, "dash");
    dash.subscribe("t/a");
    let (mut sensor, _) = Client::resume(&broker, "sensor");
    sensor.publish_whole(1, "t/a", "22.5");
    sensor.publish(2, "t/b", "half way");
    sensor.expect(0x50, &[0, 2]);
    assert_eq!(dash.take_messages(1), ["22.5"]);
    // Behind the PUBCOMP of the subscriber.
    dash.ping();
    let (mut sums, mut last) = ([0.0; 6], Value::Null);
    let expected = [2.0, 2.0, 1.0, 1.0, 1.0, 1.0];
    while sums != expected {
        assert!(sums.iter().zip(expected).all(|(sum, expected)| *sum <= expected), "{sums:?}");
        last = watcher.next_event();
        let totals = ["messages_in_qos2", "pubrec_out", "pubrel_in", "messages_out_qos2", "pubrel_out", "pubcomp_in"];
        // Rates are told in tenths.
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum += moved(&last, total).round();
        }
    }
    let total = &last["total"];
    assert_eq!((&total["connections"], &total["in_awaiting_pubrel"]), (&json!(2), &json!(1)));
    assert_eq!((&total["out_awaiting_pubrec"], &total["subscriptions"]), (&json!(0), &json!(1)));
    let of_shards = |gauge: &str| {
        let shards = last["shards"].as_array().expect("a list");
        shards.iter().map(|shard| shard[gauge].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(of_shards("connections"), 2);
    for shard in last["shards"].as_array().expect("a list") {
        assert_eq!(shard["log"], "ok");
    }
    assert!(last["total"]["turn_seconds"]["p99"].as_f64() > Some(0.0), "{last}");
}

#[test]
fn as_many_watch_as_may_for_as_long_as_they_like() {
    let broker = Broker::start(&["--shards=1", ADMIN]);
    let mut watchers: Vec<Watcher> = (0..ADMIN_WATCHERS_MAX).map(|_| Watcher::join(&broker)).collect();
    assert_eq!(Watcher::try_join(&broker).err(), Some(503));
    assert_eq!(get(&broker, "/healthz").status, 200);
    let mut patient = watchers.pop().expect("there are some");
    drop(watchers);
    // Longer than any other request may take.
    let events = ADMIN_REQUEST_TIMEOUT.as_secs() / ADMIN_LIVE_INTERVAL.as_secs() + 2;
    for _ in 0..events {
        patient.next_event();
    }
    // The places of those who have left are free.
    Watcher::join(&broker).next_event();
}
