//! What waits to be written to one connection.
//!
//! Packets are encoded straight into one byte buffer, and all that gathers in a turn leaves as one [`Transmit`]. A large
//! payload is not copied into it: the transmit refers to the message's own bytes in between.
//!
//! Every byte carries the log position it waits for: there is no way into the output but [`Output::section`], which asks
//! for it, and no way out but [`Output::take_transmit`], which finds only what [`Output::release`] has let go because the
//! log is stable that far. So a promise cannot leave early, and what is behind a promise does not overtake it.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use bytes::Bytes;

use crate::store::LogPosition;
use crate::transport::Transport;

/// From this size on a payload goes out by reference. Below it, copying is cheaper than one more segment.
pub(super) const LARGE_PAYLOAD_BYTES: usize = 8 * 1024;

/// A buffer that grew beyond this is not kept for reuse.
const KEPT_BUFFER_BYTES: usize = 128 * 1024;

/// Buffers kept for reuse by a shard, at most.
const KEPT_BUFFERS: usize = 256;

/// Lists of payloads that go out by reference, kept for reuse by a shard, at most.
const KEPT_LARGE: usize = 256;

/// Queues of what waits for the log, kept for reuse by a shard, at most: one for each connection that waits at a time.
const KEPT_HELD: usize = 4096;

/// A list or queue with room for more entries than these is not kept for reuse.
const KEPT_ENTRIES: usize = 16;

/// Bytes for one send, owned until the send is complete: packets, and once they have passed through the connection's
/// transport, what goes over the wire.
#[derive(Debug, Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    /// Payloads by reference; most have none.
    large: Option<Box<Large>>,
}

/// Payloads that go out by reference, one at least.
#[derive(Debug, Default)]
struct Large {
    /// With the offsets in the transmit's buffer at which they belong, in order.
    payloads: Vec<(usize, Bytes)>,
    /// The sum of their lengths.
    bytes: usize,
}

/// What gathers for the next sends of one connection. There is one in every connection, so what only some need at times is
/// behind a pointer.
#[derive(Debug, Default)]
pub(super) struct Output {
    next: Transmit,
    /// What waits for the log, if something does; none of it may be sent before `next`.
    held: Option<Box<Held>>,
    /// Bytes of the transmit that the driver holds; none when it holds none.
    in_flight_bytes: Option<NonZeroUsize>,
}

/// What waits for the log, in order; at least one section.
#[derive(Debug, Default)]
struct Held {
    sections: VecDeque<Section>,
}

#[derive(Debug)]
struct Section {
    waits_for: LogPosition,
    transmit: Transmit,
}

/// Emptied buffers, lists and queues, kept so that an idle connection holds none and a busy one need not allocate.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    large: Vec<Box<Large>>,
    held: Vec<Box<Held>>,
}

impl Transmit {
    /// Total length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large.as_ref().map_or(0, |large| large.bytes)
    }

    /// Whether there is nothing to send; a shard never hands out such a transmit.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, if they lie in one piece.
    pub fn as_single(&self) -> Option<&[u8]> {
        self.large.is_none().then_some(&self.bytes[..])
    }

    /// The bytes in order, in as many pieces as they lie in.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut copied_from = 0;
        let last = (self.bytes.len(), &[][..]);
        let large = self.large.iter().flat_map(|large| &large.payloads);
        let large = large.map(|(offset, payload)| (*offset, &payload[..]));
        large
            .chain(std::iter::once(last))
            .flat_map(move |(offset, payload)| {
                let copied = &self.bytes[copied_from..offset];
                copied_from = offset;
                [copied, payload]
            })
            .filter(|part| !part.is_empty())
    }

    /// The buffer to encode packets into, or what a transport says behind them.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload by reference, behind what was encoded so far.
    pub(super) fn push_large(&mut self, payload: Bytes, pool: &mut BufferPool) {
        let large = self.large.get_or_insert_with(|| pool.large.pop().unwrap_or_default());
        large.bytes += payload.len();
        large.payloads.push((self.bytes.len(), payload));
    }

    /// Puts bytes before all others. Payloads that go out by reference stay where they are.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        self.bytes.splice(0..0, bytes.iter().copied());
        for (offset, _) in self.large.iter_mut().flat_map(|large| &mut large.payloads) {
            *offset += bytes.len();
        }
    }

    /// Appends another transmit; what it lay in is given to the pool, or what this one lies in if there is nothing in it.
    fn append(&mut self, mut other: Transmit, pool: &mut BufferPool) {
        if self.is_empty() {
            std::mem::swap(self, &mut other);
        } else {
            let offset = self.bytes.len();
            self.bytes.extend_from_slice(&other.bytes);
            for (at, payload) in other.large.iter_mut().flat_map(|large| large.payloads.drain(..)) {
                let large = self.large.get_or_insert_with(|| pool.large.pop().unwrap_or_default());
                large.bytes += payload.len();
                large.payloads.push((offset + at, payload));
            }
        }
        pool.put(other);
    }
}

impl Output {
    /// Where to encode packets that wait for `after`, or for nothing. The caller marks the connection as having output.
    #[inline]
    pub(super) fn section(&mut self, after: LogPosition, pool: &mut BufferPool) -> &mut Transmit {
        let transmit = if after == LogPosition::NOTHING && self.held.is_none() {
            &mut self.next
        } else {
            let held = self.held.get_or_insert_with(|| pool.held.pop().unwrap_or_default());
            if held.sections.back().is_none_or(|back| back.waits_for < after) {
                held.sections.push_back(Section { waits_for: after, transmit: Transmit::default() });
            }
            &mut held.sections.back_mut().expect("pushed above if there was none").transmit
        };
        if transmit.bytes.capacity() == 0 {
            transmit.bytes = pool.take();
        }
        transmit
    }

    /// Lets go what waits for a position up to this one; whether something still waits.
    pub(super) fn release(&mut self, stable: LogPosition, pool: &mut BufferPool) -> bool {
        let Some(held) = &mut self.held else { return false };
        while held.sections.front().is_some_and(|section| section.waits_for <= stable) {
            let section = held.sections.pop_front().expect("looked at above");
            self.next.append(section.transmit, pool);
        }
        if held.sections.is_empty() {
            self.held.take().into_iter().for_each(|held| pool.put_held(held));
        }
        self.is_holding()
    }

    /// What the last of it waits for.
    pub(super) fn ends_after(&self) -> LogPosition {
        let last = self.held.as_ref().and_then(|held| held.sections.back());
        last.map_or(LogPosition::NOTHING, |section| section.waits_for)
    }

    /// Whether something waits for the log.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Bytes not yet written to the kernel.
    #[inline]
    pub(super) fn waiting_bytes(&self) -> usize {
        let held_bytes = self.held.as_ref().map_or(0, |held| held.bytes());
        self.next.len() + held_bytes + self.in_flight_bytes.map_or(0, NonZeroUsize::get)
    }

    /// Whether everything has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.next.is_empty() && self.held.is_none() && self.in_flight_bytes.is_none()
    }

    /// What can be sent now, as it goes over the wire: everything that waits for nothing, and what the transport has to say
    /// beside it, unless a transmit is in flight or there is nothing.
    #[inline]
    pub(super) fn take_transmit(&mut self, transport: &mut Transport) -> Option<Transmit> {
        let is_last = !self.is_holding();
        if self.in_flight_bytes.is_some() || (self.next.is_empty() && !transport.has_frames(is_last)) {
            return None;
        }
        let transmit = transport.seal(std::mem::take(&mut self.next), is_last);
        // Nothing is left of it if the connection can't say anything any more.
        self.in_flight_bytes = NonZeroUsize::new(transmit.len());
        self.in_flight_bytes.map(|_| transmit)
    }

    /// The transmit in flight is done.
    pub(super) fn handle_sent(&mut self, transmit: Transmit, pool: &mut BufferPool) {
        assert!(self.in_flight_bytes.is_some(), "a transmit is handed back once");
        self.in_flight_bytes = None;
        pool.put(transmit);
    }

    /// Forgets what waits for the log: it has failed.
    pub(super) fn discard_held(&mut self, pool: &mut BufferPool) {
        let Some(mut held) = self.held.take() else { return };
        for section in held.sections.drain(..) {
            pool.put(section.transmit);
        }
        pool.put_held(held);
    }

    /// Forgets what has not been handed out: the connection can't be written to any more.
    pub(super) fn discard(&mut self, pool: &mut BufferPool) {
        pool.put(std::mem::take(&mut self.next));
        self.discard_held(pool);
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.sections.iter().map(|section| section.transmit.len()).sum()
    }
}

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes what a transmit lay in.
    fn put(&mut self, transmit: Transmit) {
        let Transmit { bytes: mut buffer, large } = transmit;
        if self.buffers.len() < KEPT_BUFFERS && (1..=KEPT_BUFFER_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.buffers.push(buffer);
        }
        if let Some(mut large) = large
            && self.large.len() < KEPT_LARGE
            && large.payloads.capacity() <= KEPT_ENTRIES
        {
            large.payloads.clear();
            large.bytes = 0;
            self.large.push(large);
        }
    }

    /// Takes an emptied queue.
    fn put_held(&mut self, held: Box<Held>) {
        assert!(held.sections.is_empty(), "what waits for the log is not forgotten with its queue");
        if self.held.len() < KEPT_HELD && held.sections.capacity() <= KEPT_ENTRIES {
            self.held.push(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Close, WebSocket};

    #[test]
    fn large_payloads_lie_between_what_was_encoded_around_them() {
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        output.section(LogPosition::NOTHING, &mut pool).buffer().extend_from_slice(b"header1 ");
        output.section(LogPosition::NOTHING, &mut pool).push_large(Bytes::from_static(b"payload1 "), &mut pool);
        output.section(LogPosition::NOTHING, &mut pool).push_large(Bytes::from_static(b"payload2 "), &mut pool);
        output.section(LogPosition::NOTHING, &mut pool).buffer().extend_from_slice(b"ack");
        assert_eq!(output.waiting_bytes(), 29);
        let transmit = output.take_transmit(&mut Transport::Plain).expect("something to send");
        assert_eq!(transmit.len(), 29);
        assert!(transmit.as_single().is_none());
        assert_eq!(transmit.parts().collect::<Vec<_>>().concat(), b"header1 payload1 payload2 ack");
        assert_eq!(output.waiting_bytes(), 29, "in flight");
        output.handle_sent(transmit, &mut pool);
        assert!(output.is_flushed());
        assert_eq!(output.waiting_bytes(), 0);
    }

    #[test]
    fn what_is_put_before_all_leaves_large_payloads_in_their_places() {
        let mut transmit = Transmit::default();
        transmit.buffer().extend_from_slice(b"header ");
        transmit.push_large(Bytes::from_static(b"payload "), &mut BufferPool::default());
        transmit.buffer().extend_from_slice(b"ack");
        transmit.prepend(b"frame ");
        assert_eq!(transmit.parts().collect::<Vec<_>>().concat(), b"frame header payload ack");
        assert_eq!(transmit.len(), 24);
    }

    #[test]
    fn a_transport_may_have_something_to_say_beside_packets() {
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        let mut transport = Transport::from(WebSocket::default());
        assert!(output.take_transmit(&mut transport).is_none());
        transport.end(Close::NORMAL);
        output.section(LogPosition::at(1), &mut pool).buffer().push(1);
        assert!(output.take_transmit(&mut transport).is_none(), "it follows on what waits for the log");
        output.discard_held(&mut pool);
        let transmit = output.take_transmit(&mut transport).expect("a close frame");
        assert!(output.take_transmit(&mut transport).is_none());
        assert!(!output.is_flushed(), "in flight");
        output.handle_sent(transmit, &mut pool);
        assert!(output.is_flushed());
    }

    #[test]
    fn one_transmit_is_in_flight_at_a_time() {
        let mut pool = BufferPool::default();
        let mut output = Output::default();
        assert!(output.take_transmit(&mut Transport::Plain).is_none());
        output.section(LogPosition::NOTHING, &mut pool).buffer().push(1);
        let first = output.take_transmit(&mut Transport::Plain).expect("something to send");
        assert_eq!(first.as_single(), Some(&[1][..]));
        output.section(LogPosition::NOTHING, &mut pool).buffer().push(2);
        assert!(output.take_transmit(&mut Transport::Plain).is_none(), "the first is still in flight");
        output.handle_sent(first, &mut pool);
        assert_eq!(output.take_transmit(&mut Transport::Plain).expect("the second").as_single(), Some(&[2][..]));
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
            let transmit = output.take_transmit(&mut Transport::Plain).expect("something to send");
            let bytes = transmit.parts().collect::<Vec<_>>().concat();
            output.handle_sent(transmit, pool);
            bytes
        };
        assert_eq!(output.ends_after(), third);
        assert_eq!(sent(&mut output, &mut pool), [1]);
        assert!(output.release(first, &mut pool));
        assert!(output.take_transmit(&mut Transport::Plain).is_none(), "nothing is stable that far");
        assert!(output.release(second, &mut pool));
        assert_eq!(sent(&mut output, &mut pool), [2, 3, 4]);
        assert!(!output.is_flushed());
        assert!(!output.release(third, &mut pool));
        assert_eq!(sent(&mut output, &mut pool), [5]);
        assert!(output.is_flushed());
        assert_eq!(output.ends_after(), LogPosition::NOTHING);
    }
}
