//! The messages that a shard holds for its sessions: one arena, counted references.

use slab::Slab;

use crate::proto::QoS;
use crate::route::{Message, Terms};
use crate::session::Deliverable;
use crate::store::{Log, LogPosition, MessageId, MessageRecord, Record};

/// Names a message in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MessageKey(u32);

/// Messages that are queued or in flight, each once, whatever the number of sessions that wait for it.
#[derive(Debug, Default)]
pub(super) struct Messages {
    arena: Slab<Stored>,
    /// What was logged before this batch may be gone from the log soon.
    log_floor: LogPosition,
    /// Bytes of the messages that the log has to keep.
    logged_bytes: u64,
    /// Bytes of all messages.
    bytes: u64,
    /// References to all messages.
    references: u64,
    /// Messages that lie among the bytes of others.
    in_chunks: usize,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    references: u32,
    /// Lies in an allocation of its own.
    compact: bool,
    logged: Logged,
}

/// What the log has of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Logged {
    /// Nothing.
    Nowhere,
    /// All of it, but under a name that may mean another message by now.
    Nameless,
    /// All of it, by its key, in this batch.
    In(LogPosition),
}

/// Messages that may lie among the bytes of others while they wait in queues. Each keeps a chunk of 4 KiB at worst, so this
/// is 64 MiB of a shard; a copy of its own would cost a message in a busy queue an allocation.
const IN_CHUNKS_MAX: usize = 16_384;

/// What a message and a reference to it take in memory beside its bytes, about: their entries in the arena and the queue, with
/// room to grow, and the allocation's own head.
const MESSAGE_MEMORY: u64 = 160;
const REFERENCE_MEMORY: u64 = 64;

/// One message for one session: what its queue and its inflight table hold.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) message: MessageKey,
    /// What it counts for in the byte limit of the queue.
    pub(super) bytes: u32,
    pub(super) terms: Terms,
}

impl Deliverable for Delivery {
    fn qos(&self) -> QoS {
        self.terms.qos
    }

    fn bytes(&self) -> u64 {
        self.bytes.into()
    }
}

impl Messages {
    /// Takes a message in, with one reference.
    pub(super) fn insert(&mut self, message: Message) -> MessageKey {
        self.references += 1;
        self.bytes += message.bytes() as u64;
        self.in_chunks += 1;
        let index = self.arena.insert(Stored { message, references: 1, compact: false, logged: Logged::Nowhere });
        MessageKey(u32::try_from(index).expect("a shard holds fewer than 2^32 messages"))
    }

    pub(super) fn get(&self, key: MessageKey) -> &Message {
        &self.arena[key.0 as usize].message
    }

    /// Counts one more reference.
    pub(super) fn refer(&mut self, key: MessageKey) {
        self.references += 1;
        self.arena[key.0 as usize].references += 1;
    }

    /// One reference is given back; the message goes with the last.
    pub(super) fn release(&mut self, key: MessageKey) {
        let index = key.0 as usize;
        let stored = &mut self.arena[index];
        assert!(stored.references > 0, "a reference is given back once");
        stored.references -= 1;
        self.references -= 1;
        if stored.references == 0 {
            let bytes = stored.message.bytes() as u64;
            self.bytes -= bytes;
            if stored.logged != Logged::Nowhere {
                self.logged_bytes -= bytes;
            }
            self.in_chunks -= usize::from(!stored.compact);
            self.arena.remove(index);
        }
    }

    /// Sees to it that the log has the message, for records that are going to name it.
    pub(super) fn log(&mut self, log: &mut Log, key: MessageKey) -> MessageId {
        match self.arena[key.0 as usize].logged {
            Logged::In(batch) if batch >= self.log_floor => MessageId(key.0),
            Logged::In(_) | Logged::Nameless | Logged::Nowhere => self.log_again(log, key),
        }
    }

    /// Sees to it that the batch which is being filled has the message.
    pub(super) fn log_here(&mut self, log: &mut Log, key: MessageKey) -> MessageId {
        match self.arena[key.0 as usize].logged {
            Logged::In(batch) if batch == log.filling() => MessageId(key.0),
            Logged::In(_) | Logged::Nameless | Logged::Nowhere => self.log_again(log, key),
        }
    }

    fn log_again(&mut self, log: &mut Log, key: MessageKey) -> MessageId {
        let stored = &mut self.arena[key.0 as usize];
        if stored.logged == Logged::Nowhere {
            self.logged_bytes += stored.message.bytes() as u64;
        }
        stored.logged = Logged::In(log.filling());
        log.append(&Record::Message { message: MessageId(key.0), body: (&stored.message).into() });
        MessageId(key.0)
    }

    /// The message as a record names it.
    pub(super) fn named(&self, key: MessageKey) -> (MessageId, MessageRecord<'_>) {
        (MessageId(key.0), self.get(key).into())
    }

    /// Takes a message in that the log has under another name, with one reference.
    pub(super) fn insert_logged(&mut self, message: Message) -> MessageKey {
        let bytes = message.bytes() as u64;
        self.logged_bytes += bytes;
        self.bytes += bytes;
        self.references += 1;
        let index = self.arena.insert(Stored { message, references: 1, compact: true, logged: Logged::Nameless });
        MessageKey(u32::try_from(index).expect("a shard holds fewer than 2^32 messages"))
    }

    /// What was logged before this batch is going to be removed from the log.
    pub(super) fn raise_log_floor(&mut self, floor: LogPosition) {
        self.log_floor = floor;
    }

    /// Bytes of the messages that the log has to keep.
    pub(super) fn logged_bytes(&self) -> u64 {
        self.logged_bytes
    }

    /// Gives the message an allocation of its own: it will be kept for a while, and should not keep the receive it came in.
    pub(super) fn compact(&mut self, key: MessageKey) {
        let stored = &mut self.arena[key.0 as usize];
        if !stored.compact {
            let read_at = stored.message.read_at;
            stored.message = stored.message.compacted();
            stored.message.read_at = read_at;
            stored.compact = true;
            self.in_chunks -= 1;
        }
    }

    /// The way of the message is not measured any more: it waits for somebody who is away.
    pub(super) fn stop_measuring(&mut self, key: MessageKey) {
        self.arena[key.0 as usize].message.read_at = None;
    }

    /// Whether messages that have to wait should be given allocations of their own.
    pub(super) fn are_chunks_short(&self) -> bool {
        self.in_chunks > IN_CHUNKS_MAX
    }

    /// Bytes of all messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the messages and the deliveries that wait for them take in memory, about.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes + self.arena.len() as u64 * MESSAGE_MEMORY + self.references * REFERENCE_MEMORY
    }

    /// How many deliveries wait for messages, about: each holds a reference.
    pub(super) fn references(&self) -> u64 {
        self.references
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Frame, Properties, Publish};
    use crate::route::MessageBytes;
    use crate::time::Timestamp;

    #[test]
    fn chunks_are_short_while_too_many_messages_lie_in_them() {
        let (mut messages, mut bytes) = (Messages::default(), MessageBytes::default());
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "t",
            packet_id: None,
            properties: Properties::EMPTY,
            payload: b"payload",
        };
        let frame = b"\x30\x0a\x00\x01tpayload";
        let mut insert = |messages: &mut Messages| {
            messages.insert(Message::from_publish(Timestamp::default(), &publish, &Frame::InPlace(frame), &mut bytes))
        };
        let keys: Vec<MessageKey> = (0..IN_CHUNKS_MAX).map(|_| insert(&mut messages)).collect();
        assert!(!messages.are_chunks_short());
        let one_more = insert(&mut messages);
        assert!(messages.are_chunks_short());
        messages.compact(one_more);
        messages.compact(one_more);
        assert!(!messages.are_chunks_short());
        insert(&mut messages);
        assert!(messages.are_chunks_short());
        messages.release(keys[0]);
        messages.release(one_more);
        assert!(!messages.are_chunks_short());
        insert(&mut messages);
        assert!(messages.are_chunks_short());
    }
}
