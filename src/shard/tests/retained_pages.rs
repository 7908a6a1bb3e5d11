//! Retained messages that do not come all at once.

use super::*;
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use std::collections::BTreeMap;

const PAGE: usize = 8;

/// As many topics as do not go into a session's queue at once.
const TOPICS: usize = 120;

fn paged() -> Limits {
    Limits { retained_page: PAGE as u32, max_retained_messages: 10_000, max_queued_messages: 100, ..limits() }
}

/// Shards with a retained message on each of the topics `t/0`, `t/1`, and so on, that says `old`.
fn with_topics(mut fleet: Fleet) -> Fleet {
    let publisher = fleet.connect(Version::V311, "publisher of old", true);
    for topic in 0..TOPICS {
        fleet.publish_with(publisher, &format!("t/{topic}"), "old", AtLeastOnce, 1, false, true);
    }
    fleet
}

/// What a client has got: how often each topic and payload, and whether it has SUBACK.
#[derive(Debug, Default)]
struct Taken {
    messages: BTreeMap<(String, String), usize>,
    order: Vec<(String, String)>,
    subacks: Vec<Vec<u8>>,
    /// Packet ids that are to be acknowledged.
    open: Vec<u16>,
}

impl Taken {
    fn take(&mut self, fleet: &mut Fleet, client: Client) {
        for got in fleet.got(client) {
            match got {
                Got::Publish { topic, payload, id, qos, .. } => {
                    self.order.push((topic.clone(), payload.clone()));
                    *self.messages.entry((topic, payload)).or_default() += 1;
                    self.open.extend((qos == AtLeastOnce).then_some(id));
                }
                Got::Suback(codes) => self.subacks.push(codes),
                _ => {}
            }
        }
    }

    /// Acknowledges all that comes, until nothing comes any more.
    fn take_all(&mut self, fleet: &mut Fleet, client: Client) {
        self.take(fleet, client);
        while let Some(id) = self.open.pop() {
            fleet.ack(client, AcknowledgementKind::Puback, id);
            self.take(fleet, client);
        }
    }

    fn assert_all_once(&self) {
        assert_eq!(self.messages.len(), TOPICS);
        assert!(self.messages.values().all(|copies| *copies == 1), "{:?}", self.messages);
        assert_eq!(self.subacks.len(), 1);
    }
}

fn walks(fleet: &Fleet) -> usize {
    fleet.shards.iter().map(|shard| shard.lookups.len()).sum()
}

/// [MQTT-3.3.1-6 of 3.1.1]: nothing is dropped however short the queue is, and SUBACK comes with the last page.
#[test]
fn all_retained_messages_come_however_many() {
    for shards in [1, 2, 4] {
        for qos in [AtMostOnce, AtLeastOnce] {
            for filter in ["#", "t/+", "+/#"] {
                let mut fleet = with_topics(Fleet::durable_with_limits(shards, paged()));
                let subscriber = fleet.connect(Version::V311, "subscriber", false);
                let mut taken = Taken::default();
                fleet.subscribe(subscriber, filter, qos);
                taken.take_all(&mut fleet, subscriber);
                taken.assert_all_once();
                assert_eq!((walks(&fleet), fleet.count(|counters| counters.pending_subscribes)), (0, 0));
                assert_eq!(fleet.count(|counters| counters.dropped_queue_full + counters.dropped_slow_subscriber), 0);
            }
        }
    }
}

/// A client that takes nothing gets no further page, whether it does not acknowledge or does not read; others go on.
#[test]
fn pages_wait_for_their_client() {
    for stalls in [false, true] {
        let mut fleet = with_topics(Fleet::with_limits(2, Limits { max_output_bytes: 512, ..paged() }));
        let subscriber = fleet.connect(Version::V311, "subscriber", true);
        let other = fleet.connect(Version::V311, "other", true);
        fleet.got(subscriber);
        if stalls {
            fleet.stall(subscriber);
        }
        fleet.subscribe(subscriber, "#", if stalls { AtMostOnce } else { AtLeastOnce });
        let waiting = fleet.count(|counters| counters.messages);
        assert!(waiting <= 2 * PAGE as u64 + 10, "{waiting} messages wait or are in flight");
        assert_eq!(fleet.count(|counters| counters.pending_subscribes), 1);
        fleet.publish(other, "u", "live", AtMostOnce, 0);
        fleet.subscribe(other, "t/7", AtMostOnce);
        let mut taken_by_other = Taken::default();
        taken_by_other.take(&mut fleet, other);
        assert_eq!((taken_by_other.subacks.len(), taken_by_other.messages.len()), (1, 1), "{taken_by_other:?}");
        if stalls {
            fleet.unstall(subscriber);
        }
        let mut taken = Taken::default();
        taken.take_all(&mut fleet, subscriber);
        assert_eq!(taken.messages.remove(&("u".into(), "live".into())), Some(1));
        taken.assert_all_once();
    }
}

/// What is published while the pages come: once, and never what is retained behind what has taken its place.
#[test]
fn a_message_that_is_replaced_between_two_pages_comes_once() {
    for shards in [1, 3] {
        let mut fleet = with_topics(Fleet::with_limits(shards, paged()));
        let publisher = fleet.connect(Version::V311, "publisher", true);
        let subscriber = fleet.connect(Version::V311, "subscriber", true);
        fleet.subscribe(subscriber, "t/#", AtLeastOnce);
        let mut taken = Taken::default();
        taken.take(&mut fleet, subscriber);
        assert!(taken.messages.len() < TOPICS / 2 && taken.subacks.is_empty());
        let replaced = 0..TOPICS / 2;
        for topic in replaced.clone() {
            fleet.publish_with(publisher, &format!("t/{topic}"), "new", AtLeastOnce, 1, false, true);
            taken.take(&mut fleet, subscriber);
        }
        taken.take_all(&mut fleet, subscriber);
        let mut only_new = 0;
        for topic in 0..TOPICS {
            let of_topic = taken.order.iter().filter(|(of, _)| *of == format!("t/{topic}"));
            match of_topic.map(|(_, payload)| &payload[..]).collect::<Vec<_>>()[..] {
                ["new"] if replaced.contains(&topic) => only_new += 1,
                ["old", "new"] if replaced.contains(&topic) => {}
                ["old"] if !replaced.contains(&topic) => {}
                ref other => panic!("{other:?} of {topic}"),
            }
        }
        assert!(only_new > TOPICS / 8, "{only_new}");
        assert_eq!(taken.subacks.len(), 1);
    }
}

/// A message that comes live for another client's sake before every shard knows of the SUBSCRIBE is not found again on a later
/// page.
#[test]
fn what_came_live_first_is_not_found_later() {
    let mut fleet = with_topics(Fleet::with_limits(3, paged()));
    let names: Vec<String> = (0..60).map(|number| format!("n{number}")).collect();
    let mut on = names.iter();
    let mut next_on =
        |shard: usize| on.find(|name| shard_of(name, 3).index() == shard).expect("60 names reach 3 shards").as_str();
    let earlier = fleet.connect(Version::V311, next_on(0), true);
    let subscriber = fleet.connect(Version::V311, next_on(0), true);
    let publisher = fleet.connect(Version::V311, next_on(1), true);
    fleet.subscribe(earlier, "t/#", AtMostOnce);
    fleet.got(subscriber);
    fleet.rings_flow = false;
    fleet.subscribe(subscriber, "t/#", AtLeastOnce);
    for topic in 0..TOPICS {
        fleet.publish_with(publisher, &format!("t/{topic}"), "new", AtMostOnce, 0, false, true);
    }
    fleet.flow();
    let mut taken = Taken::default();
    taken.take_all(&mut fleet, subscriber);
    assert!(taken.messages.keys().all(|(_, payload)| payload == "new"));
    assert!(
        taken.messages.len() >= TOPICS - PAGE,
        "some may be dropped, for the queue is short: {}",
        taken.messages.len()
    );
    assert!(taken.messages.values().all(|copies| *copies == 1), "{:?}", taken.messages);
    assert_eq!(taken.subacks.len(), 1);
}

/// SUBACK was not given: who loses the connection has no right to the rest, and subscribes again.
#[test]
fn a_lost_connection_ends_the_pages() {
    for shards in [1, 3] {
        let mut fleet = with_topics(Fleet::durable_with_limits(shards, paged()));
        let first = fleet.connect(Version::V311, "subscriber", false);
        fleet.subscribe(first, "#", AtLeastOnce);
        assert!(walks(&fleet) > 0);
        fleet.drop_connection(first);
        assert_eq!((walks(&fleet), fleet.count(|counters| counters.pending_subscribes)), (0, 0));
        let second = fleet.connect(Version::V311, "subscriber", true);
        fleet.subscribe(second, "#", AtLeastOnce);
        let mut taken = Taken::default();
        taken.take_all(&mut fleet, second);
        taken.assert_all_once();
    }
}

/// [MQTT-3.3.1-10]: a subscription whose retained messages did not all come is as good as new.
#[test]
fn a_subscription_without_its_last_page_is_new() {
    let mut fleet = with_topics(Fleet::durable_with_limits(2, paged()));
    let if_new = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..SubscriptionOptions::from_qos(AtLeastOnce)
    };
    let first = fleet.connect_v5("subscriber", 10);
    fleet.subscribe_with(first, "t/+", if_new);
    fleet.drop_connection(first);
    let second = fleet.connect_v5("subscriber", 10);
    fleet.subscribe_with(second, "t/+", if_new);
    let mut taken = Taken::default();
    taken.take_all(&mut fleet, second);
    assert_eq!((taken.messages.len(), taken.subacks.len()), (TOPICS, 1));
    fleet.subscribe_with(second, "t/+", if_new);
    let mut taken = Taken::default();
    taken.take_all(&mut fleet, second);
    assert_eq!((taken.messages.len(), taken.subacks.len()), (0, 1));
}

/// The same while a page is on its way between the shards.
#[test]
fn a_session_that_ends_while_its_page_is_looked_up_leaves_nothing() {
    for clean_start in [false, true] {
        let mut fleet = with_topics(Fleet::with_limits(3, paged()));
        let subscriber = fleet.connect(Version::V311, "subscriber", clean_start);
        fleet.rings_flow = false;
        fleet.subscribe(subscriber, "#", AtLeastOnce);
        fleet.drop_connection(subscriber);
        fleet.flow();
        assert_eq!((walks(&fleet), fleet.count(|counters| counters.pending_subscribes)), (0, 0));
        // The publisher's is the other one.
        assert_eq!(fleet.count(|counters| counters.sessions), 1 + u64::from(!clean_start));
    }
}

/// [MQTT-3.10.4-2]: an UNSUBSCRIBE ends the pages of its filter, and both are answered.
#[test]
fn an_unsubscribe_ends_the_pages() {
    let mut fleet = with_topics(Fleet::with_limits(2, paged()));
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    fleet.subscribe(subscriber, "#", AtLeastOnce);
    let mut taken = Taken::default();
    taken.take(&mut fleet, subscriber);
    assert!(taken.subacks.is_empty());
    fleet.unsubscribe(subscriber, "#");
    taken.take_all(&mut fleet, subscriber);
    assert_eq!((taken.subacks.len(), walks(&fleet)), (1, 0));
    assert!(taken.messages.len() < TOPICS);
}

/// SUBSCRIBEs behind one another share the room that their session has, and are answered one by one.
#[test]
fn several_subscribes_are_fed_in_turn() {
    let mut fleet = with_topics(Fleet::with_limits(2, paged()));
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    for filter in ["t/#", "+/+", "t/+"] {
        fleet.subscribe(subscriber, filter, AtLeastOnce);
    }
    let mut taken = Taken::default();
    taken.take_all(&mut fleet, subscriber);
    assert_eq!((taken.messages.len(), taken.subacks.len()), (TOPICS, 3));
    assert!(taken.messages.values().all(|copies| *copies == 3), "{:?}", taken.messages);
    assert_eq!(fleet.count(|counters| counters.dropped_queue_full), 0);
}

/// A client that subscribes and takes nothing can't make the broker remember without end.
#[test]
fn too_many_subscribes_that_wait_are_refused() {
    let mut fleet = with_topics(Fleet::with_limits(1, paged()));
    let subscriber = fleet.connect(Version::V5, "subscriber", true);
    let waiting = crate::config::WAITING_SUBSCRIBES_MAX;
    for _ in 0..waiting + 3 {
        fleet.subscribe(subscriber, "#", ExactlyOnce);
    }
    let refused = fleet.got(subscriber).into_iter().filter(|got| *got == Got::Suback(vec![0x97])).count();
    assert_eq!(refused, 3);
    assert_eq!(fleet.count(|counters| counters.pending_subscribes), waiting as u64);
}

/// A client that has shut its side gets what it need not acknowledge, and does not keep its connection for the rest.
#[test]
fn a_half_closed_subscriber_gets_what_it_can() {
    for qos in [AtMostOnce, AtLeastOnce] {
        let mut fleet = with_topics(Fleet::with_limits(2, paged()));
        let subscriber = fleet.connect(Version::V311, "subscriber", true);
        fleet.got(subscriber);
        fleet.rings_flow = false;
        fleet.subscribe(subscriber, "#", qos);
        fleet.end_of_stream(subscriber);
        fleet.flow();
        let mut taken = Taken::default();
        taken.take(&mut fleet, subscriber);
        assert!(fleet.is_closed(subscriber));
        assert_eq!((walks(&fleet), fleet.count(|counters| counters.pending_subscribes)), (0, 0));
        if qos == AtMostOnce {
            taken.assert_all_once();
        }
    }
}

/// The same if there was room for another page, and other messages have taken it. Seed 11,868 of the simulator kept such a
/// connection, and held the publishers of these messages up.
#[test]
fn a_half_closed_subscriber_is_not_waited_for_when_its_room_is_gone() {
    let mut fleet = with_topics(Fleet::with_limits(1, Limits { max_inflight: 2, ..paged() }));
    let subscriber = fleet.connect(Version::V311, "subscriber", true);
    let publisher = fleet.connect(Version::V311, "publisher", true);
    fleet.got(subscriber);
    fleet.turns_end = false;
    fleet.subscribe(subscriber, "#", AtLeastOnce);
    fleet.end_of_stream(subscriber);
    assert_eq!(fleet.got(subscriber).len(), 2);
    assert!(!fleet.is_closed(subscriber));
    for id in 1..=PAGE as u16 {
        fleet.publish(publisher, "new", "new", AtLeastOnce, id);
    }
    fleet.turns_end = true;
    fleet.run();
    assert!(fleet.is_closed(subscriber));
    assert_eq!((walks(&fleet), fleet.count(|counters| counters.pending_subscribes)), (0, 0));
}

/// What a session got live at QoS 0, for another subscription, comes with its page all the same if that makes it surer, and only
/// then. Seed 13,943 of the simulator lost a message, and 7,109 had one twice.
#[test]
fn what_was_live_at_qos_0_counts_as_seen_for_qos_0_only() {
    for (granted, sure, unsure) in [(AtMostOnce, 0, 40), (AtLeastOnce, 40, 40)] {
        let mut fleet = with_topics(Fleet::with_limits(2, paged()));
        let subscriber = fleet.connect(Version::V311, "subscriber", true);
        fleet.subscribe(subscriber, "#", AtMostOnce);
        Taken::default().take_all(&mut fleet, subscriber);
        let is_near = |name: &String| shard_of(name, 2) == shard_of("subscriber", 2);
        let near = (0..).map(|number| format!("publisher-{number}")).find(is_near).expect("half of all names are");
        let publisher = fleet.connect(Version::V311, &near, true);
        fleet.rings_flow = false;
        // While this one waits for the other shard, everything live is held back.
        fleet.subscribe(subscriber, "other", AtLeastOnce);
        for topic in 0..40 {
            fleet.publish_with(publisher, &format!("t/{topic}"), "new", AtLeastOnce, topic + 1, false, true);
        }
        fleet.subscribe(subscriber, "t/+", granted);
        fleet.flow();
        let (mut at_least_once, mut at_most_once) = (0, 0);
        loop {
            let got = fleet.got(subscriber);
            if got.is_empty() {
                break;
            }
            for packet in got {
                let Got::Publish { payload, qos, id, .. } = packet else { continue };
                let is_new = usize::from(payload == "new");
                if qos == AtLeastOnce {
                    at_least_once += is_new;
                    fleet.ack(subscriber, AcknowledgementKind::Puback, id);
                } else {
                    at_most_once += is_new;
                }
            }
        }
        assert_eq!((at_least_once, at_most_once), (sure, unsure), "{granted:?}");
    }
}
