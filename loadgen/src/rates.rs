//! How many messages flowed, over time: what the coordinator's looks at the counters add up to.
//!
//! A span ends with the first look that is due, and begins where the one before it has ended, so that a look that comes late makes
//! its span longer and no rate wrong.

use crate::fleet::Totals;
use crate::series::{INTERVAL_NS, Merge, Series, Span};

/// Messages that flowed in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
}

/// The flow since the first message.
#[derive(Debug)]
pub(crate) struct Rates {
    series: Series<Messages>,
    seen_ns: u64,
    seen: Totals,
}

impl Merge for Messages {
    fn merge(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
    }
}

impl Span<Messages> {
    pub(crate) fn published_per_second(&self) -> f64 {
        self.value.published as f64 / self.seconds()
    }

    pub(crate) fn delivered_per_second(&self) -> f64 {
        self.value.delivered as f64 / self.seconds()
    }
}

impl Rates {
    pub(crate) fn new() -> Self {
        Self { series: Series::new(INTERVAL_NS), seen_ns: 0, seen: Totals::default() }
    }

    /// Notes what the counters say.
    pub(crate) fn look(&mut self, now_ns: u64, totals: Totals) {
        if totals.published == 0 {
            // What comes before the first message is no part of the series.
            self.seen_ns = now_ns;
        } else if self.series.is_later(now_ns, self.seen_ns) {
            self.note(now_ns, totals);
        }
    }

    /// Everything up to now.
    pub(crate) fn finish(mut self, now_ns: u64, totals: Totals) -> Series<Messages> {
        if now_ns > self.seen_ns && totals.published > 0 {
            self.note(now_ns, totals);
        }
        self.series
    }

    fn note(&mut self, now_ns: u64, totals: Totals) {
        let value = Messages {
            published: totals.published - self.seen.published,
            delivered: totals.delivered - self.seen.delivered,
        };
        self.series.add(Span { start_ns: self.seen_ns, end_ns: now_ns, value });
        (self.seen_ns, self.seen) = (now_ns, totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(published: u64, delivered: u64) -> Totals {
        Totals { published, delivered, ..Totals::default() }
    }

    #[test]
    fn every_message_is_in_one_span_and_late_looks_make_no_rate_wrong() {
        let mut rates = Rates::new();
        rates.look(7 * INTERVAL_NS, totals(0, 0));
        rates.look(7 * INTERVAL_NS + 1, totals(10, 5));
        rates.look(8 * INTERVAL_NS, totals(100, 100));
        // Late by two spans.
        rates.look(11 * INTERVAL_NS, totals(400, 400));
        let series = rates.finish(11 * INTERVAL_NS + 5, totals(401, 402));
        let spans: Vec<_> = series.spans().cloned().collect();
        let span = |start_ns, end_ns, published, delivered| Span {
            start_ns,
            end_ns,
            value: Messages { published, delivered },
        };
        assert_eq!(
            spans,
            [
                span(7 * INTERVAL_NS, 8 * INTERVAL_NS, 100, 100),
                span(8 * INTERVAL_NS, 11 * INTERVAL_NS, 300, 300),
                span(11 * INTERVAL_NS, 11 * INTERVAL_NS + 5, 1, 2)
            ]
        );
        assert_eq!(spans[0].published_per_second(), spans[1].delivered_per_second());
    }

    #[test]
    fn a_run_that_never_published_has_no_rates() {
        let mut rates = Rates::new();
        rates.look(INTERVAL_NS, totals(0, 0));
        assert_eq!(rates.finish(9 * INTERVAL_NS, totals(0, 0)).spans().count(), 0);
    }
}
