//! A send in flight: the bytes, how many of them the kernel has taken, and the addresses it was given.
//!
//! The value is boxed for as long as an operation refers to it, and used again afterwards.
#![allow(unsafe_code, reason = "the kernel is given the addresses of the bytes")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types::Fd};

use crate::shard::Transmit;

use super::operation::Operation;
use super::ring::Ring;

/// The kernel takes no more parts than this in one operation (`UIO_MAXIOV`); the rest goes with the next one.
const PARTS_PER_SEND_MAX: usize = 1024;

/// The kernel takes no more bytes than about 2^31 in one operation; the rest goes with the next one.
const BYTES_PER_SEND_MAX: usize = 1 << 30;

/// `MSG_WAITALL` lets the kernel finish a send that found the socket full, instead of completing it in part.
const FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// A transmit on its way. Moved only while no operation refers to it.
pub(super) struct SendInFlight {
    transmit: Option<Transmit>,
    sent_bytes: usize,
    /// Where the parts lie that are still to be sent; only for a transmit of several parts.
    parts: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendInFlight {
    /// Room for a transmit.
    pub(super) fn empty() -> Box<Self> {
        Box::new(Self {
            transmit: None,
            sent_bytes: 0,
            parts: Vec::new(),
            // SAFETY: a msghdr of zeros is valid: no name, no parts, no control data.
            header: unsafe { std::mem::zeroed() },
        })
    }

    /// Puts a transmit in.
    pub(super) fn load(&mut self, transmit: Transmit) {
        let before = self.transmit.replace(transmit);
        assert!(before.is_none(), "a send in flight takes no other bytes");
        self.sent_bytes = 0;
    }

    /// Takes the transmit out, sent or given up.
    pub(super) fn unload(&mut self) -> Transmit {
        self.parts.clear();
        self.transmit.take().expect("a transmit was in flight")
    }

    /// Notes that the kernel has taken `bytes` more; says whether that was the last of them.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        let all = self.transmit.as_ref().map_or(0, Transmit::len);
        self.sent_bytes += bytes;
        assert!(self.sent_bytes <= all, "the kernel sent more than it was given");
        self.sent_bytes == all
    }

    /// Submits what is still to be sent.
    ///
    /// # Safety
    /// `self` must stay in its box, and not be loaded, unloaded or submitted again, until the completion has been seen.
    pub(super) unsafe fn submit(
        self: &mut Box<Self>,
        ring: &mut Ring,
        socket: BorrowedFd<'_>,
        index: u32,
    ) -> io::Result<()> {
        let this = &mut **self;
        let transmit = this.transmit.as_ref().expect("a transmit was loaded");
        let socket = Fd(socket.as_raw_fd());
        let entry = if let Some(bytes) = transmit.as_single() {
            let rest = &bytes[this.sent_bytes..];
            let length = rest.len().min(BYTES_PER_SEND_MAX) as u32;
            opcode::Send::new(socket, rest.as_ptr(), length).flags(FLAGS).build()
        } else {
            remaining_parts(transmit.parts(), this.sent_bytes, &mut this.parts);
            this.header.msg_iov = this.parts.as_mut_ptr();
            this.header.msg_iovlen = this.parts.len() as _;
            opcode::SendMsg::new(socket, &raw const this.header).flags(FLAGS as u32).build()
        };
        let entry = entry.user_data(Operation::Send(index).to_user_data());
        // SAFETY: bytes, parts and header are owned by `self`, which the caller leaves alone until the completion.
        unsafe { ring.push(&entry) }
    }
}

/// Where those of `parts` lie that come after the first `skip` bytes, as many as one operation takes.
fn remaining_parts<'a>(parts: impl Iterator<Item = &'a [u8]>, mut skip: usize, into: &mut Vec<libc::iovec>) {
    into.clear();
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        let rest = &part[skipped..];
        if !rest.is_empty() {
            into.push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
        }
        if into.len() == PARTS_PER_SEND_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_goes_on_behind_what_was_sent() {
        let parts: [&[u8]; 3] = [b"header", b"", b"payload"];
        let whole = parts.concat();
        let mut into = Vec::new();
        for skip in 0..whole.len() {
            remaining_parts(parts.into_iter(), skip, &mut into);
            let rest: Vec<u8> = into
                .iter()
                // SAFETY: the parts outlive the list of where they lie.
                .flat_map(|part| unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) })
                .copied()
                .collect();
            assert_eq!(rest, whole[skip..], "{skip} bytes sent");
            assert!(into.iter().all(|part| part.iov_len > 0));
        }
    }

    #[test]
    fn a_send_names_no_more_parts_than_the_kernel_takes() {
        let mut into = Vec::new();
        remaining_parts(std::iter::repeat_n(&b"x"[..], 3 * PARTS_PER_SEND_MAX), 5, &mut into);
        assert_eq!(into.len(), PARTS_PER_SEND_MAX);
    }
}
