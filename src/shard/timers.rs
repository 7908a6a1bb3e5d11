//! A hierarchical timer wheel: arming costs a push, and what is not due costs nothing.
//!
//! Timers are never cancelled. Their owner remembers the deadline that counts and ignores a timer that fires with
//! another one; a keep-alive that is refreshed by every packet thus touches the wheel once per interval, not per packet.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// Resolution: a timer fires less than one tick after its deadline, never before it.
const TICK: Duration = Duration::from_millis(64);
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^5 ticks are 2 years; what lies further ahead waits in the last level and is sorted in again.
const LEVELS: usize = 5;

/// Pending timers, each with the moment it was armed for and a key.
#[derive(Debug)]
pub struct Timers<K> {
    levels: Box<[Level<K>; LEVELS]>,
    /// All deadlines up to and including this tick have been moved to `due`.
    now: u64,
    due: VecDeque<(Timestamp, K)>,
    pending: usize,
}

#[derive(Debug)]
struct Level<K> {
    occupied: u64,
    slots: [Vec<(Timestamp, K)>; SLOTS],
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        let level = || Level { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Self { levels: Box::new(std::array::from_fn(|_| level())), now: 0, due: VecDeque::new(), pending: 0 }
    }
}

impl<K> Timers<K> {
    /// Arms a timer.
    pub fn arm(&mut self, deadline: Timestamp, key: K) {
        self.pending += 1;
        self.place(deadline, key);
    }

    /// The next timer that is due at `now`, with the deadline it was armed for.
    pub fn expire(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        // A tick is over, and its timers due, once the clock has reached the next one.
        let reached = now.as_nanos() / TICK.as_nanos() as u64;
        while self.due.is_empty() && self.now < reached {
            match self.next_occupied() {
                Some(tick) if tick <= reached => self.advance(tick),
                Some(_) | None => self.now = reached,
            }
        }
        let fired = self.due.pop_front()?;
        self.pending -= 1;
        Some(fired)
    }

    /// When [`expire`](Self::expire) should be called next: not later than one tick after the earliest deadline.
    pub fn next(&self) -> Option<Timestamp> {
        if self.pending == 0 {
            return None;
        }
        let tick = if self.due.is_empty() { self.next_occupied()? } else { self.now };
        Some(Timestamp::from_nanos(tick.saturating_mul(TICK.as_nanos() as u64)))
    }

    /// Puts a timer where it belongs as seen from `self.now`.
    fn place(&mut self, deadline: Timestamp, key: K) {
        let tick = deadline.as_nanos().div_ceil(TICK.as_nanos() as u64);
        if tick <= self.now {
            self.due.push_back((deadline, key));
            return;
        }
        // The highest digit (base 64) in which the two differ decides the level.
        let differing = 63 - (tick ^ self.now).leading_zeros();
        let level = (differing / SLOT_BITS).min(LEVELS as u32 - 1);
        let reach = 1u64 << (SLOT_BITS * LEVELS as u32);
        let tick = tick.min(self.now + reach - (1 << (SLOT_BITS * (LEVELS as u32 - 1))));
        let slot = (tick >> (SLOT_BITS * level)) as usize & (SLOTS - 1);
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        level.slots[slot].push((deadline, key));
    }

    /// The first tick after `self.now` at which a slot has to be emptied.
    fn next_occupied(&self) -> Option<u64> {
        let mut earliest = None;
        for (index, level) in self.levels.iter().enumerate() {
            if level.occupied == 0 {
                continue;
            }
            let shift = SLOT_BITS * index as u32;
            let current = (self.now >> shift) as u32 & (SLOTS as u32 - 1);
            // Slots after the current one come in this round, those up to it in the next.
            let steps = level.occupied.rotate_right((current + 1) % SLOTS as u32).trailing_zeros() + 1;
            let tick = ((self.now >> shift) + u64::from(steps)) << shift;
            earliest = Some(earliest.map_or(tick, |earliest: u64| earliest.min(tick)));
        }
        earliest
    }

    /// Goes to `tick`, the next one with an occupied slot, and sorts the timers of all slots that begin there.
    fn advance(&mut self, tick: u64) {
        self.now = tick;
        for index in (0..LEVELS).rev() {
            let shift = SLOT_BITS * index as u32;
            if tick & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (tick >> shift) as usize & (SLOTS - 1);
            let level = &mut self.levels[index];
            if level.occupied & (1 << slot) == 0 {
                continue;
            }
            level.occupied &= !(1 << slot);
            for (deadline, key) in std::mem::take(&mut level.slots[slot]) {
                self.place(deadline, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn nothing_fires_early_and_all_fires_within_a_tick() {
        let mut timers = Timers::default();
        for milliseconds in [1, 63, 64, 65, 4_095, 4_096, 4_097, 262_144, 20_000_000, 900_000_000] {
            timers.arm(at(milliseconds), milliseconds);
        }
        let mut fired = Vec::new();
        while let Some(next) = timers.next() {
            while let Some((deadline, key)) = timers.expire(next) {
                assert_eq!(deadline, at(key));
                assert!(next >= deadline, "{key} fired early");
                assert!(next.since(deadline) < TICK * 2, "{key} fired {:?} late", next.since(deadline));
                fired.push(key);
            }
        }
        assert_eq!(fired, [1, 63, 64, 65, 4_095, 4_096, 4_097, 262_144, 20_000_000, 900_000_000]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_beyond_the_last_level_waits_its_time() {
        let mut timers = Timers::default();
        let ten_years = Duration::from_secs(10 * 365 * 86_400);
        let start = at(1_800_000_000_000);
        assert!(timers.expire(start).is_none());
        timers.arm(start + ten_years, ());
        let mut now = start;
        let mut wakes = 0;
        loop {
            now = timers.next().expect("armed").max(now);
            if timers.expire(now).is_some() {
                break;
            }
            wakes += 1;
        }
        assert!(now >= start + ten_years);
        assert!(wakes < 100, "{wakes} wakes");
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(
            steps in prop::collection::vec((0u64..400_000, 0u64..90_000), 1..60),
            start in 0u64..10_000_000_000,
        ) {
            let mut timers = Timers::default();
            let mut now = start;
            prop_assert!(timers.expire(at(now)).is_none());
            let mut model: Vec<u64> = Vec::new();
            for (delay, pause) in steps {
                timers.arm(at(now + delay), now + delay);
                model.push(now + delay);
                now += pause;
                while let Some((_, key)) = timers.expire(at(now)) {
                    prop_assert!(key <= now);
                    let index = model.iter().position(|&deadline| deadline == key);
                    prop_assert!(index.is_some(), "fired twice");
                    model.swap_remove(index.unwrap_or_default());
                }
                for &deadline in &model {
                    prop_assert!(deadline + 128 > now, "{} is overdue at {}", deadline, now);
                }
                if let (Some(next), Some(&first)) = (timers.next(), model.iter().min()) {
                    prop_assert!(next <= at(first) + TICK, "sleeps too long");
                }
            }
        }
    }
}
