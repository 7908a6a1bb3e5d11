//! The reports of the commands, as text for people and as one JSON object for machines.

mod page;

use oncemq::proto::{QoS, Version};
use serde::Serialize;

use crate::cli::RunArguments;
use crate::latency::{Latencies, Percentiles};
use crate::ledger::Balance;
use crate::run::Measured;
use crate::setup::Setup;
use crate::transport::TransportReport;

pub(crate) use page::{History, command_line, rate_lines};

/// What the broker used over the measured span.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BrokerUse {
    pub(crate) pid: String,
    pub(crate) cpu_seconds: f64,
    /// CPUs kept busy on average.
    pub(crate) cpus_used: f64,
    /// Absent when nothing was delivered.
    pub(crate) cpu_us_per_delivered: Option<f64>,
    /// Resident memory at the end of the span.
    pub(crate) resident_bytes: u64,
}

/// The ledger and everything else on which the verdict rests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Accounts {
    #[serde(flatten)]
    pub(crate) balance: Balance,
    /// Messages that the broker refused with a reason code of 0x80 or more.
    pub(crate) refused: u64,
    /// Exchanges of publishers that were still open at the end.
    pub(crate) unfinished_exchanges: u64,
    /// Ids for which subscribers still awaited PUBREL at the end.
    pub(crate) unreleased: u64,
    /// Whether such ids void the run.
    #[serde(skip)]
    pub(crate) must_release: bool,
    /// Connections that failed, and packets that had no place.
    pub(crate) errors: u64,
    pub(crate) error_examples: Vec<String>,
}

impl Accounts {
    /// Whether the ledger balances for that quality of service and nothing failed.
    pub(crate) fn are_good(&self, qos: QoS) -> bool {
        self.balance.holds(qos)
            && self.refused == 0
            && self.errors == 0
            && self.unfinished_exchanges == 0
            && (self.unreleased == 0 || !self.must_release)
    }

    pub(crate) fn print(&self, qos: QoS) {
        let balance = &self.balance;
        println!(
            "ledger       expected {}  delivered {}  lost {}  duplicated {}  reordered {}  foreign {}  undecided {}",
            balance.expected,
            balance.delivered,
            balance.lost,
            balance.duplicated,
            balance.reordered,
            balance.foreign,
            balance.undecided,
        );
        if !balance.exact {
            println!("             more gaps than the ledger remembers: the counts are not exact");
        }
        let is_good = self.are_good(qos);
        self.print_exchanges(is_good);
        println!("verdict      {}", self.verdict(qos));
    }

    /// The verdict in words.
    pub(crate) fn verdict(&self, qos: QoS) -> &'static str {
        match (self.are_good(qos), qos) {
            (true, QoS::AtMostOnce) => "BALANCED (QoS 0: losses are permitted, duplicates are not)",
            (true, QoS::AtLeastOnce) => "BALANCED (QoS 1: duplicates are permitted, losses are not)",
            (true, QoS::ExactlyOnce) => "BALANCED: every message exactly once and in order",
            (false, _) => "VOID: the ledger does not balance or the run failed",
        }
    }

    /// Prints what stands beside the ledger, and unless all is good the first few troubles.
    pub(crate) fn print_exchanges(&self, is_good: bool) {
        println!(
            "             refused {}  unfinished exchanges {}  awaiting PUBREL {}  errors {}",
            self.refused, self.unfinished_exchanges, self.unreleased, self.errors
        );
        if !is_good {
            for example in self.balance.examples.iter().chain(&self.error_examples) {
                println!("             {example}");
            }
        }
    }
}

/// The word for a verdict in JSON.
pub(crate) fn verdict(is_good: bool) -> &'static str {
    match is_good {
        true => "balanced",
        false => "void",
    }
}

/// The name of a version on the command line.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// Prints a report as one JSON object on standard output.
pub(crate) fn print_json(report: &impl Serialize) {
    println!("{}", json(report));
}

/// A report as one JSON object.
pub(crate) fn json(report: &impl Serialize) -> String {
    serde_json::to_string(report).expect("numbers, strings and lists always serialize")
}

/// The report of `run`.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    command: &'static str,
    verdict: &'static str,
    shape: &'static str,
    publishers: u32,
    subscribers: u32,
    #[serde(skip)]
    quality: QoS,
    qos: u8,
    protocol: &'static str,
    #[serde(flatten)]
    transport: TransportReport,
    payload_bytes: u32,
    window: u16,
    /// Absent in a closed loop.
    rate_per_second: Option<f64>,
    /// Messages that were due before the end of the measured span and had not been sent by then, because windows were full: the
    /// latencies lack them. Absent in a closed loop.
    overdue: Option<u64>,
    thread_cpus: Vec<usize>,
    measured_seconds: f64,
    published_per_second: f64,
    /// Exchanges that ended at the publishers: PUBCOMP at QoS 2, PUBACK at QoS 1.
    handshakes_per_second: f64,
    delivered_per_second: f64,
    end_to_end_latency: Percentiles,
    handshake_latency: Percentiles,
    /// CPUs that the generator itself kept busy, of those it has threads on.
    generator_cpus_used: f64,
    broker: Option<BrokerUse>,
    ledger: Accounts,
}

impl RunReport {
    pub(crate) fn new(
        arguments: &RunArguments,
        setup: &Setup,
        measured: &Measured,
        latencies: &Latencies,
        overdue: Option<u64>,
        ledger: Accounts,
    ) -> Self {
        let per_second = |count: u64| count as f64 / measured.seconds;
        Self {
            command: "run",
            verdict: verdict(ledger.are_good(arguments.qos)),
            shape: arguments.shape.name(),
            publishers: arguments.publishers,
            subscribers: arguments.subscribers,
            quality: arguments.qos,
            qos: arguments.qos.bits(),
            protocol: version_name(arguments.broker.protocol),
            transport: setup.route.report(),
            payload_bytes: arguments.payload_bytes,
            window: arguments.window,
            rate_per_second: arguments.rate,
            overdue,
            thread_cpus: setup.thread_cpus.clone(),
            measured_seconds: measured.seconds,
            published_per_second: per_second(measured.published),
            handshakes_per_second: per_second(measured.completed),
            delivered_per_second: per_second(measured.delivered),
            end_to_end_latency: Percentiles::of(&latencies.end_to_end),
            handshake_latency: Percentiles::of(&latencies.handshake),
            generator_cpus_used: measured.own_cpu_seconds / measured.seconds,
            broker: measured.broker.clone(),
            ledger,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.ledger.are_good(self.quality)
    }

    pub(crate) fn print(&self, json: bool) {
        match json {
            true => print_json(self),
            false => self.print_text(),
        }
    }

    fn print_text(&self) {
        println!(
            "run          {} {}x{}  QoS {}  MQTT {} over {}  payload {} B  {}",
            self.shape,
            self.publishers,
            self.subscribers,
            self.qos,
            self.protocol,
            self.transport,
            self.payload_bytes,
            match self.rate_per_second {
                Some(rate) => format!("open loop at {rate}/s, window {}", self.window),
                None => format!("closed loop, window {}", self.window),
            },
        );
        println!(
            "measured     {:.2} s  published {:.0}/s  handshakes {:.0}/s  delivered {:.0}/s",
            self.measured_seconds, self.published_per_second, self.handshakes_per_second, self.delivered_per_second,
        );
        if let Some(overdue @ 1..) = self.overdue {
            println!("overdue      {overdue} messages were due but not sent in time: the latencies lack them");
        }
        print_percentiles("end to end", &self.end_to_end_latency);
        print_percentiles("handshake", &self.handshake_latency);
        println!(
            "generator    {:.2} CPUs busy on {} threads (CPUs {:?})",
            self.generator_cpus_used,
            self.thread_cpus.len(),
            self.thread_cpus,
        );
        if let Some(broker) = &self.broker {
            println!(
                "broker       {:.2} CPUs busy  {}  {:.1} MiB resident",
                broker.cpus_used,
                match broker.cpu_us_per_delivered {
                    Some(cost) => format!("{cost:.2} us CPU per delivered message"),
                    None => "nothing delivered".to_owned(),
                },
                broker.resident_bytes as f64 / 1_048_576.0,
            );
        }
        self.ledger.print(self.quality);
    }
}

fn print_percentiles(name: &str, latency: &Percentiles) {
    println!(
        "{name:<12} p50 {:.0} us  p90 {:.0} us  p99 {:.0} us  p99.9 {:.0} us  max {:.0} us",
        latency.p50_us, latency.p90_us, latency.p99_us, latency.p99_9_us, latency.max_us
    );
}
