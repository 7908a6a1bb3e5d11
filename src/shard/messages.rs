//! The messages that a shard holds for its sessions: one arena, counted references.

use slab::Slab;

use crate::proto::QoS;
use crate::route::{Identifiers, Message};
use crate::session::Deliverable;

/// Names a message in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MessageKey(u32);

/// Messages that are queued or in flight, each once, whatever the number of sessions that wait for it.
#[derive(Debug, Default)]
pub(super) struct Messages {
    arena: Slab<Stored>,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    references: u32,
    /// Lies in an allocation of its own.
    compact: bool,
}

/// One message for one session: what its queue and its inflight table hold.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) message: MessageKey,
    /// What it counts for in the byte limit of the queue.
    pub(super) bytes: u32,
    /// The lower of the message's and the subscription's.
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
}

impl Deliverable for Delivery {
    fn qos(&self) -> QoS {
        self.qos
    }

    fn bytes(&self) -> u64 {
        self.bytes.into()
    }
}

impl Messages {
    /// Takes a message in, with one reference.
    pub(super) fn insert(&mut self, message: Message) -> MessageKey {
        let index = self.arena.insert(Stored { message, references: 1, compact: false });
        MessageKey(u32::try_from(index).expect("a shard holds fewer than 2^32 messages"))
    }

    pub(super) fn get(&self, key: MessageKey) -> &Message {
        &self.arena[key.0 as usize].message
    }

    /// Counts one more reference.
    pub(super) fn refer(&mut self, key: MessageKey) {
        self.arena[key.0 as usize].references += 1;
    }

    /// One reference is given back; the message goes with the last.
    pub(super) fn release(&mut self, key: MessageKey) {
        let index = key.0 as usize;
        let stored = &mut self.arena[index];
        assert!(stored.references > 0, "a reference is given back once");
        stored.references -= 1;
        if stored.references == 0 {
            self.arena.remove(index);
        }
    }

    /// Gives the message an allocation of its own: it will be kept for a while, and should not keep the receive it came in.
    pub(super) fn compact(&mut self, key: MessageKey) {
        let stored = &mut self.arena[key.0 as usize];
        if !stored.compact {
            stored.message = stored.message.compacted();
            stored.compact = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }
}
