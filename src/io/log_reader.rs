//! Reads from a shard's log while it runs: deliveries that are not held in memory.
//!
//! One read is out at a time. The bytes come through the page cache, also where they were written around it: the kernel
//! keeps the two in step, and what was queued long ago is read once.
//!
//! | state   | read begins                          | completes in part   | completes | fails          |
//! |---------|--------------------------------------|---------------------|-----------|----------------|
//! | Idle    | Reading, *submit*; or Idle, *failed* | (impossible)        | (imp.)    | (imp.)         |
//! | Reading | (impossible)                         | Reading, *submit*   | Idle      | Idle, *failed* |
#![allow(unsafe_code, reason = "a read names memory that has to stay in place")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{opcode, types::Fd};

use crate::route::ShardId;
use crate::store::{LogFailure, LogRead, SegmentNumber};

use super::failure::report;
use super::log_files::LogFiles;
use super::operation::Operation;
use super::ring::Ring;

/// A buffer that has grown beyond this, for a long batch, is not kept.
const KEPT_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// The reading end of one shard's log. Dropped after the ring, or with the process, like every memory that an operation
/// names.
pub(super) struct LogReader {
    shard: ShardId,
    files: LogFiles,
    /// The segment that was read last.
    segment: Option<(SegmentNumber, File)>,
    bytes: Vec<u8>,
    /// The read that is out, and how much of it is done; see the table above.
    out: Option<(LogRead, usize)>,
    /// Bytes read since the start.
    read_bytes: u64,
}

/// A read that is done, for [`Shard::handle_log_read`](crate::shard::Shard::handle_log_read).
pub(super) type Read = (LogRead, Result<(), LogFailure>);

impl LogReader {
    /// Reads the log that lies in these files.
    pub(super) fn new(shard: ShardId, files: LogFiles) -> Self {
        Self { shard, files, segment: None, bytes: Vec::new(), out: None, read_bytes: 0 }
    }

    /// Begins a read; the one before it is done. One that fails at once is handed back.
    pub(super) fn begin(&mut self, ring: &mut Ring, read: LogRead) -> io::Result<Option<Read>> {
        assert!(self.out.is_none(), "one read at a time");
        if let Err(error) = self.open(read.segment) {
            return Ok(Some(self.failed(read, &error)));
        }
        if self.bytes.capacity() > KEPT_BUFFER_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.resize(read.bytes, 0);
        self.submit(ring, read, 0).map(|()| None)
    }

    /// An operation has completed; the read that it was part of, if that is done.
    pub(super) fn completed(&mut self, ring: &mut Ring, result: i32) -> io::Result<Option<Read>> {
        let (read, done) = self.out.take().expect("a read completed that was out");
        match result {
            1.. => {
                let done = done + result as usize;
                self.read_bytes += result as u64;
                assert!(done <= read.bytes, "the kernel read more than it was asked for");
                if done < read.bytes {
                    return self.submit(ring, read, done).map(|()| None);
                }
                Ok(Some((read, Ok(()))))
            }
            0 => Ok(Some(self.failed(read, &io::ErrorKind::UnexpectedEof.into()))),
            _ if matches!(-result, libc::EINTR | libc::EAGAIN) => self.submit(ring, read, done).map(|()| None),
            _ => Ok(Some(self.failed(read, &io::Error::from_raw_os_error(-result)))),
        }
    }

    /// What the read that is done has brought.
    pub(super) fn bytes(&self) -> &[u8] {
        assert!(self.out.is_none(), "the kernel is done with the buffer");
        &self.bytes
    }

    /// A segment and all before it are given up.
    pub(super) fn forget_through(&mut self, segment: SegmentNumber) {
        self.segment.take_if(|(open, _)| *open <= segment);
    }

    /// Bytes read since the start.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    fn open(&mut self, segment: SegmentNumber) -> io::Result<()> {
        if self.segment.as_ref().is_none_or(|(open, _)| *open != segment) {
            // A look-up and no more: its directory entry was made by this very process, or read by it at the start.
            self.segment = Some((segment, File::open(self.files.segment(segment))?));
        }
        Ok(())
    }

    fn submit(&mut self, ring: &mut Ring, read: LogRead, done: usize) -> io::Result<()> {
        let (_, file) = self.segment.as_ref().expect("opened when the read began");
        let rest = &mut self.bytes[done..];
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), rest.as_mut_ptr(), rest.len() as u32)
            .offset(read.offset + done as u64)
            .build()
            .user_data(Operation::ReadLog.to_user_data());
        self.out = Some((read, done));
        // SAFETY: the buffer stays where it is, and is not looked at, while a read is out, which only the completion ends;
        // nor is the file closed meanwhile, for only a read changes it, or the end of a segment, and none is read then.
        unsafe { ring.push(&entry) }
    }

    fn failed(&mut self, read: LogRead, error: &io::Error) -> Read {
        let path = self.files.segment(read.segment);
        let failure = report(self.shard, &path, read.offset, error);
        self.segment = None;
        (read, Err(failure))
    }
}
