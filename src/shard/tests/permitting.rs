//! What clients may publish, subscribe to and get: each rule from both sides, in both versions.

use std::sync::Arc;

use super::bridging::bridge;
use super::*;
use crate::bridge::Direction;
use crate::proto::Suback;
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V311};

const BOTH: [Version; 2] = [V311, V5];
const ALL_QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// `owner` may do everything; `user` may read what is open, without the secrets in it, and write where it is to.
const RULES: &str = "\
user owner
topic #
user user
topic read open/#
topic deny open/secret/#
topic write out/#
";

fn fleet_with(shards: u16, rules: &str) -> Fleet {
    let mut fleet = Fleet::new(shards);
    fleet.set_rules(rules);
    fleet
}

/// A client of the user of this name, which is its client id, too.
fn connect_as(fleet: &mut Fleet, version: Version, user_name: &str) -> Client {
    let client = fleet.connect_user(connect(version, user_name, Properties::EMPTY), user_name);
    assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason: ReasonCode::Success }]);
    client
}

/// As [`connect_as`], for a session that outlives its client, and is resumed if it is there.
fn resume_as(fleet: &mut Fleet, version: Version, user_name: &str) -> Client {
    let mut properties = PropertyWriter::new();
    if version == V5 {
        properties.push(Property::SessionExpiryInterval(60)).push(Property::ReceiveMaximum(2));
    }
    let connect = Connect { clean_start: false, ..connect(version, user_name, properties.properties()) };
    fleet.connect_user(connect, user_name)
}

/// The owner, and what it has published.
struct Owner {
    client: Client,
    published: u16,
}

impl Owner {
    fn new(fleet: &mut Fleet) -> Self {
        Self { client: connect_as(fleet, V5, "owner"), published: 0 }
    }

    fn publish(&mut self, fleet: &mut Fleet, topic: &str, payload: &str, qos: QoS) {
        self.published += 1;
        let packet_id = if qos == AtMostOnce { 0 } else { self.published };
        fleet.publish(self.client, topic, payload, qos, packet_id);
        if qos == ExactlyOnce {
            fleet.ack(self.client, Pubrel, packet_id);
        }
        fleet.got(self.client);
    }
}

/// The payloads that a client got, each acknowledged to the end, until nothing more comes.
fn take(fleet: &mut Fleet, client: Client) -> String {
    let mut payloads = String::new();
    loop {
        let mut is_over = true;
        for got in fleet.got(client) {
            if let Got::Publish { payload, qos, id, .. } = got {
                is_over = false;
                payloads += &payload;
                match qos {
                    AtMostOnce => {}
                    AtLeastOnce => fleet.ack(client, Puback, id),
                    ExactlyOnce => {
                        fleet.ack(client, Pubrec, id);
                        fleet.ack(client, Pubcomp, id);
                    }
                }
            }
        }
        if is_over {
            return payloads;
        }
    }
}

#[test]
fn a_will_is_accepted_only_where_its_client_may_publish() {
    for version in BOTH {
        let mut fleet = fleet_with(1, RULES);
        let will =
            |topic| Will { topic, payload: b"gone", qos: AtMostOnce, retain: false, properties: Properties::EMPTY };
        for (topic, reason) in [("out/state", ReasonCode::Success), ("open/state", ReasonCode::NotAuthorized)] {
            let connect = Connect { will: Some(will(topic)), ..connect(version, "user", Properties::EMPTY) };
            let client = fleet.connect_user(connect, "user");
            assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason }], "{topic}");
        }
        assert_eq!(fleet.count(|counters| counters.refused_acl_will), 1);
        assert_eq!(fleet.count(|counters| counters.sessions), 1, "who is refused takes nothing over");
    }
}

/// The rules may have changed since CONNECT.
#[test]
fn a_will_is_published_only_where_its_client_still_may() {
    for (rules, expected) in [(RULES, "gone"), ("user owner\ntopic #\nuser user\n", "")] {
        let mut fleet = fleet_with(2, RULES);
        let owner = Owner::new(&mut fleet);
        fleet.subscribe(owner.client, "out/#", AtMostOnce);
        let mut properties = PropertyWriter::new();
        properties.push(Property::SessionExpiryInterval(60));
        let mut delay = PropertyWriter::new();
        delay.push(Property::WillDelayInterval(10));
        let will = Will {
            topic: "out/state",
            payload: b"gone",
            qos: AtMostOnce,
            retain: false,
            properties: delay.properties(),
        };
        let connect = Connect { will: Some(will), ..connect(V5, "user", properties.properties()) };
        let client = fleet.connect_user(connect, "user");
        fleet.set_rules(rules);
        fleet.drop_connection(client);
        fleet.pass(Duration::from_secs(11));
        assert_eq!(take(&mut fleet, owner.client), expected);
        assert_eq!(fleet.count(|counters| counters.refused_acl_will), u64::from(expected.is_empty()));
    }
}

/// What a client may not publish goes to nobody, and is not retained. 5.0 clients are told; for 3.1.1 the exchange ends as
/// any other [MQTT-3.3.5-2], as with mosquitto.
#[test]
fn a_message_is_routed_only_where_its_client_may_publish() {
    for (version, refusal) in [(V311, ReasonCode::Success), (V5, ReasonCode::NotAuthorized)] {
        for (shards, qos) in [1, 2].into_iter().flat_map(|shards| ALL_QOS.map(|qos| (shards, qos))) {
            let mut fleet = fleet_with(shards, RULES);
            let owner = Owner::new(&mut fleet);
            fleet.subscribe(owner.client, "#", ExactlyOnce);
            let client = connect_as(&mut fleet, version, "user");
            for (topic, is_allowed) in [("out/a", true), ("open/a", false), ("out/b", true), ("open/secret/a", false)] {
                let packet_id = if qos == AtMostOnce { 0 } else { 1 };
                // With the same id each time: refused or not, the exchange before it is over.
                fleet.publish_with(client, topic, "x", qos, packet_id, false, true);
                let reason = if is_allowed { ReasonCode::Success } else { refusal };
                match qos {
                    AtMostOnce => assert_eq!(fleet.got(client), []),
                    AtLeastOnce => assert_eq!(fleet.got(client), [Got::Ack(Puback, 1, reason)]),
                    ExactlyOnce => assert_eq!(fleet.got(client), [Got::Ack(Pubrec, 1, reason)]),
                }
                if qos == ExactlyOnce && reason == ReasonCode::Success {
                    fleet.ack(client, Pubrel, 1);
                    assert!(matches!(fleet.got(client)[..], [Got::Ack(Pubcomp, 1, _)]));
                }
                let expected = if is_allowed { "x" } else { "" };
                assert_eq!(take(&mut fleet, owner.client), expected, "{version:?} {qos:?} {topic}");
            }
            assert_eq!(fleet.count(|counters| counters.refused_acl_publish), 2);
            assert_eq!(fleet.count(|counters| counters.retained), 2);
            assert_eq!(fleet.count(|counters| counters.inbound_inflight), 0);
        }
    }
}

/// [MQTT-4.3.3-9], trap 1: refused, the id is free, and the next message with it is a new one; taken, it stays taken, whatever
/// the rules say by the time that it comes again.
#[test]
fn a_refusal_neither_loses_nor_doubles_a_message() {
    for version in BOTH {
        let mut fleet = fleet_with(2, RULES);
        let owner = Owner::new(&mut fleet);
        fleet.subscribe(owner.client, "#", ExactlyOnce);
        let client = connect_as(&mut fleet, version, "user");
        fleet.publish(client, "open/a", "refused", ExactlyOnce, 7);
        fleet.publish(client, "out/a", "taken", ExactlyOnce, 7);
        fleet.set_rules("user owner\ntopic #\n");
        fleet.publish_with(client, "out/a", "taken", ExactlyOnce, 7, true, false);
        let answers = fleet.got(client);
        assert_eq!(answers[1..], [Got::Ack(Pubrec, 7, ReasonCode::Success), Got::Ack(Pubrec, 7, ReasonCode::Success)]);
        assert_eq!(take(&mut fleet, owner.client), "taken");
        fleet.ack(client, Pubrel, 7);
        assert_eq!(fleet.got(client), [Got::Ack(Pubcomp, 7, ReasonCode::Success)]);
        fleet.publish(client, "out/a", "refused", ExactlyOnce, 7);
        assert_eq!(take(&mut fleet, owner.client), "");
        assert_eq!(fleet.count(|counters| counters.duplicates_suppressed), 1);
    }
}

/// An alias stands for its topic also if the message that has introduced it is refused; and what it stands for is judged.
#[test]
fn topic_aliases_are_judged_by_their_topics() {
    let mut fleet = fleet_with(1, RULES);
    let client = connect_as(&mut fleet, V5, "user");
    let (taken, refused) = (ReasonCode::Success, ReasonCode::NotAuthorized);
    for (topic, alias, reason) in [
        ("open/a", 1, refused),
        ("out/a", 2, taken),
        ("", 1, refused),
        ("", 2, taken),
        ("out/b", 1, taken),
        ("", 1, taken),
    ] {
        let mut properties = PropertyWriter::new();
        properties.push(Property::TopicAlias(alias));
        let (properties, packet_id) = (properties.properties(), Some(id(1)));
        let publish =
            Publish { dup: false, qos: AtLeastOnce, retain: false, topic, packet_id, properties, payload: b"x" };
        fleet.send(client, &Packet::Publish(publish));
        assert_eq!(fleet.got(client), [Got::Ack(Puback, 1, reason)], "{topic} {alias}");
    }
}

#[test]
fn a_subscription_is_granted_only_where_its_client_may_read_something() {
    for (version, refusal) in [(V311, 0x80), (V5, 0x87)] {
        for shards in [1, 2] {
            let mut fleet = fleet_with(shards, RULES);
            let client = connect_as(&mut fleet, version, "user");
            for (filter, code) in [
                ("open/a", 2),
                ("open/#", 2),
                ("#", 2),
                ("$share/group/open/+", 2),
                ("open/secret/#", refusal),
                ("$share/group/out/+", refusal),
                ("out/a", refusal),
                ("$SYS/#", refusal),
            ] {
                fleet.subscribe(client, filter, ExactlyOnce);
                assert_eq!(fleet.got(client), [Got::Suback(vec![code])], "{version:?} {filter}");
            }
            assert_eq!(fleet.count(|counters| counters.refused_acl_subscribe), 4);
            assert_eq!(fleet.count(|counters| counters.subscriptions), 4);
        }
    }
}

/// The window is not used up by what is dropped, and the order is kept.
#[test]
fn a_message_goes_only_to_who_may_read_it() {
    for version in BOTH {
        for (shards, qos) in [1, 2].into_iter().flat_map(|shards| ALL_QOS.map(|qos| (shards, qos))) {
            let mut fleet = fleet_with(shards, RULES);
            let mut owner = Owner::new(&mut fleet);
            let client = connect_as(&mut fleet, version, "user");
            fleet.subscribe(client, "#", qos);
            for number in 0..20 {
                owner.publish(&mut fleet, "open/a", &format!("{number},"), ExactlyOnce);
                owner.publish(&mut fleet, "open/secret/a", "secret", ExactlyOnce);
                owner.publish(&mut fleet, "other", "other", ExactlyOnce);
            }
            let expected: String = (0..20).map(|number| format!("{number},")).collect();
            assert_eq!(take(&mut fleet, client), expected, "{version:?} {qos:?}");
            assert_eq!(fleet.count(|counters| counters.dropped_acl), 40);
            assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
        }
    }
}

#[test]
fn retained_messages_go_only_to_who_may_read_them() {
    for (version, shards) in BOTH.into_iter().flat_map(|version| [1, 2].map(|shards| (version, shards))) {
        let mut fleet = fleet_with(shards, RULES);
        let owner = Owner::new(&mut fleet);
        for (number, topic) in (1..).zip(["open/a", "open/secret/a", "other"]) {
            fleet.publish_with(owner.client, topic, topic, AtLeastOnce, number, false, true);
        }
        let client = connect_as(&mut fleet, version, "user");
        fleet.subscribe(client, "#", AtLeastOnce);
        assert_eq!(take(&mut fleet, client), "open/a");
        fleet.subscribe(client, "open/+", AtLeastOnce);
        assert_eq!(take(&mut fleet, client), "open/a");
        assert_eq!(fleet.count(|counters| counters.dropped_acl), 2, "what is readable as a whole is judged once");
    }
}

/// What has waited for a client is judged when it goes, by the rules of that time; also behind a crash.
#[test]
fn what_has_waited_is_judged_when_its_client_comes_back() {
    for version in BOTH {
        for (crashes, rules, expected) in [(false, RULES, "12"), (true, RULES, "12"), (true, "user user\n", "")] {
            let mut fleet = Fleet::durable(2);
            fleet.set_rules(RULES);
            let mut owner = Owner::new(&mut fleet);
            let client = resume_as(&mut fleet, version, "user");
            fleet.subscribe(client, "#", ExactlyOnce);
            fleet.disconnect(client);
            for (topic, payload) in [("open/a", "1"), ("open/secret/a", "x"), ("other", "x"), ("open/b", "2")] {
                owner.publish(&mut fleet, topic, payload, ExactlyOnce);
            }
            assert_eq!(fleet.count(|counters| counters.queued), 4);
            if crashes {
                fleet.crash(Duration::ZERO);
            }
            fleet.set_rules(rules);
            let client = resume_as(&mut fleet, version, "user");
            assert_eq!(take(&mut fleet, client), expected, "{version:?} {crashes}");
            assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
            // What was dropped does not come back.
            fleet.crash(Duration::ZERO);
            fleet.set_rules("user user\ntopic #\n");
            let client = resume_as(&mut fleet, version, "user");
            assert_eq!(take(&mut fleet, client), "");
        }
    }
}

/// A message that has left is acknowledged like any other, whatever the rules have become.
#[test]
fn an_exchange_that_has_begun_is_completed() {
    for (version, qos) in [(V311, AtLeastOnce), (V5, AtLeastOnce), (V311, ExactlyOnce), (V5, ExactlyOnce)] {
        let mut fleet = Fleet::durable(1);
        fleet.set_rules(RULES);
        let mut owner = Owner::new(&mut fleet);
        let client = resume_as(&mut fleet, version, "user");
        fleet.subscribe(client, "open/#", qos);
        owner.publish(&mut fleet, "open/a", "1", ExactlyOnce);
        fleet.set_rules("user owner\ntopic #\n");
        owner.publish(&mut fleet, "open/a", "2", ExactlyOnce);
        assert_eq!(take(&mut fleet, client), "1", "not the one behind it");
        assert_eq!(fleet.count(|counters| counters.dropped_acl), 1);
        assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
    }
}

/// Who may not read a message does not get it because it was in flight to somebody else, or to him when he might: its exchange
/// ends without it, and whoever holds its id is told to let it go [MQTT-4.3.3-12], also those that wait for a slot.
#[test]
fn a_message_is_not_sent_again_to_who_may_not_read_it() {
    let rules = "user owner\ntopic #\nuser other\ntopic read open/b\n";
    for (version, qos) in [(V311, AtLeastOnce), (V5, AtLeastOnce), (V311, ExactlyOnce), (V5, ExactlyOnce)] {
        for user_name in ["user", "other"] {
            let mut fleet = Fleet::durable(2);
            fleet.set_rules(RULES);
            let mut owner = Owner::new(&mut fleet);
            let client = resume_as(&mut fleet, version, "user");
            fleet.subscribe(client, "open/#", qos);
            for (topic, payload) in [("open/a", "1"), ("open/b", "2"), ("open/a", "3"), ("open/b", "4")] {
                owner.publish(&mut fleet, topic, payload, ExactlyOnce);
            }
            fleet.drop_connection(client);
            fleet.crash(Duration::ZERO);
            fleet.set_rules(rules);
            let mut properties = PropertyWriter::new();
            if version == V5 {
                properties.push(Property::SessionExpiryInterval(60)).push(Property::ReceiveMaximum(1));
            }
            let connect = Connect { clean_start: false, ..connect(version, "user", properties.properties()) };
            let client = fleet.connect_user(connect, user_name);
            let mut payloads = String::new();
            loop {
                let got = fleet.got(client);
                let mut is_over = true;
                for packet in got {
                    match packet {
                        Got::Publish { payload, id, qos, .. } => {
                            is_over = false;
                            payloads += &payload;
                            fleet.ack(client, if qos == ExactlyOnce { Pubrec } else { Puback }, id);
                        }
                        Got::Ack(Pubrel, id, _) => {
                            is_over = false;
                            fleet.ack(client, Pubcomp, id);
                        }
                        Got::Connack { session_present, .. } => assert!(session_present),
                        other => panic!("{other:?}"),
                    }
                }
                if is_over {
                    break;
                }
            }
            assert_eq!(payloads, if user_name == "other" { "24" } else { "" }, "{version:?} {qos:?}");
            assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
        }
    }
}

/// New rules hold for who is connected: for its messages, its subscriptions, and what these bring.
#[test]
fn new_rules_hold_for_clients_that_are_connected() {
    for version in BOTH {
        let mut fleet = fleet_with(2, RULES);
        let mut owner = Owner::new(&mut fleet);
        fleet.subscribe(owner.client, "out/#", AtMostOnce);
        let client = connect_as(&mut fleet, version, "user");
        fleet.subscribe(client, "open/+", AtLeastOnce);
        fleet.got(client);
        for (rules, may) in [("user owner\ntopic #\n", false), (RULES, true), ("topic #\n", false), (RULES, true)] {
            fleet.set_rules(rules);
            owner.publish(&mut fleet, "open/a", "in", AtLeastOnce);
            // By the third rules not even the owner may publish.
            assert_eq!(take(&mut fleet, client), if may { "in" } else { "" }, "{rules}");
            fleet.publish(client, "out/a", "out", AtMostOnce, 0);
            assert_eq!(take(&mut fleet, owner.client), if may { "out" } else { "" }, "{rules}");
            fleet.subscribe(client, "open/b", AtLeastOnce);
            let Some(Got::Suback(codes)) = fleet.got(client).pop() else { panic!("SUBACK") };
            assert_eq!(codes[0] < 0x80, may, "{rules}");
        }
    }
}

/// The member is chosen whatever it may read, and a message that it may not is over: the group goes on.
#[test]
fn a_member_of_a_group_gets_only_what_it_may_read() {
    for (shards, qos) in [1, 2].into_iter().flat_map(|shards| ALL_QOS.map(|qos| (shards, qos))) {
        let mut fleet = fleet_with(shards, RULES);
        let mut owner = Owner::new(&mut fleet);
        let (client, rival) = (connect_as(&mut fleet, V5, "user"), connect_as(&mut fleet, V5, "owner-of-nothing"));
        fleet.subscribe(client, "$share/group/#", qos);
        fleet.subscribe(rival, "$share/group/#", qos);
        assert_eq!(fleet.got(rival), [Got::Suback(vec![0x87])]);
        for payload in ["1", "2", "3"] {
            owner.publish(&mut fleet, "open/secret/a", "x", qos);
            owner.publish(&mut fleet, "open/a", payload, qos);
        }
        assert_eq!(take(&mut fleet, client), "123");
        assert_eq!(fleet.count(|counters| counters.dropped_acl), 3);
        assert_eq!(fleet.count(|counters| counters.messages + counters.outbound_inflight + counters.queued), 0);
    }
}

/// Without a user name a client is anonymous, whatever CONNECT says; patterns know it by its id.
#[test]
fn who_has_not_shown_who_he_is_is_anonymous() {
    let rules =
        "topic read open/#\npattern readwrite clients/%c/#\npattern read users/%u/#\nuser user\ntopic write open/#\n";
    for version in BOTH {
        let mut fleet = fleet_with(1, rules);
        let anonymous = Connect { username: Some("user"), ..connect(version, "one", Properties::EMPTY) };
        let anonymous = fleet.connect_with(anonymous);
        let known = fleet.connect_user(connect(version, "two", Properties::EMPTY), "user");
        let mut codes = |client, filters: [&str; 4]| {
            fleet.got(client);
            filters.map(|filter| {
                fleet.subscribe(client, filter, AtMostOnce);
                let Some(Got::Suback(codes)) = fleet.got(client).pop() else { panic!("SUBACK") };
                codes[0] < 0x80
            })
        };
        assert_eq!(
            codes(anonymous, ["open/a", "clients/one/a", "clients/two/a", "users/user/a"]),
            [true, true, false, false]
        );
        assert_eq!(
            codes(known, ["open/a", "clients/one/a", "clients/two/a", "users/user/a"]),
            [false, false, true, true]
        );
    }
}

/// Bridges of ours are the operator's: no rule is theirs, and none holds for them.
#[test]
fn bridges_of_ours_are_not_judged() {
    let bridge = bridge(&[("#", Direction::Both, "both/", "")]);
    let mut fleet = fleet_with(1, RULES);
    fleet.keep_bridges(&[Arc::clone(&bridge)]);
    let remote = fleet.open_bridge(&bridge, false, Properties::EMPTY);
    let Some(Got::Subscribe(packet_id, _)) = fleet.got(remote).pop() else { panic!("SUBSCRIBE") };
    let suback = Suback { packet_id: id(packet_id), properties: Properties::EMPTY, codes: &[2] };
    fleet.send(remote, &Packet::Suback(suback));
    let mut owner = Owner::new(&mut fleet);
    fleet.subscribe(owner.client, "both/in", AtMostOnce);
    owner.publish(&mut fleet, "both/out", "out", AtMostOnce);
    assert!(matches!(&fleet.got(remote)[..], [Got::Publish { topic, .. }] if topic == "out"));
    fleet.publish(remote, "in", "in", AtMostOnce, 0);
    assert_eq!(take(&mut fleet, owner.client), "in");
    assert_eq!(fleet.count(|counters| counters.dropped_acl + counters.refused_acl_publish), 0);
}
