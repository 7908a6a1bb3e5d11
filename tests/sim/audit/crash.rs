//! What a crash takes back, and what it may not.

use crate::ledger::Ledger;

use super::{Answer, Audit, Presence, SECOND, Session, Stage};

impl Audit {
    /// The broker is gone, and comes back at `returns_at`; all connections have ended. With `forgets_all` it had no log.
    pub(crate) fn crash(&mut self, ledger: &mut Ledger, now: u64, returns_at: u64, forgets_all: bool) {
        for record in self.connections.iter_mut().filter(|connection| connection.is_open) {
            record.is_open = false;
            let session = &mut self.sessions[record.client];
            if let Some(will) = record.terms.and_then(|terms| terms.will) {
                // It is known to the log if CONNACK has accepted it.
                let is_in_log = session.after_crash == Presence::Present && record.connack == Answer::Accepted;
                if will.delay_seconds > 0 && session.expiry_seconds > 0 {
                    // From when the delay counts, and for how long, is found below.
                    session.wills.wait(returns_at, will, session.expiry_seconds, is_in_log);
                } else {
                    ledger.will_is_due(will.number, is_in_log);
                }
            }
        }
        for session in &mut self.sessions {
            if forgets_all {
                session.wills.forget();
                *session = session.successor();
                session.after_crash = Presence::Absent;
            } else {
                session.wills.crash(ledger, returns_at, session.expiry_after_crash);
                session.crash(now, returns_at);
            }
        }
        ledger.crash(forgets_all);
        self.log_has_failed = false;
    }
}

impl Session {
    /// A session without a past, in place of this one.
    pub(super) fn successor(&self) -> Self {
        Self {
            next_ordinal: self.next_ordinal,
            after_crash: self.after_crash,
            expiry_after_crash: self.expiry_after_crash,
            ends_after_crash: self.span_after_crash(),
            wills: self.wills.clone(),
            ..Self::default()
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.presence != Presence::Absent
    }

    /// A connection serves it from now on.
    pub(super) fn is_admitted(&mut self, connection: usize, expiry_seconds: u32) {
        if self.presence == Presence::Absent {
            self.presence = Presence::Present;
            self.after_crash = Presence::Unsure;
        }
        self.connection = Some(connection);
        self.changes_expiry(expiry_seconds);
        self.ends_after_crash = self.span_after_crash();
        self.ends_at = None;
    }

    /// When its time may be over if a crash takes back what was not answered.
    fn span_after_crash(&self) -> Option<(u64, u64)> {
        let spans = self.ends_at.into_iter().chain(self.ends_after_crash);
        spans.reduce(|(first, last), (other_first, other_last)| (first.min(other_first), last.max(other_last)))
    }

    pub(super) fn changes_expiry(&mut self, seconds: u32) {
        self.expiry_seconds = seconds;
        let (shortest, longest) = self.expiry_after_crash;
        self.expiry_after_crash = (shortest.min(seconds), longest.max(seconds));
        if seconds == 0 && self.after_crash == Presence::Present {
            self.after_crash = Presence::Unsure;
        }
    }

    /// CONNACK is sent: what it says outlives a crash.
    pub(super) fn is_confirmed(&mut self, session_present: bool) {
        if !session_present {
            self.exchanges.clear();
            self.over.clear();
        }
        self.presence = Presence::Present;
        self.wills.confirm();
        self.expiry_after_crash = (self.expiry_seconds, self.expiry_seconds);
        self.ends_after_crash = None;
        self.after_crash = if self.expiry_seconds > 0 { Presence::Present } else { Presence::Absent };
    }

    /// The session is gone; nobody has been told.
    pub(super) fn ends(&mut self) {
        self.presence = Presence::Absent;
        if self.after_crash == Presence::Present {
            self.after_crash = Presence::Unsure;
        }
    }

    /// All is delivered, acknowledged and in the log.
    pub(super) fn rests(&mut self) {
        self.has_unseen = false;
        self.exchanges.retain(|_, exchange| !exchange.may_be_over);
        self.over.clear();
        self.wills.confirm();
        self.expiry_after_crash = (self.expiry_seconds, self.expiry_seconds);
        self.ends_after_crash = None;
        if self.expiry_seconds > 0 {
            self.after_crash = self.presence;
        } else {
            self.after_crash = Presence::Absent;
        }
    }

    fn crash(&mut self, now: u64, returns_at: u64) {
        self.presence = self.after_crash;
        // What was sent last may have been more than was seen.
        self.has_unseen = true;
        for exchange in self.exchanges.values_mut() {
            match exchange.stage {
                Stage::Received if !exchange.is_released => exchange.stage = Stage::PerhapsReceived,
                Stage::Published | Stage::Received | Stage::PerhapsReceived => {}
            }
        }
        for (id, mut exchange) in std::mem::take(&mut self.over) {
            exchange.may_be_over = true;
            self.exchanges.entry(id).or_insert(exchange);
        }
        let (shortest, longest) = self.expiry_after_crash;
        let ends_at = |from: u64, seconds: u32| match seconds {
            u32::MAX => None,
            seconds => Some(from + u64::from(seconds) * SECOND),
        };
        let (known_first, known_last) = self.span_after_crash().unzip();
        self.ends_after_crash = None;
        let first = ends_at(now, shortest).into_iter().chain(known_first).min();
        let last = ends_at(returns_at, longest).map(|last| last.max(known_last.unwrap_or(0)));
        self.ends_at = first.map(|first| (first, last.unwrap_or(u64::MAX)));
        if self.presence != Presence::Absent && self.ends_at.is_some_and(|(first, _)| first <= returns_at) {
            self.presence = Presence::Unsure;
        }
    }
}
