//! One segment in memory: its batches, and what can be found behind a place where it can't be read on.

use crate::fault::Fault;
use crate::store::format::{BLOCK_BYTES, BatchHeader, Flaw, SegmentHeader, is_zero};
use crate::store::log::SegmentNumber;
use crate::store::record_codec;

use super::Expected;
use super::verdict::{Follows, Place};

/// What the next batch has to say to be the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// Its number.
    pub(super) batch: u64,
    /// The sequence number of its first record.
    pub(super) sequence: u64,
    /// Whether these two are known; the first batch of a log that was cleaned may have any.
    pub(super) is_known: bool,
    /// Whether the log had segments before its first, and no batch has been read.
    pub(super) had_predecessor: bool,
}

impl Due {
    /// At the beginning of a log whose first segment is this one.
    pub(super) fn first(segment: Option<SegmentNumber>) -> Self {
        let had_predecessor = segment.is_some_and(|segment| segment > SegmentNumber(1));
        Self { batch: 1, sequence: 1, is_known: !had_predecessor, had_predecessor }
    }

    /// This very batch.
    pub(super) fn exactly(header: &BatchHeader) -> Self {
        Self { batch: header.batch, sequence: header.first_sequence, is_known: true, had_predecessor: false }
    }

    /// Whether a segment may begin with this batch.
    pub(super) fn may_be(&self, batch: u64) -> bool {
        !self.is_known || self.batch == batch
    }

    /// A segment begins with this batch.
    pub(super) fn begin(&mut self, batch: u64) {
        self.batch = batch;
    }

    /// The batch was read.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        *self = Self {
            batch: header.batch.saturating_add(1),
            sequence: header.first_sequence.saturating_add(header.records.into()),
            is_known: true,
            had_predecessor: false,
        };
    }
}

/// A segment.
pub(super) struct Segment {
    pub(super) number: SegmentNumber,
    pub(super) bytes: Vec<u8>,
    pub(super) header: Result<SegmentHeader, Flaw>,
    generation: u64,
    shard: u16,
}

impl Segment {
    pub(super) fn new(number: SegmentNumber, bytes: Vec<u8>, expected: &Expected) -> Self {
        let &Expected { generation, shard, fault: _ } = expected;
        let header = SegmentHeader::decode(&bytes).and_then(|header| {
            if header.owner.generation != generation || header.owner.shard != shard {
                Err(Flaw::OtherLog)
            } else if header.owner.segment != number {
                Err(Flaw::NotOurs)
            } else {
                Ok(header)
            }
        });
        Self { number, bytes, header, generation, shard }
    }

    /// What kind of place the beginning is, if its header is not what it should be.
    pub(super) fn place_of_header(&self, reason: Flaw) -> Place {
        match reason {
            Flaw::Version(_) => Place::NewerVersion,
            Flaw::OtherLog => Place::OtherLog,
            // Made ahead from an old segment, and not yet written.
            Flaw::NotOurs => Place::End,
            _ if is_zero(&self.bytes) => Place::End,
            _ => Place::SegmentHeader,
        }
    }

    /// What kind of place it is where a batch should begin.
    pub(super) fn place_of_batch(&self, offset: usize, reason: Flaw) -> Place {
        match reason {
            // A header that is missing before something else was not written, although what follows it was.
            Flaw::EndOfFile | Flaw::Blank if !is_zero(&self.bytes[offset..]) => Place::BatchHeader,
            reason if reason.is_left_over() => Place::End,
            Flaw::RecordLength { .. } | Flaw::RecordChecksum { .. } | Flaw::RecordBody { .. } | Flaw::Padding => {
                Place::Records
            }
            _ => Place::BatchHeader,
        }
    }

    /// The batch at this offset, if it is the one that is due and whole.
    pub(super) fn batch(&self, offset: usize, due: &Due, expected: &Expected) -> Result<BatchHeader, Flaw> {
        let header = self.batch_header(offset)?;
        if header.batch != due.batch {
            return Err(Flaw::BatchNumber { found: header.batch, expected: due.batch });
        }
        if due.is_known && header.first_sequence != due.sequence {
            return Err(Flaw::RecordNumber);
        }
        self.check_records(offset, &header, expected)?;
        Ok(header)
    }

    /// How strongly the batches from this offset on, and the segment's header if that is 0, show that the batch that is
    /// due had been on stable storage.
    pub(super) fn evidence(&self, from: usize, due: u64) -> Follows {
        let mut evidence = Follows::Nothing;
        if from == 0
            && let Ok(header) = &self.header
        {
            // A segment that goes back behind what was read is no interrupted write either.
            if header.first_batch < due {
                return Follows::Synced;
            }
            evidence = weigh(header.first_batch, header.synced_through, due);
        }
        for offset in self.offsets(from) {
            if let Ok(header) = self.batch_header(offset) {
                evidence = stronger(evidence, weigh(header.batch, header.synced_through, due));
                if evidence == Follows::Synced {
                    break;
                }
            }
        }
        evidence
    }

    /// The first batch behind this offset that is whole and not before the one that is due.
    pub(super) fn next_batch(&self, behind: usize, due: &Due, expected: &Expected) -> Option<(usize, BatchHeader)> {
        let offsets = self.offsets(behind).filter(|offset| *offset > behind);
        let mut sound = offsets.filter_map(|offset| Some((offset, self.batch_header(offset).ok()?)));
        sound.find(|(offset, header)| {
            (!due.is_known || header.batch >= due.batch) && self.check_records(*offset, header, expected).is_ok()
        })
    }

    /// Length up to the last byte that is not zero.
    pub(super) fn used_bytes(&self) -> usize {
        self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// Where batches may begin, from this offset on.
    fn offsets(&self, from: usize) -> impl Iterator<Item = usize> {
        (from.max(BLOCK_BYTES)..self.bytes.len()).step_by(BLOCK_BYTES)
    }

    /// The header of a batch of this segment. If the segment's own header can't be read, nothing says what salt its
    /// batches should have.
    fn batch_header(&self, offset: usize) -> Result<BatchHeader, Flaw> {
        let header = BatchHeader::decode(&self.bytes[offset..])?;
        let is_ours = match &self.header {
            Ok(segment) => header.owner == segment.owner,
            Err(_) => {
                let owner = &header.owner;
                owner.generation == self.generation && owner.shard == self.shard && owner.segment == self.number
            }
        };
        if is_ours { Ok(header) } else { Err(Flaw::NotOurs) }
    }

    fn check_records(&self, offset: usize, header: &BatchHeader, expected: &Expected) -> Result<(), Flaw> {
        let frames = header.records(&self.bytes[offset..])?;
        if expected.fault.is(Fault::LogTailChecksumIgnored) {
            return Ok(());
        }
        for frame in frames {
            let frame = frame?;
            if !frame.is_sound() {
                return Err(Flaw::RecordChecksum { record: frame.index });
            }
            if record_codec::decode(frame.kind, frame.body).is_err() {
                return Err(Flaw::RecordBody { record: frame.index });
            }
        }
        Ok(())
    }
}

/// The stronger of two pieces of evidence.
pub(super) fn stronger(one: Follows, other: Follows) -> Follows {
    match (one, other) {
        (Follows::Synced, _) | (_, Follows::Synced) => Follows::Synced,
        (Follows::Unsynced, _) | (_, Follows::Unsynced) => Follows::Unsynced,
        (Follows::Segment, _) | (_, Follows::Segment) => Follows::Segment,
        (Follows::Nothing, Follows::Nothing) => Follows::Nothing,
    }
}

/// What a batch says about the one that is due.
fn weigh(batch: u64, synced_through: u64, due: u64) -> Follows {
    if batch <= due {
        Follows::Nothing
    } else if synced_through >= due {
        Follows::Synced
    } else {
        Follows::Unsynced
    }
}
