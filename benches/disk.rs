//! What a commit costs: ways to put a batch of a log on stable storage, through an io_uring as a shard has it.
//!
//! `cargo bench --bench disk [-- DIRECTORY]` prints the table that stands in tuning.md, "The log", for the file system of
//! that directory (default: the temporary directory). The ways take turns, a few hundred commits at a time, so that what
//! else the machine does falls on all of them. Without `--bench`, as under `cargo test`, a few commits show that it works.
#![allow(unsafe_code, reason = "the bench drives a ring of its own and asks for the CPU time")]

use std::alloc::{Layout, alloc_zeroed};
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};

const COMMIT_BYTES: [usize; 2] = [16 * 1024, 256 * 1024];
const BLOCK_BYTES: usize = 4096;

/// A way to make a batch stable.
struct Way {
    name: &'static str,
    space: Space,
    flags: i32,
    /// Whether a sync is linked to each write.
    syncs: bool,
}

/// What the file is before it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    /// Nothing: each write makes it longer.
    Empty,
    /// Blocks that are set aside.
    Allocated,
    /// Blocks that have been written.
    Filled,
}

const WAYS: [Way; 6] = [
    Way { name: "append, fdatasync", space: Space::Empty, flags: 0, syncs: true },
    Way { name: "zero-filled, fdatasync", space: Space::Filled, flags: 0, syncs: true },
    Way { name: "zero-filled, O_DSYNC", space: Space::Filled, flags: libc::O_DSYNC, syncs: false },
    Way { name: "allocated, O_DIRECT+O_DSYNC", space: Space::Allocated, flags: DIRECT, syncs: false },
    Way { name: "zero-filled, O_DIRECT+O_DSYNC", space: Space::Filled, flags: DIRECT, syncs: false },
    Way { name: "append, not synced", space: Space::Empty, flags: 0, syncs: false },
];

const DIRECT: i32 = libc::O_DIRECT | libc::O_DSYNC;

/// What the commits of one way and size have cost.
struct Cost {
    latency_us: Histogram<u64>,
    cpu: Duration,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let directory =
        arguments.iter().find(|argument| !argument.starts_with('-')).map_or_else(env::temp_dir, PathBuf::from);
    let (rounds, commits) = if is_bench { (10, 200) } else { (1, 3) };
    let mut ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8)?;
    println!("| way | commit | p50 | p99 | CPU per commit |\n|---|---|---|---|---|");
    for bytes in COMMIT_BYTES {
        let mut costs: Vec<Option<Cost>> = WAYS.iter().map(|_| None).collect();
        for round in 0..rounds {
            for (way, cost) in WAYS.iter().zip(&mut costs) {
                let path = directory.join(format!("oncemq-bench-{}", process::id()));
                let done = commit(&mut ring, &path, way, bytes, commits);
                let removed = fs::remove_file(&path);
                match done {
                    Ok(more) => cost.get_or_insert_with(Cost::nothing).add(&more),
                    // This file system takes no direct writes.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => continue,
                    Err(error) => return Err(error),
                }
                removed?;
            }
            if is_bench {
                eprintln!("{} KiB: round {} of {rounds}", bytes / 1024, round + 1);
            }
        }
        for (way, cost) in WAYS.iter().zip(&costs) {
            print!("| {} | {} KiB | ", way.name, bytes / 1024);
            match cost {
                Some(cost) => println!("{cost} |"),
                None => println!("not on this file system | | |"),
            }
        }
    }
    Ok(())
}

/// Makes a file and puts so many batches on it, one after the other.
fn commit(ring: &mut IoUring, path: &Path, way: &Way, bytes: usize, commits: usize) -> io::Result<Cost> {
    let space = File::create(path)?;
    match way.space {
        Space::Empty => {}
        Space::Allocated => allocate(&space, bytes * commits)?,
        Space::Filled => {
            (0..commits).try_for_each(|index| space.write_all_at(&vec![0; bytes], (index * bytes) as u64))?
        }
    }
    space.sync_all()?;
    let file = OpenOptions::new().write(true).custom_flags(way.flags).open(path)?;
    let batch = aligned(bytes);
    let mut cost = Cost::nothing();
    let cpu_before = cpu_time();
    for index in 0..commits {
        let began = Instant::now();
        write(ring, &file, batch, (index * bytes) as u64, way.syncs)?;
        cost.latency_us.record(began.elapsed().as_micros() as u64).expect("the histogram grows");
    }
    cost.cpu = cpu_time() - cpu_before;
    Ok(cost)
}

/// One commit: enters the kernel once and sleeps there until all of it is done.
fn write(ring: &mut IoUring, file: &File, batch: &'static [u8], offset: u64, syncs: bool) -> io::Result<()> {
    let descriptor = Fd(file.as_raw_fd());
    let write = opcode::Write::new(descriptor, batch.as_ptr(), batch.len() as u32).offset(offset).build();
    let sync = opcode::Fsync::new(descriptor).flags(FsyncFlags::DATASYNC).build();
    let entries = if syncs { vec![write.flags(Flags::IO_LINK), sync] } else { vec![write] };
    // SAFETY: the batch is never freed, and the file is open until all completions are there.
    unsafe { ring.submission().push_multiple(&entries) }.expect("the queue is empty");
    let mut left = entries.len();
    while left > 0 {
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            left -= 1;
            match completion.result() {
                ..0 => return Err(io::Error::from_raw_os_error(-completion.result())),
                written => assert!(written == 0 || written as usize == batch.len(), "a short write"),
            }
        }
    }
    Ok(())
}

/// Bytes that compress badly, at the beginning of a block; never freed, a handful in the process's life.
fn aligned(bytes: usize) -> &'static [u8] {
    let layout = Layout::from_size_align(bytes, BLOCK_BYTES).expect("whole blocks");
    // SAFETY: the layout is not empty; the memory is zeroed, owned by nobody else, and stays.
    let batch = unsafe { std::slice::from_raw_parts_mut(alloc_zeroed(layout), bytes) };
    for (index, byte) in batch.iter_mut().enumerate() {
        *byte = (index.wrapping_mul(0x9E37_79B9) >> 13) as u8;
    }
    batch
}

fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// CPU time of this process, the kernel's work for it included.
fn cpu_time() -> Duration {
    // SAFETY: a rusage of zeros is valid, and the call only writes to it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let time =
        |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}

impl Cost {
    fn nothing() -> Self {
        Self { latency_us: Histogram::new(3).expect("three digits"), cpu: Duration::ZERO }
    }

    fn add(&mut self, more: &Self) {
        self.latency_us.add(&more.latency_us).expect("histograms of the same kind");
        self.cpu += more.cpu;
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let latency_us = |quantile| self.latency_us.value_at_quantile(quantile);
        let cpu_us = self.cpu.as_secs_f64() * 1e6 / self.latency_us.len() as f64;
        write!(f, "{} µs | {} µs | {cpu_us:.0} µs", latency_us(0.5), latency_us(0.99))
    }
}
