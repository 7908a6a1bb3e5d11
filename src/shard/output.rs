//! What waits to be written to one connection.
//!
//! Packets are encoded straight into one byte buffer, and all that gathers in a turn leaves as one [`Transmit`]. A large
//! payload is not copied into it: the transmit refers to the message's own bytes in between.

use bytes::Bytes;

/// From this size on a payload goes out by reference. Below it, copying is cheaper than one more segment.
pub(super) const LARGE_PAYLOAD_BYTES: usize = 8 * 1024;

/// A buffer that grew beyond this is not kept for reuse.
const KEPT_BUFFER_BYTES: usize = 128 * 1024;

/// Buffers kept for reuse by a shard, at most.
const KEPT_BUFFERS: usize = 256;

/// Bytes for one send, owned until the send is complete.
#[derive(Debug, Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    /// Payloads that belong at an offset of `bytes`, in order.
    large: Vec<(usize, Bytes)>,
}

/// What gathers for the next send of one connection.
#[derive(Debug, Default)]
pub(super) struct Output {
    next: Transmit,
    large_bytes: usize,
    /// Bytes of the transmit that the driver holds; none when it holds none.
    in_flight_bytes: Option<usize>,
}

/// Emptied buffers, kept so that an idle connection holds none and a busy one need not allocate.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
}

impl Transmit {
    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large.iter().map(|(_, payload)| payload.len()).sum::<usize>()
    }

    /// Whether there is nothing to send; a shard never hands out such a transmit.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, if they lie in one piece.
    pub fn as_single(&self) -> Option<&[u8]> {
        self.large.is_empty().then_some(&self.bytes[..])
    }

    /// The bytes in order, in as many pieces as they lie in.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut copied_from = 0;
        let last = (self.bytes.len(), &[][..]);
        let large = self.large.iter().map(|(offset, payload)| (*offset, &payload[..]));
        large
            .chain(std::iter::once(last))
            .flat_map(move |(offset, payload)| {
                let copied = &self.bytes[copied_from..offset];
                copied_from = offset;
                [copied, payload]
            })
            .filter(|part| !part.is_empty())
    }
}

impl Output {
    /// The buffer to encode packets into. The caller marks the connection as having something to send.
    pub(super) fn buffer(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.next.bytes.capacity() == 0 {
            self.next.bytes = pool.take();
        }
        &mut self.next.bytes
    }

    /// Appends a payload by reference, behind what was encoded so far.
    pub(super) fn push_large(&mut self, payload: Bytes) {
        self.large_bytes += payload.len();
        self.next.large.push((self.next.bytes.len(), payload));
    }

    /// Bytes not yet written to the kernel.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.next.bytes.len() + self.large_bytes + self.in_flight_bytes.unwrap_or(0)
    }

    /// Whether everything has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.next.is_empty() && self.in_flight_bytes.is_none()
    }

    /// What can be sent now: everything, unless a transmit is in flight or there is nothing.
    pub(super) fn take_transmit(&mut self) -> Option<Transmit> {
        if self.in_flight_bytes.is_some() || self.next.is_empty() {
            return None;
        }
        let transmit = std::mem::take(&mut self.next);
        self.in_flight_bytes = Some(transmit.bytes.len() + self.large_bytes);
        self.large_bytes = 0;
        Some(transmit)
    }

    /// The transmit in flight is done.
    pub(super) fn handle_sent(&mut self, transmit: Transmit, pool: &mut BufferPool) {
        assert!(self.in_flight_bytes.is_some(), "a transmit is handed back once");
        self.in_flight_bytes = None;
        pool.put(transmit.bytes);
    }

    /// Forgets what has not been handed out: the connection can't be written to any more.
    pub(super) fn discard(&mut self, pool: &mut BufferPool) {
        let transmit = std::mem::take(&mut self.next);
        self.large_bytes = 0;
        pool.put(transmit.bytes);
    }
}

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < KEPT_BUFFERS && (1..=KEPT_BUFFER_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_payloads_lie_between_what_was_encoded_around_them() {
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        output.buffer(&mut pool).extend_from_slice(b"header1 ");
        output.push_large(Bytes::from_static(b"payload1 "));
        output.push_large(Bytes::from_static(b"payload2 "));
        output.buffer(&mut pool).extend_from_slice(b"ack");
        assert_eq!(output.waiting_bytes(), 29);
        let transmit = output.take_transmit().expect("something to send");
        assert_eq!(transmit.len(), 29);
        assert!(transmit.as_single().is_none());
        assert_eq!(transmit.parts().collect::<Vec<_>>().concat(), b"header1 payload1 payload2 ack");
        assert_eq!(output.waiting_bytes(), 29, "in flight");
        output.handle_sent(transmit, &mut pool);
        assert!(output.is_flushed());
        assert_eq!(output.waiting_bytes(), 0);
    }

    #[test]
    fn one_transmit_is_in_flight_at_a_time() {
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        assert!(output.take_transmit().is_none());
        output.buffer(&mut pool).push(1);
        let first = output.take_transmit().expect("something to send");
        assert_eq!(first.as_single(), Some(&[1][..]));
        output.buffer(&mut pool).push(2);
        assert!(output.take_transmit().is_none(), "the first is still in flight");
        output.handle_sent(first, &mut pool);
        assert_eq!(output.take_transmit().expect("the second").as_single(), Some(&[2][..]));
    }
}
