//! What can be configured: every limit with its name, unit, default and bounds.
//!
//! The command line (`cli`) takes its defaults and bounds from the constants here, and every other module takes its
//! limits from the structures here, so that a number has one home. Relations between limits that must always hold are
//! checked at compile time below.

mod access;
mod admin;
mod proxy;
mod service;
mod tls;
mod unix_socket;
mod web_socket;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::bridge::Bridge;
use crate::route::{self, MAX_SHARDS};
use crate::store::RecoveryMode;

pub use access::*;
pub use admin::*;
pub use proxy::*;
pub use service::{NOTICE_BYTES_MAX, Notice, Service};
pub use tls::*;
pub use unix_socket::*;
pub use web_socket::{
    MAX_UPGRADE_HEADERS, MAX_UPGRADE_REQUEST_BYTES, WEBSOCKET_PATH_DEFAULT, WebSocketRules, WebSocketSettings,
};

/// Everything `oncemq serve` was told, checked as far as that is possible without asking the machine.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Addresses to accept clients on; empty where only TLS or WebSockets are served.
    pub listen: Vec<SocketAddr>,
    /// Where and to whom MQTT over WebSocket is served.
    pub web_socket: WebSocketSettings,
    /// Where and with which certificates MQTT over TLS is served; `None` is nowhere.
    pub tls: Option<TlsSettings>,
    /// Where clients of this machine are served over Unix sockets.
    pub unix: UnixSettings,
    /// Which listeners are behind a proxy, and what holds there; `None` is none of them.
    pub proxy: Option<ProxySettings>,
    /// Number of shards; `None` means one per CPU that this process may use.
    pub shards: Option<NonZeroU16>,
    /// Where the shards run.
    pub pinning: Pinning,
    /// Memory of the whole process from which on things are done without, in bytes; `None` is no bound.
    pub max_memory_bytes: Option<NonZeroU64>,
    /// Whether the kernel may put the broker's memory into huge pages.
    pub huge_pages: bool,
    /// How long a shard without work looks for some before it sleeps.
    pub spin: Duration,
    /// When an acknowledgement may leave.
    pub durability: Durability,
    /// Where the logs lie and how they are written; not used with [`Durability::None`].
    pub log: LogSettings,
    /// Limits that a shard keeps for its clients and sessions.
    pub limits: Limits,
    /// What of MQTT is served, and what clients are told.
    pub service: Service,
    /// How often the broker says on `$SYS` how it is; `None` is never.
    pub report_interval: Option<Duration>,
    /// Who may connect.
    pub access: AccessSettings,
    /// Where the operator looks in; `None` is nowhere.
    pub admin: Option<AdminSettings>,
    /// Limits of the way in.
    pub gate: GateLimits,
    /// Sizes of a shard's rings and buffers.
    pub rings: RingSizes,
    /// Bridges to other brokers.
    pub bridges: Vec<Arc<Bridge>>,
}

/// On which CPUs the shard threads run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Shard *i* on the *i*-th CPU that the process may use, starting again when there are more shards than CPUs.
    Auto,
    /// Wherever the kernel puts them.
    Off,
    /// Shard *i* on the *i*-th CPU of the list, starting again at its end; never empty.
    Cpus(Vec<usize>),
}

/// When an acknowledgement may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When what it promises is on stable storage.
    Sync,
    /// When what it promises is in the kernel's page cache.
    Write,
    /// At once; nothing is logged.
    None,
}

impl Durability {
    /// The value of `--durability` that means this.
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Sync => "sync",
            Durability::Write => "write",
            Durability::None => "none",
        }
    }

    /// What an acknowledged message outlives.
    pub const fn survives(self) -> &'static str {
        match self {
            Durability::Sync => "kill -9 of the broker and power loss",
            Durability::Write => "kill -9 of the broker, not power loss",
            Durability::None => "nothing: what the broker holds ends with it",
        }
    }
}

/// Where the logs lie and how they are written.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The data directory.
    pub directory: PathBuf,
    /// Length at which a segment is followed by the next one, in bytes; a multiple of [`LOG_BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// How long a batch may wait for company before it is written.
    pub commit_delay: Duration,
    /// What damage before the end of a log means for the start.
    pub recovery: RecoveryMode,
}

/// What is done when the queue of a session is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueuePolicy {
    /// The message that comes is dropped.
    DropNewest,
    /// The messages that have waited longest and were never sent are dropped.
    DropOldest,
    /// The message that comes is dropped, and the client is disconnected.
    Disconnect,
}

/// What is done when a client does not read fast enough for its QoS 0 messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowReaderPolicy {
    /// The message is dropped.
    DropNewest,
    /// The message is dropped, and the client is disconnected.
    Disconnect,
}

/// Limits that a shard keeps for its clients and sessions.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest MQTT packet accepted, in bytes.
    pub max_packet_bytes: u32,
    /// Receive Maximum announced to 5.0 publishers (QoS 1 and 2 PUBLISHes not yet completed).
    pub receive_maximum: u16,
    /// Messages sent to one client and not yet completed, at most.
    pub max_inflight: u16,
    /// Topic Alias Maximum announced to 5.0 clients: the highest alias that one of them may use; 0 is none at all.
    pub topic_alias_maximum: u16,
    /// Topic aliases that one 5.0 client gets, at most; its own Topic Alias Maximum may be lower.
    pub max_outbound_topic_aliases: u16,
    /// Sessions, connected or not, at most, in all shards together until [`Limits::of_one_shard`] has divided it; `None` is
    /// no limit. One that exists is always resumed.
    pub max_sessions: Option<NonZeroU32>,
    /// Subscriptions of one session, at most. One that exists is always replaced.
    pub max_subscriptions: u32,
    /// Levels of a topic that a client publishes or subscribes to, at most.
    pub max_topic_levels: u16,
    /// Who of a shared subscription's group gets a message.
    pub shared_balance: SharedBalance,
    /// PUBLISH packets of one client per second; `None` is no limit. One that is faster is read from more slowly.
    pub max_publish_rate: Option<NonZeroU32>,
    /// Bytes of the PUBLISH packets of one client per second; likewise.
    pub max_publish_bytes_rate: Option<NonZeroU64>,
    /// Messages waiting for one session, at most.
    pub max_queued_messages: u32,
    /// Payload bytes waiting for one session, at most.
    pub max_queued_bytes: u64,
    /// What these two mean for a session that does not outlive the broker.
    pub queue_policy: QueuePolicy,
    /// What they mean for one that does; `None` is nothing: what was acknowledged to a publisher is kept.
    pub durable_queue_policy: Option<QueuePolicy>,
    /// What is done when a client does not read fast enough for its QoS 0 messages.
    pub slow_reader_policy: SlowReaderPolicy,
    /// Messages waiting for a connected client from which on its publishers get no acknowledgement until it catches up.
    pub congestion_messages: u32,
    /// How long a client that has fallen behind may acknowledge nothing before it stops to hold its publishers up.
    pub stall_timeout: Duration,
    /// Bytes of one connection that wait for the kernel before messages to it stay in its queue.
    pub max_output_bytes: u32,
    /// Letters waiting for one shard before their sources are paused.
    pub max_waiting_letters: u32,
    /// Bytes waiting for one log before who causes more is paused.
    pub max_log_backlog_bytes: u32,
    /// Bytes of the logs of all shards together, until [`Limits::of_one_shard`] has divided it, from which on publishers of
    /// messages that have to be logged are refused; `None` is no bound but the disk's.
    pub max_log_bytes: Option<NonZeroU64>,
    /// Retained messages of one shard, at most.
    pub max_retained_messages: u32,
    /// Retained messages that one new subscription gets before its client has to take them, at most; a shard looks up twice as
    /// many topics in one turn.
    pub retained_page: u32,
    /// Memory for messages that wait in queues or are in flight, with what holds them, in all shards together until
    /// [`Limits::of_one_shard`] has divided it; those beyond that outlive the broker are read back from the log when they
    /// are delivered.
    pub queue_memory_bytes: u64,
    /// Messages of each queue that stay in memory however short that is.
    pub queue_kept_messages: u32,
    /// How long a connection that the broker ends may linger.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_bytes: MAX_PACKET_BYTES_DEFAULT,
            receive_maximum: RECEIVE_MAXIMUM_DEFAULT,
            max_inflight: MAX_INFLIGHT_DEFAULT,
            topic_alias_maximum: TOPIC_ALIAS_MAXIMUM_DEFAULT,
            max_outbound_topic_aliases: MAX_OUTBOUND_TOPIC_ALIASES_DEFAULT,
            max_sessions: None,
            max_subscriptions: MAX_SUBSCRIPTIONS_DEFAULT,
            max_topic_levels: MAX_TOPIC_LEVELS_DEFAULT,
            shared_balance: SharedBalance::default(),
            max_publish_rate: None,
            max_publish_bytes_rate: None,
            max_queued_messages: MAX_QUEUED_MESSAGES_DEFAULT,
            max_queued_bytes: MAX_QUEUED_BYTES_DEFAULT,
            queue_policy: QueuePolicy::DropNewest,
            durable_queue_policy: None,
            slow_reader_policy: SlowReaderPolicy::DropNewest,
            congestion_messages: CONGESTION_MESSAGES_DEFAULT,
            stall_timeout: STALL_TIMEOUT_DEFAULT,
            max_output_bytes: MAX_OUTPUT_BYTES_DEFAULT,
            max_waiting_letters: MAX_WAITING_LETTERS_DEFAULT,
            max_log_backlog_bytes: MAX_LOG_BACKLOG_BYTES,
            max_log_bytes: None,
            max_retained_messages: MAX_RETAINED_MESSAGES_DEFAULT,
            retained_page: RETAINED_PAGE,
            queue_memory_bytes: QUEUE_MEMORY_BYTES_DEFAULT,
            queue_kept_messages: QUEUE_KEPT_MESSAGES,
            linger: LINGER_DEFAULT,
        }
    }
}

impl Limits {
    /// Whether there is a limit to how fast a client publishes.
    #[must_use]
    pub fn paces_publishers(&self) -> bool {
        self.max_publish_rate.is_some() || self.max_publish_bytes_rate.is_some()
    }

    /// What one of `shards` shards has to keep: what is given for all of them is divided, a number of sessions so that each
    /// shard may hold at least one.
    #[must_use]
    pub fn of_one_shard(&self, shards: u16) -> Self {
        let shards = NonZeroU16::new(shards).unwrap_or(NonZeroU16::MIN);
        Self {
            queue_memory_bytes: self.queue_memory_bytes / u64::from(shards.get()),
            max_log_bytes: self.max_log_bytes.and_then(|max| NonZeroU64::new(max.get() / u64::from(shards.get()))),
            max_sessions: self.max_sessions.and_then(|max| NonZeroU32::new(max.get().div_ceil(shards.get().into()))),
            ..self.clone()
        }
    }
}

/// Who of the members of a shared subscription's group whose clients are connected gets the next message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SharedBalance {
    /// The one with the fewest messages that it has not acknowledged, or that wait for it.
    #[default]
    LeastInflight,
    /// Each in turn.
    RoundRobin,
    /// The same one, until it goes away.
    Sticky,
}

/// Limits of the way in: what a client may cost before a shard owns it.
#[derive(Clone, Copy, Debug)]
pub struct GateLimits {
    /// Largest CONNECT packet accepted, in bytes.
    pub max_connect_bytes: u32,
    /// Clients that have connected and whose CONNECT is not complete, at most; further ones wait in the listen backlog.
    pub max_half_open: u32,
    /// Clients that shards hold, all shards together, at most; `None` means as many as the open-file limit leaves.
    pub max_connections: Option<u32>,
    /// Clients of one address that shards hold, at most, and as many again that are not admitted yet; `None` is no limit.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Clients that are accepted in a second, at most; `None` is no limit.
    pub max_connect_rate: Option<NonZeroU32>,
    /// How long a client may take from connecting to the end of its CONNECT.
    pub connect_timeout: Duration,
    /// How long a refused client may take to read why.
    pub linger: Duration,
}

/// Sizes of a shard's rings and buffers.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Entries of the submission queue: operations handed to the kernel per system call; a power of two.
    pub entries: u32,
    /// Receive buffers of one shard; a power of two.
    pub recv_buffers: u16,
    /// Size of one receive buffer in bytes.
    pub recv_buffer_bytes: u32,
    /// Batches of letters that one shard may have on the way to another.
    pub routing_batches: u32,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            entries: RING_ENTRIES_DEFAULT,
            recv_buffers: RECV_BUFFERS_DEFAULT,
            recv_buffer_bytes: RECV_BUFFER_BYTES_DEFAULT,
            routing_batches: ROUTING_BATCHES_DEFAULT,
        }
    }
}

/// Where clients are accepted when nothing is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:1883";

/// Shards of one broker, at most; the bound of every table that has an entry per shard.
pub const SHARDS_MAX: u16 = MAX_SHARDS as u16;

/// Submission queue entries of a shard; more than this per turn costs one more system call, nothing else.
pub const RING_ENTRIES_DEFAULT: u32 = 1024;
/// Bounds of [`RingSizes::entries`]; the kernel takes no more than 32,768.
pub const RING_ENTRIES: RangeInclusive<u32> = 64..=32_768;

/// Receive buffers of a shard: as many connections can have data in one loop turn without a second attempt.
pub const RECV_BUFFERS_DEFAULT: u16 = 1024;
/// Bounds of [`RingSizes::recv_buffers`]; the kernel takes no more than 32,768.
pub const RECV_BUFFERS: RangeInclusive<u16> = 16..=32_768;

/// Bytes of one receive buffer; with the default count 4 MiB per shard, which stays near the size of its cache.
pub const RECV_BUFFER_BYTES_DEFAULT: u32 = 4096;
/// Bounds of [`RingSizes::recv_buffer_bytes`].
pub const RECV_BUFFER_BYTES: RangeInclusive<u32> = 256..=1024 * 1024;

/// Batches of letters on the way from one shard to another.
pub const ROUTING_BATCHES_DEFAULT: u32 = 64;
/// Bounds of [`RingSizes::routing_batches`].
pub const ROUTING_BATCHES: RangeInclusive<u32> = 1..=4096;
/// Bounds of [`ServeConfig::spin`], in microseconds. A sleep and a wake-up take tens of them; who would spin for longer than the
/// upper one has no packet to wait for.
pub const SPIN_US: RangeInclusive<u32> = 0..=100_000;

/// Letters in one batch, at most.
pub const LETTERS_PER_BATCH_MAX: usize = 128;

/// Largest packet accepted when nothing is said.
pub const MAX_PACKET_BYTES_DEFAULT: u32 = 1024 * 1024;
/// Bounds of [`Limits::max_packet_bytes`]; the upper one is half of what MQTT can express, so that a message still fits into
/// a packet when properties are added to it, the lower one leaves room for a CONNECT with a long client id.
pub const MAX_PACKET_BYTES: RangeInclusive<u32> = 1024..=128 * 1024 * 1024;

/// Receive Maximum announced when nothing is said.
pub const RECEIVE_MAXIMUM_DEFAULT: u16 = 1000;
/// Bounds of [`Limits::receive_maximum`]; 0 is not a value that MQTT knows.
pub const RECEIVE_MAXIMUM: RangeInclusive<u16> = 1..=65_535;

/// Messages inflight to one client when nothing is said.
pub const MAX_INFLIGHT_DEFAULT: u16 = 1000;
/// Bounds of [`Limits::max_inflight`]; there are 65,535 packet identifiers.
pub const MAX_INFLIGHT: RangeInclusive<u16> = 1..=65_535;

/// Topic Alias Maximum announced when nothing is said: a device has few topics.
pub const TOPIC_ALIAS_MAXIMUM_DEFAULT: u16 = 10;
/// Bounds of [`Limits::topic_alias_maximum`]; a client may make the broker keep as many topics of 65,535 bytes.
pub const TOPIC_ALIAS_MAXIMUM: RangeInclusive<u16> = 0..=65_535;

/// Topic aliases for one client when nothing is said.
pub const MAX_OUTBOUND_TOPIC_ALIASES_DEFAULT: u16 = 16;
/// Bounds of [`Limits::max_outbound_topic_aliases`].
pub const MAX_OUTBOUND_TOPIC_ALIASES: RangeInclusive<u16> = 0..=65_535;

/// What can be given for [`Limits::max_sessions`]; 0 is no limit.
pub const MAX_SESSIONS: RangeInclusive<u32> = 0..=100_000_000;

/// Subscriptions of one session when nothing is said: more than a gateway has, and a few megabytes with ordinary filters.
pub const MAX_SUBSCRIPTIONS_DEFAULT: u32 = 10_000;
/// Bounds of [`Limits::max_subscriptions`].
pub const MAX_SUBSCRIPTIONS: RangeInclusive<u32> = 1..=10_000_000;

/// Levels of a topic when nothing is said: far more than people nest.
pub const MAX_TOPIC_LEVELS_DEFAULT: u16 = 128;
/// Bounds of [`Limits::max_topic_levels`].
pub const MAX_TOPIC_LEVELS: RangeInclusive<u16> = 1..=route::MAX_TOPIC_LEVELS as u16;

/// What can be given for [`Limits::max_publish_rate`], in messages per second; 0 is no limit.
pub const MAX_PUBLISH_RATE: RangeInclusive<u32> = 0..=10_000_000;
/// What can be given for [`Limits::max_publish_bytes_rate`], in bytes per second; 0 is no limit.
pub const MAX_PUBLISH_BYTES_RATE: RangeInclusive<u64> = 0..=1 << 40;
/// How far a client may be ahead of its allowances: what a sensor publishes when it wakes up, at once.
pub const PUBLISH_BURST: Duration = Duration::from_secs(1);
/// How long a client waits at most before it is heard again, whatever it has sent.
pub const PUBLISH_DEBT_MAX: Duration = Duration::from_secs(60);

/// Messages queued for one session when nothing is said.
pub const MAX_QUEUED_MESSAGES_DEFAULT: u32 = 100_000;
/// Bounds of [`Limits::max_queued_messages`].
pub const MAX_QUEUED_MESSAGES: RangeInclusive<u32> = 1..=100_000_000;

/// Payload bytes queued for one session when nothing is said.
pub const MAX_QUEUED_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Bounds of [`Limits::max_queued_bytes`].
pub const MAX_QUEUED_BYTES: RangeInclusive<u64> = 1024..=1 << 40;

/// Messages waiting for a client that hold its publishers up, when nothing is said.
pub const CONGESTION_MESSAGES_DEFAULT: u32 = 1000;
/// Bounds of [`Limits::congestion_messages`].
pub const CONGESTION_MESSAGES: RangeInclusive<u32> = 1..=100_000_000;

/// Stall timeout when nothing is said.
pub const STALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Bounds of [`Limits::stall_timeout`].
pub const STALL_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Output bytes of one connection when nothing is said.
pub const MAX_OUTPUT_BYTES_DEFAULT: u32 = 256 * 1024;
/// Bounds of [`Limits::max_output_bytes`].
pub const MAX_OUTPUT_BYTES: RangeInclusive<u32> = 4096..=256 * 1024 * 1024;

/// Letters waiting for one shard when nothing is said: as many as fill the default ring to it once more.
pub const MAX_WAITING_LETTERS_DEFAULT: u32 = 8192;
/// Bounds of [`Limits::max_waiting_letters`].
pub const MAX_WAITING_LETTERS: RangeInclusive<u32> = 128..=16 * 1024 * 1024;

/// Bytes that wait for one log before its sources are paused: several batches of a fast disk, and little beside the rest.
pub const MAX_LOG_BACKLOG_BYTES: u32 = 16 * 1024 * 1024;

/// What can be given for [`Limits::max_log_bytes`]; 0 is what the file system has room for.
pub const MAX_LOG_BYTES: RangeInclusive<u64> = 0..=1 << 50;

/// Retained messages of one shard when nothing is said.
pub const MAX_RETAINED_MESSAGES_DEFAULT: u32 = 1_000_000;
/// Bounds of [`Limits::max_retained_messages`].
pub const MAX_RETAINED_MESSAGES: RangeInclusive<u32> = 0..=100_000_000;

/// Retained messages of one page: a tenth of a millisecond to look up and to deliver, so that others hardly wait for it, and
/// yet many for one turn of the loop.
pub const RETAINED_PAGE: u32 = 128;

/// SUBSCRIBEs of one session whose retained messages wait for the client to take others, at most; further ones are refused.
pub const WAITING_SUBSCRIBES_MAX: usize = 256;

/// Queued payloads held in memory when nothing is said: leaves most of a small machine to the rest of it.
pub const QUEUE_MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// Bounds of [`Limits::queue_memory_bytes`]; below the lower one every message would be read back.
pub const QUEUE_MEMORY_BYTES: RangeInclusive<u64> = 1024 * 1024..=1 << 40;

/// What can be given for [`ServeConfig::max_memory_bytes`]; 0 is no bound.
pub const MAX_MEMORY_BYTES: RangeInclusive<u64> = 0..=1 << 44;
/// Percent of it from which on clients without a session are refused, …
pub const MEMORY_SCARCE_PERCENT: u64 = 85;
/// … from which on publishers wait, too, …
pub const MEMORY_SHORT_PERCENT: u64 = 92;
/// … and from which on QoS 0 messages are dropped.
pub const MEMORY_EXHAUSTED_PERCENT: u64 = 97;
/// Percent below these from which on that ends.
pub const MEMORY_RELIEF_PERCENT: u64 = 2;
/// How often the broker looks at what memory it takes.
pub const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// Messages of each queue that stay in memory: so many that a client which is not far behind never waits for the disk.
pub const QUEUE_KEPT_MESSAGES: u32 = 64;

/// Time between two reports on `$SYS` when nothing is said: as other brokers do.
pub const REPORT_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Bounds of [`ServeConfig::report_interval`]; 0 is no report.
pub const REPORT_INTERVAL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// The data directory when nothing is said, in the working directory.
pub const DATA_DIR_DEFAULT: &str = "oncemq-data";

/// Writes to a log begin and end at multiples of this, in bytes: the largest block size of the disks in use.
pub const LOG_BLOCK_BYTES: u64 = 4096;

/// Length of a segment when nothing is said: the unit in which space is given back, and a fraction of a second for a fast
/// disk to read at a start. A log has some of them on top of what is alive.
pub const SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Bounds of [`LogSettings::segment_bytes`].
pub const SEGMENT_BYTES: RangeInclusive<u64> = 1024 * 1024..=1 << 30;

/// Bounds of [`LogSettings::commit_delay`]; the default is not to wait.
pub const COMMIT_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(100);

/// Linger of a connection that the broker ends, when nothing is said.
pub const LINGER_DEFAULT: Duration = Duration::from_secs(3);
/// Bounds of [`Limits::linger`].
pub const LINGER: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);

/// Time for a CONNECT when nothing is said.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Bounds of [`GateLimits::connect_timeout`].
pub const CONNECT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);

/// Largest CONNECT accepted, even where larger packets are: five strings of 65,535 bytes and properties fit.
pub const MAX_CONNECT_BYTES: u32 = 512 * 1024;

/// Half-open clients when nothing is said.
pub const MAX_HALF_OPEN_DEFAULT: u32 = 1024;
/// Bounds of [`GateLimits::max_half_open`].
pub const MAX_HALF_OPEN: RangeInclusive<u32> = 1..=65_536;

/// Bounds of [`GateLimits::max_connections`]; also the bound of what may wait for a shard to be taken over.
pub const MAX_CONNECTIONS: RangeInclusive<u32> = 1..=4_000_000;

/// What can be given for [`GateLimits::max_connections_per_address`]; 0 is no limit.
pub const MAX_CONNECTIONS_PER_ADDRESS: RangeInclusive<u32> = 0..=*MAX_CONNECTIONS.end();

/// What can be given for [`GateLimits::max_connect_rate`]; 0 is no limit.
pub const MAX_CONNECT_RATE: RangeInclusive<u32> = 0..=1_000_000;

/// As many clients as may come in this time are accepted at once, and one in any case: coarse timers and a queue that was empty
/// for a moment should not make the rate lower than was asked for.
pub const CONNECT_BURST: Duration = Duration::from_millis(100);

/// Bridges of one broker, at most.
pub const BRIDGES_MAX: usize = 64;

/// Topics of one bridge, at most: each message of a bridge is compared with them in turn.
pub const BRIDGE_TOPICS_MAX: usize = 256;

/// Keep-alive towards the remote of a bridge, in seconds, when nothing is said.
pub const BRIDGE_KEEP_ALIVE_SECONDS_DEFAULT: u16 = 60;
/// Bounds of [`Bridge::keep_alive_seconds`]; the lower one leaves a slow link time to answer.
pub const BRIDGE_KEEP_ALIVE_SECONDS: RangeInclusive<u16> = 5..=65_535;

/// Messages in flight to a 3.1.1 remote when nothing is said; such a remote can't say how many it takes. mosquitto takes 20
/// unless it is told otherwise, and may end the connection of who sends more.
pub const BRIDGE_MAX_INFLIGHT_311_DEFAULT: u16 = 20;

/// How long the opening of a bridge's connection may take, each for finding and reaching the remote and for its CONNACK.
pub const BRIDGE_OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a configuration file, at most: every key many times over.
pub const CONFIGURATION_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files that a mosquitto.conf may include, at most.
pub const MOSQUITTO_FILES_MAX: usize = 256;

/// How long a shutdown may take before the process ends with connections open.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

const _: () = {
    assert!(RING_ENTRIES_DEFAULT.is_power_of_two() && RECV_BUFFERS_DEFAULT.is_power_of_two());
    assert!(MAX_CONNECT_BYTES <= MAX_PACKET_BYTES_DEFAULT);
    // A shutdown waits for clients that do not read why.
    assert!(LINGER_DEFAULT.as_millis() < SHUTDOWN_MAX.as_millis());
    assert!(*RECV_BUFFERS.end() as u32 <= *RING_ENTRIES.end());
    assert!(SEGMENT_BYTES.start().is_multiple_of(LOG_BLOCK_BYTES));
    assert!(route::MAX_TOPIC_LEVELS <= u16::MAX as usize && MAX_TOPIC_LEVELS_DEFAULT <= *MAX_TOPIC_LEVELS.end());
    assert!(MEMORY_RELIEF_PERCENT < MEMORY_SCARCE_PERCENT && MEMORY_SCARCE_PERCENT < MEMORY_SHORT_PERCENT);
    assert!(MEMORY_SHORT_PERCENT < MEMORY_EXHAUSTED_PERCENT && MEMORY_EXHAUSTED_PERCENT < 100);
    assert!(LETTERS_PER_BATCH_MAX <= *MAX_WAITING_LETTERS.start() as usize);
    // A connection index and a kind share the 64 bits that identify an operation, with room to spare.
    assert!((*MAX_CONNECTIONS.end() as u64) < 1 << 32);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_its_share_of_what_is_given_for_all() {
        let limits = |max_sessions| Limits { max_sessions: NonZeroU32::new(max_sessions), ..Limits::default() };
        for (max_sessions, shards, share) in [(0, 4, 0), (1, 4, 1), (8, 4, 2), (9, 4, 3), (9, 1, 9)] {
            let shard = limits(max_sessions).of_one_shard(shards);
            assert_eq!(shard.max_sessions, NonZeroU32::new(share), "{max_sessions} in {shards} shards");
        }
        assert_eq!(Limits::default().of_one_shard(4).queue_memory_bytes, QUEUE_MEMORY_BYTES_DEFAULT / 4);
    }
}
