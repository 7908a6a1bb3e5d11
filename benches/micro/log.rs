//! Records into a batch of the log, and the batch sealed with its checksum; nothing is written.

use std::borrow::Cow;

use criterion::Criterion;
use oncemq::proto::{PacketId, QoS};
use oncemq::store::{Log, LogConfig, LogEnd, MessageId, MessageRecord, Record, SessionId};
use oncemq::time::Timestamp;

/// Messages in a batch.
const BATCH: u16 = 100;

pub(super) fn benches(criterion: &mut Criterion) {
    let mut log = Log::new(LogConfig { segment_bytes: 1 << 24, ..LogConfig::discarding() }, LogEnd::default());
    let now = Timestamp::from_nanos(1_000_000_000);
    criterion.bench_function(&format!("log/{BATCH} messages and their ids in a batch"), |bencher| {
        bencher.iter(|| {
            for number in 1..=BATCH {
                let body = MessageRecord {
                    topic: Cow::Borrowed("sensors/temperature/livingroom"),
                    properties: Cow::Borrowed(&[]),
                    payload: Cow::Borrowed(&[b'x'; 64]),
                    qos: QoS::ExactlyOnce,
                    retain: false,
                    expires_at: None,
                };
                log.append(&Record::Message { message: MessageId(u32::from(number)), body });
                let id = PacketId::new(number).expect("not 0");
                log.append(&Record::Received { session: SessionId(1), id });
            }
            log.wait_for_appended();
            let write = log.poll_write(now).expect("a batch that is waited for");
            log.handle_written(write, Ok(()));
            // What a shard that has nothing to keep would do: the log stays as short as it is.
            if log.bytes() > 1 << 22 {
                let segment = log.begin_segment();
                log.release_before(segment);
            }
            while log.poll_obsolete().is_some() {}
        });
    });
}
