use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::route::Author;
use crate::store::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, RECORD_HEADER_BYTES};
use crate::store::log::{Log, LogConfig};
use crate::store::record::{MessageId, MessageRecord, SessionId};
use crate::store::testing::{Disk, any_record, config, expected, message, session, terms};
use crate::store::{Image, RecoveryMode};

const SEGMENT_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// A log, and the image after each of its batches; the first one is that of no batch.
struct History {
    disk: Disk,
    images: Vec<Image>,
    /// Where each batch begins, in the order of their numbers.
    places: Vec<(SegmentNumber, usize)>,
    log: Log,
}

impl History {
    fn new(config: LogConfig, batches: &[Vec<Record<'_>>]) -> Self {
        let log = Log::new(config, LogEnd::default());
        let mut history = Self { disk: Disk::default(), images: vec![Image::default()], places: Vec::new(), log };
        for records in batches {
            history.append(records);
        }
        history
    }

    fn append(&mut self, records: &[Record<'_>]) {
        let lengths = self.disk.clone();
        self.disk.append(&mut self.log, records);
        let mut image = self.images.last().expect("there is a first one").clone();
        for record in records {
            image.apply(record);
        }
        self.images.push(image);
        let segment = *self.disk.segments.last_key_value().expect("it was written").0;
        let offset = lengths.segments.get(&segment).map_or(BLOCK_BYTES, Vec::len);
        self.places.push((segment, offset));
    }

    /// Recovers, and says how many batches are there; the image must be the one after them.
    fn batches(&self, disk: &mut Disk) -> Result<(usize, Recovered), RecoveryError> {
        let (image, recovered) = disk.recover(RecoveryMode::Strict)?;
        let batches = recovered.end.batch.0 as usize;
        assert_eq!(recovered.batches, recovered.end.batch.0);
        assert_eq!(image, self.images[batches], "the image is the one that was written with batch {batches}");
        Ok((batches, recovered))
    }

    /// The batch, without its padding.
    fn batch_bytes(&self, batch: usize) -> std::ops::Range<usize> {
        let (segment, offset) = self.places[batch];
        let header = BatchHeader::decode(&self.disk.segments[&segment][offset..]).expect("it was written");
        offset..offset + header.length as usize
    }
}

/// Five batches in two segments of three and two; each changes the image.
fn history() -> History {
    let published = |number: u64, name: &str| {
        vec![
            Record::Message { message: MessageId(number as u32), body: message(name) },
            Record::Delivered {
                session: SessionId(1),
                number,
                message: MessageId(number as u32),
                terms: Cow::Owned(terms()),
            },
        ]
    };
    History::new(
        config(SEGMENT_BYTES),
        &[
            vec![session(1, "one")],
            published(0, "first"),
            published(1, "second"),
            vec![Record::Completed { session: SessionId(1), number: 0 }],
            published(2, "third"),
        ],
    )
}

fn damage(disk: &mut Disk) -> (SegmentNumber, u64, Flaw) {
    match disk.recover(RecoveryMode::Strict) {
        Err(RecoveryError::Damage { segment, offset, reason }) => (segment, offset, reason),
        other => panic!("not reported as damage: {other:?}"),
    }
}

#[test]
fn a_whole_log_is_read_whole() {
    let history = history();
    let (batches, recovered) = history.batches(&mut history.disk.clone()).expect("it is sound");
    assert_eq!((batches, recovered.records, recovered.end.record), (5, 8, 8));
    assert_eq!((recovered.torn, recovered.lost), (None, Vec::new()));
    let lengths = [(SegmentNumber(1), SEGMENT_BYTES), (SegmentNumber(2), 3 * BLOCK_BYTES as u64)];
    assert_eq!(recovered.end.segments, lengths);
    assert_eq!(recovered.bytes, 5 * BLOCK_BYTES as u64);
}

#[test]
fn no_segments_are_an_empty_log() {
    let (image, recovered) = Disk::default().recover(RecoveryMode::Strict).expect("there is nothing to refuse");
    assert_eq!((image, recovered), (Image::default(), Recovered::default()));
}

#[test]
fn a_log_that_is_cut_anywhere_recovers_to_what_was_written_before() {
    let history = history();
    for keep in [1, 2] {
        let segment = SegmentNumber(keep);
        let whole = history.disk.segments[&segment].len();
        for length in 0..=whole {
            let mut disk = history.disk.clone();
            disk.segments.retain(|number, _| *number <= segment);
            disk.segments.get_mut(&segment).expect("it is kept").truncate(length);
            let (batches, recovered) = history.batches(&mut disk).expect("a cut is no damage");
            let before = if keep == 1 { 0 } else { 3 };
            assert_eq!(batches, before + (length / BLOCK_BYTES).saturating_sub(1));
            // Padding that is missing is the rest of the batch's last block, and so the batch is torn too.
            assert_eq!(recovered.torn.is_some(), length % BLOCK_BYTES != 0, "cut at {length}");
        }
    }
}

#[test]
fn a_cut_log_goes_on_and_is_sound_again() {
    for truncates in [true, false] {
        let mut history = history();
        let (segment, offset) = history.places[4];
        history.disk.segments.get_mut(&segment).expect("it is there")[offset + 100..].fill(0);
        let mut disk = history.disk.clone();
        let (batches, recovered) = history.batches(&mut disk).expect("a torn tail is no damage");
        assert_eq!(batches, 4);
        let torn = recovered.torn.expect("it is reported");
        assert_eq!((torn.segment, torn.offset), (segment, offset as u64));
        assert!((BATCH_HEADER_BYTES as u64..=100).contains(&torn.bytes));
        if truncates {
            disk.truncate(&recovered.end);
        }
        let mut log = Log::new(LogConfig { salt: 77, ..config(SEGMENT_BYTES) }, recovered.end);
        disk.append(&mut log, &[session(9, "nine")]);
        let (image, recovered) = disk.recover(RecoveryMode::Strict).expect("it is sound");
        let mut expected = history.images[4].clone();
        expected.apply(&session(9, "nine"));
        assert_eq!(image, expected);
        assert_eq!((recovered.batches, recovered.torn), (5, None));
    }
}

#[test]
fn every_bit_that_flips_before_the_tail_is_damage() {
    let history = history();
    for (&segment, bytes) in &history.disk.segments {
        let mut disk = history.disk.clone();
        for bit in 0..bytes.len() * 8 {
            // The last batch is the tail.
            if (segment, bit / 8) >= (history.places[4].0, history.places[4].1) {
                break;
            }
            disk.segments.get_mut(&segment).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
            let (found, _, reason) = damage(&mut disk);
            assert_eq!(found, segment, "bit {bit}: {reason}");
            disk.segments.get_mut(&segment).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_bit_that_flips_in_the_tail_cuts_it() {
    let history = history();
    let (segment, offset) = history.places[4];
    let mut disk = history.disk.clone();
    for bit in offset * 8..(offset + BLOCK_BYTES) * 8 {
        disk.segments.get_mut(&segment).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(history.batches(&mut disk).expect("nobody knows that it was there").0, 4);
        disk.segments.get_mut(&segment).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_batch_that_is_there_in_part_does_not_count() {
    let mut history = history();
    let long = "x".repeat(4 * BLOCK_BYTES);
    let records =
        [session(2, "two"), Record::Retained { body: message(&long), author: Author(0) }, session(3, "three")];
    history.append(&records);
    let (segment, offset) = history.places[5];
    let whole = history.disk.segments[&segment].clone();
    let sectors = (whole.len() - offset) / 512;
    // What lies there instead: zeroes that were written ahead, or an older batch in the same place.
    let older = {
        let mut other = Log::new(LogConfig { salt: 1, ..config(SEGMENT_BYTES) }, LogEnd::default());
        let mut disk = Disk::default();
        for _ in 0..whole.len() / BLOCK_BYTES {
            disk.append(&mut other, &[Record::Retained { body: message(&long), author: Author(0) }]);
        }
        disk.segments.into_values().flatten().take(whole.len()).collect::<Vec<_>>()
    };
    for before in [vec![0; whole.len()], older] {
        for lost in 0..sectors {
            for also_lost in lost..sectors {
                let mut bytes = whole.clone();
                for sector in [lost, also_lost] {
                    let range = offset + sector * 512..offset + (sector + 1) * 512;
                    bytes[range.clone()].copy_from_slice(&before[range]);
                }
                let is_whole = bytes == whole;
                let mut disk = history.disk.clone();
                disk.segments.insert(segment, bytes);
                let (batches, _) = history.batches(&mut disk).expect("an unfinished write is no damage");
                assert_eq!(batches, if is_whole { 6 } else { 5 }, "sectors {lost} and {also_lost}");
            }
        }
    }
}

#[test]
fn blocks_in_another_order_do_not_count() {
    let mut history = history();
    history.append(&[Record::Retained { body: message(&"y".repeat(3 * BLOCK_BYTES)), author: Author(0) }]);
    let (segment, offset) = history.places[5];
    let blocks = (history.disk.segments[&segment].len() - offset) / BLOCK_BYTES;
    for one in 0..blocks {
        for other in one + 1..blocks {
            let mut disk = history.disk.clone();
            let bytes = disk.segments.get_mut(&segment).expect("it is there");
            let (front, back) = bytes.split_at_mut(offset + other * BLOCK_BYTES);
            front[offset + one * BLOCK_BYTES..][..BLOCK_BYTES].swap_with_slice(&mut back[..BLOCK_BYTES]);
            let expected = if disk == history.disk { 6 } else { 5 };
            assert_eq!(history.batches(&mut disk).expect("an unfinished write is no damage").0, expected);
        }
    }
}

#[test]
fn what_an_older_use_of_the_file_has_left_is_the_end() {
    let history = history();
    let mut disk = history.disk.clone();
    // Segment 2 was written over segment 1 of the same run, and segment 3 was made ahead from it.
    let old = history.disk.segments[&SegmentNumber(1)].clone();
    let mut recycled = history.disk.segments[&SegmentNumber(2)].clone();
    recycled.extend_from_slice(&old[recycled.len()..]);
    disk.segments.insert(SegmentNumber(2), recycled);
    disk.segments.insert(SegmentNumber(3), old);
    disk.segments.insert(SegmentNumber(4), vec![0; SEGMENT_BYTES as usize]);
    disk.segments.insert(SegmentNumber(5), Vec::new());
    let (batches, recovered) = history.batches(&mut disk).expect("that is no damage");
    assert_eq!((batches, recovered.torn), (5, None));
    let lengths: Vec<_> = recovered.end.segments.iter().map(|(_, length)| *length / BLOCK_BYTES as u64).collect();
    assert_eq!(lengths, [4, 3, 0, 0, 0]);
}

#[test]
fn a_payload_that_looks_like_a_batch_is_a_payload() {
    let mut history = history();
    // What a client sends that knows everything but the salt.
    let end = LogEnd { segments: vec![(SegmentNumber(2), 0)], ..LogEnd::default() };
    let mut forger = Log::new(LogConfig { salt: 1, ..config(1 << 20) }, end);
    let mut forged = Disk::default();
    for _ in 0..20 {
        forged.append(&mut forger, &[session(66, "mallory")]);
    }
    let (segment, offset) = (SegmentNumber(3), BLOCK_BYTES);
    let mut body = message("");
    let record_bytes = |body: &MessageRecord<'_>| BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + 19 + body.topic.len();
    let aligned = BLOCK_BYTES - record_bytes(&body);
    body.payload = [&vec![0; aligned], &forged.segments[&SegmentNumber(3)][..]].concat().into();
    history.append(&[Record::Retained { body, author: Author(0) }]);
    assert_eq!(history.places[5], (segment, offset));
    let forged = &history.disk.segments[&segment][offset + 2 * BLOCK_BYTES..];
    assert_eq!(BatchHeader::decode(forged).map(|header| header.batch), Ok(1), "the payload lies as it was meant to");
    for length in (offset..history.disk.segments[&segment].len()).step_by(BLOCK_BYTES) {
        let mut disk = history.disk.clone();
        let bytes = disk.segments.get_mut(&segment).expect("it is there");
        bytes.truncate(length);
        assert_eq!(history.batches(&mut disk).expect("nothing of it is a batch").0, 5);
    }
    let mut disk = history.disk.clone();
    disk.segments.get_mut(&segment).expect("it is there")[offset..offset + BLOCK_BYTES].fill(0);
    assert_eq!(history.batches(&mut disk).expect("nothing of it is a batch").0, 5);
}

#[test]
fn a_batch_that_was_not_synced_may_be_missing_before_one_that_is_there() {
    let mut history = History::new(LogConfig { is_synced: false, ..config(SEGMENT_BYTES) }, &[]);
    for id in 0..5 {
        history.append(&[session(id, "client")]);
    }
    for missing in 0..5 {
        let mut disk = history.disk.clone();
        let (segment, offset) = history.places[missing];
        disk.segments.get_mut(&segment).expect("it is there")[offset..offset + BLOCK_BYTES].fill(0);
        let (batches, recovered) = history.batches(&mut disk).expect("nobody was promised that it stays");
        assert_eq!(batches, missing);
        assert_eq!(recovered.torn.is_some(), missing != 4);
        // What is cut has to stay cut.
        disk.truncate(&recovered.end);
        let mut log = Log::new(LogConfig { salt: 2, ..config(SEGMENT_BYTES) }, recovered.end);
        disk.append(&mut log, &[session(9, "nine")]);
        let (image, recovered) = disk.recover(RecoveryMode::Strict).expect("it is sound");
        assert_eq!(recovered.end.batch.0 as usize, missing + 1);
        assert!(image.sessions.contains_key(&9));
    }
}

#[test]
fn segments_that_were_cleaned_are_not_missed() {
    let mut history = history();
    history.log.begin_segment();
    for (id, client_id) in [(1, "one"), (2, "two")] {
        history.append(&[Record::SessionEnded { session: SessionId(id) }, session(id, client_id)]);
    }
    let mut disk = history.disk.clone();
    disk.segments.retain(|segment, _| *segment > SegmentNumber(2));
    let (image, recovered) = disk.recover(RecoveryMode::Strict).expect("what is missing was given up");
    assert_eq!((recovered.end.batch.0, recovered.batches, recovered.end.record), (7, 2, 12));
    assert_eq!(image.sessions.len(), 2);
}

#[test]
fn a_segment_that_is_missing_elsewhere_is_damage() {
    let mut history = history();
    history.log.begin_segment();
    history.append(&[session(2, "two")]);
    let mut disk = history.disk.clone();
    disk.segments.remove(&SegmentNumber(2));
    let reason = Flaw::MissingBatches { found: 6, expected: 4 };
    assert_eq!(damage(&mut disk), (SegmentNumber(3), 0, reason));
    let (_, recovered) = disk.recover(RecoveryMode::Salvage).expect("the rest is sound");
    let loss = Loss { segment: SegmentNumber(3), from: 0, to: BLOCK_BYTES as u64, batches: 2, records: 3, reason };
    assert_eq!(recovered.lost, [loss]);
    assert_eq!((recovered.end.batch.0, recovered.batches), (6, 4));
}

#[test]
fn the_only_segment_of_a_cleaned_log_is_not_torn_from_its_beginning() {
    let history = history();
    let mut disk = history.disk.clone();
    disk.segments.remove(&SegmentNumber(1));
    for offset in [0, BLOCK_BYTES] {
        let mut disk = disk.clone();
        disk.segments.get_mut(&SegmentNumber(2)).expect("it is there")[offset..].fill(0);
        assert_eq!(damage(&mut disk).0, SegmentNumber(2));
    }
}

/// Found by the simulator (seed 8927): with the magic of that batch damaged, the segment passed for one without batches.
#[test]
fn the_only_batch_of_the_oldest_segment_is_missed() {
    let mut history = history();
    for (id, client_id) in [(1, "one"), (2, "two")] {
        history.log.begin_segment();
        history.append(&[session(id, client_id)]);
    }
    let mut disk = history.disk.clone();
    disk.segments.retain(|segment, _| *segment > SegmentNumber(2));
    disk.segments.get_mut(&SegmentNumber(3)).expect("it is there")[BLOCK_BYTES + 3] ^= 8;
    assert_eq!(damage(&mut disk).0, SegmentNumber(3));
}

/// Found by the simulator (seed 612): the oldest segment is one whose first write was torn, and cut off by a later start.
#[test]
fn the_oldest_segment_may_have_been_cut_to_nothing() {
    for left in [0, BLOCK_BYTES] {
        let mut history = history();
        history.log.begin_segment();
        history.append(&[session(1, "one")]);
        let mut disk = history.disk.clone();
        disk.segments.remove(&SegmentNumber(1));
        disk.segments.get_mut(&SegmentNumber(2)).expect("it is there").truncate(left);
        let (image, _) = disk.recover(RecoveryMode::Strict).expect("nothing is missing");
        assert_eq!(image.sessions.len(), 1);
    }
}

#[test]
fn the_first_write_of_a_log_may_be_torn() {
    let history = History::new(config(SEGMENT_BYTES), &[vec![session(1, "one")]]);
    for sector in 0..2 * BLOCK_BYTES / 512 {
        let mut disk = history.disk.clone();
        let bytes = disk.segments.get_mut(&SegmentNumber(1)).expect("it is there");
        let before = bytes.clone();
        bytes[sector * 512..(sector + 1) * 512].fill(0);
        let is_whole = *bytes == before;
        let (batches, recovered) = history.batches(&mut disk).expect("nobody was promised anything");
        assert_eq!(batches, usize::from(is_whole));
        // The batch lies in one sector; without it nothing is there that could be torn.
        let is_torn = sector == 0;
        assert_eq!(recovered.torn.is_some(), is_torn);
    }
}

#[test]
fn a_newer_version_is_refused_whatever_the_mode() {
    let history = history();
    for segment in [1, 2] {
        for mode in [RecoveryMode::Strict, RecoveryMode::Salvage] {
            let mut disk = history.disk.clone();
            let bytes = disk.segments.get_mut(&SegmentNumber(segment)).expect("it is there");
            bytes[8..10].copy_from_slice(&9_u16.to_le_bytes());
            let checksum = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
            let error = disk.recover(mode).expect_err("nobody knows what it says");
            assert_eq!(
                error.to_string(),
                format!("segment {segment} was written by a newer version of OnceMQ: format version 9, known is 1")
            );
        }
    }
}

#[test]
fn the_log_of_another_shard_is_refused() {
    let mut history = History::new(LogConfig { shard: 6, ..config(SEGMENT_BYTES) }, &[vec![session(1, "one")]]);
    assert_eq!(damage(&mut history.disk), (SegmentNumber(1), 0, Flaw::OtherLog));
}

#[test]
fn a_salvage_goes_on_behind_the_damage_and_says_what_was_lost() {
    let history = history();
    for (lost, records) in [(0, 1), (1, 2), (2, 2), (3, 1)] {
        let mut disk = history.disk.clone();
        let (segment, offset) = history.places[lost];
        disk.segments.get_mut(&segment).expect("it is there")[offset + BATCH_HEADER_BYTES + 20] ^= 1;
        let (_, recovered) = disk.recover(RecoveryMode::Salvage).expect("the rest is sound");
        let to = match lost {
            2 => SEGMENT_BYTES,
            _ => (offset + BLOCK_BYTES) as u64,
        };
        let reason = Flaw::RecordChecksum { record: 0 };
        let loss = Loss { segment, from: offset as u64, to, batches: 1, records, reason };
        assert_eq!(recovered.lost, [loss]);
        assert_eq!((recovered.batches, recovered.end.batch.0, recovered.end.record), (4, 5, 8));
    }
}

#[test]
fn a_salvage_reads_the_batches_behind_a_damaged_segment_header() {
    let history = history();
    for segment in [1, 2] {
        let mut disk = history.disk.clone();
        disk.segments.get_mut(&SegmentNumber(segment)).expect("it is there")[30] ^= 1;
        let (image, recovered) = disk.recover(RecoveryMode::Salvage).expect("the rest is sound");
        assert_eq!(image, history.images[5]);
        let lost: Vec<_> = recovered.lost.iter().map(|loss| (loss.segment.0, loss.from, loss.batches)).collect();
        assert_eq!(lost, [(segment, 0, 0)]);
    }
}

#[test]
fn progress_adds_up_to_what_was_read() {
    let history = history();
    let mut sum = 0;
    let mut disk = history.disk.clone();
    let recovered = recover(&mut disk, expected(), RecoveryMode::Strict, &mut |bytes| sum += bytes, &mut |_, _| {});
    assert_eq!(recovered.expect("it is sound").bytes, sum);
}

#[test]
fn records_are_located() {
    let history = history();
    let mut locations = Vec::new();
    let mut disk = history.disk.clone();
    recover(&mut disk, expected(), RecoveryMode::Strict, &mut |_| {}, &mut |_, location| locations.push(location))
        .expect("it is sound");
    assert_eq!(locations.len(), 8);
    assert_eq!(locations.iter().map(|location| location.sequence).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    for location in &locations {
        let batch = location.batch.0 as usize - 1;
        assert_eq!((location.segment, location.batch_offset as usize), history.places[batch]);
        assert!(location.bytes <= history.batch_bytes(batch).len());
    }
}

#[cfg(feature = "planted-faults")]
#[test]
fn the_planted_fault_believes_a_wrong_checksum() {
    use crate::fault::{Fault, PlantedFault};

    let history = history();
    let mut disk = history.disk.clone();
    let (segment, offset) = history.places[4];
    disk.segments.get_mut(&segment).expect("it is there")[offset + BATCH_HEADER_BYTES] ^= 1;
    let expected = Expected { fault: PlantedFault::plant(Fault::LogTailChecksumIgnored), ..expected() };
    let recovered = recover(&mut disk, expected, RecoveryMode::Strict, &mut |_| {}, &mut |_, _| {});
    assert_eq!(recovered.expect("it is believed").batches, 5);
}

proptest! {
    #[test]
    fn arbitrary_records_come_back(
        batches in prop::collection::vec(prop::collection::vec(any_record(), 1..6), 1..12),
        segment_blocks in 2..8_u64,
    ) {
        // Numbers that make no sense are ignored when they are applied, which is not what is asked here.
        let mut log = Log::new(config(segment_blocks * BLOCK_BYTES as u64), LogEnd::default());
        let mut disk = Disk::default();
        for records in &batches {
            disk.append(&mut log, records);
        }
        let mut read: BTreeMap<u64, Vec<Record<'static>>> = BTreeMap::new();
        let mut apply = |record: &Record<'_>, location: RecordLocation| {
            let known = batches[location.batch.0 as usize - 1][location.index as usize].clone();
            assert_eq!(*record, known);
            read.entry(location.batch.0).or_default().push(known);
        };
        recover(&mut disk, expected(), RecoveryMode::Strict, &mut |_| {}, &mut apply).expect("it is sound");
        prop_assert_eq!(read.into_values().collect::<Vec<_>>(), batches);
    }

    #[test]
    fn arbitrary_bytes_are_no_log(segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 0..3)) {
        for mode in [RecoveryMode::Strict, RecoveryMode::Salvage] {
            let segments = (1..).map(SegmentNumber).zip(segments.iter().cloned()).collect();
            if let Ok((image, recovered)) = (Disk { segments }).recover(mode) {
                prop_assert_eq!((image, recovered.batches), (Image::default(), 0));
            }
        }
    }

    #[test]
    fn a_mutated_log_is_a_prefix_or_damage(
        changes in prop::collection::vec((1..3_u64, 0..16_384_usize, any::<u8>()), 1..12),
        cut in prop::option::of((1..3_u64, 0..16_384_usize)),
        swapped in prop::option::of((0..4_usize, 0..4_usize)),
    ) {
        let history = history();
        let mut disk = history.disk.clone();
        for (segment, at, value) in changes {
            if let Some(byte) = disk.segments.get_mut(&SegmentNumber(segment)).and_then(|bytes| bytes.get_mut(at)) {
                *byte = value;
            }
        }
        if let Some((one, other)) = swapped {
            let bytes = disk.segments.get_mut(&SegmentNumber(1)).expect("it is there");
            let block = bytes[one * BLOCK_BYTES..][..BLOCK_BYTES].to_vec();
            bytes.copy_within(other * BLOCK_BYTES..(other + 1) * BLOCK_BYTES, one * BLOCK_BYTES);
            bytes[other * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(&block);
        }
        if let Some((segment, length)) = cut {
            disk.segments.get_mut(&SegmentNumber(segment)).expect("it is there").truncate(length);
        }
        match history.batches(&mut disk) {
            Ok(_) | Err(RecoveryError::Damage { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
        disk.recover(RecoveryMode::Salvage).expect("a salvage takes what there is");
    }
}
