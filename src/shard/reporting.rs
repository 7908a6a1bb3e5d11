//! What the broker says of itself on `$SYS`: the first shard asks all for what they have counted, adds it up and publishes it.
//!
//! The messages have QoS 0 and are retained, but nothing of them is logged: a subscriber whose session outlives the broker finds no
//! queue of old figures when it comes back, and no start finds those of the run before. Clients cannot publish to these
//! topics ([`topics`](super::topics)).
//!
//! The question goes round anew with every interval. A shard that has not answered by then, because its ring is full, is not
//! waited for: this time nothing is said.

use std::time::Duration;

use crate::proto::{PacketType, QoS};
use crate::route::{Letter, Message, ShardId, ShardSet, TopicName};
use crate::system_topics::{SystemTopics, Tally};
use crate::time::Timestamp;

use super::publishing::Owner;
use super::{Shard, TimerKey};

/// The shard that reports.
const REPORTER: ShardId = ShardId::FIRST;

#[derive(Debug)]
pub(super) struct Reporting {
    interval: Option<Duration>,
    topics: SystemTopics,
    /// Numbers the questions.
    round: u64,
    /// What was answered to the last one, and who has not yet.
    sum: Tally,
    awaited: ShardSet,
}

impl Reporting {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            topics: SystemTopics::default(),
            round: 0,
            sum: Tally::default(),
            awaited: ShardSet::default(),
        }
    }
}

impl Shard {
    /// Sees to the first report, which is due at once.
    pub(super) fn begin_reports(&mut self) {
        if self.clients.id == REPORTER && self.reporting.interval.is_some() {
            self.clients.timers.arm(Timestamp::default(), TimerKey::Report);
        }
    }

    /// It is time for a report.
    pub(super) fn publish_report(&mut self) {
        let Some(interval) = self.reporting.interval else { return };
        self.clients.timers.arm(self.clients.now + interval, TimerKey::Report);
        self.reporting.round += 1;
        self.reporting.awaited = (0..self.shards).filter_map(ShardId::new).collect();
        self.reporting.sum = Tally::default();
        let round = self.reporting.round;
        self.tell_others(|| Letter::TallyAsked { round });
        self.handle_tallied(REPORTER, round, self.tally());
    }

    pub(super) fn handle_tally_asked(&mut self, by: ShardId, round: u64) {
        let tally = Box::new(self.tally());
        self.clients.outbox.post(by, Letter::Tallied { round, tally });
    }

    /// A shard has said what it counts.
    pub(super) fn handle_tallied(&mut self, by: ShardId, round: u64, tally: Tally) {
        if round != self.reporting.round || !self.reporting.awaited.remove(by) {
            return;
        }
        self.reporting.sum += tally;
        if !self.reporting.awaited.is_empty() {
            return;
        }
        let sum = self.reporting.sum;
        for (topic, payload) in self.reporting.topics.report(self.clients.now, &sum) {
            let message = Message::new(&topic, &[], payload.as_bytes(), QoS::AtMostOnce, true, None);
            let topic = TopicName::parse(&topic).expect("the broker's own topics are topics");
            self.route(Owner::Broker, None, topic, message);
        }
    }

    /// What this shard counts. Walks over nothing.
    fn tally(&self) -> Tally {
        let clients = &self.clients;
        let counters = &clients.counters;
        let (away, away_bytes) = clients.backlogs.size();
        Tally {
            connected: clients.attached,
            sessions: clients.sessions.len() as u64,
            sessions_expired: counters.sessions_expired,
            connects: counters.connects,
            packets_received: clients.received.total(),
            packets_sent: clients.encoder.sent.total(),
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            publishes_received: clients.received.of_type(PacketType::Publish),
            publishes_sent: clients.encoder.sent.of_type(PacketType::Publish),
            publishes_dropped: counters.dropped(),
            payload_bytes_received: counters.payload_bytes_received,
            payload_bytes_sent: clients.encoder.payload_bytes,
            subscriptions: self.subscriptions.subscriptions() as u64,
            retained: self.retained.len() as u64,
            stored: clients.messages.len() as u64 + away + self.retained.len() as u64,
            stored_bytes: clients.messages.bytes() + away_bytes + self.retained.bytes(),
        }
    }
}
