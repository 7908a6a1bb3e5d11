//! Packets of a QoS 2 exchange, in and out.

use std::hint::black_box;

use criterion::Criterion;
use oncemq::proto::{
    AcknowledgementKind, Framer, Packet, PacketId, Properties, Publish, PublishHeader, QoS, ReasonCode, Received,
    Version, decode, encode_acknowledgement, encode_publish_header,
};

const TOPIC: &str = "sensors/temperature/livingroom";
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Packets that one receive brings.
const BURST: usize = 30;

pub(super) fn benches(criterion: &mut Criterion) {
    for (version, name) in [(Version::V311, "3.1.1"), (Version::V5, "5.0")] {
        let mut publishes = Vec::new();
        (0..BURST).for_each(|_| publish().encode(version, &mut publishes));
        criterion.bench_function(&format!("codec/read {BURST} PUBLISH of {name}"), |bencher| {
            bencher.iter(|| read(version, black_box(&publishes)));
        });
        let mut acknowledgements = Vec::new();
        (0..BURST).for_each(|_| acknowledge(version, &mut acknowledgements));
        criterion.bench_function(&format!("codec/read {BURST} PUBREC of {name}"), |bencher| {
            bencher.iter(|| read(version, black_box(&acknowledgements)));
        });
        let mut out = Vec::new();
        criterion.bench_function(&format!("codec/write PUBLISH of {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let header = PublishHeader {
                    dup: false,
                    qos: QoS::ExactlyOnce,
                    retain: false,
                    topic: black_box(TOPIC).as_bytes(),
                    packet_id: Some(id()),
                    property_parts: &[],
                    payload_bytes: PAYLOAD.len(),
                };
                encode_publish_header(&mut out, version, &header);
                out.extend_from_slice(&PAYLOAD);
                black_box(&out);
            });
        });
        criterion.bench_function(&format!("codec/write PUBREC of {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                acknowledge(version, &mut out);
                black_box(&out);
            });
        });
    }
}

/// Cuts out and decodes every packet, as a shard does it.
fn read(version: Version, bytes: &[u8]) {
    let (mut framer, mut received) = (Framer::default(), Received::new(bytes));
    while let Some(frame) = framer.next_frame(&mut received, u32::MAX).expect("whole packets") {
        black_box(decode(version, frame.bytes()).expect("legal packets"));
    }
}

fn publish() -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: TOPIC,
        packet_id: Some(id()),
        properties: Properties::EMPTY,
        payload: &PAYLOAD,
    })
}

fn acknowledge(version: Version, out: &mut Vec<u8>) {
    encode_acknowledgement(out, version, AcknowledgementKind::Pubrec, id(), ReasonCode::Success);
}

fn id() -> PacketId {
    PacketId::new(black_box(7)).expect("not 0")
}
