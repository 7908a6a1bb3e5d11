//! What a shard does without when the process's memory gets short, the least useful first, so that what was promised is kept.
//!
//! | stage       | from, of `--max-memory` | what is done without                                                             |
//! |-------------|-------------------------|----------------------------------------------------------------------------------|
//! | enough      |                         | nothing                                                                          |
//! | scarce      | 85 %                    | clients that have no session here: CONNACK 0x89 (3.1.1: 3)                       |
//! | short       | 92 %                    | PUBACK and PUBREC: a publisher stops by itself when its window is full           |
//! | exhausted   | 97 %                    | QoS 0 messages that are published                                                |
//!
//! Who has a session may always come back, for it is he who empties its queue. Nothing of a publisher is held up but its receipts,
//! as in `congestion`: to stop reading from it would stop its acknowledgements as a subscriber, too, and then nothing
//! would ever drain. They leave in their order when there is room again, none is lost, and what they acknowledge is owned as ever.
//!
//! How much memory is taken is not for the shard to know: its driver says which stage it is. To leave a stage takes two percent
//! less than to enter it.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::config::{MEMORY_EXHAUSTED_PERCENT, MEMORY_RELIEF_PERCENT, MEMORY_SCARCE_PERCENT, MEMORY_SHORT_PERCENT};
use crate::time::Timestamp;

use super::Shard;
use super::clients::Clients;
use super::connection::ConnectionKey;

/// How short memory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum MemoryStage {
    /// Not at all.
    #[default]
    Enough,
    /// Nobody new comes in.
    Scarce,
    /// And publishers wait.
    Short,
    /// And QoS 0 messages are dropped.
    Exhausted,
}

impl MemoryStage {
    const ALL: [Self; 4] = [Self::Enough, Self::Scarce, Self::Short, Self::Exhausted];

    /// What comes after this stage when so many bytes of those that may be taken are.
    #[must_use]
    pub fn next(self, taken_bytes: u64, max_bytes: u64) -> Self {
        let percent = u128::from(taken_bytes) * 100 / u128::from(max_bytes.max(1));
        let is_over = |stage: &Self| match stage.entered_at() {
            Some(mark) if *stage <= self => percent >= u128::from(mark - MEMORY_RELIEF_PERCENT),
            Some(mark) => percent >= u128::from(mark),
            None => true,
        };
        Self::ALL.into_iter().rfind(is_over).expect("the first one has no mark")
    }

    fn entered_at(self) -> Option<u64> {
        match self {
            Self::Enough => None,
            Self::Scarce => Some(MEMORY_SCARCE_PERCENT),
            Self::Short => Some(MEMORY_SHORT_PERCENT),
            Self::Exhausted => Some(MEMORY_EXHAUSTED_PERCENT),
        }
    }

    /// What is done without, in words.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Enough => "all is served",
            Self::Scarce => "clients without a session are refused",
            Self::Short => "clients without a session are refused, and publishers wait",
            Self::Exhausted => "clients without a session are refused, publishers wait, and QoS 0 messages are dropped",
        }
    }
}

/// How short memory is, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stage: MemoryStage,
    /// Publishers whose receipts are held.
    held: HashSet<ConnectionKey, FixedState>,
}

impl Memory {
    /// Whether clients that have no session are refused.
    pub(super) fn refuses_newcomers(&self) -> bool {
        self.stage >= MemoryStage::Scarce
    }

    /// Whether PUBACK and PUBREC are held.
    #[inline]
    pub(super) fn holds_receipts(&self) -> bool {
        self.stage >= MemoryStage::Short
    }

    /// Whether QoS 0 messages are dropped.
    #[inline]
    pub(super) fn drops_messages(&self) -> bool {
        self.stage >= MemoryStage::Exhausted
    }

    /// A publisher has receipts that are held.
    pub(super) fn note_held(&mut self, key: ConnectionKey) {
        self.held.insert(key);
    }
}

impl Shard {
    /// Memory is this short now.
    pub fn handle_memory(&mut self, now: Timestamp, stage: MemoryStage) {
        self.clients.now = now;
        self.clients.memory.stage = stage;
        self.clients.counters.memory_stage = stage as u64;
        if !self.clients.memory.holds_receipts() {
            self.clients.release_receipts();
        }
    }
}

impl Clients {
    fn release_receipts(&mut self) {
        for key in std::mem::take(&mut self.memory.held) {
            // Who has come in the place of one that is gone has nothing to be released that waits.
            if self.connections.get(key.index()).is_some_and(|connection| connection.is_open()) {
                self.flush_receipts(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_left_later_than_it_is_entered() {
        use MemoryStage::{Enough, Exhausted, Scarce, Short};
        for (before, taken, after) in [
            (Enough, 84, Enough),
            (Enough, 85, Scarce),
            (Enough, 92, Short),
            (Enough, 1000, Exhausted),
            (Scarce, 83, Scarce),
            (Scarce, 82, Enough),
            (Short, 90, Short),
            (Short, 89, Scarce),
            (Short, 96, Short),
            (Short, 97, Exhausted),
            (Exhausted, 95, Exhausted),
            (Exhausted, 94, Short),
            (Exhausted, 0, Enough),
        ] {
            assert_eq!(before.next(taken, 100), after, "{before:?} with {taken}");
        }
        assert_eq!(Enough.next(u64::MAX, 0), Exhausted);
    }
}
