//! The thread that makes the logs' segments before they are needed, and removes them when they are obsolete, so that no
//! shard ever waits for a file to be created, filled or removed.
//!
//! A shard asks for a segment when it begins the one before, and finds it in its queue, its bell rung, long before it gets
//! there. Obsolete segments go out of the log in the order in which they are named. As many as the shard will need before it
//! names the next are kept and written again: filling files and giving them back both keep the disk from the logs' own
//! writes. The others are given back piece by piece, when nothing else is to be done.
//!
//! The queues have no bound of their own: a shard has asked for at most one segment, and names no segment twice.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tracing::warn;

use crate::error::StartError;
use crate::store::SegmentNumber;

use super::bell::Bell;
use super::log_files::{LogFiles, ObsoleteFile, OpenSegment, Preparation, Retired, SegmentShape};

/// A segment that can be begun, or why there is none, with the file that could not be made.
pub(super) type Prepared = Result<OpenSegment, (PathBuf, io::Error)>;

/// A shard's way to the thread, and its answers.
#[derive(Debug)]
pub(super) struct Segments {
    shard: usize,
    tasks: Sender<Task>,
    prepared: Receiver<Prepared>,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Prepare {
        shard: usize,
        segment: SegmentNumber,
        preparation: Preparation,
    },
    /// `spares_max`: files that the shard will need before it names another segment.
    Retire {
        shard: usize,
        segment: SegmentNumber,
        spares_max: usize,
    },
}

/// One shard, as the thread sees it.
struct Customer {
    files: LogFiles,
    /// Files that can be written again.
    spares: Vec<SegmentNumber>,
    prepared: Sender<Prepared>,
    bell: Arc<Bell>,
}

/// Starts the thread for the logs of all shards: their files, the spares among them, and the bells of their shards.
pub(super) fn start(
    logs: impl IntoIterator<Item = (LogFiles, Vec<SegmentNumber>, Arc<Bell>)>,
    shape: SegmentShape,
) -> Result<Vec<Segments>, StartError> {
    let (tasks, receiver) = unbounded();
    let mut customers = Vec::new();
    let mut segments = Vec::new();
    for (shard, (files, spares, bell)) in logs.into_iter().enumerate() {
        let (sender, prepared) = unbounded();
        customers.push(Customer { files, spares, prepared: sender, bell });
        segments.push(Segments { shard, tasks: tasks.clone(), prepared });
    }
    let name = "log-files";
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || keep_house(&receiver, &mut customers, shape))
        .map_err(|source| StartError::Thread { name: name.to_owned(), source })?;
    Ok(segments)
}

impl Segments {
    /// Asks for a segment.
    pub(super) fn prepare(&self, segment: SegmentNumber, preparation: Preparation) {
        self.give(Task::Prepare { shard: self.shard, segment, preparation });
    }

    /// Gives a segment up that is obsolete; so many files at most are kept to be written again.
    pub(super) fn retire(&self, segment: SegmentNumber, spares_max: usize) {
        self.give(Task::Retire { shard: self.shard, segment, spares_max });
    }

    /// The segment that was asked for, if it is ready.
    pub(super) fn poll_prepared(&self) -> Option<Prepared> {
        self.prepared.try_recv().ok()
    }

    /// Whether [`poll_prepared`](Self::poll_prepared) has something.
    pub(super) fn have_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }

    fn give(&self, task: Task) {
        // The thread ends only after the last shard has dropped its end, or with the process.
        self.tasks.send(task).expect("the thread for the logs' files lives as long as the shards");
    }
}

fn keep_house(tasks: &Receiver<Task>, customers: &mut [Customer], shape: SegmentShape) {
    let mut obsolete = VecDeque::new();
    let mut rest = Duration::ZERO;
    loop {
        let task =
            if obsolete.is_empty() { tasks.recv().map_err(RecvTimeoutError::from) } else { tasks.recv_timeout(rest) };
        match task {
            Ok(Task::Prepare { shard, segment, preparation }) => {
                let customer = &mut customers[shard];
                let spare = customer.spares.pop();
                let prepared = customer.files.prepare(segment, spare, preparation, shape);
                if customer.prepared.send(prepared).is_ok() {
                    customer.bell.ring_if_sleeping();
                }
            }
            Ok(Task::Retire { shard, segment, spares_max }) => {
                customers[shard].retire(segment, spares_max, shape, &mut obsolete);
            }
            Err(RecvTimeoutError::Timeout) => {
                let began = Instant::now();
                shrink_first(&mut obsolete);
                // As long again belongs to the logs' own writes.
                rest = began.elapsed();
            }
            // What is left is removed by the next start.
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Customer {
    fn retire(
        &mut self,
        segment: SegmentNumber,
        spares_max: usize,
        shape: SegmentShape,
        obsolete: &mut VecDeque<ObsoleteFile>,
    ) {
        // A spare keeps its number, and an earlier broker may have left one with this number.
        let wanted = self.spares.len() < spares_max && !self.spares.contains(&segment);
        match self.files.retire(segment, wanted, shape) {
            Ok(Retired::Spare) => self.spares.push(segment),
            Ok(Retired::Obsolete(file)) => obsolete.push_back(file),
            Ok(Retired::Removed) => {}
            Err(error) => warn_of(&self.files.segment(segment), &error),
        }
        for spare in self.spares.drain(spares_max.min(self.spares.len())..) {
            match self.files.discard_spare(spare) {
                Ok(file) => obsolete.push_back(file),
                Err(error) => warn_of(&self.files.segment(spare), &error),
            }
        }
    }
}

/// Gives the next piece of the first of these files back.
fn shrink_first(obsolete: &mut VecDeque<ObsoleteFile>) {
    let Some(file) = obsolete.front_mut() else { return };
    match file.shrink() {
        Ok(false) => {}
        Ok(true) => drop(obsolete.pop_front()),
        Err(error) => {
            warn_of(file.path(), &error);
            obsolete.pop_front();
        }
    }
}

fn warn_of(path: &Path, error: &io::Error) {
    warn!("removing {} failed: {error}; it holds nothing that is needed", path.display());
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use crate::config::Durability;

    use super::super::log_files::WriteMode;
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn segments_are_prepared_with_a_bell_and_retired_into_spares() {
        let scratch = Scratch::new("housekeeper");
        let files = LogFiles::new(scratch.path().to_owned());
        let bell = Arc::new(Bell::new(-1).expect("an eventfd"));
        let shape = SegmentShape { mode: WriteMode::Direct, segment_bytes: 1024 * 1024 };
        if WriteMode::for_durability(Durability::Sync, scratch.path()).expect("writable") != shape.mode {
            return; // nothing is prepared, or kept, where nothing is written directly
        }
        let segments = start([(files.clone(), Vec::new(), Arc::clone(&bell))], shape).expect("a thread").remove(0);
        let next = |number| {
            bell.announce_sleep();
            segments.prepare(SegmentNumber(number), Preparation::Filled);
            let mut eventfd = File::from(bell.eventfd().try_clone_to_owned().expect("a copy"));
            eventfd.read_exact(&mut [0; 8]).expect("a ring");
            segments.poll_prepared().expect("ready when the bell rings").expect("a segment")
        };
        for number in 1..=4 {
            let segment = next(number);
            assert_eq!(segment.number, SegmentNumber(number));
            assert_eq!(segment.path, files.segment(segment.number));
        }
        for number in 1..=3 {
            segments.retire(SegmentNumber(number), 2);
        }
        next(5);
        assert_eq!(files.list().expect("a directory"), [4, 5].map(SegmentNumber));
        assert!(!segments.have_prepared());
        segments.retire(SegmentNumber(4), 0);
        // What is not wanted goes when there is nothing else to do.
        let left = || fs::read_dir(scratch.path()).expect("a directory").count();
        let deadline = Instant::now() + Duration::from_secs(60);
        while left() > 1 {
            assert!(Instant::now() < deadline, "{} files are left", left());
            thread::yield_now();
        }
        assert_eq!(files.list().expect("a directory"), [SegmentNumber(5)]);
    }
}
