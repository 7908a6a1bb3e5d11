//! Parsers for the values of flags. Each error says what is allowed; clap adds the flag and what was given.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use oncemq::proto::{QoS, Version};

use super::transport::{TransportKind, websocket_path};

/// Longest duration that a flag takes.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Highest rate that a flag takes, per second.
const RATE_MAX: f64 = 1e9;

/// Longest topic prefix, which leaves room for a number within the 65,535 bytes of a topic.
const TOPIC_PREFIX_BYTES_MAX: usize = 1024;

/// `mqtt://HOST[:PORT]`, also with `mqtts`; `ws://HOST[:PORT][/PATH]`, also with `wss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    pub(super) kind: TransportKind,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Of a WebSocket.
    pub(super) path: Option<Box<str>>,
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let expected = || {
            "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], or ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH], \
             with IPv6 addresses in brackets"
                .to_owned()
        };
        let (scheme, rest) = given.split_once("://").ok_or_else(expected)?;
        let kind = TransportKind::of_scheme(scheme).ok_or_else(expected)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = match (kind.has_web_socket(), path) {
            (true, "") | (false, "" | "/") => None,
            (true, path) => Some(websocket_path(path)?),
            (false, _) => return Err(expected()),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or_else(expected)?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map(|port| port.parse().ok().filter(|&port| port != 0).ok_or_else(expected)).transpose()?;
        match host.is_empty() || host.contains('@') {
            true => Err(expected()),
            false => Ok(Self { kind, host: host.to_owned(), port, path }),
        }
    }
}

pub(super) fn version(given: &str) -> Result<Version, String> {
    match given {
        "3.1.1" => Ok(Version::V311),
        "5.0" | "5" => Ok(Version::V5),
        _ => Err("expected 3.1.1 or 5.0".to_owned()),
    }
}

pub(super) fn qos(given: &str) -> Result<QoS, String> {
    given.parse().ok().and_then(QoS::from_bits).ok_or_else(|| "expected 0, 1 or 2".to_owned())
}

pub(super) fn qos_with_handshake(given: &str) -> Result<QoS, String> {
    match qos(given) {
        Ok(QoS::AtMostOnce) | Err(_) => Err("expected 1 or 2".to_owned()),
        Ok(qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce)) => Ok(qos),
    }
}

pub(super) fn rate(given: &str) -> Result<f64, String> {
    given
        .parse()
        .ok()
        .filter(|rate| *rate > 0.0 && *rate <= RATE_MAX)
        .ok_or_else(|| format!("expected a number per second above 0, at most {RATE_MAX:.0}"))
}

pub(super) fn rate_or_zero(given: &str) -> Result<f64, String> {
    match given.parse() {
        Ok(0.0) => Ok(0.0),
        Ok(_) | Err(_) => rate(given).map_err(|_| format!("expected 0, or a number per second, at most {RATE_MAX:.0}")),
    }
}

pub(super) fn unix_time(given: &str) -> Result<SystemTime, String> {
    given
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|since_epoch| SystemTime::UNIX_EPOCH.checked_add(since_epoch))
        .ok_or_else(|| "expected seconds since 1970-01-01 00:00 UTC".to_owned())
}

pub(super) fn duration(given: &str) -> Result<Duration, String> {
    let unit_start =
        given.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(given.len());
    let (number, unit) = given.split_at(unit_start);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(duration_expected()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds_per_unit).ok())
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(duration_expected)
}

pub(super) fn duration_above_zero(given: &str) -> Result<Duration, String> {
    match duration(given)? {
        Duration::ZERO => Err("must be above 0".to_owned()),
        above_zero => Ok(above_zero),
    }
}

pub(super) fn topic_prefix(given: &str) -> Result<String, String> {
    if given.is_empty() || given.contains(['+', '#', '\0']) {
        return Err("expected a topic without the wildcards + and #".to_owned());
    }
    if given.len() > TOPIC_PREFIX_BYTES_MAX {
        return Err(format!("expected at most {TOPIC_PREFIX_BYTES_MAX} bytes"));
    }
    Ok(given.to_owned())
}

fn duration_expected() -> String {
    "expected a duration such as 500us, 250ms, 10s, 2m or 1h, at most 720h".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (given, expected) in [
            ("10", Duration::from_secs(10)),
            ("10s", Duration::from_secs(10)),
            ("1.5s", Duration::from_millis(1500)),
            ("250ms", Duration::from_millis(250)),
            ("500us", Duration::from_micros(500)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3600)),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(duration(given), Ok(expected), "{given}");
        }
        for wrong in ["", "s", "-1s", "1d", "1 s", "1.2.3s", "721h", "nan", "inf"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        assert!(duration_above_zero("0ms").is_err());
        assert_eq!(duration_above_zero("1us"), Ok(Duration::from_micros(1)));
    }

    #[test]
    fn urls_name_a_host_and_maybe_a_port() {
        let url = |given: &str| given.parse::<BrokerUrl>().map(|url| (url.host, url.port));
        assert_eq!(url("mqtt://a.example"), Ok(("a.example".to_owned(), None)));
        assert_eq!(url("mqtt://127.0.0.1:99/"), Ok(("127.0.0.1".to_owned(), Some(99))));
        assert_eq!(url("mqtts://[::1]:99"), Ok(("::1".to_owned(), Some(99))));
        assert_eq!(url("wss://[::1]/mqtt"), Ok(("::1".to_owned(), None)));
        for wrong in [
            "a:1",
            "http://a",
            "mqtt://",
            "mqtt://a:0",
            "mqtt://a:x",
            "mqtt://u@a",
            "mqtt://[::1",
            "mqtt://a/path",
            "ws://",
            "ws:///mqtt",
            "ws://a/#",
        ] {
            assert!(url(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates_are_numbers_above_zero() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "1e10", "x"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(rate_or_zero("0"), Ok(0.0));
        assert_eq!(rate_or_zero("7"), Ok(7.0));
        assert!(rate_or_zero("-1").is_err());
    }
}
