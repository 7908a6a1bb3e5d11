//! Latency histograms: recorded on each worker without sharing, shipped once a second, summed by the coordinator.
//!
//! Values are nanoseconds with three significant digits, from 1 µs to [`HIGHEST_NS`]; what lies outside counts as the
//! nearer end. Only messages whose *intended* send time lies in the measured span are recorded, wherever they were
//! when the span ended, so a broker that falls behind can't hide its slowest messages (no coordinated omission).

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};
use serde::Serialize;

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

/// The recordings of all workers over one stretch of the run.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) latencies: Latencies,
}

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
        let taken = self.clone();
        self.end_to_end.reset();
        self.handshake.reset();
        taken
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let same_bounds = "every histogram has the same bounds";
        self.end_to_end.add(&other.end_to_end).expect(same_bounds);
        self.handshake.add(&other.handshake).expect(same_bounds);
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
pub(crate) fn write_log(path: &Path, started: SystemTime, origin_ns: u64, intervals: &[Interval]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("oncemq-loadgen: latencies in nanoseconds")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(&mut file, &mut serializer)?;
    for interval in intervals {
        let start = Duration::from_nanos(interval.start_ns.saturating_sub(origin_ns));
        let length = Duration::from_nanos(interval.end_ns.saturating_sub(interval.start_ns));
        for (name, histogram) in
            [("end-to-end", &interval.latencies.end_to_end), ("handshake", &interval.latencies.handshake)]
        {
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
        let mut sum = Latencies::new();
        sum.add(&latencies.take());
        assert!(latencies.is_empty());
        let percentiles = Percentiles::of(&sum.handshake);
        assert_eq!(percentiles.count, 1_000);
        for (measured, exact) in
            [(percentiles.p50_us, 500.0), (percentiles.p99_us, 990.0), (percentiles.max_us, 1_000.0)]
        {
            let error: f64 = (measured - exact) / exact;
            assert!(error.abs() < 0.002, "{measured} for {exact}");
        }
    }
}
