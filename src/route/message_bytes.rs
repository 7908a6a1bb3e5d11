//! Where the bytes of messages lie: many small messages in one allocation, which is used again when all of them are gone.
//!
//! Messages are written one behind the other into a chunk. A chunk that is full waits until nobody refers to it any more, and
//! is then written anew; so in steady state a message costs no allocation, whoever shares it and for however long.
//!
//! # Invariants
//! - A message keeps at most [`CHUNK_BYTES`] from being used again beside its own bytes. Who keeps it for long, keeps
//!   [a copy of its own](super::Message::compacted).
//! - No more than [`CHUNKS_KEPT`] full chunks are kept. Beyond, the oldest goes with its last message.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Length of a chunk; a longer message gets an allocation of its own.
pub(super) const CHUNK_BYTES: usize = 4096;

/// Full chunks that wait to be used again, at most.
const CHUNKS_KEPT: usize = 256;

/// The chunks of one shard.
#[derive(Debug, Default)]
pub struct MessageBytes {
    /// The room that is left in the chunk in use; none before the first message.
    room: Option<BytesMut>,
    /// Full chunks in the order of their filling.
    full: VecDeque<BytesMut>,
}

impl MessageBytes {
    /// What `write` appends, at most `bytes_max` bytes.
    pub fn write(&mut self, bytes_max: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if bytes_max > CHUNK_BYTES {
            let mut own = BytesMut::with_capacity(bytes_max);
            write(&mut own);
            return own.freeze();
        }
        let mut room = match self.room.take() {
            Some(room) if room.capacity() >= bytes_max => room,
            full => self.next_chunk(full),
        };
        write(&mut room);
        let written = room.split().freeze();
        self.room = Some(room);
        written
    }

    /// Puts a full chunk with the others, and gives the oldest if nobody refers to it any more; if somebody does, a new one.
    fn next_chunk(&mut self, full: Option<BytesMut>) -> BytesMut {
        self.full.extend(full);
        if let Some(mut oldest) = self.full.pop_front() {
            if oldest.try_reclaim(CHUNK_BYTES) {
                return oldest;
            }
            if self.full.len() < CHUNKS_KEPT {
                self.full.push_front(oldest);
            }
        }
        BytesMut::with_capacity(CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: [u8; 1000] = [7; 1000];

    fn write(messages: &mut MessageBytes) -> Bytes {
        messages.write(MESSAGE.len(), |room| room.extend_from_slice(&MESSAGE))
    }

    #[test]
    fn a_chunk_is_written_anew_when_all_its_messages_are_gone() {
        let mut messages = MessageBytes::default();
        let first = write(&mut messages);
        let (start, kept) = (first.as_ptr(), write(&mut messages));
        assert_eq!(kept.as_ptr(), start.wrapping_add(MESSAGE.len()), "one behind the other");
        drop(first);
        // Two more fit into this chunk, and four into the next: one message is left in the first.
        let others: Vec<Bytes> = (0..6).map(|_| write(&mut messages)).collect();
        assert_eq!(kept, &MESSAGE[..]);
        drop((kept, others));
        assert_eq!(write(&mut messages).as_ptr(), start);
    }

    #[test]
    fn a_long_message_lies_alone() {
        let mut messages = MessageBytes::default();
        let small = write(&mut messages);
        let long = messages.write(CHUNK_BYTES + 1, |room| room.resize(CHUNK_BYTES + 1, 1));
        assert_eq!(long.len(), CHUNK_BYTES + 1);
        assert_eq!(write(&mut messages).as_ptr(), small.as_ptr().wrapping_add(MESSAGE.len()));
    }

    #[test]
    fn messages_that_stay_keep_no_more_chunks_than_allowed() {
        let mut messages = MessageBytes::default();
        let kept: Vec<Bytes> = (0..4 * (CHUNKS_KEPT + 50)).map(|_| write(&mut messages)).collect();
        assert_eq!(messages.full.len(), CHUNKS_KEPT);
        assert!(kept.iter().all(|message| *message == MESSAGE[..]));
    }
}
