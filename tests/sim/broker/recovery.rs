//! The broker's return from its logs.
//!
//! What recovery says is checked in passing: reading a log again says the same, also when its tail has been cut in
//! between, and a log that was damaged before its tail is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::io;
use std::time::Duration;

use oncemq::config::Durability;
use oncemq::shard::{Shard, redeal};
use oncemq::store::{
    Expected, Image, Log, LogConfig, LogEnd, Recall, Record, Recovered, RecoveryError, RecoveryMode, SegmentNumber,
    Segments, recall, recover,
};

use crate::disk::Disk;
use crate::ledger::{Failure, fail};
use crate::world::World;

/// The disk as recovery reads it.
struct Reader<'a>(&'a Disk);

impl Segments for Reader<'_> {
    fn numbers(&self) -> Vec<SegmentNumber> {
        self.0.numbers()
    }

    fn read(&mut self, segment: SegmentNumber) -> io::Result<Vec<u8>> {
        self.0.read(segment).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What the records of a log add up to, and where it ends.
pub(super) fn read(disk: &Disk, config: &LogConfig) -> Result<(Image, Recovered), RecoveryError> {
    let mut image = Image::default();
    let expected = Expected { generation: config.generation, shard: config.shard, fault: config.fault };
    let recovered =
        recover(&mut Reader(disk), expected, RecoveryMode::Strict, &mut |_| {}, &mut |record, _| image.apply(record))?;
    Ok((image, recovered))
}

/// What the records of a log say, one by one.
fn records(disk: &Disk, config: &LogConfig) -> Result<Vec<String>, RecoveryError> {
    let mut records = Vec::new();
    let expected = Expected { generation: config.generation, shard: config.shard, fault: config.fault };
    let mut apply = |record: &Record<'_>, _| records.push(format!("{record:?}"));
    recover(&mut Reader(disk), expected, RecoveryMode::Strict, &mut |_| {}, &mut apply)?;
    Ok(records)
}

impl World {
    /// What a shard has that goes on with its log: deliveries beyond its share of the memory stay there. With all of them read
    /// back, it is what the log says.
    fn within_memory(&self, shard: usize, whole: &Image) -> Result<Image, Failure> {
        let config = self.broker.storage.log_config(shard as u16).expect("asked for with a log only");
        let expected = Expected { generation: config.generation, shard: config.shard, fault: config.fault };
        let mut reader = Reader(&self.broker.storage.disks[shard]);
        let mut image = Image::within(self.broker.limits.queue_memory_bytes);
        let recovered = recover(&mut reader, expected, RecoveryMode::Strict, &mut |_| {}, &mut |record, location| {
            image.apply_from(record, location.batch);
        });
        let end = recovered.expect("it was read a moment ago").end;
        if let Err(error) = recall(&mut image, Recall::InFlight, &mut reader, expected, &end) {
            fail!("deliveries in flight of shard {shard} can't be read back: {error}");
        }
        let mut again = image.clone();
        match recall(&mut again, Recall::Whole, &mut reader, expected, &end) {
            Ok(()) if again == *whole => Ok(image),
            read => fail!("shard {shard} differs after reading back ({read:?}): {}", differences(whole, &again)),
        }
    }

    /// The shards as their logs have them, perhaps in another number.
    pub(super) fn recover(&mut self) -> Result<Vec<Shard>, Failure> {
        self.try_damage()?;
        let (mut images, mut ends) = (Vec::new(), Vec::new());
        for shard in 0..self.broker.storage.disks.len() {
            let (image, end) = self.recover_shard(shard)?;
            images.push(image);
            ends.push(end);
        }
        let shards = self.broker.shards;
        if usize::from(shards) == images.len() {
            for (shard, image) in images.iter_mut().enumerate() {
                *image = self.within_memory(shard, image)?;
            }
        } else {
            self.broker.storage.visit("other number of shards");
            images = redeal(&images, shards, self.now());
            ends = self.begin_generation(&images)?;
        }
        let now = self.now();
        let ends = ends.into_iter().zip(0..);
        Ok(ends.map(|(end, number)| Shard::restore(self.broker.config(number), now, &images, end)).collect())
    }

    fn recover_shard(&mut self, shard: usize) -> Result<(Image, LogEnd), Failure> {
        let config = self.broker.storage.log_config(shard as u16).expect("asked for with a log only");
        let disk = &mut self.broker.storage.disks[shard];
        let (image, recovered) = match read(disk, &config) {
            Ok(recovered) => recovered,
            Err(error) => fail!("the log of shard {shard} is refused: {error}"),
        };
        disk.cut(&recovered.end);
        // The broker may have crashed again right here.
        match read(disk, &config) {
            Ok((again, _)) if again == image => {}
            again => fail!("the log of shard {shard} was read as {image:?} and then as {again:?}"),
        }
        if recovered.torn.is_some() {
            self.broker.storage.visit("torn tail");
        }
        Ok((image, recovered.end))
    }

    /// Turns a bit over before the tail of a log: the broker must not start with that. Then it is turned back.
    fn try_damage(&mut self) -> Result<(), Failure> {
        if self.scenario.storage.durability != Durability::Sync
            || !self.random.percent(self.scenario.storage.damage_percent)
        {
            return Ok(());
        }
        let shard = self.random.below(self.broker.storage.disks.len() as u64) as usize;
        let config = self.broker.storage.log_config(shard as u16).expect("asked for with a log only");
        let disk = &mut self.broker.storage.disks[shard];
        let Some(bit) = disk.choose_bit(&mut self.random) else { return Ok(()) };
        let intact = records(disk, &config);
        disk.flip(bit);
        let damaged = records(disk, &config);
        disk.flip(bit);
        match (intact, damaged) {
            (Ok(_), Err(RecoveryError::Damage { .. })) => self.broker.storage.visit("damage"),
            // What nobody reads may have any value.
            (Ok(records), Ok(believed)) if records == believed => {}
            (intact, damaged) => {
                fail!("with {bit:?} of shard {shard} turned over the log is read as {damaged:?} instead of {intact:?}")
            }
        }
        Ok(())
    }

    /// Writes a new generation of logs, and takes them for the old ones when all are whole.
    fn begin_generation(&mut self, images: &[Image]) -> Result<Vec<LogEnd>, Failure> {
        let now = self.now();
        let storage = &mut self.broker.storage;
        storage.generation += 1;
        storage.disks.clear();
        let mut ends = Vec::new();
        for (image, number) in images.iter().zip(0..) {
            let config = storage.log_config(number).expect("asked for with a log only");
            let mut log = Log::new(LogConfig { commit_delay: Duration::ZERO, ..config }, LogEnd::default());
            let mut disk = Disk::default();
            image.records(&mut |record| log.append(record));
            log.wait_for_appended();
            while let Some(write) = log.poll_write(now) {
                disk.begin(&mut self.random, storage.segment_bytes, write);
                log.handle_written(disk.complete(), Ok(()));
            }
            match read(&disk, &config) {
                Ok((again, recovered)) if again == *image => ends.push(recovered.end),
                again => fail!("the new log of shard {number} is to say {image:?} and says {again:?}"),
            }
            storage.disks.push(disk);
        }
        Ok(ends)
    }

    /// Compares the state of a shard that has nothing to write with what its log says.
    pub(super) fn compare_with_log(&mut self, shard: usize) -> Result<(), Failure> {
        let config = self.broker.storage.log_config(shard as u16).expect("asked for with a log only");
        let disk = &self.broker.storage.disks[shard];
        let mut expected = self.broker.seats[shard].shard.image();
        match read(disk, &config) {
            Ok((image, recovered)) => {
                let log = Expected { generation: config.generation, shard: config.shard, fault: config.fault };
                if let Err(error) = recall(&mut expected, Recall::Whole, &mut Reader(disk), log, &recovered.end) {
                    fail!("the backlogs of shard {shard} can't be read back: {error}");
                }
                if !tells_of(&image, &expected) {
                    fail!("shard {shard} and its log differ: {}", differences(&expected, &image));
                }
                self.broker.storage.visit("comparison with the log");
                Ok(())
            }
            Err(error) => fail!("the log of shard {shard} can't be read while it runs: {error}"),
        }
    }
}

/// Whether the log says what the shard is, but for two things that the log may know less well.
///
/// The terms of what is held back may be better in the shard, for a retained message that is held back live comes once, on
/// the best of its terms. And the log may take more messages for sent than were.
fn tells_of(log: &Image, shard: &Image) -> bool {
    let well_known = |image: &Image| {
        let mut image = image.clone();
        for session in image.sessions.values_mut() {
            session.held_back.clear();
            session.sent_below = 0;
        }
        image
    };
    let sent_below = |image: &Image| Vec::from_iter(image.sessions.values().map(|session| session.sent_below));
    let is_covered = sent_below(log).into_iter().zip(sent_below(shard)).all(|(log, shard)| log >= shard);
    is_covered && well_known(log) == well_known(shard)
}

/// Lines that a report shows before the first that differs.
const LINES_BEFORE: usize = 14;

/// Where two images differ, in words.
fn differences(left: &Image, right: &Image) -> String {
    let mut text = String::new();
    between(&mut text, "session", &left.sessions, &right.sessions);
    between(&mut text, "retained", &left.retained, &right.retained);
    between(&mut text, "letters to", &left.outgoing, &right.outgoing);
    between(&mut text, "letters from", &left.incoming, &right.incoming);
    text
}

fn between<K: Ord + Debug, V: PartialEq + Debug>(
    text: &mut String,
    what: &str,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = left.keys().chain(right.keys()).collect();
    for key in keys {
        let (left, right) = (left.get(key), right.get(key));
        if left != right {
            let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
            writeln!(text, "{what} {key:?}:").expect("a string takes all");
            differing(text, &left, &right);
        }
    }
}

/// The lines of two texts from the first that differs to the last.
fn differing(text: &mut String, left: &str, right: &str) {
    let (mut left, mut right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let same = same.saturating_sub(LINES_BEFORE);
    left.drain(..same);
    right.drain(..same);
    while left.last().is_some_and(|last| right.last() == Some(last)) {
        left.pop();
        right.pop();
    }
    for (place, lines) in [("here", left), ("in the log", right)] {
        let lines: Vec<&str> = lines.into_iter().map(str::trim).collect();
        writeln!(text, "  {place}: {}", lines.join(" ")).expect("a string takes all");
    }
}
