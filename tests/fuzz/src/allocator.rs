//! The system's allocator, which refuses what no target has a reason to ask for. That ends the process, which the fuzzer reports
//! as a crash with its input; unlike `-malloc_limit_mb` it works without a sanitizer.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of one allocation, at most. Inputs have some kilobytes, and tables begin small.
pub const ALLOCATION_BYTES_MAX: usize = 16 * 1024 * 1024;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

struct Bounded;

// SAFETY: every call goes on to the system's allocator as it came, which keeps the contract, or is answered with null, which the
// contract allows at any time.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps what `alloc` asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps what `alloc_zeroed` asks of it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        if new_bytes > ALLOCATION_BYTES_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps what `realloc` asks of it; the pointer came from this allocator, so from the system's.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks of it; the pointer came from this allocator, so from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}
