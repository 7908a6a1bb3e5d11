//! Which CPUs the generator runs on: away from the broker where the machine allows it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// CPU numbers that a list may name, exclusive.
const CPU_NUMBER_END: usize = 4096;

/// A set of CPU numbers, written as Linux does: `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet(BTreeSet<usize>);

/// A list of CPUs that can't be read, or that leaves none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum CpuError {
    #[error("{given:?} is not a list of CPUs such as 0,2-3 with numbers below {CPU_NUMBER_END}")]
    Malformed { given: String },
    #[error("--pin names CPUs {refused}, but this process may run on {allowed} only")]
    NotAllowed { refused: CpuSet, allowed: CpuSet },
    #[error("--avoid-cpus leaves none of the CPUs on which this process may run ({allowed})")]
    NoneLeft { allowed: CpuSet },
}

impl CpuSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

/// Chooses the CPUs. `pin` and `avoid` are what the user asked for; `broker` is where the broker may run, if known.
pub(crate) fn choose(
    allowed: &CpuSet,
    pin: Option<&CpuSet>,
    avoid: Option<&CpuSet>,
    broker: Option<&CpuSet>,
) -> Result<CpuSet, CpuError> {
    if let Some(pin) = pin {
        let refused = pin.without(allowed);
        return if refused.is_empty() {
            Ok(pin.clone())
        } else {
            Err(CpuError::NotAllowed { refused, allowed: allowed.clone() })
        };
    }
    if let Some(avoid) = avoid {
        let left = allowed.without(avoid);
        return if left.is_empty() { Err(CpuError::NoneLeft { allowed: allowed.clone() }) } else { Ok(left) };
    }
    let left = allowed.without(broker.unwrap_or(&CpuSet::default()));
    Ok(if left.is_empty() { allowed.clone() } else { left })
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuError;

    fn from_str(given: &str) -> Result<Self, CpuError> {
        let malformed = || CpuError::Malformed { given: given.to_owned() };
        let number =
            |text: &str| text.parse::<usize>().ok().filter(|&number| number < CPU_NUMBER_END).ok_or_else(malformed);
        let mut numbers = BTreeSet::new();
        for part in given.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(malformed());
            }
            numbers.extend(first..=last);
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, number) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(formatter, "{comma}{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> CpuSet {
        list.parse().expect("a list")
    }

    #[test]
    fn lists_are_read_as_linux_writes_them() {
        assert_eq!(set("0").to_string(), "0");
        assert_eq!(set("0-3,8,2").to_string(), "0,1,2,3,8");
        for malformed in ["", "a", "1-", "3-1", "0,,1", "-1", "4096", "0-99999999999"] {
            assert!(malformed.parse::<CpuSet>().is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn the_generator_avoids_the_broker_when_it_can() {
        let allowed = set("0-3");
        let choice = |pin: Option<&str>, avoid: Option<&str>, broker: Option<&str>| {
            let [pin, avoid, broker] = [pin, avoid, broker].map(|list| list.map(set));
            choose(&allowed, pin.as_ref(), avoid.as_ref(), broker.as_ref()).map(|chosen| chosen.to_string())
        };
        assert_eq!(choice(None, None, None), Ok("0,1,2,3".to_owned()));
        assert_eq!(choice(None, None, Some("0,1")), Ok("2,3".to_owned()));
        assert_eq!(choice(None, None, Some("0-7")), Ok("0,1,2,3".to_owned()));
        assert_eq!(choice(None, Some("3"), Some("0")), Ok("0,1,2".to_owned()));
        assert_eq!(choice(Some("1"), Some("1"), Some("1")), Ok("1".to_owned()));
        assert_eq!(
            choice(Some("1,9"), None, None),
            Err(CpuError::NotAllowed { refused: set("9"), allowed: allowed.clone() })
        );
        assert_eq!(choice(None, Some("0-3"), None), Err(CpuError::NoneLeft { allowed: allowed.clone() }));
    }
}
