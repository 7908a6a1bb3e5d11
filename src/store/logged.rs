//! Deliveries of one session that only the log holds: their numbers, and where they lie.
//!
//! What is kept is not one entry for each delivery but one for each *run*: numbers that follow each other and lie in batches
//! that are near each other, in the same order. A session that is away while messages stream in has one run, whatever its
//! length; a checkpoint that moves deliveries to the log's end moves them from the front of one run to the end of another.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use super::log::LogPosition;
use super::record::DeliveryNumber;

/// Batches without a delivery of the session that a run may span: to read past them costs less than to start anew.
const GAP_BATCHES_MAX: u64 = 16;

/// Which deliveries only the log holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoggedDeliveries {
    /// By their first number; they do not overlap.
    runs: BTreeMap<DeliveryNumber, Run>,
    count: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    count: u64,
    /// Of the messages, spread evenly when a run is cut.
    bytes: u64,
    first: LogPosition,
    last: LogPosition,
}

impl LoggedDeliveries {
    /// The delivery with this number lies in this batch, wherever it lay before.
    pub fn insert(&mut self, number: DeliveryNumber, batch: LogPosition, bytes: u64) {
        self.remove(number);
        self.count += 1;
        self.bytes += bytes;
        if let Some((first, run)) = self.runs.range_mut(..number).next_back()
            && first + run.count == number
            && (run.last..=LogPosition(run.last.0.saturating_add(GAP_BATCHES_MAX))).contains(&batch)
        {
            run.count += 1;
            run.bytes += bytes;
            run.last = batch;
            return;
        }
        self.runs.insert(number, Run { count: 1, bytes, first: batch, last: batch });
    }

    /// The delivery is over or held elsewhere; whether it was here.
    pub fn remove(&mut self, number: DeliveryNumber) -> bool {
        let Some((&first, &run)) = self.runs.range(..=number).next_back() else { return false };
        let before = number - first;
        if before >= run.count {
            return false;
        }
        let each = run.bytes / run.count;
        let behind = run.count - before - 1;
        if before == 0 {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, Run { count: before, bytes: each * before, ..run });
        }
        if behind > 0 {
            self.runs.insert(number + 1, Run { count: behind, bytes: each * behind, ..run });
        }
        self.count -= 1;
        self.bytes -= run.bytes - each * (before + behind);
        true
    }

    /// As [`remove`](Self::remove), of the first delivery, which was found in this batch: those behind it do not lie before
    /// it.
    pub fn remove_first(&mut self, number: DeliveryNumber, batch: LogPosition) {
        assert!(self.first().is_some_and(|(first, _)| first == number), "deliveries come back in their order");
        let run_end = self.runs.first_key_value().map(|(first, run)| first + run.count);
        self.remove(number);
        if let Some((first, run)) = self.runs.iter_mut().next()
            && Some(first + run.count) == run_end
        {
            run.first = run.first.max(batch);
        }
    }

    /// The first delivery does not lie before this batch. Whether it may lie there or behind.
    pub fn not_before(&mut self, batch: LogPosition) -> bool {
        let Some((_, run)) = self.runs.iter_mut().next() else { return true };
        run.first = run.first.max(batch);
        run.first <= run.last
    }

    /// Whether the delivery with this number is one of these and may lie in this batch.
    pub fn may_lie_in(&self, number: DeliveryNumber, batch: LogPosition) -> bool {
        let Some((first, run)) = self.runs.range(..=number).next_back() else { return false };
        number - first < run.count && (run.first..=run.last).contains(&batch)
    }

    /// The first delivery, and the first batch in which it may lie.
    pub fn first(&self) -> Option<(DeliveryNumber, LogPosition)> {
        self.runs.first_key_value().map(|(first, run)| (*first, run.first))
    }

    /// The runs: numbers, and the batches in which they lie.
    pub fn runs(&self) -> impl Iterator<Item = (Range<DeliveryNumber>, RangeInclusive<LogPosition>)> {
        self.runs.iter().map(|(first, run)| (*first..first + run.count, run.first..=run.last))
    }

    /// The first number from which on these deliveries go without a gap up to `end`; `end` if none ends there.
    pub fn contiguous_before(&self, end: DeliveryNumber) -> DeliveryNumber {
        let mut start = end;
        for (first, run) in self.runs.range(..end).rev() {
            if first + run.count < start {
                break;
            }
            start = *first;
        }
        start
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Length of their messages together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn runs(deliveries: &LoggedDeliveries) -> Vec<(Range<u64>, u64, u64)> {
        deliveries.runs().map(|(numbers, batches)| (numbers, batches.start().0, batches.end().0)).collect()
    }

    #[test]
    fn a_stream_of_messages_is_one_run() {
        let mut deliveries = LoggedDeliveries::default();
        for number in 10..1_000 {
            deliveries.insert(number, LogPosition(number / 7), 100);
        }
        assert_eq!(runs(&deliveries), [(10..1_000, 1, 142)]);
        assert_eq!((deliveries.count(), deliveries.bytes()), (990, 99_000));
        deliveries.remove_first(10, LogPosition(1));
        deliveries.remove_first(11, LogPosition(5));
        assert_eq!(deliveries.first(), Some((12, LogPosition(5))));
        deliveries.insert(1_000, LogPosition(142 + GAP_BATCHES_MAX + 1), 100);
        assert_eq!(runs(&deliveries), [(12..1_000, 5, 142), (1_000..1_001, 159, 159)]);
        assert_eq!(deliveries.contiguous_before(1_001), 12);
        assert_eq!(deliveries.contiguous_before(1_005), 1_005);
    }

    #[test]
    fn a_checkpoint_moves_deliveries_without_leaving_pieces() {
        let mut deliveries = LoggedDeliveries::default();
        (0..100).for_each(|number| deliveries.insert(number, LogPosition(number), 10));
        (0..60).for_each(|number| deliveries.insert(number, LogPosition(200 + number), 10));
        assert_eq!(runs(&deliveries), [(0..60, 200, 259), (60..100, 0, 99)]);
        (60..100).for_each(|number| deliveries.insert(number, LogPosition(200 + number), 10));
        assert_eq!(runs(&deliveries), [(0..100, 200, 299)]);
    }

    proptest! {
        #[test]
        fn every_delivery_is_where_it_was_put_last(steps in prop::collection::vec((0..30u64, any::<bool>()), 0..200)) {
            let mut deliveries = LoggedDeliveries::default();
            let mut model = BTreeMap::new();
            for (batch, (number, inserts)) in (1..).zip(steps) {
                if inserts {
                    deliveries.insert(number, LogPosition(batch), number);
                    model.insert(number, batch);
                } else {
                    prop_assert_eq!(deliveries.remove(number), model.remove(&number).is_some());
                }
                let listed: Vec<u64> = deliveries.runs().flat_map(|(numbers, _)| numbers).collect();
                prop_assert_eq!(&listed, &model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(deliveries.count(), model.len() as u64);
                for (number, batch) in &model {
                    prop_assert!(deliveries.may_lie_in(*number, LogPosition(*batch)));
                }
            }
        }
    }
}
