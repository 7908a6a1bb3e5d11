//! The command line: one row per flag, which yields its help, its environment variable, its default and its bounds.
//!
//! What is wrong with a value is told by the flag's name, what was given and what is allowed; the process then ends with
//! code 2. Defaults and bounds live in `config`; what only the machine can tell (a CPU, a port) is checked at start-up.
//!
//! Every flag of `serve` is also a key of the file that `--config` names. Flags win over the environment, that over the file,
//! and the file over defaults. So that a value may come from either, no flag of `serve` requires or excludes another one in its
//! row: what does not fit together is found in `ServeArguments::into_config`, when all values are known.

mod access;
mod admin;
mod bridges;
mod documents;
mod file;
mod loading;
mod mosquitto;
mod proxy;
mod reference;
mod service;
mod settings;
mod tls;
mod toml_text;
mod values;
mod web_socket;
mod words;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::auth::Scheme;
use crate::config::{
    self, Durability, GateLimits, Limits, LogSettings, Pinning, QueuePolicy, RingSizes, SHARDS_MAX, ServeConfig,
    SharedBalance, SlowReaderPolicy,
};
use crate::store::RecoveryMode;

use access::{AccessArguments, PasswordArguments};
use admin::AdminArguments;
use bridges::{BridgeArgument, TopicArgument};
use proxy::ProxyArguments;
use service::ServiceArguments;
use tls::{TlsArguments, addresses};
use values::{Bytes, ListenAddress, Span, bytes, listen_address, number, pinning, power_of_two, span};
use web_socket::WebSocketArguments;
use words::{
    DurableQueuePolicy, durability, durable_queue_policy, queue_policy, recovery, shared_balance, slow_reader_policy,
};

pub use loading::{Reload, action, reload};
pub use mosquitto::{Conversion, MosquittoFile, convert};
pub use settings::Settings;

/// MQTT 3.1.1 and 5.0 broker that delivers exactly once.
#[derive(Debug, Parser)]
#[command(name = "oncemq", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Sizes take B, KiB, MiB or GiB, durations ms, s or m; a bare number is bytes or seconds.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
    /// Where the values of `serve` come from; filled in when all sources have been read.
    #[arg(skip)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients (what is done without a command).
    Serve(Box<ServeArguments>),
    /// Look into the logs of a broker that does not run.
    #[command(subcommand)]
    Log(LogCommand),
    /// Set or delete the password of a user in a password file; it is asked for, or read from standard input.
    Passwd(PasswordArguments),
    /// Check, show or make a configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the manual page, for `man -l -`.
    Man,
    /// Print what makes a shell complete the flags.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check what `serve` would be told by flags, environment and file, and the files that these name; ends with code 2 if it
    /// would refuse to start.
    Check(Box<ServeArguments>),
    /// Print what `serve` would be told, as a configuration file that says where each value comes from.
    Print(Box<ServeArguments>),
    /// Print a configuration file with all keys, what they mean, and their defaults.
    Defaults,
    /// Print the configuration file that stands for a mosquitto.conf, with all that could not be carried over; ends with code 1
    /// if something of that was about security.
    FromMosquitto {
        /// The mosquitto.conf.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What can be learned about the logs in a data directory that no broker holds.
#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Check that every batch is whole; ends with code 1 if a broker would refuse to start.
    Verify(LogArguments),
    /// Print the records, one per line, oldest first.
    Dump {
        #[command(flatten)]
        log: LogArguments,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Print how many records of which kind there are, and what they take.
    Stats(LogArguments),
}

#[derive(Debug, Args)]
struct LogArguments {
    /// The data directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The flag that names the configuration file, which is no key of it.
const CONFIG: &str = "config";

/// The flags of `serve`.
#[derive(Debug, Args)]
struct ServeArguments {
    /// Configuration file (TOML), in which every flag is a key; flags and environment win over it. It is read again on SIGHUP;
    /// `oncemq config defaults` prints one.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_CONFIG")]
    config: Option<PathBuf>,

    /// Address to accept clients on; repeat for more. Others than loopback want --password-file or --allow-anonymous. `none`
    /// is nowhere, for brokers that serve TLS, WebSockets or Unix sockets only.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_LISTEN", value_delimiter = ',',
          default_value = config::LISTEN_DEFAULT, value_parser = listen_address)]
    listen: Vec<ListenAddress>,

    /// Shards, each with a thread of its own [default: one per CPU that the process may use] [1..=64].
    #[arg(long, value_name = "COUNT", env = "ONCEMQ_SHARDS", value_parser = number(1..=SHARDS_MAX))]
    shards: Option<u16>,

    /// CPUs that shards are pinned to: `auto` (those the process may use, in turn), `none`, or a list such as 0,2-5.
    #[arg(long, value_name = "auto|none|LIST", env = "ONCEMQ_PIN", default_value = "auto",
          value_parser = pinning)]
    pin: Pinning,

    /// Let the kernel put the broker's memory into huge pages: it then grows in steps of 2 MiB.
    #[arg(long, env = "ONCEMQ_HUGE_PAGES")]
    huge_pages: bool,

    /// How long a shard without work looks for some before it sleeps; it uses all of its CPU meanwhile [0..=100000].
    #[arg(long, value_name = "MICROSECONDS", env = "ONCEMQ_SPIN_US", default_value_t = 0,
          value_parser = number(config::SPIN_US))]
    spin_us: u32,

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

    /// Highest topic alias that a 5.0 client may use; it is told. 0 allows none [0..=65535].
    #[arg(long, value_name = "ALIASES", env = "ONCEMQ_TOPIC_ALIAS_MAX",
          default_value_t = config::TOPIC_ALIAS_MAXIMUM_DEFAULT, value_parser = number(config::TOPIC_ALIAS_MAXIMUM))]
    topic_alias_max: u16,

    /// Topic aliases that one 5.0 client gets for what it receives, if it accepts so many; 0 gives none [0..=65535].
    #[arg(long, value_name = "ALIASES", env = "ONCEMQ_TOPIC_ALIAS_OUT_MAX",
          default_value_t = config::MAX_OUTBOUND_TOPIC_ALIASES_DEFAULT,
          value_parser = number(config::MAX_OUTBOUND_TOPIC_ALIASES))]
    topic_alias_out_max: u16,

    /// Sessions, connected or not, shared out evenly between the shards; 0 is no limit [0..=100000000].
    #[arg(long, value_name = "SESSIONS", env = "ONCEMQ_MAX_SESSIONS", default_value_t = *config::MAX_SESSIONS.start(),
          value_parser = number(config::MAX_SESSIONS))]
    max_sessions: u32,

    /// Subscriptions of one session [1..=10000000].
    #[arg(long, value_name = "SUBSCRIPTIONS", env = "ONCEMQ_MAX_SUBSCRIPTIONS",
          default_value_t = config::MAX_SUBSCRIPTIONS_DEFAULT, value_parser = number(config::MAX_SUBSCRIPTIONS))]
    max_subscriptions: u32,

    /// Levels of a topic that is published or subscribed to [1..=1024].
    #[arg(long, value_name = "LEVELS", env = "ONCEMQ_MAX_TOPIC_LEVELS",
          default_value_t = config::MAX_TOPIC_LEVELS_DEFAULT, value_parser = number(config::MAX_TOPIC_LEVELS))]
    max_topic_levels: u16,

    /// Who of a shared subscription's group gets the next message: the one with the fewest that are not over
    /// (`least-inflight`), each in turn (`round-robin`), or the same one until it goes away (`sticky`).
    #[arg(long, value_name = "least-inflight|round-robin|sticky", env = "ONCEMQ_SHARED_BALANCE",
          default_value = "least-inflight", value_parser = shared_balance)]
    shared_balance: SharedBalance,

    /// PUBLISH packets of one client per second, 0 for no limit [0..=10000000]; one that is faster is read from more slowly.
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_MAX_PUBLISH_RATE",
          default_value_t = *config::MAX_PUBLISH_RATE.start(), value_parser = number(config::MAX_PUBLISH_RATE))]
    max_publish_rate: u32,

    /// Bytes of the PUBLISH packets of one client per second, 0 for no limit [0..=1024GiB]; likewise.
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_PUBLISH_BYTES_RATE",
          default_value_t = Bytes(*config::MAX_PUBLISH_BYTES_RATE.start()),
          value_parser = bytes(config::MAX_PUBLISH_BYTES_RATE))]
    max_publish_bytes_rate: Bytes<u64>,

    /// Messages that wait for one session [1..=100000000].
    #[arg(long, value_name = "MESSAGES", env = "ONCEMQ_MAX_QUEUED_MESSAGES",
          default_value_t = config::MAX_QUEUED_MESSAGES_DEFAULT, value_parser = number(config::MAX_QUEUED_MESSAGES))]
    max_queued_messages: u32,

    /// Payload bytes that wait for one session [1KiB..=1024GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_QUEUED_BYTES",
          default_value_t = Bytes(config::MAX_QUEUED_BYTES_DEFAULT), value_parser = bytes(config::MAX_QUEUED_BYTES))]
    max_queued_bytes: Bytes<u64>,

    /// What to do with a message for a full queue: drop it (`drop-newest`), drop those that have waited longest
    /// (`drop-oldest`), or drop it and disconnect the client (`disconnect`). For sessions that end with the broker.
    #[arg(long, value_name = "drop-newest|drop-oldest|disconnect", env = "ONCEMQ_QUEUE_POLICY",
          default_value = "drop-newest", value_parser = queue_policy)]
    queue_policy: QueuePolicy,

    /// The same for sessions that outlive the broker; with `keep` their queues have no limit, so that nothing is dropped
    /// that a publisher was acknowledged for.
    #[arg(long, value_name = "keep|drop-newest|drop-oldest|disconnect", env = "ONCEMQ_QUEUE_POLICY_DURABLE",
          default_value = "keep", value_parser = durable_queue_policy)]
    queue_policy_durable: DurableQueuePolicy,

    /// What to do with a QoS 0 message for a client that does not read fast enough: drop it (`drop-newest`), or drop it and
    /// disconnect the client (`disconnect`).
    #[arg(long, value_name = "drop-newest|disconnect", env = "ONCEMQ_QUEUE_POLICY_QOS0", default_value = "drop-newest",
          value_parser = slow_reader_policy)]
    queue_policy_qos0: SlowReaderPolicy,

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

    /// Clients that are not admitted yet; further ones wait to be accepted [1..=65536].
    #[arg(long, value_name = "CLIENTS", env = "ONCEMQ_MAX_HALF_OPEN", default_value_t = config::MAX_HALF_OPEN_DEFAULT,
          value_parser = number(config::MAX_HALF_OPEN))]
    max_half_open: u32,

    /// Time that a client has to complete its CONNECT and to show who it is [100ms..=5m].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_CONNECT_TIMEOUT",
          default_value_t = Span(config::CONNECT_TIMEOUT_DEFAULT), value_parser = span(config::CONNECT_TIMEOUT))]
    connect_timeout: Span,

    /// Time that a client has to read why it was disconnected [10ms..=5m].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_LINGER",
          default_value_t = Span(config::LINGER_DEFAULT), value_parser = span(config::LINGER))]
    linger: Span,

    /// Time between two reports on `$SYS/broker/…`; 0 is no report [0..=1h].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_SYS_INTERVAL",
          default_value_t = Span(config::REPORT_INTERVAL_DEFAULT), value_parser = span(config::REPORT_INTERVAL))]
    sys_interval: Span,

    /// When an acknowledgement may leave: when what it promises is on stable storage (`sync`), in the page cache
    /// (`write`), or at once, with nothing logged (`none`).
    #[arg(long, value_name = "sync|write|none", env = "ONCEMQ_DURABILITY", default_value = "sync", value_parser = durability)]
    durability: Durability,

    /// Directory of the logs, created if it is missing; not used with durability `none`.
    #[arg(long, value_name = "DIRECTORY", env = "ONCEMQ_DATA_DIR", default_value = config::DATA_DIR_DEFAULT)]
    data_dir: PathBuf,

    /// Length of a log's segment, rounded up to whole blocks of 4 KiB [1MiB..=1GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_SEGMENT_BYTES", default_value_t = Bytes(config::SEGMENT_BYTES_DEFAULT),
          value_parser = bytes(config::SEGMENT_BYTES))]
    segment_bytes: Bytes<u64>,

    /// Bytes of all logs together from which on messages that have to be logged are refused; 0 is nine tenths of what the
    /// file system has for them at the start [0..=1048576GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_LOG_BYTES", default_value_t = Bytes(*config::MAX_LOG_BYTES.start()),
          value_parser = bytes(config::MAX_LOG_BYTES))]
    max_log_bytes: Bytes<u64>,

    /// Time that a batch waits for company before it is written to the log [0..=100ms].
    #[arg(long, value_name = "DURATION", env = "ONCEMQ_COMMIT_DELAY", default_value_t = Span(*config::COMMIT_DELAY.start()),
          value_parser = span(config::COMMIT_DELAY))]
    commit_delay: Span,

    /// What to do about damage before the end of a log: refuse to start (`strict`), or go on with what is provably intact
    /// and list what is lost (`salvage`).
    #[arg(long, value_name = "strict|salvage", env = "ONCEMQ_RECOVER", default_value = "strict", value_parser = recovery)]
    recover: RecoveryMode,

    /// Memory for queued messages, all shards together; what is beyond is read back from the log [1MiB..=1024GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_QUEUE_MEMORY",
          default_value_t = Bytes(config::QUEUE_MEMORY_BYTES_DEFAULT), value_parser = bytes(config::QUEUE_MEMORY_BYTES))]
    queue_memory: Bytes<u64>,

    /// Memory of the whole process from which on new clients, then publishers, then QoS 0 messages have to wait or go; 0 for
    /// no bound [0..=16384GiB].
    #[arg(long, value_name = "BYTES", env = "ONCEMQ_MAX_MEMORY", default_value_t = Bytes(*config::MAX_MEMORY_BYTES.start()),
          value_parser = bytes(config::MAX_MEMORY_BYTES))]
    max_memory: Bytes<u64>,

    #[command(flatten)]
    access: AccessArguments,

    #[command(flatten)]
    service: ServiceArguments,

    #[command(flatten)]
    web_socket: WebSocketArguments,

    #[command(flatten)]
    tls: TlsArguments,

    #[command(flatten)]
    proxy: ProxyArguments,

    #[command(flatten)]
    admin: AdminArguments,

    /// Bridge to another broker, of which this one becomes a client: `NAME=HOST[:PORT]`, and behind it, separated by
    /// commas, protocol=5.0|3.1.1, client-id=ID, keep-alive=SECONDS, user=NAME, password-file=FILE, receive-maximum=COUNT,
    /// max-inflight=COUNT; repeat for more.
    #[arg(long, value_name = "NAME=HOST[:PORT][,KEY=VALUE...]", env = "ONCEMQ_BRIDGE", value_delimiter = ';',
          value_parser = bridges::bridge)]
    bridge: Vec<BridgeArgument>,

    /// Topics that a bridge carries: `NAME=PATTERN`, and behind it, separated by commas, out (default), in or both,
    /// qos=0|1|2 (default 2), local=PREFIX and remote=PREFIX; repeat for more.
    #[arg(long, value_name = "NAME=PATTERN[,KEY=VALUE...]", env = "ONCEMQ_BRIDGE_TOPIC", value_delimiter = ';',
          value_parser = bridges::topic)]
    bridge_topic: Vec<TopicArgument>,

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

/// What the process was started for.
#[derive(Debug)]
pub enum Action {
    /// Serve clients.
    Serve {
        /// How.
        config: Box<ServeConfig>,
        /// How much to tell about it.
        log_level: LogLevel,
        /// The same as it was told, to be compared with what is told on SIGHUP.
        settings: Settings,
    },
    /// Say whether clients could be served like this, after a look at the files that it names.
    CheckConfig {
        /// How they would be served.
        config: Box<ServeConfig>,
    },
    /// Print a text.
    Print(String),
    /// Print the configuration file that stands for one of mosquitto's.
    ConvertMosquitto {
        /// The mosquitto.conf.
        file: PathBuf,
    },
    /// Look into a log.
    InspectLog {
        /// The data directory.
        directory: PathBuf,
        /// What to print.
        inspection: Inspection,
    },
    /// Change an account of a password file.
    ChangePassword {
        /// The file.
        file: PathBuf,
        /// The user.
        user: Box<str>,
        /// How the new password is kept; `None` deletes the account.
        scheme: Option<Scheme>,
    },
}

/// What to print about the logs in a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inspection {
    /// Whether they are whole.
    Verify,
    /// Every record, for people to read.
    Dump,
    /// Every record, as JSON.
    DumpJson,
    /// Counts and sizes.
    Statistics,
}

impl Cli {
    /// What to do, when all that `serve` is told stands in the arguments.
    ///
    /// # Errors
    /// If flags do not fit together.
    fn into_action(self) -> Result<Action, clap::Error> {
        let settings = self.settings;
        let assemble = |arguments: ServeArguments| {
            let config = arguments
                .into_config()
                .map_err(|text| Self::command().error(ErrorKind::ValueValidation, settings.with_places(&text)))?;
            Ok(Box::new(config))
        };
        let inspect = |log: LogArguments, inspection| Ok(Action::InspectLog { directory: log.directory, inspection });
        let serve = |arguments: ServeArguments| {
            let log_level = arguments.log_level;
            Ok(Action::Serve { config: assemble(arguments)?, log_level, settings: settings.clone() })
        };
        match self.command {
            Some(Command::Serve(arguments)) => serve(*arguments),
            Some(Command::Log(LogCommand::Verify(log))) => inspect(log, Inspection::Verify),
            Some(Command::Log(LogCommand::Dump { log, json: false })) => inspect(log, Inspection::Dump),
            Some(Command::Log(LogCommand::Dump { log, json: true })) => inspect(log, Inspection::DumpJson),
            Some(Command::Log(LogCommand::Stats(log))) => inspect(log, Inspection::Statistics),
            Some(Command::Passwd(change)) => Ok(change.into_action()),
            Some(Command::Config(ConfigCommand::Check(arguments))) => {
                Ok(Action::CheckConfig { config: assemble(*arguments)? })
            }
            Some(Command::Config(ConfigCommand::Print(arguments))) => {
                assemble(*arguments).map(|_| Action::Print(settings.to_toml()))
            }
            Some(Command::Config(ConfigCommand::Defaults)) => Ok(Action::Print(reference::defaults())),
            Some(Command::Config(ConfigCommand::FromMosquitto { file })) => Ok(Action::ConvertMosquitto { file }),
            Some(Command::Man) => Ok(Action::Print(documents::manual_page())),
            Some(Command::Completions { shell }) => Ok(Action::Print(documents::completions(shell))),
            None => serve(self.serve),
        }
    }

    /// What `serve` is told, if this is about it.
    fn serve_arguments(&self) -> Option<&ServeArguments> {
        match &self.command {
            None => Some(&self.serve),
            Some(Command::Serve(arguments)) => Some(arguments),
            Some(Command::Config(ConfigCommand::Check(arguments) | ConfigCommand::Print(arguments))) => Some(arguments),
            Some(
                Command::Log(_)
                | Command::Passwd(_)
                | Command::Man
                | Command::Completions { .. }
                | Command::Config(ConfigCommand::Defaults | ConfigCommand::FromMosquitto { .. }),
            ) => None,
        }
    }
}

impl ServeArguments {
    fn into_config(self) -> Result<ServeConfig, String> {
        let web_socket = self.web_socket.into_settings();
        let tls = self.tls.into_settings()?;
        let plain = values::addresses(self.listen)?;
        let listen = plain.iter().map(|address| ("--listen", *address));
        let web_sockets = web_socket.listen.iter().map(|address| ("--websocket-listen", *address));
        let secured = tls.iter().flat_map(addresses);
        let all: Vec<SocketAddr> = listen.clone().chain(web_sockets.clone()).chain(secured).map(|at| at.1).collect();
        let proxy = self.proxy.into_config(&all)?;
        if all.is_empty() && proxy.unix.listen.is_empty() {
            return Err(
                "--listen none: then --websocket-listen, --tls-listen, --websocket-tls-listen or --unix-listen has to say \
                 where clients are accepted"
                    .to_owned(),
            );
        }
        // Where certificates name their owners, nobody else comes in.
        let tls_for_all =
            tls.iter().filter(|tls| tls.clients.as_ref().is_none_or(|clients| clients.user_name.is_none()));
        let names_certified =
            tls.iter().any(|tls| tls.clients.as_ref().is_some_and(|clients| clients.user_name.is_some()));
        let names_certified = names_certified || proxy.names_clients();
        let listen = listen.chain(web_sockets).chain(tls_for_all.flat_map(addresses));
        let listen = listen.filter(|(_, address)| !proxy.names_clients_at(*address));
        let access = self.access.into_settings(listen, names_certified)?;
        Ok(ServeConfig {
            access,
            admin: self.admin.into_settings()?,
            max_memory_bytes: NonZeroU64::new(self.max_memory.0),
            bridges: bridges::assemble(self.bridge, self.bridge_topic, self.max_inflight, host_name)?,
            listen: plain,
            web_socket,
            tls,
            unix: proxy.unix,
            proxy: proxy.proxy,
            shards: self.shards.and_then(NonZeroU16::new),
            pinning: self.pin,
            huge_pages: self.huge_pages,
            spin: Duration::from_micros(self.spin_us.into()),
            durability: self.durability,
            log: LogSettings {
                directory: self.data_dir,
                segment_bytes: self.segment_bytes.0.next_multiple_of(config::LOG_BLOCK_BYTES),
                commit_delay: self.commit_delay.0,
                recovery: self.recover,
            },
            limits: Limits {
                max_log_backlog_bytes: config::MAX_LOG_BACKLOG_BYTES,
                max_log_bytes: NonZeroU64::new(self.max_log_bytes.0),
                max_packet_bytes: self.max_packet_bytes.0,
                receive_maximum: self.receive_maximum,
                max_inflight: self.max_inflight,
                topic_alias_maximum: self.topic_alias_max,
                max_outbound_topic_aliases: self.topic_alias_out_max,
                max_sessions: NonZeroU32::new(self.max_sessions),
                max_subscriptions: self.max_subscriptions,
                max_topic_levels: self.max_topic_levels,
                shared_balance: self.shared_balance,
                max_publish_rate: NonZeroU32::new(self.max_publish_rate),
                max_publish_bytes_rate: NonZeroU64::new(self.max_publish_bytes_rate.0),
                max_queued_messages: self.max_queued_messages,
                max_queued_bytes: self.max_queued_bytes.0,
                queue_policy: self.queue_policy,
                durable_queue_policy: self.queue_policy_durable.0,
                slow_reader_policy: self.queue_policy_qos0,
                congestion_messages: self.congestion_messages,
                stall_timeout: self.stall_timeout.0,
                max_output_bytes: self.max_output_bytes.0,
                max_waiting_letters: self.max_waiting_letters,
                max_retained_messages: self.max_retained_messages,
                retained_page: config::RETAINED_PAGE,
                queue_memory_bytes: self.queue_memory.0,
                queue_kept_messages: config::QUEUE_KEPT_MESSAGES,
                linger: self.linger.0,
            },
            service: self.service.into_service(),
            report_interval: Some(self.sys_interval.0).filter(|interval| !interval.is_zero()),
            gate: GateLimits {
                max_connect_bytes: self.max_packet_bytes.0.min(config::MAX_CONNECT_BYTES),
                max_half_open: self.max_half_open,
                max_connections: self.max_connections,
                max_connections_per_address: proxy.max_connections_per_address,
                max_connect_rate: proxy.max_connect_rate,
                connect_timeout: self.connect_timeout.0,
                linger: self.linger.0,
            },
            rings: RingSizes {
                entries: self.ring_entries,
                recv_buffers: self.recv_buffers,
                recv_buffer_bytes: self.recv_buffer_bytes.0,
                routing_batches: self.routing_ring,
            },
        })
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

/// What the machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "oncemq".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
