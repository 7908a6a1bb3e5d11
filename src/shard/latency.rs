//! How long messages take through the broker: from the turn in which a PUBLISH was read to the end of the one in which the kernel
//! gets it for a subscriber.
//!
//! It is measured on samples, so that it costs the others next to nothing, and by the times that the driver tells anyway:
//!
//! | a sample      | where it is             | becomes                                                                     |
//! |---------------|-------------------------|-----------------------------------------------------------------------------|
//! | a message     | [`Message::read_at`]    | *waiting* for each subscriber when it is encoded; nothing if it goes to none |
//! | waiting       | here, by connection     | *handed over* with the transmit that has it; nothing if the connection ends |
//! | handed over   | here                    | counted at the [end of the turn](Shard::end_turn)                           |
//!
//! So what the log and the window of the subscriber make it wait for counts, and what the subscriber's absence does not: what is kept
//! for a client that is away is no sample any more. What is sent again does not count, nor what the broker says of itself.
//! Between shards the mark travels with the message; that is as good as their clocks agree.
//!
//! There is a bound on the samples that wait. Of a message to many the first ones count.

use std::time::Duration;

use crate::route::Message;
use crate::store::LogPosition;
use crate::time::{CoarseTime, Timestamp};

use super::Shard;
use super::connection::{Connection, ConnectionKey};

/// Messages of which one is a sample.
const SAMPLED_EVERY: u32 = 32;

/// Where there are fewer messages, one is a sample after this time.
const SAMPLE_PAUSE: Duration = Duration::from_millis(100);

/// Samples that wait at once.
const SAMPLES_MAX: usize = 256;

/// Latencies are told apart by powers of two of the steps of [`CoarseTime`], from this one (64 µs) on, …
const FIRST_POWER: usize = 4;
/// … to this one (33.6 s).
const LAST_POWER: usize = 23;

/// Counted latencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latencies {
    /// Those shorter than the bound of each power, and not shorter than the one before; the last are longer.
    by_power: [u64; LAST_POWER - FIRST_POWER + 2],
    sum: Duration,
}

impl Latencies {
    fn note(&mut self, latency: Duration) {
        let steps = latency.as_nanos() / CoarseTime::STEP.as_nanos();
        let power = (u128::BITS - steps.leading_zeros()) as usize;
        self.by_power[power.clamp(FIRST_POWER, LAST_POWER + 1) - FIRST_POWER] += 1;
        self.sum += latency;
    }

    /// Bounds in ascending order, each with how many were shorter.
    pub fn within(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut count = 0;
        (FIRST_POWER..=LAST_POWER).zip(self.by_power).map(move |(power, latencies)| {
            count += latencies;
            (CoarseTime::STEP * (1 << power), count)
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.by_power.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// The samples of a shard.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Messages until the next sample, …
    until_next: u32,
    /// … or this time.
    next_at: Timestamp,
    waiting: Vec<Waiting>,
    handed_over: Vec<CoarseTime>,
    pub(super) latencies: Latencies,
}

/// A sample in the output of a connection.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    connection: ConnectionKey,
    /// It leaves when the log is stable up to here.
    after: LogPosition,
    read_at: CoarseTime,
}

impl Sampling {
    pub(super) fn new() -> Self {
        Self {
            until_next: 1,
            next_at: Timestamp::default(),
            // On the way of a message nothing is allocated.
            waiting: Vec::with_capacity(SAMPLES_MAX),
            handed_over: Vec::with_capacity(SAMPLES_MAX),
            latencies: Latencies::default(),
        }
    }

    /// The mark of a message that was read now, if it is a sample.
    #[inline]
    pub(super) fn mark(&mut self, now: Timestamp) -> Option<CoarseTime> {
        self.until_next -= 1;
        (self.until_next == 0 || now >= self.next_at).then(|| {
            self.until_next = SAMPLED_EVERY;
            self.next_at = now + SAMPLE_PAUSE;
            now.into()
        })
    }

    /// A message was encoded for the first time into the output of a connection, as the last of it.
    #[inline]
    pub(super) fn note(&mut self, key: ConnectionKey, connection: &mut Connection, message: &Message) {
        if let Some(read_at) = message.read_at {
            self.wait(key, connection, read_at);
        }
    }

    #[cold]
    fn wait(&mut self, key: ConnectionKey, connection: &mut Connection, read_at: CoarseTime) {
        if self.waiting.len() + self.handed_over.len() < SAMPLES_MAX {
            connection.has_samples = true;
            self.waiting.push(Waiting { connection: key, after: connection.output.ends_after(), read_at });
        }
    }

    /// All of a connection's output that waits for no more than this position of the log goes to the kernel in this turn. Whether
    /// samples of it still wait.
    #[cold]
    pub(super) fn hand_over(&mut self, key: ConnectionKey, stable: LogPosition) -> bool {
        let goes = |waiting: &mut Waiting| waiting.connection == key && waiting.after <= stable;
        self.handed_over.extend(self.waiting.extract_if(.., goes).map(|waiting| waiting.read_at));
        self.waiting.iter().any(|waiting| waiting.connection == key)
    }

    /// Nothing more leaves on this connection.
    #[cold]
    pub(super) fn forget(&mut self, key: ConnectionKey) {
        self.waiting.retain(|waiting| waiting.connection != key);
    }

    #[cold]
    fn count(&mut self, now: Timestamp) {
        for read_at in self.handed_over.drain(..) {
            self.latencies.note(read_at.until(now.into()));
        }
    }
}

impl Shard {
    /// All that this shard had to say in this turn is on its way to the kernel now. A driver that does not say so measures no
    /// latencies.
    #[inline]
    pub fn end_turn(&mut self, now: Timestamp) {
        if !self.clients.sampling.handed_over.is_empty() {
            self.clients.sampling.count(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microseconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(1_700_000_000) + Duration::from_micros(microseconds)
    }

    #[test]
    fn latencies_are_counted_by_powers_of_two() {
        let mut latencies = Latencies::default();
        for microseconds in [0, 63, 64, 127, 128, 1000, 33_554_431, 33_554_432, 4_000_000_000] {
            latencies.note(Duration::from_micros(microseconds));
        }
        let within: Vec<(u128, u64)> = latencies.within().map(|(bound, count)| (bound.as_micros(), count)).collect();
        assert_eq!(within[..6], [(64, 2), (128, 4), (256, 5), (512, 5), (1024, 6), (2048, 6)]);
        assert_eq!(within[within.len() - 1], (33_554_432, 7));
        assert_eq!(latencies.count(), 9);
        assert!(latencies.sum() > Duration::from_secs(4000));
    }

    #[test]
    fn few_messages_are_samples_by_the_time_and_many_by_their_number() {
        let mut sampling = Sampling::new();
        let mut marks = |now, messages| (0..messages).filter(|_| sampling.mark(now).is_some()).count();
        assert_eq!(marks(at(0), 1), 1, "the first");
        assert_eq!(marks(at(99_999), 10), 0);
        assert_eq!(marks(at(100_000), 10), 1);
        assert_eq!(marks(at(100_000), 32 * 100), 100);
    }

    #[test]
    fn there_is_a_bound_and_an_end_to_samples() {
        let mut sampling = Sampling::new();
        let mut connection =
            Connection::new(crate::proto::Version::V5, crate::transport::Transport::Plain, 0, Timestamp::default());
        let [one, other] = [0, 1].map(ConnectionKey::from_index);
        for _ in 0..SAMPLES_MAX {
            sampling.wait(one, &mut connection, at(0).into());
        }
        assert!(connection.has_samples);
        sampling.wait(other, &mut connection, at(0).into());
        assert_eq!(sampling.waiting.len(), SAMPLES_MAX);
        sampling.forget(one);
        sampling.wait(other, &mut connection, at(0).into());
        assert!(!sampling.hand_over(one, LogPosition::NOTHING));
        assert!(sampling.handed_over.is_empty());
        assert!(!sampling.hand_over(other, LogPosition::NOTHING));
        sampling.count(at(500));
        assert_eq!((sampling.latencies.count(), sampling.latencies.sum()), (1, Duration::from_micros(500)));
    }
}
