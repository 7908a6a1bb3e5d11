//! Writes an image as a log of its own: what a new generation begins with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::DataError;
use crate::store::{Image, Log, LogConfig, LogEnd, LogWrite, Record, SegmentNumber};
use crate::time::Timestamp;

use super::log_files::LogFiles;

/// Length from which on a batch is written.
const BATCH_BYTES: usize = 256 * 1024;

/// Writes the log of one shard whole and puts it on stable storage; where it ends.
pub(super) fn rewrite(files: &LogFiles, config: LogConfig, image: &Image, now: Timestamp) -> Result<LogEnd, DataError> {
    let log = Log::new(config, LogEnd::default());
    let mut rewriting = Rewriting { files, now, log, current: None, segments: Vec::new() };
    let mut result = Ok(());
    image.records(&mut |record| {
        if result.is_ok() {
            result = rewriting.append(record);
        }
    });
    result?;
    rewriting.finish()
}

struct Rewriting<'a> {
    files: &'a LogFiles,
    now: Timestamp,
    log: Log,
    current: Option<File>,
    segments: Vec<(SegmentNumber, u64)>,
}

impl Rewriting<'_> {
    fn append(&mut self, record: &Record<'_>) -> Result<(), DataError> {
        self.log.append(record);
        if self.log.filling_bytes() >= BATCH_BYTES { self.write_batch() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<LogEnd, DataError> {
        self.write_batch()?;
        self.sync_current()?;
        self.files.sync()?;
        let places = self.log.places();
        Ok(LogEnd { batch: self.log.stable(), record: self.log.records(), segments: self.segments, places })
    }

    fn write_batch(&mut self) -> Result<(), DataError> {
        // A batch that somebody waits for is not held back for company.
        self.log.wait_for_appended();
        let Some(write) = self.log.poll_write(self.now) else {
            return Ok(());
        };
        if write.opens_segment {
            self.sync_current()?;
            self.current = Some(self.files.create(write.segment)?);
            self.segments.push((write.segment, 0));
        }
        self.write(&write).map_err(DataError::io("writing", &self.files.segment(write.segment)))?;
        if let Some((_, bytes)) = self.segments.last_mut() {
            *bytes = write.offset + write.bytes.len() as u64;
        }
        self.log.handle_written(write, Ok(()));
        Ok(())
    }

    fn write(&self, write: &LogWrite) -> io::Result<()> {
        self.current.as_ref().expect("the first batch opens a segment").write_all_at(&write.bytes, write.offset)
    }

    fn sync_current(&self) -> Result<(), DataError> {
        let (Some(file), Some((segment, _))) = (&self.current, self.segments.last()) else {
            return Ok(());
        };
        file.sync_all().map_err(DataError::io("syncing", &self.files.segment(*segment)))
    }
}
