//! What the loop around a shard counts, and all of it together with the shard's own report.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::shard::{Latencies, ShardReport};

/// Turns from this power of two of microseconds on are not told apart: about a second.
const LONGEST_TURN_POWER: usize = 20;

/// Upper bounds of the latencies of commits, in microseconds.
const COMMIT_BOUNDS_US: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// A shard and the loop around it, as their operator sees them.
#[derive(Clone, Debug)]
pub struct ShardFigures {
    /// What the shard says.
    pub shard: ShardReport,
    /// Receives that found no buffer.
    pub receives_starved: u64,
    /// Sends that the kernel took only in part.
    pub sends_continued: u64,
    /// Completions that the ring had no room for.
    pub completion_overflows: u64,
    /// Batches of letters in the routing rings, by the shard that they are for.
    pub ring_batches: Vec<u64>,
    /// How long turns took, without what the kernel does when it is entered between them.
    pub turns: Distribution,
    /// How long messages took through the broker.
    pub latencies: Distribution,
    /// The log's file; none with `--durability none`.
    pub disk: Option<DiskFigures>,
}

/// A log as its driver sees it.
#[derive(Clone, Debug)]
pub struct DiskFigures {
    /// Bytes written.
    pub bytes: u64,
    /// Bytes read back.
    pub read_bytes: u64,
    /// How often a batch had to wait for its segment.
    pub segments_awaited: u64,
    /// How long commits took.
    pub commits: Distribution,
}

/// How often something took how long.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Distribution {
    /// Bounds in seconds, in ascending order, each with how often it was not exceeded.
    pub within: Vec<(f64, u64)>,
    /// How often at all.
    pub count: u64,
    /// How long altogether.
    pub sum: Duration,
}

/// How long the turns of a loop took: by powers of two of microseconds, so that to note one costs next to nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct TurnTimes {
    /// Turns shorter than 1, 2, 4… µs and not shorter than half of that; the last one has all longer ones.
    by_power: [u64; LONGEST_TURN_POWER + 2],
    sum_ns: u64,
}

impl TurnTimes {
    /// Notes a turn.
    #[inline]
    pub(super) fn note(&mut self, took: Duration) {
        let nanoseconds = took.as_nanos() as u64;
        let power = (u64::BITS - (nanoseconds / 1000).leading_zeros()) as usize;
        self.by_power[power.min(LONGEST_TURN_POWER + 1)] += 1;
        self.sum_ns += nanoseconds;
    }

    pub(super) fn distribution(&self) -> Distribution {
        let mut count = 0;
        let mut within = Vec::with_capacity(self.by_power.len());
        for (power, turns) in self.by_power.iter().enumerate() {
            count += turns;
            if power <= LONGEST_TURN_POWER {
                within.push(((1_u64 << power) as f64 / 1e6, count));
            }
        }
        Distribution { within, count, sum: Duration::from_nanos(self.sum_ns) }
    }
}

/// What a shard has measured of its messages.
pub(super) fn latencies(of: &Latencies) -> Distribution {
    let within = of.within().map(|(bound, count)| (bound.as_secs_f64(), count)).collect();
    Distribution { within, count: of.count(), sum: of.sum() }
}

/// What a histogram of microseconds with this sum says. A bound is as fine as the histogram is there.
pub(super) fn commit_latencies(histogram: &Histogram<u64>, sum: Duration) -> Distribution {
    let mut recorded = histogram.iter_recorded().peekable();
    let mut count = 0;
    let within = COMMIT_BOUNDS_US.map(|bound| {
        let end = histogram.highest_equivalent(bound);
        while let Some(step) = recorded.next_if(|step| step.value_iterated_to() <= end) {
            count += step.count_since_last_iteration();
        }
        (bound as f64 / 1e6, count)
    });
    Distribution { within: within.into(), count: histogram.len(), sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_by_powers_of_two() {
        let mut turns = TurnTimes::default();
        for nanoseconds in [0, 999, 1000, 1999, 2000, 1_048_575_999, 1_048_576_000, u64::MAX / 8] {
            turns.note(Duration::from_nanos(nanoseconds));
        }
        let Distribution { within, count, sum } = turns.distribution();
        assert_eq!(count, 8);
        assert!(sum > Duration::from_nanos(u64::MAX / 8));
        assert_eq!(within[..3], [(1e-6, 2), (2e-6, 4), (4e-6, 5)]);
        assert_eq!(within[within.len() - 2..], [(0.524288, 5), (1.048576, 6)]);
    }

    #[test]
    fn commits_are_counted_by_bounds() {
        let mut histogram = Histogram::new_with_max(60_000_000, 2).expect("bounds in their order");
        for us in [10, 50, 51, 500, 1_000, 40_000_000] {
            histogram.record(us).expect("within its bounds");
        }
        let Distribution { within, count, .. } = commit_latencies(&histogram, Duration::ZERO);
        assert_eq!(count, 6);
        assert_eq!(within[..5], [(50e-6, 2), (100e-6, 3), (250e-6, 3), (500e-6, 4), (1e-3, 5)]);
        assert_eq!(within[within.len() - 1], (30.0, 5));
    }
}
