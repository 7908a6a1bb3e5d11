//! How long to wait before the next attempt to reach a remote.

use std::time::Duration;

/// The longest wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait after any failure.
const LONGEST: Duration = Duration::from_secs(60);

/// The failures in a row. Each doubles the time out of which the wait is drawn, evenly, so that brokers that have lost the
/// same remote together do not come back together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt, drawn with a random number.
    pub fn next(&mut self, random: u64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_longest_wait_up_to_a_minute() {
        let mut backoff = Backoff::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let mut half = backoff;
            assert_eq!(half.next(0), Duration::ZERO);
            assert_eq!(backoff.next(u64::MAX), Duration::from_secs(seconds));
        }
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), FIRST);
        let mut long = Backoff { failures: u32::MAX };
        assert_eq!(long.next(u64::MAX), LONGEST);
    }
}
