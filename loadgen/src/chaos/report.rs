//! The report of `chaos`.

use std::time::SystemTime;

use oncemq::proto::QoS;
use serde::Serialize;

use super::cut::{Point, Role};
use super::keeper::{Crashes, Recoveries};
use super::session::Mishaps;
use crate::cli::ChaosArguments;
use crate::page::plot;
use crate::page::{Cell, Page};
use crate::rates::Messages;
use crate::report::{Accounts, command_line, json, print_json, rate_lines, verdict, version_name};
use crate::series::Series;
use crate::transport::TransportReport;

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
    #[serde(flatten)]
    transport: TransportReport,
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
        transport: TransportReport,
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
            transport,
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

    /// The whole report, with a plot over the time since `start_ns`.
    pub(super) fn page(&self, rates: Series<Messages>, start_ns: u64) -> String {
        let title = format!("chaos: {} pairs, {} dropped connections", self.pairs, self.drops);
        let mut page = Page::new(&title, self.is_good(), self.ledger.verdict(self.quality));
        page.origin(&command_line(), SystemTime::now());
        let lines = rate_lines(rates, start_ns);
        page.plots(&[("Messages per second, over seconds since the first was due", &lines, plot::rates(&lines))]);
        self.ledger.put_on(&mut page, self.is_good());
        page.heading("What happened to the connections");
        let mut rows = vec![
            ("dropped", Cell::count(self.drops)),
            ("taken over", Cell::count(self.takeovers)),
            ("resumed", Cell::count(self.resumes)),
            ("sessions lost", Cell::count(self.sessions_lost)),
        ];
        if let Some(crashes) = &self.crashes {
            rows.extend(crashes.rows());
        }
        page.facts(&rows);
        page.heading("Where they were dropped");
        let missed = self.points_missed.iter().map(|point| (point.as_str(), Cell::count(0)));
        let points: Vec<_> =
            self.drops_by_point.iter().map(|at| (at.point.as_str(), Cell::count(at.drops))).chain(missed).collect();
        page.facts(&points);
        page.heading("The run");
        page.facts(&[
            ("pairs", Cell::count(self.pairs.into())),
            ("quality of service", Cell::count(self.qos.into())),
            ("MQTT", Cell::text(self.protocol)),
            ("transport", Cell::text(self.transport.to_string())),
            ("duration", Cell::seconds(self.duration_seconds)),
            ("seed", Cell::text(self.seed.to_string())),
        ]);
        page.finish(&json(self))
    }

    fn print_text(&self) {
        println!(
            "chaos        {} pairs  QoS {}  MQTT {} over {}  {:.0} s  seed {}",
            self.pairs, self.qos, self.protocol, self.transport, self.duration_seconds, self.seed
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
    fn rows(&self) -> Vec<(&'static str, Cell)> {
        let mut rows = vec![
            ("kills of the broker", Cell::count(self.kills)),
            ("of these in recovery", Cell::count(self.kills_in_recovery)),
            ("failed starts", Cell::count(self.failed_starts)),
            ("broken with the broker", Cell::count(self.connections_broken)),
        ];
        if let Some(recovery) = &self.recovery {
            rows.push(("recovery, median", Cell::milliseconds(recovery.median_ms)));
            rows.push(("recovery, max", Cell::milliseconds(recovery.max_ms)));
        }
        rows
    }

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
