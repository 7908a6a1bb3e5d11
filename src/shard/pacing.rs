//! How fast a client may publish: one that is ahead of its allowance is not read from until it is not. Nothing of it is dropped,
//! for its own TCP makes it wait.
//!
//! There are two allowances, of messages and of bytes per second. Each is kept as one moment: when all that the client has
//! published would have been due, had it published at the permitted rate (the virtual scheduling of ATM's GCRA). A client may
//! be [`PUBLISH_BURST`] ahead of that: what it did not use for a while, it may use at once. What was received before reading
//! could stop is served, and paid for by a longer wait, so that the rate holds over any longer time; but a single packet that
//! is worth hours costs no more than [`PUBLISH_DEBT_MAX`].
//!
//! | a client | event                              | becomes                                                  |
//! |----------|------------------------------------|----------------------------------------------------------|
//! | read     | PUBLISH within its allowances      | read                                                     |
//! | read     | PUBLISH beyond one of them         | waiting, until it is within both                         |
//! | waiting  | PUBLISH that was received already  | waiting, for longer                                      |
//! | waiting  | that moment has come               | read                                                     |
//! | waiting  | no packet is exchanged any more    | read, for the end of its stream has to be seen           |
//!
//! While a client waits, nothing else that it sends is heard either, its acknowledgements among it; its keep-alive does not run.
//! Bridges are not slowed: they are the operator's own.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::{Limits, PUBLISH_BURST, PUBLISH_DEBT_MAX};
use crate::time::Timestamp;

use super::TimerKey;
use super::clients::Clients;
use super::connection::ConnectionKey;

/// What a client has used of its allowances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    messages_due: Timestamp,
    bytes_due: Timestamp,
    /// The deadline of the one timer that counts, if the client waits.
    timer_at: Option<Timestamp>,
}

impl Pace {
    fn new(now: Timestamp) -> Self {
        Self { messages_due: now, bytes_due: now, timer_at: None }
    }

    /// Whether the client is not read from.
    pub(super) fn waits(&self) -> bool {
        self.timer_at.is_some()
    }

    /// Charges a message.
    fn charge(&mut self, now: Timestamp, limits: &Limits, bytes: usize) {
        let second = Duration::from_secs(1);
        if let Some(rate) = limits.max_publish_rate {
            charge_one(&mut self.messages_due, now, second / NonZeroU32::get(rate));
        }
        if let Some(rate) = limits.max_publish_bytes_rate {
            let nanos = bytes as u64 * second.as_nanos() as u64 / NonZeroU64::get(rate);
            charge_one(&mut self.bytes_due, now, Duration::from_nanos(nanos));
        }
    }

    /// When the client is within both allowances.
    fn within_at(&self) -> Timestamp {
        let due = self.messages_due.max(self.bytes_due);
        Timestamp::from_nanos(due.as_nanos().saturating_sub(PUBLISH_BURST.as_nanos() as u64))
    }
}

fn charge_one(due: &mut Timestamp, now: Timestamp, cost: Duration) {
    *due = ((*due).max(now) + cost).min(now + PUBLISH_BURST + PUBLISH_DEBT_MAX);
}

impl Clients {
    /// Charges a client for a PUBLISH of so many bytes, and stops reading from it if that is more than it may.
    #[inline]
    pub(super) fn pace_publisher(&mut self, key: ConnectionKey, bytes: usize) {
        if self.limits.paces_publishers() {
            self.charge_publisher(key, bytes);
        }
    }

    fn charge_publisher(&mut self, key: ConnectionKey, bytes: usize) {
        let now = self.now;
        let connection = &mut self.connections[key.index()];
        let pace = connection.pace.get_or_insert_with(|| Box::new(Pace::new(now)));
        pace.charge(now, &self.limits, bytes);
        let within_at = pace.within_at();
        if within_at > now && !pace.waits() {
            self.counters.paced_publishers += 1;
            self.wait_for_pace(key, within_at);
        }
    }

    /// A client's wait may be over.
    pub(super) fn pace_timeout(&mut self, key: ConnectionKey, deadline: Timestamp) {
        let Some(pace) = self.connections.get(key.index()).and_then(|connection| connection.pace.as_ref()) else {
            return;
        };
        if pace.timer_at != Some(deadline) {
            return;
        }
        // What came after the timer was armed may have made it longer.
        let within_at = pace.within_at();
        if within_at > self.now { self.wait_for_pace(key, within_at) } else { self.set_pace_timer(key, None) }
    }

    fn wait_for_pace(&mut self, key: ConnectionKey, until: Timestamp) {
        self.timers.arm(until, TimerKey::Pace(key));
        self.set_pace_timer(key, Some(until));
    }

    fn set_pace_timer(&mut self, key: ConnectionKey, timer_at: Option<Timestamp>) {
        self.set_pause(key, |connection| {
            connection.pace.as_mut().expect("it is paced").timer_at = timer_at;
        });
    }
}
