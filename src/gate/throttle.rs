//! Keeps what can happen ten thousand times a second from being logged as often.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// At least this long between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// The memory of one kind of line.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    last: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Throttle {
    /// Counts one event. If it is time for a line, the number of events that it stands for.
    pub(super) fn permit(&self) -> Option<u64> {
        self.permit_at(Instant::now())
    }

    fn permit_at(&self, now: Instant) -> Option<u64> {
        let events = self.untold.get() + 1;
        let due = self.last.get().is_none_or(|last| now >= last + PAUSE);
        self.untold.set(if due { 0 } else { events });
        if due {
            self.last.set(Some(now));
        }
        due.then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_stands_for_many_events() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.permit_at(start), Some(1));
        assert_eq!(throttle.permit_at(start), None);
        assert_eq!(throttle.permit_at(start + PAUSE / 2), None);
        assert_eq!(throttle.permit_at(start + PAUSE), Some(3));
    }
}
