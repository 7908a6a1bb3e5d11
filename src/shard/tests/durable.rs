//! Sessions that outlive the broker: what waits for the log, and what a restart finds.

use super::*;
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::V311;

const SUCCESS: ReasonCode = ReasonCode::Success;

fn connack(session_present: bool) -> Got {
    Got::Connack { session_present, reason: SUCCESS }
}

fn publish(payload: &str, id: u16, dup: bool) -> Got {
    Got::Publish { topic: "t".into(), payload: payload.into(), qos: ExactlyOnce, id, dup, retain: false }
}

/// A name of which the client lives beside the shard of "publisher", or with it if there is only one.
fn subscriber_name(shards: u16) -> String {
    (0..)
        .map(|number| format!("subscriber-{number}"))
        .find(|name| shards == 1 || shard_of(name, shards) != shard_of("publisher", shards))
        .expect("half of all names do")
}

/// A publisher and a subscriber of `t`, both with sessions that outlive the broker.
fn pair(shards: u16) -> (Fleet, Client, Client) {
    let mut fleet = Fleet::durable(shards);
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect(V311, &subscriber_name(shards), false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    assert_eq!(fleet.got(publisher), [connack(false)]);
    assert_eq!(fleet.got(subscriber), [connack(false), Got::Suback(vec![2])]);
    (fleet, publisher, subscriber)
}

/// The first row of the table in DESIGN §1, and the last: nothing that promises leaves before it is stable.
#[test]
fn every_promise_waits_for_the_log() {
    let (mut fleet, publisher, subscriber) = pair(1);
    let held = |fleet: &mut Fleet, act: &dyn Fn(&mut Fleet)| {
        fleet.logs_flow = false;
        act(fleet);
        assert_eq!((fleet.got(publisher), fleet.got(subscriber)), (vec![], vec![]), "nothing is stable");
        fleet.sync();
    };
    held(&mut fleet, &|fleet| fleet.publish(publisher, "t", "a", ExactlyOnce, 7));
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, SUCCESS)]);
    assert_eq!(fleet.got(subscriber), [publish("a", 1, false)]);
    held(&mut fleet, &|fleet| fleet.ack(publisher, Pubrel, 7));
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubcomp, 7, SUCCESS)]);
    held(&mut fleet, &|fleet| fleet.ack(subscriber, Pubrec, 1));
    assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, SUCCESS)]);
    fleet.ack(subscriber, Pubcomp, 1);
    held(&mut fleet, &|fleet| fleet.subscribe(subscriber, "u", AtLeastOnce));
    assert_eq!(fleet.got(subscriber), [Got::Suback(vec![1])]);
    held(&mut fleet, &|fleet| fleet.unsubscribe(subscriber, "u"));
    assert_eq!(fleet.got(subscriber).len(), 1);
    fleet.drop_connection(publisher);
    fleet.logs_flow = false;
    let publisher = fleet.connect(V311, "publisher", false);
    assert_eq!(fleet.got(publisher), [], "session present is a promise");
    fleet.sync();
    assert_eq!(fleet.got(publisher), [connack(true)]);
}

/// [MQTT-4.6.0-2..4], trap 11.
#[test]
fn acknowledgements_that_waited_for_the_log_keep_their_order() {
    let (mut fleet, publisher, _) = pair(1);
    fleet.logs_flow = false;
    fleet.publish(publisher, "t", "1", ExactlyOnce, 1);
    fleet.publish(publisher, "t", "2", AtLeastOnce, 2);
    fleet.publish(publisher, "t", "3", ExactlyOnce, 3);
    fleet.sync();
    assert_eq!(
        fleet.got(publisher),
        [Got::Ack(Pubrec, 1, SUCCESS), Got::Ack(Puback, 2, SUCCESS), Got::Ack(Pubrec, 3, SUCCESS)]
    );
}

#[test]
fn traffic_that_touches_nothing_durable_writes_nothing() {
    for shards in [1, 2] {
        let mut fleet = Fleet::durable(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        let subscriber = fleet.connect(V311, &subscriber_name(shards), true);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.logs_flow = false;
        fleet.publish(publisher, "t", "a", ExactlyOnce, 7);
        fleet.ack(publisher, Pubrel, 7);
        fleet.ack(subscriber, Pubrec, 1);
        fleet.ack(subscriber, Pubcomp, 1);
        fleet.drop_connection(subscriber);
        assert_eq!(fleet.got(publisher).last(), Some(&Got::Ack(Pubcomp, 7, SUCCESS)));
        assert_eq!(fleet.shards.iter().map(|shard| shard.clients.log.records()).sum::<u64>(), 0);
    }
}

/// DESIGN §1: the broker dies at each step of the exchange, and both hops go on where they were.
#[test]
fn a_restart_finds_every_step_of_the_exchange() {
    for shards in [1, 2] {
        for steps in 0..=4 {
            let (mut fleet, mut publisher, mut subscriber) = pair(shards);
            let step = |fleet: &mut Fleet, step: usize, publisher: Client, subscriber: Client| match step {
                0 => fleet.publish(publisher, "t", "a", ExactlyOnce, 7),
                1 => fleet.ack(publisher, Pubrel, 7),
                2 => fleet.ack(subscriber, Pubrec, 1),
                _ => fleet.ack(subscriber, Pubcomp, 1),
            };
            (0..steps).for_each(|done| step(&mut fleet, done, publisher, subscriber));
            fleet.pass(Duration::from_secs(1));
            fleet.crash(Duration::from_secs(5));
            publisher = fleet.connect(V311, "publisher", false);
            subscriber = fleet.connect(V311, &subscriber_name(shards), false);
            assert_eq!(fleet.got(publisher), [connack(true)]);
            let resent = match steps {
                0 | 4 => None,
                1 | 2 => Some(publish("a", 1, true)),
                _ => Some(Got::Ack(Pubrel, 1, SUCCESS)),
            };
            assert_eq!(fleet.got(subscriber), [Some(connack(true)), resent].into_iter().flatten().collect::<Vec<_>>());
            // The publisher does not know how far it came, and repeats itself.
            if steps <= 1 {
                fleet.publish_with(publisher, "t", "a", ExactlyOnce, 7, steps == 1, false);
                assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 7, SUCCESS)]);
            }
            fleet.ack(publisher, Pubrel, 7);
            let is_known = steps <= 1;
            let got = fleet.got(publisher);
            assert!(matches!(got[..], [Got::Ack(Pubcomp, 7, _)]), "{got:?} known: {is_known}");
            let expected = if steps == 0 { vec![publish("a", 1, false)] } else { vec![] };
            assert_eq!(fleet.got(subscriber), expected, "the message comes once");
            if steps < 3 {
                fleet.ack(subscriber, Pubrec, 1);
                assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, 1, SUCCESS)]);
            }
            fleet.ack(subscriber, Pubcomp, 1);
            assert_eq!(fleet.count(|counters| counters.outbound_inflight + counters.inbound_inflight), 0);
            assert_eq!(fleet.count(|counters| counters.messages + counters.unacknowledged_letters), 0);
        }
    }
}

/// Traps 20 and 45: what waited for an absent client keeps its order, and was never sent.
#[test]
fn a_restart_keeps_the_queue_of_an_absent_client() {
    for shards in [1, 2, 3] {
        let (mut fleet, publisher, subscriber) = pair(shards);
        fleet.drop_connection(subscriber);
        for id in 1..=5 {
            fleet.publish(publisher, "t", &id.to_string(), ExactlyOnce, id);
        }
        fleet.crash(Duration::from_secs(60));
        let subscriber = fleet.connect(V311, &subscriber_name(shards), false);
        let expected = (1..=5).map(|id: u16| publish(&id.to_string(), id, false));
        assert_eq!(fleet.got(subscriber), [connack(true)].into_iter().chain(expected).collect::<Vec<_>>());
    }
}

/// What was not stable is gone as a whole: the publisher sends it again, and it is new.
#[test]
fn what_was_not_acknowledged_may_be_lost_and_is_not_delivered_twice() {
    for shards in [1, 2] {
        let (mut fleet, publisher, subscriber) = pair(shards);
        fleet.logs_flow = false;
        fleet.publish(publisher, "t", "lost", ExactlyOnce, 1);
        assert_eq!((fleet.got(publisher), fleet.got(subscriber)), (vec![], vec![]));
        fleet.logs_flow = true;
        fleet.crash(Duration::ZERO);
        let subscriber = fleet.connect(V311, &subscriber_name(shards), false);
        let publisher = fleet.connect(V311, "publisher", false);
        fleet.publish(publisher, "t", "other", ExactlyOnce, 2);
        fleet.publish_with(publisher, "t", "lost", ExactlyOnce, 1, true, false);
        assert_eq!(fleet.got(subscriber), [connack(true), publish("other", 1, false), publish("lost", 2, false)]);
    }
}

/// A letter that was on its way when the broker died arrives after the restart, once.
#[test]
fn letters_in_flight_survive() {
    let (mut fleet, publisher, _) = pair(2);
    fleet.rings_flow = false;
    fleet.publish(publisher, "t", "a", ExactlyOnce, 1);
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 1, SUCCESS)], "it is in the publisher's log");
    fleet.rings_flow = true;
    fleet.crash(Duration::ZERO);
    fleet.pass(Duration::from_secs(1));
    assert_eq!(fleet.count(|counters| counters.unacknowledged_letters), 0);
    fleet.crash(Duration::ZERO);
    let subscriber = fleet.connect(V311, &subscriber_name(2), false);
    assert_eq!(fleet.got(subscriber), [connack(true), publish("a", 1, false)]);
}

/// Simulator seed 28616: the publisher's shard routed the message before it had heard that the subscriber outlives the broker.
#[test]
fn what_was_routed_before_a_durable_subscription_is_applied_comes_once() {
    let mut fleet = Fleet::durable(2);
    let name = subscriber_name(2);
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect(V311, &name, false);
    let beside = |number: &u32| shard_of(&format!("beside-{number}"), 2) == shard_of(&name, 2);
    let beside = (0..).find(beside).expect("half of all names do");
    let transient = fleet.connect(V311, &format!("beside-{beside}"), true);
    fleet.subscribe(transient, "t", ExactlyOnce);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.logs_flow = false;
    fleet.publish(publisher, "t", "a", ExactlyOnce, 1);
    fleet.flow();
    assert_eq!(fleet.got(publisher), [connack(false)], "its shard has not logged the message");
    fleet.sync_shard(shard_of(&name, 2).index());
    assert_eq!(fleet.got(transient)[2..], [publish("a", 1, false)]);
    fleet.logs_flow = true;
    fleet.crash(Duration::ZERO);
    let subscriber = fleet.connect(V311, &name, false);
    let publisher = fleet.connect(V311, "publisher", false);
    fleet.publish_with(publisher, "t", "a", ExactlyOnce, 1, true, false);
    assert_eq!(fleet.got(subscriber), [connack(true), publish("a", 1, false)]);
}

/// Another number of shards: sessions, queues, retained messages and letters in flight find their places.
#[test]
fn a_restart_with_other_shards_finds_everything() {
    for (before, after) in [(2, 1), (2, 3), (1, 4)] {
        let (mut fleet, publisher, subscriber) = pair(before);
        fleet.drop_connection(subscriber);
        fleet.publish(publisher, "t", "1", ExactlyOnce, 1);
        fleet.publish_with(publisher, "kept", "value", AtLeastOnce, 2, false, true);
        fleet.rings_flow = false;
        fleet.publish(publisher, "t", "2", ExactlyOnce, 3);
        fleet.got(publisher);
        fleet.rings_flow = true;
        fleet.crash_and_redeal(after);
        let subscriber = fleet.connect(V311, &subscriber_name(before), false);
        assert_eq!(fleet.got(subscriber), [connack(true), publish("1", 1, false), publish("2", 2, false)]);
        fleet.subscribe(subscriber, "kept", AtMostOnce);
        let retained = Got::Publish {
            topic: "kept".into(),
            payload: "value".into(),
            qos: AtMostOnce,
            id: 0,
            dup: false,
            retain: true,
        };
        assert_eq!(fleet.got(subscriber), [Got::Suback(vec![0]), retained]);
        let publisher = fleet.connect(V311, "publisher", false);
        fleet.publish_with(publisher, "t", "2", ExactlyOnce, 3, true, false);
        assert_eq!(fleet.got(publisher), [connack(true), Got::Ack(Pubrec, 3, SUCCESS)]);
        assert_eq!(fleet.got(subscriber), [], "it is known");
        fleet.publish(publisher, "t", "3", ExactlyOnce, 4);
        assert_eq!(fleet.got(subscriber), [publish("3", 3, false)]);
    }
}

/// Trap 17: the expiry of a session counts from the disconnect, and while the broker is down.
#[test]
fn a_session_ends_when_its_time_is_over_also_across_a_restart() {
    let mut fleet = Fleet::durable(1);
    let client = fleet.connect_v5("away", 10);
    fleet.disconnect(client);
    fleet.pass(Duration::from_secs(1));
    fleet.crash(Duration::from_secs(58));
    assert_eq!(fleet.count(|counters| counters.sessions), 1);
    fleet.crash(Duration::from_secs(2));
    fleet.pass(Duration::from_secs(1));
    assert_eq!(fleet.count(|counters| counters.sessions), 0);
    fleet.pass(Duration::from_secs(1));
    fleet.crash(Duration::ZERO);
    assert_eq!(fleet.count(|counters| counters.sessions), 0, "its end is in the log");
}

/// A will with a delay outlives the broker, a resume in time takes it back, and the end of the session fires it early.
/// Traps 22 and 48, [MQTT-3.1.3-9].
#[test]
fn a_delayed_will_survives_a_restart() {
    for (away, expected) in [(10, false), (31, true)] {
        let mut fleet = Fleet::durable(1);
        let watcher = fleet.connect(V311, "watcher", false);
        fleet.subscribe(watcher, "will", AtLeastOnce);
        let client = fleet.connect_with_will("sensor", 60, 30);
        fleet.got(client);
        fleet.drop_connection(client);
        fleet.crash(Duration::from_secs(1));
        let watcher = fleet.connect(V311, "watcher", false);
        fleet.got(watcher);
        fleet.pass(Duration::from_secs(away));
        let client = fleet.connect_with_will("sensor", 60, 30);
        assert_eq!(fleet.got(client), [connack(true)]);
        fleet.pass(Duration::from_secs(120));
        assert_eq!(!fleet.got(watcher).is_empty(), expected, "away for {away} s");
    }
}

/// With a will delay beyond the session's expiry the will comes with the end of the session.
#[test]
fn the_end_of_the_session_fires_the_will_early() {
    let mut fleet = Fleet::durable(1);
    let watcher = fleet.connect(V311, "watcher", true);
    fleet.subscribe(watcher, "will", AtLeastOnce);
    let client = fleet.connect_with_will("sensor", 5, 30);
    fleet.got(watcher);
    fleet.drop_connection(client);
    fleet.pass(Duration::from_secs(4));
    assert_eq!(fleet.got(watcher), []);
    fleet.pass(Duration::from_secs(2));
    assert_eq!(fleet.got(watcher).len(), 1);
}

/// A pass over all that is alive changes nothing, however it is cut into pieces, and lets old segments go.
#[test]
fn a_checkpoint_repeats_what_is_alive() {
    let (mut fleet, publisher, subscriber) = pair(2);
    fleet.drop_connection(subscriber);
    let payload = "x".repeat(500);
    for id in 1..=900u16 {
        fleet.publish(publisher, "t", &payload, ExactlyOnce, id);
        fleet.ack(publisher, Pubrel, id);
        fleet.got(publisher);
        fleet.publish_with(publisher, &format!("kept/{}", id % 7), &payload, AtLeastOnce, 1, false, true);
    }
    assert!(fleet.disks.iter().any(|disk| disk.removed > 0), "the log was cleaned");
    fleet.got(publisher);
    fleet.crash(Duration::ZERO);
    let mut ids = Vec::new();
    let subscriber = fleet.connect(V311, &subscriber_name(2), false);
    loop {
        let got = fleet.got(subscriber);
        if got.is_empty() {
            break;
        }
        for packet in got {
            match packet {
                Got::Publish { id, .. } => {
                    ids.push(id);
                    fleet.ack(subscriber, Pubrec, id);
                }
                Got::Ack(Pubrel, id, _) => fleet.ack(subscriber, Pubcomp, id),
                other => assert_eq!(other, connack(true)),
            }
        }
    }
    assert!(ids.iter().copied().eq(1..=900), "{ids:?}");
}

/// Found by the simulator (seed 19395): a pass that found nothing alive removed every segment before the next had a batch.
#[test]
fn a_log_of_nothing_alive_keeps_a_segment() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", false);
    let payload = "x".repeat(900);
    for _ in 0..900 {
        fleet.publish(publisher, "t", &payload, ExactlyOnce, 1);
        fleet.ack(publisher, Pubrel, 1);
    }
    let ending = fleet.connect(V311, "publisher", true);
    fleet.disconnect(ending);
    for _ in 0..9 {
        fleet.pass(Duration::from_secs(1));
        while fleet.shards[0].poll_obsolete_segment().is_some() {}
        assert!(fleet.shards[0].log().bytes() > 0);
    }
}

/// A log that fails promises nothing more: durable sessions are out of service, transient ones go on, and what needs the
/// log is refused.
#[test]
fn after_a_failure_of_the_log_nothing_is_promised() {
    let (mut fleet, publisher, subscriber) = pair(1);
    let transient = fleet.connect_v5_transient("transient");
    let watcher = fleet.connect(V311, "watcher", true);
    fleet.subscribe(watcher, "u", ExactlyOnce);
    fleet.got(transient);
    fleet.got(watcher);
    fleet.logs_flow = false;
    fleet.publish(publisher, "t", "a", ExactlyOnce, 1);
    fleet.fail_log(0, LogFailure::NoSpace);
    assert_eq!((fleet.got(publisher), fleet.got(subscriber)), (vec![], vec![]));
    assert_eq!((fleet.commands(publisher), fleet.commands(subscriber)), (vec!["finish"], vec!["finish"]));
    fleet.publish(transient, "t", "b", ExactlyOnce, 1);
    fleet.publish(transient, "u", "c", ExactlyOnce, 2);
    let refused = ReasonCode::QuotaExceeded;
    assert_eq!(fleet.got(transient), [Got::Ack(Pubrec, 1, refused), Got::Ack(Pubrec, 2, SUCCESS)]);
    assert_eq!(fleet.got(watcher).len(), 1);
    let durable = fleet.connect_v5("durable", 10);
    assert_eq!(fleet.got(durable), [Got::Connack { session_present: false, reason: refused }]);
    let durable = fleet.connect(V311, "durable", false);
    assert_eq!(fleet.got(durable), [Got::Connack { session_present: false, reason: ReasonCode::ServerUnavailable }]);
}

/// The other shards hear of it: a message that needs the failed log is refused, others are not.
#[test]
fn other_shards_refuse_only_what_needs_a_log_that_has_failed() {
    let (mut fleet, publisher, subscriber) = pair(2);
    let home = shard_of(&subscriber_name(2), 2).index();
    fleet.logs_flow = false;
    fleet.unsubscribe(subscriber, "nothing");
    fleet.subscribe(subscriber, "u", ExactlyOnce);
    fleet.fail_log(home, LogFailure::Io);
    fleet.logs_flow = true;
    fleet.run();
    fleet.publish(publisher, "elsewhere", "a", ExactlyOnce, 1);
    assert_eq!(fleet.got(publisher), [Got::Ack(Pubrec, 1, SUCCESS)]);
    fleet.publish(publisher, "t", "b", ExactlyOnce, 2);
    assert_eq!(fleet.got(publisher), []);
    assert_eq!(fleet.commands(publisher), ["finish"], "3.1.1 has no word for a refusal");
    assert_eq!(fleet.count(|counters| counters.protocol_violations), 0, "the fault is not the client's");
}

/// Found by the simulator (seed 11): a client whose CONNACK waited for a log that then failed got DISCONNECT first.
#[test]
fn a_log_that_fails_before_connack_refuses_the_client() {
    let mut fleet = Fleet::durable(1);
    fleet.logs_flow = false;
    let client = fleet.connect_v5("client", 10);
    assert_eq!(fleet.got(client), []);
    fleet.fail_log(0, LogFailure::Io);
    let reason = ReasonCode::ImplementationSpecificError;
    assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason }]);
}

/// Found by the simulator (seed 8893): the end of a session was in the write that failed, its client began a new one that
/// leaves no trace, and the restart found the old one.
#[test]
fn a_client_whose_session_may_come_back_is_refused() {
    let mut fleet = Fleet::durable(1);
    let client = fleet.connect_v5("client", 10);
    fleet.drop_connection(client);
    fleet.logs_flow = false;
    let client = fleet.connect_v5_transient("client");
    fleet.fail_log(0, LogFailure::Io);
    let again = fleet.connect_v5_transient("client");
    let reason = ReasonCode::ImplementationSpecificError;
    for client in [client, again] {
        assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason }]);
    }
}

/// Found by the simulator (seed 2278): a clean start ended a session, the next clean start was told so before that was
/// stable, and a crash brought the session back.
#[test]
fn connack_waits_for_the_end_of_the_session_before() {
    let mut fleet = Fleet::durable(1);
    let client = fleet.connect(V311, "client", false);
    fleet.drop_connection(client);
    fleet.logs_flow = false;
    fleet.connect(V311, "client", true);
    let again = fleet.connect(V311, "client", true);
    assert_eq!(fleet.got(again), []);
    fleet.sync();
    assert_eq!(fleet.got(again), [connack(false)]);
    fleet.crash(Duration::ZERO);
    let client = fleet.connect(V311, "client", false);
    assert_eq!(fleet.got(client), [connack(false)]);
}

/// Found by the simulator (seed 1823): the retained messages of a subscription were logged behind its SUBACK, so that a
/// crash in between lost them.
#[test]
fn who_has_suback_gets_what_was_retained() {
    for shards in [1, 2] {
        let mut fleet = Fleet::durable(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        fleet.publish_with(publisher, "t", "kept", ExactlyOnce, 1, false, true);
        let subscriber = fleet.connect(V311, &subscriber_name(shards), false);
        fleet.got(subscriber);
        fleet.logs_flow = false;
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        let mut syncs = 0;
        let got = loop {
            let got = fleet.got(subscriber);
            if !got.is_empty() {
                break got;
            }
            syncs += 1;
            assert!(syncs < 9, "SUBACK comes in the end");
            fleet.sync_once();
        };
        assert_eq!(got.first(), Some(&Got::Suback(vec![2])));
        fleet.crash(Duration::ZERO);
        let subscriber = fleet.connect(V311, &subscriber_name(shards), false);
        fleet.sync();
        let kept = |got: &Got| matches!(got, Got::Publish { payload, qos: ExactlyOnce, retain: true, .. } if payload == "kept");
        assert!(fleet.got(subscriber).iter().any(kept));
    }
}

/// Found by the simulator (seed 48395): a retained message that its home lost in a crash, and got again, had been delivered
/// by another shard.
#[test]
fn what_is_retained_elsewhere_waits_for_the_log_there() {
    for failure in [None, Some(LogFailure::Io)] {
        let mut fleet = Fleet::durable(2);
        let home = shard_of("publisher", 2);
        let topic = (0..).map(|number| format!("t/{number}")).find(|topic| shard_of(topic, 2) == home);
        let topic = topic.expect("half of all topics do");
        let publisher = fleet.connect(V311, "publisher", false);
        let subscriber = fleet.connect(V311, &subscriber_name(2), false);
        fleet.got(subscriber);
        fleet.logs_flow = false;
        fleet.publish_with(publisher, &topic, "kept", ExactlyOnce, 1, false, true);
        fleet.subscribe(subscriber, &topic, ExactlyOnce);
        fleet.sync_shard(1 - home.index());
        fleet.run();
        assert_eq!(fleet.got(subscriber), [], "its home may lose the message");
        let kept = match failure {
            None => {
                fleet.sync();
                1
            }
            Some(failure) => {
                fleet.fail_log(home.index(), failure);
                fleet.sync();
                0
            }
        };
        let got = fleet.got(subscriber);
        assert_eq!((got.first(), got.len()), (Some(&Got::Suback(vec![2])), 1 + kept));
    }
}

/// Found by the simulator (seed 1809): what was retained before a restart came behind a newer live message.
#[test]
fn what_was_retained_before_a_restart_comes_first() {
    let mut fleet = Fleet::durable(2);
    let publisher = fleet.connect(V311, "publisher", true);
    fleet.publish_with(publisher, "t/1", "old", AtLeastOnce, 1, false, true);
    fleet.crash(Duration::ZERO);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect(V311, &subscriber_name(2), false);
    fleet.subscribe(subscriber, "t/2", AtLeastOnce);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t/+", AtLeastOnce);
    fleet.publish(publisher, "t/2", "new", AtLeastOnce, 1);
    fleet.flow();
    let payloads: Vec<String> = fleet
        .got(subscriber)
        .into_iter()
        .filter_map(|got| match got {
            Got::Publish { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, ["old", "new"]);
}

/// Found by the simulator: a receipt that a slow subscriber held up, and that became stable meanwhile, waited for a write
/// that nobody had a reason for.
#[test]
fn a_receipt_held_up_while_it_became_stable_leaves() {
    let mut fleet = Fleet::durable_with_limits(1, Limits { congestion_messages: 1, max_inflight: 1, ..limits() });
    let publisher = fleet.connect(V311, "publisher", false);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", AtLeastOnce);
    for id in 1..=3 {
        fleet.publish(publisher, "t", "a", AtLeastOnce, id);
    }
    fleet.got(publisher);
    for _ in 0..3 {
        fleet.got(subscriber).into_iter().for_each(|got| {
            if let Got::Publish { id, .. } = got {
                fleet.ack(subscriber, Puback, id);
            }
        });
    }
    assert!(!fleet.got(publisher).is_empty(), "nobody holds it up any more");
}

/// Found by the simulator (seed 8786): a will that a restart published overtook an older message that was held back for a
/// session behind the publisher's.
#[test]
fn a_will_published_by_a_restart_comes_behind_what_was_held_back() {
    let mut fleet = Fleet::durable(2);
    let home = shard_of(&subscriber_name(2), 2);
    let sensor = (0..).map(|number| format!("sensor-{number}")).find(|name| shard_of(name, 2) == home);
    // The session with the will comes first in the order of the arena.
    let client = fleet.connect_with_will(&sensor.expect("half of all names do"), 60, 0);
    let subscriber = fleet.connect(V311, &subscriber_name(2), false);
    fleet.subscribe(subscriber, "will", AtLeastOnce);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "other", AtLeastOnce);
    fleet.publish(client, "will", "older", AtLeastOnce, 1);
    assert_eq!(fleet.got(subscriber), [], "it is held back");
    fleet.rings_flow = true;
    fleet.crash(Duration::ZERO);
    let subscriber = fleet.connect(V311, &subscriber_name(2), false);
    let payloads: Vec<String> = fleet
        .got(subscriber)
        .into_iter()
        .filter_map(|got| match got {
            Got::Publish { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, ["older", "gone"]);
}

/// Found by the simulator (seed 5): a letter that had no effect which is logged was never acknowledged.
#[test]
fn a_letter_without_effect_is_acknowledged() {
    let (mut fleet, publisher, subscriber) = pair(2);
    fleet.rings_flow = false;
    fleet.publish(publisher, "t", "a", ExactlyOnce, 1);
    fleet.unsubscribe(subscriber, "t");
    fleet.flow();
    for _ in 0..3 {
        fleet.pass(Duration::from_secs(1));
    }
    assert_eq!(fleet.count(|counters| counters.unacknowledged_letters), 0);
}

/// Found by the simulator: a session that was to end with its connection was there for ever after a restart.
#[test]
fn a_session_that_ends_with_its_connection_ends_with_the_broker() {
    let mut fleet = Fleet::durable(1);
    let client = fleet.connect_v5("client", 10);
    fleet.drop_connection(client);
    let mut properties = PropertyWriter::new();
    properties.push(Property::SessionExpiryInterval(0));
    fleet.connect_with(Connect {
        version: Version::V5,
        clean_start: false,
        keep_alive_seconds: 0,
        client_id: "client",
        will: None,
        username: None,
        password: None,
        properties: properties.properties(),
    });
    fleet.crash(Duration::ZERO);
    assert_eq!(fleet.count(|counters| counters.sessions), 0);
}
