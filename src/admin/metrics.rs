//! `/metrics`: everything that is counted, under names of its own.
//!
//! What a shard or the gate counts under a name of its counters is found by that name in [`shown`] and [`shown_of_gate`], with its
//! description as help; a test sees to it that none is forgotten. The rest stands in rows below. Every sample of a shard has its
//! number as the label `shard`; totals are the query's to make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::Response;

use crate::io::{Distribution, Doors, ShardFigures};
use crate::proto::{PacketType, QoS};
use crate::store::LogFailure;

use super::asking::ask_all;
use super::exposition::{CONTENT_TYPE, Exposition, Kind, Labels};
use super::process::ProcessFigures;
use super::{Context, Stage};

/// `/metrics`. Of a broker that still recovers there is only the process.
pub(super) async fn get(State(context): State<Arc<Context>>) -> Response {
    let stage = context.stage();
    let broker = match &stage {
        Stage::Recovering => None,
        Stage::Serving(broker) | Stage::Draining(broker) => {
            let shards = ask_all(&broker.doors, Doors::figures).await;
            let counts = broker.gate.rows().collect();
            let (half_open, connections_max) = (broker.gate.half_open(), broker.permits.max());
            Some(BrokerFigures { shards, gate: GateRows { counts, half_open, connections_max } })
        }
    };
    let started = context.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_ready = matches!(stage, Stage::Serving(_));
    let text = render(&Figures { started, is_ready, process: ProcessFigures::now(), broker });
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// Everything at one moment.
struct Figures {
    /// Since the Unix epoch.
    started: Duration,
    is_ready: bool,
    process: ProcessFigures,
    broker: Option<BrokerFigures>,
}

struct BrokerFigures {
    /// None of a shard that does not answer.
    shards: Vec<Option<ShardFigures>>,
    gate: GateRows,
}

struct GateRows {
    counts: Vec<Row>,
    half_open: u64,
    connections_max: u32,
}

/// A count with its name and what it is.
type Row = (&'static str, &'static str, u64);

/// The shards that answer, with their numbers.
type Shards<'a> = Vec<(usize, &'a ShardFigures)>;

fn render(figures: &Figures) -> String {
    let mut to = Exposition::default();
    render_process(&mut to, figures);
    if let Some(broker) = &figures.broker {
        render_gate(&mut to, &broker.gate);
        let mut up = to.family(Kind::Gauge, "oncemq_shard_up", "Whether the shard has answered in time.");
        for (shard, figures) in broker.shards.iter().enumerate() {
            up.sample(&[("shard", &shard)], u8::from(figures.is_some()));
        }
        let shards: Shards<'_> =
            broker.shards.iter().enumerate().filter_map(|(shard, figures)| Some((shard, figures.as_ref()?))).collect();
        render_counters(&mut to, &shards);
        render_clients(&mut to, &shards);
        render_packets(&mut to, &shards);
        render_exchanges(&mut to, &shards);
        render_letters(&mut to, &shards);
        render_latencies(&mut to, &shards);
        render_loop(&mut to, &shards);
        render_log(&mut to, &shards);
    }
    to.into_text()
}

/// Under the names that all programs have for it.
fn render_process(to: &mut Exposition, figures: &Figures) {
    let version = env!("CARGO_PKG_VERSION");
    to.family(Kind::Gauge, "oncemq_build_info", "The version of the broker.").sample(&[("version", &version)], 1);
    let help = "Whether clients are served: not while the logs are read, and not any more on the way to the end.";
    to.single(Kind::Gauge, "oncemq_ready", help, u8::from(figures.is_ready));
    let help = "When the broker began, in seconds since the Unix epoch.";
    to.single(Kind::Gauge, "process_start_time_seconds", help, figures.started.as_secs_f64());
    let ProcessFigures { processor_time, resident_bytes, open_files, open_files_max } = figures.process;
    if let Some(time) = processor_time {
        let help = "Time on processors, in user and kernel mode.";
        to.single(Kind::Counter, "process_cpu_seconds_total", help, time.as_secs_f64());
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory that is in RAM.", resident_bytes),
        ("process_open_fds", "Files, sockets and the like that are open.", open_files),
        ("process_max_fds", "Files, sockets and the like that may be open.", open_files_max),
    ] {
        if let Some(value) = value {
            to.single(Kind::Gauge, name, help, value);
        }
    }
}

/// Where a count is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Shown {
    Gauge(&'static str),
    Counter(&'static str),
    /// One of several counts of a family, told apart by a label.
    Part(&'static str, &'static str, &'static str),
    /// Under another name, from another source.
    Elsewhere,
    /// Nobody has thought of it.
    Nowhere,
}

/// Families of counts that are told apart by a label, with their helps.
const FAMILIES: [(&str, &str); 6] = [
    ("oncemq_messages_dropped_total", "Messages that did not get to a client or were not kept, by reason."),
    ("oncemq_refused_total", "Packets, messages and clients that were refused, by reason."),
    ("oncemq_clients_disconnected_total", "Clients that were disconnected, by reason."),
    ("oncemq_gate_refusals_total", "Clients that were refused at the gate, by reason."),
    ("oncemq_gate_connections_total", "Connections that the gate is done with, by what became of them."),
    ("oncemq_gate_tls_handshakes_total", "Handshakes of TLS, by their outcome."),
];

/// Where a count of a shard is shown.
fn shown(counter: &'static str) -> Shown {
    let part = |prefix: &str, family| Some(Shown::Part(family, "reason", counter.strip_prefix(prefix)?));
    part("dropped_", "oncemq_messages_dropped_total")
        .or_else(|| part("refused_", "oncemq_refused_total"))
        .or_else(|| part("disconnected_", "oncemq_clients_disconnected_total"))
        .unwrap_or(match counter {
            "memory_stage" => Shown::Gauge("oncemq_memory_stage"),
            "connections" => Shown::Gauge("oncemq_connections"),
            "subscriptions" => Shown::Gauge("oncemq_subscriptions"),
            "shared_groups" => Shown::Gauge("oncemq_shared_groups"),
            "messages" => Shown::Gauge("oncemq_messages_held"),
            "retained" => Shown::Gauge("oncemq_retained_messages"),
            "pending_subscribes" => Shown::Gauge("oncemq_pending_subscribes"),
            "lookups" => Shown::Gauge("oncemq_retained_lookups"),
            "unacknowledged_letters" => Shown::Gauge("oncemq_letters_unacknowledged"),
            "held_publishers" => Shown::Counter("oncemq_publishers_held_total"),
            "paced_publishers" => Shown::Counter("oncemq_publishers_paced_total"),
            "stalled_subscribers" => Shown::Counter("oncemq_subscribers_stalled_total"),
            "bytes_received" => Shown::Counter("oncemq_received_bytes_total"),
            "bytes_sent" => Shown::Counter("oncemq_sent_bytes_total"),
            "payload_bytes_received" => Shown::Counter("oncemq_received_payload_bytes_total"),
            "payload_bytes_sent" => Shown::Counter("oncemq_sent_payload_bytes_total"),
            "duplicates_suppressed" => Shown::Counter("oncemq_duplicates_suppressed_total"),
            "publishes_resent" => Shown::Counter("oncemq_messages_resent_total"),
            "shared_returned" => Shown::Counter("oncemq_shared_messages_returned_total"),
            "expired_retained" => Shown::Counter("oncemq_retained_messages_expired_total"),
            "further_pages" => Shown::Counter("oncemq_retained_further_pages_total"),
            "cleanings_begun" => Shown::Counter("oncemq_log_cleanings_begun_total"),
            "cleanings_done" => Shown::Counter("oncemq_log_cleanings_done_total"),
            "reauthenticated" => Shown::Counter("oncemq_clients_reauthenticated_total"),
            "protocol_violations" => Shown::Counter("oncemq_protocol_violations_total"),
            "sessions_expired" => Shown::Counter("oncemq_sessions_expired_total"),
            "takeovers" => Shown::Counter("oncemq_sessions_taken_over_total"),
            // By their states, types or targets.
            "sessions" | "inbound_inflight" | "outbound_inflight" | "queued" | "waiting_letters" => Shown::Elsewhere,
            "connects" | "packets_received" | "packets_sent" | "publishes_received" | "publishes_sent" => {
                Shown::Elsewhere
            }
            _ => Shown::Nowhere,
        })
}

/// Where a count of the gate is shown.
fn shown_of_gate(counter: &'static str) -> Shown {
    if let Some(reason) = counter.strip_prefix("refused_") {
        return Shown::Part("oncemq_gate_refusals_total", "reason", reason);
    }
    match counter {
        "accepted" => Shown::Counter("oncemq_gate_accepted_total"),
        "accepts_failed" => Shown::Counter("oncemq_gate_accepts_failed_total"),
        "accepts_paused" => Shown::Counter("oncemq_gate_accepts_paused_total"),
        "proxied" => Shown::Counter("oncemq_gate_proxied_total"),
        "identified" => Shown::Counter("oncemq_gate_identified_total"),
        "admitted" | "refused" | "broken_off" | "timed_out" => {
            Shown::Part("oncemq_gate_connections_total", "outcome", counter)
        }
        "tls_handshakes" => Shown::Part("oncemq_gate_tls_handshakes_total", "outcome", "done"),
        "tls_handshakes_failed" => Shown::Part("oncemq_gate_tls_handshakes_total", "outcome", "failed"),
        _ => Shown::Nowhere,
    }
}

fn render_gate(to: &mut Exposition, gate: &GateRows) {
    let counts = gate.counts.iter().map(|(name, help, value)| (shown_of_gate(name), *help, None, *value));
    render_counts(to, counts);
    let help = "Connections that are neither handed to a shard nor ended.";
    to.single(Kind::Gauge, "oncemq_gate_half_open", help, gate.half_open);
    let help = "Clients that may be connected at once.";
    to.single(Kind::Gauge, "oncemq_connections_max", help, gate.connections_max);
}

fn render_counters(to: &mut Exposition, shards: &Shards<'_>) {
    let rows = |(shard, figures): &(usize, &ShardFigures)| {
        let shard = *shard;
        figures.shard.counters.rows().map(move |(name, help, value)| (shown(name), help, Some(shard), value))
    };
    render_counts(to, shards.iter().flat_map(rows));
}

/// Counts, gathered by their families; each may be a shard's.
fn render_counts(to: &mut Exposition, counts: impl Iterator<Item = (Shown, &'static str, Option<usize>, u64)>) {
    type Samples = Vec<(Option<usize>, Option<(&'static str, &'static str)>, u64)>;
    let mut families: BTreeMap<&str, (Kind, &str, Samples)> = BTreeMap::new();
    for (shown, help, shard, value) in counts {
        let (kind, name, help, label) = match shown {
            Shown::Gauge(name) => (Kind::Gauge, name, help, None),
            Shown::Counter(name) => (Kind::Counter, name, help, None),
            Shown::Part(name, label, part) => {
                let help = FAMILIES.iter().find(|(family, _)| *family == name).map_or(help, |(_, help)| *help);
                (Kind::Counter, name, help, Some((label, part)))
            }
            Shown::Elsewhere | Shown::Nowhere => continue,
        };
        families.entry(name).or_insert_with(|| (kind, help, Vec::new())).2.push((shard, label, value));
    }
    for (name, (kind, help, samples)) in families {
        let mut family = to.family(kind, name, help);
        for (shard, label, value) in samples {
            match (&shard, &label) {
                (None, None) => family.sample(&[], value),
                (None, Some((label, part))) => family.sample(&[(label, part)], value),
                (Some(shard), None) => family.sample(&[("shard", shard)], value),
                (Some(shard), Some((label, part))) => family.sample(&[("shard", shard), (label, part)], value),
            }
        }
    }
}

/// A family with, of each shard, a sample for each element of `parts`.
fn each<P>(
    to: &mut Exposition,
    (kind, name, help): (Kind, &str, &str),
    shards: &Shards<'_>,
    parts: &[P],
    mut sample: impl FnMut(&ShardFigures, &P) -> (Vec<(&'static str, String)>, u64),
) {
    let mut family = to.family(kind, name, help);
    for (shard, figures) in shards {
        for part in parts {
            let (labels, value) = sample(figures, part);
            let mut all: Vec<(&str, &dyn std::fmt::Display)> = vec![("shard", shard)];
            all.extend(labels.iter().map(|(label, value)| (*label, value as &dyn std::fmt::Display)));
            let labels: Labels<'_> = &all;
            family.sample(labels, value);
        }
    }
}

fn render_clients(to: &mut Exposition, shards: &Shards<'_>) {
    let help = "Sessions, by whether their clients are connected or away.";
    each(to, (Kind::Gauge, "oncemq_sessions", help), shards, &["connected", "away"], |figures, state| {
        let (all, connected) = (figures.shard.counters.sessions, figures.shard.connected);
        let value = if *state == "connected" { connected } else { all - connected };
        (vec![("state", (*state).to_owned())], value)
    });
}

fn render_packets(to: &mut Exposition, shards: &Shards<'_>) {
    const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let name_of = |packet_type: &PacketType| vec![("type", format!("{packet_type:?}").to_lowercase())];
    let qos_of = |qos: &QoS| vec![("qos", (*qos as u8).to_string())];
    let help = "Packets from clients, by type.";
    let family = (Kind::Counter, "oncemq_packets_received_total", help);
    each(to, family, shards, &PacketType::ALL, |figures, packet_type| {
        (name_of(packet_type), figures.shard.received.of_type(*packet_type))
    });
    let family = (Kind::Counter, "oncemq_packets_sent_total", "Packets to clients, by type.");
    each(to, family, shards, &PacketType::ALL, |figures, packet_type| {
        (name_of(packet_type), figures.shard.sent.of_type(*packet_type))
    });
    let help = "PUBLISH packets from clients, by QoS, repeats included.";
    let family = (Kind::Counter, "oncemq_messages_received_total", help);
    each(to, family, shards, &QUALITIES, |figures, qos| (qos_of(qos), figures.shard.received.publishes(*qos)));
    let help = "PUBLISH packets to clients, by QoS, repeats included.";
    let family = (Kind::Counter, "oncemq_messages_sent_total", help);
    each(to, family, shards, &QUALITIES, |figures, qos| (qos_of(qos), figures.shard.sent.publishes(*qos)));
}

fn render_exchanges(to: &mut Exposition, shards: &Shards<'_>) {
    type Awaiting = (&'static str, &'static str, fn(&ShardFigures) -> u64);
    let awaiting: [Awaiting; 4] = [
        ("in", "pubrel", |figures| figures.shard.exchanges.awaiting_pubrel),
        ("out", "puback", |figures| figures.shard.exchanges.awaiting_puback),
        ("out", "pubrec", |figures| figures.shard.exchanges.awaiting_pubrec),
        ("out", "pubcomp", |figures| figures.shard.exchanges.awaiting_pubcomp),
    ];
    let help =
        "Messages of QoS 1 and 2 that are in flight, in from publishers or out to subscribers, by what is awaited.";
    each(
        to,
        (Kind::Gauge, "oncemq_inflight_messages", help),
        shards,
        &awaiting,
        |figures, (direction, packet, count)| {
            (vec![("direction", (*direction).to_owned()), ("awaiting", (*packet).to_owned())], count(figures))
        },
    );
    plain(
        to,
        shards,
        &[
            (
                Kind::Gauge,
                "oncemq_queued_messages",
                "Messages that wait for a slot, or for their subscriber to come back.",
                |figures| Some(figures.shard.exchanges.queued),
            ),
            (Kind::Gauge, "oncemq_queued_bytes", "Payload bytes of the messages that are queued.", |figures| {
                Some(figures.shard.exchanges.queued_bytes)
            }),
        ],
    );
}

fn render_letters(to: &mut Exposition, shards: &Shards<'_>) {
    type Waiting = (&'static str, &'static str, fn(&ShardFigures) -> &[u64]);
    let families: [Waiting; 2] = [
        ("oncemq_letters_waiting", "Letters to other shards that wait for room or for the log.", |figures| {
            &figures.shard.letters
        }),
        ("oncemq_ring_batches", "Batches of letters in the routing ring to another shard.", |figures| {
            &figures.ring_batches
        }),
    ];
    for (name, help, waiting) in families {
        let mut family = to.family(Kind::Gauge, name, help);
        for (shard, figures) in shards {
            for (target, count) in waiting(figures).iter().enumerate().filter(|(target, _)| target != shard) {
                family.sample(&[("shard", shard), ("target", &target)], count);
            }
        }
    }
}

fn render_loop(to: &mut Exposition, shards: &Shards<'_>) {
    plain(
        to,
        shards,
        &[
            (Kind::Counter, "oncemq_receives_starved_total", "Receives that found no buffer.", |figures| {
                Some(figures.receives_starved)
            }),
            (Kind::Counter, "oncemq_sends_continued_total", "Sends that the kernel took only in part.", |figures| {
                Some(figures.sends_continued)
            }),
            (
                Kind::Counter,
                "oncemq_completion_overflows_total",
                "Completions that the shard's ring had no room for.",
                |figures| Some(figures.completion_overflows),
            ),
        ],
    );
    let help =
        "How long the turns of the shard's loop took, without what the kernel does when it is entered between them.";
    distributions(to, shards, "oncemq_loop_turn_seconds", help, |figures| Some(&figures.turns));
}

fn render_latencies(to: &mut Exposition, shards: &Shards<'_>) {
    let help = "How long messages took from being read to being handed to the socket of a subscriber of the shard, of a sample.";
    distributions(to, shards, "oncemq_message_latency_seconds", help, |figures| Some(&figures.latencies));
}

fn render_log(to: &mut Exposition, shards: &Shards<'_>) {
    let shards: &Shards<'_> = &shards.iter().filter(|(_, figures)| figures.shard.log.is_some()).copied().collect();
    if shards.is_empty() {
        return;
    }
    let help = "Whether the log has failed, by why: then nothing becomes durable any more.";
    let failures = [LogFailure::NoSpace, LogFailure::Io];
    each(to, (Kind::Gauge, "oncemq_log_failed", help), shards, &failures, |figures, failure| {
        let has_failed = figures.shard.log.and_then(|log| log.failure) == Some(*failure);
        (vec![("reason", failure.name().to_owned())], has_failed.into())
    });
    plain(
        to,
        shards,
        &[
            (
                Kind::Gauge,
                "oncemq_log_at_limit",
                "Whether the log is as long as it may be, so that messages for it are refused.",
                |figures| figures.shard.log.map(|log| log.is_at_limit.into()),
            ),
            (Kind::Gauge, "oncemq_log_segment_bytes", "Length of the log's segments that are needed.", |figures| {
                figures.shard.log.map(|log| log.segment_bytes)
            }),
            (Kind::Counter, "oncemq_log_records_total", "Records appended to the log.", |figures| {
                figures.shard.log.map(|log| log.records)
            }),
            (Kind::Counter, "oncemq_log_written_bytes_total", "Bytes written to the log.", |figures| {
                figures.disk.as_ref().map(|disk| disk.bytes)
            }),
            (Kind::Counter, "oncemq_log_read_bytes_total", "Bytes read back from the log.", |figures| {
                figures.disk.as_ref().map(|disk| disk.read_bytes)
            }),
            (
                Kind::Counter,
                "oncemq_log_segments_awaited_total",
                "Commits that had to wait for a segment to be made.",
                |figures| figures.disk.as_ref().map(|disk| disk.segments_awaited),
            ),
        ],
    );
    let help = "How long commits of the log took, from the submission of a batch to its completion.";
    distributions(to, shards, "oncemq_log_commit_seconds", help, |figures| {
        figures.disk.as_ref().map(|disk| &disk.commits)
    });
}

/// A family of one sample for each shard.
type Plain = (Kind, &'static str, &'static str, fn(&ShardFigures) -> Option<u64>);

fn plain(to: &mut Exposition, shards: &Shards<'_>, families: &[Plain]) {
    for (kind, name, help, value) in families {
        let mut family = to.family(*kind, name, help);
        for (shard, figures) in shards {
            if let Some(value) = value(figures) {
                family.sample(&[("shard", shard)], value);
            }
        }
    }
}

fn distributions(
    to: &mut Exposition,
    shards: &Shards<'_>,
    name: &str,
    help: &str,
    of: impl Fn(&ShardFigures) -> Option<&Distribution>,
) {
    let mut family = to.family(Kind::Histogram, name, help);
    for (shard, figures) in shards {
        if let Some(distribution) = of(figures) {
            family.distribution(&[("shard", shard)], distribution);
        }
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
