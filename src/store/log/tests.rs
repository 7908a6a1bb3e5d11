use super::*;
use crate::route::Author;
use crate::store::RecoveryMode;
use crate::store::record::SessionId;
use crate::store::testing::{Disk, LATER, config, message, session};

const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000);

fn record() -> Record<'static> {
    Record::SessionEnded { session: SessionId(7) }
}

fn log(segment_bytes: u64) -> Log {
    Log::new(config(segment_bytes), LogEnd::default())
}

/// A record that fills so many blocks of its own.
fn blocks(count: usize) -> Record<'static> {
    Record::Retained { body: message(&"x".repeat(count * BLOCK_BYTES - 200)), author: Author(0) }
}

#[test]
fn a_log_that_is_off_takes_nothing_and_holds_nothing_up() {
    let mut log = Log::off();
    log.append(&record());
    assert!(!log.is_on() && log.is_idle());
    assert_eq!(log.wait_for_appended(), LogPosition::NOTHING);
    assert!(log.is_stable(log.appended()));
    assert!(log.poll_write(LATER).is_none());
    assert_eq!(log.next_timeout(), None);
    let newest = log.begin_segment();
    log.release_before(newest);
    assert_eq!(log.poll_obsolete(), None);
}

#[test]
fn while_one_batch_is_out_the_next_one_fills() {
    let mut log = log(1 << 20);
    assert_eq!(log.filling(), LogPosition(1));
    log.append(&record());
    assert_eq!(log.wait_for_appended(), LogPosition(1));
    let first = log.poll_write(NOW).expect("something waits for it");
    log.append(&record());
    log.append(&record());
    assert_eq!(log.wait_for_appended(), LogPosition(2));
    assert!(log.poll_write(NOW).is_none(), "one write is out at a time");
    assert_eq!(log.stable(), LogPosition::NOTHING);
    log.handle_written(first, Ok(()));
    assert_eq!(log.stable(), LogPosition(1));
    assert!(!log.is_stable(log.appended()));
    let second = log.poll_write(NOW).expect("it is the next one's turn");
    assert_eq!((second.segment, second.offset), (SegmentNumber(1), 2 * BLOCK_BYTES as u64));
    log.handle_written(second, Ok(()));
    assert_eq!(log.stable(), log.appended());
    assert_eq!(log.wait_for_appended(), LogPosition::NOTHING);
    assert_eq!(log.records(), 3);
    assert!(log.is_idle());
}

#[test]
fn writes_are_whole_blocks_and_the_first_begins_with_the_segment_header() {
    let mut log = log(1 << 20);
    log.append(&record());
    log.wait_for_appended();
    let write = log.poll_write(NOW).expect("something waits for it");
    assert!(write.opens_segment);
    assert_eq!((write.offset, write.bytes.len()), (0, 2 * BLOCK_BYTES));
    let header = SegmentHeader::decode(&write.bytes).expect("it is in front");
    assert_eq!((header.owner.segment, header.first_batch, header.synced_through), (SegmentNumber(1), 1, 0));
    let batch = BatchHeader::decode(&write.bytes[BLOCK_BYTES..]).expect("it is behind that");
    assert_eq!((batch.batch, batch.synced_through, batch.first_sequence, batch.records), (1, 0, 1, 1));
    assert_eq!(batch.sealed_at, NOW);
}

#[test]
fn only_what_is_on_stable_storage_is_said_to_be() {
    for (is_synced, synced_through) in [(true, 1), (false, 0)] {
        let mut log = Log::new(LogConfig { is_synced, ..config(1 << 20) }, LogEnd::default());
        Disk::default().append(&mut log, &[record()]);
        log.append(&record());
        log.wait_for_appended();
        let write = log.poll_write(NOW).expect("something waits for it");
        let batch = BatchHeader::decode(&write.bytes).expect("a batch");
        assert_eq!((batch.batch, batch.synced_through), (2, synced_through));
    }
}

#[test]
fn a_batch_waits_for_company_as_long_as_it_is_told_to() {
    let commit_delay = Duration::from_millis(3);
    let mut log = Log::new(LogConfig { commit_delay, ..config(1 << 20) }, LogEnd::default());
    assert_eq!(log.next_timeout(), None);
    log.append(&record());
    log.wait_for_appended();
    assert!(log.poll_write(NOW).is_none());
    assert_eq!(log.next_timeout(), Some(NOW + commit_delay));
    log.append(&record());
    assert!(log.poll_write(NOW + Duration::from_millis(2)).is_none());
    assert_eq!(log.next_timeout(), Some(NOW + commit_delay));
    let write = log.poll_write(NOW + commit_delay).expect("the delay is over");
    assert_eq!(log.next_timeout(), None);
    log.handle_written(write, Ok(()));
}

#[test]
fn a_batch_that_nobody_waits_for_goes_a_little_later() {
    let mut log = log(1 << 20);
    log.append(&record());
    assert!(log.poll_write(NOW).is_none());
    assert_eq!(log.next_timeout(), Some(NOW + UNAWAITED_DELAY));
    assert!(log.poll_write(NOW + UNAWAITED_DELAY).is_some());
}

#[test]
fn a_full_batch_waits_for_nobody() {
    let mut log = log(1 << 20);
    log.append(&blocks(FULL_BATCH_BYTES / BLOCK_BYTES + 1));
    assert!(log.filling_bytes() > FULL_BATCH_BYTES);
    assert!(log.poll_write(NOW).is_some());
}

#[test]
fn a_new_segment_begins_when_a_batch_does_not_fit() {
    let mut log = log(4 * BLOCK_BYTES as u64);
    let mut disk = Disk::default();
    disk.append(&mut log, &[blocks(2)]);
    disk.append(&mut log, &[record()]);
    disk.append(&mut log, &[record()]);
    disk.append(&mut log, &[blocks(9)]);
    disk.append(&mut log, &[record()]);
    let lengths: Vec<_> = disk.segments.iter().map(|(segment, bytes)| (segment.0, bytes.len() / BLOCK_BYTES)).collect();
    assert_eq!(lengths, [(1, 4), (2, 2), (3, 10), (4, 2)]);
    assert_eq!(log.bytes(), 18 * BLOCK_BYTES as u64);
}

#[test]
fn a_segment_is_obsolete_when_what_replaces_it_is_stable() {
    let mut log = log(1 << 20);
    let mut disk = Disk::default();
    disk.append(&mut log, &[record()]);
    let checkpoint = log.begin_segment();
    assert_eq!((checkpoint, log.begin_segment()), (SegmentNumber(2), SegmentNumber(2)));
    disk.append(&mut log, &[record()]);
    log.append(&record());
    log.release_before(checkpoint);
    assert_eq!(log.poll_obsolete(), None, "the end of the checkpoint is not stable");
    log.wait_for_appended();
    let write = log.poll_write(NOW).expect("something waits for it");
    assert_eq!((write.segment, write.opens_segment), (SegmentNumber(2), false));
    assert_eq!(log.poll_obsolete(), None, "the end of the checkpoint is not stable");
    let before = log.bytes();
    log.handle_written(write, Ok(()));
    assert_eq!(before - log.bytes(), 2 * BLOCK_BYTES as u64, "what may go counts no more");
    assert_eq!(log.poll_obsolete(), Some(SegmentNumber(1)));
    assert_eq!(log.poll_obsolete(), None);
}

#[test]
fn a_failed_write_latches_the_log() {
    let mut log = log(1 << 20);
    log.append(&record());
    let position = log.wait_for_appended();
    let write = log.poll_write(NOW).expect("something waits for it");
    log.append(&record());
    let next = log.wait_for_appended();
    log.handle_written(write, Err(LogFailure::NoSpace));
    assert_eq!(log.failure(), Some(LogFailure::NoSpace));
    for _ in 0..1_000 {
        log.append(&record());
    }
    assert_eq!(log.filling_bytes(), 0, "what can't be written is not kept");
    assert!(log.poll_write(LATER).is_none() && log.next_timeout().is_none() && log.is_idle());
    assert!(!log.is_stable(position) && !log.is_stable(next) && !log.is_stable(log.appended()));
    assert_ne!(log.wait_for_appended(), LogPosition::NOTHING);
    let newest = log.begin_segment();
    log.release_before(newest);
    assert_eq!(log.poll_obsolete(), None);
}

#[test]
fn the_log_goes_on_behind_its_end_in_a_new_segment() {
    let mut disk = Disk::default();
    let mut first = log(1 << 20);
    disk.append(&mut first, &[session(1, "one"), record()]);
    disk.append(&mut first, &[session(2, "two")]);
    let (_, recovered) = disk.recover(RecoveryMode::Strict).expect("it is sound");
    assert_eq!((recovered.end.batch, recovered.end.record), (LogPosition(2), 3));
    let mut second = Log::new(LogConfig { salt: 1, ..config(1 << 20) }, recovered.end);
    assert_eq!(second.stable(), LogPosition(2));
    assert_eq!(second.bytes(), first.bytes());
    disk.append(&mut second, &[session(3, "three")]);
    let (image, recovered) = disk.recover(RecoveryMode::Strict).expect("it is sound");
    assert_eq!(image.sessions.len(), 3);
    assert_eq!((recovered.end.batch, recovered.end.record), (LogPosition(3), 4));
    assert_eq!(recovered.end.segments.len(), 2);
}

#[test]
fn buffers_are_used_again() {
    let mut log = log(1 << 20);
    let mut capacities = Vec::new();
    for _ in 0..6 {
        log.append(&record());
        log.wait_for_appended();
        let write = log.poll_write(NOW).expect("something waits for it");
        capacities.push((write.bytes.as_ptr(), write.bytes.capacity()));
        log.handle_written(write, Ok(()));
    }
    capacities.drain(..2);
    capacities.sort_unstable();
    capacities.dedup();
    assert!(capacities.len() <= 2, "two buffers take turns: {capacities:?}");
}
