//! From the logs in a data directory to the state that the shards go on with.
//!
//! | found | done |
//! |---|---|
//! | no generation | the first one is made, empty |
//! | whole logs, or torn tails; the same number of shards | the tails are cut off, and the generation is gone on with |
//! | whole logs, or torn tails; another number of shards | the state is dealt out anew into a new generation, the old one is removed |
//! | damage, and `--recover strict` | the start is refused, and nothing is changed |
//! | damage, and `--recover salvage` | what is intact goes into a new generation, the old one is set aside |
//!
//! What the bytes of a log mean is decided in [`store`](crate::store), which also says what is torn and what is damaged.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::ServeConfig;
use crate::error::{DataError, StartError};
use crate::fault::PlantedFault;
use crate::shard::redeal;
use crate::store::{
    Expected, Image, LogConfig, LogEnd, Recall, Recovered, RecoveryError, RecoveryMode, SegmentNumber, Segments,
    recall, recover,
};

use super::clock::Clock;
use super::data_dir::{DataDirectory, Generation};
use super::log_files::{LogFiles, SegmentShape, WriteMode};
use super::rewriting::rewrite;

/// How often the progress of a long recovery is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What the shards go on with: one image and one end of a log for each.
#[derive(Debug)]
pub struct RestoredLogs {
    pub(super) generation: Generation,
    pub(super) shape: SegmentShape,
    pub(super) images: Vec<Image>,
    pub(super) ends: Vec<LogEnd>,
    /// Files of each log that can be written again.
    pub(super) spares: Vec<Vec<SegmentNumber>>,
}

/// How the logs are read.
#[derive(Clone, Copy)]
struct Reading {
    mode: RecoveryMode,
    /// What the deliveries of one shard may take in memory; the others stay in its log. None is all there is.
    held_bytes_max: Option<u64>,
}

impl Reading {
    /// A log that may have to be written anew is read whole.
    fn new(config: &ServeConfig, generation: &Generation, shards: u16) -> Self {
        let mode = config.log.recovery;
        let goes_on = mode == RecoveryMode::Strict && generation.shards == shards;
        Self { mode, held_bytes_max: goes_on.then(|| config.limits.of_one_shard(shards).queue_memory_bytes) }
    }
}

/// What one log holds.
type ReadLog = (Image, Recovered);

/// The state in the data directory, for `shards` shards.
pub fn restore(
    data: &DataDirectory,
    config: &ServeConfig,
    shards: u16,
    clock: &Clock,
) -> Result<RestoredLogs, StartError> {
    let began = Instant::now();
    let mode = WriteMode::for_durability(config.durability, data.path())?;
    let shape = SegmentShape { mode, segment_bytes: config.log.segment_bytes };
    info!("log: {}", mode.describe());
    let Some(generation) = data.generation()? else {
        let generation = data.begin_generation(1, shards)?;
        generation.complete()?;
        data.remove_others(&generation)?;
        info!("the data directory {} is new", data.path().display());
        let shards = usize::from(shards);
        let (images, ends) = (vec![Image::default(); shards], vec![LogEnd::default(); shards]);
        return Ok(RestoredLogs { generation, shape, images, ends, spares: vec![Vec::new(); shards] });
    };
    let logs = read_logs(&generation, Reading::new(config, &generation, shards))?;
    for (shard, (_, recovered)) in (0..).zip(&logs) {
        tell_what_is_missing(&generation.files(shard), shard, recovered);
    }
    data.remove_others(&generation)?;
    let is_whole = logs.iter().all(|(_, recovered)| recovered.lost.is_empty());
    let restored = if is_whole && generation.shards == shards {
        go_on(generation, shape, logs)?
    } else {
        let images: Vec<Image> = logs.into_iter().map(|(image, _)| image).collect();
        let images = if generation.shards == shards { images } else { redeal(&images, shards, clock.now()) };
        let restored = begin_anew(data, &generation, shape, images, clock)?;
        if is_whole {
            info!("the state of {} shards was dealt out to {shards}", generation.shards);
            data.remove_others(&restored.generation)?;
        } else {
            warn!("the damaged logs are kept in {}", data.set_aside(&generation)?.display());
        }
        restored
    };
    summarize(&restored.images, began.elapsed());
    Ok(restored)
}

/// Reads the logs of all shards of a generation, as many at a time as there are CPUs.
fn read_logs(generation: &Generation, reading: Reading) -> Result<Vec<ReadLog>, DataError> {
    let shards = usize::from(generation.shards);
    let bytes = (0..generation.shards).map(|shard| generation.files(shard).bytes()).sum::<Result<u64, _>>()?;
    let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
    let mut logs: Vec<Option<ReadLog>> = (0..shards).map(|_| None).collect();
    thread::scope(|scope| {
        let (report, reports) = channel();
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get).min(shards) {
            let (report, next, read) = (report.clone(), &next, &read);
            scope.spawn(move || {
                loop {
                    let shard = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more where another shard's log was refused.
                    if shard >= shards
                        || report.send((shard, read_log(generation, shard as u16, reading, read))).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(report);
        loop {
            match reports.recv_timeout(PROGRESS_INTERVAL) {
                Ok((shard, log)) => logs[shard] = Some(log?),
                Err(RecvTimeoutError::Timeout) => show_progress(read.load(Ordering::Relaxed), bytes),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })?;
    Ok(logs.into_iter().map(|log| log.expect("every shard has reported")).collect())
}

fn read_log(generation: &Generation, shard: u16, reading: Reading, progress: &AtomicU64) -> Result<ReadLog, DataError> {
    let files = generation.files(shard);
    let mut source = SegmentFiles { numbers: files.list()?, files };
    let mut image = reading.held_bytes_max.map_or_else(Image::default, Image::within);
    let expected = expected(generation, shard);
    let recovered = recover(
        &mut source,
        expected,
        reading.mode,
        &mut |bytes| {
            progress.fetch_add(bytes, Ordering::Relaxed);
        },
        &mut |record, location| image.apply_from(record, location.batch),
    )
    .map_err(|error| refusal(&source.files, error))?;
    image.forget_message_ids();
    recall(&mut image, Recall::InFlight, &mut source, expected, &recovered.end)
        .map_err(|error| refusal(&source.files, error))?;
    Ok((image, recovered))
}

/// What the segments of a shard's log say that they are.
pub(super) fn expected(generation: &Generation, shard: u16) -> Expected {
    Expected { generation: generation.number, shard, fault: PlantedFault::default() }
}

/// The segments of one log, for [`recover`].
pub(super) struct SegmentFiles {
    pub(super) files: LogFiles,
    pub(super) numbers: Vec<SegmentNumber>,
}

impl Segments for SegmentFiles {
    fn numbers(&self) -> Vec<SegmentNumber> {
        self.numbers.clone()
    }

    fn read(&mut self, segment: SegmentNumber) -> std::io::Result<Vec<u8>> {
        self.files.read(segment)
    }
}

/// What the operator is told when a log cannot be used.
pub(super) fn refusal(files: &LogFiles, error: RecoveryError) -> DataError {
    match error {
        RecoveryError::Read { segment, error } => DataError::io("reading", &files.segment(segment))(error),
        RecoveryError::NewerVersion { segment, version } => {
            DataError::NewerFormat { file: files.segment(segment), version }
        }
        RecoveryError::Damage { segment, offset, reason } => {
            DataError::Damaged { file: files.segment(segment), offset, reason: reason.to_string() }
        }
    }
}

fn tell_what_is_missing(files: &LogFiles, shard: u16, recovered: &Recovered) {
    if let Some(torn) = recovered.torn {
        warn!(
            "the log of shard {shard} ends in an interrupted write: {} bytes are cut off {} at offset {} ({}); what was \
             acknowledged lies before them, unless the disk has damaged its last write",
            torn.bytes,
            files.segment(torn.segment).display(),
            torn.offset,
            torn.reason,
        );
    }
    for lost in &recovered.lost {
        warn!(
            "the log of shard {shard} is damaged: {} from offset {} to {} is lost, at least {} batches with {} records ({})",
            files.segment(lost.segment).display(),
            lost.from,
            lost.to,
            lost.batches,
            lost.records,
            lost.reason,
        );
    }
}

/// The same number of shards goes on with the generation that is there.
fn go_on(generation: Generation, shape: SegmentShape, logs: Vec<ReadLog>) -> Result<RestoredLogs, DataError> {
    let mut restored = RestoredLogs { generation, shape, images: Vec::new(), ends: Vec::new(), spares: Vec::new() };
    for (shard, (image, Recovered { mut end, .. })) in (0..).zip(logs) {
        let files = restored.generation.files(shard);
        for &(segment, bytes) in &end.segments {
            files.cut(segment, bytes, shape)?;
        }
        let spares = files.adopt_spares(shape)?;
        files.sync()?;
        end.segments.retain(|&(_, bytes)| bytes > 0);
        restored.images.push(image);
        restored.ends.push(end);
        restored.spares.push(spares);
    }
    Ok(restored)
}

/// The images are written whole, as the generation after this one.
fn begin_anew(
    data: &DataDirectory,
    old: &Generation,
    shape: SegmentShape,
    images: Vec<Image>,
    clock: &Clock,
) -> Result<RestoredLogs, StartError> {
    let generation = data.begin_generation(old.number + 1, images.len() as u16)?;
    let mut ends = Vec::with_capacity(images.len());
    for (shard, image) in (0..).zip(&images) {
        let config = LogConfig {
            generation: generation.number,
            shard,
            salt: getrandom::u64().map_err(StartError::Random)?,
            segment_bytes: shape.segment_bytes,
            commit_delay: Duration::ZERO,
            // The generation counts only once all of it is synced, so no batch says too much about those before it.
            is_synced: true,
            fault: PlantedFault::default(),
        };
        ends.push(rewrite(&generation.files(shard), config, image, clock.now())?);
    }
    generation.complete()?;
    let spares = vec![Vec::new(); images.len()];
    Ok(RestoredLogs { generation, shape, images, ends, spares })
}

fn show_progress(read: u64, bytes: u64) {
    const MIB: u64 = 1024 * 1024;
    info!("recovering: {} of {} MiB of the logs are read", read / MIB, bytes / MIB);
}

fn summarize(images: &[Image], took: Duration) {
    let sessions: usize = images.iter().map(|image| image.sessions.len()).sum();
    let queued: u64 = images
        .iter()
        .flat_map(|image| image.sessions.values())
        .map(|session| session.open_deliveries() + session.held_back.len() as u64)
        .sum();
    let retained: usize = images.iter().map(|image| image.retained.len()).sum();
    let letters: usize =
        images.iter().flat_map(|image| image.outgoing.values()).map(|outgoing| outgoing.waiting.len()).sum();
    info!(
        "recovered in {:.3} s: sessions={sessions} open_deliveries={queued} retained={retained} letters={letters}",
        took.as_secs_f64()
    );
}
