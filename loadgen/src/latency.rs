//! Latency histograms: recorded on each worker without sharing, shipped in intervals, summed over all workers by [`Recorder`].
//!
//! Values are nanoseconds with three significant digits, from 1 µs to [`HIGHEST_NS`]; what lies outside counts as the
//! nearer end. Only messages whose *intended* send time lies in the measured span are recorded, wherever they were
//! when the span ended, so a broker that falls behind can't hide its slowest messages (no coordinated omission).

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};
use serde::Serialize;

use crate::series::{INTERVAL_NS, Merge, Series, Span};

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// The two latencies of a message.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// From the intended send time to the delivery at a subscriber.
    pub(crate) end_to_end: Histogram<u64>,
    /// From the intended send time to the end of the publisher's exchange: PUBCOMP or PUBACK.
    pub(crate) handshake: Histogram<u64>,
}

/// What one worker has recorded over one stretch of the run.
pub(crate) type Interval = Span<Latencies>;

/// The recordings of all workers over the run.
pub(crate) type LatencySeries = Series<Condensed>;

/// The histograms of [`Latencies`] without what they did not count, which is nearly all of them.
#[derive(Clone, Debug)]
pub(crate) struct Condensed {
    end_to_end: Counts,
    handshake: Counts,
}

/// How often which value, ascending.
#[derive(Clone, Debug)]
struct Counts(Vec<(u64, u64)>);

/// The thread that takes in what the workers ship.
#[derive(Debug)]
pub(crate) struct Recorder(JoinHandle<LatencySeries>);

/// Percentiles of one histogram, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { end_to_end: histogram(), handshake: histogram() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end_to_end.is_empty() && self.handshake.is_empty()
    }

    /// Takes what was recorded and leaves nothing.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    /// All that was recorded.
    pub(crate) fn of(series: &LatencySeries) -> Self {
        let mut sum = Self::new();
        for span in series.spans() {
            span.value.add_to(&mut sum);
        }
        sum
    }
}

impl Condensed {
    fn of(latencies: &Latencies) -> Self {
        Self { end_to_end: Counts::of(&latencies.end_to_end), handshake: Counts::of(&latencies.handshake) }
    }

    /// The histograms again.
    pub(crate) fn expanded(&self) -> Latencies {
        let mut latencies = Latencies::new();
        self.add_to(&mut latencies);
        latencies
    }

    fn add_to(&self, sum: &mut Latencies) {
        self.end_to_end.add_to(&mut sum.end_to_end);
        self.handshake.add_to(&mut sum.handshake);
    }
}

impl Merge for Condensed {
    fn merge(&mut self, other: Self) {
        self.end_to_end.merge(other.end_to_end);
        self.handshake.merge(other.handshake);
    }
}

impl Counts {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    fn add_to(&self, histogram: &mut Histogram<u64>) {
        for &(value, count) in &self.0 {
            histogram.saturating_record_n(value, count);
        }
    }
}

impl Merge for Counts {
    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
        // Two runs that are sorted already, which this sort merges.
        self.0.sort_by_key(|&(value, _)| value);
        self.0.dedup_by(|next, sum| {
            let is_same = next.0 == sum.0;
            sum.1 += if is_same { next.1 } else { 0 };
            is_same
        });
    }
}

impl Recorder {
    /// Starts the thread; it lives as long as a worker can ship something.
    pub(crate) fn start() -> io::Result<(mpsc::Sender<Interval>, Self)> {
        let (ship, shipped) = mpsc::channel::<Interval>();
        let body = move || {
            let mut series = Series::new(INTERVAL_NS);
            for Span { start_ns, end_ns, value } in shipped {
                series.add(Span { start_ns, end_ns, value: Condensed::of(&value) });
            }
            series
        };
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(body)?;
        Ok((ship, Self(thread)))
    }

    /// What was shipped, once nobody can ship any more. `None` if the thread panicked.
    pub(crate) fn finish(self) -> Option<LatencySeries> {
        self.0.join().ok()
    }
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: microseconds(histogram.max()),
        }
    }
}

/// Writes an HdrHistogram interval log (V2, compressed): for each interval one histogram tagged `end-to-end` and one
/// tagged `handshake`, in nanoseconds, times relative to `started`.
pub(crate) fn write_log(path: &Path, started: SystemTime, origin_ns: u64, series: &LatencySeries) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("oncemq-loadgen: latencies in nanoseconds")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(&mut file, &mut serializer)?;
    for span in series.spans() {
        let start = Duration::from_nanos(span.start_ns.saturating_sub(origin_ns));
        let length = Duration::from_nanos(span.end_ns.saturating_sub(span.start_ns));
        let latencies = span.value.expanded();
        for (name, histogram) in [("end-to-end", &latencies.end_to_end), ("handshake", &latencies.handshake)] {
            log.write_histogram(histogram, start, length, Tag::new(name)).map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })?;
        }
    }
    file.flush()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are constants that fit")
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds_and_within_three_digits() {
        let mut latencies = Latencies::new();
        for microsecond in 1..=1_000_u64 {
            latencies.handshake.saturating_record(microsecond * 1_000);
        }
        let mut series = Series::new(INTERVAL_NS);
        series.add(Span { start_ns: 0, end_ns: INTERVAL_NS, value: Condensed::of(&latencies.take()) });
        assert!(latencies.is_empty());
        let sum = Latencies::of(&series);
        let percentiles = Percentiles::of(&sum.handshake);
        assert_eq!(percentiles.count, 1_000);
        for (measured, exact) in
            [(percentiles.p50_us, 500.0), (percentiles.p99_us, 990.0), (percentiles.max_us, 1_000.0)]
        {
            let error: f64 = (measured - exact) / exact;
            assert!(error.abs() < 0.002, "{measured} for {exact}");
        }
    }
    #[test]
    fn condensed_histograms_add_up_as_the_histograms_do() {
        let (mut even, mut all) = (Latencies::new(), Latencies::new());
        let mut odd = Latencies::new();
        for number in 0..10_000_u64 {
            let latency_ns = number * number * 37;
            let part = if number % 2 == 0 { &mut even } else { &mut odd };
            part.end_to_end.saturating_record(latency_ns);
            all.end_to_end.saturating_record(latency_ns);
        }
        let mut sum = Condensed::of(&even);
        sum.merge(Condensed::of(&odd));
        assert!(sum.end_to_end.0.is_sorted_by(|before, after| before.0 < after.0));
        assert_eq!(sum.expanded().end_to_end, all.end_to_end);
        assert!(sum.expanded().handshake.is_empty());
    }

    #[test]
    fn intervals_of_all_workers_become_one_series() {
        let (ship, recorder) = Recorder::start().expect("a thread");
        let workers = [ship.clone(), ship];
        for (number, ship) in workers.into_iter().enumerate() {
            for interval in 0..3 {
                let mut value = Latencies::new();
                value.handshake.saturating_record_n(1_000_000, number as u64 + 1);
                let start_ns = 5 * INTERVAL_NS + interval * INTERVAL_NS;
                ship.send(Span { start_ns, end_ns: start_ns + INTERVAL_NS, value }).expect("the recorder listens");
            }
        }
        let series = recorder.finish().expect("no panic");
        let counts: Vec<_> = series.spans().map(|span| span.value.expanded().handshake.len()).collect();
        assert_eq!(counts, [3, 3, 3]);
        assert_eq!(Latencies::of(&series).handshake.len(), 9);
    }
}
