//! Time as the core sees it: an argument, never a clock.

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
