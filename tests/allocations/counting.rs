//! The allocator of these tests: the system's, which counts how often this thread allocates inside [`counted`], and how many
//! bytes it holds.

#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every call goes on to the system's allocator as it came, which keeps the contract. The counters are thread-locals
// without a destructor and with constant initial values, so to touch them allocates nothing and is possible at any time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size() as i64);
        // SAFETY: the caller keeps what `alloc` asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size() as i64);
        // SAFETY: the caller keeps what `alloc_zeroed` asks of it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        count();
        hold(new_bytes as i64 - layout.size() as i64);
        // SAFETY: the caller keeps what `realloc` asks of it; the pointer came from this allocator, so from the system's.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: the caller keeps what `dealloc` asks of it; the pointer came from this allocator, so from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count() {
    if IS_COUNTING.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

fn hold(bytes: i64) {
    HELD_BYTES.set(HELD_BYTES.get() + bytes);
}

/// Runs a piece of code, and counts what it allocates.
pub(crate) fn counted<R>(code: impl FnOnce() -> R) -> R {
    IS_COUNTING.set(true);
    let result = code();
    IS_COUNTING.set(false);
    result
}

/// What was allocated or grown inside [`counted`] since this was last asked.
pub(crate) fn take_allocations() -> u64 {
    ALLOCATIONS.replace(0)
}

/// What this thread has asked for and not given back, in bytes; less than nothing if it has given back what others asked for.
pub(crate) fn held_bytes() -> i64 {
    HELD_BYTES.get()
}

#[test]
fn held_bytes_are_those_asked_for() {
    let before = held_bytes();
    let mut list: Vec<u8> = Vec::with_capacity(100);
    assert_eq!(held_bytes() - before, 100);
    list.reserve_exact(1000);
    assert_eq!(held_bytes() - before, 1000);
    drop(list);
    assert_eq!(held_bytes(), before);
}

#[test]
fn allocations_are_counted_inside_only() {
    take_allocations();
    let outside = vec![1];
    assert_eq!(take_allocations(), 0);
    let mut inside = counted(|| vec![1]);
    assert_eq!(take_allocations(), 1);
    counted(|| inside.reserve(100));
    assert_eq!(take_allocations(), 1);
    drop((inside, outside));
}
