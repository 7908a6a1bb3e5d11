use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Message(u32, QoS);

impl Deliverable for Message {
    fn qos(&self) -> QoS {
        self.1
    }

    fn bytes(&self) -> u64 {
        10
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("a packet id is not zero")
}

fn exactly_once(number: u32) -> Message {
    Message(number, QoS::ExactlyOnce)
}

fn at_least_once(number: u32) -> Message {
    Message(number, QoS::AtLeastOnce)
}

fn attached(window: u16) -> Outbound<Message> {
    let mut outbound = Outbound::new(0, PlantedFault::default());
    outbound.attach(window, Resending::Again, |_| panic!("nothing to resend"));
    outbound
}

/// What a resume sends at once: (id, `Some(message number)` for PUBLISH, `None` for PUBREL).
fn resume(outbound: &mut Outbound<Message>, window: u16) -> Vec<(u16, Option<u32>)> {
    outbound.detach();
    let mut sent = Vec::new();
    outbound.attach(window, Resending::Again, |resend| match resend {
        Resend::Publish(number, message) => sent.push((packet_id_of(number).get(), Some(message.0))),
        Resend::Pubrel(number) => sent.push((packet_id_of(number).get(), None)),
    });
    sent
}

fn next(outbound: &mut Outbound<Message>) -> Option<(u16, bool, u32)> {
    outbound.next_publish().map(|(next, _)| (next.id.get(), next.dup, next.message.0))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Puback,
    Pubrec,
    PubrecRefused,
    Pubcomp,
    Reconnect,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Completed { message: bool },
    Pubrel { message: bool },
    Ignored,
    ProtocolError,
    ResendsPublish,
    ResendsPubrel,
    ResendsNothing,
}

/// Every row of the table above, and every pair that it does not mention. [MQTT-4.3.2-5] [MQTT-4.3.3-4]
/// [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1]
#[test]
fn every_state_and_event() {
    type Start = fn() -> Outbound<Message>;
    type Row = (&'static str, Start, [(Event, Outcome); 5]);
    let awaiting_puback: Start = || {
        let mut outbound = attached(9);
        outbound.send_now(at_least_once(1));
        outbound
    };
    let awaiting_pubrec: Start = || {
        let mut outbound = attached(9);
        outbound.send_now(exactly_once(1));
        outbound
    };
    let awaiting_pubcomp: Start = || {
        let mut outbound = attached(9);
        outbound.send_now(exactly_once(1));
        outbound.handle_pubrec(id(1), false);
        outbound
    };
    // Id 1 is done, but its place is kept behind id 65,535, which came before it and is still in flight.
    let done: Start = || {
        let mut outbound = attached(9);
        outbound.first = 65_534;
        outbound.send_now(exactly_once(0));
        outbound.send_now(at_least_once(1));
        outbound.handle_puback(id(1));
        outbound
    };
    let unknown: Start = || attached(9);
    use Event::*;
    use Outcome::*;
    let table: [Row; 5] = [
        (
            "awaiting PUBACK",
            awaiting_puback,
            [
                (Puback, Completed { message: true }),
                (Pubrec, ProtocolError),
                (PubrecRefused, ProtocolError),
                (Pubcomp, ProtocolError),
                (Reconnect, ResendsPublish),
            ],
        ),
        (
            "awaiting PUBREC",
            awaiting_pubrec,
            [
                (Puback, ProtocolError),
                (Pubrec, Pubrel { message: true }),
                (PubrecRefused, Completed { message: true }),
                (Pubcomp, ProtocolError),
                (Reconnect, ResendsPublish),
            ],
        ),
        (
            "awaiting PUBCOMP",
            awaiting_pubcomp,
            [
                (Puback, ProtocolError),
                (Pubrec, Pubrel { message: false }),
                (PubrecRefused, Pubrel { message: false }),
                (Pubcomp, Completed { message: false }),
                (Reconnect, ResendsPubrel),
            ],
        ),
        (
            "done, place kept",
            done,
            [
                (Puback, Ignored),
                (Pubrec, Ignored),
                (PubrecRefused, Ignored),
                (Pubcomp, Ignored),
                (Reconnect, ResendsNothing),
            ],
        ),
        (
            "unknown",
            unknown,
            [
                (Puback, Ignored),
                (Pubrec, Ignored),
                (PubrecRefused, Ignored),
                (Pubcomp, Ignored),
                (Reconnect, ResendsNothing),
            ],
        ),
    ];
    for (state, start, row) in table {
        for (event, expected) in row {
            let mut outbound = start();
            let acknowledged = match event {
                Puback => outbound.handle_puback(id(1)),
                Pubrec => outbound.handle_pubrec(id(1), false),
                PubrecRefused => outbound.handle_pubrec(id(1), true),
                Pubcomp => outbound.handle_pubcomp(id(1)),
                Reconnect => {
                    let resent: Vec<_> = resume(&mut outbound, 9).into_iter().filter(|(id, _)| *id == 1).collect();
                    let outcome = match resent[..] {
                        [] => ResendsNothing,
                        [(1, Some(1))] => ResendsPublish,
                        [(1, None)] => ResendsPubrel,
                        _ => panic!("{state}: resent {resent:?}"),
                    };
                    assert_eq!(outcome, expected, "{state} × {event:?}");
                    continue;
                }
            };
            let outcome = match acknowledged {
                Acknowledged::Completed(_, message) => Completed { message: message.is_some() },
                Acknowledged::Received(_, message) => Pubrel { message: message.is_some() },
                Acknowledged::Unknown => Ignored,
                Acknowledged::ProtocolError => ProtocolError,
            };
            assert_eq!(outcome, expected, "{state} × {event:?}");
        }
    }
}

/// [MQTT-4.6.0-1], trap 3: PUBLISH and PUBREL interleaved as they were first sent.
#[test]
fn a_resume_resends_in_the_original_order() {
    let mut outbound = attached(9);
    for number in 1..=4 {
        outbound.send_now(exactly_once(number));
    }
    outbound.handle_pubrec(id(2), false);
    outbound.handle_pubrec(id(4), false);
    assert_eq!(resume(&mut outbound, 9), [(1, Some(1)), (2, None), (3, Some(3)), (4, None)]);
}

/// Traps 6 and 14: resends count in the window, PUBRELs pass a full one, and nothing overtakes the resends.
#[test]
fn a_resume_with_a_smaller_window_sends_the_rest_as_slots_get_free() {
    let mut outbound = attached(9);
    for number in 1..=4 {
        outbound.send_now(exactly_once(number));
    }
    outbound.handle_pubrec(id(3), false);
    outbound.enqueue(exactly_once(5));
    assert_eq!(resume(&mut outbound, 2), [(1, Some(1)), (3, None)]);
    assert_eq!(next(&mut outbound), None, "id 3 and id 1 hold the two slots");
    assert!(!outbound.is_clear());
    outbound.handle_pubcomp(id(3));
    assert_eq!(next(&mut outbound), Some((2, true, 2)));
    outbound.handle_pubrec(id(1), false);
    assert_eq!(next(&mut outbound), None);
    outbound.handle_pubcomp(id(1));
    assert_eq!(next(&mut outbound), Some((4, true, 4)));
    outbound.handle_pubrec(id(2), true);
    assert_eq!(next(&mut outbound), Some((5, false, 5)), "trap 45: DUP 0 on the first sending, also from the queue");
}

/// A PUBREC that arrives before its PUBLISH was resent on this connection moves the exchange on all the same.
#[test]
fn a_late_pubrec_after_a_resume_is_honoured() {
    let mut outbound = attached(9);
    outbound.send_now(exactly_once(1));
    outbound.send_now(exactly_once(2));
    assert_eq!(resume(&mut outbound, 1), [(1, Some(1))]);
    assert_eq!(outbound.handle_pubrec(id(2), false), Acknowledged::Received(1, Some(exactly_once(2))));
    assert_eq!(outbound.handle_pubrec(id(1), true), Acknowledged::Completed(0, Some(exactly_once(1))));
    assert_eq!(next(&mut outbound), None, "id 2 holds the only slot");
    assert_eq!(outbound.handle_pubcomp(id(2)), Acknowledged::Completed(1, None));
    assert!(outbound.is_empty());
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let mut outbound = attached(2);
    for number in 1..=3 {
        outbound.enqueue(exactly_once(number));
    }
    assert_eq!(next(&mut outbound), Some((1, false, 1)));
    assert_eq!(next(&mut outbound), Some((2, false, 2)));
    assert_eq!(next(&mut outbound), None);
    outbound.handle_pubrec(id(1), false);
    assert_eq!(next(&mut outbound), None, "a slot is held until PUBCOMP");
    outbound.handle_pubcomp(id(1));
    assert_eq!(next(&mut outbound), Some((3, false, 3)));
}

#[test]
fn a_queue_is_full_by_messages_or_by_bytes() {
    let mut outbound = attached(1);
    let few = QueueLimit { messages: 2, bytes: 1000 };
    let small = QueueLimit { messages: 9, bytes: 29 };
    assert_eq!(outbound.enqueue(exactly_once(1)), (0, &exactly_once(1)));
    assert!(outbound.has_room(10, few) && outbound.has_room(19, small) && !outbound.has_room(20, small));
    assert_eq!(outbound.enqueue(exactly_once(2)), (1, &exactly_once(2)));
    assert!(!outbound.has_room(0, few));
    assert!(!outbound.has_room(10, small), "20 bytes wait, 10 more are too many");
    assert!(outbound.has_room(u64::MAX / 2, QueueLimit::NONE));
}

#[test]
fn what_is_away_counts_and_comes_back_in_its_place() {
    let mut outbound = attached(1);
    outbound.enqueue(exactly_once(0));
    outbound.enqueue(exactly_once(1));
    let limit = QueueLimit { messages: 4, bytes: 45 };
    assert_eq!(outbound.enqueue_away(10), 2);
    assert!(!outbound.has_room(20, limit), "bytes");
    assert_eq!(outbound.enqueue_away(12), 3);
    assert!(!outbound.has_room(1, limit), "messages");
    assert_eq!((outbound.queued(), outbound.queued_here(), outbound.away()), (4, 2, 2));
    assert_eq!((outbound.next_to_return(), outbound.next_number()), (2, 4));
    assert_eq!(next(&mut outbound), Some((1, false, 0)));
    outbound.return_from_log(exactly_once(2));
    assert_eq!((outbound.queued(), outbound.away(), outbound.next_to_return()), (3, 1, 3));
    outbound.abandon(id(1));
    for number in 1..3 {
        assert_eq!(next(&mut outbound), Some((number as u16 + 1, false, number)));
        outbound.abandon(id(number as u16 + 1));
    }
    assert!(!outbound.is_clear() && !outbound.is_empty(), "one is away");
    assert_eq!(next(&mut outbound), None);
    outbound.return_from_log(exactly_once(3));
    assert_eq!(next(&mut outbound), Some((4, false, 3)));
    outbound.abandon(id(4));
    assert!(outbound.is_clear() && outbound.is_empty());
    assert!(outbound.has_room(45, limit), "no bytes are left over");
    assert_eq!(outbound.enqueue_away(45), 4);
    assert_eq!(outbound.drain().count(), 0);
    assert_eq!((outbound.away(), outbound.next_number()), (0, 5));
}

/// All 65,535 ids come round, none is given out twice while in flight, and exhaustion waits instead of failing.
#[test]
fn ids_wrap_and_are_never_reused_in_flight() {
    let mut outbound = attached(u16::MAX);
    outbound.send_now(exactly_once(0));
    let mut last = 1;
    for number in 1..65_534u32 {
        let id = outbound.send_now(at_least_once(number)).0.id;
        last = id.get();
        outbound.handle_puback(id);
    }
    assert_eq!(last, 65_534);
    assert!(!outbound.is_clear(), "id 1 is still in flight, so its turn has not come again");
    assert_eq!(outbound.handle_pubrec(id(1), true), Acknowledged::Completed(0, Some(exactly_once(0))));
    assert_eq!(outbound.send_now(exactly_once(7)).0.id, id(65_535));
    assert_eq!(outbound.send_now(exactly_once(8)).0.id, id(1));
    assert_eq!(outbound.inflight(), 2);
}

/// The oldest of a queue goes first, wherever it is, and the exchanges in flight are not touched.
#[test]
fn what_is_away_is_discarded_behind_what_is_here() {
    let mut outbound = attached(1);
    outbound.send_now(exactly_once(0));
    outbound.enqueue(exactly_once(1));
    outbound.enqueue_away(10);
    outbound.enqueue_away(10);
    assert_eq!(outbound.discard_away(), None, "one that is here is older");
    assert_eq!(outbound.discard_queued(), Some((1, exactly_once(1))));
    assert_eq!((outbound.discard_queued(), outbound.discard_away()), (None, Some(2)));
    assert_eq!((outbound.inflight(), outbound.queued(), outbound.next_to_return()), (1, 1, 3));
    outbound.abandon(id(1));
    outbound.return_from_log(exactly_once(3));
    assert_eq!(next(&mut outbound), Some((4, false, 3)), "the id still follows from the number");
}

/// Places behind an open exchange run out with the ids.
#[test]
fn no_more_can_be_discarded_than_there_are_ids() {
    let mut outbound = attached(1);
    outbound.send_now(exactly_once(0));
    for _ in 1..65_534 {
        outbound.enqueue(exactly_once(1));
        assert!(outbound.discard_queued().is_some());
    }
    outbound.enqueue(exactly_once(2));
    assert_eq!(outbound.discard_queued(), None);
    outbound.abandon(id(1));
    assert!(outbound.discard_queued().is_some());
}

/// A message that is not sent uses its number up, so that those behind it keep the ids that follow from theirs.
#[test]
fn a_discarded_message_keeps_the_numbers_of_the_others() {
    let mut outbound = attached(9);
    outbound.send_now(exactly_once(1));
    for number in 2..=4 {
        assert_eq!(outbound.enqueue(exactly_once(number)), (u64::from(number) - 1, &exactly_once(number)));
    }
    assert_eq!(outbound.discard_queued(), Some((1, exactly_once(2))));
    assert_eq!(next(&mut outbound), Some((3, false, 3)));
    assert_eq!(outbound.handle_pubrec(id(1), true), Acknowledged::Completed(0, Some(exactly_once(1))));
    assert_eq!(next(&mut outbound), Some((4, false, 4)));
    assert_eq!(outbound.inflight(), 2);
}

/// The same for messages that are taken back from anywhere in the queue, whether the client is there or not.
#[test]
fn a_withdrawn_message_keeps_the_numbers_of_the_others() {
    let mut outbound = attached(2);
    outbound.send_now(exactly_once(1));
    outbound.send_now(exactly_once(2));
    for number in 3..=7 {
        outbound.enqueue(exactly_once(number));
    }
    outbound.detach();
    let taken = outbound.withdraw(|message| [3, 5, 7].contains(&message.0));
    assert_eq!(taken, [(2, exactly_once(3)), (4, exactly_once(5)), (6, exactly_once(7))]);
    assert_eq!((outbound.queued(), outbound.next_number()), (2, 7));
    let numbers: Vec<_> = outbound
        .held_from(0)
        .filter(|(_, exchange)| !matches!(exchange, Reopened::Done))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [0, 1, 3, 5]);
    assert_eq!(resume(&mut outbound, 4), [(1, Some(1)), (2, Some(2))], "what was sent is not taken back");
    assert_eq!(next(&mut outbound), Some((4, false, 4)));
    assert_eq!(next(&mut outbound), Some((6, false, 6)));
    assert_eq!(next(&mut outbound), None);
    assert!(outbound.queued() == 0 && !outbound.is_clear(), "no slot is left");
    assert_eq!(outbound.next_queued(), None);
    for number in [1, 2, 4, 6] {
        assert!(matches!(outbound.handle_pubrec(id(number), true), Acknowledged::Completed(..)));
    }
    assert!(outbound.is_empty() && outbound.is_clear());
    assert_eq!(outbound.send_now(exactly_once(8)).0.number, 7);
}

/// The log hears of sends in advance, so that one record stands for many of them.
#[test]
fn sends_are_reserved_ahead() {
    let mut outbound = attached(u16::MAX);
    let mut reserved = Vec::new();
    for number in 0..=SENDS_RESERVED {
        let (next, sent_below) = outbound.send_now(at_least_once(number as u32));
        reserved.extend(sent_below.map(|sent_below| (next.number, sent_below)));
    }
    assert_eq!(reserved, [(0, SENDS_RESERVED), (SENDS_RESERVED, 2 * SENDS_RESERVED)]);
    assert_eq!(outbound.sent_below(), 2 * SENDS_RESERVED);
}

/// What was saved and put back goes on as if nothing had been: the same ids, the same states, the same order.
#[test]
fn a_reopened_sender_resends_what_was_open() {
    let mut before = attached(9);
    for number in 1..=4 {
        before.send_now(exactly_once(number));
    }
    before.enqueue(exactly_once(5));
    before.handle_pubrec(id(2), false);
    before.handle_pubrec(id(3), true);
    let mut after = Outbound::new(0, PlantedFault::default());
    for (number, exchange) in before.held_from(0) {
        assert_eq!(number, after.next_number());
        match exchange {
            Reopened::Unacknowledged(message) if number < before.next_to_start() => {
                after.reopen(Reopened::Unacknowledged(message.clone()));
            }
            Reopened::Unacknowledged(message) => {
                assert_eq!(after.enqueue(message.clone()), (number, message))
            }
            Reopened::AwaitingPubcomp => after.reopen(Reopened::AwaitingPubcomp),
            Reopened::Done => after.reopen(Reopened::Done),
        }
    }
    assert_eq!(resume(&mut after, 9), [(1, Some(1)), (2, None), (4, Some(4))]);
    assert_eq!(next(&mut after), Some((5, false, 5)));
    assert_eq!((after.inflight(), after.queued()), (4, 0));
    assert_eq!(before.held_from(3).map(|(number, _)| number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(before.held_from(9).count(), 0);
}

#[test]
fn drain_hands_back_every_message_still_held() {
    let mut outbound = attached(3);
    outbound.send_now(exactly_once(1));
    outbound.send_now(exactly_once(2));
    outbound.handle_pubrec(id(1), false);
    outbound.enqueue(at_least_once(3));
    let held: Vec<_> = outbound.drain().collect();
    assert_eq!(held, [(exactly_once(2), true), (at_least_once(3), false)]);
    assert!(outbound.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(bool),
    Pump,
    Acknowledge(prop::sample::Index, bool),
    Reconnect(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Enqueue),
        3 => Just(Step::Pump),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(index, refused)| Step::Acknowledge(index, refused)),
        1 => (1u16..6).prop_map(Step::Reconnect),
    ]
}

proptest! {
    /// A model client that acknowledges in any order, refuses now and then and reconnects: every message is sent, in
    /// order, once; resends carry DUP and the same id; the window is never exceeded by PUBLISHes of one connection.
    #[test]
    fn every_message_goes_out_once_and_in_order(steps in prop::collection::vec(step(), 0..300)) {
        let mut outbound = attached(3);
        let mut window = 3usize;
        // The client's view: id → (message, PUBREC sent).
        let mut open: BTreeMap<u16, (Message, bool)> = BTreeMap::new();
        let mut on_connection: BTreeMap<u16, ()> = BTreeMap::new();
        let (mut enqueued, mut first_sent) = (0, 0);
        for step in steps {
            match step {
                Step::Enqueue(qos2) => {
                    let qos = if qos2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    outbound.enqueue(Message(enqueued, qos));
                    enqueued += 1;
                }
                Step::Pump => {
                    while let Some((NextPublish { id, dup, message, .. }, _)) = outbound.next_publish() {
                        if dup {
                            prop_assert_eq!(&open[&id.get()].0, message);
                            prop_assert!(!open[&id.get()].1, "PUBLISH resent after PUBREC");
                        } else {
                            prop_assert_eq!(message.0, first_sent);
                            first_sent += 1;
                            prop_assert!(open.insert(id.get(), (message.clone(), false)).is_none(), "id reused in flight");
                        }
                        on_connection.insert(id.get(), ());
                        prop_assert!(on_connection.len() <= window);
                    }
                }
                Step::Acknowledge(index, refused) => {
                    if open.is_empty() { continue }
                    let index = index.index(open.len());
                    let (&number, (message, received)) = open.iter_mut().nth(index).expect("in range");
                    let id = id(number);
                    let outcome = match (message.1, *received) {
                        (QoS::AtLeastOnce, _) => outbound.handle_puback(id),
                        (_, false) => outbound.handle_pubrec(id, refused),
                        (_, true) => outbound.handle_pubcomp(id),
                    };
                    match outcome {
                        Acknowledged::Completed(..) => { open.remove(&number); on_connection.remove(&number); }
                        Acknowledged::Received(_, Some(_)) => { *received = true; on_connection.insert(number, ()); }
                        other => prop_assert!(false, "unexpected {:?}", other),
                    }
                }
                Step::Reconnect(new_window) => {
                    let resent = resume(&mut outbound, new_window);
                    window = usize::from(new_window).max(open.values().filter(|(_, received)| *received).count());
                    on_connection.clear();
                    for (number, (_, received)) in &open {
                        if *received { on_connection.insert(*number, ()); }
                    }
                    for (id, message) in resent {
                        match message {
                            Some(number) => {
                                prop_assert_eq!(open[&id].0.0, number);
                                prop_assert!(!open[&id].1, "PUBLISH resent after PUBREC");
                                on_connection.insert(id, ());
                            }
                            None => prop_assert!(open[&id].1, "PUBREL before PUBREC"),
                        }
                    }
                    prop_assert!(on_connection.len() <= window);
                }
            }
            prop_assert_eq!(outbound.inflight(), open.len());
        }
    }
}
