//! Letters on their way to other shards: what the routing rings have no room for yet waits here.
//!
//! A ring that is full never blocks the shard and never loses a QoS 1 or 2 message. The letters wait, and the clients
//! that cause them are not read from until their ring drains; so what waits is bounded by `max_waiting_letters` and one
//! receive of each client that was being read. QoS 0 messages are dropped there, and counted.
//!
//! A letter leaves when the log is stable as far as it waits for, and those behind it leave after it.

use std::collections::VecDeque;

use crate::fault::{Fault, PlantedFault};
use crate::route::{Letter, ShardId};
use crate::store::LogPosition;

use super::connection::ConnectionKey;

#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Vec<VecDeque<(LogPosition, Letter)>>,
    /// Letters above which a ring counts as full.
    high: usize,
    /// Connections that are not read from until no ring is full.
    pub(super) paused: Vec<ConnectionKey>,
    /// Emptied batches, to be filled again.
    batches: Vec<Vec<Letter>>,
    fault: PlantedFault,
    posted: u64,
}

/// Batches kept for reuse, at most.
const KEPT_BATCHES: usize = 64;

impl Outbox {
    pub(super) fn new(shards: u16, high: u32, fault: PlantedFault) -> Self {
        Self {
            waiting: (0..shards).map(|_| VecDeque::new()).collect(),
            high: high as usize,
            paused: Vec::new(),
            batches: Vec::new(),
            fault,
            posted: 0,
        }
    }

    /// Posts a letter that waits for nothing but those before it.
    pub(super) fn post(&mut self, to: ShardId, letter: Letter) {
        self.post_after(to, letter, LogPosition::NOTHING);
    }

    /// Posts a letter that leaves when the log is stable up to `after`.
    pub(super) fn post_after(&mut self, to: ShardId, letter: Letter, after: LogPosition) {
        self.posted += 1;
        if self.fault.is(Fault::LetterDropped) && self.posted.is_multiple_of(64) {
            return;
        }
        self.waiting[to.index()].push_back((after, letter));
    }

    /// Whether so much waits for this shard that its sources have to stop.
    pub(super) fn is_full(&self, to: ShardId) -> bool {
        self.waiting[to.index()].len() >= self.high
    }

    /// Whether every ring has drained far enough for the paused sources to go on.
    pub(super) fn has_drained(&self) -> bool {
        self.waiting.iter().all(|waiting| waiting.len() <= self.high / 2)
    }

    pub(super) fn take(&mut self, to: ShardId, max: usize, stable: LogPosition) -> Option<Vec<Letter>> {
        let waiting = &mut self.waiting[to.index()];
        let ready = waiting.iter().take(max).take_while(|(after, _)| *after <= stable).count();
        if ready == 0 {
            return None;
        }
        let mut batch = self.batches.pop().unwrap_or_default();
        batch.extend(waiting.drain(..ready).map(|(_, letter)| letter));
        Some(batch)
    }

    /// The log has failed: what waits for it will never leave but for those letters that are `kept` without it, and none
    /// behind need wait.
    pub(super) fn discard_unstable(&mut self, stable: LogPosition, mut kept: impl FnMut(&mut Letter) -> bool) {
        for waiting in &mut self.waiting {
            waiting.retain_mut(|(after, letter)| {
                let is_stable = *after <= stable;
                *after = LogPosition::NOTHING;
                is_stable || kept(letter)
            });
        }
    }

    pub(super) fn recycle(&mut self, mut batch: Vec<Letter>) {
        if self.batches.len() < KEPT_BATCHES {
            batch.clear();
            self.batches.push(batch);
        }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.waiting.len()
    }

    /// Letters that wait for one shard.
    pub(super) fn waiting(&self, to: ShardId) -> u64 {
        self.waiting[to.index()].len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}
