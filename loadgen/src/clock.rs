//! The one clock of the process: monotonic nanoseconds since the program began.
//!
//! Publishers stamp messages with it and subscribers subtract it, on whichever thread they run, so it is
//! meaningful within this process only.

use std::time::{Duration, Instant};

/// A monotonic clock; copies of it share the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the clock was started; enough for 584 years.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    /// The instant at which `now_ns` says, said or will say `at_ns`.
    pub(crate) fn instant(&self, at_ns: u64) -> Instant {
        self.origin + Duration::from_nanos(at_ns)
    }
}

/// A duration in nanoseconds, saturating.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
