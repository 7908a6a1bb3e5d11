//! When the messages of publishers are due, and what wakes publishers then.
//!
//! Tokio's timers tick in milliseconds, which would show in every latency of an open loop. So a thread sleeps to within
//! some tens of microseconds and pokes the runtime through a socket pair.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::connection::Kick;
use crate::fleet::{Phase, Seat};

/// Bounds of the time between two wake-ups.
const TICK_MIN: Duration = Duration::from_micros(100);
const TICK_MAX: Duration = Duration::from_millis(5);

/// When a publisher's messages are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timing {
    /// Closed loop: as soon as the window has room.
    Closed,
    /// Open loop: message n at `offset_ns` + n × `interval_ns` after publishing starts.
    Open { offset_ns: f64, interval_ns: f64 },
}

impl Timing {
    /// The timing of one of so many publishers, who together send `rate` messages a second: all at the same interval, spread
    /// evenly over it. Without a rate, a closed loop.
    pub(crate) fn of(rate: Option<f64>, publisher: u32, publishers: u32) -> Self {
        match rate {
            None => Self::Closed,
            Some(rate) => {
                let between_ns = 1e9 / rate;
                Self::Open {
                    offset_ns: between_ns * f64::from(publisher),
                    interval_ns: between_ns * f64::from(publishers),
                }
            }
        }
    }

    /// When message `sequence` is due; `None` for at once.
    pub(crate) fn due_ns(&self, start_ns: u64, sequence: u64) -> Option<u64> {
        match *self {
            Self::Closed => None,
            Self::Open { offset_ns, interval_ns } => {
                Some(start_ns.saturating_add((offset_ns + interval_ns * sequence as f64) as u64))
            }
        }
    }

    /// How many messages are due before `end_ns`; `None` where none ever is.
    pub(crate) fn due_before(&self, start_ns: u64, end_ns: u64) -> Option<u64> {
        match *self {
            Self::Closed => None,
            Self::Open { offset_ns, interval_ns } => {
                let time_ns = end_ns.saturating_sub(start_ns) as f64 - offset_ns;
                Some(if time_ns > 0.0 { (time_ns / interval_ns).ceil() as u64 } else { 0 })
            }
        }
    }
}

/// The publishers of one worker, in the order in which they are due; all have the same interval.
pub(crate) struct Pacer {
    publishers: Vec<(Rc<Kick>, Timing)>,
    /// Wake-ups given so far; they go round the publishers.
    given: u64,
}

impl Pacer {
    pub(crate) fn new(publishers: Vec<(Rc<Kick>, Timing)>) -> Self {
        Self { publishers, given: 0 }
    }

    /// Runs until the seat leaves [`Phase::Publish`].
    pub(crate) async fn run(mut self, seat: &Seat) -> io::Result<()> {
        let Some(interval) = self.tick() else {
            return Ok(());
        };
        let ticks = tokio_uring::net::UnixStream::from_std(spawn_ticks(seat.clock, interval)?);
        let mut buffer = vec![0; 64];
        while seat.phase() <= Phase::Publish {
            let (result, returned) = ticks.read(buffer).await;
            buffer = returned;
            if result? == 0 {
                break;
            }
            if let Some(schedule) = seat.schedule() {
                self.kick_due(schedule.publish_start_ns, seat.clock.now_ns());
            }
        }
        Ok(())
    }

    /// Kicks every publisher that has a message due since its last kick.
    fn kick_due(&mut self, start_ns: u64, now_ns: u64) {
        let count = self.publishers.len() as u64;
        loop {
            let (kick, timing) = &self.publishers[(self.given % count) as usize];
            match timing.due_ns(start_ns, self.given / count) {
                Some(due_ns) if due_ns <= now_ns => kick.kick(),
                Some(_) | None => return,
            }
            self.given += 1;
        }
    }

    /// The time between two messages of this worker, within bounds; `None` when there is nothing to pace.
    fn tick(&self) -> Option<Duration> {
        match self.publishers.first()? {
            (_, Timing::Closed) => None,
            (_, Timing::Open { interval_ns, .. }) => {
                let between_ns = interval_ns / self.publishers.len() as f64;
                Some(Duration::from_nanos(between_ns as u64).clamp(TICK_MIN, TICK_MAX))
            }
        }
    }
}

/// A stream on which a byte arrives after every `interval`, until it is closed.
fn spawn_ticks(clock: Clock, interval: Duration) -> io::Result<BlockingUnixStream> {
    let (reader, mut writer) = BlockingUnixStream::pair()?;
    let interval_ns = crate::clock::nanoseconds(interval);
    thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        let mut due_ns = clock.now_ns();
        loop {
            due_ns = (due_ns + interval_ns).max(clock.now_ns());
            thread::sleep(Duration::from_nanos(due_ns - clock.now_ns().min(due_ns)));
            if writer.write_all(&[0]).is_err() {
                return;
            }
        }
    })?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_loop_messages_are_due_at_fixed_times_whatever_happened_before() {
        let timing = Timing::of(Some(4_000_000.0), 1, 4);
        assert_eq!(timing.due_ns(10_000, 0), Some(10_250));
        assert_eq!(timing.due_ns(10_000, 2), Some(12_250));
        assert_eq!(timing.due_ns(10_000, 1_000_000), Some(1_000_010_250));
        assert_eq!(Timing::of(None, 1, 4).due_ns(10_000, 3), None);
        for (end_ns, due) in [(10_000, 0), (10_250, 0), (10_251, 1), (12_250, 2), (12_251, 3)] {
            assert_eq!(timing.due_before(10_000, end_ns), Some(due), "{end_ns}");
        }
        assert_eq!(Timing::of(None, 1, 4).due_before(0, u64::MAX), None);
    }
}
