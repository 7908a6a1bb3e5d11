//! How the values of flags are read and shown. Each error says what is allowed; clap adds the flag and what was given.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;

use crate::config::Pinning;

/// A number of bytes, shown with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Bytes<T>(pub(super) T);

/// A duration, shown with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Span(pub(super) Duration);

const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const SPAN_UNITS: [(&str, u64); 3] = [("m", 60_000), ("s", 1000), ("ms", 1)];

impl<T: Copy + Into<u64>> Display for Bytes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show_with_unit(f, self.0.into(), &BYTE_UNITS)
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show_with_unit(f, self.0.as_millis() as u64, &SPAN_UNITS)
    }
}

fn show_with_unit(f: &mut std::fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)]) -> std::fmt::Result {
    let (unit, size) = units
        .iter()
        .find(|(_, size)| amount >= *size && amount.is_multiple_of(*size))
        .unwrap_or(&units[units.len() - 1]);
    write!(f, "{}{unit}", amount / size)
}

/// Reads `12`, `12KiB` or `12 KiB`; `bare` is the unit of a number without one.
fn parse_with_unit(text: &str, bare: u64, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let size = match unit {
        "" => bare,
        unit => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(size)
}

/// A whole number within bounds.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| match text.parse::<T>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(allowed("a whole number", &bounds)),
    }
}

/// A power of two within bounds.
pub(super) fn power_of_two<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Copy + Into<u64> + Send + Sync + 'static,
{
    move |text: &str| match text.parse::<T>() {
        Ok(number) if bounds.contains(&number) && number.into().is_power_of_two() => Ok(number),
        _ => Err(allowed("a power of two", &bounds)),
    }
}

/// A number of bytes within bounds.
pub(super) fn bytes<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = Bytes<T>>
where
    T: TryFrom<u64> + PartialOrd + Copy + Into<u64> + Send + Sync + 'static,
{
    move |text: &str| {
        parse_with_unit(text, 1, &BYTE_UNITS)
            .and_then(|amount| T::try_from(amount).ok())
            .filter(|amount| bounds.contains(amount))
            .map(Bytes)
            .ok_or_else(|| {
                let (start, end) = (Bytes(*bounds.start()), Bytes(*bounds.end()));
                allowed("a size (B, KiB, MiB, GiB)", &(start..=end))
            })
    }
}

/// A duration within bounds.
pub(super) fn span(bounds: RangeInclusive<Duration>) -> impl TypedValueParser<Value = Span> {
    move |text: &str| {
        parse_with_unit(text, 1000, &SPAN_UNITS)
            .map(Duration::from_millis)
            .filter(|span| bounds.contains(span))
            .map(Span)
            .ok_or_else(|| {
                let (start, end) = (Span(*bounds.start()), Span(*bounds.end()));
                allowed("a duration (ms, s, m)", &(start..=end))
            })
    }
}

fn allowed<T: Display>(what: &str, bounds: &RangeInclusive<T>) -> String {
    format!("allowed is {what} from {} to {}", bounds.start(), bounds.end())
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "allowed is an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883")
}

/// An address of `--listen`, or `none`, which stands alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListenAddress(Option<SocketAddr>);

/// Reads an address of `--listen`.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, &'static str> {
    match text {
        "none" => Ok(ListenAddress(None)),
        text => address(text)
            .map(|address| ListenAddress(Some(address)))
            .map_err(|_| "allowed is an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883, or none"),
    }
}

/// The addresses that `--listen` says.
pub(super) fn addresses(listen: Vec<ListenAddress>) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<SocketAddr> = listen.iter().filter_map(|address| address.0).collect();
    if addresses.is_empty() || addresses.len() == listen.len() {
        Ok(addresses)
    } else {
        Err("--listen none: allowed only without an address beside it".to_owned())
    }
}

/// CPUs to pin shards to.
pub(super) fn pinning(text: &str) -> Result<Pinning, String> {
    match text {
        "auto" => Ok(Pinning::Auto),
        "none" => Ok(Pinning::Off),
        list => list
            .split(',')
            .map(cpu_range)
            .collect::<Option<Vec<_>>>()
            .map(|ranges| Pinning::Cpus(ranges.into_iter().flatten().collect()))
            .ok_or_else(|| "allowed is auto, none, or a list of CPUs such as 0,2-5".to_owned()),
    }
}

/// Reads `3` or `2-5`; CPUs above what Linux can number are not CPUs.
fn cpu_range(text: &str) -> Option<RangeInclusive<usize>> {
    const CPU_MAX: usize = 8191;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty() && *range.end() <= CPU_MAX).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn defaults_are_shown_with_their_unit() {
        assert_eq!(Bytes(config::MAX_PACKET_BYTES_DEFAULT).to_string(), "1MiB");
        assert_eq!(Bytes(1025u32).to_string(), "1025B");
        assert_eq!(Span(config::CONNECT_TIMEOUT_DEFAULT).to_string(), "10s");
        assert_eq!(Span(Duration::from_millis(1500)).to_string(), "1500ms");
    }
}
