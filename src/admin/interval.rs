//! What happened between two looks at counts that only go up.

use std::time::Duration;

use crate::io::Distribution;

/// How often something that happened so many times in an interval happened in a second.
pub(super) fn per_second(times: u64, interval: Duration) -> f64 {
    if interval.is_zero() {
        return 0.0;
    }
    // Tenths tell enough, and make short texts.
    (times as f64 / interval.as_secs_f64() * 10.0).round() / 10.0
}

/// What came to a distribution since it was `before`.
pub(super) fn since(now: &Distribution, before: &Distribution) -> Distribution {
    let within = now.within.iter().zip(&before.within);
    Distribution {
        within: within.map(|((bound, now), (_, before))| (*bound, now.saturating_sub(*before))).collect(),
        count: now.count.saturating_sub(before.count),
        sum: now.sum.saturating_sub(before.sum),
    }
}

/// Adds a distribution to another one that has the same bounds, or none yet.
pub(super) fn add(to: &mut Distribution, other: &Distribution) {
    if to.within.is_empty() {
        to.within.clone_from(&other.within);
    } else {
        for ((_, sum), (_, count)) in to.within.iter_mut().zip(&other.within) {
            *sum += count;
        }
    }
    to.count += other.count;
    to.sum += other.sum;
}

/// The time in seconds that this part of all took at most, as if what lies between two bounds were spread evenly there; none if
/// there is nothing. What exceeds the last bound counts as that.
pub(super) fn quantile(of: &Distribution, part: f64) -> Option<f64> {
    let (last, _) = of.within.last()?;
    if of.count == 0 {
        return None;
    }
    let wanted = part * of.count as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, within) in &of.within {
        if *within as f64 >= wanted {
            let share = (wanted - below as f64) / (within - below).max(1) as f64;
            return Some(lower + (bound - lower) * share.clamp(0.0, 1.0));
        }
        (lower, below) = (*bound, *within);
    }
    Some(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(within: &[(f64, u64)], count: u64) -> Distribution {
        Distribution { within: within.into(), count, sum: Duration::from_millis(count) }
    }

    #[test]
    fn rates_are_of_a_second() {
        let second = Duration::from_secs(1);
        assert_eq!(per_second(20, 2 * second), 10.0);
        assert_eq!(per_second(1, 3 * second), 0.3);
        assert_eq!(per_second(1, Duration::ZERO), 0.0);
    }

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let all = distribution(&[(1.0, 0), (2.0, 50), (4.0, 90)], 100);
        for (part, expected) in [(0.0, 0.0), (0.25, 1.5), (0.5, 2.0), (0.7, 3.0), (0.9, 4.0), (0.99, 4.0)] {
            assert_eq!(quantile(&all, part), Some(expected), "{part}");
        }
        assert_eq!(quantile(&distribution(&[(1.0, 0)], 0), 0.5), None);
        assert_eq!(quantile(&Distribution::default(), 0.5), None);
    }

    #[test]
    fn distributions_are_added_and_compared_by_their_bounds() {
        let (one, other) = (distribution(&[(1.0, 3), (2.0, 5)], 9), distribution(&[(1.0, 1), (2.0, 4)], 4));
        let mut sum = Distribution::default();
        add(&mut sum, &one);
        add(&mut sum, &other);
        assert_eq!(sum, distribution(&[(1.0, 4), (2.0, 9)], 13));
        assert_eq!(since(&sum, &other), one);
    }
}
