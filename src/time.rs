//! Time as the core sees it: an argument, never a clock.

use std::num::NonZeroU32;
use std::ops::Add;
use std::time::Duration;

/// A moment, in nanoseconds since the Unix epoch, read by a driver from a clock that never goes back.
///
/// The core only compares and adds; who reads the clock (or invents it, as the simulator does) is the driver's affair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `nanoseconds` after the Unix epoch.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`; zero if `earlier` lies ahead.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the end of time (the year 2554), which then stands for "never".
    fn add(self, duration: Duration) -> Timestamp {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(nanoseconds))
    }
}

/// A moment in four bytes, for where there is one with every message: good to a [step](Self::STEP), and told apart from others
/// only within 4.7 hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoarseTime(NonZeroU32);

impl CoarseTime {
    /// What one is later than the other at least.
    pub const STEP: Duration = Duration::from_micros(4);

    /// The time from this moment to another one, which is later by less than 4.7 hours.
    pub fn until(self, later: Self) -> Duration {
        Self::STEP * later.0.get().wrapping_sub(self.0.get())
    }
}

impl From<Timestamp> for CoarseTime {
    fn from(moment: Timestamp) -> Self {
        let steps = moment.as_nanos() / Self::STEP.as_nanos() as u64;
        // What is cut off is what the name says; one step in 4.7 hours is taken for the next one.
        Self(NonZeroU32::new(steps as u32).unwrap_or(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_times_differ_by_steps_and_go_round() {
        assert_eq!(size_of::<Option<CoarseTime>>(), 4);
        let coarse = |microseconds| CoarseTime::from(Timestamp::default() + Duration::from_micros(microseconds));
        let round = 4 * (u64::from(u32::MAX) + 1);
        for (from, to, between) in [(8, 8, 0), (8, 15, 4), (8, 1000, 992), (round - 4, round + 8, 12), (0, 4, 0)] {
            assert_eq!(coarse(from).until(coarse(to)), Duration::from_micros(between), "from {from} to {to}");
        }
    }
}
