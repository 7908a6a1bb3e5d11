//! The data directory: who holds it, and which generation of logs in it counts.
//!
//! | path | what |
//! |---|---|
//! | `lock` | locked by the broker that uses the directory; names its process |
//! | `log-GGGGGG/` | a generation: the logs of all shards |
//! | `log-GGGGGG/COMPLETE` | says `shards=N`; there from the moment when the generation counts |
//! | `log-GGGGGG/shard-SSS/` | one shard's log; see `log_files` |
//! | `damaged-GGGGGG/` | a generation that was salvaged, kept for whoever wants to look into it |
//!
//! A new generation is written whole and is on stable storage before it gets its COMPLETE, and an old one is removed only
//! after that. Of the complete generations the newest counts; the others are what a crash in between has left.
//!
//! Nothing is removed whose name is not in the table, and nothing at all before the lock is held.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::SHARDS_MAX;
use crate::error::DataError;

use super::log_files::LogFiles;
use super::system::{self, END_OF_PROCESS_MAX, END_OF_PROCESS_POLL, Lock};

const LOCK: &str = "lock";
const COMPLETE: &str = "COMPLETE";
const COMPLETE_UNFINISHED: &str = "COMPLETE.new";

/// The lock names a process in a few digits; a file with more is not ours.
const LOCK_BYTES_MAX: u64 = 64;

/// How long to wait for the last writes of a process that is gone.
const WRITES_OF_THE_DEAD_MAX: Duration = Duration::from_secs(30);

/// COMPLETE holds one short line.
const COMPLETE_BYTES_MAX: u64 = 64;

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Locked until it is closed, here and by every ring that keeps it.
    lock: File,
}

/// The logs of all shards, of a certain number of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) shards: u16,
    path: PathBuf,
}

/// What stands in a data directory, by the numbers of the generations.
#[derive(Debug, Default)]
struct Found {
    /// With their numbers of shards.
    complete: Vec<(u64, u16)>,
    incomplete: Vec<u64>,
}

impl DataDirectory {
    /// The directory of a broker, made if it is missing, and held until this value is dropped.
    pub fn hold(path: &Path) -> Result<Self, DataError> {
        let not_writable = |source| DataError::NotWritable { directory: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(not_writable)?;
        let lock = path.join(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock);
        let mut file = file.map_err(not_writable)?;
        take_lock(path, &file, Lock::Exclusive)?;
        file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(not_writable)?;
        Ok(Self { path: path.to_owned(), lock: file })
    }

    /// The directory of a broker that does not run, to be read only, and kept from brokers until this value is dropped.
    pub(super) fn inspect(path: &Path) -> Result<Self, DataError> {
        let lock = path.join(LOCK);
        let file = match File::open(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataError::NoLog { directory: path.to_owned() });
            }
            opened => opened.map_err(DataError::io("opening", &lock))?,
        };
        take_lock(path, &file, Lock::Shared)?;
        Ok(Self { path: path.to_owned(), lock: file })
    }

    /// The file whose lock says that the directory is held. A ring that writes into the directory keeps it, for a killed
    /// process closes its files before the kernel has finished what its rings had in flight, and the next process must
    /// not find such a write half done.
    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The generation that counts, if a broker has ever made one.
    pub(super) fn generation(&self) -> Result<Option<Generation>, DataError> {
        let found = self.find()?;
        let newest = found.complete.iter().max().map(|&(number, shards)| self.generation_at(number, shards));
        if newest.is_none() {
            self.refuse_orphans(&found)?;
        }
        Ok(newest)
    }

    /// Makes the directories of the next generation, which counts from [`Generation::complete`] on.
    pub(super) fn begin_generation(&self, number: u64, shards: u16) -> Result<Generation, DataError> {
        let generation = self.generation_at(number, shards);
        for shard in 0..shards {
            let directory = generation.shard_directory(shard);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.and_then(|()| system::sync_directory(&directory)).map_err(DataError::io("creating", &directory))?;
        }
        system::sync_directory(&generation.path).map_err(DataError::io("syncing", &generation.path))?;
        system::sync_directory(&self.path).map_err(DataError::io("syncing", &self.path))?;
        Ok(generation)
    }

    /// Removes all generations but this one, which counts.
    pub(super) fn remove_others(&self, counting: &Generation) -> Result<(), DataError> {
        let found = self.find()?;
        let numbers = found.complete.iter().map(|&(number, _)| number).chain(found.incomplete.iter().copied());
        for number in numbers.filter(|&number| number != counting.number) {
            let path = self.generation_at(number, 0).path;
            info!("removing {}, which does not count any more", path.display());
            remove_generation(&path).map_err(DataError::io("removing", &path))?;
        }
        system::sync_directory(&self.path).map_err(DataError::io("syncing", &self.path))
    }

    /// Sets a generation aside that was salvaged; says where it is now.
    pub(super) fn set_aside(&self, generation: &Generation) -> Result<PathBuf, DataError> {
        let aside = self.path.join(format!("damaged-{:06}", generation.number));
        fs::rename(&generation.path, &aside).map_err(DataError::io("renaming", &generation.path))?;
        system::sync_directory(&self.path).map_err(DataError::io("syncing", &self.path))?;
        Ok(aside)
    }

    fn generation_at(&self, number: u64, shards: u16) -> Generation {
        Generation { number, shards, path: self.path.join(format!("log-{number:06}")) }
    }

    fn find(&self) -> Result<Found, DataError> {
        let mut found = Found::default();
        let reading = || DataError::io("reading", &self.path);
        for entry in fs::read_dir(&self.path).map_err(reading())? {
            let name = entry.map_err(reading())?.file_name();
            let Some(number) = name.to_str().and_then(generation_number) else { continue };
            match self.generation_at(number, 0).read_complete()? {
                Some(shards) => found.complete.push((number, shards)),
                None => found.incomplete.push(number),
            }
        }
        Ok(found)
    }

    /// Without a complete generation an incomplete one has no segments: it was left by a first start that was cut short,
    /// before there was anything to log. With segments, its COMPLETE has gone missing, and they may be all that there is.
    fn refuse_orphans(&self, found: &Found) -> Result<(), DataError> {
        for &number in &found.incomplete {
            let generation = self.generation_at(number, SHARDS_MAX);
            for shard in 0..generation.shards {
                if !LogFiles::new(generation.shard_directory(shard)).list_if_there()?.is_empty() {
                    let reason = format!("there are segments, but no file {COMPLETE}");
                    return Err(DataError::Unexpected { path: generation.path, reason });
                }
            }
        }
        Ok(())
    }
}

impl Generation {
    /// Where the log of a shard lies.
    pub(super) fn shard_directory(&self, shard: u16) -> PathBuf {
        self.path.join(format!("shard-{shard:03}"))
    }

    /// The files of a shard's log.
    pub(super) fn files(&self, shard: u16) -> LogFiles {
        LogFiles::new(self.shard_directory(shard))
    }

    /// Makes the generation count. All that is in it is on stable storage already.
    pub(super) fn complete(&self) -> Result<(), DataError> {
        let (unfinished, complete) = (self.path.join(COMPLETE_UNFINISHED), self.path.join(COMPLETE));
        let write = || {
            let mut file = File::create(&unfinished)?;
            writeln!(file, "shards={}", self.shards)?;
            file.sync_all()?;
            fs::rename(&unfinished, &complete)?;
            system::sync_directory(&self.path)
        };
        write().map_err(DataError::io("writing", &complete))
    }

    /// The number of shards that COMPLETE tells; none if there is no COMPLETE.
    fn read_complete(&self) -> Result<Option<u16>, DataError> {
        let path = self.path.join(COMPLETE);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(COMPLETE_BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataError::Io { doing: "reading", path, source }),
        }
        let shards = text.trim_end().strip_prefix("shards=").and_then(|shards| shards.parse().ok());
        match shards {
            Some(shards) if (1..=SHARDS_MAX).contains(&shards) => Ok(Some(shards)),
            // To take it for incomplete would be to remove it.
            Some(_) | None => {
                let reason = format!("it should say shards=N, with N from 1 to {SHARDS_MAX}");
                Err(DataError::Unexpected { path, reason })
            }
        }
    }
}

fn take_lock(directory: &Path, file: &File, lock: Lock) -> Result<(), DataError> {
    let began = Instant::now();
    while !system::try_lock(file, lock).map_err(DataError::io("locking", &directory.join(LOCK)))? {
        // It may be a process that was killed a moment ago. The lock of one that is gone comes free when the disk has
        // finished what that process had in flight, which on a busy disk takes its time.
        let patience = match holder(file) {
            Some(process) if !system::is_running(process) => WRITES_OF_THE_DEAD_MAX,
            Some(_) | None => END_OF_PROCESS_MAX,
        };
        if began.elapsed() >= patience {
            return Err(held(directory, file));
        }
        thread::sleep(END_OF_PROCESS_POLL);
    }
    Ok(())
}

/// The process that holds the lock, if the file tells.
fn holder(mut file: &File) -> Option<u32> {
    let mut holder = String::new();
    file.rewind().ok()?;
    file.take(LOCK_BYTES_MAX).read_to_string(&mut holder).ok()?;
    holder.trim().parse().ok()
}

fn held(directory: &Path, file: &File) -> DataError {
    // Who holds it is only told to help; a lock that cannot be read is held all the same.
    let holder = match holder(file) {
        Some(process) => format!("process {process}"),
        None => "another process".to_owned(),
    };
    DataError::Held { directory: directory.to_owned(), holder }
}

/// The number in `log-GGGGGG`, if that is what the name is.
fn generation_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?;
    let number = digits.parse().ok()?;
    (format!("{number:06}") == digits).then_some(number)
}

/// Removes what brokers make in a generation, COMPLETE first: from then on it does not count, however far this gets.
fn remove_generation(path: &Path) -> io::Result<()> {
    for name in [COMPLETE, COMPLETE_UNFINISHED] {
        match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    system::sync_directory(path)?;
    for shard in 0..SHARDS_MAX {
        let files = LogFiles::new(path.join(format!("shard-{shard:03}")));
        files.remove_all()?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            warn!("{} holds files that are not the broker's; they stay", path.display());
            Ok(())
        }
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use crate::store::SegmentNumber;

    use super::super::scratch::Scratch;
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn held(scratch: &Scratch) -> DataDirectory {
        DataDirectory::hold(scratch.path()).expect("nobody else has it")
    }

    fn complete(data: &DataDirectory, number: u64, shards: u16) -> Generation {
        let generation = data.begin_generation(number, shards).expect("a new directory");
        generation.complete().expect("a new file");
        generation
    }

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let scratch = Scratch::new("held");
        let data = held(&scratch);
        let error = DataDirectory::hold(scratch.path()).expect_err("held").to_string();
        assert!(error.contains(&format!("held by process {}", process::id())), "{error}");
        assert!(error.contains(&scratch.path().display().to_string()), "{error}");
        assert!(DataDirectory::inspect(scratch.path()).is_err());
        drop(data);
        let reading = DataDirectory::inspect(scratch.path()).expect("free again");
        assert!(DataDirectory::inspect(scratch.path()).is_ok(), "readers do not mind each other");
        assert!(DataDirectory::hold(scratch.path()).is_err(), "a broker would");
        drop(reading);
        held(&scratch);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        // No user may make a directory there.
        let error = DataDirectory::hold(Path::new("/proc/oncemq")).expect_err("refused").to_string();
        assert!(error.contains("/proc/oncemq is not writable"), "{error}");
    }

    #[test]
    fn a_directory_without_a_broker_has_nothing_to_look_into() {
        let scratch = Scratch::new("nothing");
        assert!(matches!(DataDirectory::inspect(scratch.path()), Err(DataError::NoLog { .. })));
    }

    #[test]
    fn the_newest_complete_generation_counts_and_the_others_go() {
        let scratch = Scratch::new("generations");
        let data = held(&scratch);
        assert_eq!(data.generation().expect("readable"), None);
        complete(&data, 1, 1);
        let newest = complete(&data, 2, 3);
        data.begin_generation(3, 2).expect("a new directory");
        for foreign in ["log-000002/notes", "log-1", "log-000004.old", "other"] {
            fs::write(scratch.path().join(foreign), "").expect("a new file");
        }
        assert_eq!(data.generation().expect("readable"), Some(newest.clone()));
        data.remove_others(&newest).expect("removed");
        assert_eq!(names(scratch.path()), ["lock", "log-000002", "log-000004.old", "log-1", "other"]);
        assert_eq!(names(&newest.path), ["COMPLETE", "notes", "shard-000", "shard-001", "shard-002"]);
    }

    #[test]
    fn what_is_not_ours_stays_in_a_generation_that_goes() {
        let scratch = Scratch::new("foreign");
        let data = held(&scratch);
        let old = complete(&data, 1, 1);
        let new = complete(&data, 2, 1);
        fs::write(old.files(0).segment(SegmentNumber(1)), "old").expect("a new file");
        fs::write(old.path.join("notes"), "mine").expect("a new file");
        data.remove_others(&new).expect("removed");
        assert_eq!(names(&old.path), ["notes"]);
    }

    #[test]
    fn segments_without_complete_are_not_thrown_away() {
        let scratch = Scratch::new("orphans");
        let data = held(&scratch);
        let first = data.begin_generation(1, 2).expect("a new directory");
        assert_eq!(data.generation().expect("a first start that was cut short"), None);
        fs::write(first.files(1).segment(SegmentNumber(7)), "messages").expect("a new file");
        let error = data.generation().expect_err("refused").to_string();
        assert!(error.contains("log-000001") && error.contains("no file COMPLETE"), "{error}");
    }

    #[test]
    fn a_complete_that_cannot_be_understood_is_not_taken_for_a_missing_one() {
        let scratch = Scratch::new("complete");
        let data = held(&scratch);
        let generation = complete(&data, 1, 2);
        for text in ["", "shards=0", "shards=65", "shards=", "2"] {
            fs::write(generation.path.join(COMPLETE), text).expect("written");
            let error = data.generation().expect_err("refused").to_string();
            assert!(error.contains("COMPLETE") && error.contains("shards=N"), "{text}: {error}");
        }
    }
}
