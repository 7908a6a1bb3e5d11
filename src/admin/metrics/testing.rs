//! Figures for tests.

use crate::config::{Limits, Service};
use crate::fault::PlantedFault;
use crate::io::{Distribution, ShardFigures};
use crate::route::ShardId;
use crate::shard::{Census, Shard, ShardConfig};

/// The figures of a shard that has done nothing yet.
pub(in super::super) fn figures_of(shard: u16, shards: u16) -> ShardFigures {
    let shard = Shard::new(ShardConfig {
        id: ShardId::new(shard).expect("a small number"),
        shards,
        seed: 1,
        limits: Limits::default(),
        service: Service::default(),
        report_interval: None,
        log: None,
        fault: PlantedFault::default(),
    });
    ShardFigures {
        shard: shard.report(&Census::default()),
        receives_starved: 0,
        sends_continued: 0,
        completion_overflows: 0,
        ring_batches: vec![0; shards.into()],
        turns: Distribution::default(),
        latencies: Distribution::default(),
        disk: None,
    }
}
