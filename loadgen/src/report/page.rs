//! The report of `run` as a page.

use std::time::SystemTime;

use super::{Accounts, RunReport, json};
use crate::latency::{Latencies, LatencySeries, Percentiles};
use crate::page::plot::{self, Line};
use crate::page::{Cell, Page};
use crate::rates::Messages;
use crate::series::{Series, Span};

/// Points of a line over time.
const POINTS_MAX: usize = 120;

/// What happened when.
#[derive(Debug)]
pub(crate) struct History {
    /// The zero of the plots' time.
    pub(crate) measure_start_ns: u64,
    pub(crate) rates: Series<Messages>,
    pub(crate) latencies: LatencySeries,
}

impl RunReport {
    /// The whole report, with plots.
    pub(crate) fn page(&self, history: History) -> String {
        let title = format!("{}: {} publishers, {} subscribers", self.shape, self.publishers, self.subscribers);
        let mut page = Page::new(&title, self.is_good(), self.ledger.verdict(self.quality));
        page.origin(&command_line(), SystemTime::now());
        self.put_key_figures(&mut page);
        put_plots(&mut page, history);
        self.put_tables(&mut page);
        self.ledger.put_on(&mut page, self.is_good());
        page.heading("The run");
        page.facts(&self.parameters());
        page.finish(&json(self))
    }

    fn put_key_figures(&self, page: &mut Page) {
        let mut figures = vec![
            ("delivered", Cell::rate(self.delivered_per_second)),
            ("end to end, p50", Cell::microseconds(self.end_to_end_latency.p50_us)),
            ("end to end, p99", Cell::microseconds(self.end_to_end_latency.p99_us)),
        ];
        if let Some(cost) = self.broker.as_ref().and_then(|broker| broker.cpu_us_per_delivered) {
            figures.push(("broker CPU per message", Cell::microseconds(cost)));
        }
        page.key_figures(&figures);
    }

    fn put_tables(&self, page: &mut Page) {
        page.heading("Latency");
        let row = |latency: &Percentiles| {
            let times = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p99_9_us, latency.max_us];
            times.into_iter().map(Cell::microseconds).chain([Cell::count(latency.count)]).collect()
        };
        page.table(
            &["p50", "p90", "p99", "p99.9", "max", "messages"],
            &[("end to end", row(&self.end_to_end_latency)), ("handshake", row(&self.handshake_latency))],
        );
        page.heading("Throughput and processors");
        let mut rows = vec![
            ("published", Cell::rate(self.published_per_second)),
            ("handshakes completed", Cell::rate(self.handshakes_per_second)),
            ("delivered", Cell::rate(self.delivered_per_second)),
        ];
        if let Some(overdue) = self.overdue {
            rows.push(("due, but not sent in time", Cell::count(overdue)));
        }
        rows.push(("generator", Cell::cpus(self.generator_cpus_used)));
        if let Some(broker) = &self.broker {
            rows.push(("broker", Cell::cpus(broker.cpus_used)));
            rows.push(("broker, resident memory", Cell::bytes(broker.resident_bytes)));
        }
        page.facts(&rows);
    }

    fn parameters(&self) -> Vec<(&'static str, Cell)> {
        let mut rows = vec![
            ("shape", Cell::text(self.shape)),
            ("publishers", Cell::count(self.publishers.into())),
            ("subscribers", Cell::count(self.subscribers.into())),
            ("quality of service", Cell::count(self.qos.into())),
            ("MQTT", Cell::text(self.protocol)),
            ("transport", Cell::text(self.transport.to_string())),
            ("payload", Cell::bytes(self.payload_bytes.into())),
            ("window", Cell::count(self.window.into())),
        ];
        match self.rate_per_second {
            Some(rate) => rows.push(("open loop", Cell::rate(rate))),
            None => rows.push(("closed loop", Cell::text("as fast as the window lets it"))),
        }
        rows.push(("measured", Cell::seconds(self.measured_seconds)));
        rows.push(("generator threads on CPUs", Cell::text(format!("{:?}", self.thread_cpus))));
        rows
    }
}

impl Accounts {
    /// The ledger as a table, and if the run is void, what went wrong.
    pub(crate) fn put_on(&self, page: &mut Page, is_good: bool) {
        let balance = &self.balance;
        page.heading("Ledger");
        page.facts(&[
            ("expected", Cell::count(balance.expected)),
            ("delivered", Cell::count(balance.delivered)),
            ("lost", Cell::count(balance.lost)),
            ("duplicated", Cell::count(balance.duplicated)),
            ("reordered", Cell::count(balance.reordered)),
            ("foreign", Cell::count(balance.foreign)),
            ("undecided", Cell::count(balance.undecided)),
            ("refused", Cell::count(self.refused)),
            ("unfinished exchanges", Cell::count(self.unfinished_exchanges)),
            ("awaiting PUBREL", Cell::count(self.unreleased)),
            ("errors", Cell::count(self.errors)),
            ("counts are exact", Cell::text(if balance.exact { "yes" } else { "no" })),
        ]);
        if !is_good {
            page.list(balance.examples.iter().chain(&self.error_examples));
        }
    }
}

/// The command line of this process, as a shell could take it unless an argument has spaces in it.
pub(crate) fn command_line() -> String {
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!("oncemq-loadgen {}", arguments.join(" "))
}

/// Messages per second over the seconds since `origin_ns`.
pub(crate) fn rate_lines(rates: Series<Messages>, origin_ns: u64) -> [Line; 2] {
    let rates = rates.limited(POINTS_MAX);
    let line = |name, rate: fn(&Span<Messages>) -> f64| Line {
        name,
        points: rates.spans().map(|span| (span.middle_seconds(origin_ns), rate(span))).collect(),
    };
    [
        line("delivered", Span::<Messages>::delivered_per_second),
        line("published", Span::<Messages>::published_per_second),
    ]
}

fn put_plots(page: &mut Page, history: History) {
    let History { measure_start_ns, rates, latencies } = history;
    let rate_lines = rate_lines(rates, measure_start_ns);
    let latencies = latencies.limited(POINTS_MAX);
    let latency_lines = latency_lines(&latencies, measure_start_ns);
    let sum = Latencies::of(&latencies);
    let distribution = [("end to end", &sum.end_to_end), ("handshake", &sum.handshake)].map(|(name, histogram)| Line {
        name,
        points: plot::shares(histogram.len())
            .map(|share| (share, histogram.value_at_quantile(1.0 - 1.0 / share) as f64 / 1e3))
            .collect(),
    });
    page.plots(&[
        (
            "Messages per second, over seconds since measuring began (warm-up before it, drain at the end)",
            &rate_lines,
            plot::rates(&rate_lines),
        ),
        ("Latency end to end, over seconds since measuring began", &latency_lines, plot::latencies(&latency_lines)),
        ("Latency by percentile", &distribution, plot::distribution(&distribution)),
    ]);
}

/// Percentiles end to end over the seconds since `origin_ns`, of spans in which something was delivered.
fn latency_lines(latencies: &LatencySeries, origin_ns: u64) -> [Line; 3] {
    let mut lines = ["p50", "p99", "max"].map(|name| Line { name, points: Vec::new() });
    for span in latencies.spans() {
        let histogram = span.value.expanded().end_to_end;
        if histogram.is_empty() {
            continue;
        }
        let at = Percentiles::of(&histogram);
        for (line, microseconds) in lines.iter_mut().zip([at.p50_us, at.p99_us, at.max_us]) {
            line.points.push((span.middle_seconds(origin_ns), microseconds));
        }
    }
    lines
}
