//! A bound for the log, which holds the queues of sessions that outlive the broker: publishers are refused before the disk is full.
//!
//! A log is *full* when what is written and the copy that the next cleaning makes of what is alive come to more than
//! [`max_log_bytes`](crate::config::Limits::max_log_bytes), or when more deliveries wait than the numbers of a recovery can span. Then a
//! QoS 1 or 2 message that would have to be logged here is refused with 0x97 (3.1.1 has no word for it: its connection is
//! ended). Every shard tells the others, which refuse what has a durable subscriber here. What was acknowledged before the word
//! arrived is taken as ever, so the bound is passed by what is on its way, and nothing that was acknowledged is lost.
//!
//! | log is | event                                         | becomes | others are told |
//! |--------|-----------------------------------------------|---------|-----------------|
//! | open   | more than the bound, seen once in a turn      | full    | yes             |
//! | full   | a second is over, down to 7/8 of the bound    | open    | yes             |
//! | full   | a second is over, still more                  | full    | –               |

use std::time::Duration;

use crate::config::MAX_QUEUED_MESSAGES;
use crate::route::{Letter, ShardId};

use super::{Shard, TimerKey};

/// Segments that the bound leaves at least: a cleaning does not begin before four are written.
const SEGMENTS_MIN: u64 = 8;

/// Deliveries that wait at most: with those on their way still far from what one session's numbers may span in a recovery.
const DELIVERIES_MAX: u64 = *MAX_QUEUED_MESSAGES.end() as u64;

/// How often a full log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// Sees whether the log has become full; what a cleaning has just given up is let go first.
    pub(super) fn note_log_fill(&mut self) {
        let log = &self.clients.log;
        if !self.clients.is_log_at_limit && log.is_on() && !log.is_releasing() && self.exceeds_log_limit(1, 1) {
            self.set_log_at_limit(true);
            self.clients.timers.arm(self.clients.now + LOOK_INTERVAL, TimerKey::LogLimit);
        }
    }

    /// A full log may have room again.
    pub(super) fn log_limit_timeout(&mut self) {
        if self.exceeds_log_limit(7, 8) {
            self.clients.timers.arm(self.clients.now + LOOK_INTERVAL, TimerKey::LogLimit);
        } else {
            self.set_log_at_limit(false);
        }
    }

    fn set_log_at_limit(&mut self, is_full: bool) {
        self.clients.is_log_at_limit = is_full;
        self.tell_others(|| Letter::LogAtLimit { is_full });
    }

    /// The log of another shard has become full, or has room again.
    pub(super) fn handle_log_at_limit(&mut self, shard: ShardId, is_full: bool) {
        let full = &mut self.clients.links.full;
        let _is_news = if is_full { full.insert(shard) } else { full.remove(shard) };
    }

    /// How long the log may be, with room for a copy of what is alive; none if there is no bound.
    pub(super) fn log_limit(&self) -> Option<u64> {
        let max = self.clients.limits.max_log_bytes?;
        Some(max.get().max(SEGMENTS_MIN * self.clients.log.segment_bytes()))
    }

    /// Whether the log is longer than so many parts of its bound, or more deliveries wait than that part of theirs.
    fn exceeds_log_limit(&self, parts: u64, of: u64) -> bool {
        let (away, _) = self.clients.backlogs.size();
        if away + self.clients.messages.references() > DELIVERIES_MAX / of * parts {
            return true;
        }
        let Some(limit) = self.log_limit() else { return false };
        let written = self.clients.log.bytes() + self.clients.log.filling_bytes() as u64;
        written + self.bytes_to_copy() > limit / of * parts
    }
}
