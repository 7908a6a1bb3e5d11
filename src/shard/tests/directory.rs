//! What an operator sees of a shard and does to it: reports, clients, the end of a connection, messages.

use super::*;
use crate::proto::PacketType;
use crate::store::LogPosition;
use AcknowledgementKind::{Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, ExactlyOnce};
use Version::{V5, V311};

/// The report of one shard behind a whole census.
fn report(fleet: &Fleet, shard: usize) -> ShardReport {
    let shard = &fleet.shards[shard];
    let mut census = Census::default();
    while !shard.continue_census(&mut census) {}
    shard.report(&census)
}

#[test]
fn exchanges_are_counted_by_their_states() {
    let mut fleet = Fleet::new(1);
    let publisher = fleet.connect(V311, "publisher", true);
    let subscriber = fleet.connect_v5("subscriber", 3);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let exchanges = |fleet: &Fleet| {
        let Exchanges { awaiting_pubrel, awaiting_puback, awaiting_pubrec, awaiting_pubcomp, queued, queued_bytes } =
            report(fleet, 0).exchanges;
        [awaiting_pubrel, awaiting_puback, awaiting_pubrec, awaiting_pubcomp, queued, queued_bytes]
    };
    assert_eq!(exchanges(&fleet), [0; 6]);
    fleet.publish(publisher, "t", "one", ExactlyOnce, 1);
    fleet.publish(publisher, "t", "two", ExactlyOnce, 2);
    fleet.publish(publisher, "t", "three", AtLeastOnce, 3);
    fleet.publish(publisher, "t", "four", ExactlyOnce, 4);
    let bytes = exchanges(&fleet)[5];
    assert!(bytes > 0);
    assert_eq!(exchanges(&fleet), [3, 1, 2, 0, 1, bytes]);
    fleet.ack(publisher, Pubrel, 1);
    fleet.ack(subscriber, Pubrec, 1);
    assert_eq!(exchanges(&fleet), [2, 1, 1, 1, 1, bytes]);
    fleet.ack(subscriber, Pubcomp, 1);
    assert_eq!(exchanges(&fleet), [2, 1, 2, 0, 0, 0]);
    let report = report(&fleet, 0);
    assert_eq!((report.connected, report.counters.sessions, report.counters.subscriptions), (2, 2, 1));
    assert_eq!(report.received.of_type(PacketType::Publish), 4);
    assert_eq!([AtLeastOnce, ExactlyOnce].map(|qos| report.received.publishes(qos)), [1, 3]);
    assert_eq!([AtLeastOnce, ExactlyOnce].map(|qos| report.sent.publishes(qos)), [1, 3]);
    assert_eq!(report.received.of_type(PacketType::Connect), 2);
    assert_eq!(report.sent.of_type(PacketType::Pubrec), 3);
    assert_eq!(report.counters, Counters { subscriptions: 1, ..fleet.shards[0].counters() });
    assert!(report.log.is_none());
}

/// However many there are, a piece of a census is bounded, and the sum of the pieces is whole.
#[test]
fn a_census_goes_on_where_it_stopped() {
    let mut fleet = Fleet::with_limits(1, Limits { max_inflight: 1000, ..limits() });
    let publisher = fleet.connect(V311, "publisher", true);
    const SUBSCRIBERS: usize = 100;
    const MESSAGES: u16 = 100;
    for number in 0..SUBSCRIBERS {
        let subscriber = fleet.connect_v5(&format!("subscriber-{number}"), 1000);
        fleet.subscribe(subscriber, "t", ExactlyOnce);
    }
    for id in 1..=MESSAGES {
        fleet.publish(publisher, "t", "x", ExactlyOnce, id);
        fleet.ack(publisher, Pubrel, id);
    }
    let mut census = Census::default();
    let pieces = 1 + (0..).take_while(|_| !fleet.shards[0].continue_census(&mut census)).count();
    assert!(pieces > 1);
    let exchanges = fleet.shards[0].report(&census).exchanges;
    assert_eq!(exchanges.awaiting_pubrec, SUBSCRIBERS as u64 * u64::from(MESSAGES));
}

#[test]
fn clients_are_found_page_by_page() {
    let mut fleet = Fleet::durable(1);
    for number in 0..10 {
        fleet.connect(V311, &format!("client-{number}"), false);
    }
    let subscriber = fleet.connect_v5("other", 7);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    let shard = &fleet.shards[0];
    let ids = |page: &ClientPage| page.clients.iter().map(|client| client.client_id.to_string()).collect::<Vec<_>>();
    let first = shard.clients(0, 4, "client-");
    assert_eq!(ids(&first), ["client-0", "client-1", "client-2", "client-3"]);
    let second = shard.clients(first.next.expect("there are more"), 100, "client-");
    assert_eq!(ids(&second).len(), 6);
    assert_eq!(second.next, None);
    assert_eq!(shard.clients(1_000_000, 10, ""), ClientPage::default());
    let other = shard.client("other").expect("it is there");
    assert_eq!((other.subscriptions, other.is_durable, other.disconnected_at), (1, true, None));
    assert_eq!(other.connection.map(|connection| (connection.version, connection.bridge)), Some((V5, None)));
    assert_eq!(shard.client("nobody"), None);
    fleet.drop_connection(subscriber);
    let other = fleet.shards[0].client("other").expect("its session outlives its connection");
    assert!(other.connection.is_none() && other.disconnected_at.is_some());
}

/// A session ends on request as it does when its time is over, and its queue and subscriptions with it, for good.
#[test]
fn a_session_ends_on_request_while_its_client_is_away() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", true);
    let client = fleet.connect_with_will("client", 60, 30);
    fleet.subscribe(client, "t", ExactlyOnce);
    let watcher = fleet.connect(V311, "watcher", true);
    fleet.subscribe(watcher, "will", ExactlyOnce);
    fleet.got(watcher);
    let now = fleet.now;
    assert_eq!(fleet.shards[0].handle_session_removal(now, "client"), Err(NotRemoved::Connected));
    assert_eq!(fleet.shards[0].handle_session_removal(now, "nobody"), Err(NotRemoved::NothingThere));
    assert_eq!(fleet.shards[0].handle_session_removal(now, "$bridge/up"), Err(NotRemoved::OfTheBroker));
    fleet.drop_connection(client);
    fleet.publish(publisher, "t", "waits", ExactlyOnce, 1);
    assert_eq!(fleet.got(watcher), [], "the will is delayed");
    fleet.logs_flow = false;
    let after = fleet.shards[0].handle_session_removal(now, "client").expect("it is away");
    assert!(!fleet.shards[0].log().is_stable(after));
    fleet.sync();
    assert!(fleet.shards[0].log().is_stable(after));
    // [MQTT-3.1.2-8]: its will is due at the latest with the end of the session.
    assert!(matches!(&fleet.got(watcher)[..], [Got::Publish { topic, .. }] if topic == "will"));
    assert_eq!(fleet.count(|counters| counters.queued + counters.messages + counters.subscriptions), 1 + 1);
    fleet.crash(Duration::from_secs(1));
    assert_eq!(fleet.shards[0].client("client"), None);
}

#[test]
fn subscriptions_are_told_with_what_was_asked_for() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_v5("client", 7);
    // More subscribers of one filter than are searched one by one.
    for number in 0..40 {
        let other = fleet.connect(V311, &format!("other-{number}"), true);
        fleet.subscribe(other, "t/+", AtLeastOnce);
    }
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::from_qos(ExactlyOnce) };
    fleet.subscribe_with(client, "t/+", options);
    fleet.subscribe(client, "$share/group/u", AtLeastOnce);
    let told = fleet.shards[0].subscriptions_of("client", 10).expect("it is there");
    let told: Vec<_> = told.iter().map(|told| (&*told.filter, told.subscription.options)).collect();
    assert_eq!(told, [("t/+", options), ("$share/group/u", SubscriptionOptions::from_qos(AtLeastOnce))]);
    assert_eq!(fleet.shards[0].subscriptions_of("client", 1).map(|told| told.len()), Some(1));
    assert_eq!(fleet.shards[0].subscriptions_of("nobody", 10), None);
}

#[test]
fn retained_messages_are_listed_page_by_page_and_removed_for_good() {
    let mut fleet = Fleet::durable(1);
    let publisher = fleet.connect(V311, "publisher", true);
    for number in 0..10 {
        fleet.publish_with(publisher, &format!("r/{number}"), "22.5", AtLeastOnce, 1, false, true);
    }
    fleet.publish_with(publisher, "s", "other", AtLeastOnce, 1, false, true);
    let now = fleet.now;
    let shard = &fleet.shards[0];
    let first = shard.retained_messages(now, 0, 4, "r/+");
    assert_eq!(first.messages.len(), 4);
    let second = shard.retained_messages(now, first.next.expect("there are more"), 100, "r/+");
    assert_eq!((second.messages.len(), second.next), (6, None));
    assert!(first.messages.iter().all(|one| !second.messages.contains(one)), "each comes once");
    assert_eq!(shard.retained_messages(now, 1_000_000, 10, "#"), RetainedPage::default());
    assert_eq!(shard.retained_messages(now, 0, 10, "no/#/filter"), RetainedPage::default());
    let (report, payload) = shard.retained_message(now, "s").expect("it is retained");
    assert_eq!((&*report.topic, report.qos, report.expires_in), ("s", AtLeastOnce, None));
    assert_eq!(payload.as_deref(), Some(&b"other"[..]));
    assert_eq!(shard.retained_message(now, "r/+"), None);
    fleet.logs_flow = false;
    let shard = &mut fleet.shards[0];
    for (topic, reason) in [("x", NotRemoved::NothingThere), ("r/#", NotRemoved::NothingThere)] {
        assert_eq!(shard.handle_retained_removal(now, topic), Err(reason), "{topic}");
    }
    assert_eq!(shard.handle_retained_removal(now, "$SYS/x"), Err(NotRemoved::OfTheBroker));
    let after = shard.handle_retained_removal(now, "s").expect("it is retained");
    assert!(!shard.log().is_stable(after));
    assert_eq!(shard.retained_message(now, "s"), None);
    fleet.sync();
    assert!(fleet.shards[0].log().is_stable(after));
    fleet.crash(Duration::from_secs(1));
    assert_eq!(fleet.shards[0].retained_messages(now, 0, 100, "#").messages.len(), 10);
}

#[test]
fn a_dismissed_client_hears_why_and_keeps_its_session() {
    let mut fleet = Fleet::new(1);
    let client = fleet.connect_v5("client", 7);
    fleet.got(client);
    let now = fleet.now;
    assert!(fleet.shards[0].handle_dismissal(now, "client"));
    fleet.run();
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::AdministrativeAction)]);
    assert!(!fleet.shards[0].handle_dismissal(now, "client"), "it is not connected any more");
    assert!(!fleet.shards[0].handle_dismissal(now, "nobody"));
    assert!(fleet.shards[0].client("client").is_some());
}

#[test]
fn an_announcement_is_routed_and_safe_when_the_log_is() {
    let mut fleet = Fleet::durable(1);
    let subscriber = fleet.connect(V311, "subscriber", false);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.got(subscriber);
    fleet.logs_flow = false;
    let now = fleet.now;
    let nobody = fleet.shards[0].handle_announcement(now, "nobody/listens", b"x", ExactlyOnce, false);
    assert_eq!(nobody, Ok(LogPosition::NOTHING));
    let after = fleet.shards[0].handle_announcement(now, "t", b"x", ExactlyOnce, false).expect("accepted");
    assert!(!fleet.shards[0].log().is_stable(after));
    fleet.sync();
    assert!(fleet.shards[0].log().is_stable(after));
    assert_eq!(fleet.got(subscriber).len(), 1);
    for (topic, text) in [("t/#", "not a valid topic name"), ("$SYS/x", "the topic is one of the broker's own")] {
        assert_eq!(fleet.shards[0].handle_announcement(now, topic, b"x", ExactlyOnce, false), Err(text));
    }
}
