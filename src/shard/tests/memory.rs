//! Memory gets short, and there is enough again: what is done without, and that nothing is lost.

use super::*;
use MemoryStage::{Enough, Exhausted, Scarce, Short};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

impl Fleet {
    fn memory(&mut self, stage: MemoryStage) {
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.handle_memory(now, stage));
        self.pass(Duration::ZERO);
    }
}

fn acks(kind: AcknowledgementKind, ids: impl IntoIterator<Item = u16>) -> Vec<Got> {
    ids.into_iter().map(|id| Got::Ack(kind, id, ReasonCode::Success)).collect()
}

#[test]
fn who_is_new_is_refused_and_who_has_a_session_comes_back() {
    let mut fleet = Fleet::new(1);
    let known = fleet.connect_v5("known", 1000);
    fleet.drop_connection(known);
    fleet.memory(Scarce);
    for (version, reason) in [(Version::V311, ReasonCode::ServerUnavailable), (Version::V5, ReasonCode::ServerBusy)] {
        let new = fleet.connect(version, "new", true);
        assert_eq!(fleet.got(new), [Got::Connack { session_present: false, reason }], "{version:?}");
        assert_eq!(fleet.commands(new), ["finish"]);
    }
    let known = fleet.connect_v5("known", 1000);
    assert_eq!(fleet.got(known), [Got::Connack { session_present: true, reason: ReasonCode::Success }]);
    assert_eq!(fleet.count(|counters| counters.refused_memory), 2);
    assert_eq!(fleet.count(|counters| counters.memory_stage), 1);
    fleet.memory(Enough);
    let new = fleet.connect(Version::V311, "new", true);
    assert_eq!(fleet.got(new), [Got::Connack { session_present: false, reason: ReasonCode::Success }]);
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3]: the order of the receipts is that of the messages also when they had to wait.
#[test]
fn publishers_wait_and_their_messages_are_delivered() {
    for version in [Version::V311, Version::V5] {
        let mut fleet = Fleet::new(2);
        let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| fleet.connect(version, name, true));
        fleet.subscribe(subscriber, "t", ExactlyOnce);
        fleet.got(publisher);
        fleet.got(subscriber);
        fleet.publish(publisher, "t", "before", ExactlyOnce, 1);
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Pubrec, [1]));
        fleet.memory(Short);
        for id in 2..=4 {
            fleet.publish(publisher, "t", "x", ExactlyOnce, id);
        }
        assert_eq!(fleet.got(publisher), []);
        // What has begun goes on, on both sides, and so does QoS 0.
        fleet.ack(publisher, AcknowledgementKind::Pubrel, 1);
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Pubcomp, [1]));
        fleet.publish(publisher, "t", "at once", AtMostOnce, 0);
        assert_eq!(fleet.got(subscriber).len(), 5, "one before, three that wait for their receipts, and one of QoS 0");
        fleet.ack(subscriber, AcknowledgementKind::Pubrec, 1);
        assert_eq!(fleet.got(subscriber), acks(AcknowledgementKind::Pubrel, [1]));
        // A repetition is no second message.
        fleet.publish_with(publisher, "t", "x", ExactlyOnce, 2, true, false);
        assert_eq!(fleet.got(subscriber), []);
        fleet.memory(Scarce);
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Pubrec, [2, 3, 4, 2]));
        fleet.publish(publisher, "t", "after", AtLeastOnce, 5);
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Puback, [5]));
    }
}

#[test]
fn messages_of_qos_0_are_dropped_last_and_counted() {
    let mut fleet = Fleet::new(1);
    let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| fleet.connect(Version::V5, name, true));
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    fleet.memory(Exhausted);
    fleet.publish(publisher, "t", "x", AtMostOnce, 0);
    assert_eq!(fleet.got(subscriber), []);
    fleet.publish(publisher, "t", "x", AtLeastOnce, 1);
    assert_eq!(fleet.got(subscriber).len(), 1, "what is acknowledged some day is delivered");
    assert_eq!(fleet.count(|counters| counters.dropped_memory), 1);
    fleet.memory(Short);
    fleet.publish(publisher, "t", "x", AtMostOnce, 0);
    assert_eq!(fleet.got(subscriber).len(), 1);
}

/// A subscriber and a lack of memory may hold up the same publisher; it goes on when neither does.
#[test]
fn receipts_wait_for_whatever_holds_them_up() {
    for memory_first in [true, false] {
        let mut fleet = Fleet::with_limits(1, Limits { congestion_messages: 2, max_inflight: 1, ..limits() });
        let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| fleet.connect(Version::V5, name, true));
        fleet.subscribe(subscriber, "t", AtLeastOnce);
        fleet.got(publisher);
        for id in 1..=3 {
            fleet.publish(publisher, "t", "x", AtLeastOnce, id);
        }
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Puback, [1, 2]), "the third is held up");
        fleet.memory(Short);
        fleet.publish(publisher, "t", "x", AtLeastOnce, 4);
        let drain = |fleet: &mut Fleet| (1..=4).for_each(|id| fleet.ack(subscriber, AcknowledgementKind::Puback, id));
        if memory_first {
            fleet.memory(Enough);
            assert_eq!(fleet.got(publisher), []);
            drain(&mut fleet);
        } else {
            drain(&mut fleet);
            assert_eq!(fleet.got(publisher), []);
            fleet.memory(Enough);
        }
        assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Puback, [3, 4]));
    }
}

/// Simulator seed 140490: what a subscriber had held up, and let go while memory was short, was forgotten.
#[test]
fn receipts_let_go_while_memory_is_short_leave_when_there_is_enough() {
    let mut fleet = Fleet::with_limits(1, Limits { congestion_messages: 2, max_inflight: 1, ..limits() });
    let [publisher, subscriber] = ["publisher", "subscriber"].map(|name| fleet.connect(Version::V5, name, true));
    fleet.subscribe(subscriber, "t", AtLeastOnce);
    fleet.got(publisher);
    for id in 1..=3 {
        fleet.publish(publisher, "t", "x", AtLeastOnce, id);
    }
    assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Puback, [1, 2]), "the third is held up");
    fleet.memory(Short);
    (1..=3).for_each(|id| fleet.ack(subscriber, AcknowledgementKind::Puback, id));
    assert_eq!(fleet.got(publisher), []);
    fleet.memory(Enough);
    assert_eq!(fleet.got(publisher), acks(AcknowledgementKind::Puback, [3]));
}

#[test]
fn who_left_while_it_waited_is_forgotten() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.memory(Short);
    fleet.publish(publisher, "t", "x", ExactlyOnce, 1);
    fleet.drop_connection(publisher);
    fleet.memory(Enough);
    let next = fleet.connect(Version::V311, "next", true);
    assert_eq!(fleet.got(next).len(), 1, "CONNACK alone");
}
