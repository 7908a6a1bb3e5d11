//! Full queues, by policy.

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Queues of three messages, with this policy for all sessions.
fn three(policy: QueuePolicy) -> Limits {
    Limits { max_queued_messages: 3, queue_policy: policy, durable_queue_policy: Some(policy), ..limits() }
}

/// A session whose client is away, on a fleet with logs or without.
fn absent(limits: Limits, is_durable: bool) -> (Fleet, Client) {
    let mut fleet = if is_durable { Fleet::durable_with_limits(1, limits) } else { Fleet::with_limits(1, limits) };
    let subscriber = fleet.connect(Version::V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.disconnect(subscriber);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.got(publisher);
    (fleet, publisher)
}

fn publish(fleet: &mut Fleet, publisher: Client, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        fleet.publish(publisher, "t", &number.to_string(), ExactlyOnce, number);
    }
}

/// The payloads that a client gets, in order; each is acknowledged, and those behind it come.
fn fetch(fleet: &mut Fleet, client: Client) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let got = fleet.got(client);
        if got.is_empty() {
            return payloads;
        }
        for packet in got {
            if let Got::Publish { payload, id, .. } = packet {
                payloads.push(payload);
                fleet.ack(client, AcknowledgementKind::Pubrec, id);
                fleet.ack(client, AcknowledgementKind::Pubcomp, id);
            }
        }
    }
}

/// For an absent client, every policy but one drops the newest message, counted; what was accepted before stays.
#[test]
fn a_full_queue_drops_by_policy() {
    for (policy, expected) in [
        (QueuePolicy::DropNewest, ["1", "2", "3"]),
        (QueuePolicy::DropOldest, ["3", "4", "5"]),
        (QueuePolicy::Disconnect, ["1", "2", "3"]),
    ] {
        for is_durable in [false, true] {
            let (mut fleet, publisher) = absent(three(policy), is_durable);
            publish(&mut fleet, publisher, 1..=5);
            assert_eq!(fleet.got(publisher).len(), 5, "{policy:?}");
            assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 2);
            assert_eq!(fleet.count(|counters| counters.messages), 3);
            if is_durable {
                fleet.crash(Duration::from_secs(1));
            }
            let subscriber = fleet.connect(Version::V311, "subscriber", false);
            assert_eq!(fetch(&mut fleet, subscriber), expected, "{policy:?}");
        }
    }
}

/// Unless the operator says so, nothing is dropped that a publisher was acknowledged for, whatever the limits: they are for
/// sessions that end with the broker.
#[test]
fn durable_queues_keep_all() {
    let limits = Limits { max_queued_messages: 3, max_queued_bytes: 1, ..limits() };
    let (mut fleet, publisher) = absent(limits, true);
    publish(&mut fleet, publisher, 1..=500);
    assert_eq!(fleet.got(publisher).len(), 500);
    fleet.crash(Duration::from_secs(1));
    let subscriber = fleet.connect(Version::V311, "subscriber", false);
    let expected: Vec<_> = (1..=500).map(|number| number.to_string()).collect();
    assert_eq!(fetch(&mut fleet, subscriber), expected);
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 0);
}

/// The same while a SUBSCRIBE waits for another shard and holds everything back.
#[test]
fn what_is_held_back_for_a_durable_session_is_kept() {
    let mut fleet = Fleet::durable_with_limits(2, Limits { max_queued_messages: 3, ..limits() });
    let subscriber = fleet.connect_v5("subscriber", 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let here = (0..).map(|number| format!("p{number}")).find(|name| shard_of(name, 2) == shard_of("subscriber", 2));
    let publisher = fleet.connect(Version::V311, &here.expect("half of all names do"), true);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "other", ExactlyOnce);
    publish(&mut fleet, publisher, 1..=20);
    fleet.flow();
    assert_eq!(fetch(&mut fleet, subscriber).len(), 20);
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 0);
}

/// What is in flight is not the oldest of the queue: its exchange goes on, and its id is not given away. A restart finds the
/// same.
#[test]
fn drop_oldest_leaves_alone_what_was_sent() {
    for (does_crash, shards) in [(false, 1), (true, 1), (true, 2)] {
        let mut fleet = Fleet::durable_with_limits(1, three(QueuePolicy::DropOldest));
        let subscriber = fleet.connect_v5("subscriber", 2);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.got(subscriber);
        let publisher = fleet.connect(Version::V311, "publisher", true);
        publish(&mut fleet, publisher, 1..=2);
        fleet.ack(subscriber, AcknowledgementKind::Pubrec, 1);
        publish(&mut fleet, publisher, 3..=9);
        fleet.drop_connection(subscriber);
        publish(&mut fleet, publisher, 10..=12);
        assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 7);
        match (does_crash, shards) {
            (true, 1) => fleet.crash(Duration::from_secs(1)),
            (true, _) => fleet.crash_and_redeal(shards),
            (false, _) => {}
        }
        let subscriber = fleet.connect_v5("subscriber", 10);
        let got = fleet.got(subscriber);
        let publish = |id, payload: &str, dup| Got::Publish {
            topic: "t".into(),
            payload: payload.into(),
            qos: ExactlyOnce,
            id,
            dup,
            retain: false,
        };
        let expected = [
            Got::Connack { session_present: true, reason: ReasonCode::Success },
            Got::Ack(AcknowledgementKind::Pubrel, 1, ReasonCode::Success),
            publish(2, "2", true),
            publish(10, "10", false),
            publish(11, "11", false),
            publish(12, "12", false),
        ];
        assert_eq!(got, expected, "crash {does_crash}, {shards} shards");
    }
}

/// Messages that only the log holds are dropped behind those in memory, and do not come back.
#[test]
fn drop_oldest_reaches_what_is_away() {
    let limits = Limits {
        max_queued_messages: 100,
        queue_memory_bytes: 0,
        queue_kept_messages: 10,
        ..three(QueuePolicy::DropOldest)
    };
    for (does_crash, last) in [(false, 105), (false, 230), (true, 230)] {
        let limits = Limits { max_queued_messages: 100, ..limits.clone() };
        let (mut fleet, publisher) = absent(limits, true);
        publish(&mut fleet, publisher, 1..=last);
        assert_eq!(fleet.count(|counters| counters.queued), 100);
        assert_eq!(fleet.count(|counters| counters.dropped_queue_full), u64::from(last) - 100);
        if does_crash {
            fleet.crash(Duration::from_secs(1));
        }
        let subscriber = fleet.connect(Version::V311, "subscriber", false);
        let expected: Vec<_> = (last - 99..=last).map(|number| number.to_string()).collect();
        assert_eq!(fetch(&mut fleet, subscriber), expected, "{last} messages, crash {does_crash}");
        assert_eq!((fleet.damaged, fleet.count(|counters| counters.messages)), (0, 0));
    }
}

/// A message that does not fit into an empty queue empties no queue.
#[test]
fn drop_oldest_drops_nothing_in_vain() {
    let limits = Limits { max_queued_bytes: 20, ..three(QueuePolicy::DropOldest) };
    let (mut fleet, publisher) = absent(limits, false);
    publish(&mut fleet, publisher, 1..=3);
    fleet.publish(publisher, "t", &"x".repeat(20), ExactlyOnce, 4);
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 1);
    fleet.publish(publisher, "t", &"x".repeat(16), ExactlyOnce, 5);
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 3, "two make room for one");
    let subscriber = fleet.connect(Version::V311, "subscriber", false);
    assert_eq!(fetch(&mut fleet, subscriber), ["3", &"x".repeat(16)]);
}

/// A client that does not keep up is told why it has to go; its session ends if it ends with the connection.
#[test]
fn disconnect_sends_the_client_away() {
    for is_durable in [false, true] {
        let mut fleet = Fleet::durable_with_limits(1, three(QueuePolicy::Disconnect));
        let subscriber = match is_durable {
            true => fleet.connect_v5("subscriber", 2),
            false => fleet.connect_v5_transient("subscriber"),
        };
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.got(subscriber);
        let publisher = fleet.connect(Version::V311, "publisher", true);
        let window = if is_durable { 2 } else { 10 };
        publish(&mut fleet, publisher, 1..=window + 3);
        assert_eq!(fleet.got(subscriber).len(), usize::from(window));
        publish(&mut fleet, publisher, window + 4..=window + 6);
        assert_eq!(fleet.got(subscriber), [Got::Disconnect(ReasonCode::QuotaExceeded)]);
        assert_eq!(fleet.commands(subscriber), ["finish"]);
        assert_eq!(fleet.count(|counters| counters.disconnected_queue_full), 1);
        let (kept, dropped) = if is_durable { (5, 3) } else { (0, 1) };
        assert_eq!(fleet.count(|counters| counters.messages), kept);
        assert_eq!(fleet.count(|counters| counters.dropped_queue_full), dropped);
        assert_eq!(fleet.count(|counters| counters.sessions), if is_durable { 2 } else { 1 });
    }
}

/// Who overflows his own queue gets the receipts of his messages, and then the reason.
#[test]
fn a_client_may_send_itself_away() {
    let mut fleet = Fleet::with_limits(1, Limits { max_inflight: 1, ..three(QueuePolicy::Disconnect) });
    let client = fleet.connect_with_will("client", 0, 0);
    fleet.subscribe(client, "t", AtLeastOnce);
    fleet.got(client);
    publish(&mut fleet, client, 1..=5);
    let got = fleet.got(client);
    let [Got::Publish { .. }, receipts @ .., last] = &got[..] else { panic!("{got:?}") };
    let expected: Vec<_> = (1..=5).map(|id| Got::Ack(AcknowledgementKind::Pubrec, id, ReasonCode::Success)).collect();
    assert_eq!((receipts, last), (&expected[..], &Got::Disconnect(ReasonCode::QuotaExceeded)));
    assert_eq!(fleet.count(|counters| counters.sessions + counters.messages), 0);
}

/// QoS 0 for a client that does not read: dropped, or the client goes.
#[test]
fn a_slow_reader_loses_messages_or_the_connection() {
    for (policy, commands) in [(SlowReaderPolicy::DropNewest, &[""; 0][..]), (SlowReaderPolicy::Disconnect, &["close"])]
    {
        let limits = Limits { max_output_bytes: 2000, slow_reader_policy: policy, ..limits() };
        let mut fleet = Fleet::with_limits(1, limits);
        let publisher = fleet.connect(Version::V311, "publisher", true);
        let reader = fleet.connect(Version::V5, "reader", true);
        fleet.subscribe(reader, "t", AtMostOnce);
        fleet.got(reader);
        fleet.stall(reader);
        for _ in 0..40 {
            fleet.publish(publisher, "t", &"x".repeat(100), AtMostOnce, 0);
        }
        fleet.pass(Duration::from_secs(2));
        assert_eq!(fleet.commands(reader), commands);
        let [dropped, gone] = [
            |counters: &Counters| counters.dropped_slow_subscriber,
            |counters: &Counters| counters.disconnected_queue_full,
        ]
        .map(|count| fleet.count(count));
        assert_eq!((dropped > 1, gone), if commands.is_empty() { (true, 0) } else { (false, 1) });
    }
}
