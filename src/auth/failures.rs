//! The addresses that failed attempts come from, and what the answer to the next one waits.
//!
//! Answers to failures are held back, longer with each; who knows his password never waits for that, wherever he comes from. An
//! address that has failed often has only some attempts open at a time, those included whose answers are held back: who
//! comes beyond that is told that the server is busy. So one address can try only a few passwords a second, and occupies
//! a few of the gate's places.
//!
//! An address of IPv6 stands for its /64, which is what one machine is given.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::config::{
    FAILED_ADDRESSES_MAX, FAILURE_DELAY_MAX, FAILURES_FORGOTTEN_AFTER, FIRST_FAILURE_DELAY, FREE_FAILURES,
    OPEN_ATTEMPTS_MAX,
};
use crate::time::Timestamp;

/// Where attempts come from, and how many of them have failed. An address is here while an attempt of it is open, and when
/// one has failed.
#[derive(Debug, Default)]
pub struct Failures {
    addresses: HashMap<IpAddr, Trials>,
}

/// The attempts of one address.
#[derive(Debug, Default)]
struct Trials {
    failures: u32,
    last_failure: Timestamp,
    /// Attempts that are being looked at or whose answers are held back.
    open: u32,
}

impl Failures {
    /// Whether an attempt from this address is looked at. If it is, call [`end`](Self::end) when it is over.
    pub fn begin(&mut self, now: Timestamp, address: IpAddr) -> bool {
        let block = block_of(address);
        if !self.addresses.contains_key(&block) {
            self.make_room(now);
        }
        let trials = self.addresses.entry(block).or_default();
        if trials.is_over(now) {
            trials.failures = 0;
        }
        let is_admitted = trials.failures <= FREE_FAILURES || trials.open < OPEN_ATTEMPTS_MAX;
        trials.open += u32::from(is_admitted);
        is_admitted
    }

    /// An open attempt has failed: how long its answer waits.
    pub fn fail(&mut self, now: Timestamp, address: IpAddr) -> Duration {
        let trials = self.addresses.get_mut(&block_of(address)).expect("an attempt is open");
        trials.failures = trials.failures.saturating_add(1);
        trials.last_failure = now;
        delay_of(trials.failures)
    }

    /// An open attempt is over, answers and all.
    pub fn end(&mut self, address: IpAddr) {
        let block = block_of(address);
        let trials = self.addresses.get_mut(&block).expect("an attempt is open");
        trials.open -= 1;
        if trials.open == 0 && trials.failures == 0 {
            self.addresses.remove(&block);
        }
    }

    /// Forgets those that have been quiet for long, and if that does not help, who has been so for longest. An address with
    /// an open attempt stays: there are no more of those than clients in the gate.
    fn make_room(&mut self, now: Timestamp) {
        if self.addresses.len() < FAILED_ADDRESSES_MAX {
            return;
        }
        self.addresses.retain(|_, trials| trials.open > 0 || !trials.is_over(now));
        if self.addresses.len() >= FAILED_ADDRESSES_MAX {
            let quiet = self.addresses.iter().filter(|(_, trials)| trials.open == 0);
            if let Some(block) = quiet.min_by_key(|(_, trials)| trials.last_failure).map(|(block, _)| *block) {
                self.addresses.remove(&block);
            }
        }
    }
}

impl Trials {
    /// Whether its failures are forgotten.
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last_failure) >= FAILURES_FORGOTTEN_AFTER
    }
}

/// What the answer to the n-th failure waits.
fn delay_of(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_FAILURE_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(FAILURE_DELAY_MAX),
    }
}

/// What one machine has: an address of IPv4, or the first one of a /64.
#[must_use]
pub fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0A00_0000 + number).into()
    }

    /// Lets an attempt fail and be answered; what its answer waits.
    fn fail(failures: &mut Failures, now: Timestamp, address: IpAddr) -> u128 {
        assert!(failures.begin(now, address));
        let delay = failures.fail(now, address);
        failures.end(address);
        delay.as_millis()
    }

    #[test]
    fn answers_wait_longer_with_each_failure() {
        let mut failures = Failures::default();
        let delays: Vec<_> = (0..10).map(|_| fail(&mut failures, START, address(1))).collect();
        assert_eq!(delays, [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(fail(&mut failures, START, address(2)), 0, "another address is not slowed");
        let soon = START + (FAILURES_FORGOTTEN_AFTER - Duration::from_nanos(1));
        assert_eq!(fail(&mut failures, soon, address(1)), 4000);
        assert_eq!(fail(&mut failures, soon + FAILURES_FORGOTTEN_AFTER, address(1)), 0, "forgotten");
        failures.addresses.values_mut().for_each(|trials| trials.failures = u32::MAX);
        assert_eq!(fail(&mut failures, soon, address(1)), 4000);
    }

    #[test]
    fn an_address_that_fails_often_has_few_attempts_open() {
        let mut failures = Failures::default();
        for _ in 0..100 {
            assert!(failures.begin(START, address(1)), "who has not failed may come as often as he likes");
        }
        for _ in 0..=FREE_FAILURES {
            failures.fail(START, address(1));
        }
        assert!(!failures.begin(START, address(1)) && failures.begin(START, address(2)));
        for _ in OPEN_ATTEMPTS_MAX..=100 {
            failures.end(address(1));
        }
        assert!(failures.begin(START, address(1)));
        assert!(!failures.begin(START, address(1)));
    }

    #[test]
    fn who_succeeds_leaves_no_trace() {
        let mut failures = Failures::default();
        assert!(failures.begin(START, address(1)) && failures.begin(START, address(1)));
        failures.end(address(1));
        failures.end(address(1));
        assert!(failures.addresses.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_quiet_for_longest() {
        let mut failures = Failures::default();
        let count = u32::try_from(FAILED_ADDRESSES_MAX).expect("a small table");
        assert!(failures.begin(START, address(0))); // it stays open
        for number in 1..2 * count {
            fail(&mut failures, START + Duration::from_millis(number.into()), address(number));
            assert!(failures.addresses.len() <= FAILED_ADDRESSES_MAX);
        }
        assert!(
            failures.addresses.contains_key(&address(0)) && failures.addresses.contains_key(&address(2 * count - 1))
        );
        assert!(!failures.addresses.contains_key(&address(1)));
        fail(&mut failures, START + FAILURES_FORGOTTEN_AFTER * 2, address(1));
        assert_eq!(failures.addresses.len(), 2);
    }

    #[test]
    fn addresses_of_one_machine_are_one() {
        for (one, other, expected) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let [one, other] = [one, other].map(|text| block_of(text.parse().expect("an address")));
            assert_eq!(one == other, expected, "{one} {other}");
        }
    }
}
