//! A shard's log on the disk: the one write that is out, and the segment that it goes to.
//!
//! A write, as a machine:
//!
//! | state    | write begins                    | segment comes | write completes in part | completes | fails    |
//! |----------|---------------------------------|---------------|-------------------------|-----------|----------|
//! | Idle     | Writing, *submit* (or Awaiting) | kept          | (impossible)            | (imp.)    | (imp.)   |
//! | Awaiting | (impossible)                    | Writing, *submit* | (impossible)        | (imp.)    | (imp.)   |
//! | Writing  | (impossible)                    | kept          | Writing, *submit*       | Idle      | Idle, *latched* |
//!
//! A write awaits its segment where it opens one that is not prepared yet. A segment that could not be prepared is asked
//! for once more when it is needed, because space may have been given back since; after that, the write has failed.
//!
//! A write that completes is as stable as the mode says ([`WriteMode`]): the flags of the file see to it, so no operation
//! of its own syncs. A failure is told once; the [`Log`](crate::store::Log) latches and begins no further write.
#![allow(unsafe_code, reason = "a write names memory that has to stay in place")]

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use io_uring::{opcode, types::Fd};

use crate::config::LOG_BLOCK_BYTES;
use crate::route::ShardId;
use crate::store::{LogFailure, LogWrite, SegmentNumber};

use super::failure::report;
use super::housekeeper::{Prepared, Segments};
use super::log_files::{OpenSegment, Preparation, SegmentShape, WriteMode};
use super::log_reader::LogReader;
use super::operation::Operation;
use super::pages::Pages;
use super::planted::PlantedDiskFault;
use super::ring::Ring;

/// A longer batch goes to the disk in several operations, so that the aligned copy has a bound.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// Longest latency of a commit that is told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// One shard's log, as its driver writes it. Dropped after the ring, or with the process, like every memory that an
/// operation names.
pub(super) struct LogDisk {
    shard: ShardId,
    mode: WriteMode,
    /// What is being written, at an address as direct writes want it.
    aligned: Pages,
    current: Option<OpenSegment>,
    next: Next,
    segments: Segments,
    pub(super) reader: LogReader,
    state: State,
    fault: PlantedDiskFault,
    counters: DiskCounters,
}

/// A write that is done, for [`Shard::handle_log_written`](crate::shard::Shard::handle_log_written).
pub(super) type Written = (LogWrite, Result<(), LogFailure>);

/// What the log has cost.
pub(super) struct DiskCounters {
    pub(super) commits: u64,
    pub(super) bytes: u64,
    /// From the submission of a batch to its completion, in microseconds.
    pub(super) latency_us: Histogram<u64>,
    /// The sum of these.
    pub(super) latency: Duration,
    /// How often a batch had to wait for its segment.
    pub(super) segments_awaited: u64,
}

/// See the table above.
enum State {
    Idle,
    Awaiting(LogWrite),
    Writing(InFlight),
}

struct InFlight {
    write: LogWrite,
    written_bytes: usize,
    /// Length of the operation that is out.
    submitted_bytes: usize,
    began: Instant,
}

/// The segment after the current one.
enum Next {
    Asked(SegmentNumber),
    Ready(OpenSegment),
    Failed(SegmentNumber, PathBuf, io::Error),
    /// Asked for again, because a write awaits it.
    AskedAgain(SegmentNumber),
}

impl LogDisk {
    /// The log of a shard that begins with the segment `first`.
    pub(super) fn new(
        shard: ShardId,
        shape: SegmentShape,
        segments: Segments,
        reader: LogReader,
        first: SegmentNumber,
    ) -> io::Result<Self> {
        segments.prepare(first, Preparation::Allocated);
        Ok(Self {
            shard,
            mode: shape.mode,
            aligned: Pages::new(WRITE_BYTES_MAX)?,
            current: None,
            next: Next::Asked(first),
            segments,
            reader,
            state: State::Idle,
            fault: PlantedDiskFault::from_environment(shard),
            counters: DiskCounters {
                commits: 0,
                bytes: 0,
                latency_us: Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 2).expect("bounds in their order"),
                latency: Duration::ZERO,
                segments_awaited: 0,
            },
        })
    }

    /// What the log has cost so far.
    pub(super) fn counters(&self) -> &DiskCounters {
        &self.counters
    }

    /// Begins a write; the one before it is done.
    pub(super) fn begin(&mut self, ring: &mut Ring, write: LogWrite) -> io::Result<()> {
        assert!(matches!(self.state, State::Idle), "one write at a time");
        if write.opens_segment && !matches!(self.next, Next::Ready(_)) {
            self.counters.segments_awaited += 1;
            self.ask_again();
            self.state = State::Awaiting(write);
            return Ok(());
        }
        self.write(ring, write)
    }

    /// Takes the segment that was asked for, if it has come. It may be what a write awaits; that may fail with it.
    pub(super) fn take_prepared(&mut self, ring: &mut Ring) -> io::Result<Option<Written>> {
        let Some(prepared) = self.segments.poll_prepared() else {
            return Ok(None);
        };
        self.next = self.next_after(prepared);
        match mem::replace(&mut self.state, State::Idle) {
            State::Awaiting(write) => match &self.next {
                Next::Ready(_) => self.write(ring, write).map(|()| None),
                Next::Failed(_, path, error) => {
                    let failure = report(self.shard, path, write.offset, error);
                    Ok(Some((write, Err(failure))))
                }
                Next::Asked(_) | Next::AskedAgain(_) => {
                    self.state = State::Awaiting(write);
                    Ok(None)
                }
            },
            state => {
                self.state = state;
                Ok(None)
            }
        }
    }

    /// Whether [`take_prepared`](Self::take_prepared) has something to take.
    pub(super) fn has_prepared(&self) -> bool {
        self.segments.have_prepared()
    }

    /// An operation has completed; the write that it was part of, if that is done.
    pub(super) fn completed(&mut self, ring: &mut Ring, result: i32) -> io::Result<Option<Written>> {
        let State::Writing(mut out) = mem::replace(&mut self.state, State::Idle) else {
            panic!("a write to the log completed that was not out");
        };
        let result = self.fault.applied(result, self.counters.commits);
        let written = match result {
            // A direct write goes on at a block; one that gets nowhere is an error that the kernel has no number for.
            1.. => result as usize / LOG_BLOCK_BYTES as usize * LOG_BLOCK_BYTES as usize,
            0 => 0,
            _ if matches!(-result, libc::EINTR | libc::EAGAIN) => {
                return self.submit(ring, out).map(|()| None);
            }
            _ => return Ok(Some(self.failed(out.write, io::Error::from_raw_os_error(-result)))),
        };
        if written == 0 {
            return Ok(Some(self.failed(out.write, io::ErrorKind::WriteZero.into())));
        }
        assert!(written <= out.submitted_bytes, "the kernel wrote more than it was given");
        out.written_bytes += written;
        if out.written_bytes < out.write.bytes.len() {
            return self.submit(ring, out).map(|()| None);
        }
        self.counters.commits += 1;
        self.counters.bytes += out.write.bytes.len() as u64;
        let latency = out.began.elapsed();
        self.counters.latency += latency;
        self.counters.latency_us.saturating_record(latency.as_micros() as u64);
        Ok(Some((out.write, Ok(()))))
    }

    /// Gives a segment up that is obsolete; so many files at most are kept to be written again.
    pub(super) fn retire(&mut self, segment: SegmentNumber, spares_max: usize) {
        self.reader.forget_through(segment);
        self.segments.retire(segment, spares_max);
    }

    fn write(&mut self, ring: &mut Ring, write: LogWrite) -> io::Result<()> {
        if write.opens_segment {
            let after = SegmentNumber(write.segment.0 + 1);
            match mem::replace(&mut self.next, Next::Asked(after)) {
                Next::Ready(segment) => self.current = Some(segment),
                Next::Asked(_) | Next::AskedAgain(_) | Next::Failed(..) => panic!("a write begins with its segment"),
            }
            self.segments.prepare(after, Preparation::Filled);
        }
        assert!(
            self.current.as_ref().is_some_and(|segment| segment.number == write.segment),
            "segments in their order"
        );
        self.submit(ring, InFlight { write, written_bytes: 0, submitted_bytes: 0, began: Instant::now() })
    }

    /// Submits what is still to be written, or as much of it as one operation takes.
    fn submit(&mut self, ring: &mut Ring, mut out: InFlight) -> io::Result<()> {
        let rest = &out.write.bytes[out.written_bytes..];
        let piece = &rest[..rest.len().min(WRITE_BYTES_MAX)];
        let offset = out.write.offset + out.written_bytes as u64;
        let address = match self.mode {
            WriteMode::Direct => {
                self.aligned.bytes_mut()[..piece.len()].copy_from_slice(piece);
                self.aligned.start().as_ptr().cast_const()
            }
            WriteMode::Synchronous | WriteMode::Cached => piece.as_ptr(),
        };
        out.submitted_bytes = piece.len();
        let file = &self.current.as_ref().expect("a write has its segment").file;
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), address, piece.len() as u32)
            .offset(offset)
            .build()
            .user_data(Operation::WriteLog.to_user_data());
        self.state = State::Writing(out);
        // SAFETY: the pages, and the bytes on the heap behind `out`, stay where they are while the state is Writing, which
        // only the completion ends; nobody changes them meanwhile, nor closes the file.
        unsafe { ring.push(&entry) }
    }

    fn failed(&mut self, write: LogWrite, error: io::Error) -> Written {
        let segment = self.current.as_ref().expect("a write has its segment");
        let failure = report(self.shard, &segment.path, write.offset, &error);
        (write, Err(failure))
    }

    fn next_after(&self, prepared: Prepared) -> Next {
        match (prepared, &self.next) {
            (Ok(segment), _) => Next::Ready(segment),
            (Err((path, error)), Next::Asked(number) | Next::AskedAgain(number) | Next::Failed(number, ..)) => {
                Next::Failed(*number, path, error)
            }
            (Err(_), Next::Ready(_)) => panic!("a segment came that nobody has asked for"),
        }
    }

    fn ask_again(&mut self) {
        if let Next::Failed(number, ..) = self.next {
            self.segments.prepare(number, Preparation::Allocated);
            self.next = Next::AskedAgain(number);
        }
    }
}

impl fmt::Display for DiskCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency_us = |quantile| self.latency_us.value_at_quantile(quantile);
        write!(
            f,
            "commits={} log_bytes={} commit_us_p50={} commit_us_p99={} commit_us_max={} segments_awaited={}",
            self.commits,
            self.bytes,
            latency_us(0.5),
            latency_us(0.99),
            self.latency_us.max(),
            self.segments_awaited,
        )
    }
}
