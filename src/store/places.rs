//! Where the batches of a log lie, so that one can be found again.
//!
//! Not every batch has an entry: a search ends at most [`MARK_BYTES`] and one batch before what is looked for. So an index
//! takes a few bytes for every 64 KiB of the log.

use std::collections::VecDeque;

use super::log::{LogPosition, SegmentNumber};
use crate::config::SEGMENT_BYTES_DEFAULT;

/// How far apart the batches lie whose places are kept, at least.
const MARK_BYTES: u64 = 64 * 1024;

/// Room made for the marks of a segment when it begins: all that one of the default length has, so that none of its batches
/// waits for an allocation.
const MARKS_RESERVED: usize = (SEGMENT_BYTES_DEFAULT / MARK_BYTES) as usize;

/// Where the batches of one shard's log lie, as far as they are stable.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BatchPlaces {
    /// Oldest first; each has a batch.
    segments: VecDeque<SegmentPlaces>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct SegmentPlaces {
    segment: SegmentNumber,
    /// Batches and their offsets, the first one of the segment among them.
    marks: Vec<(LogPosition, u64)>,
    last: LogPosition,
    /// Where the last batch ends.
    end: u64,
}

/// A part of a segment that begins with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) segment: SegmentNumber,
    pub(super) offset: u64,
    /// The batch that lies there.
    pub(super) first: LogPosition,
    /// Length up to the end of the batch that was looked for, or a little more.
    pub(super) bytes: u64,
    /// Length up to the end of the segment's last batch.
    pub(super) bytes_max: u64,
}

impl BatchPlaces {
    /// The next batch lies there.
    pub(super) fn note(&mut self, batch: LogPosition, segment: SegmentNumber, offset: u64, bytes: u64) {
        let end = offset + bytes;
        match self.segments.back_mut().filter(|places| places.segment == segment) {
            Some(places) => {
                if places.marks.last().is_none_or(|(_, mark)| offset - mark >= MARK_BYTES) {
                    places.marks.push((batch, offset));
                }
                (places.last, places.end) = (batch, end);
            }
            None => {
                let mut marks = Vec::with_capacity(MARKS_RESERVED);
                marks.push((batch, offset));
                self.segments.push_back(SegmentPlaces { segment, marks, last: batch, end });
            }
        }
    }

    /// A stretch that has the batch in it; none if there is no such batch.
    pub(super) fn locate(&self, batch: LogPosition) -> Option<Stretch> {
        let index = self.segments.partition_point(|places| places.last < batch);
        let places = self.segments.get(index)?;
        let behind = places.marks.partition_point(|(mark, _)| *mark <= batch);
        let (first, offset) = *places.marks.get(behind.checked_sub(1)?)?;
        let end = places.marks.get(behind).map_or(places.end, |(_, next)| *next);
        Some(Stretch { segment: places.segment, offset, first, bytes: end - offset, bytes_max: places.end - offset })
    }

    /// The oldest batch.
    pub(super) fn oldest(&self) -> Option<LogPosition> {
        let places = self.segments.front()?;
        places.marks.first().map(|(batch, _)| *batch)
    }

    /// A segment is removed, and all before it are gone.
    pub(super) fn forget_through(&mut self, segment: SegmentNumber) {
        while self.segments.front().is_some_and(|places| places.segment <= segment) {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    #[test]
    fn every_batch_is_found_from_a_mark_that_is_not_far_before_it() {
        let mut places = BatchPlaces::default();
        let mut lies = Vec::new();
        let mut batch = 0;
        for segment in [SegmentNumber(3), SegmentNumber(4), SegmentNumber(7)] {
            let mut offset = BLOCK;
            for blocks in [1, 1, 40, 1, 7, 1, 1, 1, 90, 2, 3] {
                batch += 1;
                places.note(LogPosition(batch), segment, offset, blocks * BLOCK);
                lies.push((LogPosition(batch), segment, offset, blocks * BLOCK));
                offset += blocks * BLOCK;
            }
        }
        assert_eq!(places.oldest(), Some(LogPosition(1)));
        for (batch, segment, offset, bytes) in lies {
            let found = places.locate(batch).expect("it was noted");
            assert!(found.segment == segment && found.first <= batch && found.offset <= offset);
            assert!(offset - found.offset <= MARK_BYTES + 90 * BLOCK);
            assert!(offset + bytes <= found.offset + found.bytes && found.bytes <= found.bytes_max);
        }
        assert_eq!((places.locate(LogPosition(0)), places.locate(LogPosition(batch + 1))), (None, None));
        places.forget_through(SegmentNumber(5));
        assert_eq!((places.oldest(), places.locate(LogPosition(22))), (Some(LogPosition(23)), None));
    }
}
