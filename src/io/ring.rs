//! One shard's io_uring: set-up, submission, completions, sleep.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN`: only the shard's thread enters the ring, and the kernel does its part of the work (and
//! posts completions) only inside those entries. The ring is created disabled on the starting thread, where failures can
//! still be told to the operator, and enabled by the thread that will own it.
//!
//! A full submission queue is submitted and filled on; a full completion queue makes the kernel keep what did not fit
//! (`IORING_FEAT_NODROP`) and hand it over at the next entry. Nothing is lost in either case.
#![allow(unsafe_code, reason = "submission entries carry addresses that the kernel will use")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::operation::Operation;

/// The ring of one shard.
pub(super) struct Ring {
    ring: IoUring,
    /// How often the completion queue was found to have overflowed.
    overflows: u64,
}

/// An operation has completed, or a multishot one has completed once more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// Which operation.
    pub(super) operation: Operation,
    /// Its result: at least zero on success, a negated errno on failure.
    pub(super) result: i32,
    /// Whether the operation goes on and will complete again.
    pub(super) more: bool,
    /// The receive buffer that the kernel filled.
    pub(super) buffer: Option<u16>,
}

impl Ring {
    /// A ring with `entries` submissions per entry into the kernel and room for `completions`, still disabled.
    pub(super) fn new(entries: u32, completions: u32) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .setup_cqsize(completions)
            .setup_clamp()
            .dontfork()
            .build(entries)?;
        Ok(Self { ring, overflows: 0 })
    }

    /// Makes the calling thread the only one that may use the ring from here on.
    pub(super) fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        // Saves the kernel a look-up of the descriptor at each entry. It is only that, so a refusal changes nothing.
        let _ = self.ring.submitter().register_ring_fd();
        Ok(())
    }

    /// Keeps a file open until the kernel has taken the ring down, which is when nothing is in flight on it any more.
    pub(super) fn keep_open(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_files(&[file.as_raw_fd()])
    }

    /// The next completion, if there is one.
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        Some(Completion {
            operation: Operation::from_user_data(entry.user_data()),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
        })
    }

    /// Submits what was queued and lets the kernel do what it has deferred, without sleeping.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        let queue = self.ring.submission();
        let overflowed = queue.cq_overflow();
        let idle = queue.is_empty() && !queue.taskrun() && !overflowed;
        drop(queue);
        self.overflows += u64::from(overflowed);
        if idle {
            return Ok(());
        }
        forgive(self.ring.submit())
    }

    /// Whether there are completions, or the kernel has some to post at the next entry. Looks only at shared memory.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Submits what was queued and sleeps until something completes or `timeout` has passed; `None` is for ever.
    pub(super) fn submit_and_sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.overflows += u64::from(self.ring.submission().cq_overflow());
        match timeout {
            None => forgive(self.ring.submit_and_wait(1)),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timespec);
                forgive(self.ring.submitter().submit_with_args(1, &arguments))
            }
        }
    }

    /// Arms a multishot receive into the buffers of `group`.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, group: u16, index: u32) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), group)
            .build()
            .user_data(Operation::Receive(index).to_user_data());
        // SAFETY: the entry names buffers by group only; `ReceiveBuffers` keeps these for as long as the ring lives.
        unsafe { self.push(&entry) }
    }

    /// Receives once, into one of the buffers of `group`.
    pub(super) fn receive_once(&mut self, socket: BorrowedFd<'_>, group: u16, index: u32) -> io::Result<()> {
        // Without a length of its own the operation takes the buffer's.
        let entry = opcode::Recv::new(Fd(socket.as_raw_fd()), ptr::null_mut(), 0)
            .buf_group(group)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data(Operation::Receive(index).to_user_data());
        // SAFETY: as for `receive`; with a group there is no address.
        unsafe { self.push(&entry) }
    }

    /// Ends the receive of the connection at `index`; it completes once more, as cancelled.
    pub(super) fn cancel_receive(&mut self, index: u32) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(Operation::Receive(index).to_user_data())
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Operation::CancelReceive(index).to_user_data());
        // SAFETY: the entry holds no address.
        unsafe { self.push(&entry) }
    }

    /// Closes a socket on which no operation is in flight.
    pub(super) fn close(&mut self, socket: OwnedFd, index: u32) -> io::Result<()> {
        let entry = opcode::Close::new(Fd(socket.into_raw_fd()))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Operation::Close(index).to_user_data());
        // SAFETY: the entry holds no address, and the descriptor was owned here, so nobody else uses its number.
        unsafe { self.push(&entry) }
    }

    /// Wakes the shard `target`, whose ring has the descriptor given. Completes here only if that fails.
    pub(super) fn ring_bell(&mut self, descriptor: RawFd, target: u32) -> io::Result<()> {
        let entry = opcode::MsgRingData::new(Fd(descriptor), 0, Operation::BellHeard.to_user_data(), None)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Operation::BellRung(target).to_user_data());
        // SAFETY: the entry holds no address.
        unsafe { self.push(&entry) }
    }

    /// Queues an entry, submitting first if the queue is full.
    ///
    /// # Safety
    /// Whatever memory the entry names must stay where it is, and be left alone, until its completion has been seen.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // The kernel takes the whole queue in one entry, unless it has no memory for requests at the moment; then
            // there is nothing that this shard could do before it has.
            forgive(self.ring.submit())?;
        }
        Ok(())
    }

    /// The kernel's end of the ring, to register things with.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// How often the completion queue was found to have overflowed.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Turns the answers of an entry that say "come again" into success: the next turn comes again.
fn forgive(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // A signal; the time is up; no memory for requests just now; completions have to be taken first.
            Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY) => Ok(()),
            Some(_) | None => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ring(entries: u32, completions: u32) -> Ring {
        let mut ring = Ring::new(entries, completions).expect("io_uring");
        ring.enable().expect("this thread owns it");
        ring
    }

    #[test]
    fn sleep_ends_with_the_timeout() {
        let mut ring = ring(8, 16);
        ring.submit_and_sleep(Some(Duration::from_millis(1))).expect("time is up");
        assert!(ring.next_completion().is_none());
    }

    #[test]
    fn more_submissions_and_completions_than_the_queues_hold_are_not_lost() {
        const BELLS: u32 = 1000;
        let mut sender = ring(8, 16);
        let mut target = ring(8, 16);
        for _ in 0..BELLS {
            sender.ring_bell(target.as_raw_fd(), 1).expect("the queue is submitted when full");
        }
        sender.submit().expect("the rest");
        let mut heard = 0;
        while heard < BELLS {
            target.submit_and_sleep(None).expect("bells");
            while let Some(completion) = target.next_completion() {
                assert_eq!(completion.operation, Operation::BellHeard);
                heard += 1;
            }
        }
        assert!(target.overflows() > 0, "16 entries cannot hold 1,000 bells");
        assert!(sender.next_completion().is_none(), "a bell that was heard completes only there");
    }

    #[test]
    fn completions_are_seen_without_entering_the_kernel() {
        let mut sender = ring(8, 16);
        let mut target = ring(8, 16);
        assert!(!target.has_completions());
        sender.ring_bell(target.as_raw_fd(), 1).expect("queued");
        sender.submit().expect("sent");
        while !target.has_completions() {
            std::hint::spin_loop();
        }
        target.submit().expect("what was deferred");
        assert!(target.next_completion().is_some());
        assert!(!target.has_completions());
    }

    #[test]
    fn a_bell_that_nobody_can_hear_completes_at_the_ringer() {
        let mut ring = ring(8, 16);
        let (no_ring, _other) = UnixStream::pair().expect("sockets");
        ring.ring_bell(no_ring.as_fd().as_raw_fd(), 3).expect("queued");
        ring.submit_and_sleep(None).expect("the failure");
        let completion = ring.next_completion().expect("the failure");
        assert_eq!(completion.operation, Operation::BellRung(3));
        assert!(completion.result < 0);
    }
}
