//! The receive buffers of one shard: a ring of provided buffers from which the kernel takes one when data arrives, so that
//! a connection that is silent holds none.
//!
//! A buffer is the kernel's until a completion names it, and the shard's only inside [`ReceiveBuffers::lend`], which gives
//! it back: there is no way to keep one.
#![allow(unsafe_code, reason = "the buffers and their ring are shared with the kernel")]

use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::pages::Pages;
use super::ring::Ring;

/// The group that a shard's buffers are registered under; a ring has only this one.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Buffers that the kernel fills.
pub(super) struct ReceiveBuffers {
    /// `count` entries, read by the kernel; the tail overlies the first one's reserved field.
    entries: Pages,
    /// `count` buffers of `buffer_bytes` each.
    storage: Pages,
    count: u16,
    buffer_bytes: u32,
    /// How many buffers were ever given to the kernel, modulo 2^16.
    tail: u16,
}

impl ReceiveBuffers {
    /// `count` buffers (a power of two, at most 32,768) of `buffer_bytes` each, registered with `ring`.
    ///
    /// They must be dropped after the ring, or with the process: the kernel writes into them while the ring is entered.
    pub(super) fn register(ring: &Ring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && buffer_bytes > 0);
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let storage = Pages::new(usize::from(count) * buffer_bytes as usize)?;
        // SAFETY: the mapping holds `count` entries, is aligned to a page and lives as long as `self`, which outlives the
        // ring's last entry (see above).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.start().as_ptr() as u64, count, BUFFER_GROUP, 0)?;
        }
        let mut buffers = Self { entries, storage, count, buffer_bytes, tail: 0 };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Whether so many bytes are all that a buffer takes.
    pub(super) fn is_full(&self, bytes: u32) -> bool {
        bytes == self.buffer_bytes
    }

    /// Shows the first `filled` bytes of buffer `id`, which a completion has just named, and gives it back to the kernel.
    pub(super) fn lend(&mut self, id: u16, filled: usize, show: impl FnOnce(&[u8])) {
        assert!(id < self.count && filled <= self.buffer_bytes as usize);
        // SAFETY: the range lies inside the mapping (checked above), which zero pages initialized. A completion has named
        // the buffer, so it is not the kernel's until `give_back`, and `&mut self` keeps everybody else away.
        let bytes = unsafe { slice::from_raw_parts(self.buffer(id).as_ptr(), filled) };
        show(bytes);
        self.give_back(id);
    }

    fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let base = self.entries.start().cast::<BufRingEntry>().as_ptr();
        // SAFETY: `slot < count`, so the entry lies in the mapping; the kernel reads it only once the tail has passed it.
        // Its fields are set one by one because the tail overlies a fourth field of the first entry.
        let entry = unsafe { &mut *base.add(slot) };
        entry.set_addr(self.buffer(id).as_ptr() as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is a u16 in the first entry of a live mapping, aligned, and only written here.
        let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release); // pairs with the kernel's acquire: the entry is there when the tail is
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        // SAFETY: `id < count`, so the offset lies inside the mapping.
        unsafe { self.storage.start().add(usize::from(id) * self.buffer_bytes as usize) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::super::operation::Operation;
    use super::*;

    #[test]
    fn data_comes_in_order_through_buffers_used_again_and_again() {
        const BYTES: usize = 64 * 1024;
        let mut ring = Ring::new(8, 64).expect("io_uring");
        ring.enable().expect("this thread owns it");
        let mut buffers = ReceiveBuffers::register(&ring, 4, 100).expect("buffers");
        let (receiver, mut sender) = UnixStream::pair().expect("sockets");
        let sent: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let sending = std::thread::spawn(move || sender.write_all(&sent));
        ring.receive(receiver.as_fd(), BUFFER_GROUP, 7).expect("armed");
        let mut received = Vec::new();
        let mut starved = 0;
        let mut ended = false;
        while !ended {
            ring.submit_and_sleep(None).expect("data");
            while let Some(completion) = ring.next_completion() {
                assert_eq!(completion.operation, Operation::Receive(7));
                if let Some(id) = completion.buffer {
                    let filled = usize::try_from(completion.result).expect("data");
                    buffers.lend(id, filled, |bytes| received.extend_from_slice(bytes));
                }
                starved += u32::from(completion.result == -libc::ENOBUFS);
                ended = completion.result == 0;
                if !completion.more && !ended {
                    ring.receive(receiver.as_fd(), BUFFER_GROUP, 7).expect("armed again");
                }
            }
        }
        sending.join().expect("the sender ends").expect("all sent");
        assert!(received == expected, "every byte once and in order");
        assert!(starved > 0, "four buffers run out, and the receive recovers");
    }
}
