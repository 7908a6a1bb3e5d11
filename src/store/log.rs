//! The writing end of a shard's log: records in, batches out.

use crate::time::Timestamp;

use super::record::Record;

/// A batch of the log. What waits for a batch may leave once it and all before it are stable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogPosition(u64);

impl LogPosition {
    /// Waits for nothing: before the first batch.
    pub const NOTHING: Self = Self(0);

    /// The position that is so many batches behind the beginning.
    #[cfg(test)]
    pub(crate) const fn at(batch: u64) -> Self {
        Self(batch)
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

/// Where a log ends: what recovery hands to the writer that goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogEnd {
    /// The last batch that counts.
    pub batch: LogPosition,
    /// Sequence number of the last record that counts.
    pub record: u64,
    /// The segments that are there, oldest first, with their lengths in bytes.
    pub segments: Vec<(SegmentNumber, u64)>,
}

/// What the writer is told once.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Generation of the logs, all shards together; a new one begins when the number of shards changes.
    pub generation: u64,
    /// Which shard's log this is.
    pub shard: u16,
    /// Segments are begun anew from this length on, in bytes.
    pub segment_bytes: u64,
    /// How long a batch may wait for company.
    pub commit_delay: std::time::Duration,
    /// Whether a write that is handed back is on stable storage (`--durability sync`), or in the page cache.
    pub is_synced: bool,
}

impl LogConfig {
    /// A log whose writes are thrown away, for shards that live only for a moment.
    pub fn discarding() -> Self {
        Self {
            generation: 0,
            shard: 0,
            segment_bytes: u64::MAX,
            commit_delay: std::time::Duration::ZERO,
            is_synced: false,
        }
    }
}

/// The shard's view of its log: how far it was appended, and how far that is stable.
#[derive(Debug, Default)]
pub struct Log {
    is_on: bool,
    appended: LogPosition,
    stable: LogPosition,
}

impl Log {
    /// The log of `--durability none`: nothing is appended, so everything that was appended is stable.
    pub fn off() -> Self {
        Self::default()
    }

    /// The log that goes on behind `end`, in a new segment.
    pub fn new(config: LogConfig, end: LogEnd) -> Self {
        let _ = config;
        Self { is_on: true, appended: end.batch, stable: end.batch }
    }

    /// Whether anything is logged at all.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Appends a record to the batch that is being filled. With the log off nothing happens.
    pub fn append(&mut self, record: &Record<'_>) {
        let _ = record;
    }

    /// Records appended since the start.
    pub fn records(&self) -> u64 {
        0
    }

    /// The position behind all that was appended.
    pub fn appended(&self) -> LogPosition {
        self.appended
    }

    /// The position behind all that was appended, if that is not stable yet; the batch is then written soon. Without such
    /// a question a batch may wait a little longer for company.
    pub fn wait_for_appended(&mut self) -> LogPosition {
        if self.appended <= self.stable { LogPosition::NOTHING } else { self.appended }
    }

    /// The batch that is being filled: what is appended next lies there.
    pub fn filling(&self) -> LogPosition {
        LogPosition(self.appended.0 + 1)
    }

    /// Everything up to here is stable.
    pub fn stable(&self) -> LogPosition {
        self.stable
    }

    /// Whether what waits for this position may leave.
    pub fn is_stable(&self, position: LogPosition) -> bool {
        position <= self.stable
    }

    /// Bytes in the batch that is being filled.
    pub fn filling_bytes(&self) -> usize {
        0
    }

    /// The next write, if there is something to write, none is out, and the commit delay is over.
    pub fn poll_write(&mut self, now: Timestamp) -> Option<LogWrite> {
        let _ = now;
        None
    }

    /// Whether [`poll_write`](Self::poll_write) would give a write now. Records appended between the two lie in it.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let _ = now;
        false
    }

    /// A write is done: in place as the durability mode asks for, or failed.
    pub fn handle_written(&mut self, write: LogWrite, result: Result<(), LogFailure>) {
        let _ = (write, result);
    }

    /// When [`poll_write`](Self::poll_write) has something that the commit delay keeps back now.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Why nothing becomes stable any more.
    pub fn failure(&self) -> Option<LogFailure> {
        None
    }

    /// Whether a write is out.
    pub fn is_writing(&self) -> bool {
        false
    }

    /// Whether nothing is out or waits to go.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Length of all segments together, in bytes.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// Length of this segment and all behind it, in bytes.
    pub fn bytes_from(&self, segment: SegmentNumber) -> u64 {
        let _ = segment;
        0
    }

    /// How long a segment gets, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        0
    }

    /// Begins a new segment with the next batch, and says which: what is appended from now on lies there or behind.
    pub fn begin_segment(&mut self) -> SegmentNumber {
        SegmentNumber::default()
    }

    /// Gives all segments before this one up; they are to be removed once all that was appended so far is stable.
    pub fn release_before(&mut self, segment: SegmentNumber) {
        let _ = segment;
    }

    /// The next segment to remove, oldest first.
    pub fn poll_obsolete(&mut self) -> Option<SegmentNumber> {
        None
    }
}
