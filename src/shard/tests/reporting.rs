//! What the broker says of itself on `$SYS`.

use std::collections::BTreeMap;

use super::*;
use QoS::{AtMostOnce, ExactlyOnce};

const INTERVAL: Duration = Duration::from_secs(10);

/// In this time the interval is over, whatever the resolution of timers.
const PAUSE: Duration = Duration::from_millis(10_100);

/// What was said since the client was last asked: payload, QoS and RETAIN by topic, of which the part that all have is left out.
fn said(fleet: &mut Fleet, client: Client) -> BTreeMap<String, (String, QoS, bool)> {
    let publish = |got| match got {
        Got::Publish { topic, payload, qos, retain, .. } => {
            let topic = topic.strip_prefix("$SYS/broker/").expect("a topic of the broker");
            Some((topic.to_owned(), (payload, qos, retain)))
        }
        _ => None,
    };
    fleet.got(client).into_iter().filter_map(publish).collect()
}

/// The figures of all shards are one; a new subscriber gets the last ones, an old one what changes.
#[test]
fn all_shards_are_counted() {
    for shards in [1, 2, 4] {
        let mut fleet = Fleet::reporting(shards, INTERVAL);
        let watcher = fleet.connect(Version::V5, "watcher", true);
        fleet.subscribe(watcher, "$SYS/broker/#", ExactlyOnce);
        let first = said(&mut fleet, watcher);
        assert_eq!(first["uptime"], ("0 seconds".into(), AtMostOnce, true), "{shards} shards");
        assert_eq!(first["clients/total"].0, "0");
        let clients: Vec<_> = (0..8).map(|number| fleet.connect_v5(&format!("client-{number}"), 10)).collect();
        for client in &clients {
            fleet.subscribe(*client, "t", ExactlyOnce);
        }
        fleet.publish(clients[0], "t", "12345", AtMostOnce, 0);
        fleet.drop_connection(clients[1]);
        assert_eq!(said(&mut fleet, watcher), BTreeMap::new(), "nothing before its time");
        fleet.pass(PAUSE);
        let second = said(&mut fleet, watcher);
        for (topic, expected) in [
            ("uptime", "10 seconds"),
            ("clients/connected", "8"),
            ("clients/disconnected", "1"),
            ("clients/total", "9"),
            ("clients/maximum", "8"),
            ("subscriptions/count", "9"),
            ("publish/messages/received", "1"),
            ("publish/bytes/received", "5"),
            ("messages/received", "19"),
            ("load/connections/1min", "8.28"),
        ] {
            assert_eq!(second[topic], (expected.into(), AtMostOnce, false), "{topic}, {shards} shards");
        }
        assert!(!second.contains_key("version"), "it has not changed");
        let number = |topic: &str| second[topic].0.parse::<u64>().expect("a number");
        // CONNACK and SUBACK of nine clients, eight deliveries, and what the watcher had got.
        assert_eq!(number("messages/sent"), 18 + 8 + first.len() as u64);
        assert!(number("bytes/received") > 8 * 30 && number("bytes/sent") > 8 * 10);
        assert_eq!(number("retained messages/count"), first.len() as u64);
    }
}

/// [MQTT-4.7.2-1]: wildcards at the beginning do not find them, neither retained nor live.
#[test]
fn who_subscribes_to_everything_does_not_get_them() {
    let mut fleet = Fleet::reporting(2, INTERVAL);
    let client = fleet.connect(Version::V311, "client", true);
    for filter in ["#", "+/broker/#", "+/broker/uptime"] {
        fleet.subscribe(client, filter, ExactlyOnce);
    }
    fleet.pass(PAUSE);
    assert_eq!(said(&mut fleet, client), BTreeMap::new());
    fleet.subscribe(client, "$SYS/broker/uptime", ExactlyOnce);
    assert_eq!(said(&mut fleet, client).len(), 1);
}

/// Nothing of them is logged or queued, so an absent client finds no old figures, and a restart begins anew.
#[test]
fn figures_do_not_outlive_their_run() {
    let mut fleet = Fleet::reporting(2, INTERVAL);
    let client = fleet.connect_v5("client", 10);
    fleet.subscribe(client, "$SYS/#", ExactlyOnce);
    fleet.drop_connection(client);
    fleet.got(client);
    let records: u64 = fleet.shards.iter().map(|shard| shard.log().records()).sum();
    fleet.pass(PAUSE);
    assert_eq!(fleet.shards.iter().map(|shard| shard.log().records()).sum::<u64>(), records);
    assert_eq!(fleet.count(|counters| counters.queued), 0);
    assert!(fleet.count(|counters| counters.retained) > 0);
    let image =
        |fleet: &mut Fleet| -> usize { fleet.shards.iter_mut().map(|shard| shard.image().retained.len()).sum() };
    assert_eq!(image(&mut fleet), 0);
    fleet.crash(Duration::from_secs(1));
    assert_eq!(fleet.count(|counters| counters.retained), 0, "nothing was said in this run");
    fleet.pass(Duration::ZERO);
    let watcher = fleet.connect(Version::V311, "watcher", true);
    fleet.subscribe(watcher, "$SYS/broker/uptime", AtMostOnce);
    assert_eq!(said(&mut fleet, watcher)["uptime"].0, "0 seconds");
}

/// The limit of retained messages is for those of clients: neither takes room from the other.
#[test]
fn no_limit_refuses_them() {
    let mut fleet = Fleet::reporting(1, INTERVAL);
    let own = fleet.count(|counters| counters.retained);
    assert!(own > 0);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    let max = limits().max_retained_messages;
    for number in 0..max + 1 {
        fleet.publish_with(publisher, &number.to_string(), "x", AtMostOnce, 0, false, true);
    }
    assert_eq!(fleet.count(|counters| counters.dropped_retained_full), 1, "those of the broker do not count");
    fleet.pass(PAUSE);
    assert_eq!(fleet.count(|counters| counters.retained), own + u64::from(max));
    assert_eq!(fleet.count(|counters| counters.dropped_retained_full), 1);
}

/// A shard that cannot answer is not waited for, and its late answer counts for nothing.
#[test]
fn a_late_answer_is_left_out() {
    let mut fleet = Fleet::reporting(2, INTERVAL);
    let watcher = fleet.connect(Version::V311, "watcher", true);
    fleet.subscribe(watcher, "$SYS/broker/uptime", AtMostOnce);
    fleet.got(watcher);
    fleet.rings_flow = false;
    fleet.pass(PAUSE);
    fleet.pass(PAUSE);
    assert_eq!(said(&mut fleet, watcher), BTreeMap::new());
    fleet.flow();
    let said = said(&mut fleet, watcher);
    assert_eq!(said["uptime"].0, "20 seconds");
}
