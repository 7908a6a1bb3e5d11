//! Cleaning the log: a pass over all that is alive, behind which everything older can go.
//!
//! A pass begins a new segment and then logs every session, delivery, retained message and letter again, a bounded piece
//! with each batch. Changes that happen meanwhile are logged as always, before or behind the piece that they concern:
//! records can be applied on top of themselves, and what is said of a session that is repeated only later is ignored.
//! Deliveries that only the log holds ([`backlog`](super::backlog)) come behind the heads of all sessions and before the
//! other deliveries: what comes back into memory meanwhile is then among those. Whatever of them was logged before the
//! last head is moved, for what is said of a session before its head counts only as long as the old segments are there.
//! When the pass is through and stable, all segments before its beginning are removed.
//!
//! A pass starts when the log is longer than twice what is alive, plus a fixed number of segments. So the log stays under three
//! times what is alive plus that number, and every byte that is logged is copied at most once more in the mean.

use std::borrow::Cow;

use crate::proto::QoS;
use crate::route::{Message, ShardId};
use crate::session::Reopened;
use crate::store::{Image, Log, LogPosition, MessageId, Record, SegmentNumber};

use super::Shard;
use super::backlog::Moving;
use super::links::DurableLetter;
use super::messages::{Delivery, MessageKey, Messages};
use super::sessions::SessionKey;

/// Half segments that the log may have on top of what is in proportion to the live data. An odd number: a pass begins a segment
/// itself, and where little is alive it would otherwise do so just behind the beginning of another one, before the next is
/// made.
const SPARE_HALF_SEGMENTS: u64 = 9;

/// Half segments that the log grows by at least between two passes.
const GAINED_HALF_SEGMENTS: u64 = 5;

/// Bytes that a pass adds to one batch, at most by one record more: little beside a batch under load, and no pause.
pub(super) const BYTES_PER_BATCH: usize = 64 * 1024;

/// What one record of a delivery and of a session, without its message and its client id, takes in the log, roughly.
const DELIVERY_BYTES: u64 = 64;
const SESSION_BYTES: u64 = 128;

/// A pass that is under way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The segment that it began.
    began: SegmentNumber,
    next: Place,
}

/// What comes next in a pass.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The session at or behind this place of the arena.
    Session(usize),
    /// What is only in the log.
    Away(Moving),
    /// The deliveries of the session at this place of the arena, from this number on, or of the next session behind it.
    Deliveries(usize, u64),
    /// The retained message at or behind this place of the arena.
    Retained(usize),
    /// The letters to and from this shard.
    Links(usize),
    /// Nothing.
    End,
}

impl Checkpoint {
    /// How far it has moved what is only in the log, if it is about that.
    pub(super) fn moving(&mut self) -> Option<&mut Moving> {
        match &mut self.next {
            Place::Away(moving) => Some(moving),
            Place::Session(_) | Place::Deliveries(..) | Place::Retained(_) | Place::Links(_) | Place::End => None,
        }
    }
}

/// Where the records of a pass go.
trait Sink {
    fn record(&mut self, record: &Record<'_>);
    /// Sees to it that the message is known by name.
    fn message(&mut self, messages: &mut Messages, key: MessageKey) -> MessageId;
    fn is_full(&self) -> bool;
    /// The first batch that has nothing yet.
    fn next_batch(&self) -> LogPosition;
}

/// Into the log, up to a length of the batch that is being filled.
struct LogSink<'a> {
    log: &'a mut Log,
    limit: usize,
}

impl Sink for LogSink<'_> {
    fn record(&mut self, record: &Record<'_>) {
        self.log.append(record);
    }

    fn message(&mut self, messages: &mut Messages, key: MessageKey) -> MessageId {
        messages.log(self.log, key)
    }

    fn is_full(&self) -> bool {
        self.log.filling_bytes() >= self.limit
    }

    fn next_batch(&self) -> LogPosition {
        self.log.appended().next()
    }
}

/// Into an image.
struct ImageSink {
    image: Image,
}

impl Sink for ImageSink {
    fn record(&mut self, record: &Record<'_>) {
        self.image.apply(record);
    }

    fn message(&mut self, messages: &mut Messages, key: MessageKey) -> MessageId {
        let (message, body) = messages.named(key);
        self.image.apply(&Record::Message { message, body });
        message
    }

    fn is_full(&self) -> bool {
        false
    }

    fn next_batch(&self) -> LogPosition {
        LogPosition::NOTHING
    }
}

impl Shard {
    /// Starts a pass if it is time for one, or takes one a piece further.
    pub(super) fn continue_checkpoint(&mut self) {
        if self.checkpoint.is_none() && self.clients.log.bytes() <= self.log_bytes_max() {
            return;
        }
        let mut checkpoint = self.checkpoint.take().unwrap_or_else(|| {
            self.clients.messages.raise_log_floor(self.clients.log.filling());
            self.clients.counters.cleanings_begun += 1;
            Checkpoint { began: self.clients.log.begin_segment(), next: Place::Session(0) }
        });
        // The log is moved out for the moment, for the pass reads all the rest.
        let mut log = std::mem::take(&mut self.clients.log);
        let limit = log.filling_bytes() + BYTES_PER_BATCH;
        let mut sink = LogSink { log: &mut log, limit };
        while !sink.is_full() {
            checkpoint.next = match checkpoint.next {
                Place::End => break,
                // What is read for it moves it on.
                Place::Away(moving) if !moving.is_done() && !self.clients.backlogs.is_empty() => break,
                place => self.log_alive(place, &mut sink),
            };
        }
        if !matches!(checkpoint.next, Place::Away(_)) {
            // So that a pass goes on when nothing else happens.
            log.wait_for_appended();
        }
        match checkpoint.next {
            // With nothing alive nothing was logged. A log must not lose its last segment before the next has a batch, or
            // recovery could not tell whether that one has lost its beginning.
            Place::End if log.filling_bytes() == 0 && log.bytes_from(checkpoint.began) == 0 => {
                self.checkpoint = Some(checkpoint);
            }
            Place::End => {
                self.cleaned_bytes = log.bytes_from(checkpoint.began) + log.filling_bytes() as u64;
                self.cleaned_alive_bytes = self.alive_bytes();
                log.release_before(checkpoint.began);
                self.clients.counters.cleanings_done += 1;
            }
            Place::Session(_) | Place::Away(_) | Place::Deliveries(..) | Place::Retained(_) | Place::Links(_) => {
                self.checkpoint = Some(checkpoint);
            }
        }
        self.clients.log = log;
    }

    /// The durable state, as a restart would find it if everything logged so far were stable. What is only in the log is
    /// left there.
    pub fn image(&mut self) -> Image {
        let mut sink = ImageSink { image: Image::default() };
        let mut next = Place::Session(0);
        while !matches!(next, Place::End) {
            next = self.log_alive(next, &mut sink);
        }
        for (session, deliveries) in self.clients.backlogs.iter() {
            let image = sink.image.sessions.get_mut(&session.id().0).expect("only a durable session has a backlog");
            image.logged = deliveries.clone();
        }
        sink.image
    }

    /// How many segments the log may grow by until it has been cleaned and gives others back: those before the next pass, and
    /// those that the pass takes itself.
    pub fn segments_until_cleaned(&self) -> usize {
        let log = &self.clients.log;
        let bytes = self.log_bytes_max().saturating_sub(log.bytes()).saturating_add(self.cleaned_bytes);
        usize::try_from(bytes.div_ceil(log.segment_bytes().max(1))).unwrap_or(usize::MAX)
    }

    /// How much the next pass will copy, by estimate; nothing while one is under way, which is about to give back more.
    pub(super) fn bytes_to_copy(&self) -> u64 {
        if self.checkpoint.is_some() { 0 } else { self.alive_bytes() }
    }

    /// What is alive would take so much in the log, about.
    fn alive_bytes(&self) -> u64 {
        let clients = &self.clients;
        let (away, away_bytes) = clients.backlogs.size();
        clients.messages.logged_bytes()
            + away_bytes
            + (clients.messages.references() + away) * DELIVERY_BYTES
            + clients.sessions.len() as u64 * SESSION_BYTES
            + self.subscriptions.subscriptions() as u64 * SESSION_BYTES
            + self.retained.bytes()
    }

    /// How long the log may get before it is cleaned.
    fn log_bytes_max(&self) -> u64 {
        let alive = self.alive_bytes();
        let segment_bytes = self.clients.log.segment_bytes();
        // The second bound is for estimates that are too low: no pass without something to gain.
        let by_estimate = (segment_bytes / 2).saturating_mul(SPARE_HALF_SEGMENTS).saturating_add(2 * alive);
        let with_gain = (segment_bytes / 2).saturating_mul(GAINED_HALF_SEGMENTS).saturating_add(self.cleaned_bytes);
        let unlimited = by_estimate.max(with_gain);
        let Some(limit) = self.log_limit() else { return unlimited };
        // Where the log is bounded, a pass begins before it is full, if two and a half segments were written or have died since
        // the last.
        let died = self.cleaned_alive_bytes.saturating_sub(alive);
        let before_full = (limit / 4 * 3).saturating_sub(alive);
        unlimited.min(before_full.max(with_gain.saturating_sub(died)))
    }

    /// Gives one piece of what is alive to the sink, and says where to go on.
    fn log_alive(&mut self, place: Place, sink: &mut impl Sink) -> Place {
        match place {
            Place::Session(place) => match self.clients.sessions.at_or_behind(place) {
                None => Place::Away(Moving::before(sink.next_batch())),
                Some(key) => {
                    if self.clients.sessions.get(key).is_durable {
                        self.log_session_parts(key, sink);
                    }
                    Place::Session(key.index() + 1)
                }
            },
            Place::Away(_) => Place::Deliveries(0, 0),
            Place::Deliveries(place, from) => match self.clients.sessions.at_or_behind(place) {
                None => Place::Retained(0),
                Some(key) if self.clients.sessions.get(key).is_durable => {
                    let from = if key.index() == place { from } else { 0 };
                    match self.log_deliveries(key, from, sink) {
                        Some(from) => Place::Deliveries(key.index(), from),
                        None => Place::Deliveries(key.index() + 1, 0),
                    }
                }
                Some(key) => Place::Deliveries(key.index() + 1, 0),
            },
            Place::Retained(place) => match self.retained.at_or_behind(place) {
                None => Place::Links(0),
                Some((place, retained)) => {
                    if !retained.is_of_the_broker() {
                        sink.record(&Record::Retained { body: (&retained.message).into(), author: retained.author });
                    }
                    Place::Retained(place + 1)
                }
            },
            Place::Links(shard) if shard < usize::from(self.shards) => {
                self.log_links(ShardId::new(shard as u16).expect("below the number of shards"), sink);
                Place::Links(shard + 1)
            }
            Place::Links(_) | Place::End => Place::End,
        }
    }

    /// All of a session but its deliveries.
    fn log_session_parts(&mut self, key: SessionKey, sink: &mut impl Sink) {
        let session = key.id();
        sink.record(&Record::Session(self.clients.sessions.head(key)));
        for filter in self.clients.sessions.get(key).subscriptions.iter() {
            let mut subscribers = self.subscriptions.subscribers(filter).iter();
            let subscription = subscribers.find(|subscriber| subscriber.subscriber == key.into());
            let subscription = subscription.expect("a session knows its subscriptions").subscription;
            let filter = Cow::Owned(self.subscriptions.filter_of(filter));
            sink.record(&Record::Subscribed { session, filter, subscription });
        }
        for share in self.clients.sessions.get(key).memberships.iter().flat_map(|memberships| &memberships.shares) {
            let (filter, subscription) = (Cow::Borrowed(&*share.group), share.subscription);
            sink.record(&Record::Subscribed { session, filter, subscription });
        }
        if let Some(inbound) = self.clients.sessions.inbound_to_read(key) {
            for id in inbound.ids() {
                sink.record(&Record::Received { session, id });
            }
        }
        // What is held back is repeated whole.
        let Some(held) = &self.clients.sessions.get(key).held else { return };
        if held.is_logged {
            sink.record(&Record::HeldReleased { session });
            for delivery in held.deliveries.iter().filter(|delivery| delivery.terms.qos > QoS::AtMostOnce) {
                let message = sink.message(&mut self.clients.messages, delivery.message);
                sink.record(&Record::HeldBack { session, message, terms: Cow::Borrowed(&delivery.terms) });
            }
        }
    }

    /// The deliveries of a session from a number on; says from which one on to continue, if the sink is full before all
    /// are given.
    fn log_deliveries(&mut self, key: SessionKey, from: u64, sink: &mut impl Sink) -> Option<u64> {
        let session = key.id();
        let outbound = self.clients.sessions.outbound_to_read(key)?;
        for (number, exchange) in outbound.held_from(from) {
            if sink.is_full() {
                return Some(number);
            }
            match exchange {
                Reopened::Unacknowledged(Delivery { message, terms, .. }) => {
                    let message = sink.message(&mut self.clients.messages, *message);
                    sink.record(&Record::Delivered { session, number, message, terms: Cow::Borrowed(terms) });
                }
                Reopened::AwaitingPubcomp => sink.record(&Record::Confirmed { session, number }),
                Reopened::Done => {}
            }
        }
        None
    }

    /// The letters to another shard that it has not acknowledged, and which of its letters were applied.
    fn log_links(&self, shard: ShardId, sink: &mut impl Sink) {
        let sender = &self.clients.links.senders[shard.index()];
        let acknowledged = sender.acknowledged();
        if acknowledged.0 > 0 {
            sink.record(&Record::LettersAcknowledged { by: shard, through: acknowledged });
        }
        for (number, DurableLetter { purpose, message, .. }) in sender.waiting_behind(acknowledged) {
            let to = [(shard, number)];
            let body = <&Message>::into(message);
            sink.record(&Record::LetterPosted { purpose: purpose.clone(), to: Cow::Borrowed(&to), body });
        }
        let applied = self.clients.links.receivers[shard.index()].applied();
        if applied.0 > 0 {
            sink.record(&Record::LettersApplied { from: shard, through: applied });
        }
    }
}
