//! The shard: clients, sessions, subscriptions and messages of one core, as one pure state machine.
//!
//! A shard owns every client whose id hashes to it. It has no clock, socket, thread or random number: a driver (the
//! io_uring loop, the simulator, a test) tells it what happened and asks what to do.
//!
//! # Driving it
//! After a batch of events (`handle_*`), call once [`poll_lookups`](Shard::poll_lookups), which does a bounded piece of what
//! would take too long at once; if it says that there is more, the next turn is to come without waiting for an event. Then
//! drain the outputs in this order:
//! 1. [`poll_letters`](Shard::poll_letters) for every other shard whose ring has room,
//! 2. [`poll_transmit`](Shard::poll_transmit) until `None`: at most one transmit per connection is out at a time,
//! 3. [`poll_command`](Shard::poll_command) and [`poll_notice`](Shard::poll_notice) until `None`,
//! 4. [`poll_log_write`](Shard::poll_log_write), [`poll_log_read`](Shard::poll_log_read) and
//!    [`poll_obsolete_segment`](Shard::poll_obsolete_segment),
//! 5. [`next_timeout`](Shard::next_timeout): when to call [`handle_timeout`](Shard::handle_timeout) at the latest,
//! 6. [`end_turn`](Shard::end_turn), if it is to be measured how long messages take.
//!
//! # Invariants
//! - A message of a QoS 1 or 2 publisher is handed to every session and every other shard that is subscribed before its
//!   acknowledgement is promised, and nothing that a client was acknowledged for is dropped but by a limit's policy, which by
//!   default does not do so where the session outlives the broker.
//! - The order of a publisher's messages is kept on every path to a subscriber.
//! - Nothing that comes from the network panics or ends another connection than its own.

mod admission;
mod aliases;
mod authenticating;
mod backlog;
mod bridging;
mod census;
mod checkpoint;
mod clients;
mod congestion;
mod connack;
mod connection;
mod counters;
mod delivering;
mod directory;
mod encoder;
mod ending;
mod farewell;
mod feeding;
mod filter_keys;
mod groups;
mod journal;
mod latency;
mod links;
mod log_failure;
mod log_limit;
mod lookups;
mod memory;
mod messages;
mod outbox;
mod output;
mod overflow;
mod pacing;
mod packet_counts;
mod permitting;
mod placement;
mod publishing;
mod receiving;
mod recipient;
mod redealing;
mod refusing;
mod reporting;
mod restoring;
mod retained;
mod retained_directory;
mod role;
mod sessions;
mod sharing;
mod subscribing;
mod template;
#[doc(hidden)]
pub mod timers;
mod topics;
mod unwrapping;

pub use admission::Admission;
pub use bridging::OpenedBridge;
pub use census::{Census, Exchanges, LogReport, ShardReport};
pub use connection::ConnectionKey;
pub use counters::Counters;
pub use directory::{ClientPage, ClientReport, ConnectedClient, NotRemoved, SubscriptionReport};
pub(crate) use farewell::Farewell;
pub use latency::Latencies;
pub use memory::MemoryStage;
pub use output::Transmit;
pub use packet_counts::PacketCounts;
pub use placement::shard_of;
pub use redealing::redeal;
pub use retained_directory::{RetainedPage, RetainedReport};
pub use role::BridgeNotice;

use std::collections::VecDeque;

use crate::config::{Limits, Service};
use crate::fault::PlantedFault;
use crate::route::{Letter, MatchCache, Matches, RouteSequence, RouteStamp, ShardId, SubscriptionTrie};
use crate::store::{Log, LogConfig, LogEnd, LogFailure, LogWrite, SegmentNumber};
use crate::time::Timestamp;
use std::time::Duration;

use clients::Clients;
use connection::Phase;
use encoder::Encoder;
use feeding::Subscribing;
use groups::Groups;
use lookups::Lookups;
use outbox::Outbox;
use recipient::Recipient;
use retained::RetainedMessages;
use sessions::{SessionKey, Sessions};

/// What a shard is told once, at its start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard this is.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Seed of the hash tables that hold what clients choose; secret in production.
    pub seed: u64,
    /// Bounds of queues, packets and tables.
    pub limits: Limits,
    /// What of MQTT is served, and what clients are told.
    pub service: Service,
    /// How often the broker says on `$SYS` how it is, if it does.
    pub report_interval: Option<Duration>,
    /// The log that this shard writes; none with `--durability none`.
    pub log: Option<LogConfig>,
    /// Normally none.
    pub fault: PlantedFault,
}

/// What a driver should do with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Stop reading. What has been received already is still to be handed over.
    PauseReceiving(ConnectionKey),
    /// Go on reading.
    ResumeReceiving(ConnectionKey),
    /// All is sent: shut the sending side, so that the client sees the end, and go on receiving.
    FinishSending(ConnectionKey),
    /// Close the socket as soon as no operation is in flight on it, hand back a transmit that was, and call
    /// [`Shard::handle_closed`].
    Close(ConnectionKey),
}

/// Who has a timer.
#[derive(Clone, Copy, Debug)]
enum TimerKey {
    Connection(ConnectionKey),
    Session(SessionKey),
    Will(SessionKey),
    Congestion(SessionKey),
    Pace(ConnectionKey),
    Report,
    LogLimit,
    /// The search for retained messages that have expired.
    Sweep,
}

/// A shard.
#[derive(Debug)]
pub struct Shard {
    shards: u16,
    clients: Clients,
    subscriptions: SubscriptionTrie<Recipient>,
    /// Those whose home this is.
    groups: Groups,
    matches: Matches,
    match_cache: MatchCache,
    retained: RetainedMessages,
    /// The deadline of the one timer of its sweep that counts.
    sweep_timer_at: Option<Timestamp>,
    /// Messages routed so far.
    routed: RouteSequence,
    subscribing: Subscribing,
    lookups: Lookups,
    /// Connections admitted so far, as a serial number.
    admitted: u32,
    fault: PlantedFault,
    /// The pass over all that is alive, while there is one.
    checkpoint: Option<checkpoint::Checkpoint>,
    /// How long the log was when the last pass was through, without what that made obsolete.
    cleaned_bytes: u64,
    /// What was alive then, by estimate.
    cleaned_alive_bytes: u64,
    /// The scratch of a fan-out whose message matches several filters.
    overlapping: publishing::Overlapping,
    reporting: reporting::Reporting,
    /// What the operator should know.
    notices: VecDeque<BridgeNotice>,
}

impl Shard {
    /// A shard that knows nothing yet, with a new log if it is to have one.
    pub fn new(config: ShardConfig) -> Self {
        let mut shard = Self {
            shards: config.shards,
            subscriptions: SubscriptionTrie::new(config.seed),
            groups: Groups::new(config.seed, config.limits.shared_balance),
            matches: Matches::default(),
            match_cache: MatchCache::default(),
            retained: RetainedMessages::new(config.seed),
            sweep_timer_at: None,
            routed: RouteSequence::default(),
            subscribing: Subscribing::default(),
            lookups: Lookups::new(&config.limits),
            admitted: 0,
            fault: config.fault,
            checkpoint: None,
            cleaned_bytes: 0,
            cleaned_alive_bytes: 0,
            overlapping: publishing::Overlapping::default(),
            reporting: reporting::Reporting::new(config.report_interval),
            notices: VecDeque::new(),
            clients: Clients::new(
                config.id,
                Outbox::new(config.shards, config.limits.max_waiting_letters, config.fault),
                Sessions::new(config.seed, config.fault),
                config.log.map_or_else(Log::off, |log| Log::new(log, LogEnd::default())),
                Encoder::new(config.seed),
                config.limits,
                config.service,
            ),
        };
        shard.begin_reports();
        shard
    }

    /// Bytes were received, cut anywhere.
    pub fn handle_received(&mut self, now: Timestamp, key: ConnectionKey, bytes: &[u8]) {
        self.clients.now = now;
        self.clients.counters.bytes_received += bytes.len() as u64;
        self.receive_bytes(key, bytes);
        self.clients.balance_output(key);
        self.end_overflowed();
    }

    /// The client has shut its sending side. What waits for it is still sent.
    pub fn handle_end_of_stream(&mut self, now: Timestamp, key: ConnectionKey) {
        self.clients.now = now;
        match self.clients.connection(key).phase {
            Phase::Open => self.end_of_stream(key),
            Phase::Flushing { .. } => self.clients.connection(key).phase = Phase::Flushing { client_ended: true },
            Phase::Finished => self.close(key),
            Phase::Closing => {}
        }
        self.end_overflowed();
    }

    /// The connection is broken: nothing can be sent on it any more.
    pub fn handle_connection_failed(&mut self, now: Timestamp, key: ConnectionKey) {
        self.clients.now = now;
        match self.clients.connection(key).phase {
            Phase::Open => {
                self.detach(key, ending::Will::Publish);
                self.close(key);
            }
            Phase::Flushing { .. } | Phase::Finished => self.close(key),
            Phase::Closing => {}
        }
        self.end_overflowed();
    }

    /// A transmit was written whole, or given up because the connection is broken or closing.
    pub fn handle_sent(&mut self, now: Timestamp, key: ConnectionKey, transmit: Transmit) {
        self.clients.now = now;
        let is_flushed = self.clients.handle_sent(key, transmit);
        let connection = self.clients.connection(key);
        match connection.phase {
            Phase::Open => {
                if let Some(session) = connection.session {
                    self.clients.pump(session);
                    self.feed_if_drained(session);
                }
                self.clients.balance_output(key);
                self.end_if_over(key);
            }
            Phase::Flushing { client_ended } if is_flushed => self.flushed(key, client_ended),
            Phase::Flushing { .. } | Phase::Finished | Phase::Closing => {}
        }
    }

    /// The driver has closed the socket and has no operation in flight on it.
    pub fn handle_closed(&mut self, key: ConnectionKey) {
        assert!(self.clients.connection(key).phase == Phase::Closing, "a socket is closed when the shard says so");
        self.clients.remove_connection(key);
    }

    /// A letter came from another shard.
    pub fn handle_letter(&mut self, now: Timestamp, from: ShardId, letter: Letter) {
        self.clients.now = now;
        match letter {
            Letter::Deliver { message, sequence, publisher, number } => {
                if self.is_due(from, number) {
                    let provenance = publishing::Provenance {
                        session: None,
                        origin: publisher.map(|publisher| (from, publisher)),
                        stamp: RouteStamp { shard: from, sequence },
                        may_come_again: number.is_none(),
                    };
                    self.deliver_here(provenance, &message);
                }
            }
            Letter::HoldPublisher(publisher) => self.clients.hold_publisher(publisher),
            Letter::LetPublisherGo(publisher) => self.clients.let_publisher_go(publisher),
            Letter::Retain { message, author, sequence, number } => {
                if self.is_due(from, number) {
                    self.retain(message, author, RouteStamp { shard: from, sequence });
                }
            }
            Letter::Acknowledged { through } => self.handle_acknowledged(from, through),
            Letter::Missing { behind } => self.clients.resend_letters(from, behind),
            Letter::LogFailed(failure) => self.handle_log_failed(from, failure),
            Letter::LogAtLimit { is_full } => self.handle_log_at_limit(from, is_full),
            Letter::InterestGained { filter, ticket, wants_retained, is_durable } => {
                self.apply_interest(from, &filter, ticket, wants_retained, is_durable);
            }
            Letter::InterestApplied { ticket } => self.handle_applied(ticket),
            Letter::InterestLost { filter, durable_only } => self.apply_interest_lost(from, &filter, durable_only),
            Letter::TallyAsked { round } => self.handle_tally_asked(from, round),
            Letter::Tallied { round, tally } => self.handle_tallied(from, round, *tally),
            Letter::RetainedMark { subscriber, ticket, routed, request } => {
                self.handle_mark(from, subscriber, ticket, routed, request);
            }
            Letter::SharedJoined { client_id, share, is_durable, ticket } => {
                self.handle_shared_joined(from, client_id, share, is_durable, ticket);
            }
            Letter::SharedChanged { client_id, share, presence } => {
                self.handle_shared_changed(from, client_id, share, presence);
            }
            Letter::SharedDeliver { client_id, share, message, publisher, number } => {
                self.handle_shared_deliver(from, &client_id, share, message, publisher, number);
            }
            Letter::SharedRecalled { client_id, share } => self.handle_shared_recalled(&client_id, &share),
            Letter::SharedReturned { share, message, number } => {
                self.handle_shared_returned(from, &share, &message, number);
            }
            Letter::SharedCompleted { client_id, share, messages } => {
                self.handle_shared_completed(&client_id, &share, messages);
            }
            Letter::RetainedFound { ticket, messages, has_more } => self.handle_found(from, ticket, messages, has_more),
            Letter::MarkWanted { home, ticket } => self.mark_again(from, home, ticket),
            Letter::RestForgotten { ticket } => self.forget_rest(from, ticket),
        }
        self.end_overflowed();
    }

    /// Time has come: at or after [`next_timeout`](Self::next_timeout).
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.clients.now = now;
        while let Some((deadline, key)) = self.clients.timers.expire(now) {
            match key {
                TimerKey::Connection(key) => self.connection_timeout(key, deadline),
                TimerKey::Session(key) => self.session_timeout(key, deadline),
                TimerKey::Will(key) => self.will_timeout(key, deadline),
                TimerKey::Congestion(key) => self.clients.congestion_timeout(key, deadline),
                TimerKey::Pace(key) => self.clients.pace_timeout(key, deadline),
                TimerKey::Report => self.publish_report(),
                TimerKey::LogLimit => self.log_limit_timeout(),
                TimerKey::Sweep => self.sweep_timeout(deadline),
            }
        }
        self.end_overflowed();
    }

    /// A write to the log is done: it is as stable as the durability mode asks for, or it failed.
    pub fn handle_log_written(&mut self, now: Timestamp, write: LogWrite, result: Result<(), LogFailure>) {
        self.clients.now = now;
        self.clients.log.handle_written(write, result);
        match self.clients.log.failure() {
            None => {
                self.clients.release_outputs();
                self.clients.acknowledge_letters();
                self.clients.resume_sources();
            }
            Some(failure) => self.fail_log(failure),
        }
        self.end_overflowed();
    }

    /// The next write to the log, if none is out.
    pub fn poll_log_write(&mut self, now: Timestamp) -> Option<LogWrite> {
        self.clients.now = now;
        if self.clients.log.is_writing() {
            return None;
        }
        self.continue_checkpoint();
        if self.clients.log.filling_bytes() == 0 {
            // Letters without effect are acknowledged, too.
            self.clients.log_applied_letters();
        }
        if !self.clients.log.is_due(now) {
            return None;
        }
        if self.logs_letters_late() {
            let write = self.clients.log.poll_write(now);
            self.clients.log_applied_letters();
            return write;
        }
        self.clients.log_applied_letters();
        self.clients.log.poll_write(now)
    }

    /// The next segment of the log to remove, oldest first; none while the log is being read.
    pub fn poll_obsolete_segment(&mut self) -> Option<SegmentNumber> {
        if self.clients.backlogs.is_reading() {
            return None;
        }
        self.clients.log.poll_obsolete()
    }

    /// Letters for another shard whose ring has room, at most `max`.
    pub fn poll_letters(&mut self, to: ShardId, max: usize) -> Option<Vec<Letter>> {
        self.post_completed(to);
        let batch = self.clients.outbox.take(to, max, self.clients.log.stable())?;
        self.clients.resume_sources();
        Some(batch)
    }

    /// An emptied batch of letters, for reuse; best one that this shard has given out.
    pub fn recycle_letters(&mut self, batch: Vec<Letter>) {
        self.clients.outbox.recycle(batch);
    }

    /// The next bytes to send. The next of the same connection come after [`handle_sent`](Self::handle_sent).
    pub fn poll_transmit(&mut self) -> Option<(ConnectionKey, Transmit)> {
        self.clients.poll_transmit()
    }

    /// What else to do with connections.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.clients.commands.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` is never.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        [self.clients.timers.next(), self.clients.log.next_timeout()].into_iter().flatten().min()
    }

    /// Whether nothing is being written to the log or waits for that.
    pub fn is_log_idle(&self) -> bool {
        self.clients.log.is_idle()
    }

    /// Whether packets are exchanged on a connection: it is neither ended nor about to end.
    ///
    /// # Panics
    /// If there is no such connection.
    pub fn is_open(&self, key: ConnectionKey) -> bool {
        self.clients.connections[key.index()].is_open()
    }

    /// Whether no connection is left, and nothing waits for the log.
    pub fn is_drained(&self) -> bool {
        self.clients.connections.is_empty() && self.clients.log.is_idle()
    }

    /// The log, to look at.
    pub fn log(&self) -> &Log {
        &self.clients.log
    }
}

#[cfg(test)]
mod tests;
