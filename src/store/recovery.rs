//! The reading end of a log: what is there after the broker stopped, however it stopped.
//!
//! [`recover`] goes through the segments of one shard's log in their order and applies every batch whose number is due. A
//! batch is checked whole before the first of its records is applied. Where the log can't be read on,
//! [`verdict`](self::verdict) decides whether that is its end, a torn tail, or damage.
//!
//! Batches number themselves without gaps over all segments, and so it does not matter whether the numbers of the segments
//! have gaps, whether a segment is empty, or what lies behind the last batch of one.

mod segment;
mod verdict;

use std::io;

use crate::fault::PlantedFault;
use crate::time::Timestamp;

use super::format::{BLOCK_BYTES, BatchHeader, Flaw, SegmentHeader};
use super::log::{LogEnd, LogPosition, SegmentNumber};
use super::record::Record;
use super::record_codec;

use segment::{Due, Segment, stronger};
use verdict::{Follows, Place, Verdict, verdict};

/// The segments of one shard's log, as they lie on the disk.
pub trait Segments {
    /// Their numbers, in any order.
    fn numbers(&self) -> Vec<SegmentNumber>;

    /// All bytes of one of them.
    ///
    /// # Errors
    /// What the operating system says.
    fn read(&mut self, segment: SegmentNumber) -> io::Result<Vec<u8>>;
}

/// Which log the segments should be of.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Generation of the logs.
    pub generation: u64,
    /// Whose log it is.
    pub shard: u16,
    /// Normally none.
    pub fault: PlantedFault,
}

/// What to do about damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoveryMode {
    /// Refuse.
    Strict,
    /// Go on behind it, with what is provably what was written, and say what was lost.
    Salvage,
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordLocation {
    /// In which segment.
    pub segment: SegmentNumber,
    /// Where its batch begins there, in bytes.
    pub batch_offset: u64,
    /// In which batch.
    pub batch: LogPosition,
    /// When the batch was sealed.
    pub sealed_at: Timestamp,
    /// Index of the record in the batch.
    pub index: u32,
    /// Number of the record in the log.
    pub sequence: u64,
    /// Length of the record, in bytes.
    pub bytes: usize,
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Where the log ends. Before it goes on, every segment has to be cut to the length that stands there.
    pub end: LogEnd,
    /// What was cut from the end.
    pub torn: Option<TornTail>,
    /// What was lost elsewhere; only a salvage loses anything. The log can't go on behind a loss, since the next recovery
    /// would find the same damage: a new generation has to be written from the image.
    pub lost: Vec<Loss>,
    /// Batches that were applied.
    pub batches: u64,
    /// Records that were applied.
    pub records: u64,
    /// Length of all these batches, in bytes.
    pub bytes: u64,
    /// Length of all these records, in bytes.
    pub record_bytes: u64,
}

/// A write that was interrupted, or several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// In which segment it begins.
    pub segment: SegmentNumber,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How long it is, up to the last byte that is not zero, in this segment and all later ones.
    pub bytes: u64,
    /// Why it can't be read.
    pub reason: Flaw,
}

/// A part of the log that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// In which segment it begins.
    pub segment: SegmentNumber,
    /// Where in it, in bytes.
    pub from: u64,
    /// Where it ends in this segment; segments may be lost behind it.
    pub to: u64,
    /// How many batches are lost, as far as it is known.
    pub batches: u64,
    /// How many records are lost, as far as it is known.
    pub records: u64,
    /// Why it can't be read.
    pub reason: Flaw,
}

/// Why a log can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A segment can't be read.
    #[error("segment {} can't be read: {error}", segment.0)]
    Read {
        /// Which.
        segment: SegmentNumber,
        /// What the operating system says.
        error: io::Error,
    },
    /// A segment was written by a newer broker.
    #[error("segment {} was written by a newer version of OnceMQ: {}", segment.0, Flaw::Version(*version))]
    NewerVersion {
        /// Which.
        segment: SegmentNumber,
        /// Its format.
        version: u16,
    },
    /// Something that was on stable storage is not there any more.
    #[error("segment {} is damaged at offset {offset}: {reason}", segment.0)]
    Damage {
        /// Which.
        segment: SegmentNumber,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        reason: Flaw,
    },
}

/// Reads the log of one shard and applies its records in their order.
///
/// `progress` is told how many bytes of the log were gone through since it was told last. On an error, what was applied
/// has no meaning.
///
/// # Errors
/// Segments that can't be read or come from a newer broker; in [`RecoveryMode::Strict`] also damage.
pub fn recover(
    source: &mut dyn Segments,
    expected: Expected,
    mode: RecoveryMode,
    progress: &mut dyn FnMut(u64),
    apply: &mut dyn FnMut(&Record<'_>, RecordLocation),
) -> Result<Recovered, RecoveryError> {
    let mut numbers = source.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    let lengths = numbers.iter().map(|number| (*number, 0)).collect();
    let recovered = Recovered { end: LogEnd { segments: lengths, ..LogEnd::default() }, ..Recovered::default() };
    let due = Due::first(numbers.first().copied());
    let mut recovery = Recovery { source, expected, mode, numbers, due, passed: None, recovered, progress, apply };
    recovery.run()?;
    Ok(recovery.recovered)
}

struct Recovery<'a> {
    source: &'a mut dyn Segments,
    expected: Expected,
    mode: RecoveryMode,
    numbers: Vec<SegmentNumber>,
    /// What the next batch has to say.
    due: Due,
    /// The end of the segment before.
    passed: Option<(SegmentNumber, Stop)>,
    recovered: Recovered,
    progress: &'a mut dyn FnMut(u64),
    apply: &'a mut dyn FnMut(&Record<'_>, RecordLocation),
}

/// Where to read: the segment's index and the offset in it.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    index: usize,
    offset: usize,
}

/// Where a segment can't be read on, and why.
#[derive(Clone, Copy, Debug)]
struct Stop {
    offset: usize,
    place: Place,
    reason: Flaw,
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<(), RecoveryError> {
        let mut cursor = Cursor { index: 0, offset: 0 };
        while cursor.index < self.numbers.len() {
            let segment = self.load(cursor.index)?;
            let stop = self.read(&segment, cursor);
            let follows = self.follows(&segment, cursor.index, stop)?;
            match verdict(stop.place, follows, self.mode) {
                Verdict::NextSegment => {
                    self.passed = Some((segment.number, stop));
                    cursor = Cursor { index: cursor.index + 1, offset: 0 };
                }
                Verdict::EndOfLog => break,
                Verdict::Torn => {
                    self.recovered.torn = Some(self.torn_tail(&segment, cursor.index, stop)?);
                    break;
                }
                Verdict::Damage => return Err(self.damage(segment.number, stop)),
                Verdict::Skip => match self.skip(&segment, cursor.index, stop)? {
                    Some(next) => cursor = next,
                    None => break,
                },
                Verdict::NewerVersion => return Err(newer_version(segment.number, stop.reason)),
            }
        }
        Ok(())
    }

    fn load(&mut self, index: usize) -> Result<Segment, RecoveryError> {
        let number = self.numbers[index];
        match self.source.read(number) {
            Ok(bytes) => Ok(Segment::new(number, bytes, &self.expected)),
            Err(error) => Err(RecoveryError::Read { segment: number, error }),
        }
    }

    /// Applies the batches of a segment from an offset on, as far as they go; offset 0 is the segment's header.
    fn read(&mut self, segment: &Segment, cursor: Cursor) -> Stop {
        let mut offset = cursor.offset;
        if offset == 0 {
            match &segment.header {
                Err(reason) => return Stop { offset, place: segment.place_of_header(*reason), reason: *reason },
                Ok(SegmentHeader { first_batch, .. }) if !self.due.may_be(*first_batch) => {
                    let reason = Flaw::MissingBatches { found: *first_batch, expected: self.due.batch };
                    return Stop { offset, place: Place::SegmentStart, reason };
                }
                Ok(header) => self.due.begin(header.first_batch),
            }
            offset = BLOCK_BYTES;
        }
        loop {
            match segment.batch(offset, &self.due, &self.expected) {
                Ok(header) => {
                    self.apply_batch(segment, offset, &header);
                    offset += header.padded_bytes();
                    self.recovered.end.segments[cursor.index].1 = offset as u64;
                }
                Err(reason) => return Stop { offset, place: segment.place_of_batch(offset, reason), reason },
            }
        }
    }

    /// Applies the records of a batch that was checked.
    fn apply_batch(&mut self, segment: &Segment, offset: usize, header: &BatchHeader) {
        let frames = header.records(&segment.bytes[offset..]).into_iter().flatten().flatten();
        for frame in frames {
            // Fails only where a planted fault has let a batch pass.
            let Ok(record) = record_codec::decode(frame.kind, frame.body) else { continue };
            let location = RecordLocation {
                segment: segment.number,
                batch_offset: offset as u64,
                batch: LogPosition(header.batch),
                sealed_at: header.sealed_at,
                index: frame.index,
                sequence: frame.sequence,
                bytes: frame.bytes(),
            };
            (self.apply)(&record, location);
            self.recovered.record_bytes += frame.bytes() as u64;
        }
        let bytes = header.padded_bytes() as u64;
        self.recovered.end.places.note(LogPosition(header.batch), segment.number, offset as u64, bytes);
        self.due.pass(header);
        self.recovered.end.batch = LogPosition(header.batch);
        self.recovered.end.record = self.due.sequence - 1;
        self.recovered.batches += 1;
        self.recovered.records += u64::from(header.records);
        self.recovered.bytes += bytes;
        (self.progress)(bytes);
    }

    /// What comes behind the place where the log can't be read on.
    fn follows(&mut self, segment: &Segment, index: usize, stop: Stop) -> Result<Follows, RecoveryError> {
        if let Place::OtherLog | Place::NewerVersion = stop.place {
            return Ok(Follows::Nothing);
        }
        let mut evidence = segment.evidence(stop.offset, self.due.batch);
        let is_last = index + 1 == self.numbers.len();
        // An earlier start has cut off what was torn: of a segment whose first write it was, nothing is left.
        let was_cut = stop.reason == Flaw::EndOfFile && !is_last;
        if self.due.had_predecessor && !was_cut {
            // Segments are removed once what takes their place is on stable storage; so this one had batches.
            evidence = Follows::Synced;
        }
        if stop.place == Place::End && evidence == Follows::Nothing && !is_last {
            return Ok(Follows::Segment);
        }
        let mut is_first_readable = true;
        for later in index + 1..self.numbers.len() {
            let segment = self.load(later)?;
            match &segment.header {
                Ok(header) => {
                    if is_first_readable && evidence == Follows::Nothing && header.first_batch == self.due.batch {
                        return Ok(Follows::Segment);
                    }
                    is_first_readable = false;
                }
                Err(reason @ Flaw::Version(_)) => return Err(newer_version(segment.number, *reason)),
                Err(_) => {}
            }
            evidence = stronger(evidence, segment.evidence(0, self.due.batch));
            if evidence == Follows::Synced {
                break;
            }
        }
        Ok(evidence)
    }

    /// Says where the damage is. Batches that are missing before a segment should lie at the end of the one before, unless
    /// a segment is missing between the two.
    fn damage(&self, segment: SegmentNumber, stop: Stop) -> RecoveryError {
        let (segment, offset) = match self.passed {
            Some((before, end)) if stop.place == Place::SegmentStart && before.0 + 1 == segment.0 => {
                (before, end.offset)
            }
            Some(_) | None => (segment, stop.offset),
        };
        RecoveryError::Damage { segment, offset: offset as u64, reason: stop.reason }
    }

    fn torn_tail(&mut self, segment: &Segment, index: usize, stop: Stop) -> Result<TornTail, RecoveryError> {
        let mut bytes = segment.used_bytes().saturating_sub(stop.offset) as u64;
        for later in index + 1..self.numbers.len() {
            bytes += self.load(later)?.used_bytes() as u64;
        }
        Ok(TornTail { segment: segment.number, offset: stop.offset as u64, bytes, reason: stop.reason })
    }

    /// Gives up what is missing, and finds the next batch that is what was written.
    fn skip(&mut self, segment: &Segment, index: usize, stop: Stop) -> Result<Option<Cursor>, RecoveryError> {
        let mut loss = Loss {
            segment: segment.number,
            from: stop.offset as u64,
            to: segment.bytes.len() as u64,
            batches: 0,
            records: 0,
            reason: stop.reason,
        };
        let mut found = segment.next_batch(stop.offset, &self.due, &self.expected).map(|found| (index, found));
        if let Some((_, (offset, _))) = found {
            loss.to = offset as u64;
        }
        for later in index + 1..self.numbers.len() {
            if found.is_some() {
                break;
            }
            let segment = self.load(later)?;
            if let Err(reason @ Flaw::Version(_)) = segment.header {
                return Err(newer_version(segment.number, reason));
            }
            found = segment.next_batch(0, &self.due, &self.expected).map(|found| (later, found));
        }
        let cursor = found.map(|(index, (offset, header))| {
            if self.due.is_known {
                loss.batches = header.batch - self.due.batch;
                loss.records = header.first_sequence.saturating_sub(self.due.sequence);
            }
            self.due = Due::exactly(&header);
            Cursor { index, offset }
        });
        self.recovered.lost.push(loss);
        Ok(cursor)
    }
}

fn newer_version(segment: SegmentNumber, reason: Flaw) -> RecoveryError {
    match reason {
        Flaw::Version(version) => RecoveryError::NewerVersion { segment, version },
        reason => RecoveryError::Damage { segment, offset: 0, reason },
    }
}

#[cfg(test)]
mod tests;
