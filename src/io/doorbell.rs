//! The shard's ear at its own eventfd: one read, always armed.
#![allow(unsafe_code, reason = "the kernel writes what it read to an address of ours")]

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types::Fd};

use super::operation::Operation;
use super::ring::Ring;

/// Where the kernel writes the count of rings, which nobody looks at.
///
/// Dropped after the ring, or with the process, like every memory that an operation names.
pub(super) struct Doorbell {
    count: Box<UnsafeCell<[u8; 8]>>,
    armed: bool,
}

impl Doorbell {
    /// Not listening yet.
    pub(super) fn new() -> Self {
        Self { count: Box::new(UnsafeCell::new([0; 8])), armed: false }
    }

    /// Listens.
    pub(super) fn arm(&mut self, ring: &mut Ring, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        assert!(!self.armed, "one read at a time");
        self.armed = true;
        let entry = opcode::Read::new(Fd(eventfd.as_raw_fd()), self.count.get().cast(), 8)
            .build()
            .user_data(Operation::Doorbell.to_user_data());
        // SAFETY: the eight bytes are boxed, never read, and live as long as the loop that owns the ring.
        unsafe { ring.push(&entry) }
    }

    /// Notes that the read has completed; to be armed again.
    ///
    /// # Errors
    /// If the kernel could not read: a shard that hears no bell must not go on.
    pub(super) fn heard(&mut self, result: i32) -> io::Result<()> {
        self.armed = false;
        if result >= 0 || result == -libc::EINTR || result == -libc::EAGAIN {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(-result))
        }
    }
}
