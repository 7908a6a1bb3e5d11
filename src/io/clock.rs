//! The clock that every shard of a process shares.
//!
//! Time comes from CLOCK_MONOTONIC, shifted once, at the start, to the Unix epoch: it never goes back and no adjustment of
//! the machine's date makes a keep-alive fire early. It does not follow such adjustments later on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// Reads the time; copies agree with each other, on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    unix_at_start: Timestamp,
}

impl Clock {
    /// A clock that shows the machine's date now, and from here on only goes forward.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: Instant::now(), unix_at_start: Timestamp::default() + since_epoch }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.unix_at_start + self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_and_never_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let mut last = clock.now();
        for _ in 0..1000 {
            let now = copy.now();
            assert!(now >= last);
            last = now;
        }
    }
}
