//! Shared subscriptions: who gets a message, and what becomes of it when that one goes away.

use super::*;
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V311};

const GROUP: &str = "$share/g/t";

/// A client id that is at home on one of `shards` shards.
fn name_on(shard: u16, shards: u16, prefix: &str) -> String {
    (0..)
        .map(|number| format!("{prefix}{number}"))
        .find(|name| shard_of(name, shards).number() == shard)
        .expect("one of many")
}

/// The payloads of the messages that a client got, with their ids.
fn messages(fleet: &mut Fleet, client: Client) -> Vec<(String, u16, bool)> {
    let got = fleet.got(client).into_iter();
    got.filter_map(|got| match got {
        Got::Publish { payload, id, dup, .. } => Some((payload, id, dup)),
        _ => None,
    })
    .collect()
}

fn payloads(fleet: &mut Fleet, client: Client) -> String {
    messages(fleet, client).into_iter().map(|(payload, ..)| payload).collect()
}

fn publish_all(fleet: &mut Fleet, publisher: Client, qos: QoS, payloads: &str) {
    for (payload, id) in payloads.chars().zip(1..) {
        let id = if qos == AtMostOnce { 0 } else { id };
        fleet.publish(publisher, "t", &payload.to_string(), qos, id);
        if qos == ExactlyOnce {
            fleet.ack(publisher, Pubrel, id);
        }
    }
    fleet.got(publisher);
}

fn acknowledge(fleet: &mut Fleet, client: Client) -> String {
    let mut all = String::new();
    loop {
        let got = messages(fleet, client);
        if got.is_empty() {
            return all;
        }
        for (payload, id, _) in got {
            all += &payload;
            fleet.ack(client, Pubrec, id);
            fleet.ack(client, Pubcomp, id);
        }
    }
}

/// Every layout of publisher, home and members over shards that matters.
fn layouts() -> impl Iterator<Item = (u16, u16, [u16; 2])> {
    let one = std::iter::once((1, 0, [0, 0]));
    let several = (0..3).flat_map(|publisher| (0..9).map(move |members| (3, publisher, [members / 3, members % 3])));
    one.chain(several)
}

/// [MQTT-4.8.2-3], trap 26: one member per message, each with the QoS granted to it; and none of it to the others.
#[test]
fn each_message_goes_to_one_member() {
    for (shards, publisher, members) in layouts() {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut fleet = Fleet::new(shards);
            let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
            let first = fleet.connect(V311, &name_on(members[0], shards, "a"), true);
            let second = fleet.connect(V5, &name_on(members[1], shards, "b"), true);
            fleet.subscribe(first, GROUP, ExactlyOnce);
            fleet.subscribe(second, GROUP, AtLeastOnce);
            assert_eq!(fleet.got(first).last(), Some(&Got::Suback(vec![2])));
            assert_eq!(fleet.got(second).last(), Some(&Got::Suback(vec![1])));
            publish_all(&mut fleet, publisher, qos, "1234");
            for (client, granted, expected) in [(first, ExactlyOnce, "13"), (second, AtLeastOnce, "24")] {
                let got = fleet.got(client);
                let qoses = got.iter().map(|got| match got {
                    Got::Publish { qos, .. } => *qos,
                    other => panic!("{other:?}"),
                });
                assert!(qoses.eq([qos.min(granted); 2]), "{got:?}");
                let payloads: String = got
                    .iter()
                    .map(|got| if let Got::Publish { payload, .. } = got { payload.as_str() } else { "" })
                    .collect();
                assert_eq!(payloads, expected, "{shards} {members:?} {qos:?}");
            }
        }
    }
}

/// A client with a shared and another subscription that match gets the message for each of them, and every group gets it.
#[test]
fn groups_and_other_subscriptions_are_apart() {
    for shards in [1, 2] {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        let both = fleet.connect(V5, "both", true);
        for filter in [GROUP, "$share/other/t", "$share/g/+", "t", "+"] {
            fleet.subscribe(both, filter, AtMostOnce);
        }
        assert_eq!(fleet.count(|counters| counters.subscriptions), 5);
        assert_eq!(fleet.count(|counters| counters.shared_groups), 3);
        fleet.got(both);
        fleet.publish(publisher, "t", "x", AtMostOnce, 0);
        assert_eq!(payloads(&mut fleet, both), "xxxx", "three groups, and one copy for the two others");
    }
}

/// Trap 24: a shared subscription gets no retained messages, and a member's own identifier.
#[test]
fn a_member_gets_its_identifier_and_nothing_retained() {
    for shards in [1, 2] {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        fleet.publish_with(publisher, "t", "old", AtMostOnce, 0, false, true);
        let member = fleet.connect(V5, "member", true);
        fleet.got(member);
        let mut bytes = Vec::new();
        let mut properties = PropertyWriter::new();
        properties.push(Property::SubscriptionIdentifier(77));
        let filters = [(GROUP, SubscriptionOptions::from_qos(AtMostOnce))].into_iter();
        encode_subscribe(&mut bytes, V5, id(1), properties.properties(), filters);
        fleet.send_bytes(member, &bytes);
        assert_eq!(fleet.got(member), [Got::Suback(vec![0])]);
        fleet.publish(publisher, "t", "new", AtMostOnce, 0);
        let received = fleet.received(member);
        let mut received = Received::new(&received);
        let frame = Framer::default().next_frame(&mut received, u32::MAX).expect("whole").expect("a packet");
        let Ok(Packet::Publish(publish)) = decode(V5, frame.bytes()) else { panic!("a message") };
        assert_eq!(publish.payload, b"new");
        assert_eq!(publish.properties.subscription_identifiers().collect::<Vec<_>>(), [77]);
    }
}

/// Trap 26: the full name is needed, and who has left gets nothing any more.
#[test]
fn unsubscribing_needs_the_full_name() {
    for shards in [1, 2] {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        let member = fleet.connect(V5, "member", true);
        fleet.subscribe(member, GROUP, AtMostOnce);
        fleet.got(member);
        for (filter, code) in [("t", 0x11), ("$share/h/t", 0x11), (GROUP, 0), (GROUP, 0x11)] {
            fleet.unsubscribe(member, filter);
            assert_eq!(fleet.got(member), [Got::Unsuback(vec![code])], "{filter}");
        }
        fleet.publish(publisher, "t", "x", AtMostOnce, 0);
        assert_eq!(payloads(&mut fleet, member), "");
        assert_eq!(fleet.count(|counters| counters.shared_groups + counters.subscriptions), 0);
        assert!(fleet.shards.iter().all(|shard| shard.subscriptions.is_empty()), "nobody is interested any more");
    }
}

/// Messages wait while nobody is there, and the first who comes gets them all, in order; QoS 0 does not wait.
#[test]
fn the_first_who_comes_back_gets_what_waits_for_all() {
    for (shards, publisher, members) in layouts() {
        let mut fleet = Fleet::new(shards);
        let names = [name_on(members[0], shards, "a"), name_on(members[1], shards, "b")];
        let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
        let clients = names.clone().map(|name| fleet.connect(V311, &name, false));
        for client in clients {
            fleet.subscribe(client, GROUP, ExactlyOnce);
            fleet.drop_connection(client);
        }
        publish_all(&mut fleet, publisher, AtMostOnce, "x");
        publish_all(&mut fleet, publisher, ExactlyOnce, "1234");
        assert_eq!(fleet.count(|counters| counters.queued), 4);
        assert_eq!(fleet.count(|counters| counters.dropped_no_member), 1);
        let second = fleet.connect(V311, &names[1], false);
        let mut got: Vec<char> = acknowledge(&mut fleet, second).chars().collect();
        got.sort_unstable();
        assert_eq!(got, ['1', '2', '3', '4'], "{shards} {members:?}");
        let first = fleet.connect(V311, &names[0], false);
        assert_eq!(payloads(&mut fleet, first), "");
        publish_all(&mut fleet, publisher, ExactlyOnce, "56");
        assert_eq!(acknowledge(&mut fleet, first).len(), 1);
        assert_eq!(acknowledge(&mut fleet, second).len(), 1);
        assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
    }
}

/// [MQTT-4.8.2-4]: what a member was sent is its own until its session ends; what it was not sent goes to others at once.
#[test]
fn a_member_that_goes_away_keeps_what_it_was_sent() {
    for (shards, publisher, members) in layouts() {
        let mut fleet = Fleet::new(shards);
        let names = [name_on(members[0], shards, "a"), name_on(members[1], shards, "b")];
        let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
        let first = fleet.connect_v5(&names[0], 1);
        let second = fleet.connect_v5(&names[1], 100);
        fleet.subscribe(first, GROUP, ExactlyOnce);
        fleet.subscribe(second, GROUP, ExactlyOnce);
        publish_all(&mut fleet, publisher, ExactlyOnce, "123456");
        assert_eq!(messages(&mut fleet, first), [("1".to_owned(), 1, false)], "its window is full");
        assert_eq!(acknowledge(&mut fleet, second), "246");
        fleet.drop_connection(first);
        assert_eq!(acknowledge(&mut fleet, second), "35", "{shards} {members:?}");
        let first = fleet.connect_v5(&names[0], 1);
        assert_eq!(messages(&mut fleet, first), [("1".to_owned(), 1, true)], "its own, again");
        fleet.ack(first, Pubrec, 1);
        assert_eq!(fleet.got(first), [Got::Ack(Pubrel, 1, ReasonCode::Success)]);
        fleet.ack(first, Pubcomp, 1);
        publish_all(&mut fleet, publisher, ExactlyOnce, "78");
        assert_eq!(acknowledge(&mut fleet, first).len() + acknowledge(&mut fleet, second).len(), 2);
        assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
    }
}

/// [MQTT-4.8.2-5]: with its session ends what a member was sent at QoS 2; QoS 1 and what was not sent goes to another.
#[test]
fn the_end_of_a_session_gives_back_all_but_qos_2_in_flight() {
    for (shards, publisher, members) in layouts() {
        for qos in [AtLeastOnce, ExactlyOnce] {
            let mut fleet = Fleet::new(shards);
            let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
            let mut window = PropertyWriter::new();
            window.push(Property::ReceiveMaximum(1));
            let first = fleet.connect_with(Connect {
                version: V5,
                clean_start: true,
                keep_alive_seconds: 0,
                client_id: &name_on(members[0], shards, "a"),
                will: None,
                username: None,
                password: None,
                properties: window.properties(),
            });
            let second = fleet.connect_v5(&name_on(members[1], shards, "b"), 100);
            fleet.subscribe(first, GROUP, ExactlyOnce);
            fleet.subscribe(second, GROUP, ExactlyOnce);
            publish_all(&mut fleet, publisher, qos, "1234");
            assert_eq!(payloads(&mut fleet, first), "1");
            assert_eq!(payloads(&mut fleet, second), "24");
            fleet.drop_connection(first);
            let expected = if qos == AtLeastOnce { "13" } else { "3" };
            assert_eq!(payloads(&mut fleet, second), expected, "{shards} {members:?}");
        }
    }
}

/// [MQTT-4.8.2-6]: what a member refuses is refused for the group.
#[test]
fn a_refused_message_goes_to_nobody_else() {
    for (shards, publisher, members) in layouts() {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
        let first = fleet.connect_v5(&name_on(members[0], shards, "a"), 10);
        let second = fleet.connect_v5(&name_on(members[1], shards, "b"), 10);
        fleet.subscribe(first, GROUP, ExactlyOnce);
        fleet.subscribe(second, GROUP, ExactlyOnce);
        publish_all(&mut fleet, publisher, ExactlyOnce, "1");
        publish_all(&mut fleet, publisher, AtLeastOnce, "23");
        assert_eq!(payloads(&mut fleet, first), "13");
        fleet.ack_with(first, Pubrec, 1, ReasonCode::UnspecifiedError);
        fleet.ack_with(first, Puback, 2, ReasonCode::UnspecifiedError);
        fleet.drop_connection(first);
        assert_eq!(payloads(&mut fleet, second), "2");
        assert_eq!(fleet.count(|counters| counters.shared_returned), 0);
    }
}

/// Unsubscribing is leaving: what was not sent goes to those who stay, or stays if nobody does.
#[test]
fn who_unsubscribes_leaves_what_was_not_sent_to_the_others() {
    for (shards, publisher, members) in layouts() {
        let mut fleet = Fleet::new(shards);
        let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
        let first = fleet.connect_v5(&name_on(members[0], shards, "a"), 1);
        let second = fleet.connect_v5(&name_on(members[1], shards, "b"), 1);
        fleet.subscribe(first, GROUP, ExactlyOnce);
        fleet.subscribe(second, GROUP, ExactlyOnce);
        publish_all(&mut fleet, publisher, ExactlyOnce, "1234");
        fleet.unsubscribe(first, GROUP);
        assert_eq!(acknowledge(&mut fleet, first), "1");
        fleet.unsubscribe(second, GROUP);
        assert_eq!(acknowledge(&mut fleet, second), "243", "the last one keeps what nobody else can have");
    }
}

/// A member that has left before its home knew gives back also what it would have had at QoS 0, and one whose session outlives the
/// broker gets it. Seed 5601 of the simulator lost such a message.
#[test]
fn what_a_member_at_qos_0_gives_back_reaches_those_who_are_owed_it() {
    let shards = 3;
    let home = shard_of(GROUP, shards).number();
    let mut fleet = Fleet::durable(shards);
    let publisher = fleet.connect(V311, &name_on(home, shards, "p"), true);
    let careless = fleet.connect(V311, &name_on((home + 1) % shards, shards, "a"), true);
    let careful = fleet.connect(V311, &name_on((home + 2) % shards, shards, "b"), false);
    fleet.subscribe(careless, GROUP, AtMostOnce);
    fleet.subscribe(careful, GROUP, ExactlyOnce);
    fleet.got(careful);
    fleet.rings_flow = false;
    fleet.drop_connection(careless);
    publish_all(&mut fleet, publisher, ExactlyOnce, "1234");
    fleet.flow();
    let mut got: Vec<char> = acknowledge(&mut fleet, careful).chars().collect();
    got.sort_unstable();
    assert_eq!(got, ['1', '2', '3', '4']);
}

/// The broker dies after any number of writes to its logs: each message arrives at one member, once.
#[test]
fn a_crash_neither_loses_nor_repeats_what_a_group_has() {
    for (shards, publisher_shard, members) in layouts() {
        for writes in 0..8 {
            let mut fleet = Fleet::durable(shards);
            let names = [name_on(members[0], shards, "a"), name_on(members[1], shards, "b")];
            let publisher_name = name_on(publisher_shard, shards, "p");
            let publisher = fleet.connect(V311, &publisher_name, false);
            for name in &names {
                let client = fleet.connect(V311, name, false);
                fleet.subscribe(client, GROUP, ExactlyOnce);
                fleet.drop_connection(client);
            }
            fleet.got(publisher);
            fleet.logs_flow = false;
            for (payload, id) in [("1", 1), ("2", 2), ("3", 3)] {
                fleet.publish(publisher, "t", payload, ExactlyOnce, id);
            }
            // While messages wait for those who are away, one of these comes, and gets those of the other.
            let client = fleet.connect(V311, &names[0], false);
            (0..writes).for_each(|_| fleet.sync_once());
            let before = messages(&mut fleet, client);
            fleet.crash(Duration::from_secs(1));
            fleet.logs_flow = true;
            let publisher = fleet.connect(V311, &publisher_name, false);
            for (payload, id) in [("1", 1), ("2", 2), ("3", 3)] {
                fleet.publish_with(publisher, "t", payload, ExactlyOnce, id, true, false);
                fleet.ack(publisher, Pubrel, id);
            }
            let second = fleet.connect(V311, &names[1], false);
            let first = fleet.connect(V311, &names[0], false);
            let again = messages(&mut fleet, first);
            for (payload, id, _) in &before {
                let is_repeated =
                    again.iter().any(|(other, other_id, dup)| (other, other_id, dup) == (payload, id, &true));
                assert!(is_repeated, "{payload} was sent, and is sent again under its id: {again:?}");
            }
            let mut all: Vec<String> = again.iter().map(|(payload, ..)| payload.clone()).collect();
            for (_, id, _) in &again {
                fleet.ack(first, Pubrec, *id);
                fleet.ack(first, Pubcomp, *id);
            }
            all.extend(acknowledge(&mut fleet, second).chars().map(String::from));
            all.extend(acknowledge(&mut fleet, first).chars().map(String::from));
            all.sort_unstable();
            assert_eq!(all, ["1", "2", "3"], "{shards} {publisher_shard} {members:?}, {writes} writes");
            assert_eq!(fleet.count(|counters| counters.messages + counters.unacknowledged_letters), 0);
        }
    }
}

/// A member whose session ends with its connection, in a group that outlives the broker: what it was sent is gone with it, and
/// nobody else gets that. The log of its shard may know of the message by the letter alone that has brought it. Seed 49,218 of
/// the simulator gave such a message to two members.
#[test]
fn what_a_crash_takes_with_a_member_goes_to_nobody_else() {
    for (shards, publisher_shard, members) in layouts() {
        for writes in 0..8 {
            let mut fleet = Fleet::durable(shards);
            let names = [name_on(members[0], shards, "a"), name_on(members[1], shards, "b")];
            let publisher_name = name_on(publisher_shard, shards, "p");
            let publisher = fleet.connect(V311, &publisher_name, false);
            let away = fleet.connect(V311, &names[1], false);
            fleet.subscribe(away, GROUP, ExactlyOnce);
            fleet.drop_connection(away);
            let transient = fleet.connect(V311, &names[0], true);
            fleet.subscribe(transient, GROUP, ExactlyOnce);
            fleet.logs_flow = false;
            fleet.publish(publisher, "t", "1", ExactlyOnce, 1);
            (0..writes).for_each(|_| fleet.sync_once());
            let before = payloads(&mut fleet, transient);
            fleet.crash(Duration::from_secs(1));
            fleet.logs_flow = true;
            let publisher = fleet.connect(V311, &publisher_name, false);
            fleet.publish_with(publisher, "t", "1", ExactlyOnce, 1, true, false);
            fleet.ack(publisher, Pubrel, 1);
            let second = fleet.connect(V311, &names[1], false);
            let after = acknowledge(&mut fleet, second);
            assert_eq!(before + &after, "1", "{shards} {publisher_shard} {members:?}, {writes} writes");
        }
    }
}

/// With another number of shards a group has another home, and keeps its members and what waits for them.
#[test]
fn a_group_outlives_another_number_of_shards() {
    for (shards, next) in [(1, 3), (3, 2), (2, 1)] {
        let mut fleet = Fleet::durable(shards);
        let publisher = fleet.connect(V311, "publisher", true);
        for name in ["a", "b", "c"] {
            let client = fleet.connect(V311, name, false);
            fleet.subscribe(client, GROUP, ExactlyOnce);
            fleet.drop_connection(client);
        }
        publish_all(&mut fleet, publisher, ExactlyOnce, "123456");
        fleet.crash_and_redeal(next);
        let client = fleet.connect(V311, "b", false);
        let mut got: Vec<char> = acknowledge(&mut fleet, client).chars().collect();
        got.sort_unstable();
        assert_eq!(got, ['1', '2', '3', '4', '5', '6'], "{shards} to {next}");
        let publisher = fleet.connect(V311, "publisher", true);
        publish_all(&mut fleet, publisher, ExactlyOnce, "7");
        assert_eq!(acknowledge(&mut fleet, client), "7");
    }
}

/// The balance: who acknowledges more gets more.
#[test]
fn the_member_with_the_least_in_flight_gets_the_next_message() {
    for (shards, publisher, members) in layouts() {
        let mut fleet = Fleet::with_limits(shards, Limits { shared_balance: SharedBalance::LeastInflight, ..limits() });
        let publisher = fleet.connect(V311, &name_on(publisher, shards, "p"), true);
        let quick = fleet.connect_v5(&name_on(members[0], shards, "a"), 10);
        let slow = fleet.connect_v5(&name_on(members[1], shards, "b"), 10);
        fleet.subscribe(quick, GROUP, ExactlyOnce);
        fleet.subscribe(slow, GROUP, ExactlyOnce);
        let mut got = 0;
        for _ in 0..9 {
            publish_all(&mut fleet, publisher, ExactlyOnce, "x");
            got += acknowledge(&mut fleet, quick).len();
        }
        assert_eq!((got, messages(&mut fleet, slow).len()), (8, 1), "{shards} {members:?}");
    }
}
