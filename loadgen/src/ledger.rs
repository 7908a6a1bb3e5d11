//! The ledger: what each subscriber received, against what each publisher sent.
//!
//! A subscriber keeps one stream for each publisher that it hears. Sequences count from 0, so the fast path is one
//! comparison with the next expected sequence; only a message out of order costs more. A gap is remembered as a range
//! of missing sequences: what arrives from it later was reordered, what never arrives was lost, and what arrives at or
//! below a sequence already seen is a duplicate.
//!
//! The ranges are bounded by [`MISSING_RANGES_MAX`] for each subscriber. Beyond that the oldest range of the stream is
//! written off as lost, and the ledger says that it is no longer exact; a broker that gets there has lost thousands of
//! messages anyway.
//!
//! The ledger does not decide what a quality of service permits until it is asked for a verdict.

use std::collections::BTreeMap;

use oncemq::proto::QoS;
use serde::Serialize;

/// Ranges of missing sequences that one subscriber remembers, over all its streams.
pub(crate) const MISSING_RANGES_MAX: usize = 65_536;

/// Examples of each trouble that the balance names.
const EXAMPLES_MAX: usize = 8;

/// How one message stands to those before it from the same publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New: the next one, or one after a gap.
    New,
    /// New, but after a later one.
    Reordered,
    /// Seen before.
    Duplicate,
}

/// One subscriber's account of every publisher that it hears.
#[derive(Debug)]
pub(crate) struct Ledger {
    streams: Vec<Stream>,
    duplicated: u64,
    reordered: u64,
    missing_ranges: usize,
    exact: bool,
    duplicate_examples: Vec<(usize, u64)>,
    reordered_examples: Vec<(usize, u64)>,
}

/// What a publisher says about its messages when the run is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// Sequences 0 to `total` - 1 were sent.
    pub(crate) total: u64,
    /// Sequences whose exchange did not complete, or that the broker refused: each may have been delivered or not.
    /// Ascending.
    pub(crate) undecided: Vec<u64>,
}

impl Published {
    /// `total` messages, of which some were refused and the exchange of others did not complete.
    pub(crate) fn new(total: u64, refused: Vec<u64>, unfinished: impl Iterator<Item = u64>) -> Self {
        let mut undecided = refused;
        undecided.extend(unfinished);
        undecided.sort_unstable();
        Self { total, undecided }
    }
}

/// The sum of all ledgers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Balance {
    /// Deliveries that must have happened: published and completed, once for each listener.
    pub(crate) expected: u64,
    /// Distinct messages that arrived.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Arrivals beyond the first one of a message.
    pub(crate) duplicated: u64,
    /// Messages that arrived after a later one of their publisher.
    pub(crate) reordered: u64,
    /// Messages that no publisher of this run sent to this subscriber.
    pub(crate) foreign: u64,
    /// Messages whose exchange did not complete and that did not arrive; neither lost nor delivered.
    pub(crate) undecided: u64,
    /// False when so many ranges were missing that some were written off.
    pub(crate) exact: bool,
    /// The first few troubles, in words.
    pub(crate) examples: Vec<String>,
}

impl Ledger {
    /// An account of `sources` publishers of which nothing has arrived.
    pub(crate) fn new(sources: usize) -> Self {
        Self {
            streams: (0..sources).map(|_| Stream::default()).collect(),
            duplicated: 0,
            reordered: 0,
            missing_ranges: 0,
            exact: true,
            duplicate_examples: Vec::new(),
            reordered_examples: Vec::new(),
        }
    }

    /// Accounts for one message that arrived. `slot` must be below the number of sources.
    #[inline]
    pub(crate) fn record(&mut self, slot: usize, sequence: u64) -> Arrival {
        let stream = &mut self.streams[slot];
        if sequence == stream.next {
            stream.next += 1;
            return Arrival::New;
        }
        self.record_out_of_order(slot, sequence)
    }

    #[cold]
    fn record_out_of_order(&mut self, slot: usize, sequence: u64) -> Arrival {
        let stream = &mut self.streams[slot];
        if sequence > stream.next {
            stream.missing.insert(stream.next, sequence);
            stream.next = sequence.saturating_add(1);
            self.missing_ranges += 1;
            if self.missing_ranges > MISSING_RANGES_MAX {
                self.write_off(slot);
            }
            return Arrival::New;
        }
        match stream.take_missing(sequence) {
            Some(ranges_added) => {
                self.missing_ranges = self.missing_ranges.saturating_add_signed(ranges_added);
                self.reordered += 1;
                note(&mut self.reordered_examples, slot, sequence);
                Arrival::Reordered
            }
            None => {
                self.duplicated += 1;
                note(&mut self.duplicate_examples, slot, sequence);
                Arrival::Duplicate
            }
        }
    }

    /// Gives up the oldest range of a stream, to stay within the bound.
    fn write_off(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        if let Some((start, end)) = stream.missing.pop_first() {
            stream.written_off += end - start;
            self.missing_ranges -= 1;
        }
        self.exact = false;
    }

    /// Closes the account into `balance`. `published(slot)` is what the publisher of that slot says, `name(slot)` how
    /// to call the route from it in an example.
    pub(crate) fn close<'a>(
        &self,
        balance: &mut Balance,
        published: impl Fn(usize) -> &'a Published,
        name: impl Fn(usize) -> String,
    ) {
        balance.exact &= self.exact;
        balance.duplicated += self.duplicated;
        balance.reordered += self.reordered;
        for (slot, stream) in self.streams.iter().enumerate() {
            let published = published(slot);
            let undecided = published.undecided.iter().filter(|&&sequence| stream.is_absent(sequence)).count() as u64;
            let absent = stream.absent(published.total);
            let invented = stream.arrived_from(published.total);
            balance.delivered += published.total - absent;
            balance.foreign += invented;
            balance.undecided += undecided;
            balance.expected += published.total - undecided;
            balance.lost += absent - undecided;
            if absent > undecided && balance.examples.len() < EXAMPLES_MAX {
                let first = (0..)
                    .map_while(|nth| stream.nth_absent(nth, published.total))
                    .find(|sequence| published.undecided.binary_search(sequence).is_err());
                if let Some(sequence) = first {
                    balance.examples.push(format!("lost: {} sequence {sequence}", name(slot)));
                }
            }
            if invented > 0 && balance.examples.len() < EXAMPLES_MAX {
                balance.examples.push(format!(
                    "never published: {} sequence {} and above",
                    name(slot),
                    published.total
                ));
            }
        }
        for (word, examples) in [("duplicated", &self.duplicate_examples), ("reordered", &self.reordered_examples)] {
            for &(slot, sequence) in examples {
                if balance.examples.len() < EXAMPLES_MAX {
                    balance.examples.push(format!("{word}: {} sequence {sequence}", name(slot)));
                }
            }
        }
    }
}

impl Balance {
    /// A balance to which ledgers are added.
    pub(crate) fn new() -> Self {
        Self { exact: true, ..Self::default() }
    }

    /// Whether the deliveries are what the quality of service promises: never a foreign message; no duplicate and no
    /// reordering unless it is 1, where a redelivery is a new message [MQTT-4.3.2-5]; no loss unless it is 0.
    pub(crate) fn holds(&self, qos: QoS) -> bool {
        let nothing_foreign = self.foreign == 0;
        match qos {
            QoS::AtMostOnce => nothing_foreign && self.duplicated == 0,
            QoS::AtLeastOnce => nothing_foreign && self.lost == 0 && self.reordered == 0 && self.exact,
            QoS::ExactlyOnce => {
                nothing_foreign && self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.exact
            }
        }
    }
}

/// What arrived from one publisher: everything below `next` except what is missing or was written off.
#[derive(Debug, Default)]
struct Stream {
    next: u64,
    /// Start to end (exclusive) of each gap; disjoint, none adjacent to `next`.
    missing: BTreeMap<u64, u64>,
    written_off: u64,
}

impl Stream {
    /// Takes a sequence out of the gaps; says by how many ranges their number changed, or `None` if it wasn't missing.
    fn take_missing(&mut self, sequence: u64) -> Option<isize> {
        let (&start, &end) = self.missing.range(..=sequence).next_back()?;
        if sequence >= end {
            return None;
        }
        self.missing.remove(&start);
        let mut ranges_added = -1;
        if start < sequence {
            self.missing.insert(start, sequence);
            ranges_added += 1;
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, end);
            ranges_added += 1;
        }
        Some(ranges_added)
    }

    fn is_absent(&self, sequence: u64) -> bool {
        sequence >= self.next || self.missing.range(..=sequence).next_back().is_some_and(|(_, &end)| sequence < end)
    }

    /// How many of the first `total` did not arrive.
    fn absent(&self, total: u64) -> u64 {
        let gaps: u64 = self.missing.iter().map(|(start, end)| end - start).sum();
        let unreached = total.saturating_sub(self.next);
        gaps - self.gaps_from(total) + self.written_off + unreached
    }

    /// How many arrived of the sequences from `total` on, which were never sent.
    fn arrived_from(&self, total: u64) -> u64 {
        self.next.saturating_sub(total).saturating_sub(self.gaps_from(total))
    }

    /// Missing sequences at or above `total`.
    fn gaps_from(&self, total: u64) -> u64 {
        let beyond: u64 = self.missing.range(total..).map(|(start, end)| end - start).sum();
        let astride = self.missing.range(..total).next_back().map_or(0, |(_, end)| end.saturating_sub(total));
        beyond + astride
    }

    /// The `nth` sequence below `total` that is known not to have arrived.
    fn nth_absent(&self, nth: u64, total: u64) -> Option<u64> {
        let mut left = nth;
        for (&start, &end) in &self.missing {
            if left < end - start {
                return (start + left < total).then_some(start + left);
            }
            left -= end - start;
        }
        let sequence = self.next.checked_add(left)?;
        (sequence < total).then_some(sequence)
    }
}

fn note(examples: &mut Vec<(usize, u64)>, slot: usize, sequence: u64) {
    if examples.len() < EXAMPLES_MAX {
        examples.push((slot, sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance_of(arrivals: &[u64], published: &Published) -> Balance {
        let mut ledger = Ledger::new(1);
        for &sequence in arrivals {
            ledger.record(0, sequence);
        }
        close(&ledger, published)
    }

    fn close(ledger: &Ledger, published: &Published) -> Balance {
        let mut balance = Balance::new();
        ledger.close(&mut balance, |_| published, |slot| format!("source {slot}"));
        balance
    }

    fn completed(total: u64) -> Published {
        Published { total, undecided: Vec::new() }
    }

    fn verdicts(balance: &Balance) -> [bool; 3] {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| balance.holds(qos))
    }

    #[test]
    fn everything_in_order_balances_at_every_quality() {
        let balance = balance_of(&[0, 1, 2, 3], &completed(4));
        assert_eq!((balance.expected, balance.delivered), (4, 4));
        assert_eq!(verdicts(&balance), [true, true, true]);
        assert!(balance.examples.is_empty());
    }

    #[test]
    fn a_message_lost_in_the_middle_is_found() {
        let balance = balance_of(&[0, 1, 3], &completed(4));
        assert_eq!((balance.lost, balance.delivered), (1, 3));
        assert_eq!(balance.examples, ["lost: source 0 sequence 2"]);
        assert_eq!(verdicts(&balance), [true, false, false]);
    }

    #[test]
    fn messages_lost_at_the_end_are_found() {
        let balance = balance_of(&[0, 1], &completed(4));
        assert_eq!((balance.lost, balance.delivered), (2, 2));
        assert_eq!(balance.examples, ["lost: source 0 sequence 2"]);
        let nothing_came = balance_of(&[], &completed(4));
        assert_eq!(nothing_came.lost, 4);
        assert_eq!(verdicts(&nothing_came), [true, false, false]);
    }

    #[test]
    fn a_duplicate_is_found_and_quality_1_permits_it() {
        let balance = balance_of(&[0, 1, 1, 2, 0], &completed(3));
        assert_eq!((balance.duplicated, balance.delivered), (2, 3));
        assert_eq!((balance.lost, balance.reordered), (0, 0));
        assert_eq!(verdicts(&balance), [false, true, false]);
    }

    #[test]
    fn a_duplicate_inside_a_closed_gap_is_found() {
        let balance = balance_of(&[0, 3, 1, 1, 2], &completed(4));
        assert_eq!((balance.reordered, balance.duplicated), (2, 1));
        assert_eq!((balance.lost, balance.delivered), (0, 4));
    }

    #[test]
    fn a_reordered_message_is_neither_lost_nor_duplicated() {
        let balance = balance_of(&[1, 0, 2], &completed(3));
        assert_eq!((balance.reordered, balance.lost, balance.duplicated), (1, 0, 0));
        assert_eq!(balance.examples, ["reordered: source 0 sequence 0"]);
        assert_eq!(verdicts(&balance), [true, false, false]);
    }

    #[test]
    fn gaps_split_and_close_from_every_side() {
        let mut ledger = Ledger::new(1);
        for sequence in [10, 5, 0, 9, 4, 6, 1, 2, 3, 7, 8] {
            assert_ne!(ledger.record(0, sequence), Arrival::Duplicate);
        }
        assert_eq!(ledger.missing_ranges, 0);
        let balance = close(&ledger, &completed(11));
        assert_eq!((balance.lost, balance.delivered, balance.reordered), (0, 11, 10));
    }

    #[test]
    fn an_exchange_that_did_not_complete_may_go_either_way() {
        let published = Published { total: 4, undecided: vec![2, 3] };
        let arrived = balance_of(&[0, 1, 2], &published);
        assert_eq!((arrived.expected, arrived.delivered), (3, 3));
        assert_eq!((arrived.lost, arrived.undecided), (0, 1));
        assert_eq!(verdicts(&arrived), [true, true, true]);
        let lost_another = balance_of(&[0, 2], &published);
        assert_eq!((lost_another.lost, lost_another.undecided), (1, 1));
        assert_eq!(lost_another.examples, ["lost: source 0 sequence 1"]);
    }

    #[test]
    fn a_message_that_nobody_sent_voids_the_run() {
        let balance = balance_of(&[0, 1, 7], &completed(2));
        assert_eq!((balance.foreign, balance.lost, balance.delivered), (1, 0, 2));
        assert_eq!(verdicts(&balance), [false, false, false]);
    }

    #[test]
    fn beyond_its_bound_the_ledger_says_that_it_is_not_exact() {
        let mut ledger = Ledger::new(1);
        let gaps = MISSING_RANGES_MAX as u64 + 10;
        for nth in 0..gaps {
            ledger.record(0, 2 * nth + 1);
        }
        assert_eq!(ledger.missing_ranges, MISSING_RANGES_MAX);
        let balance = close(&ledger, &completed(2 * gaps));
        assert!(!balance.exact);
        assert_eq!((balance.lost, balance.delivered), (gaps, gaps));
        assert_eq!(verdicts(&balance), [true, false, false]);
    }

    #[test]
    fn streams_are_kept_apart() {
        let mut ledger = Ledger::new(2);
        ledger.record(0, 0);
        ledger.record(1, 0);
        ledger.record(1, 1);
        let published = [completed(1), completed(2)];
        let mut balance = Balance::new();
        ledger.close(&mut balance, |slot| &published[slot], |slot| slot.to_string());
        assert_eq!((balance.expected, balance.delivered), (3, 3));
        assert!(balance.holds(QoS::ExactlyOnce));
    }
}
