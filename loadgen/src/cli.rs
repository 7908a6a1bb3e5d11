//! The command line: the commands, their flags with units, defaults and bounds.
//!
//! Values are parsed into types that can't be wrong ([`values`]); what only two flags together can get wrong is checked
//! by the command that uses them.

mod transport;
mod values;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{ArgAction, Args, Parser, Subcommand};
use oncemq::proto::{QoS, Version};

use crate::cpus::CpuSet;
use crate::payload::STAMP_BYTES;
use crate::shape::ShapeKind;

pub(crate) use transport::{Layers, TlsLayer, TransportArguments, TransportKind};
pub(crate) use values::BrokerUrl;
use values::{duration, duration_above_zero, qos, rate, rate_or_zero, version};

/// Largest payload that a publisher sends.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Clients of each kind that one command opens.
pub(crate) const CLIENTS_MAX: u32 = 1_000_000;

/// Threads that one command starts.
const THREADS_MAX: i64 = 64;

/// Loads any MQTT broker and proves what it delivered.
///
/// Durations take a unit: 500us, 250ms, 10s, 2m, 1h; a bare number is seconds.
///
/// Exit status: 0 when the ledger balances, 1 when it does not or when the run failed (the run is void), 2 for a wrong
/// command line or when the clients could not connect.
#[derive(Debug, Parser)]
#[command(name = "oncemq-loadgen", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publishes and subscribes, measures rate and latency, and balances the ledger of every message.
    Run(RunArguments),
    /// Opens and holds clients that stay idle; measures connects per second and broker memory per client.
    Connect(ConnectArguments),
    /// Drops connections at every point of the handshakes, kills the broker too, resumes the sessions, and balances the
    /// ledger.
    Chaos(ChaosArguments),
    /// Leaves messages at the broker for subscribers that are away; `collect` fetches them.
    ///
    /// Both commands need the same prefixes, shape, counts, quality and protocol; the prefixes default to
    /// oncemq-loadgen-backlog here.
    Fill(BacklogArguments),
    /// Returns for all that `fill` left at the broker, balances the ledger, and ends the sessions.
    ///
    /// Both commands need the same prefixes, shape, counts, quality and protocol; the prefixes default to
    /// oncemq-loadgen-backlog here.
    Collect(BacklogArguments),
    /// Sets two reports side by side: what differs between them, and the ratios of the figures.
    Compare(CompareArguments),
}

/// Where the broker is and how to speak to it.
#[derive(Clone, Debug, Args)]
pub(crate) struct BrokerArguments {
    /// Address of the broker: mqtt://HOST[:PORT], mqtts://HOST[:PORT], ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH].
    /// Overrides --host, --port and --transport.
    #[arg(long, value_name = "URL")]
    url: Option<BrokerUrl>,

    /// Host name or IP address of the broker.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// TCP port of the broker [1-65535] [default: 1883; with tls 8883, with ws 80, with wss 443].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    #[command(flatten)]
    transport: TransportArguments,

    /// Protocol version: 3.1.1 or 5.0.
    #[arg(long, default_value = "5.0", value_parser = version)]
    pub(crate) protocol: Version,

    /// Process id of the broker on this machine: reports its processor time and memory, and keeps the generator off
    /// its CPUs where others are allowed.
    #[arg(long, value_name = "PID")]
    pub(crate) broker_pid: Option<u32>,

    /// Client ids are this, a letter for the role and a number [default: oncemq-loadgen-PID].
    #[arg(long, value_name = "TEXT")]
    pub(crate) client_id_prefix: Option<String>,

    /// Topics are this, a slash and a number [default: oncemq-loadgen-PID]. No wildcards.
    #[arg(long, value_name = "TOPIC", value_parser = values::topic_prefix)]
    pub(crate) topic_prefix: Option<String>,

    /// Keep-alive of every client in seconds, 0 for none [0-65535].
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) keep_alive: u16,

    /// Connections opened per second over all threads; no more than 128 of each thread wait for CONNACK or SUBACK.
    #[arg(long, value_name = "PER_SECOND", default_value = "2000", value_parser = rate, allow_negative_numbers = true)]
    pub(crate) connect_rate: f64,

    /// How long connecting and subscribing may make no progress before the command gives up.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_above_zero)]
    pub(crate) connect_timeout: Duration,
}

/// Where a broker is, and what lies between its socket and MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) kind: TransportKind,
    pub(crate) layers: Layers,
}

impl BrokerArguments {
    /// Where the broker is.
    ///
    /// # Errors
    /// If flags do not fit together; the text names them.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        let (host, port, kind, path) = match &self.url {
            Some(url) => (&url.host, url.port, url.kind, url.path.as_deref()),
            None => (&self.host, self.port, self.transport.transport, None),
        };
        let layers = self.transport.layers(kind, path)?;
        Ok(Endpoint { host: host.clone(), port: port.unwrap_or(kind.default_port()), kind, layers })
    }
}

/// Where the generator itself runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct MachineArguments {
    /// Threads, each with its own io_uring and pinned to one CPU [1-64] [default: 2, or 1 if only one CPU is left].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u16>,

    /// Run on these CPUs only, such as 0,2-3; threads take them in turn.
    #[arg(long, value_name = "CPUS", conflicts_with = "avoid_cpus")]
    pub(crate) pin: Option<CpuSet>,

    /// Run on any allowed CPU but these [default: those of --broker-pid, if that leaves any].
    #[arg(long, value_name = "CPUS")]
    pub(crate) avoid_cpus: Option<CpuSet>,
}

/// How to report.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArguments {
    /// Print the report as one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// No live progress on standard error.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,

    /// Who hears whom.
    #[arg(long, value_enum, default_value_t = ShapeKind::Pairs)]
    pub(crate) shape: ShapeKind,

    /// Publishing clients [1-1000000].
    #[arg(long, default_value_t = 10, value_parser = client_count())]
    pub(crate) publishers: u32,

    /// Subscribing clients [1-1000000].
    #[arg(long, default_value_t = 10, value_parser = client_count())]
    pub(crate) subscribers: u32,

    /// How many of a hundred publishers publish to subscribers of another shard; their client ids are chosen for that. Of a
    /// OnceMQ with `--broker-shards` shards [0-100, default: as it comes].
    #[arg(long, value_name = "PERCENT", requires = "broker_shards", value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) crossing: Option<u32>,

    /// The `--shards` of the broker [2-64].
    #[arg(long, value_name = "SHARDS", requires = "crossing", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) broker_shards: Option<u16>,

    /// Give all clients sessions that outlive their connections, such as only a log can keep safe (3.1.1: no clean session;
    /// 5.0: no expiry). They are ended after the run.
    #[arg(long)]
    pub(crate) persistent: bool,

    /// Quality of service of messages and subscriptions: 0, 1 or 2. At 0 losses are reported but do not void the run.
    #[arg(long, default_value = "2", value_parser = qos)]
    pub(crate) qos: QoS,

    /// Payload size in bytes [20-1048576]; the first 20 identify the message.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload_bytes())]
    pub(crate) payload_bytes: u32,

    /// Unfinished exchanges of each publisher at a time, at QoS 1 and 2 [1-65535]; a 5.0 broker's Receive Maximum
    /// lowers it. At QoS 0 only the socket holds a publisher back.
    #[arg(long, value_name = "MESSAGES", default_value_t = 10, value_parser = window())]
    pub(crate) window: u16,

    /// Open loop: messages per second of all publishers together; latency counts from the time a message was due.
    /// Without it (closed loop) every publisher sends as fast as its window lets it.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, allow_negative_numbers = true)]
    pub(crate) rate: Option<f64>,

    /// When to begin to publish, in seconds since 1970 (`date +%s`), so that several generators, each with clients of its own,
    /// make one load; it must not be over when the last client has connected [default: as soon as all have].
    #[arg(long, value_name = "UNIX_SECONDS", value_parser = values::unix_time)]
    pub(crate) start_at: Option<SystemTime>,

    /// Publish for this long before measuring.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, conflicts_with = "count")]
    pub(crate) warm_up: Duration,

    /// Measure for this long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_above_zero)]
    pub(crate) duration: Duration,

    /// Publish this many messages from each publisher instead; all of them are measured, with no warm-up.
    #[arg(long, value_name = "MESSAGES", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// After the last message was sent, how long nothing may arrive before what is missing counts as lost.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration_above_zero)]
    pub(crate) drain_timeout: Duration,

    /// Write the report as a page with plots to this file, for any browser.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write an HdrHistogram interval log (V2) of both latencies to this file; a long run has longer intervals, so that there are
    /// no more than 1,024.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
}

/// Flags of `connect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArguments {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,

    /// Clients to open [1-1000000].
    #[arg(long, default_value_t = 1_000, value_parser = client_count())]
    pub(crate) clients: u32,

    /// Whether each client subscribes to one filter of its own (QoS 2).
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(crate) subscribe: bool,

    /// How long to hold the clients once all are open.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) hold: Duration,

    /// Pause at these numbers of clients, ascending, and read the broker's memory; the slope between the first and the
    /// last is the memory per client, as long as the broker was started for this measurement. Needs --broker-pid.
    #[arg(long, value_name = "CLIENTS,...", value_delimiter = ',', value_parser = client_count(), requires = "broker_pid")]
    pub(crate) measure_at: Vec<u32>,

    /// How long the broker is left alone before its memory is read.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(crate) settle: Duration,
}

/// Flags of `chaos`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChaosArguments {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,

    /// Host name or IP address of another broker, for the subscribers: a bridge has to bring it what is published at the
    /// first [default: --host, or that of --url].
    #[arg(long, value_name = "HOST", conflicts_with = "broker_command")]
    pub(crate) subscribe_host: Option<String>,

    /// TCP port there [1-65535] [default: --port, or that of --url].
    #[arg(long, value_name = "PORT", conflicts_with = "broker_command", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) subscribe_port: Option<u16>,

    /// Pairs of a publisher and a subscriber, all with persistent sessions [1-10000].
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pairs: u32,

    /// Quality of service: 1 or 2.
    #[arg(long, default_value = "2", value_parser = values::qos_with_handshake)]
    pub(crate) qos: QoS,

    /// Payload size in bytes [20-1024].
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=1024))]
    pub(crate) payload_bytes: u32,

    /// Unfinished exchanges of each publisher at a time [1-100].
    #[arg(long, value_name = "MESSAGES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) window: u16,

    /// Messages per second of all publishers together, as far as their windows let them; what is due while a publisher is away
    /// follows. Without it every publisher sends as fast as its window lets it.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, allow_negative_numbers = true)]
    pub(crate) rate: Option<f64>,

    /// Publish and drop connections for this long.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration_above_zero)]
    pub(crate) duration: Duration,

    /// Connections dropped or taken over per second, over all clients, as far as the broker keeps up; 0 for none.
    #[arg(long, value_name = "PER_SECOND", default_value = "300", value_parser = rate_or_zero, allow_negative_numbers = true)]
    pub(crate) drop_rate: f64,

    /// Start the broker with this shell command, and kill it in the end; --port says where it accepts clients.
    #[arg(long = "broker", value_name = "COMMAND", requires = "kill_every", conflicts_with = "broker_pid")]
    pub(crate) broker_command: Option<String>,

    /// Kill the broker with SIGKILL after a random time of this mean since it began to answer, and start it again; one start in
    /// eight is killed before it answers. Needs --broker.
    #[arg(long, value_name = "DURATION", requires = "broker_command", value_parser = duration_above_zero)]
    pub(crate) kill_every: Option<Duration>,

    /// End after so many kills instead of after --duration.
    #[arg(long, value_name = "KILLS", requires = "broker_command", conflicts_with = "duration",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) kills: Option<u64>,

    /// Append what the broker prints to this file [default: its standard error is that of this command].
    #[arg(long, value_name = "FILE", requires = "broker_command")]
    pub(crate) broker_log: Option<PathBuf>,

    /// How long a broker may take from its start until it accepts a CONNECT.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration_above_zero)]
    pub(crate) restart_timeout: Duration,

    /// Seed of the choice of drops and kills; the timing stays the machine's [default: from the clock, and printed].
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// After the last message was sent, how long nothing may arrive before what is missing counts as lost.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_above_zero)]
    pub(crate) drain_timeout: Duration,

    /// Write the report as a page with a plot to this file, for any browser.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Flags of `fill` and of `collect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BacklogArguments {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) machine: MachineArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,

    /// Who hears whom.
    #[arg(long, value_enum, default_value_t = ShapeKind::FanIn)]
    pub(crate) shape: ShapeKind,

    /// Publishing clients [1-1000000].
    #[arg(long, default_value_t = 10, value_parser = client_count())]
    pub(crate) publishers: u32,

    /// Subscribing clients with a persistent session [1-1000000].
    #[arg(long, default_value_t = 1, value_parser = client_count())]
    pub(crate) subscribers: u32,

    /// Quality of service: 1 or 2.
    #[arg(long, default_value = "2", value_parser = values::qos_with_handshake)]
    pub(crate) qos: QoS,

    /// Messages of each publisher.
    #[arg(long, value_name = "MESSAGES", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// Payload size in bytes [20-1048576].
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload_bytes())]
    pub(crate) payload_bytes: u32,

    /// Unfinished exchanges of each publisher at a time [1-65535].
    #[arg(long, value_name = "MESSAGES", default_value_t = 100, value_parser = window())]
    pub(crate) window: u16,

    /// How long nothing may arrive before what is missing counts as lost.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_above_zero)]
    pub(crate) drain_timeout: Duration,
}

/// What `compare` compares.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArguments {
    /// A report that was printed with --json.
    #[arg(value_name = "A.json")]
    pub(crate) first: PathBuf,

    /// Another one; ratios are of this one to the first.
    #[arg(value_name = "B.json")]
    pub(crate) second: PathBuf,
}

fn client_count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX))
}

fn payload_bytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(STAMP_BYTES as i64..=PAYLOAD_BYTES_MAX as i64)
}

fn window() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_full_line_of_run_is_understood() {
        let arguments = parse(
            "loadgen run --url mqtt://127.0.0.1:1884 --shape fan-in --publishers 1000 --subscribers 4 --qos 1 \
             --protocol 3.1.1 --payload-bytes 20 --window 100 --rate 5000 --warm-up 500ms --duration 2m --pin 0,1",
        )
        .expect("valid");
        let Command::Run(run) = arguments.command else {
            panic!("not run");
        };
        assert_eq!(run.shape, ShapeKind::FanIn);
        assert_eq!((run.publishers, run.subscribers), (1000, 4));
        assert_eq!(run.qos, QoS::AtLeastOnce);
        assert_eq!(run.broker.protocol, Version::V311);
        assert_eq!(run.rate, Some(5000.0));
        assert_eq!(run.warm_up, Duration::from_millis(500));
        assert_eq!(run.duration, Duration::from_secs(120));
        assert_eq!(run.count, None);
    }

    #[test]
    fn an_error_names_the_flag_and_what_was_given() {
        for (line, flag, given) in [
            ("loadgen run --payload-bytes 19", "--payload-bytes", "19"),
            ("loadgen run --qos 3", "--qos", "3"),
            ("loadgen run --protocol 4", "--protocol", "4"),
            ("loadgen run --window 0", "--window", "0"),
            ("loadgen run --rate -1", "--rate", "-1"),
            ("loadgen run --rate 0", "--rate", "0"),
            ("loadgen run --start-at noon", "--start-at", "noon"),
            ("loadgen run --duration 5y", "--duration", "5y"),
            ("loadgen run --duration 0s", "--duration", "0s"),
            ("loadgen run --url http://h", "--url", "http://h"),
            ("loadgen run --pin 1-0", "--pin", "1-0"),
            ("loadgen run --topic-prefix a/#", "--topic-prefix", "a/#"),
            ("loadgen chaos --qos 0", "--qos", "0"),
            ("loadgen chaos --drop-rate -1", "--drop-rate", "-1"),
        ] {
            let error = parse(line).expect_err(line);
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(text.contains(flag) && text.contains(given), "{line}: {text}");
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        for line in [
            "loadgen run --count 5 --duration 5s",
            "loadgen run --count 5 --warm-up 5s",
            "loadgen run --pin 0 --avoid-cpus 1",
            "loadgen chaos --broker b --kill-every 1s --kills 3 --duration 5s",
            "loadgen chaos --broker b --kill-every 1s --subscribe-port 1884",
        ] {
            let kind = parse(line).map(|_| ()).expect_err(line).kind();
            assert_eq!(kind, ErrorKind::ArgumentConflict, "{line}");
        }
        for line in [
            "loadgen connect --measure-at 10,20",
            "loadgen chaos --kill-every 2s",
            "loadgen chaos --broker oncemq",
            "loadgen chaos --broker-log log",
            "loadgen chaos --kills 3",
        ] {
            let kind = parse(line).map(|_| ()).expect_err(line).kind();
            assert_eq!(kind, ErrorKind::MissingRequiredArgument, "{line}");
        }
    }
}
