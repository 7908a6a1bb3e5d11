//! What waits to be written to one connection.
//!
//! Packets are encoded straight into one byte buffer, and all that gathers in a turn leaves as one [`Transmit`]. A large
//! payload is not copied into it: the transmit refers to the message's own bytes in between.
//!
//! Every byte carries the log position it waits for: there is no way into the output but [`Output::section`], which asks
//! for it, and no way out but [`Output::take_transmit`], which finds only what [`Output::release`] has let go because the
//! log is stable that far. So a promise cannot leave early, and what is behind a promise does not overtake it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::store::LogPosition;

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
    large_bytes: usize,
}

/// What gathers for the next sends of one connection.
#[derive(Debug, Default)]
pub(super) struct Output {
    next: Transmit,
    /// What waits for the log, in order; none of it may be sent before `next`.
    held: VecDeque<Section>,
    /// Bytes of the transmit that the driver holds; none when it holds none.
    in_flight_bytes: Option<usize>,
}

#[derive(Debug)]
struct Section {
    waits_for: LogPosition,
    transmit: Transmit,
}

/// Emptied buffers, kept so that an idle connection holds none and a busy one need not allocate.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
}

impl Transmit {
    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large_bytes
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

    /// The buffer to encode packets into.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload by reference, behind what was encoded so far.
    pub(super) fn push_large(&mut self, payload: Bytes) {
        self.large_bytes += payload.len();
        self.large.push((self.bytes.len(), payload));
    }

    /// Appends another transmit; its buffer is given to the pool, or this one's if there is nothing in it.
    fn append(&mut self, mut other: Transmit, pool: &mut BufferPool) {
        if self.is_empty() {
            std::mem::swap(self, &mut other);
        } else {
            let offset = self.bytes.len();
            self.bytes.extend_from_slice(&other.bytes);
            self.large.extend(other.large.drain(..).map(|(at, payload)| (offset + at, payload)));
            self.large_bytes += other.large_bytes;
        }
        pool.put(other.bytes);
    }
}

impl Output {
    /// Where to encode packets that wait for `after`, or for nothing. The caller marks the connection as having output.
    #[inline]
    pub(super) fn section(&mut self, after: LogPosition, pool: &mut BufferPool) -> &mut Transmit {
        let transmit = if after == LogPosition::NOTHING && self.held.is_empty() {
            &mut self.next
        } else {
            if self.held.back().is_none_or(|back| back.waits_for < after) {
                self.held.push_back(Section { waits_for: after, transmit: Transmit::default() });
            }
            &mut self.held.back_mut().expect("pushed above if there was none").transmit
        };
        if transmit.bytes.capacity() == 0 {
            transmit.bytes = pool.take();
        }
        transmit
    }

    /// Lets go what waits for a position up to this one; whether something still waits.
    pub(super) fn release(&mut self, stable: LogPosition, pool: &mut BufferPool) -> bool {
        while self.held.front().is_some_and(|section| section.waits_for <= stable) {
            let section = self.held.pop_front().expect("looked at above");
            self.next.append(section.transmit, pool);
        }
        self.is_holding()
    }

    /// Whether something waits for the log.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes not yet written to the kernel.
    pub(super) fn waiting_bytes(&self) -> usize {
        let held: usize = self.held.iter().map(|section| section.transmit.len()).sum();
        self.next.len() + held + self.in_flight_bytes.unwrap_or(0)
    }

    /// Whether everything has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.next.is_empty() && self.held.is_empty() && self.in_flight_bytes.is_none()
    }

    /// What can be sent now: everything that waits for nothing, unless a transmit is in flight or there is nothing.
    pub(super) fn take_transmit(&mut self) -> Option<Transmit> {
        if self.in_flight_bytes.is_some() || self.next.is_empty() {
            return None;
        }
        let transmit = std::mem::take(&mut self.next);
        self.in_flight_bytes = Some(transmit.len());
        Some(transmit)
    }

    /// The transmit in flight is done.
    pub(super) fn handle_sent(&mut self, transmit: Transmit, pool: &mut BufferPool) {
        assert!(self.in_flight_bytes.is_some(), "a transmit is handed back once");
        self.in_flight_bytes = None;
        pool.put(transmit.bytes);
    }

    /// Forgets what waits for the log: it has failed.
    pub(super) fn discard_held(&mut self, pool: &mut BufferPool) {
        for section in self.held.drain(..) {
            pool.put(section.transmit.bytes);
        }
    }

    /// Forgets what has not been handed out: the connection can't be written to any more.
    pub(super) fn discard(&mut self, pool: &mut BufferPool) {
        pool.put(std::mem::take(&mut self.next).bytes);
        self.discard_held(pool);
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
        output.section(LogPosition::NOTHING, &mut pool).buffer().extend_from_slice(b"header1 ");
        output.section(LogPosition::NOTHING, &mut pool).push_large(Bytes::from_static(b"payload1 "));
        output.section(LogPosition::NOTHING, &mut pool).push_large(Bytes::from_static(b"payload2 "));
        output.section(LogPosition::NOTHING, &mut pool).buffer().extend_from_slice(b"ack");
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
        output.section(LogPosition::NOTHING, &mut pool).buffer().push(1);
        let first = output.take_transmit().expect("something to send");
        assert_eq!(first.as_single(), Some(&[1][..]));
        output.section(LogPosition::NOTHING, &mut pool).buffer().push(2);
        assert!(output.take_transmit().is_none(), "the first is still in flight");
        output.handle_sent(first, &mut pool);
        assert_eq!(output.take_transmit().expect("the second").as_single(), Some(&[2][..]));
    }

    #[test]
    fn what_waits_for_the_log_leaves_when_it_is_stable_and_in_order() {
        let [first, second, third] = [1, 2, 3].map(LogPosition::at);
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        let mut write = |output: &mut Output, after, byte| output.section(after, &mut pool).buffer().push(byte);
        write(&mut output, LogPosition::NOTHING, 1);
        write(&mut output, second, 2);
        write(&mut output, LogPosition::NOTHING, 3);
        write(&mut output, first, 4);
        write(&mut output, third, 5);
        assert_eq!(output.waiting_bytes(), 5);
        let sent = |output: &mut Output, pool: &mut BufferPool| {
            let transmit = output.take_transmit().expect("something to send");
            let bytes = transmit.parts().collect::<Vec<_>>().concat();
            output.handle_sent(transmit, pool);
            bytes
        };
        assert_eq!(sent(&mut output, &mut pool), [1]);
        assert!(output.release(first, &mut pool));
        assert!(output.take_transmit().is_none(), "nothing is stable that far");
        assert!(output.release(second, &mut pool));
        assert_eq!(sent(&mut output, &mut pool), [2, 3, 4]);
        assert!(!output.is_flushed());
        assert!(!output.release(third, &mut pool));
        assert_eq!(sent(&mut output, &mut pool), [5]);
        assert!(output.is_flushed());
    }
}
