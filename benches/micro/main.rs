//! The pieces of the hot path one by one, with criterion: codec, subscription trie, session exchange, routing ring, log, timers.
//!
//!     cargo bench --bench micro                      all of them; criterion sets each beside its last run
//!     cargo bench --bench micro -- trie              those with this in their names
//!
//! What a piece costs here is what it costs with its data in the cache, alone. A message in a broker costs more; `benches/versus`
//! says how much. Without `--bench`, as under `cargo test`, each piece runs once, with small tables.
//!
//! Ring and timers are no part of what the crate promises: their modules are public for this bench alone.

mod codec;
mod exchange;
#[path = "../../tests/allocations/fleet.rs"]
#[expect(dead_code, reason = "the tests ask for more of it")]
mod fleet;
#[path = "../../tests/allocations/loads.rs"]
#[expect(dead_code, reason = "the count of instructions has more loads")]
mod loads;
mod log;
mod ring;
mod timers;
mod trie;

use std::env;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    pieces,
    codec::benches,
    trie::benches,
    exchange::benches,
    ring::benches,
    log::benches,
    timers::benches
);
criterion_main!(pieces);

/// Sizes of tables to measure with: the first one only, unless this is more than a test.
fn sizes<const N: usize>(all: [usize; N]) -> impl Iterator<Item = usize> {
    let is_bench = env::args().any(|argument| argument == "--bench");
    all.into_iter().take(if is_bench { N } else { 1 })
}

/// The fleet asks for it; nothing is counted here.
mod counting {
    pub(super) fn counted<R>(code: impl FnOnce() -> R) -> R {
        code()
    }
}
