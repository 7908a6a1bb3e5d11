//! Wills with a delay: when one is due, and what takes it back.
//!
//! A will waits behind the end of its connection for its delay or the end of its session, whichever is sooner
//! [MQTT-3.1.2-8]; a new connection to the session before that takes it back [MQTT-3.1.3-9]. What waits is kept here with the
//! span of time in which it may become due. The span is one moment until a crash makes it wider: whether the broker knows of
//! the end of the connection, and counts from there, or counts from its restart, nobody can tell. Of what was decided and
//! no answer has confirmed, a crash may take the decision back; the will then waits again.

use crate::client::LeftWill;
use crate::ledger::Ledger;

use super::{SECOND, TIMER_SLACK_NS};

/// The wills of one client whose connections have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Wills {
    waiting: Vec<Waiting>,
    /// Taken back by their client, which a crash may undo.
    withdrawn: Vec<Waiting>,
    /// Published after some waiting, which a crash may undo.
    published: Vec<Waiting>,
    pub(super) visits: WillVisits,
}

/// How often wills met with what fate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WillVisits {
    /// Published because their delay was over.
    pub(crate) delayed: u64,
    /// Published because their session ended first.
    pub(crate) hastened: u64,
    /// Taken back by a new connection in time.
    pub(crate) resumed: u64,
    /// Waiting when the broker crashed.
    pub(crate) crashed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    will: LeftWill,
    /// When it is due, from the first to the last moment that it may be.
    due_at: (u64, u64),
    /// The broker has it, and nothing may have taken it back: it is owed in the end.
    is_certain: bool,
}

/// What a will has to wait for never comes.
const NEVER: (u64, u64) = (u64::MAX, u64::MAX);

impl Wills {
    /// The connection of a will ended `now`. With `is_in_log` a crash cannot make the broker forget the will.
    pub(super) fn wait(&mut self, now: u64, will: LeftWill, expiry_seconds: u32, is_in_log: bool) {
        let due_at = due_at(now, will, expiry_seconds);
        self.waiting.push(Waiting { will, due_at: (due_at, due_at), is_certain: is_in_log });
    }

    /// The client takes a will back with its connection.
    pub(super) fn withdraw(&mut self, will: LeftWill) {
        self.withdrawn.push(Waiting { will, due_at: NEVER, is_certain: false });
    }

    /// A new connection goes on with the session [MQTT-3.1.3-9]. With `in_doubt` the broker perhaps refuses it.
    pub(super) fn resume(&mut self, ledger: &mut Ledger, now: u64, in_doubt: bool) {
        for waiting in self.waiting.drain(..) {
            let (first, _) = waiting.due_at;
            if first <= now || in_doubt {
                ledger.will_may_come(waiting.will.number);
            } else {
                self.visits.resumed += 1;
            }
            self.withdrawn.push(waiting);
        }
    }

    /// The session ends, and its will does not wait any longer.
    pub(super) fn publish(&mut self, ledger: &mut Ledger) {
        for waiting in self.waiting.drain(..) {
            waiting.publish(ledger);
            self.visits.hastened += u64::from(waiting.is_certain);
            self.published.push(waiting);
        }
    }

    /// The broker looks at its timers.
    pub(super) fn pass(&mut self, ledger: &mut Ledger, now: u64) {
        let published = &mut self.published;
        let visits = &mut self.visits;
        self.waiting.retain(|waiting| {
            let (first, last) = waiting.due_at;
            let is_over = last.saturating_add(TIMER_SLACK_NS) <= now;
            if is_over {
                waiting.publish(ledger);
                visits.delayed += u64::from(waiting.is_certain);
                published.push(*waiting);
            } else if first <= now {
                ledger.will_may_come(waiting.will.number);
            }
            !is_over
        });
    }

    /// What has become of wills is in the log.
    pub(super) fn confirm(&mut self) {
        self.withdrawn.clear();
        self.published.clear();
    }

    /// The broker is gone and comes back at `returns_at`, and the expiry of the session may be anything in this span then.
    pub(super) fn crash(&mut self, ledger: &mut Ledger, returns_at: u64, expiry_seconds: (u32, u32)) {
        let (shortest, longest) = expiry_seconds;
        self.visits.crashed += self.waiting.len() as u64;
        for waiting in &self.published {
            ledger.will_may_come(waiting.will.number);
        }
        for waiting in &mut self.withdrawn {
            waiting.is_certain = false;
        }
        self.waiting.append(&mut self.published);
        self.waiting.append(&mut self.withdrawn);
        for waiting in &mut self.waiting {
            let (first, _) = waiting.due_at;
            let counted_anew = |expiry_seconds| due_at(returns_at, waiting.will, expiry_seconds);
            waiting.due_at = (first.min(counted_anew(shortest)), counted_anew(longest));
        }
    }

    /// The broker is gone without a log: nobody knows of any will.
    pub(super) fn forget(&mut self) {
        *self = Self { visits: self.visits, ..Self::default() };
    }

    /// When wills are due that a timer publishes at a moment which is known.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = (u64, u64)> {
        // Where a crash has left a wide span, the will is allowed to go at any time in it.
        self.waiting.iter().map(|waiting| waiting.due_at).filter(|(first, last)| first == last)
    }
}

impl WillVisits {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            delayed: self.delayed + other.delayed,
            hastened: self.hastened + other.hastened,
            resumed: self.resumed + other.resumed,
            crashed: self.crashed + other.crashed,
        }
    }
}

impl Waiting {
    fn publish(&self, ledger: &mut Ledger) {
        if self.is_certain {
            ledger.will_is_due(self.will.number, true);
        } else {
            ledger.will_may_come(self.will.number);
        }
    }
}

/// When a will is due whose client went away at `since`.
fn due_at(since: u64, will: LeftWill, expiry_seconds: u32) -> u64 {
    since + u64::from(will.delay_seconds.min(expiry_seconds)) * SECOND
}
