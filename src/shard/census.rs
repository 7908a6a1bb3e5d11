//! What a shard says of itself to its operator: the counts of [`Counters`], packets by type, the exchanges by their state, the letters
//! that wait, and the log.
//!
//! Nothing is kept for it beside plain sums. What only a walk over the exchange tables tells is counted in a [`Census`], a
//! bounded piece at a time: sessions exchange on meanwhile, so on a busy shard it is true of no single moment.

use crate::proto::PacketType;
use crate::route::ShardId;
use crate::store::LogFailure;

use super::{Counters, Latencies, PacketCounts, Shard};

/// Tables and exchanges that one piece of a census visits; the last table may go beyond that by what one client may have in
/// flight. Some hundred microseconds.
const VISITS_PER_PIECE: usize = 4096;

/// What the exchange tables hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exchanges {
    /// QoS 2 messages of publishers that await PUBREL.
    pub awaiting_pubrel: u64,
    /// QoS 1 messages to subscribers that await PUBACK.
    pub awaiting_puback: u64,
    /// QoS 2 messages to subscribers that await PUBREC.
    pub awaiting_pubrec: u64,
    /// QoS 2 messages to subscribers that await PUBCOMP.
    pub awaiting_pubcomp: u64,
    /// Messages that wait for a slot, or for their subscriber to come back.
    pub queued: u64,
    /// Payload bytes of these.
    pub queued_bytes: u64,
}

/// A count of the exchange tables that goes on.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The next table: those of receivers first, those of senders behind them.
    place: usize,
    sum: Exchanges,
}

/// A shard as its operator sees it.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// What there is and what there was. Subscriptions are those of the tree: a group of a shared one counts once, where its
    /// home is.
    pub counters: Counters,
    /// Sessions whose clients are connected.
    pub connected: u64,
    /// The exchanges.
    pub exchanges: Exchanges,
    /// Packets received.
    pub received: PacketCounts,
    /// Packets sent.
    pub sent: PacketCounts,
    /// Letters that wait, by the shard that they are for.
    pub letters: Vec<u64>,
    /// How long messages took.
    pub latencies: Latencies,
    /// The log; none with `--durability none`.
    pub log: Option<LogReport>,
}

/// A log as its shard sees it.
#[derive(Clone, Copy, Debug)]
pub struct LogReport {
    /// Records appended since the start.
    pub records: u64,
    /// Length of the segments that are needed.
    pub segment_bytes: u64,
    /// Why nothing becomes stable any more, if so.
    pub failure: Option<LogFailure>,
    /// Whether it is as long as it may be.
    pub is_at_limit: bool,
}

impl Shard {
    /// Counts a piece more; whether the census is through.
    pub fn continue_census(&self, census: &mut Census) -> bool {
        let sessions = &self.clients.sessions;
        let mut visits = 0;
        while visits < VISITS_PER_PIECE {
            let Some(found) = sessions.table_at(census.place) else { return true };
            visits += 1 + found.map_or(0, |table| table.count_into(&mut census.sum));
            census.place += 1;
        }
        false
    }

    /// The report that belongs to a census. Walks over nothing.
    pub fn report(&self, census: &Census) -> ShardReport {
        let clients = &self.clients;
        let log = &clients.log;
        ShardReport {
            counters: Counters {
                subscriptions: self.subscriptions.subscriptions() as u64,
                ..self.counters_with(census.sum)
            },
            connected: clients.attached,
            exchanges: census.sum,
            received: clients.received.clone(),
            sent: clients.encoder.sent.clone(),
            letters: (0..self.shards).filter_map(ShardId::new).map(|to| clients.outbox.waiting(to)).collect(),
            latencies: clients.sampling.latencies,
            log: log.is_on().then(|| LogReport {
                records: log.records(),
                segment_bytes: log.bytes(),
                failure: log.failure(),
                is_at_limit: clients.is_log_at_limit,
            }),
        }
    }

    /// What there is and what there was. Walks sessions and exchange tables: not for every turn.
    pub fn counters(&self) -> Counters {
        let mut census = Census::default();
        while !self.continue_census(&mut census) {}
        Counters { subscriptions: self.clients.sessions.subscriptions() as u64, ..self.counters_with(census.sum) }
    }

    fn counters_with(&self, exchanges: Exchanges) -> Counters {
        let clients = &self.clients;
        let Exchanges { awaiting_pubrel, awaiting_puback, awaiting_pubrec, awaiting_pubcomp, queued, queued_bytes: _ } =
            exchanges;
        Counters {
            connections: clients.connections.len() as u64,
            sessions: clients.sessions.len() as u64,
            shared_groups: self.groups.len() as u64,
            messages: clients.messages.len() as u64,
            inbound_inflight: awaiting_pubrel,
            outbound_inflight: awaiting_puback + awaiting_pubrec + awaiting_pubcomp,
            queued,
            retained: self.retained.len() as u64,
            pending_subscribes: self.subscribing.len() as u64,
            lookups: self.lookups.len() as u64,
            waiting_letters: clients.outbox.len() as u64,
            unacknowledged_letters: clients.links.unacknowledged() as u64,
            packets_received: clients.received.total(),
            packets_sent: clients.encoder.sent.total(),
            publishes_received: clients.received.of_type(PacketType::Publish),
            publishes_sent: clients.encoder.sent.of_type(PacketType::Publish),
            payload_bytes_sent: clients.encoder.payload_bytes,
            ..clients.counters
        }
    }
}
