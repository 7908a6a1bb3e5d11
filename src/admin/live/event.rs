//! What an event says: of all shards together, and of each.
//!
//! Gauges are as they are now. What only goes up is told by the second (`per_second`), and times as percentiles of what came
//! since the event before. All times are in seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::io::{Distribution, Doors, ShardFigures};
use crate::proto::{PacketType, QoS};
use crate::store::LogFailure;

use super::super::asking::ask_all;
use super::super::health::{DRAINING, READY, RECOVERING, Severity, complaint};
use super::super::interval::{add, per_second, quantile, since};
use super::super::{Context, Stage};

/// All figures at one moment.
pub(super) struct Sample {
    taken: Instant,
    date: SystemTime,
    started: SystemTime,
    stage: &'static str,
    connections_max: Option<u32>,
    /// None of a shard that does not answer.
    shards: Vec<Option<ShardFigures>>,
}

impl Sample {
    /// Asks all shards.
    pub(super) async fn take(context: &Context) -> Self {
        let (stage, broker) = match context.stage() {
            Stage::Recovering => (RECOVERING, None),
            Stage::Serving(broker) => (READY, Some(broker)),
            Stage::Draining(broker) => (DRAINING, Some(broker)),
        };
        let (connections_max, shards) = match broker {
            None => (None, Vec::new()),
            Some(broker) => (Some(broker.permits.max()), ask_all(&broker.doors, Doors::figures).await),
        };
        Self {
            taken: Instant::now(),
            date: SystemTime::now(),
            started: context.started,
            stage,
            connections_max,
            shards,
        }
    }

    /// As `/readyz` says it.
    fn state(&self) -> String {
        let failure = |figures: &ShardFigures| figures.shard.log.and_then(|log| log.failure);
        let health = self.shards.iter().map(|figures| figures.as_ref().map(failure)).collect();
        let complaint = complaint(&health, Severity::Useless).filter(|_| self.stage == READY);
        complaint.unwrap_or_else(|| self.stage.to_owned())
    }
}

/// A figure of a shard, with the name that events have for it.
type Figure = (&'static str, fn(&ShardFigures) -> u64);

/// What there is.
const GAUGES: [Figure; 15] = [
    ("connections", |figures| figures.shard.counters.connections),
    ("sessions_connected", |figures| figures.shard.connected),
    ("sessions_away", |figures| figures.shard.counters.sessions - figures.shard.connected),
    ("subscriptions", |figures| figures.shard.counters.subscriptions),
    ("retained_messages", |figures| figures.shard.counters.retained),
    ("messages_held", |figures| figures.shard.counters.messages),
    ("queued_messages", |figures| figures.shard.exchanges.queued),
    ("queued_bytes", |figures| figures.shard.exchanges.queued_bytes),
    ("in_awaiting_pubrel", |figures| figures.shard.exchanges.awaiting_pubrel),
    ("out_awaiting_puback", |figures| figures.shard.exchanges.awaiting_puback),
    ("out_awaiting_pubrec", |figures| figures.shard.exchanges.awaiting_pubrec),
    ("out_awaiting_pubcomp", |figures| figures.shard.exchanges.awaiting_pubcomp),
    ("letters_waiting", |figures| figures.shard.letters.iter().sum()),
    ("ring_batches", |figures| figures.ring_batches.iter().sum()),
    ("log_segment_bytes", |figures| figures.shard.log.map_or(0, |log| log.segment_bytes)),
];

/// What has happened.
const TOTALS: [Figure; 21] = [
    ("messages_in_qos0", |figures| figures.shard.received.publishes(QoS::AtMostOnce)),
    ("messages_in_qos1", |figures| figures.shard.received.publishes(QoS::AtLeastOnce)),
    ("messages_in_qos2", |figures| figures.shard.received.publishes(QoS::ExactlyOnce)),
    ("messages_out_qos0", |figures| figures.shard.sent.publishes(QoS::AtMostOnce)),
    ("messages_out_qos1", |figures| figures.shard.sent.publishes(QoS::AtLeastOnce)),
    ("messages_out_qos2", |figures| figures.shard.sent.publishes(QoS::ExactlyOnce)),
    ("bytes_in", |figures| figures.shard.counters.bytes_received),
    ("bytes_out", |figures| figures.shard.counters.bytes_sent),
    ("pubrec_in", |figures| figures.shard.received.of_type(PacketType::Pubrec)),
    ("pubrec_out", |figures| figures.shard.sent.of_type(PacketType::Pubrec)),
    ("pubrel_in", |figures| figures.shard.received.of_type(PacketType::Pubrel)),
    ("pubrel_out", |figures| figures.shard.sent.of_type(PacketType::Pubrel)),
    ("pubcomp_in", |figures| figures.shard.received.of_type(PacketType::Pubcomp)),
    ("pubcomp_out", |figures| figures.shard.sent.of_type(PacketType::Pubcomp)),
    ("connects", |figures| figures.shard.counters.connects),
    ("duplicates_suppressed", |figures| figures.shard.counters.duplicates_suppressed),
    ("dropped", |figures| drops(figures).map(|(_, count)| count).sum()),
    ("commits", |figures| figures.disk.as_ref().map_or(0, |disk| disk.commits.count)),
    ("log_records", |figures| figures.shard.log.map_or(0, |log| log.records)),
    ("log_bytes", |figures| figures.disk.as_ref().map_or(0, |disk| disk.bytes)),
    ("turns", |figures| figures.turns.count),
];

/// How long something took.
type Times = (&'static str, fn(&ShardFigures) -> Option<&Distribution>);

const TIMES: [Times; 3] = [
    ("latency_seconds", |figures| Some(&figures.latencies)),
    ("commit_seconds", |figures| figures.disk.as_ref().map(|disk| &disk.commits)),
    ("turn_seconds", |figures| Some(&figures.turns)),
];

const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// Messages that did not get to a client or were not kept, by reason.
fn drops(figures: &ShardFigures) -> impl Iterator<Item = (&'static str, u64)> {
    figures.shard.counters.rows().filter_map(|(name, _, count)| Some((name.strip_prefix("dropped_")?, count)))
}

/// The event.
pub(super) fn describe(before: Option<&Sample>, now: &Sample) -> Value {
    let interval = before.map(|before| now.taken.duration_since(before.taken));
    let known = |shard: usize| before.and_then(|before| before.shards.get(shard)?.as_ref());
    let shards: Vec<Option<Scope>> = now
        .shards
        .iter()
        .enumerate()
        .map(|(shard, figures)| figures.as_ref().map(|figures| Scope::of(known(shard), figures)))
        .collect();
    let mut total = Scope::default();
    shards.iter().flatten().for_each(|shard| total.add(shard));
    let describe_shard = |(shard, scope): (usize, &Option<Scope>)| {
        let mut described = scope.as_ref()?.describe(interval);
        described.insert("log".into(), log_state(now.shards[shard].as_ref()?).into());
        Some(described)
    };
    json!({
        "time": now.date.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        "interval_seconds": interval.map(|interval| interval.as_secs_f64()),
        "state": now.state(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": now.date.duration_since(now.started).unwrap_or_default().as_secs(),
        "connections_max": now.connections_max,
        "total": total.describe(interval),
        "shards": shards.iter().enumerate().map(describe_shard).collect::<Vec<_>>(),
    })
}

/// How the log of a shard is.
fn log_state(figures: &ShardFigures) -> &'static str {
    match figures.shard.log {
        None => "off",
        Some(log) => match log.failure {
            Some(LogFailure::NoSpace) => "failed: no_space",
            Some(LogFailure::Io) => "failed: io",
            None if log.is_at_limit => "at_limit",
            None => "ok",
        },
    }
}

/// The figures of one shard, or of several together.
#[derive(Default)]
struct Scope {
    gauges: [u64; GAUGES.len()],
    /// By how much they have moved; none of what was not known before.
    moved: Option<[u64; TOTALS.len()]>,
    /// What came to them; nothing where nothing is measured.
    times: [Option<Distribution>; TIMES.len()],
    /// Since the start.
    drops: Vec<(&'static str, u64)>,
}

impl Scope {
    fn of(before: Option<&ShardFigures>, now: &ShardFigures) -> Self {
        Self {
            gauges: GAUGES.map(|(_, gauge)| gauge(now)),
            moved: before.map(|before| TOTALS.map(|(_, total)| total(now).saturating_sub(total(before)))),
            times: TIMES.map(|(_, times)| Some(since(times(now)?, times(before?)?))),
            drops: drops(now).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.gauges.iter_mut().zip(&other.gauges).for_each(|(sum, gauge)| *sum += gauge);
        if let Some(moved) = &other.moved {
            let sums = self.moved.get_or_insert_default();
            sums.iter_mut().zip(moved).for_each(|(sum, moved)| *sum += moved);
        }
        for (sum, times) in self.times.iter_mut().zip(&other.times) {
            if let Some(times) = times {
                add(sum.get_or_insert_default(), times);
            }
        }
        if self.drops.is_empty() {
            self.drops.clone_from(&other.drops);
        } else {
            self.drops.iter_mut().zip(&other.drops).for_each(|((_, sum), (_, count))| *sum += count);
        }
    }

    fn describe(&self, interval: Option<Duration>) -> Map<String, Value> {
        let mut described = Map::new();
        for ((name, _), gauge) in GAUGES.iter().zip(self.gauges) {
            described.insert((*name).into(), gauge.into());
        }
        let rates = self.moved.zip(interval).map(|(moved, interval)| {
            let rate = |((name, _), moved): (&Figure, u64)| ((*name).into(), per_second(moved, interval).into());
            TOTALS.iter().zip(moved).map(rate).collect::<Map<_, _>>()
        });
        described.insert("per_second".into(), rates.into());
        for ((name, _), times) in TIMES.iter().zip(&self.times) {
            described.insert((*name).into(), times.as_ref().and_then(percentiles).into());
        }
        let drops = self.drops.iter().map(|(reason, count)| ((*reason).into(), (*count).into()));
        described.insert("dropped".into(), drops.collect::<Map<_, _>>().into());
        described
    }
}

/// None of nothing.
fn percentiles(of: &Distribution) -> Option<Map<String, Value>> {
    let mut described = Map::new();
    described.insert("count".into(), of.count.into());
    for (name, part) in PERCENTILES {
        let seconds = quantile(of, part)?;
        // Nanoseconds are more than is known.
        described.insert(name.into(), ((seconds * 1e9).round() / 1e9).into());
    }
    Some(described)
}

#[cfg(test)]
mod tests {
    use super::super::super::metrics::testing::figures_of;
    use super::*;

    fn sample(taken: Instant, shards: Vec<Option<ShardFigures>>) -> Sample {
        let (date, started) = (UNIX_EPOCH + Duration::from_millis(90_500), UNIX_EPOCH + Duration::from_secs(60));
        Sample { taken, date, started, stage: READY, connections_max: Some(100), shards }
    }

    #[test]
    fn rates_are_of_the_time_between_two_events() {
        let began = Instant::now();
        let mut shard = figures_of(0, 2);
        shard.shard.counters.bytes_received = 500;
        shard.shard.counters.dropped_queue_full = 2;
        shard.shard.counters.sessions = 5;
        shard.shard.connected = 3;
        let first = sample(began, vec![Some(shard.clone()), Some(figures_of(1, 2))]);
        let event = describe(None, &first);
        assert_eq!((&event["interval_seconds"], &event["total"]["per_second"]), (&Value::Null, &Value::Null));
        assert_eq!((&event["time"], &event["uptime_seconds"]), (&json!(90.5), &json!(30)));
        assert_eq!((&event["state"], &event["connections_max"]), (&json!("ready"), &json!(100)));
        assert_eq!(event["total"]["sessions_away"], 2);
        assert_eq!(event["total"]["dropped"]["queue_full"], 2);
        shard.shard.counters.bytes_received += 300;
        shard.shard.counters.dropped_queue_full += 4;
        shard.turns = Distribution { within: vec![(0.5, 8), (1.0, 16)], count: 16, sum: Duration::from_secs(9) };
        let mut before = first;
        before.shards[0].as_mut().expect("it answers").turns =
            Distribution { within: vec![(0.5, 8), (1.0, 8)], count: 8, sum: Duration::from_secs(1) };
        let second = sample(began + Duration::from_secs(2), vec![Some(shard), None]);
        let event = describe(Some(&before), &second);
        assert_eq!(event["interval_seconds"], 2.0);
        assert_eq!(event["state"], "shard 1 does not answer");
        for scope in [&event["total"], &event["shards"][0]] {
            assert_eq!(scope["per_second"]["bytes_in"], 150.0);
            assert_eq!(scope["per_second"]["dropped"], 2.0);
            assert_eq!(scope["per_second"]["turns"], 4.0);
            assert_eq!((&scope["turn_seconds"]["count"], &scope["turn_seconds"]["p50"]), (&json!(8), &json!(0.75)));
            assert_eq!(scope["commit_seconds"], Value::Null);
        }
        assert_eq!((&event["shards"][0]["log"], &event["shards"][1]), (&json!("off"), &Value::Null));
    }

    #[test]
    fn a_shard_that_was_silent_has_no_rates_yet() {
        let began = Instant::now();
        let before = sample(began, vec![None, Some(figures_of(1, 2))]);
        let now = sample(began + Duration::from_secs(1), vec![Some(figures_of(0, 2)), Some(figures_of(1, 2))]);
        let event = describe(Some(&before), &now);
        assert_eq!(event["shards"][0]["per_second"], Value::Null);
        assert_eq!(event["shards"][1]["per_second"]["turns"], 0.0);
        assert_eq!(event["total"]["per_second"]["turns"], 0.0);
    }

    #[test]
    fn a_broker_that_recovers_or_drains_says_so() {
        let none = Sample { stage: RECOVERING, connections_max: None, ..sample(Instant::now(), Vec::new()) };
        assert_eq!(describe(None, &none)["state"], "recovering");
        let silent = Sample { stage: DRAINING, ..sample(Instant::now(), vec![None]) };
        assert_eq!(describe(None, &silent)["state"], "draining");
    }
}
