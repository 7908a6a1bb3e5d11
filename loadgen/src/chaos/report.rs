//! The report of `chaos`.

use oncemq::proto::QoS;
use serde::Serialize;

use super::cut::{Point, Role};
use super::keeper::{Crashes, Recoveries};
use super::session::Mishaps;
use crate::cli::ChaosArguments;
use crate::report::{Accounts, print_json, verdict, version_name};

/// The report of `chaos`.
#[derive(Debug, Serialize)]
pub(super) struct ChaosReport {
    command: &'static str,
    verdict: &'static str,
    seed: u64,
    pairs: u32,
    #[serde(skip)]
    quality: QoS,
    qos: u8,
    protocol: &'static str,
    duration_seconds: f64,
    drops: u64,
    drops_by_point: Vec<DropsAt>,
    /// Points of the handshakes at which no connection was dropped.
    points_missed: Vec<String>,
    takeovers: u64,
    /// Connections that went on with their session.
    resumes: u64,
    sessions_lost: u64,
    /// Absent when the broker was not killed.
    crashes: Option<CrashReport>,
    ledger: Accounts,
}

/// What the broker went through.
#[derive(Debug, Serialize)]
struct CrashReport {
    kills: u64,
    /// Of these, before the broker had answered.
    kills_in_recovery: u64,
    /// Starts after which the broker ended by itself.
    failed_starts: u64,
    /// Connections that broke with the broker.
    connections_broken: u64,
    /// From the start of the process until it accepted a CONNECT.
    recovery: Option<Recoveries>,
}

#[derive(Debug, Serialize)]
struct DropsAt {
    point: String,
    drops: u64,
}

impl ChaosReport {
    pub(super) fn new(
        arguments: &ChaosArguments,
        seed: u64,
        mishaps: Mishaps,
        crashes: Option<Crashes>,
        ledger: Accounts,
    ) -> Self {
        let points = [Role::Publisher, Role::Subscriber].into_iter().flat_map(|role| Point::all(role, arguments.qos));
        let points_missed = points
            .filter(|point| arguments.drop_rate > 0.0 && !mishaps.drops.contains_key(point))
            .map(|point| point.to_string())
            .collect();
        Self {
            command: "chaos",
            verdict: verdict(ledger.are_good(arguments.qos)),
            seed,
            pairs: arguments.pairs,
            quality: arguments.qos,
            qos: arguments.qos.bits(),
            protocol: version_name(arguments.broker.protocol),
            duration_seconds: arguments.duration.as_secs_f64(),
            drops: mishaps.drops.values().sum(),
            drops_by_point: mishaps
                .drops
                .iter()
                .map(|(point, &drops)| DropsAt { point: point.to_string(), drops })
                .collect(),
            points_missed,
            takeovers: mishaps.takeovers,
            resumes: mishaps.resumes,
            sessions_lost: mishaps.sessions_lost,
            crashes: crashes.map(|crashes| CrashReport {
                kills: crashes.kills,
                kills_in_recovery: crashes.kills_in_recovery,
                failed_starts: crashes.failed_starts,
                connections_broken: mishaps.killed,
                recovery: crashes.recoveries(),
            }),
            ledger,
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.ledger.are_good(self.quality)
    }

    pub(super) fn print(&self, json: bool) {
        match json {
            true => print_json(self),
            false => self.print_text(),
        }
    }

    fn print_text(&self) {
        println!(
            "chaos        {} pairs  QoS {}  MQTT {}  {:.0} s  seed {}",
            self.pairs, self.qos, self.protocol, self.duration_seconds, self.seed
        );
        for at in &self.drops_by_point {
            println!("{:>8}     {}", at.drops, at.point);
        }
        for point in &self.points_missed {
            println!("{:>8}     {point}", 0);
        }
        println!(
            "drops        {}  take-overs {}  resumes {}  sessions lost {}",
            self.drops, self.takeovers, self.resumes, self.sessions_lost
        );
        if let Some(crashes) = &self.crashes {
            crashes.print();
        }
        self.ledger.print(self.quality);
    }
}

impl CrashReport {
    fn print(&self) {
        println!(
            "kills        {}, of these {} in recovery  failed starts {}  connections broken {}",
            self.kills, self.kills_in_recovery, self.failed_starts, self.connections_broken
        );
        if let Some(recovery) = &self.recovery {
            println!(
                "recovery     {} starts  min {:.0} ms  median {:.0} ms  max {:.0} ms",
                recovery.count, recovery.min_ms, recovery.median_ms, recovery.max_ms
            );
        }
    }
}
