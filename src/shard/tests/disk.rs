//! The disk of one shard's log: what is stable, and the write that is out.

use std::collections::BTreeMap;
use std::io;

use crate::store::{Expected, LogRead, Recall, Recovered, RecoveryMode, SegmentNumber, Segments, recall, recover};

use super::*;

#[derive(Default)]
pub(super) struct Disk {
    /// The write that is out.
    pub(super) in_flight: Option<LogWrite>,
    segments: BTreeMap<SegmentNumber, Vec<u8>>,
    /// Segments removed so far.
    pub(super) removed: usize,
    /// Bytes read back while the shard ran.
    pub(super) read_bytes: usize,
}

impl Disk {
    /// A disk with the log that says what the image says, and its end.
    pub(super) fn with(image: &Image, config: LogConfig, now: Timestamp) -> (Self, LogEnd) {
        let (mut disk, mut log) = (Self::default(), Log::new(config, LogEnd::default()));
        image.records(&mut |record| log.append(record));
        log.wait_for_appended();
        while let Some(write) = log.poll_write(now) {
            disk.write(&write);
            log.handle_written(write, Ok(()));
        }
        let (_, recovered) = disk.recover(config, None);
        (disk, recovered.end)
    }

    pub(super) fn write(&mut self, write: &LogWrite) {
        let segment = self.segments.entry(write.segment).or_default();
        let (start, end) = (write.offset as usize, write.offset as usize + write.bytes.len());
        segment.resize(segment.len().max(end), 0);
        segment[start..end].copy_from_slice(&write.bytes);
    }

    pub(super) fn read(&mut self, read: &LogRead) -> &[u8] {
        self.read_bytes += read.bytes;
        &self.segments[&read.segment][read.offset as usize..][..read.bytes]
    }

    pub(super) fn remove(&mut self, segment: SegmentNumber) {
        let (oldest, _) = self.segments.pop_first().expect("a shard removes what there is");
        assert_eq!(oldest, segment, "segments are removed oldest first");
        self.removed += 1;
    }

    /// Turns a bit of every batch over.
    pub(super) fn damage(&mut self) {
        for block in self.segments.values_mut().flat_map(|segment| segment.chunks_mut(4096).skip(1)) {
            block[100] ^= 1;
        }
    }

    /// What a restart finds, with deliveries up to so many bytes in memory.
    pub(super) fn recover(&mut self, config: LogConfig, held_bytes_max: Option<u64>) -> (Image, Recovered) {
        self.in_flight = None;
        let mut image = held_bytes_max.map_or_else(Image::default, Image::within);
        let LogConfig { generation, shard, fault, .. } = config;
        let expected = Expected { generation, shard, fault };
        let recovered = recover(self, expected, RecoveryMode::Strict, &mut |_| {}, &mut |record, location| {
            image.apply_from(record, location.batch)
        })
        .expect("an intact log");
        recall(&mut image, Recall::InFlight, self, expected, &recovered.end).expect("an intact log");
        (image, recovered)
    }
}

impl Segments for Disk {
    fn numbers(&self) -> Vec<SegmentNumber> {
        self.segments.keys().copied().collect()
    }

    fn read(&mut self, segment: SegmentNumber) -> io::Result<Vec<u8>> {
        Ok(self.segments[&segment].clone())
    }
}
