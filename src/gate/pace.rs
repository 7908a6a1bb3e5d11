//! How fast clients are accepted, at most: a bucket of tokens, of which each client takes one. Pure: the time is an argument.
//!
//! Nobody is refused for coming too fast. While the bucket is empty nobody is accepted, and who comes waits in the kernel's
//! backlog, whose length is what bounds it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::CONNECT_BURST;
use crate::time::Timestamp;

const SECOND_NS: u64 = 1_000_000_000;

/// The bucket, told by when it would be full again.
#[derive(Debug)]
pub(super) struct Pace {
    /// In which one token comes.
    interval_ns: u64,
    /// In which all of them come but the first.
    burst_ns: u64,
    full_at: Timestamp,
}

impl Pace {
    /// So many clients a second, and what comes in [`CONNECT_BURST`] at once.
    pub(super) fn new(clients_per_second: NonZeroU32) -> Self {
        let interval_ns = SECOND_NS / u64::from(clients_per_second.get());
        let burst_ns = u64::try_from(CONNECT_BURST.as_nanos()).unwrap_or(u64::MAX).saturating_sub(interval_ns);
        Self { interval_ns, burst_ns, full_at: Timestamp::default() }
    }

    /// A client has been accepted: how long to wait before the next one is.
    pub(super) fn take(&mut self, now: Timestamp) -> Duration {
        self.full_at = self.full_at.max(now) + Duration::from_nanos(self.interval_ns);
        self.full_at.since(now + Duration::from_nanos(self.burst_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(SECOND_NS);

    /// Accepts as fast as may be for a second; how many that were.
    fn accepted(clients_per_second: u32) -> u32 {
        let mut pace = Pace::new(NonZeroU32::new(clients_per_second).expect("some"));
        let (mut now, mut count) = (START, 0);
        while now < START + Duration::from_secs(1) {
            count += 1;
            now = now + pace.take(now);
        }
        count
    }

    #[test]
    fn a_second_has_as_many_clients_as_it_may_and_the_burst() {
        for (clients_per_second, expected) in
            [(1, 1), (2, 2), (10, 10), (100, 109), (1000, 1099), (1_000_000, 1_099_999)]
        {
            assert_eq!(accepted(clients_per_second), expected, "{clients_per_second}");
        }
    }

    #[test]
    fn what_was_not_used_is_kept_up_to_the_burst() {
        let mut pace = Pace::new(NonZeroU32::new(100).expect("some"));
        for now in [START, START + Duration::from_secs(3600)] {
            let waits: Vec<u128> = (0..12).map(|_| pace.take(now).as_millis()).collect();
            assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 20, 30]);
        }
    }
}
