//! Traps of the exchanges of QoS 1 and 2: ids, windows, order, and who may end what.

use super::*;

fn publish(payload: &str, id: u16, dup: bool) -> Got {
    Got::Publish { topic: "t".into(), payload: payload.into(), qos: ExactlyOnce, id, dup, retain: false }
}

/// A publisher of 3.1.1, and a subscriber of `t` that accepts so many messages at once.
fn pair(receive_maximum: u16) -> (Fleet, Client, Client) {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", receive_maximum);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(publisher);
    fleet.got(subscriber);
    (fleet, publisher, subscriber)
}

/// Trap 5: no PUBREL follows an error, and the slot is free for the next message.
#[test]
fn a_refused_message_gives_its_slot_to_the_next() {
    let (mut fleet, publisher, subscriber) = pair(1);
    for id in 1..=2 {
        fleet.publish(publisher, "t", &id.to_string(), ExactlyOnce, id);
    }
    assert_eq!(fleet.got(subscriber), [publish("1", 1, false)]);
    fleet.ack_with(subscriber, Pubrec, 1, ReasonCode::ImplementationSpecificError);
    assert_eq!(fleet.got(subscriber), [publish("2", 2, false)]);
}

/// Traps 6 and 9: a full window holds messages back in their order and PUBREL never; nothing is dropped.
#[test]
fn a_window_of_one_serves_its_queue_message_by_message() {
    let (mut fleet, publisher, subscriber) = pair(1);
    for id in 1..=5 {
        fleet.publish(publisher, "t", &id.to_string(), ExactlyOnce, id);
    }
    for id in 1..=5 {
        assert_eq!(fleet.got(subscriber), [publish(&id.to_string(), id, false)]);
        fleet.ack(subscriber, Pubrec, id);
        assert_eq!(fleet.got(subscriber), [Got::Ack(Pubrel, id, SUCCESS)], "the window is full");
        fleet.ack(subscriber, Pubcomp, id);
    }
    assert_eq!(fleet.count(|counters| counters.messages + counters.dropped_queue_full), 0);
}

/// Trap 7: ids that await PUBREL are forgotten neither for their number nor by time.
#[test]
fn ids_that_await_pubrel_are_kept_however_many_and_however_long() {
    let (mut fleet, publisher, _) = pair(1);
    for id in 1..=u16::MAX {
        fleet.publish(publisher, "nobody", "x", ExactlyOnce, id);
    }
    fleet.pass(Duration::from_secs(10_000_000));
    for id in 1..=u16::MAX {
        fleet.publish_with(publisher, "nobody", "x", ExactlyOnce, id, true, false);
    }
    assert_eq!(fleet.count(|counters| counters.duplicates_suppressed), u64::from(u16::MAX));
    fleet.got(publisher);
    for id in 1..=u16::MAX {
        fleet.ack(publisher, Pubrel, id);
    }
    assert!(fleet.got(publisher).into_iter().eq((1..=u16::MAX).map(|id| Got::Ack(Pubcomp, id, SUCCESS))));
    assert_eq!(fleet.count(|counters| counters.inbound_inflight), 0);
}

/// Trap 8: behind the end of an exchange its id may be used for anything.
#[test]
fn an_id_is_free_as_soon_as_its_exchange_is_over() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_v5("client", 10);
    fleet.got(client);
    for _ in 0..2 {
        fleet.publish(client, "t", "x", ExactlyOnce, 9);
        fleet.ack(client, Pubrel, 9);
        assert_eq!(fleet.got(client), [Got::Ack(Pubrec, 9, SUCCESS), Got::Ack(Pubcomp, 9, SUCCESS)]);
        // These have the id 9 too.
        fleet.subscribe(client, "other", ExactlyOnce);
        assert_eq!(fleet.got(client), [Got::Suback(vec![2])]);
        fleet.publish(client, "t", "x", AtLeastOnce, 9);
        assert_eq!(fleet.got(client), [Got::Ack(Puback, 9, SUCCESS)]);
        fleet.unsubscribe(client, "other");
        assert_eq!(fleet.got(client), [Got::Unsuback(vec![0])]);
    }
}

/// [MQTT-4.6.0-4], trap 11.
#[test]
fn pubrels_come_in_the_order_of_the_pubrecs() {
    let (mut fleet, publisher, subscriber) = pair(10);
    for id in 1..=3 {
        fleet.publish(publisher, "t", "x", ExactlyOnce, id);
    }
    fleet.got(subscriber);
    for id in [2, 3, 1] {
        fleet.ack(subscriber, Pubrec, id);
    }
    assert_eq!(fleet.got(subscriber), [2, 3, 1].map(|id| Got::Ack(Pubrel, id, SUCCESS)));
}

/// Trap 12: another message under an id whose exchange is open does not end that exchange.
#[test]
fn an_id_in_use_is_not_freed_by_a_message_of_another_qos() {
    let (mut fleet, publisher, subscriber) = pair(10);
    fleet.publish(publisher, "t", "first", ExactlyOnce, 7);
    fleet.publish(publisher, "t", "other", AtLeastOnce, 7);
    fleet.publish_with(publisher, "t", "first", ExactlyOnce, 7, true, false);
    assert_eq!(
        fleet.got(publisher),
        [Got::Ack(Pubrec, 7, SUCCESS), Got::Ack(Puback, 7, SUCCESS), Got::Ack(Pubrec, 7, SUCCESS)]
    );
    assert_eq!(payloads(&mut fleet, subscriber), ["first", "other"]);
}

/// Trap 12: an acknowledgement that does not fit costs the connection and not the message.
#[test]
fn a_wrong_acknowledgement_leaves_the_exchange_open() {
    let rows = [(AtLeastOnce, Pubrec), (AtLeastOnce, Pubcomp), (ExactlyOnce, Puback), (ExactlyOnce, Pubcomp)];
    for (qos, kind) in rows {
        let (mut fleet, publisher, subscriber) = pair(10);
        fleet.publish(publisher, "t", "x", qos, 1);
        fleet.got(subscriber);
        fleet.ack(subscriber, kind, 1);
        assert_eq!(fleet.got(subscriber), [Got::Disconnect(ReasonCode::ProtocolError)], "{kind:?} for {qos:?}");
        let subscriber = fleet.connect_v5("subscriber", 10);
        let again = Got::Publish { topic: "t".into(), payload: "x".into(), qos, id: 1, dup: true, retain: false };
        assert_eq!(fleet.got(subscriber), [connack(true), again], "{kind:?} for {qos:?}");
    }
}

/// Trap 13: a PUBREL from the connection that lost the session does not free the id for the one that has it.
#[test]
fn what_a_lost_connection_still_says_does_not_count() {
    let (mut fleet, _, subscriber) = pair(10);
    let first = fleet.connect_v5("taken", 10);
    fleet.publish(first, "t", "once", ExactlyOnce, 7);
    let second = fleet.connect_v5("taken", 10);
    fleet.ack(first, Pubrel, 7);
    fleet.publish_with(second, "t", "once", ExactlyOnce, 7, true, false);
    fleet.ack(second, Pubrel, 7);
    assert_eq!(
        fleet.got(first),
        [connack(false), Got::Ack(Pubrec, 7, SUCCESS), Got::Disconnect(ReasonCode::SessionTakenOver)]
    );
    assert_eq!(fleet.got(second), [connack(true), Got::Ack(Pubrec, 7, SUCCESS), Got::Ack(Pubcomp, 7, SUCCESS)]);
    assert_eq!(payloads(&mut fleet, subscriber), ["once"]);
}

/// Trap 14: a client that says nothing of it accepts 65,535 messages at once; the ids last for one fewer, and the rest
/// waits.
#[test]
fn without_a_receive_maximum_the_ids_are_the_limit() {
    let mut fleet = Fleet::with_limits(1, Limits { max_inflight: u16::MAX, ..limits() });
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect(V5, "subscriber", true);
    fleet.subscribe(subscriber, "t", AtLeastOnce);
    for _ in 0..=u16::MAX {
        fleet.publish(publisher, "t", "x", AtLeastOnce, 1);
    }
    let id_of = |got: Got| match got {
        Got::Publish { id, .. } => Some(id),
        _ => None,
    };
    assert!(fleet.got(subscriber).into_iter().filter_map(id_of).eq(1..u16::MAX));
    assert_eq!(fleet.count(|counters| counters.queued), 2);
    fleet.ack(subscriber, Puback, 2);
    assert_eq!(fleet.got(subscriber), [], "ids are used in turn, and id 1 is still in flight");
    fleet.ack(subscriber, Puback, 1);
    assert!(fleet.got(subscriber).into_iter().filter_map(id_of).eq([u16::MAX, 1]));
}

/// [MQTT-4.4.0-1], trap 45: only a new connection is a reason to send anything again.
#[test]
fn nothing_is_sent_again_on_a_live_connection() {
    let (mut fleet, publisher, subscriber) = pair(10);
    fleet.publish(publisher, "t", "1", AtLeastOnce, 1);
    fleet.publish(publisher, "t", "2", ExactlyOnce, 2);
    fleet.publish(publisher, "t", "3", ExactlyOnce, 3);
    fleet.ack(subscriber, Pubrec, 3);
    assert_eq!(fleet.got(subscriber).len(), 4);
    for _ in 0..100 {
        fleet.pass(Duration::from_secs(60));
        fleet.send(subscriber, &Packet::Pingreq);
        assert_eq!(fleet.got(subscriber), [Got::Pingresp]);
    }
}

/// Trap 46: an expired message takes no slot, and without a slot all but messages is still served.
#[test]
fn an_expired_message_leaves_its_slot_to_the_next() {
    let (mut fleet, _, subscriber) = pair(1);
    let publisher = fleet.connect_v5("new", 10);
    let mut expires = PropertyWriter::new();
    expires.push(Property::MessageExpiryInterval(5));
    fleet.publish(publisher, "t", "in flight", ExactlyOnce, 1);
    let expiring = Publish { properties: expires.properties(), ..message("t", "expires", ExactlyOnce, 2) };
    fleet.send(publisher, &Packet::Publish(expiring));
    fleet.publish(publisher, "t", "next", ExactlyOnce, 3);
    fleet.pass(Duration::from_secs(6));
    assert_eq!(fleet.got(subscriber), [publish("in flight", 1, false)]);
    fleet.send(subscriber, &Packet::Pingreq);
    fleet.subscribe(subscriber, "other", AtMostOnce);
    fleet.publish(subscriber, "nobody", "x", ExactlyOnce, 1);
    fleet.unsubscribe(subscriber, "other");
    assert_eq!(
        fleet.got(subscriber),
        [Got::Pingresp, Got::Suback(vec![0]), Got::Ack(Pubrec, 1, SUCCESS), Got::Unsuback(vec![0])]
    );
    fleet.ack(subscriber, Pubrec, 1);
    fleet.ack(subscriber, Pubcomp, 1);
    assert_eq!(payloads(&mut fleet, subscriber), ["next"]);
    assert_eq!(fleet.count(|counters| counters.dropped_expired), 1);
}

/// [MQTT-3.10.4-2] [MQTT-3.10.4-3], trap 21: what is in flight when the client unsubscribes is brought to its end, also on
/// its next connection, and nothing new comes.
#[test]
fn unsubscribing_completes_what_is_in_flight() {
    let (mut fleet, publisher, subscriber) = pair(10);
    for id in 1..=2 {
        fleet.publish(publisher, "t", &id.to_string(), ExactlyOnce, id);
    }
    fleet.got(subscriber);
    fleet.unsubscribe(subscriber, "t");
    fleet.publish(publisher, "t", "3", ExactlyOnce, 3);
    fleet.ack(subscriber, Pubrec, 1);
    assert_eq!(fleet.got(subscriber), [Got::Unsuback(vec![0]), Got::Ack(Pubrel, 1, SUCCESS)]);
    fleet.drop_connection(subscriber);
    let subscriber = fleet.connect_v5("subscriber", 10);
    assert_eq!(fleet.got(subscriber), [connack(true), Got::Ack(Pubrel, 1, SUCCESS), publish("2", 2, true)]);
    for id in 1..=2 {
        fleet.ack(subscriber, Pubrec, id);
        fleet.ack(subscriber, Pubcomp, id);
    }
    assert_eq!(fleet.count(|counters| counters.outbound_inflight + counters.messages), 0);
}
