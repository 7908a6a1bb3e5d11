//! A disk that crashes.
//!
//! It keeps *live* and *durable* apart: what a reader of the running system sees, and what is there after a crash. They differ
//! by the one write of each shard that is in flight, and by the last removals. A crash of the machine leaves any of the
//! 512-byte blocks of a write in flight in place and the others as they were; a crash of the process alone leaves a
//! first part of it. What was complete before the crash stays: in mode `sync` because the write was synced, in mode `write`
//! because the machine goes on.
//!
//! New segments are created empty, filled with zeroes, or from the bytes of a segment that was removed before, so that old
//! batches may lie behind the tail.

use std::collections::{BTreeMap, VecDeque};

use oncemq::store::{LogEnd, LogRead, LogWrite, SegmentNumber};

use crate::random::Random;

/// What a disk writes whole or not at all.
const BLOCK_BYTES: usize = 512;

/// Removals that a crash may undo, at most.
const REMOVALS_UNDONE_MAX: usize = 6;

/// What ends a run of the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crash {
    /// The machine loses its power.
    Machine,
    /// The process is killed.
    Process,
}

/// The segments of one shard's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// As a reader sees them, but for the write in flight.
    segments: BTreeMap<SegmentNumber, Vec<u8>>,
    /// The write in flight.
    in_flight: Option<LogWriteInFlight>,
    /// The read that is out.
    reading: Option<LogRead>,
    /// Segments removed last, oldest first, whose removal a crash may undo.
    removed: VecDeque<(SegmentNumber, Vec<u8>)>,
    /// Where the batches are that were written whole, in their order.
    batches: Vec<Place>,
}

/// A write that the disk has been given, and what the shard wants to have back.
#[derive(Debug)]
struct LogWriteInFlight(LogWrite);

/// Where the bytes of a write lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    segment: SegmentNumber,
    offset: usize,
    bytes: usize,
}

/// One bit of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bit {
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: usize,
    mask: u8,
}

impl Clone for LogWriteInFlight {
    fn clone(&self) -> Self {
        let LogWrite { segment, offset, ref bytes, opens_segment } = self.0;
        Self(LogWrite { segment, offset, bytes: bytes.clone(), opens_segment })
    }
}

impl Disk {
    /// A write begins; the one before is complete.
    pub(crate) fn begin(&mut self, random: &mut Random, segment_bytes: u64, write: LogWrite) {
        assert!(self.in_flight.is_none(), "a shard has one write out at a time");
        assert_eq!(write.offset % 4096, 0, "writes are aligned");
        assert_eq!(write.bytes.len() % 4096, 0, "writes are whole blocks");
        assert!(!write.bytes.is_empty(), "a write has something to write");
        assert_eq!(write.opens_segment, !self.segments.contains_key(&write.segment), "segments are opened once");
        if write.opens_segment {
            let newest = self.segments.keys().next_back();
            assert!(newest.is_none_or(|newest| *newest < write.segment), "segments are opened in their order");
            let file = self.new_segment(random, segment_bytes);
            self.segments.insert(write.segment, file);
        }
        self.in_flight = Some(LogWriteInFlight(write));
    }

    fn new_segment(&self, random: &mut Random, segment_bytes: u64) -> Vec<u8> {
        match (random.below(3), self.removed.back()) {
            (0, _) => Vec::new(),
            (1, Some((_, removed))) => removed.clone(),
            _ => vec![0; segment_bytes as usize],
        }
    }

    pub(crate) fn has_write_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The write in flight is in place, whole.
    pub(crate) fn complete(&mut self) -> LogWrite {
        let LogWriteInFlight(write) = self.in_flight.take().expect("a write is in flight");
        let place = Place { segment: write.segment, offset: write.offset as usize, bytes: write.bytes.len() };
        let file = self.segments.get_mut(&write.segment).expect("opened when the write began");
        overwrite(file, place.offset, &write.bytes);
        self.batches.push(place);
        write
    }

    /// The write in flight fails, with any of its blocks in place.
    pub(crate) fn fail(&mut self, random: &mut Random) -> LogWrite {
        let LogWriteInFlight(write) = self.in_flight.take().expect("a write is in flight");
        let file = self.segments.get_mut(&write.segment).expect("opened when the write began");
        overwrite_blocks(random, file, &write);
        write
    }

    /// The shard wants to read.
    pub(crate) fn begin_read(&mut self, read: LogRead) {
        let before = self.reading.replace(read);
        assert!(before.is_none(), "one read at a time");
    }

    /// The read that is out, and what it brings.
    pub(crate) fn complete_read(&mut self) -> (LogRead, Vec<u8>) {
        let read = self.reading.take().expect("a read is out");
        let file = self.segments.get(&read.segment).expect("a segment stays while it is read");
        let bytes = file[read.offset as usize..][..read.bytes].to_vec();
        (read, bytes)
    }

    /// A segment is removed.
    pub(crate) fn remove(&mut self, segment: SegmentNumber) {
        let (oldest, file) = self.segments.pop_first().expect("a shard removes segments that are there");
        assert_eq!(oldest, segment, "segments are removed oldest first");
        self.batches.retain(|place| place.segment != segment);
        self.removed.push_back((segment, file));
        if self.removed.len() > REMOVALS_UNDONE_MAX {
            self.removed.pop_front();
        }
    }

    /// The broker is gone: what is durable is live from now on.
    pub(crate) fn crash(&mut self, random: &mut Random, crash: Crash) {
        self.reading = None;
        if let Some(LogWriteInFlight(write)) = self.in_flight.take() {
            let file = self.segments.get_mut(&write.segment).expect("opened when the write began");
            match crash {
                Crash::Machine if write.opens_segment && random.percent(25) => {
                    self.segments.remove(&write.segment);
                }
                Crash::Machine => overwrite_blocks(random, file, &write),
                Crash::Process => {
                    let whole = write.bytes.len() as u64;
                    let written = if random.percent(40) { whole } else { random.between(0, whole) };
                    overwrite(file, write.offset as usize, &write.bytes[..written as usize]);
                }
            }
        }
        if crash == Crash::Machine {
            let undone = random.between(0, self.removed.len() as u64) as usize;
            for (segment, file) in self.removed.drain(..).rev().take(undone) {
                self.segments.insert(segment, file);
            }
        }
        self.removed.clear();
    }

    /// Cuts off what lies behind the end that recovery has found.
    pub(crate) fn cut(&mut self, end: &LogEnd) {
        let lengths: BTreeMap<SegmentNumber, u64> = end.segments.iter().copied().collect();
        self.segments.retain(|segment, _| lengths.contains_key(segment));
        for (segment, file) in &mut self.segments {
            file.truncate(lengths[segment] as usize);
        }
        let is_whole = |place: &Place| {
            let length = lengths.get(&place.segment).copied().unwrap_or(0);
            (place.offset + place.bytes) as u64 <= length
        };
        assert!(self.batches.iter().all(is_whole), "what was written whole counts");
    }

    /// The segments that are there.
    pub(crate) fn numbers(&self) -> Vec<SegmentNumber> {
        self.segments.keys().copied().collect()
    }

    /// All of a segment.
    pub(crate) fn read(&self, segment: SegmentNumber) -> Option<&[u8]> {
        self.segments.get(&segment).map(Vec::as_slice)
    }

    /// A bit of a batch that is certainly not the last one, if there are so many.
    pub(crate) fn choose_bit(&self, random: &mut Random) -> Option<Bit> {
        let (_, before_last) = self.batches.split_last()?;
        if before_last.is_empty() {
            return None;
        }
        let place = random.pick(before_last);
        let file = self.segments.get(&place.segment)?;
        // Most bytes are padding; what is not is chosen more often.
        let is_padding = |offset: &usize| file[*offset] == 0;
        let offsets = place.offset..place.offset + place.bytes;
        let says_something: Vec<usize> = offsets.clone().filter(|offset| !is_padding(offset)).collect();
        let offset = match random.percent(80) {
            true => random.pick(&says_something),
            false => random.between(offsets.start as u64, offsets.end as u64 - 1) as usize,
        };
        Some(Bit { segment: place.segment, offset, mask: 1 << random.below(8) })
    }

    /// Turns a bit over, or back again.
    pub(crate) fn flip(&mut self, bit: Bit) {
        let file = self.segments.get_mut(&bit.segment).expect("chosen from what is there");
        file[bit.offset] ^= bit.mask;
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// Writes any of the blocks of a write.
fn overwrite_blocks(random: &mut Random, file: &mut Vec<u8>, write: &LogWrite) {
    let chance = random.pick(&[0, 10, 50, 90, 99, 100]);
    for (index, block) in write.bytes.chunks(BLOCK_BYTES).enumerate() {
        if random.percent(chance) {
            overwrite(file, write.offset as usize + index * BLOCK_BYTES, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(segment: u64, offset: u64, opens_segment: bool) -> LogWrite {
        LogWrite { segment: SegmentNumber(segment), offset, bytes: vec![7; 8192], opens_segment }
    }

    fn disk_with_a_batch(random: &mut Random) -> Disk {
        let mut disk = Disk::default();
        disk.begin(random, 65_536, write(1, 0, true));
        disk.complete();
        disk
    }

    #[test]
    fn a_crash_leaves_blocks_of_a_write_in_flight_whole_or_as_they_were() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = disk_with_a_batch(&mut random);
            disk.begin(&mut random, 65_536, write(1, 8192, false));
            disk.crash(&mut random, Crash::Machine);
            let file = disk.read(SegmentNumber(1)).expect("the first write was complete");
            assert!(file[..8192].iter().all(|byte| *byte == 7), "what was complete stays");
            for block in file[8192..].chunks(BLOCK_BYTES) {
                assert!(block.iter().all(|byte| *byte == block[0]), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_kill_leaves_a_first_part_of_a_write_in_flight() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = disk_with_a_batch(&mut random);
            disk.begin(&mut random, 65_536, write(1, 8192, false));
            disk.crash(&mut random, Crash::Process);
            let file = disk.read(SegmentNumber(1)).expect("the first write was complete");
            let written = file[8192..].iter().take_while(|byte| **byte == 7).count();
            assert!(file[8192 + written..].iter().all(|byte| *byte == 0), "seed {seed}");
        }
    }

    #[test]
    fn a_crash_undoes_the_last_removals_only() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = disk_with_a_batch(&mut random);
            for segment in 2..6 {
                disk.begin(&mut random, 65_536, write(segment, 0, true));
                disk.complete();
            }
            (1..4).for_each(|segment| disk.remove(SegmentNumber(segment)));
            disk.crash(&mut random, Crash::Machine);
            let numbers: Vec<u64> = disk.numbers().into_iter().map(|SegmentNumber(number)| number).collect();
            assert!(numbers.first().is_some_and(|first| numbers == Vec::from_iter(*first..6)), "{numbers:?}");
        }
    }
}
