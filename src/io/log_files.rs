//! The files of one shard's log: their names, and how each is opened, made and removed.
//!
//! | name | what |
//! |---|---|
//! | `NNNNNNNNNN.segment` | a segment, or one made ahead: it is blank, or its header names an older one, until it is begun |
//! | `NNNNNNNNNN.spare` | what was this segment, kept to become another one; its bytes mean nothing |
//! | `NNNNNNNNNN.making` | what is to become this segment, half made |
//! | `NNNNNNNNNN.obsolete` | what was this segment, being given back a piece at a time |
//!
//! How a log is written depends on what the durability mode asks for and what the file system can do ([`WriteMode`]); the
//! numbers behind the choice stand in tuning.md, "The log".

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crate::config::{Durability, LOG_BLOCK_BYTES};
use crate::error::DataError;
use crate::store::SegmentNumber;

use super::pages::Pages;
use super::system;

const SEGMENT: &str = "segment";
const SPARE: &str = "spare";
const MAKING: &str = "making";
const OBSOLETE: &str = "obsolete";

/// Zeroes are written in pieces of this size: large enough for the disk, small enough to let the logs' writes in between.
const FILL_BYTES: usize = 256 * 1024;

/// Space is given back in pieces of this size. Where the file system passes that on to the disk at once (mount option
/// `discard`), the disk does nothing else meanwhile: 25 ms for 16 MiB were seen.
const SHRINK_BYTES: u64 = 1024 * 1024;

/// The directory of one shard's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LogFiles {
    directory: PathBuf,
}

/// How a log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteMode {
    /// `O_DIRECT | O_DSYNC` into space that has been written before: one write to the disk and no metadata with it.
    Direct,
    /// `O_DSYNC`, where the file system takes no direct writes.
    Synchronous,
    /// Into the page cache.
    Cached,
}

/// What all logs have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentShape {
    pub(super) mode: WriteMode,
    pub(super) segment_bytes: u64,
}

/// How much of a new segment is done before it is begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Preparation {
    /// Its space is set aside. Writes to it cost a little more; but somebody waits for it.
    Allocated,
    /// All its space has been written.
    Filled,
}

/// What has become of a segment that is not part of the log any more.
#[derive(Debug)]
pub(super) enum Retired {
    /// Its file can be written again.
    Spare,
    /// Its space is still to be given back.
    Obsolete(ObsoleteFile),
    /// There is nothing left of it.
    Removed,
}

/// A file that is removed piece by piece.
#[derive(Debug)]
pub(super) struct ObsoleteFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// A segment that a log may be written to.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) number: SegmentNumber,
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl WriteMode {
    /// The best mode for logs in `directory`, found out by a try. `None` logs nothing and is not asked about.
    pub(super) fn for_durability(durability: Durability, directory: &Path) -> Result<Self, DataError> {
        match durability {
            Durability::Sync => {
                let path = directory.join("direct-io-test");
                let result = try_direct(&path);
                let removed = fs::remove_file(&path);
                match result {
                    Ok(()) => removed.map(|()| WriteMode::Direct).map_err(DataError::io("removing", &path)),
                    // A file system that takes no direct writes says so when the file is opened, or at the write.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(WriteMode::Synchronous),
                    Err(source) => Err(DataError::Io { doing: "writing", path, source }),
                }
            }
            Durability::Write | Durability::None => Ok(WriteMode::Cached),
        }
    }

    /// What the log says at the start.
    pub(super) fn describe(self) -> &'static str {
        match self {
            WriteMode::Direct => "direct synchronous writes into prepared segments",
            WriteMode::Synchronous => {
                "synchronous writes through the page cache: this file system takes no direct ones"
            }
            WriteMode::Cached => "writes to the page cache",
        }
    }

    /// Whether what was written is on stable storage.
    pub(super) fn is_synced(self) -> bool {
        match self {
            WriteMode::Direct | WriteMode::Synchronous => true,
            WriteMode::Cached => false,
        }
    }

    /// Whether segments are written through before they are begun.
    fn is_prepared(self) -> bool {
        match self {
            WriteMode::Direct => true,
            WriteMode::Synchronous | WriteMode::Cached => false,
        }
    }

    fn flags(self) -> i32 {
        match self {
            WriteMode::Direct => libc::O_DIRECT | libc::O_DSYNC,
            WriteMode::Synchronous => libc::O_DSYNC,
            WriteMode::Cached => 0,
        }
    }
}

impl LogFiles {
    /// The log that lies in `directory`.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file of a segment.
    pub(super) fn segment(&self, number: SegmentNumber) -> PathBuf {
        self.file(number, SEGMENT)
    }

    /// The segments that are there, oldest first, those made ahead among them.
    pub(super) fn list(&self) -> Result<Vec<SegmentNumber>, DataError> {
        self.numbers(SEGMENT).map_err(DataError::io("reading", &self.directory))
    }

    /// As [`list`](Self::list), and nothing if there is no such directory.
    pub(super) fn list_if_there(&self) -> Result<Vec<SegmentNumber>, DataError> {
        if self.directory.exists() { self.list() } else { Ok(Vec::new()) }
    }

    /// Makes a segment that can be begun, out of a spare if there is one.
    pub(super) fn prepare(
        &self,
        number: SegmentNumber,
        spare: Option<SegmentNumber>,
        preparation: Preparation,
        shape: SegmentShape,
    ) -> Result<OpenSegment, (PathBuf, io::Error)> {
        let mode = shape.mode;
        let path = self.segment(number);
        let making = self.file(number, MAKING);
        let make = || {
            let made = match spare {
                Some(spare) => self.file(spare, SPARE),
                None => {
                    make_new(&making, preparation, shape)?;
                    making.clone()
                }
            };
            let file = OpenOptions::new().write(true).custom_flags(mode.flags()).open(&made)?;
            if mode.is_synced() {
                file.sync_all()?;
            }
            fs::rename(&made, &path)?;
            if mode.is_synced() {
                system::sync_directory(&self.directory)?;
            }
            Ok(file)
        };
        match make() {
            Ok(file) => Ok(OpenSegment { number, file, path }),
            Err(error) => {
                // It may hold the space that is short. If it cannot be removed, or was not made, there is no more to say.
                let _ = fs::remove_file(&making);
                Err((path, error))
            }
        }
    }

    /// Gives an obsolete segment up: its file becomes a spare if it is wanted and can be one.
    pub(super) fn retire(&self, number: SegmentNumber, wanted: bool, shape: SegmentShape) -> io::Result<Retired> {
        let path = self.segment(number);
        if !shape.mode.is_synced() {
            return fs::remove_file(&path).map(|()| Retired::Removed);
        }
        let is_spare = wanted && can_be_spare(&path, shape)?;
        let retired = self.file(number, if is_spare { SPARE } else { OBSOLETE });
        fs::rename(&path, &retired)?;
        // One at a time: should the power fail, no segment is gone that has an older one before it.
        system::sync_directory(&self.directory)?;
        Ok(if is_spare { Retired::Spare } else { Retired::Obsolete(ObsoleteFile::open(retired)?) })
    }

    /// Gives a spare up that is not wanted any more.
    pub(super) fn discard_spare(&self, spare: SegmentNumber) -> io::Result<ObsoleteFile> {
        let path = self.file(spare, OBSOLETE);
        fs::rename(self.file(spare, SPARE), &path)?;
        ObsoleteFile::open(path)
    }

    /// Cuts off what does not count; a segment of which nothing counts is retired. What is left is made stable if it has to
    /// be: the broker that wrote it may not have asked for that.
    pub(super) fn cut(&self, number: SegmentNumber, bytes: u64, shape: SegmentShape) -> Result<(), DataError> {
        let path = self.segment(number);
        let cut = || {
            if bytes == 0 {
                return match self.retire(number, true, shape)? {
                    Retired::Spare | Retired::Removed => Ok(()),
                    Retired::Obsolete(file) => fs::remove_file(file.path),
                };
            }
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > bytes {
                file.set_len(bytes)?;
            }
            if shape.mode.is_synced() { file.sync_all() } else { Ok(()) }
        };
        cut().map_err(DataError::io("cutting", &path))
    }

    /// The spares that an earlier broker has left; those that cannot be used are removed, and what it has half done.
    pub(super) fn adopt_spares(&self, shape: SegmentShape) -> Result<Vec<SegmentNumber>, DataError> {
        let adopt = || {
            let mut spares = Vec::new();
            for extension in [MAKING, OBSOLETE] {
                for number in self.numbers(extension)? {
                    fs::remove_file(self.file(number, extension))?;
                }
            }
            for number in self.numbers(SPARE)? {
                let path = self.file(number, SPARE);
                if can_be_spare(&path, shape)? {
                    spares.push(number);
                } else {
                    fs::remove_file(path)?;
                }
            }
            Ok(spares)
        };
        adopt().map_err(DataError::io("looking for spares in", &self.directory))
    }

    /// All bytes of a segment.
    pub(super) fn read(&self, number: SegmentNumber) -> io::Result<Vec<u8>> {
        fs::read(self.segment(number))
    }

    /// Length of all segments together, in bytes.
    pub(super) fn bytes(&self) -> Result<u64, DataError> {
        self.list()?.into_iter().map(|number| self.segment(number)).try_fold(0, |bytes, path| {
            fs::metadata(&path).map(|found| bytes + found.len()).map_err(DataError::io("reading", &path))
        })
    }

    /// Removes the segments and spares, oldest first, and the directory if nothing else is in it. Without a directory
    /// there is nothing to do.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        for extension in [MAKING, OBSOLETE, SPARE, SEGMENT] {
            for number in self.numbers(extension)? {
                fs::remove_file(self.file(number, extension))?;
            }
        }
        match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        }
    }

    /// Writes a segment at once, without a shard that it belongs to.
    pub(super) fn create(&self, number: SegmentNumber) -> Result<File, DataError> {
        let path = self.segment(number);
        File::create(&path).map_err(DataError::io("creating", &path))
    }

    /// Makes it stable which files there are.
    pub(super) fn sync(&self) -> Result<(), DataError> {
        system::sync_directory(&self.directory).map_err(DataError::io("syncing", &self.directory))
    }

    fn file(&self, number: SegmentNumber, extension: &str) -> PathBuf {
        self.directory.join(format!("{:010}.{extension}", number.0))
    }

    fn numbers(&self, extension: &str) -> io::Result<Vec<SegmentNumber>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| file_number(name, extension)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl ObsoleteFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    /// Which file it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the next piece back, from the end; whether that was the last one.
    pub(super) fn shrink(&mut self) -> io::Result<bool> {
        self.bytes = self.bytes.saturating_sub(SHRINK_BYTES);
        if self.bytes == 0 {
            return fs::remove_file(&self.path).map(|()| true);
        }
        self.file.set_len(self.bytes)?;
        self.file.sync_data().map(|()| false)
    }
}

/// The number in `NNNNNNNNNN.extension`, if that is what the name is.
fn file_number(name: &str, extension: &str) -> Option<SegmentNumber> {
    let (digits, found) = name.split_once('.')?;
    let number = digits.parse().ok()?;
    (found == extension && format!("{number:010}") == digits).then_some(SegmentNumber(number))
}

/// Whether the file system takes a direct write.
fn try_direct(path: &Path) -> io::Result<()> {
    let flags = WriteMode::Direct.flags();
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
    let mut block = Pages::new(LOG_BLOCK_BYTES as usize)?;
    file.write_all_at(block.bytes_mut(), 0)
}

/// Whether a file can be written again as it is.
fn can_be_spare(path: &Path, shape: SegmentShape) -> io::Result<bool> {
    Ok(shape.mode.is_prepared() && fs::metadata(path)?.len() == shape.segment_bytes)
}

fn make_new(path: &Path, preparation: Preparation, shape: SegmentShape) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !shape.mode.is_prepared() {
        return options.open(path).map(drop);
    }
    // Without the synchronous flag the zeroes need one flush in all, and not one each.
    let file = options.custom_flags(libc::O_DIRECT).open(path)?;
    system::allocate(&file, shape.segment_bytes)?;
    match preparation {
        Preparation::Allocated => Ok(()),
        Preparation::Filled => fill(&file, shape.segment_bytes),
    }
}

/// Writes zeroes, so that the blocks are written and not merely set aside: a write to them later needs no change of the
/// file's metadata. Rests as long as it works, so that the logs' own writes do not queue behind it.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let mut zeroes = Pages::new(FILL_BYTES)?;
    let mut offset = 0;
    while offset < bytes {
        let began = Instant::now();
        let piece = (bytes - offset).min(FILL_BYTES as u64);
        file.write_all_at(&zeroes.bytes_mut()[..piece as usize], offset)?;
        offset += piece;
        thread::sleep(began.elapsed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::scratch::Scratch;
    use super::*;

    const SEGMENT_BYTES: u64 = 1024 * 1024;

    fn shape(mode: WriteMode) -> SegmentShape {
        SegmentShape { mode, segment_bytes: SEGMENT_BYTES }
    }

    fn prepared(files: &LogFiles, number: u64, spare: Option<u64>, mode: WriteMode) -> OpenSegment {
        let spare = spare.map(SegmentNumber);
        files.prepare(SegmentNumber(number), spare, Preparation::Filled, shape(mode)).expect("a new segment")
    }

    fn content(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("readable");
        bytes
    }

    /// The mode of `sync` here, whatever file system the tests run on.
    fn synced(scratch: &Scratch) -> WriteMode {
        let mode = WriteMode::for_durability(Durability::Sync, scratch.path()).expect("a writable directory");
        assert!(mode.is_synced() && fs::read_dir(scratch.path()).expect("a directory").next().is_none());
        mode
    }

    #[test]
    fn names_are_told_from_others() {
        let number = |name| file_number(name, SEGMENT).map(|number| number.0);
        assert_eq!(number("0000000012.segment"), Some(12));
        assert_eq!(number("12345678901.segment"), Some(12_345_678_901), "sorted by number, not by name");
        for name in ["12.segment", "0000000012.spare", "0000000012.segment.old", "+000000012.segment", ".segment"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn a_new_segment_is_zero_and_a_recycled_one_is_as_it_was() {
        let scratch = Scratch::new("prepared");
        let files = LogFiles::new(scratch.path().to_owned());
        let mode = WriteMode::Direct;
        if synced(&scratch) != mode {
            return; // nothing is prepared where nothing is written directly
        }
        let first = prepared(&files, 1, None, mode);
        assert!(content(&first.path) == vec![0; SEGMENT_BYTES as usize]);
        let mut old = Pages::new(8192).expect("pages");
        old.bytes_mut().fill(7);
        first.file.write_all_at(old.bytes_mut(), 0).expect("aligned");
        let retired = files.retire(SegmentNumber(1), true, shape(mode)).expect("renamed");
        assert!(matches!(retired, Retired::Spare));
        assert_eq!(files.list().expect("a directory"), []);
        let second = prepared(&files, 2, Some(1), mode);
        let bytes = content(&second.path);
        assert_eq!(bytes.len() as u64, SEGMENT_BYTES);
        assert!(bytes[..8192].iter().all(|&byte| byte == 7));
        assert_eq!(files.list().expect("a directory"), [SegmentNumber(2)]);
    }

    #[test]
    fn only_whole_segments_that_are_wanted_are_kept() {
        let scratch = Scratch::new("retired");
        let files = LogFiles::new(scratch.path().to_owned());
        let mode = synced(&scratch);
        for (number, wanted, bytes) in [(1, false, SEGMENT_BYTES), (2, true, SEGMENT_BYTES + 4096)] {
            prepared(&files, number, None, mode).file.set_len(bytes).expect("a file");
            let retired = files.retire(SegmentNumber(number), wanted, shape(mode)).expect("renamed");
            assert!(matches!(retired, Retired::Obsolete(_)));
        }
        prepared(&files, 3, None, WriteMode::Cached);
        let retired = files.retire(SegmentNumber(3), true, shape(WriteMode::Cached)).expect("removed");
        assert!(matches!(retired, Retired::Removed));
        files.remove_all().expect("empty");
        assert!(!scratch.path().exists());
        files.remove_all().expect("nothing to do");
        fs::create_dir(scratch.path()).expect("for the scratch to remove");
    }

    #[test]
    fn an_obsolete_segment_goes_piece_by_piece() {
        let scratch = Scratch::new("obsolete");
        let files = LogFiles::new(scratch.path().to_owned());
        let segment = File::create(files.segment(SegmentNumber(1))).expect("a new file");
        segment.set_len(2 * SHRINK_BYTES + 1).expect("a file");
        let retired = files.retire(SegmentNumber(1), false, shape(WriteMode::Synchronous)).expect("renamed");
        let Retired::Obsolete(mut file) = retired else { panic!("{retired:?}") };
        assert_eq!(files.list().expect("a directory"), []);
        let length = |file: &ObsoleteFile| fs::metadata(file.path()).map(|found| found.len()).ok();
        for (left, is_last) in [(Some(SHRINK_BYTES + 1), false), (Some(1), false), (None, true)] {
            assert_eq!((file.shrink().expect("shrunk"), length(&file)), (is_last, left));
        }
    }

    #[test]
    fn what_an_earlier_broker_left_is_used_if_it_can_be() {
        let scratch = Scratch::new("adopted");
        let files = LogFiles::new(scratch.path().to_owned());
        for (number, bytes) in [(1, SEGMENT_BYTES), (2, SEGMENT_BYTES - 1), (3, SEGMENT_BYTES), (4, SEGMENT_BYTES)] {
            let file = File::create(files.file(SegmentNumber(number), SPARE)).expect("a new file");
            file.set_len(bytes).expect("a file");
        }
        for extension in [MAKING, OBSOLETE] {
            fs::write(files.file(SegmentNumber(9), extension), "half").expect("a new file");
        }
        assert_eq!(files.adopt_spares(shape(WriteMode::Direct)).expect("adopted"), [1, 3, 4].map(SegmentNumber));
        assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 3, "the others are gone");
        assert_eq!(files.adopt_spares(shape(WriteMode::Cached)).expect("removed"), []);
        assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn a_cut_segment_keeps_what_counts() {
        let scratch = Scratch::new("cut");
        let files = LogFiles::new(scratch.path().to_owned());
        fs::write(files.segment(SegmentNumber(1)), [1; 9000]).expect("a new file");
        for (bytes, left) in [(8192, Some(8192)), (9000, Some(8192)), (0, None)] {
            files.cut(SegmentNumber(1), bytes, shape(WriteMode::Synchronous)).expect("cut");
            let length = fs::metadata(files.segment(SegmentNumber(1))).ok().map(|found| found.len());
            assert_eq!(length, left);
        }
    }

    #[test]
    fn a_segment_that_finds_no_space_leaves_nothing_behind() {
        let scratch = Scratch::new("no-space");
        let files = LogFiles::new(scratch.path().join("missing"));
        let (path, error) = files
            .prepare(SegmentNumber(1), None, Preparation::Filled, shape(WriteMode::Cached))
            .expect_err("there is no directory");
        assert!(path.ends_with("missing/0000000001.segment"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
