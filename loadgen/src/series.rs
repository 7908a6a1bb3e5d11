//! What was seen over time, in bounded memory: values by spans of equal length.
//!
//! When there would be more than [`SPANS_MAX`] of them, the spans become twice as long and neighbours one, so that a series of a
//! week takes no more room than one of a minute, and none of it is left out.

use std::collections::BTreeMap;

/// Length of a span before a series is full.
pub(crate) const INTERVAL_NS: u64 = 200_000_000;

/// Spans that a series remembers.
pub(crate) const SPANS_MAX: usize = 1_024;

/// What two spans can add up.
pub(crate) trait Merge {
    /// Takes in what was seen in another span.
    fn merge(&mut self, other: Self);
}

/// A stretch of time and what was seen in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span<T> {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) value: T,
}

/// Spans by their place in time.
#[derive(Clone, Debug)]
pub(crate) struct Series<T> {
    length_ns: u64,
    /// By start divided by length.
    spans: BTreeMap<u64, Span<T>>,
}

impl<T> Span<T> {
    pub(crate) fn seconds(&self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e9
    }

    /// The middle of the span, in seconds after another time.
    pub(crate) fn middle_seconds(&self, origin_ns: u64) -> f64 {
        (self.start_ns as f64 + self.end_ns as f64) / 2e9 - origin_ns as f64 / 1e9
    }
}

impl<T: Merge> Series<T> {
    /// A series whose spans begin with this length, in nanoseconds and above 0.
    pub(crate) fn new(length_ns: u64) -> Self {
        Self { length_ns, spans: BTreeMap::new() }
    }

    /// Whether a time lies in a later span than another one.
    pub(crate) fn is_later(&self, at_ns: u64, than_ns: u64) -> bool {
        at_ns / self.length_ns > than_ns / self.length_ns
    }

    /// Adds what was seen in a span, to which others may have been added before, in any order.
    pub(crate) fn add(&mut self, span: Span<T>) {
        insert(&mut self.spans, span, self.length_ns);
        self.limit(SPANS_MAX);
    }

    /// The same with fewer spans, no more than so many; there must be room for one.
    pub(crate) fn limited(mut self, spans_max: usize) -> Self {
        self.limit(spans_max);
        self
    }

    fn limit(&mut self, spans_max: usize) {
        while self.spans.len() > spans_max.max(1) {
            self.length_ns = self.length_ns.saturating_mul(2);
            let mut longer = BTreeMap::new();
            for span in std::mem::take(&mut self.spans).into_values() {
                insert(&mut longer, span, self.length_ns);
            }
            self.spans = longer;
        }
    }

    /// The spans in the order of time. What nothing was seen in is left out.
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span<T>> {
        self.spans.values()
    }
}

fn insert<T: Merge>(spans: &mut BTreeMap<u64, Span<T>>, span: Span<T>, length_ns: u64) {
    let place = span.start_ns / length_ns;
    match spans.get_mut(&place) {
        None => {
            spans.insert(place, span);
        }
        Some(sum) => {
            sum.start_ns = sum.start_ns.min(span.start_ns);
            sum.end_ns = sum.end_ns.max(span.end_ns);
            sum.value.merge(span.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Merge for u64 {
        fn merge(&mut self, other: Self) {
            *self += other;
        }
    }

    fn span(start_ns: u64, end_ns: u64, value: u64) -> Span<u64> {
        Span { start_ns, end_ns, value }
    }

    fn spans(series: &Series<u64>) -> Vec<Span<u64>> {
        series.spans().cloned().collect()
    }

    #[test]
    fn what_belongs_to_one_span_adds_up_in_any_order() {
        let mut series = Series::new(10);
        for (start_ns, value) in [(20, 1), (0, 2), (20, 3), (3, 4)] {
            series.add(span(start_ns, start_ns + 5, value));
        }
        assert_eq!(spans(&series), [span(0, 8, 6), span(20, 25, 4)]);
        assert!(series.is_later(20, 19) && !series.is_later(19, 10));
    }

    #[test]
    fn a_series_that_is_full_has_half_as_many_spans_of_twice_the_length_and_loses_nothing() {
        let mut series = Series::new(1);
        for now in 0..SPANS_MAX as u64 * 5 {
            series.add(span(now, now + 1, 1));
            assert!(series.spans.len() <= SPANS_MAX, "{now}");
        }
        let seen = spans(&series);
        assert!(seen.len() > SPANS_MAX / 2);
        assert!(seen.iter().all(|span| span.value == span.end_ns - span.start_ns));
        assert!(seen.is_sorted_by_key(|span| span.start_ns));
        assert_eq!(seen.iter().map(|span| span.value).sum::<u64>(), SPANS_MAX as u64 * 5);
        assert_eq!(series.limited(3).spans().map(|span| span.value).sum::<u64>(), SPANS_MAX as u64 * 5);
    }

    #[test]
    fn spans_that_are_far_apart_become_one_in_the_end() {
        let ends = [span(0, 1, 1), span(u64::MAX - 1, u64::MAX, 1)];
        let mut series = Series::new(1);
        ends.into_iter().for_each(|end| series.add(end));
        assert_eq!(spans(&series.limited(0)), [span(0, u64::MAX, 2)]);
    }
}
