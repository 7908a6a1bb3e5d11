//! The command line: one row per flag, which yields its help, its environment variable, its default and its bounds.
//!
//! What is wrong with a value is told by the flag's name, what was given and what is allowed; the process then ends with
//! code 2. Defaults and bounds live in `config`; what only the machine can tell (a CPU, a port) is checked at start-up.

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Durability, GateLimits, Limits, Pinning, RingSizes, SHARDS_MAX, ServeConfig};

/// MQTT 3.1.1 and 5.0 broker that delivers exactly once.
#[derive(Debug, Parser)]
#[command(name = "oncemq", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Sizes take B, KiB, MiB or GiB, durations ms, s or m; a bare number is bytes or seconds.")]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients (what is done without a command).
    Serve(Box<ServeArguments>),
}

/// The flags of `serve`.
#[derive(Debug, Args)]
struct ServeArguments {
    /// Address to accept clients on; repeat for more. Loopback only, until access rules exist.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_LISTEN", value_delimiter = ',',
          default_value = config::LISTEN_DEFAULT, value_parser = loopback)]
    listen: Vec<SocketAddr>,

    /// Shards, each with a thread of its own [default: one per CPU that the process may use] [1..=64].
    #[arg(long, value_name = "COUNT", env = "ONCEMQ_SHARDS", value_parser = number(1..=SHARDS_MAX))]
    shards: Option<u16>,

    /// CPUs that shards are pinned to: `auto` (those the process may use, in turn), `none`, or a list such as 0,2-5.
    #[arg(long, value_name = "auto|none|LIST", env = "ONCEMQ_PIN", default_value = "auto",
          value_parser = pinning)]
    pin: Pinning,

    /// Operations that a shard hands to the kernel at once; a power of two [64..=32768].
    #[arg(long, value_name = "COUNT", env = "ONCEMQ_RING_ENTRIES", default_value_t = config::RING_ENTRIES_DEFAULT,
          value_parser = power_of_two(config::RING_ENTRIES))]
    ring_entries: u32,

    /// Receive buffers of a shard; a power of two [16..=32768].
    #[arg(long, value_name = "COUNT", env = "ONCEMQ_RECV_BUFFERS", default_value_t = config::RECV_BUFFERS_DEFAULT,
          value_parser = power_of_two(config::RECV_BUFFERS))]
    recv_buffers: u16,

    /// Size of one receive buffer [256..=1MiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_RECV_BUFFER_BYTES",
          default_value_t = Bytes(config::RECV_BUFFER_BYTES_DEFAULT), value_parser = bytes(config::RECV_BUFFER_BYTES))]
    recv_buffer_bytes: Bytes<u32>,

    /// Batches (of at most 128 letters) on the way from one shard to another [1..=4096].
    #[arg(long, value_name = "BATCHES", env = "ONCEMQ_ROUTING_RING", default_value_t = config::ROUTING_BATCHES_DEFAULT,
          value_parser = number(config::ROUTING_BATCHES))]
    routing_ring: u32,

    /// Letters that wait for one shard before the clients that cause them are paused [128..=16777216].
    #[arg(long, value_name = "LETTERS", env = "ONCEMQ_MAX_WAITING_LETTERS",
          default_value_t = config::MAX_WAITING_LETTERS_DEFAULT, value_parser = number(config::MAX_WAITING_LETTERS))]
    max_waiting_letters: u32,

    /// Largest packet accepted [1KiB..=128MiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_PACKET_BYTES",
          default_value_t = Bytes(config::MAX_PACKET_BYTES_DEFAULT), value_parser = bytes(config::MAX_PACKET_BYTES))]
    max_packet_bytes: Bytes<u32>,

    /// QoS 1 and 2 messages that a publisher may have unacknowledged; 5.0 publishers are told [1..=65535].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_RECEIVE_MAXIMUM", default_value_t = config::RECEIVE_MAXIMUM_DEFAULT,
          value_parser = number(config::RECEIVE_MAXIMUM))]
    receive_maximum: u16,

    /// QoS 1 and 2 messages that the broker has unacknowledged at one subscriber [1..=65535].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_MAX_INFLIGHT", default_value_t = config::MAX_INFLIGHT_DEFAULT,
          value_parser = number(config::MAX_INFLIGHT))]
    max_inflight: u16,

    /// Messages that wait for one session [1..=100000000].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_MAX_QUEUED_MESSAGES",
          default_value_t = config::MAX_QUEUED_MESSAGES_DEFAULT, value_parser = number(config::MAX_QUEUED_MESSAGES))]
    max_queued_messages: u32,

    /// Payload bytes that wait for one session [1KiB..=1024GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_QUEUED_BYTES",
          default_value_t = Bytes(config::MAX_QUEUED_BYTES_DEFAULT), value_parser = bytes(config::MAX_QUEUED_BYTES))]
    max_queued_bytes: Bytes<u64>,

    /// Messages waiting for a connected client from which on its publishers get no PUBACK or PUBREC until half of them are
    /// gone; above --max-queued-messages it never happens [1..=100000000].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_CONGESTION_MESSAGES",
          default_value_t = config::CONGESTION_MESSAGES_DEFAULT, value_parser = number(config::CONGESTION_MESSAGES))]
    congestion_messages: u32,

    /// Time after which a client that acknowledges nothing no longer holds its publishers up [100ms..=1h].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_STALL_TIMEOUT",
          default_value_t = Span(config::STALL_TIMEOUT_DEFAULT), value_parser = span(config::STALL_TIMEOUT))]
    stall_timeout: Span,

    /// Bytes that wait for the kernel on one connection; further messages stay in its queue [4KiB..=256MiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_OUTPUT_BYTES",
          default_value_t = Bytes(config::MAX_OUTPUT_BYTES_DEFAULT), value_parser = bytes(config::MAX_OUTPUT_BYTES))]
    max_output_bytes: Bytes<u32>,

    /// Retained messages that one shard keeps [0..=100000000].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_MAX_RETAINED_MESSAGES",
          default_value_t = config::MAX_RETAINED_MESSAGES_DEFAULT, value_parser = number(config::MAX_RETAINED_MESSAGES))]
    max_retained_messages: u32,

    /// Clients connected at once [default: what the open-file limit leaves] [1..=4000000].
    #[arg(long, value_name = "CLIENTS", env = "ONCEMQ_MAX_CONNECTIONS", value_parser = number(config::MAX_CONNECTIONS))]
    max_connections: Option<u32>,

    /// Clients whose CONNECT is not complete; further ones wait to be accepted [1..=65536].
    #[arg(long, value_name = "CLIENTS", env = "ONCEMQ_MAX_HALF_OPEN", default_value_t = config::MAX_HALF_OPEN_DEFAULT,
          value_parser = number(config::MAX_HALF_OPEN))]
    max_half_open: u32,

    /// Time that a client has to complete its CONNECT [100ms..=5m].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_CONNECT_TIMEOUT",
          default_value_t = Span(config::CONNECT_TIMEOUT_DEFAULT), value_parser = span(config::CONNECT_TIMEOUT))]
    connect_timeout: Span,

    /// Time that a client has to read why it was disconnected [10ms..=5m].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_LINGER",
          default_value_t = Span(config::LINGER_DEFAULT), value_parser = span(config::LINGER))]
    linger: Span,

    /// When an acknowledgement may leave. Only `none` (at once) until the log exists.
    #[arg(long, value_name = "none", env = "ONCEMQ_DURABILITY", default_value = "none", value_parser = durability)]
    durability: Durability,

    /// Directory of the log; not used with durability `none`.
    #[arg(long, value_name = "DIRECTORY", env = "ONCEMQ_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Least severe events that are logged, on standard error.
    #[arg(long, value_name = "LEVEL", env = "ONCEMQ_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogLevel {
    /// Failures that end the broker.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, end and counters.
    Info,
    /// Single clients, too.
    Debug,
    /// Everything.
    Trace,
}

impl Cli {
    /// What the broker shall do, and how much it shall tell about it.
    pub fn into_config(self) -> (ServeConfig, LogLevel) {
        let arguments = match self.command {
            Some(Command::Serve(arguments)) => *arguments,
            None => self.serve,
        };
        let log_level = arguments.log_level;
        (arguments.into_config(), log_level)
    }
}

impl ServeArguments {
    fn into_config(self) -> ServeConfig {
        ServeConfig {
            listen: self.listen,
            shards: self.shards.and_then(NonZeroU16::new),
            pinning: self.pin,
            durability: self.durability,
            data_dir: self.data_dir,
            limits: Limits {
                max_log_backlog_bytes: config::MAX_LOG_BACKLOG_BYTES,
                max_packet_bytes: self.max_packet_bytes.0,
                receive_maximum: self.receive_maximum,
                max_inflight: self.max_inflight,
                max_queued_messages: self.max_queued_messages,
                max_queued_bytes: self.max_queued_bytes.0,
                congestion_messages: self.congestion_messages,
                stall_timeout: self.stall_timeout.0,
                max_output_bytes: self.max_output_bytes.0,
                max_waiting_letters: self.max_waiting_letters,
                max_retained_messages: self.max_retained_messages,
                linger: self.linger.0,
            },
            gate: GateLimits {
                max_connect_bytes: self.max_packet_bytes.0.min(config::MAX_CONNECT_BYTES),
                max_half_open: self.max_half_open,
                max_connections: self.max_connections,
                connect_timeout: self.connect_timeout.0,
                linger: self.linger.0,
            },
            rings: RingSizes {
                entries: self.ring_entries,
                recv_buffers: self.recv_buffers,
                recv_buffer_bytes: self.recv_buffer_bytes.0,
                routing_batches: self.routing_ring,
            },
        }
    }
}

impl LogLevel {
    /// The name of the level, as it is given.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// A number of bytes, shown with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Bytes<T>(T);

/// A duration, shown with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Span(Duration);

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
fn number<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| match text.parse::<T>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(allowed("a whole number", &bounds)),
    }
}

/// A power of two within bounds.
fn power_of_two<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Copy + Into<u64> + Send + Sync + 'static,
{
    move |text: &str| match text.parse::<T>() {
        Ok(number) if bounds.contains(&number) && number.into().is_power_of_two() => Ok(number),
        _ => Err(allowed("a power of two", &bounds)),
    }
}

/// A number of bytes within bounds.
fn bytes<T>(bounds: RangeInclusive<T>) -> impl TypedValueParser<Value = Bytes<T>>
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
fn span(bounds: RangeInclusive<Duration>) -> impl TypedValueParser<Value = Span> {
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

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "allowed is an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883")?;
    if address.ip().to_canonical().is_loopback() {
        Ok(address)
    } else {
        Err(
            "anyone could connect: access rules do not exist yet, so only loopback addresses are allowed; use 127.0.0.1 \
             or [::1]"
                .to_owned(),
        )
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "none" => Ok(Durability::None),
        "write" | "sync" => Err("the log does not exist yet; allowed is none".to_owned()),
        _ => Err("allowed is none".to_owned()),
    }
}

fn pinning(text: &str) -> Result<Pinning, String> {
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
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<ServeConfig, String> {
        let arguments = [&["oncemq"], arguments].concat();
        Cli::try_parse_from(arguments).map(|cli| cli.into_config().0).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        let plain = parse(&["--shards", "2"]).expect("flags alone");
        let spelled = parse(&["serve", "--shards", "2"]).expect("the command spelled out");
        assert_eq!(plain.shards.map(NonZeroU16::get), Some(2));
        assert_eq!(spelled.shards, plain.shards);
    }

    #[test]
    fn units_are_understood() {
        let config = parse(&[
            "--max-packet-bytes",
            "2MiB",
            "--max-queued-bytes",
            "4096",
            "--connect-timeout",
            "500ms",
            "--linger",
            "2",
            "--pin",
            "1,4-6",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "[::1]:2",
        ])
        .expect("good values");
        assert_eq!(config.limits.max_packet_bytes, 2 << 20);
        assert_eq!(config.limits.max_queued_bytes, 4096);
        assert_eq!(config.gate.connect_timeout, Duration::from_millis(500));
        assert_eq!(config.limits.linger, Duration::from_secs(2));
        assert_eq!(config.pinning, Pinning::Cpus(vec![1, 4, 5, 6]));
        assert_eq!(config.listen.len(), 2);
    }

    #[test]
    fn defaults_are_shown_with_their_unit() {
        assert_eq!(Bytes(config::MAX_PACKET_BYTES_DEFAULT).to_string(), "1MiB");
        assert_eq!(Bytes(1025u32).to_string(), "1025B");
        assert_eq!(Span(config::CONNECT_TIMEOUT_DEFAULT).to_string(), "10s");
        assert_eq!(Span(Duration::from_millis(1500)).to_string(), "1500ms");
    }

    #[test]
    fn a_bad_value_is_told_by_flag_value_and_what_is_allowed() {
        for (flag, value, allowed) in [
            ("--shards", "0", "from 1 to 64"),
            ("--shards", "65", "from 1 to 64"),
            ("--ring-entries", "100", "a power of two from 64 to 32768"),
            ("--recv-buffers", "8", "a power of two from 16 to 32768"),
            ("--recv-buffer-bytes", "2MiB", "from 256B to 1MiB"),
            ("--max-packet-bytes", "257MiB", "from 1KiB to"),
            ("--max-packet-bytes", "many", "KiB"),
            ("--receive-maximum", "0", "from 1 to 65535"),
            ("--connect-timeout", "0", "from 100ms to 5m"),
            ("--linger", "1h", "(ms, s, m)"),
            ("--listen", "0.0.0.0:1883", "access rules do not exist yet"),
            ("--listen", "[::]:1883", "[::1]"),
            ("--listen", "localhost", "127.0.0.1:1883"),
            ("--durability", "sync", "the log does not exist yet"),
            ("--durability", "some", "allowed is none"),
            ("--pin", "3-1", "a list of CPUs"),
            ("--pin", "all", "a list of CPUs"),
            ("--log-level", "loud", "debug"),
        ] {
            let text = parse(&[flag, value]).expect_err("refused");
            for part in [flag, value, allowed] {
                assert!(text.contains(part), "{flag} {value}: {text}");
            }
        }
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for argument in Cli::command().get_arguments().filter(|argument| argument.get_long().is_some()) {
            let long = argument.get_long().unwrap_or_default();
            if matches!(long, "help" | "version") {
                continue;
            }
            let expected = format!("ONCEMQ_{}", long.replace('-', "_").to_uppercase());
            let variable = argument.get_env().and_then(|name| name.to_str());
            assert_eq!(variable, Some(expected.as_str()), "--{long}");
        }
    }
}
