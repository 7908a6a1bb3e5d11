//! The writing end of a shard's log: records in, batches out.
//!
//! Records gather in the batch that is being filled. [`Log::poll_write`] seals it into a [`LogWrite`]; while that is out,
//! the next batch fills, and so the busier the log, the more records share a commit. One write is out at a time, so batches
//! become stable in their order.
//!
//! A failed write latches the log: nothing becomes stable any more, and records are dropped from then on. What waits for a
//! position then waits for good, which is what keeps a promise from being given that the disk can't keep.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fault::{Fault, PlantedFault};
use crate::time::Timestamp;

use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Owner, SegmentHeader, record_seed};
use super::places::BatchPlaces;
use super::reading::{Batches, LogRead};
use super::record::Record;
use super::record_codec;

/// How long a batch may wait for company that nobody has asked to be stable.
const UNAWAITED_DELAY: Duration = Duration::from_millis(10);

/// A batch of this length waits for no more company.
const FULL_BATCH_BYTES: usize = 256 * 1024;

/// A buffer that has grown beyond this is not kept for another batch.
const KEPT_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch of the log. What waits for a batch may leave once it and all before it are stable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogPosition(pub(super) u64);

impl LogPosition {
    /// Waits for nothing: before the first batch.
    pub const NOTHING: Self = Self(0);

    /// The position that is so many batches behind the beginning.
    #[cfg(test)]
    pub(crate) const fn at(batch: u64) -> Self {
        Self(batch)
    }

    /// The batch behind this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Numbers the segments of one shard's log, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SegmentNumber(pub u64);

/// One write that makes one batch part of the log. The next comes after this one has been handed back.
#[derive(Debug)]
pub struct LogWrite {
    /// To which segment.
    pub segment: SegmentNumber,
    /// Where in it, in bytes; a multiple of the block size.
    pub offset: u64,
    /// What; a multiple of the block size.
    pub bytes: Vec<u8>,
    /// Whether it is the first write to this segment, which is to be created.
    pub opens_segment: bool,
}

/// Why the log of a shard takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFailure {
    /// No space is left on the device, or a quota is used up.
    NoSpace,
    /// Anything else: an I/O error, a failed sync.
    Io,
}

impl LogFailure {
    /// What the counters call it.
    pub fn name(self) -> &'static str {
        match self {
            LogFailure::NoSpace => "no_space",
            LogFailure::Io => "io",
        }
    }
}

/// Where a log ends: what recovery hands to the writer that goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogEnd {
    /// The last batch that counts.
    pub batch: LogPosition,
    /// Sequence number of the last record that counts.
    pub record: u64,
    /// The segments that are there, oldest first, with the lengths in bytes that count. Before the log goes on, what lies
    /// behind that has to go, and the rest has to be on stable storage if the log is to be.
    pub segments: Vec<(SegmentNumber, u64)>,
    /// Where the batches lie.
    pub places: BatchPlaces,
}

/// What the writer is told once.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Generation of the logs, all shards together; a new one begins when the number of shards changes.
    pub generation: u64,
    /// Which shard's log this is.
    pub shard: u16,
    /// A secret random number, another one at each start: it tells what this run writes from everything else that a
    /// segment's file may contain, be it left from an older use or sent by a client.
    pub salt: u64,
    /// Segments are begun anew from this length on, in bytes.
    pub segment_bytes: u64,
    /// How long a batch may wait for company.
    pub commit_delay: Duration,
    /// Whether a write that is handed back is on stable storage (`--durability sync`), or in the page cache.
    pub is_synced: bool,
    /// Normally none.
    pub fault: PlantedFault,
}

impl LogConfig {
    /// A log whose writes are thrown away, for shards that live only for a moment.
    pub fn discarding() -> Self {
        Self {
            generation: 0,
            shard: 0,
            salt: 0,
            segment_bytes: u64::MAX,
            commit_delay: Duration::ZERO,
            is_synced: false,
            fault: PlantedFault::default(),
        }
    }
}

/// The shard's view of its log: how far it was appended, and how far that is stable.
#[derive(Debug, Default)]
pub struct Log {
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    config: LogConfig,
    filling: Filling,
    /// The buffer for the batch after that.
    spare: Vec<u8>,
    /// The last batch that was sealed.
    sealed: LogPosition,
    stable: LogPosition,
    is_writing: bool,
    /// Of the last record.
    sequence: u64,
    records: u64,
    segments: Segments,
    /// Where the batches lie that are stable.
    places: BatchPlaces,
    failure: Option<LogFailure>,
}

/// The batch that is being filled. Without a record it has no bytes either.
#[derive(Debug, Default)]
struct Filling {
    /// Room for the header, and the records.
    bytes: Vec<u8>,
    records: u32,
    seed: u32,
    /// When [`Log::poll_write`] first saw it.
    seen_at: Option<Timestamp>,
    /// Whether something waits for it to be stable.
    is_awaited: bool,
}

impl Log {
    /// The log of `--durability none`: nothing is appended, so everything that was appended is stable.
    pub fn off() -> Self {
        Self::default()
    }

    /// The log that goes on behind `end`, in a new segment.
    pub fn new(config: LogConfig, end: LogEnd) -> Self {
        Self {
            writer: Some(Writer {
                config,
                filling: Filling::default(),
                spare: Vec::new(),
                sealed: end.batch,
                stable: end.batch,
                is_writing: false,
                sequence: end.record,
                records: 0,
                segments: Segments::new(end.segments),
                places: end.places,
                failure: None,
            }),
        }
    }

    /// Whether anything is logged at all.
    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// Appends a record to the batch that is being filled. With the log off nothing happens.
    #[inline]
    pub fn append(&mut self, record: &Record<'_>) {
        if let Some(writer) = &mut self.writer {
            writer.append(record);
        }
    }

    /// Records appended since the start.
    pub fn records(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.records)
    }

    /// The position behind all that was appended.
    pub fn appended(&self) -> LogPosition {
        self.writer.as_ref().map_or(LogPosition::NOTHING, Writer::appended)
    }

    /// The position behind all that was appended, if that is not stable yet; the batch is then written soon. Without such
    /// a question a batch may wait a little longer for company.
    pub fn wait_for_appended(&mut self) -> LogPosition {
        let Some(writer) = &mut self.writer else { return LogPosition::NOTHING };
        let appended = writer.appended();
        if appended <= writer.stable {
            return LogPosition::NOTHING;
        }
        writer.filling.is_awaited = !writer.filling.bytes.is_empty();
        appended
    }

    /// The position of the batch that is being filled, which is then written soon. For who knows that there will be something in
    /// it when it is sealed.
    pub fn wait_for_filling(&mut self) -> LogPosition {
        let Some(writer) = &mut self.writer else { return LogPosition::NOTHING };
        writer.filling.is_awaited = true;
        writer.sealed.next()
    }

    /// The batch that is being filled: what is appended next lies there.
    pub fn filling(&self) -> LogPosition {
        self.writer.as_ref().map_or(LogPosition::NOTHING, |writer| writer.sealed).next()
    }

    /// Everything up to here is stable.
    pub fn stable(&self) -> LogPosition {
        self.writer.as_ref().map_or(LogPosition::NOTHING, |writer| writer.stable)
    }

    /// Whether what waits for this position may leave.
    pub fn is_stable(&self, position: LogPosition) -> bool {
        position <= self.stable()
    }

    /// Bytes in the batch that is being filled.
    pub fn filling_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.filling.bytes.len())
    }

    /// The next write, if there is something to write, none is out, and the commit delay is over.
    pub fn poll_write(&mut self, now: Timestamp) -> Option<LogWrite> {
        self.writer.as_mut()?.poll_write(now)
    }

    /// Whether [`poll_write`](Self::poll_write) would give a write now. Records appended between the two lie in it.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        self.writer.as_mut().is_some_and(|writer| writer.is_due(now))
    }

    /// A write is done: in place as the durability mode asks for, or failed.
    ///
    /// # Panics
    /// If no write is out.
    pub fn handle_written(&mut self, write: LogWrite, result: Result<(), LogFailure>) {
        self.writer.as_mut().expect("only a log that is on writes").handle_written(write, result);
    }

    /// When [`poll_write`](Self::poll_write) has something that the commit delay keeps back now.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let writer = self.writer.as_ref()?;
        if writer.is_writing { None } else { Some(writer.filling.seen_at? + writer.delay()) }
    }

    /// Why nothing becomes stable any more.
    pub fn failure(&self) -> Option<LogFailure> {
        self.writer.as_ref()?.failure
    }

    /// Whether a write is out.
    pub fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.is_writing)
    }

    /// Whether nothing is out or waits to go.
    pub fn is_idle(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| !writer.is_writing && writer.filling.bytes.is_empty())
    }

    /// Length of all segments together that are still needed, in bytes.
    pub fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.segments.bytes)
    }

    /// Length of this segment and all behind it, in bytes.
    pub fn bytes_from(&self, segment: SegmentNumber) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.segments.bytes_from(segment))
    }

    /// How long a segment gets, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.config.segment_bytes)
    }

    /// Begins a new segment with the next batch, and says which: what is appended from now on lies there or behind.
    pub fn begin_segment(&mut self) -> SegmentNumber {
        self.writer.as_mut().map_or(SegmentNumber::default(), |writer| writer.segments.begin())
    }

    /// Gives all segments before this one up; they are to be removed once all that was appended so far is stable.
    pub fn release_before(&mut self, segment: SegmentNumber) {
        if let Some(writer) = &mut self.writer {
            let after = writer.appended();
            let too_early = writer.config.fault.is(Fault::SegmentRemovedTooEarly);
            writer.segments.release(segment, if too_early { LogPosition::NOTHING } else { after });
            writer.segments.settle(writer.stable);
        }
    }

    /// Whether segments that were given up wait for that.
    pub fn is_releasing(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.segments.releases.is_empty())
    }

    /// The next segment to remove, oldest first. Nothing may be reading from it.
    pub fn poll_obsolete(&mut self) -> Option<SegmentNumber> {
        let writer = self.writer.as_mut()?;
        let segment = writer.segments.pop_obsolete()?;
        writer.places.forget_through(segment);
        Some(segment)
    }

    /// What to read to find a batch, and as many behind it as fit into so many bytes; none while it is not stable.
    pub fn read_from(&self, batch: LogPosition, bytes: u64) -> Option<LogRead> {
        let stretch = self.writer.as_ref()?.places.locate(batch)?;
        Some(LogRead {
            segment: stretch.segment,
            offset: stretch.offset,
            bytes: usize::try_from(stretch.bytes.max(bytes).min(stretch.bytes_max)).expect("a segment can be held"),
            first: stretch.first,
        })
    }

    /// The batches in what was read, as far as they are whole there.
    pub fn batches<'a>(&self, read: &LogRead, bytes: &'a [u8]) -> Batches<'a> {
        let writer = self.writer.as_ref().expect("only a log that is on is read");
        read.batches(bytes, writer.config.generation, writer.config.shard)
    }

    /// The oldest batch that is there.
    pub fn oldest(&self) -> Option<LogPosition> {
        self.writer.as_ref()?.places.oldest()
    }

    /// Where the batches lie that are stable.
    pub fn places(&self) -> BatchPlaces {
        self.writer.as_ref().map_or_else(BatchPlaces::default, |writer| writer.places.clone())
    }

    /// Something that was stable can't be read any more: the log takes no more either.
    pub fn fail(&mut self, failure: LogFailure) {
        if let Some(writer) = &mut self.writer {
            writer.fail(failure);
        }
    }
}

impl Writer {
    #[inline]
    fn append(&mut self, record: &Record<'_>) {
        if self.failure.is_some() {
            return;
        }
        if self.filling.bytes.is_empty() {
            self.filling.bytes.resize(BATCH_HEADER_BYTES, 0);
            self.filling.seed = record_seed(self.config.salt, self.sealed.next().0);
        }
        self.sequence += 1;
        self.records += 1;
        self.filling.records += 1;
        record_codec::append(&mut self.filling.bytes, self.filling.seed, self.sequence, record);
    }

    fn appended(&self) -> LogPosition {
        if self.filling.bytes.is_empty() { self.sealed } else { self.sealed.next() }
    }

    fn poll_write(&mut self, now: Timestamp) -> Option<LogWrite> {
        if self.is_due(now) { Some(self.seal(now)) } else { None }
    }

    /// The batch is seen by the first who asks: its delay begins now.
    fn is_due(&mut self, now: Timestamp) -> bool {
        if self.filling.bytes.is_empty() {
            return false;
        }
        let seen_at = *self.filling.seen_at.get_or_insert(now);
        !self.is_writing && seen_at + self.delay() <= now
    }

    /// How long the batch waits for company, once it was seen.
    fn delay(&self) -> Duration {
        if self.filling.bytes.len() >= FULL_BATCH_BYTES {
            Duration::ZERO
        } else if self.filling.is_awaited {
            self.config.commit_delay
        } else {
            self.config.commit_delay.max(UNAWAITED_DELAY)
        }
    }

    fn seal(&mut self, now: Timestamp) -> LogWrite {
        let next = Filling { bytes: std::mem::take(&mut self.spare), ..Filling::default() };
        let Filling { mut bytes, records, .. } = std::mem::replace(&mut self.filling, next);
        let length = u32::try_from(bytes.len()).expect("a batch is shorter than 4 GiB");
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let place = self.segments.place(bytes.len() as u64, self.config.segment_bytes);
        self.sealed = self.sealed.next();
        let owner = Owner {
            generation: self.config.generation,
            shard: self.config.shard,
            segment: place.segment,
            salt: self.config.salt,
        };
        let header = BatchHeader {
            owner,
            batch: self.sealed.0,
            // What is stable in the page cache only is not known to be on the disk.
            synced_through: if self.config.is_synced { self.stable.0 } else { 0 },
            first_sequence: self.sequence - u64::from(records) + 1,
            sealed_at: now,
            length,
            records,
        };
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        if place.opens_segment {
            // Moves the batch, once per segment.
            let head = SegmentHeader { owner, first_batch: self.sealed.0, synced_through: header.synced_through };
            bytes.splice(0..0, head.encode());
        }
        self.is_writing = true;
        if self.config.fault.is(Fault::LogAcknowledgedBeforeSync) {
            self.stable = self.sealed;
        }
        LogWrite { segment: place.segment, offset: place.offset, bytes, opens_segment: place.opens_segment }
    }

    fn handle_written(&mut self, write: LogWrite, result: Result<(), LogFailure>) {
        assert!(self.is_writing, "a write is handed back once");
        self.is_writing = false;
        match result {
            Ok(()) => {
                let header_bytes = if write.opens_segment { BLOCK_BYTES as u64 } else { 0 };
                let (offset, bytes) = (write.offset + header_bytes, write.bytes.len() as u64 - header_bytes);
                self.places.note(self.sealed, write.segment, offset, bytes);
                self.stable = self.sealed;
                self.segments.settle(self.stable);
                if write.bytes.capacity() <= KEPT_BUFFER_BYTES_MAX {
                    self.spare = write.bytes;
                    self.spare.clear();
                }
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: LogFailure) {
        self.failure = Some(failure);
        self.filling = Filling::default();
    }
}

/// The segments that are there, and which of them may go.
#[derive(Debug)]
struct Segments {
    /// Oldest first, with their lengths; the last is the one that is written, if `is_begun` is not set.
    present: VecDeque<(SegmentNumber, u64)>,
    /// The last one that there was.
    newest: SegmentNumber,
    /// Whether the next batch begins a new one.
    is_begun: bool,
    /// Segments before these may go when the log is stable so far; in the order of both.
    releases: VecDeque<(SegmentNumber, LogPosition)>,
    /// Segments before this one may go.
    released_before: SegmentNumber,
    /// Of all that are present and have to stay.
    bytes: u64,
}

/// Where a batch is written.
struct Place {
    segment: SegmentNumber,
    offset: u64,
    opens_segment: bool,
}

impl Segments {
    fn new(present: Vec<(SegmentNumber, u64)>) -> Self {
        Self {
            newest: present.last().map_or(SegmentNumber::default(), |(segment, _)| *segment),
            bytes: present.iter().map(|(_, bytes)| bytes).sum(),
            present: present.into(),
            is_begun: true,
            releases: VecDeque::new(),
            released_before: SegmentNumber::default(),
        }
    }

    fn begin(&mut self) -> SegmentNumber {
        self.is_begun = true;
        SegmentNumber(self.newest.0 + 1)
    }

    /// Finds the place for a batch of this length. One that is longer than a segment gets a segment of its own.
    fn place(&mut self, batch_bytes: u64, segment_bytes: u64) -> Place {
        if let Some((segment, length)) = self.present.back_mut()
            && !self.is_begun
            && *length + batch_bytes <= segment_bytes
        {
            let place = Place { segment: *segment, offset: *length, opens_segment: false };
            *length += batch_bytes;
            self.bytes += batch_bytes;
            return place;
        }
        let segment = SegmentNumber(self.newest.0 + 1);
        let length = BLOCK_BYTES as u64 + batch_bytes;
        self.newest = segment;
        self.is_begun = false;
        self.present.push_back((segment, length));
        self.bytes += length;
        Place { segment, offset: 0, opens_segment: true }
    }

    fn release(&mut self, before: SegmentNumber, after: LogPosition) {
        assert!(before.0 <= self.newest.0 + u64::from(self.is_begun), "the segment that is written is not given up");
        self.releases.push_back((before, after));
    }

    fn bytes_from(&self, segment: SegmentNumber) -> u64 {
        self.present.iter().rev().take_while(|(number, _)| *number >= segment).map(|(_, bytes)| bytes).sum()
    }

    /// The log is stable so far.
    fn settle(&mut self, stable: LogPosition) {
        while let Some((before, after)) = self.releases.front()
            && *after <= stable
        {
            self.released_before = self.released_before.max(*before);
            self.releases.pop_front();
        }
        self.bytes = self.bytes_from(self.released_before);
    }

    fn pop_obsolete(&mut self) -> Option<SegmentNumber> {
        let (segment, _) = *self.present.front()?;
        if segment >= self.released_before {
            return None;
        }
        self.present.pop_front();
        Some(segment)
    }
}

#[cfg(test)]
mod tests;
