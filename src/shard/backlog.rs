//! Large backlogs: the ends of queues that are not in memory but only in the log, and how they come back.
//!
//! A message *goes away* where memory is short: when the shard's messages take more than their share of `--queue-memory`
//! and the session has a few in its queue already. It is logged in one batch with its delivery, and nothing of it is kept but
//! that its number lies in this batch ([`LoggedDeliveries`]: a few words for a whole stream of messages).
//!
//! It comes back ahead of need, when the client is connected and the queue in memory gets short. What is read is a piece of the
//! log, not of one session: whoever is due a delivery that is found there gets it, so sessions that wait for the same messages
//! come back in one pass over the log. One read is out at a time.
//!
//! A checkpoint moves what is away to the end of the log: it reads the old part of it in order, a piece at a time, and logs
//! again what still lies only there.
//!
//! | a delivery is             | event                                | becomes                     |
//! |---------------------------|--------------------------------------|-----------------------------|
//! | new                       | memory is short, or others are away  | away, in the present batch  |
//! | away, first of its session | its batch is read, the queue is short | queued                     |
//! | away, before a checkpoint | its batch is read for the checkpoint | away, in the present batch  |
//! | away, first of its session | the queue is full and drops its oldest | gone                     |
//! | away                      | the session ends                     | gone                        |
//!
//! Only what is stable is read, and it was checked when it was written: a batch that is not what it was is damage, and the log
//! fails. Segments stay while they are being read.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::config::Limits;
use crate::session::Outbound;
use crate::store::{Batch, DamagedBatch, LogFailure, LogPosition, LogRead, LoggedDeliveries, LoggedDelivery};
use crate::time::Timestamp;

use super::Shard;
use super::checkpoint::{BYTES_PER_BATCH, Checkpoint};
use super::clients::Clients;
use super::journal;
use super::messages::{Delivery, MessageKey, Messages};
use super::sessions::SessionKey;

/// Messages of a session in memory below which more are read, where there is memory for more: what a fast client takes while the disk
/// answers.
const READ_AHEAD_MESSAGES: usize = 1024;

/// How much is read at once for sessions.
const READ_BYTES: u64 = 256 * 1024;

/// How much of the old log a checkpoint reads at once: what it finds is logged without a pause.
const CHECKPOINT_READ_BYTES: u64 = 64 * 1024;

/// Sessions that are asked at most, in one turn, whether what they wait for can be read.
const ASKED_PER_TURN: usize = 64;

/// What is away, of all sessions.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    by_session: HashMap<SessionKey, Backlog, FixedState>,
    /// Sessions that want to read, in the order of their asking.
    wanting: VecDeque<SessionKey>,
    reading: Option<Reader>,
    /// Deliveries that are away, and the bytes of their messages.
    count: u64,
    bytes: u64,
    /// For whom the next read is, if both want one.
    is_checkpoint_next: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    deliveries: LoggedDeliveries,
    /// Stands among those that want to read.
    is_wanting: bool,
}

/// For whom a read is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reader {
    Session(SessionKey),
    Checkpoint,
}

/// How far a checkpoint has moved what is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moving {
    /// The next batch to read.
    next: LogPosition,
    /// The first that need not be read.
    end: LogPosition,
    /// The batch to which something was moved last: if that is full, the next piece waits for another one.
    moved_to: LogPosition,
}

impl Moving {
    /// From the beginning of the log to this batch.
    pub(super) fn before(end: LogPosition) -> Self {
        Self { next: LogPosition::NOTHING, end, moved_to: LogPosition::NOTHING }
    }

    /// Whether nothing is left to be moved.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.end
    }
}

/// The return of what was read for one session.
struct Returning {
    reader: SessionKey,
    /// The reader has enough for now, and there was more.
    is_refused: bool,
    /// To whom something was given, and the reader.
    sessions: Vec<SessionKey>,
}

/// Whether a new message for a session goes away.
pub(super) fn goes_away(outbound: &Outbound<Delivery>, messages: &Messages, limits: &Limits) -> bool {
    outbound.away() > 0
        || outbound.queued_here() >= limits.queue_kept_messages as usize
            && messages.memory_bytes() > limits.queue_memory_bytes
}

impl Backlogs {
    /// Takes what a restart finds.
    pub(super) fn restore(&mut self, session: SessionKey, deliveries: LoggedDeliveries) {
        self.change(session, |known| *known = deliveries);
    }

    /// A delivery has gone away, into this batch.
    pub(super) fn add(&mut self, session: SessionKey, number: u64, batch: LogPosition, bytes: u64) {
        self.change(session, |deliveries| deliveries.insert(number, batch, bytes));
    }

    /// A delivery is over before it came back.
    pub(super) fn forget(&mut self, session: SessionKey, number: u64) {
        self.change(session, |deliveries| {
            let was_away = deliveries.remove(number);
            assert!(was_away, "only what is away is forgotten");
        });
    }

    /// A session has ended.
    pub(super) fn remove(&mut self, session: SessionKey) {
        if self.by_session.contains_key(&session) {
            self.change(session, |deliveries| *deliveries = LoggedDeliveries::default());
        }
    }

    /// Whether nothing is away.
    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    /// Whether a read is out.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// How many deliveries are away, and the bytes of their messages.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// All sessions of which something is away.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &LoggedDeliveries)> {
        self.by_session.iter().map(|(session, backlog)| (*session, &backlog.deliveries))
    }

    /// Changes what is away of a session, and what is added up of all.
    fn change(&mut self, session: SessionKey, change: impl FnOnce(&mut LoggedDeliveries)) {
        let deliveries = &mut self.by_session.entry(session).or_default().deliveries;
        self.count -= deliveries.count();
        self.bytes -= deliveries.bytes();
        change(deliveries);
        self.count += deliveries.count();
        self.bytes += deliveries.bytes();
        if deliveries.is_empty() {
            self.by_session.remove(&session);
        }
    }
}

impl Clients {
    /// Asks for more of what is away, if the session needs it.
    pub(super) fn ask_for_backlog(&mut self, session: SessionKey) {
        if self.is_short_of_messages(session)
            && let Some(backlog) = self.backlogs.by_session.get_mut(&session)
            && !backlog.is_wanting
        {
            backlog.is_wanting = true;
            self.backlogs.wanting.push_back(session);
        }
    }

    /// Whether a connected client may soon have to wait for what is away.
    fn is_short_of_messages(&self, session: SessionKey) -> bool {
        let enough = if self.is_memory_short() { (self.kept_messages() / 2).max(1) } else { READ_AHEAD_MESSAGES };
        self.sessions.get(session).connection.is_some() && self.queued_here(session) < enough
    }

    /// Whether the session for which a read is made takes one more message from it.
    fn has_room_to_return(&self, session: SessionKey) -> bool {
        !self.is_memory_short() || self.queued_here(session) < self.kept_messages()
    }

    /// How many messages of each session stay in memory, at least one.
    fn kept_messages(&self) -> usize {
        self.limits.queue_kept_messages.max(1) as usize
    }

    fn is_memory_short(&self) -> bool {
        self.messages.memory_bytes() > self.limits.queue_memory_bytes
    }

    fn queued_here(&self, session: SessionKey) -> usize {
        self.sessions.outbound_to_read(session).map_or(0, Outbound::queued_here)
    }

    /// The next read for a session; none while what is wanted is not stable.
    fn read_for_session(&mut self) -> Option<LogRead> {
        for _ in 0..self.backlogs.wanting.len().min(ASKED_PER_TURN) {
            let session = self.backlogs.wanting.pop_front()?;
            // A session may have ended since, and another one have come under its key.
            let Some(backlog) = self.backlogs.by_session.get_mut(&session).filter(|backlog| backlog.is_wanting) else {
                continue;
            };
            backlog.is_wanting = false;
            // What lay before the oldest batch has been moved.
            let oldest = self.log.oldest().unwrap_or_default();
            backlog.deliveries.not_before(oldest);
            let (_, batch) = backlog.deliveries.first().expect("a backlog without a delivery is removed");
            if !self.is_short_of_messages(session) {
                continue;
            }
            if let Some(read) = self.log.read_from(batch, READ_BYTES) {
                self.backlogs.reading = Some(Reader::Session(session));
                return Some(read);
            }
            self.ask_for_backlog(session);
        }
        None
    }

    /// Gives the sessions what was read for one of them.
    fn return_deliveries(&mut self, reader: SessionKey, read: &LogRead, bytes: &[u8]) -> Result<(), DamagedBatch> {
        let mut returning = Returning { reader, is_refused: false, sessions: vec![reader] };
        for batch in self.log.batches(read, bytes) {
            let batch = batch?;
            // What a checkpoint has moved may stand behind what followed it: the next run may begin in the same batch.
            while self.return_deliveries_of(&batch, &mut returning)? {}
            if returning.is_refused {
                break;
            }
            let Some(backlog) = self.backlogs.by_session.get_mut(&reader) else { break };
            match backlog.deliveries.first() {
                // Another run follows, which begins before what was read here.
                Some((_, first)) if first < batch.number => break,
                // All that it has here has come back: the rest lies behind.
                Some((_, first)) if first == batch.number && !backlog.deliveries.not_before(batch.number.next()) => {
                    return Err(batch.without_delivery());
                }
                Some(_) | None => {}
            }
        }
        let mut sessions = returning.sessions;
        sessions.sort_unstable_by_key(|session| session.index());
        sessions.dedup();
        for session in sessions {
            if self.sessions.get_if_alive(session).is_some() {
                self.pump(session);
            }
        }
        Ok(())
    }

    /// Gives the sessions what lies in one batch. Whether the reader has come to the end of a run, and another follows.
    fn return_deliveries_of(&mut self, batch: &Batch<'_>, returning: &mut Returning) -> Result<bool, DamagedBatch> {
        let reader = returning.reader;
        let end_of_run = |backlogs: &Backlogs| {
            let backlog = backlogs.by_session.get(&reader)?;
            backlog.deliveries.runs().next().map(|(numbers, _)| numbers.end)
        };
        let before = end_of_run(&self.backlogs);
        let mut message = None;
        let walked = batch.deliveries(&mut |delivery| {
            self.return_delivery(batch.number, &delivery, &mut message, returning);
        });
        self.forget_shared(message);
        walked?;
        let after = end_of_run(&self.backlogs);
        Ok(after.is_some() && after != before)
    }

    /// Puts a delivery back into memory if it is the next one of its session, which wants it.
    fn return_delivery(
        &mut self,
        batch: LogPosition,
        delivery: &LoggedDelivery<'_>,
        message: &mut Option<(u32, MessageKey)>,
        returning: &mut Returning,
    ) {
        let session = SessionKey::from_id(delivery.session.0);
        let Some(backlog) = self.backlogs.by_session.get(&session) else { return };
        let next = delivery.number;
        if backlog.deliveries.first().is_none_or(|(first, _)| first != next)
            || !backlog.deliveries.may_lie_in(next, batch)
        {
            return;
        }
        let is_reader = session == returning.reader;
        let is_taken = if is_reader { self.has_room_to_return(session) } else { self.is_short_of_messages(session) };
        if !is_taken {
            returning.is_refused |= is_reader;
            return;
        }
        let message = self.shared(delivery, message);
        self.messages.refer(message);
        let bytes = self.messages.get(message).bytes() as u32;
        let outbound = self.sessions.outbound(session);
        assert!(outbound.next_to_return() == next, "a queue and what is away of it follow each other");
        outbound.return_from_log(Delivery { message, bytes, terms: delivery.terms.clone() });
        self.backlogs.change(session, |deliveries| deliveries.remove_first(next, batch));
        if returning.sessions.last() != Some(&session) {
            returning.sessions.push(session);
        }
    }

    /// Logs a delivery again that lies in an old batch.
    fn move_delivery(
        &mut self,
        batch: LogPosition,
        delivery: &LoggedDelivery<'_>,
        message: &mut Option<(u32, MessageKey)>,
    ) {
        let (session, number) = (SessionKey::from_id(delivery.session.0), delivery.number);
        let Some(backlog) = self.backlogs.by_session.get(&session) else { return };
        if !backlog.deliveries.may_lie_in(number, batch) {
            return;
        }
        let message = self.shared(delivery, message);
        journal::log_away(&mut self.log, &mut self.messages, session, number, message, delivery.terms);
        self.backlogs.add(session, number, self.log.filling(), self.messages.get(message).bytes() as u64);
    }

    /// The message of a delivery, which is mostly that of the delivery before. One reference belongs to `last`.
    fn shared(&mut self, delivery: &LoggedDelivery<'_>, last: &mut Option<(u32, MessageKey)>) -> MessageKey {
        match *last {
            Some((index, message)) if index == delivery.body_index => message,
            Some(_) | None => {
                self.forget_shared(last.take());
                let message = self.messages.insert_logged(delivery.body.to_message());
                *last = Some((delivery.body_index, message));
                message
            }
        }
    }

    fn forget_shared(&mut self, last: Option<(u32, MessageKey)>) {
        if let Some((_, message)) = last {
            self.messages.release(message);
        }
    }
}

impl Shard {
    /// The next read from the log, if none is out. It goes back to [`handle_log_read`](Self::handle_log_read); its segment
    /// has to stay until then, and no segment is given up meanwhile.
    pub fn poll_log_read(&mut self) -> Option<LogRead> {
        if self.clients.backlogs.is_reading() || self.clients.log.failure().is_some() {
            return None;
        }
        if std::mem::take(&mut self.clients.backlogs.is_checkpoint_next) {
            self.read_for_checkpoint().or_else(|| self.clients.read_for_session())
        } else {
            self.clients.backlogs.is_checkpoint_next = true;
            self.clients.read_for_session().or_else(|| self.read_for_checkpoint())
        }
    }

    /// A read from the log is done, all of it, or failed. Whatever is wrong with it, the log fails then.
    ///
    /// # Errors
    /// A batch that is not what was written: for the driver to report.
    ///
    /// # Panics
    /// If no read is out.
    pub fn handle_log_read(
        &mut self,
        now: Timestamp,
        read: &LogRead,
        result: Result<&[u8], LogFailure>,
    ) -> Result<(), DamagedBatch> {
        self.clients.now = now;
        let reader = self.clients.backlogs.reading.take().expect("a read is handed back once");
        if self.clients.log.failure().is_some() {
            return Ok(());
        }
        let (failure, taken) = match result {
            Ok(bytes) => (LogFailure::Io, self.take_read(reader, read, bytes)),
            Err(failure) => {
                self.fail_reading(failure);
                self.end_overflowed();
                return Ok(());
            }
        };
        if taken.is_err() {
            self.fail_reading(failure);
        }
        self.end_overflowed();
        taken
    }

    fn take_read(&mut self, reader: Reader, read: &LogRead, bytes: &[u8]) -> Result<(), DamagedBatch> {
        match reader {
            Reader::Session(session) => self.clients.return_deliveries(session, read, bytes),
            Reader::Checkpoint => self.move_deliveries(read, bytes),
        }
    }

    fn fail_reading(&mut self, failure: LogFailure) {
        self.clients.log.fail(failure);
        self.fail_log(failure);
    }

    /// The next piece of the old log that a checkpoint reads; none while it has to wait.
    fn read_for_checkpoint(&mut self) -> Option<LogRead> {
        let log = &self.clients.log;
        let moving = self.checkpoint.as_mut()?.moving()?;
        let is_batch_full = moving.moved_to == log.filling() && log.filling_bytes() >= BYTES_PER_BATCH;
        if moving.is_done() || is_batch_full {
            return None;
        }
        moving.next = moving.next.max(log.oldest()?);
        let read = log.read_from(moving.next, CHECKPOINT_READ_BYTES)?;
        self.clients.backlogs.reading = Some(Reader::Checkpoint);
        Some(read)
    }

    /// Logs again what is away and still lies in the batches that were read for a checkpoint.
    fn move_deliveries(&mut self, read: &LogRead, bytes: &[u8]) -> Result<(), DamagedBatch> {
        let Some(moving) = self.checkpoint.as_mut().and_then(Checkpoint::moving) else { return Ok(()) };
        let clients = &mut self.clients;
        for batch in clients.log.batches(read, bytes) {
            let batch = batch?;
            if batch.number < moving.next || moving.is_done() {
                continue;
            }
            let records = clients.log.records();
            let mut message = None;
            let walked = batch.deliveries(&mut |delivery| clients.move_delivery(batch.number, &delivery, &mut message));
            clients.forget_shared(message);
            walked?;
            if clients.log.records() > records {
                moving.moved_to = clients.log.filling();
            }
            moving.next = batch.number.next();
        }
        // Old batches of which little is alive become few new ones: these wait for company.
        if clients.log.filling_bytes() >= BYTES_PER_BATCH {
            clients.log.wait_for_appended();
        }
        Ok(())
    }
}
