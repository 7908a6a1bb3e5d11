//! From an image that leaves deliveries in the log to one that holds them.
//!
//! A broker that goes on with its log needs only those that may be in flight, and those before them: the rest it reads when
//! it delivers them. Where a log is to be written anew, all have to be there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::format::Flaw;
use super::image::{DeliveryImage, Image, SessionImage};
use super::log::{LogEnd, LogPosition, SegmentNumber};
use super::reading::{Batch, DamagedBatch, LogRead};
use super::record::DeliveryNumber;
use super::recovery::{Expected, RecoveryError, Segments};

/// Which deliveries the image is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recall {
    /// All that may have been sent, and whatever else does not wait at the end of a queue.
    InFlight,
    /// All.
    Whole,
}

/// Reads deliveries back that an image has left in the log it was read from.
///
/// # Errors
/// A segment that can't be read; damage, if the log has changed since.
pub fn recall(
    image: &mut Image,
    which: Recall,
    source: &mut dyn Segments,
    expected: Expected,
    end: &LogEnd,
) -> Result<(), RecoveryError> {
    let below = image.recalled_below(which);
    let mut missing = image.missing_below(&below);
    let oldest = end.places.oldest().unwrap_or_default();
    let mut loaded: Option<(SegmentNumber, Vec<u8>)> = None;
    for batches in wanted(image, &below) {
        // A run may begin before the log does: what lay there has been moved.
        let mut next = *batches.start().max(&oldest);
        while next <= *batches.end() && missing > 0 {
            let stretch = end.places.locate(next).ok_or_else(|| cut_off(SegmentNumber::default(), 0))?;
            let cut_off = || cut_off(stretch.segment, stretch.offset);
            if loaded.as_ref().is_none_or(|(segment, _)| *segment != stretch.segment) {
                let read = source.read(stretch.segment);
                let bytes = read.map_err(|error| RecoveryError::Read { segment: stretch.segment, error })?;
                loaded = Some((stretch.segment, bytes));
            }
            let (_, segment) = loaded.as_ref().expect("loaded above");
            let (start, bytes) = (stretch.offset as usize, stretch.bytes_max as usize);
            let rest = segment.get(start..).and_then(|rest| rest.get(..bytes)).ok_or_else(cut_off)?;
            let read = LogRead { segment: stretch.segment, offset: stretch.offset, bytes, first: stretch.first };
            let mut through = None;
            for batch in read.batches(rest, expected.generation, expected.shard) {
                let batch = batch.map_err(damage)?;
                through = Some(batch.number);
                if batch.number > *batches.end() || missing == 0 {
                    break;
                }
                if batch.number >= next {
                    missing -= image.take_back(&batch, &below).map_err(damage)?;
                }
            }
            let through = through.filter(|through| *through >= next).ok_or_else(cut_off)?;
            next = LogPosition(through.0 + 1);
        }
    }
    if missing > 0 {
        let (segment, offset) = (end.segments.last().map_or(SegmentNumber::default(), |(segment, _)| *segment), 0);
        return Err(RecoveryError::Damage { segment, offset, reason: Flaw::MissingDelivery });
    }
    Ok(())
}

/// The batches in which the deliveries may lie that are to be recalled, without overlaps.
fn wanted(image: &Image, below: &BTreeMap<u32, DeliveryNumber>) -> Vec<RangeInclusive<LogPosition>> {
    let mut wanted: Vec<RangeInclusive<LogPosition>> = Vec::new();
    for (id, session) in &image.sessions {
        let below = below.get(id).copied().unwrap_or(0);
        let runs = session.logged.runs().take_while(|(numbers, _)| numbers.start < below);
        wanted.extend(runs.map(|(_, batches)| batches));
    }
    wanted.sort_unstable_by_key(|batches| *batches.start());
    let mut merged: Vec<RangeInclusive<LogPosition>> = Vec::new();
    for batches in wanted {
        match merged.last_mut() {
            Some(last) if *batches.start() <= *last.end() => {
                *last = *last.start()..=*last.end().max(batches.end());
            }
            Some(_) | None => merged.push(batches),
        }
    }
    merged
}

/// The log ends before what it said.
fn cut_off(segment: SegmentNumber, offset: u64) -> RecoveryError {
    RecoveryError::Damage { segment, offset, reason: Flaw::EndOfFile }
}

fn damage(batch: DamagedBatch) -> RecoveryError {
    let DamagedBatch { segment, offset, reason } = batch;
    RecoveryError::Damage { segment, offset, reason }
}

impl Image {
    /// For each session the number below which its deliveries are to be held.
    fn recalled_below(&self, which: Recall) -> BTreeMap<u32, DeliveryNumber> {
        let below = |(id, session): (&u32, &SessionImage)| match which {
            Recall::InFlight => (*id, session.held_below()),
            Recall::Whole => (*id, DeliveryNumber::MAX),
        };
        self.sessions.iter().filter(|(_, session)| !session.logged.is_empty()).map(below).collect()
    }

    /// How many deliveries with numbers below these are not held.
    fn missing_below(&self, below: &BTreeMap<u32, DeliveryNumber>) -> u64 {
        let missing = |(id, below): (&u32, &DeliveryNumber)| {
            let runs = self.sessions.get(id).into_iter().flat_map(|session| session.logged.runs());
            runs.map(|(numbers, _)| numbers.end.min(*below).saturating_sub(numbers.start)).sum::<u64>()
        };
        below.iter().map(missing).sum()
    }

    /// Takes the deliveries of one batch back, and says how many.
    fn take_back(&mut self, batch: &Batch<'_>, below: &BTreeMap<u32, DeliveryNumber>) -> Result<u64, DamagedBatch> {
        let (mut last, mut taken) = (None, 0);
        batch.deliveries(&mut |delivery| {
            let id = delivery.session.0;
            let is_wanted = below.get(&id).is_some_and(|below| delivery.number < *below);
            let Some(session) = self.sessions.get_mut(&id).filter(|_| is_wanted) else { return };
            if !session.logged.may_lie_in(delivery.number, batch.number) {
                return;
            }
            let message = match last.take() {
                Some((index, message)) if index == delivery.body_index => message,
                Some(_) | None => delivery.body.to_message(),
            };
            let open = DeliveryImage::Open { message: message.clone(), terms: delivery.terms.clone() };
            session.logged.remove(delivery.number);
            session.set_delivery(delivery.number, open);
            last = Some((delivery.body_index, message));
            taken += 1;
        })?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::log::Log;
    use crate::store::record::{MessageId, Record, SessionId};
    use crate::store::recovery::{RecoveryMode, recover};
    use crate::store::testing::{Disk, config, expected, message, session, terms};

    /// A log with a hundred messages for each of two sessions, of which the first few have been sent and the fourth is over.
    fn disk() -> Disk {
        let (mut disk, mut log) = (Disk::default(), Log::new(config(1 << 14), LogEnd::default()));
        disk.append(&mut log, &[session(1, "one"), session(2, "two")]);
        for number in 0..100 {
            let mut records = vec![Record::Message { message: MessageId(0), body: message(&format!("{number}")) }];
            records.extend([1, 2].map(|session| Record::Delivered {
                session: SessionId(session),
                number,
                message: MessageId(0),
                terms: Cow::Owned(terms()),
            }));
            disk.append(&mut log, &records);
        }
        for session in [1, 2].map(SessionId) {
            let over = Record::Completed { session, number: 3 };
            disk.append(&mut log, &[Record::SentBelow { session, number: 7 }, over]);
        }
        disk
    }

    fn read(disk: &mut Disk, mut image: Image) -> (Image, LogEnd) {
        let recovered = recover(disk, expected(), RecoveryMode::Strict, &mut |_| {}, &mut |record, location| {
            image.apply_from(record, location.batch);
        });
        (image, recovered.expect("an intact log").end)
    }

    #[test]
    fn what_is_in_flight_is_held_and_the_rest_stays_in_the_log() {
        let mut disk = disk();
        let (whole, _) = read(&mut disk, Image::default());
        for held_bytes_max in [0, 1_000, 10_000, 100_000] {
            let (mut image, end) = read(&mut disk, Image::within(held_bytes_max));
            recall(&mut image, Recall::InFlight, &mut disk, expected(), &end).expect("an intact log");
            for session in image.sessions.values() {
                assert!(session.first_number == 0 && session.deliveries.len() >= 7 && session.deliveries[3].is_none());
                assert_eq!(session.open_deliveries(), 99);
                let (held, left) = (session.deliveries.len() as u64, session.logged.count());
                assert_eq!((held + left, session.logged.contiguous_before(100)), (100, held));
            }
            recall(&mut image, Recall::Whole, &mut disk, expected(), &end).expect("an intact log");
            assert_eq!(image, whole);
        }
    }

    #[test]
    fn a_log_that_has_changed_since_is_damaged() {
        let mut disk = disk();
        let (image, end) = read(&mut disk, Image::within(0));
        for bytes in disk.segments.values_mut() {
            bytes[4096 + 100] ^= 1;
        }
        let read = recall(&mut image.clone(), Recall::Whole, &mut disk, expected(), &end);
        assert!(matches!(read, Err(RecoveryError::Damage { .. })), "{read:?}");
        disk.segments.values_mut().for_each(|bytes| bytes.truncate(4096));
        let read = recall(&mut image.clone(), Recall::Whole, &mut disk, expected(), &end);
        assert!(matches!(read, Err(RecoveryError::Damage { .. })), "{read:?}");
    }
}
