//! Whose bytes are shown to the shard when: nobody is heard at length before all others have had their turn.
//!
//! The kernel fills as many buffers for a connection as there are, and a turn that showed them all would make everybody
//! wait for whoever sends most. So a connection is heard with its share of [`SHARE_BUFFERS`] as they come, late in a turn with
//! one of them. What is behind waits until all that has come of others was heard, and then goes on in rounds while the turn is
//! short ([`TURN_MAX`]). Whoever still waits when it is over has become *heavy*: it is not read until all it has sent was
//! heard, and then one buffer at a time, always in a round, so that buffers and time are left for the others and the sender
//! learns to wait. It is light again when it has no more to say than that, or when the turns are short.
//!
//! | state of a connection | a buffer comes        | its round comes                                    | the turn is over |
//! |-----------------------|-----------------------|----------------------------------------------------|------------------|
//! | Light, nothing waits  | heard, or *waits*     | (impossible)                                       | –                |
//! | Light, waits          | waits                 | heard; another round if more waits                 | heavy, *held*    |
//! | Heavy, read           | waits, *held*         | (impossible)                                       | –                |
//! | Heavy, held           | waits (was on its way) | heard; when nothing waits *read*, perhaps as a light one | –           |
//!
//! The order of a connection's bytes is kept: while something of it waits, nothing overtakes. Its end counts as the last of
//! them. When the shard closes a connection, what waits of it is dropped. Everything here has the size of the receive
//! buffers; a connection costs a few bytes for its place.

use std::collections::VecDeque;
use std::time::Duration;

/// Buffers of one connection that are heard in a turn at once: more than a client sends in a turn that is merely busy.
const SHARE_BUFFERS: u8 = 4;

/// Buffers of one connection that are heard in its round.
pub(super) const ROUND_BUFFERS: usize = 8;

/// Rounds begin only while the turn is younger than this: long beside what a turn costs by itself, short beside what people
/// and timeouts notice.
pub(super) const TURN_MAX: Duration = Duration::from_millis(2);

/// A turn that has taken less leaves room for everybody.
const SHORT_TURN_MAX: Duration = Duration::from_micros(500);

/// A buffer that the kernel has filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Filled {
    pub(super) buffer: u16,
    pub(super) bytes: u32,
}

/// All that waits.
#[derive(Debug)]
pub(super) struct Turns {
    /// By the number of the buffer: what it holds, and which one of the same connection comes behind it.
    links: Box<[Link]>,
    /// Connections of which something waits, in the order of their rounds.
    rounds: VecDeque<u32>,
    /// Of the turn, wrapping: who was last heard 65,536 turns ago may have to wait for a round, which does no harm.
    number: u16,
    /// How long it took until all that was heard in the last turn was heard; nothing if there were no rounds.
    last: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    bytes: u32,
    next: u16,
}

/// What a connection knows about its turns.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The turn in which it was last heard, and how often.
    turn: u16,
    heard: u8,
    /// How many buffers of it wait, and the first and last of them if there are any.
    waiting: u16,
    first: u16,
    last: u16,
}

impl Place {
    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        self.waiting > 0
    }
}

impl Turns {
    /// For so many receive buffers.
    pub(super) fn new(buffers: u16) -> Self {
        Self {
            links: vec![Link::default(); usize::from(buffers)].into(),
            rounds: VecDeque::new(),
            number: 0,
            last: Duration::ZERO,
        }
    }

    /// Begins a turn.
    pub(super) fn begin(&mut self) {
        self.number = self.number.wrapping_add(1);
    }

    /// The rounds of a turn are over, and so old was it then.
    pub(super) fn end(&mut self, age: Duration) {
        self.last = age;
    }

    /// Whether the last turn left room for everybody.
    pub(super) fn was_short(&self) -> bool {
        self.last < SHORT_TURN_MAX
    }

    /// Whether the light connection is heard with one more buffer at once: with the first of a turn always, with more if the turn
    /// is young. If not, that buffer has to [`wait`](Self::wait).
    pub(super) fn is_heard_at_once(&self, place: &mut Place, age: impl FnOnce() -> Duration) -> bool {
        if place.waits() {
            return false;
        }
        if place.turn != self.number {
            place.turn = self.number;
            place.heard = 0;
        }
        let is_heard = place.heard == 0 || (place.heard < SHARE_BUFFERS && age() < TURN_MAX);
        place.heard += u8::from(is_heard);
        is_heard
    }

    /// Puts a buffer behind all others of the connection at `index`.
    pub(super) fn wait(&mut self, index: u32, place: &mut Place, filled: Filled) {
        self.links[usize::from(filled.buffer)] = Link { bytes: filled.bytes, next: filled.buffer };
        if place.waits() {
            self.links[usize::from(place.last)].next = filled.buffer;
        } else {
            place.first = filled.buffer;
            self.rounds.push_back(index);
        }
        place.last = filled.buffer;
        place.waiting += 1;
    }

    /// The connection whose round it is. It is put behind the others with [`go_on`](Self::go_on) if more of it waits.
    pub(super) fn next_round(&mut self) -> Option<u32> {
        self.rounds.pop_front()
    }

    /// More of this connection waits for another round.
    pub(super) fn go_on(&mut self, index: u32, place: &Place) {
        assert!(place.waits(), "a round has something to hear");
        self.rounds.push_back(index);
    }

    /// The oldest buffer that waits of a connection.
    pub(super) fn take(&mut self, place: &mut Place) -> Option<Filled> {
        place.waiting = place.waiting.checked_sub(1)?;
        let buffer = place.first;
        let Link { bytes, next } = self.links[usize::from(buffer)];
        place.first = next;
        Some(Filled { buffer, bytes })
    }

    /// The connection at `index` has no round any more.
    pub(super) fn forget(&mut self, index: u32) {
        self.rounds.retain(|waiting| *waiting != index);
    }

    /// How many connections wait.
    pub(super) fn waiting(&self) -> usize {
        self.rounds.len()
    }

    /// The connection that so many others are before.
    pub(super) fn waiting_at(&self, others: usize) -> u32 {
        self.rounds[others]
    }

    /// Whether somebody waits.
    pub(super) fn is_behind(&self) -> bool {
        !self.rounds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFERS: u16 = 64;

    fn filled(buffer: u16) -> Filled {
        Filled { buffer, bytes: 100 + u32::from(buffer) }
    }

    fn taken(turns: &mut Turns, place: &mut Place) -> Vec<Filled> {
        std::iter::from_fn(|| turns.take(place)).collect()
    }

    #[test]
    fn a_share_is_heard_at_once_and_the_rest_waits_in_its_order() {
        let mut turns = Turns::new(BUFFERS);
        let mut place = Place::default();
        for _ in 0..3 {
            turns.begin();
            for _ in 0..SHARE_BUFFERS {
                assert!(turns.is_heard_at_once(&mut place, || Duration::ZERO));
            }
            assert!(!turns.is_heard_at_once(&mut place, || Duration::ZERO), "beyond its share");
            turns.begin();
            assert!(turns.is_heard_at_once(&mut place, || TURN_MAX), "the first, however late");
            assert!(!turns.is_heard_at_once(&mut place, || TURN_MAX), "late in a turn");
        }
        for buffer in [9, 3, 60] {
            turns.wait(5, &mut place, filled(buffer));
        }
        turns.begin();
        assert!(!turns.is_heard_at_once(&mut place, || Duration::ZERO), "nothing overtakes what waits");
        assert_eq!(turns.next_round(), Some(5));
        assert_eq!(turns.next_round(), None, "one round for all that waits of a connection");
        assert_eq!(taken(&mut turns, &mut place), [9, 3, 60].map(filled));
        assert!(!place.waits());
        assert!(turns.is_heard_at_once(&mut place, || Duration::ZERO), "a new turn, and nothing waits");
    }

    #[test]
    fn rounds_go_by_turns_and_who_is_forgotten_has_none() {
        let mut turns = Turns::new(BUFFERS);
        let mut places = [const { Place { turn: 0, heard: 0, waiting: 0, first: 0, last: 0 } }; 3];
        for buffer in 0..BUFFERS {
            let index = buffer % 3;
            turns.wait(index.into(), &mut places[usize::from(index)], filled(buffer));
        }
        assert!(turns.is_behind() && turns.waiting() == 3);
        let mut heard = [const { Vec::new() }; 3];
        turns.forget(1);
        assert_eq!(taken(&mut turns, &mut places[1]).len(), 21);
        let mut order = Vec::new();
        while let Some(index) = turns.next_round() {
            order.push(index);
            let place = &mut places[index as usize];
            heard[index as usize].extend((0..ROUND_BUFFERS).map_while(|_| turns.take(place)));
            if place.waits() {
                turns.go_on(index, place);
            }
        }
        assert_eq!(order, [0, 2, 0, 2, 0, 2]);
        for index in [0, 2] {
            let all = (0..BUFFERS).filter(|buffer| buffer % 3 == index);
            assert_eq!(heard[usize::from(index)], all.map(filled).collect::<Vec<_>>());
        }
        assert!(!turns.is_behind());
    }
}
