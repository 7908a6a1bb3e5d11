//! The segments of a log, with whatever records, and then damaged.
//!
//! - A log that is whole is read to its end, or up to the first record that says nothing sensible.
//! - What its records add up to is the same after it was written into a new log and read again, and a shard goes on from it.
//! - A damaged log is read, refused or salvaged.
//!
//! An input is what happens to the bytes, and behind that the records: kind, length (two bytes), body. A kind of 0 ends a batch,
//! one of 255 a segment.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use oncemq::config::{Limits, Service};
use oncemq::fault::PlantedFault;
use oncemq::route::{MAX_SHARDS, ShardId};
use oncemq::shard::{Shard, ShardConfig};
use oncemq::store::sealing::Sealing;
use oncemq::store::{
    Expected, Flaw, Image, Log, LogConfig, LogEnd, Record, RecordLocation, Recovered, RecoveryError, RecoveryMode,
    SegmentNumber, Segments, TornTail, dump_record, recover,
};
use oncemq::time::Timestamp;
use oncemq_fuzz::split_choices;

/// What names a delivery or a session by a higher number is left out: a session makes room for all deliveries between its lowest
/// and its highest, and a shard for all sessions up to the highest, because that is how they were numbered. Numbers that were
/// never given out, under a sound checksum, take more than the bound that holds for everything else.
const NUMBER_MAX: u64 = 10_000;

/// Batches and segments of a log, at most: each takes some kilobytes.
const PARTS_MAX: u32 = 64;

const GENERATION: u64 = 3;

fuzz_target!(|input: &[u8]| {
    let Some((damage, records)) = split_choices(input) else { return };
    let mut log = seal(records);
    match read(&mut log, RecoveryMode::Strict) {
        Ok((image, recovered)) => {
            let is_unintelligible = |torn: TornTail| matches!(torn.reason, Flaw::RecordBody { .. });
            assert!(recovered.torn.is_none_or(is_unintelligible) && recovered.lost.is_empty(), "nothing is damaged");
            check_image(&image, recovered.end);
        }
        Err(RecoveryError::Damage { reason: Flaw::RecordBody { .. }, .. }) => {}
        Err(error) => panic!("nothing is damaged: {error}"),
    }
    do_damage(&mut log, damage);
    for mode in [RecoveryMode::Strict, RecoveryMode::Salvage] {
        match read(&mut log, mode) {
            Ok((image, _)) => image.records(&mut |_| {}),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn expected() -> Expected {
    Expected { generation: GENERATION, shard: 0, fault: PlantedFault::default() }
}

fn seal(mut records: &[u8]) -> Sealing {
    let mut log = Sealing::new(expected());
    let mut parts = 0;
    while let Some((kind, rest)) = records.split_first()
        && parts < PARTS_MAX
    {
        records = rest;
        parts += u32::from(matches!(kind, 0 | 255));
        match kind {
            0 => log.end_batch(),
            255 => log.begin_segment(),
            kind => {
                let Some((length, rest)) = records.split_first_chunk() else { break };
                let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
                let (body, rest) = rest.split_at(length);
                log.record(*kind, body);
                records = rest;
            }
        }
    }
    log.end_batch();
    log
}

/// Overwrites a byte, and maybe cuts or blanks a segment.
fn do_damage(log: &mut Sealing, damage: &[u8; 8]) {
    let [which, kind, byte, place @ ..] = *damage;
    let place = place.iter().fold(0, |place, byte| place << 8 | usize::from(*byte));
    let segments = log.segments();
    let count = segments.len();
    let segment = &mut segments[usize::from(which) % count];
    let place = place % (segment.len() + 1);
    match kind % 4 {
        0 => segment.get_mut(place).into_iter().for_each(|at| *at ^= byte),
        1 => segment.truncate(place),
        2 => segment[place..].fill(byte),
        _ => {
            let from = place / 4096 * 4096;
            let older = segment[from..].to_vec();
            segment.extend(older);
        }
    }
}

fn read(log: &mut dyn Segments, mode: RecoveryMode) -> Result<(Image, Recovered), RecoveryError> {
    let mut image = Image::default();
    let mut apply = |record: &Record<'_>, location: RecordLocation| {
        assert!(!dump_record(record, location, true).is_empty());
        let highest = match record {
            Record::Session(session) => session.next_number.max(session.sent_below).max(session.session.0.into()),
            Record::Delivered { number, .. }
            | Record::SentBelow { number, .. }
            | Record::Confirmed { number, .. }
            | Record::Completed { number, .. } => *number,
            _of_neither => 0,
        };
        if highest <= NUMBER_MAX {
            image.apply(record);
        }
    };
    let recovered = recover(log, expected(), mode, &mut |_| {}, &mut apply)?;
    image.forget_message_ids();
    Ok((image, recovered))
}

/// The image is the same after it was written and read, and a shard can go on from it.
fn check_image(image: &Image, end: LogEnd) {
    let config = LogConfig {
        generation: GENERATION,
        shard: 0,
        salt: 1,
        segment_bytes: 1 << 20,
        commit_delay: Duration::ZERO,
        is_synced: true,
        fault: PlantedFault::default(),
    };
    let mut written = Written::default();
    let mut log = Log::new(config, LogEnd::default());
    image.records(&mut |record| log.append(record));
    log.wait_for_appended();
    while let Some(write) = log.poll_write(Timestamp::from_nanos(u64::MAX / 2)) {
        let segments = &mut written.0;
        segments.resize(segments.len().max(write.segment.0 as usize), Vec::new());
        let segment = &mut segments[write.segment.0 as usize - 1];
        assert_eq!(segment.len() as u64, write.offset, "batches lie one behind the other");
        segment.extend_from_slice(&write.bytes);
        log.handle_written(write, Ok(()));
    }
    let (again, _) = read(&mut written, RecoveryMode::Strict).expect("what was written is read");
    assert!(*image == again, "{image:?}\n{again:?}");

    let shard = ShardConfig {
        id: ShardId::new(0).expect("the first shard"),
        shards: MAX_SHARDS as u16,
        seed: 1,
        limits: Limits::default(),
        service: Service::default(),
        report_interval: None,
        log: Some(config),
        fault: PlantedFault::default(),
    };
    let now = Timestamp::from_nanos(1 << 60);
    let mut shard = Shard::restore(shard, now, std::slice::from_ref(image), end);
    while shard.poll_lookups(now) {}
    shard.handle_timeout(now + Duration::from_secs(1));
}

/// The segments of a log, from 1 on.
#[derive(Default)]
struct Written(Vec<Vec<u8>>);

impl Segments for Written {
    fn numbers(&self) -> Vec<SegmentNumber> {
        (1..=self.0.len() as u64).map(SegmentNumber).collect()
    }

    fn read(&mut self, segment: SegmentNumber) -> std::io::Result<Vec<u8>> {
        Ok(self.0[segment.0 as usize - 1].clone())
    }
}
