//! The bell that wakes a sleeping shard, and never disturbs a busy one.
//!
//! The protocol, for a producer P that has put something into a queue of shard S:
//!
//! | S, before it sleeps | P, after it has pushed |
//! |---|---|
//! | 1. `sleeping = true` | 1. push |
//! | 2. fence | 2. fence |
//! | 3. look into every queue again | 3. if `sleeping`: set it false and ring |
//! | 4. nothing there: sleep | |
//!
//! The two fences are sequentially consistent, so one of them comes first in the total order: if S's, then P's step 3 sees
//! `sleeping`; if P's, then S's step 3 sees what was pushed. Either way nothing is slept over. What was pushed is published
//! by the queue itself; `sleeping` carries no data, so its own accesses are relaxed.
//!
//! A shard rings another by a message through its ring (no system call of its own), everybody else by an eventfd on which
//! the shard keeps a read armed. A message that the kernel refuses is repeated by eventfd.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::system;

/// One shard's bell, shared by all who may have to wake it.
#[derive(Debug)]
pub(super) struct Bell {
    sleeping: AtomicBool,
    ring: RawFd,
    eventfd: File,
}

impl Bell {
    /// The bell of the shard whose ring has the descriptor `ring`.
    pub(super) fn new(ring: RawFd) -> io::Result<Self> {
        Ok(Self { sleeping: AtomicBool::new(false), ring, eventfd: File::from(system::eventfd()?) })
    }

    /// The sleeper: says that it is about to sleep. It must look into every queue again before it does.
    pub(super) fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the fence in `must_ring`
    }

    /// The sleeper: says that it is awake. Without order: a bell too many is only a wasted completion.
    pub(super) fn announce_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// A producer, after its push: whether the sleeper has to be rung, and this producer is the one who has to.
    pub(super) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst); // pairs with the fence in `announce_sleep`
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }

    /// A producer without a ring, after its push: rings if need be.
    pub(super) fn ring_if_sleeping(&self) {
        if self.must_ring() {
            self.ring_by_eventfd();
        }
    }

    /// Rings in any case.
    pub(super) fn ring_by_eventfd(&self) {
        // The counter of an eventfd can only refuse when 2^64 - 2 rings were not read.
        (&self.eventfd).write_all(&1u64.to_ne_bytes()).expect("an eventfd takes a ring");
    }

    /// The ring to send a message to.
    pub(super) fn ring_descriptor(&self) -> RawFd {
        self.ring
    }

    /// The eventfd to read from.
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Hangs if a wake-up is ever lost: the consumer really sleeps, in a read of the eventfd.
    #[test]
    fn no_push_is_slept_over() {
        const ITEMS: u32 = 100_000;
        let bell = Arc::new(Bell::new(-1).expect("an eventfd"));
        let (sender, receiver) = crossbeam_channel::bounded(4);
        let producer = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                for item in 0..ITEMS {
                    sender.send(item).expect("the consumer lives");
                    bell.ring_if_sleeping();
                }
            })
        };
        let mut expected = 0;
        while expected < ITEMS {
            while let Ok(item) = receiver.try_recv() {
                assert_eq!(item, expected);
                expected += 1;
            }
            bell.announce_sleep();
            if receiver.is_empty() && expected < ITEMS {
                let mut count = [0; 8];
                (&bell.eventfd).read_exact(&mut count).expect("a ring");
            }
            bell.announce_awake();
        }
        producer.join().expect("the producer ends");
    }

    #[test]
    fn a_busy_shard_is_not_rung() {
        let bell = Bell::new(-1).expect("an eventfd");
        assert!(!bell.must_ring());
        bell.announce_sleep();
        assert!(bell.must_ring(), "asleep: the first producer rings");
        assert!(!bell.must_ring(), "already rung: the second does not");
        bell.announce_sleep();
        bell.announce_awake();
        assert!(!bell.must_ring());
    }
}
