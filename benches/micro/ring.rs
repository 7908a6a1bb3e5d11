//! The routing ring between two shards, from both ends on one thread: what a batch takes without the other CPU's cache.

use std::hint::black_box;

use criterion::Criterion;
use oncemq::config::ROUTING_BATCHES_DEFAULT;
use oncemq::io::routes::mesh;

pub(super) fn benches(criterion: &mut Criterion) {
    let mut routes = mesh::<u64>(2, ROUTING_BATCHES_DEFAULT as usize);
    let (mut to, mut from) = (routes.pop().expect("two shards"), routes.pop().expect("two shards"));
    let mut batch = vec![0; 16];
    criterion.bench_function("ring/a batch there and back", |bencher| {
        bencher.iter(|| {
            assert!(from.has_room(1));
            from.push(1, std::mem::take(&mut batch));
            let (mut arrived, _) = to.pop(0).expect("just pushed");
            black_box(arrived.drain(..).count());
            to.give_back(0, arrived);
            batch = from.take_back(1).expect("just given back");
            batch.resize(16, 0);
        });
    });
}
