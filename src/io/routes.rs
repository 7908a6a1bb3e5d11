//! The routing rings: one bounded FIFO of letter batches per ordered pair of shards.
//!
//! Each ring has one producer and one consumer, so an order once given is kept. A full ring refuses, and never blocks: the
//! letters wait in the producing shard, which pauses their sources. The producer leaves word that it waits, and the
//! consumer, having made room, finds it and rings the producer's bell.
//!
//! Behind each ring stands a second one in which emptied batches come back to their producer, so that none has to be
//! allocated however long the letters of a pair flow in one direction only.
//!
//! Generic over the letter, because letters are opaque here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::route::ShardId;

/// One shard's ends of all its routing rings, by the index of the other shard.
#[derive(Debug)]
pub struct Routes<T> {
    own: usize,
    incoming: Vec<Incoming<T>>,
    outgoing: Vec<Outgoing<T>>,
}

#[derive(Debug)]
struct Incoming<T> {
    batches: Receiver<Vec<T>>,
    emptied: Sender<Vec<T>>,
    producer_waits: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Outgoing<T> {
    batches: Sender<Vec<T>>,
    emptied: Receiver<Vec<T>>,
    producer_waits: Arc<AtomicBool>,
    /// Whether the ring was found full when it was last looked at; the producer's own note.
    found_full: bool,
}

/// The rings between `shards` shards, with room for `batches` batches in each; one element per shard.
pub fn mesh<T>(shards: usize, batches: usize) -> Vec<Routes<T>> {
    let mut routes: Vec<Routes<T>> = (0..shards)
        .map(|own| Routes { own, incoming: Vec::with_capacity(shards), outgoing: Vec::with_capacity(shards) })
        .collect();
    for from in 0..shards {
        for to in 0..shards {
            // A shard has a ring to itself only so that indexes need no shifting; it stays empty and takes no room.
            let room = if from == to { 1 } else { batches };
            let (sender, receiver) = bounded(room);
            let (giver, taker) = bounded(room);
            let producer_waits = Arc::new(AtomicBool::new(false));
            routes[from].outgoing.push(Outgoing {
                batches: sender,
                emptied: taker,
                producer_waits: Arc::clone(&producer_waits),
                found_full: false,
            });
            routes[to].incoming.push(Incoming { batches: receiver, emptied: giver, producer_waits });
        }
    }
    routes
}

/// A number of shards, as the shards themselves count them.
///
/// # Panics
/// If it is more than SHARDS_MAX.
pub(super) fn shard_count(shards: usize) -> u16 {
    u16::try_from(shards).expect("no more shards than SHARDS_MAX")
}

/// The shard with this index in the mesh.
pub(super) fn shard_id(index: usize) -> ShardId {
    u16::try_from(index).ok().and_then(ShardId::new).expect("a mesh has no more shards than SHARDS_MAX")
}

impl<T> Routes<T> {
    /// The indexes of the other shards.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<T> {
        let own = self.own;
        (0..self.outgoing.len()).filter(move |&other| other != own)
    }

    /// Whether a batch to `to` finds room now. If not, its consumer will ring this shard when there is some.
    pub fn has_room(&mut self, to: usize) -> bool {
        let route = &mut self.outgoing[to];
        if route.batches.is_full() {
            route.producer_waits.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst); // pairs with the fence in `pop`
            route.found_full = route.batches.is_full();
        } else {
            route.found_full = false;
        }
        !route.found_full
    }

    /// Sends a batch to `to`.
    ///
    /// # Panics
    /// If there was no room: this shard is the only producer, and asked `has_room`.
    pub fn push(&mut self, to: usize, batch: Vec<T>) {
        assert!(self.outgoing[to].batches.try_send(batch).is_ok(), "a routing ring that had room took no batch");
    }

    /// The next batch from `from`, and whether `from` waited for the room that this made (and has to be rung).
    pub fn pop(&mut self, from: usize) -> Option<(Vec<T>, bool)> {
        let route = &self.incoming[from];
        let batch = route.batches.try_recv().ok()?;
        // Pairs with the fence in `has_room`: either the producer, which looks again after its fence, sees the room, or
        // this load sees that it waits.
        fence(Ordering::SeqCst);
        let producer_waited =
            route.producer_waits.load(Ordering::Relaxed) && route.producer_waits.swap(false, Ordering::Relaxed);
        Some((batch, producer_waited))
    }

    /// Gives an emptied batch back to `from`, whose it was. If it has enough of them, the batch is dropped.
    pub fn give_back(&self, from: usize, batch: Vec<T>) {
        assert!(batch.is_empty(), "no letter is given back");
        // Refused by a full ring, or by a shard that has ended: either has no use for it.
        drop(self.incoming[from].emptied.try_send(batch));
    }

    /// A batch that went to `to` and has come back empty.
    pub fn take_back(&self, to: usize) -> Option<Vec<T>> {
        self.outgoing[to].emptied.try_recv().ok()
    }

    /// Batches that are on their way to `to`.
    pub fn waiting(&self, to: usize) -> u64 {
        self.outgoing[to].batches.len() as u64
    }

    /// What a shard looks at once more after it has announced its sleep: letters to read, or room in a ring that it found
    /// full.
    pub fn have_work(&self) -> bool {
        self.incoming.iter().any(|route| !route.batches.is_empty())
            || self.outgoing.iter().any(|route| route.found_full && !route.batches.is_full())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::super::bell::Bell;
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_tells_when_it_has_room() {
        let mut routes = mesh::<u32>(2, 2);
        let (mut consumer, mut producer) = (routes.remove(1), routes.remove(0));
        for batch in 0..2 {
            assert!(producer.has_room(1));
            producer.push(1, vec![batch]);
        }
        assert!(!producer.has_room(1));
        assert!(!producer.have_work(), "full: nothing to do but wait");
        assert_eq!(consumer.pop(0), Some((vec![0], true)));
        assert!(producer.have_work(), "room again");
        assert_eq!(consumer.pop(0), Some((vec![1], false)), "told once");
        assert_eq!(consumer.pop(0), None);
        assert!(producer.has_room(1));
        assert!(!producer.have_work());
    }

    #[test]
    fn emptied_batches_come_back() {
        let mut routes = mesh::<u32>(2, 1);
        let (mut consumer, mut producer) = (routes.remove(1), routes.remove(0));
        assert_eq!(producer.take_back(1), None);
        assert!(producer.has_room(1));
        producer.push(1, Vec::with_capacity(100));
        let (batch, _) = consumer.pop(0).expect("pushed above");
        consumer.give_back(0, batch);
        consumer.give_back(0, Vec::new());
        assert_eq!(producer.take_back(1).map(|batch| batch.capacity()), Some(100));
        assert_eq!(producer.take_back(1), None, "the second one found no room");
    }

    #[test]
    fn every_pair_has_its_own_ring() {
        let mut routes = mesh::<(usize, usize)>(3, 1);
        for (from, route) in routes.iter_mut().enumerate() {
            let others: Vec<usize> = route.others().collect();
            assert_eq!(others.len(), 2);
            for to in others {
                assert!(route.has_room(to));
                route.push(to, vec![(from, to)]);
            }
        }
        for (to, route) in routes.iter_mut().enumerate() {
            for from in route.others().collect::<Vec<_>>() {
                assert_eq!(route.pop(from), Some((vec![(from, to)], false)));
            }
        }
    }

    /// Two threads, two bells, a ring of one: hangs if either the room or the letters are ever slept over.
    #[test]
    fn producer_and_consumer_wake_each_other() {
        const BATCHES: u32 = 50_000;
        let mut routes = mesh::<u32>(2, 1);
        let (mut consumer, mut producer) = (routes.remove(1), routes.remove(0));
        let bells: Arc<[Bell; 2]> = Arc::new(std::array::from_fn(|_| Bell::new(-1).expect("an eventfd")));
        let sleep = |bell: &Bell, routes: &Routes<u32>| {
            bell.announce_sleep();
            if !routes.have_work() {
                let mut count = [0; 8];
                let mut eventfd = std::fs::File::from(bell.eventfd().try_clone_to_owned().expect("a copy"));
                eventfd.read_exact(&mut count).expect("a ring");
            }
            bell.announce_awake();
        };
        let producing = {
            let bells = Arc::clone(&bells);
            thread::spawn(move || {
                for batch in 0..BATCHES {
                    while !producer.has_room(1) {
                        sleep(&bells[0], &producer);
                    }
                    producer.push(1, vec![batch]);
                    bells[1].ring_if_sleeping();
                }
            })
        };
        let mut expected = 0;
        while expected < BATCHES {
            match consumer.pop(0) {
                Some((batch, producer_waited)) => {
                    assert_eq!(batch, [expected]);
                    expected += 1;
                    if producer_waited {
                        bells[0].ring_if_sleeping();
                    }
                }
                None => sleep(&bells[1], &consumer),
            }
        }
        producing.join().expect("the producer ends");
    }
}
