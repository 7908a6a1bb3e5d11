//! Whole QoS 2 exchanges through the shards, with clients that answer at once: what they encode and decode counts, too.

use criterion::Criterion;
use oncemq::proto::Version;

use super::fleet::Durability;
use super::loads::Load;

pub(super) fn benches(criterion: &mut Criterion) {
    for (durability, log) in [(Durability::None, "no log"), (Durability::Logged, "logged")] {
        for shards in [1, 2] {
            let mut load = Load::pairs(Version::V311, durability, shards);
            criterion.bench_function(&format!("exchange/30 messages of 10 pairs, {shards} shards, {log}"), |bencher| {
                bencher.iter(|| load.repeat(1));
            });
        }
    }
}
