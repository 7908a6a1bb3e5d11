//! Zeroed pages of our own: memory whose address the kernel is given, aligned as direct I/O wants it.
#![allow(unsafe_code, reason = "memory that is mapped and unmapped by hand")]

use std::io;
use std::ptr::NonNull;
use std::slice;

/// Pages, unmapped when dropped.
pub(super) struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages belong to this value alone, wherever it is moved.
unsafe impl Send for Pages {}

impl Pages {
    /// At least `bytes` bytes, more than none.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: asks for new pages, wherever the kernel likes; no existing memory is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Where they begin.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The pages as bytes, while no operation of the kernel names them.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this length, zero pages initialized it, and `&mut self` keeps everybody else away; who
        // gives the address to the kernel keeps that away until the completion.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `new` with this length, and nothing refers to them any more.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        assert_eq!(result, 0, "pages of our own can be unmapped");
    }
}
