//! Sound segments around any records, for the fuzz targets: a fuzzer does not find checksums by itself.

use std::io;

use crate::time::Timestamp;

use super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Owner, SegmentHeader, begin_record, finish_record, record_seed,
};
use super::log::SegmentNumber;
use super::recovery::{Expected, Segments};

const SALT: u64 = 0x5A17_5A17_5A17_5A17;

/// The segments of a log in memory. The checksums of what is put into them are right; whether the bodies of records say
/// anything is not looked at.
#[derive(Clone, Debug)]
pub struct Sealing {
    expected: Expected,
    segments: Vec<Vec<u8>>,
    /// The batch that is being filled, behind room for its header.
    batch: Vec<u8>,
    records: u32,
    next_batch: u64,
    next_sequence: u64,
}

impl Sealing {
    /// The log of nothing.
    pub fn new(expected: Expected) -> Self {
        let segments = Vec::new();
        let batch = vec![0; BATCH_HEADER_BYTES];
        let mut sealing = Self { expected, segments, batch, records: 0, next_batch: 1, next_sequence: 1 };
        sealing.begin_segment();
        sealing
    }

    /// Ends a segment and begins the next.
    pub fn begin_segment(&mut self) {
        self.end_batch();
        let owner = self.owner(self.segments.len() + 1);
        let synced_through = self.next_batch - 1;
        let header = SegmentHeader { owner, first_batch: self.next_batch, synced_through };
        self.segments.push(header.encode().to_vec());
    }

    /// Adds a record to the batch that is being filled.
    pub fn record(&mut self, kind: u8, body: &[u8]) {
        let seed = record_seed(SALT, self.next_batch);
        let start = begin_record(&mut self.batch, kind);
        self.batch.extend_from_slice(body);
        finish_record(&mut self.batch, start, seed, self.next_sequence + u64::from(self.records));
        self.records += 1;
    }

    /// Ends the batch that is being filled, if there is something in it.
    pub fn end_batch(&mut self) {
        if self.records == 0 {
            return;
        }
        let header = BatchHeader {
            owner: self.owner(self.segments.len()),
            batch: self.next_batch,
            synced_through: self.next_batch - 1,
            first_sequence: self.next_sequence,
            sealed_at: Timestamp::from_nanos(self.next_batch),
            length: u32::try_from(self.batch.len()).expect("a batch is shorter than 4 GiB"),
            records: self.records,
        };
        self.batch[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        self.batch.resize(self.batch.len().next_multiple_of(BLOCK_BYTES), 0);
        let segment = self.segments.last_mut().expect("there is one from the beginning");
        segment.append(&mut self.batch);
        self.batch.resize(BATCH_HEADER_BYTES, 0);
        self.next_batch += 1;
        self.next_sequence += u64::from(self.records);
        self.records = 0;
    }

    /// The bytes of all segments, to be damaged.
    pub fn segments(&mut self) -> &mut [Vec<u8>] {
        &mut self.segments
    }

    fn owner(&self, segment: usize) -> Owner {
        let Expected { generation, shard, fault: _ } = self.expected;
        Owner { generation, shard, segment: SegmentNumber(segment as u64), salt: SALT }
    }
}

impl Segments for Sealing {
    fn numbers(&self) -> Vec<SegmentNumber> {
        (1..=self.segments.len() as u64).map(SegmentNumber).collect()
    }

    fn read(&mut self, segment: SegmentNumber) -> io::Result<Vec<u8>> {
        self.segments.get(segment.0 as usize - 1).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
