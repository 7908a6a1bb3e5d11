//! The timer wheel with few and with many timers pending: neither to arm one nor to find one should depend on their number.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use oncemq::shard::timers::Timers;
use oncemq::time::Timestamp;

pub(super) fn benches(criterion: &mut Criterion) {
    for pending in super::sizes([100, 10_000, 1_000_000]) {
        let mut timers = Timers::default();
        let mut now = Timestamp::from_nanos(1_000_000_000);
        // Keep-alives of clients that came one after the other within a minute and a half, and are armed anew when they are due.
        let interval = Duration::from_secs(90);
        let step = interval / pending as u32;
        for number in 0..pending {
            timers.arm(now + step * number as u32, number);
        }
        criterion.bench_function(&format!("timers/one falls due of {pending}, and is armed again"), |bencher| {
            bencher.iter(|| {
                let (_, number) = loop {
                    match timers.expire(now) {
                        Some(fired) => break fired,
                        None => now = timers.next().expect("all are armed"),
                    }
                };
                timers.arm(now + interval, black_box(number));
            });
        });
    }
}
