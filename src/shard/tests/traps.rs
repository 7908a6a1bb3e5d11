//! What brokers were seen to get wrong and the tests beside do not show yet. `tests/spec/traps.md` lists all traps with
//! the tests that prove them.

use super::*;
use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V311};

mod exchanges;
mod forwarding;
mod sessions;

const SUCCESS: ReasonCode = ReasonCode::Success;

fn connack(session_present: bool) -> Got {
    Got::Connack { session_present, reason: SUCCESS }
}

/// What a client of [`Fleet::connect_v5`] says, and with what else its test gives it.
fn connect<'a>(client_id: &'a str, properties: &'a PropertyWriter, will: Option<Will<'a>>) -> Connect<'a> {
    Connect {
        version: V5,
        clean_start: false,
        keep_alive_seconds: 0,
        client_id,
        will,
        username: None,
        password: None,
        properties: properties.properties(),
    }
}

fn expiry_of(seconds: u32) -> PropertyWriter {
    let mut properties = PropertyWriter::new();
    properties.push(Property::SessionExpiryInterval(seconds));
    properties
}

/// A PUBLISH to be changed where its test needs another one.
fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS, packet_id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id),
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}

/// The PUBLISH packets among what a client of 5.0 has got, with their properties.
fn publishes(mut received: &[u8]) -> Vec<Publish<'_>> {
    let mut publishes = Vec::new();
    while let Some(length) = crate::proto::frame_length(received, u32::MAX).expect("the broker sends legal packets") {
        let (frame, behind) = received.split_at(length);
        if let Packet::Publish(publish) = decode(V5, frame).expect("the broker sends legal packets") {
            publishes.push(publish);
        }
        received = behind;
    }
    publishes
}

/// The payloads of the PUBLISH packets that a client has got since it was last asked.
fn payloads(fleet: &mut Fleet, client: Client) -> Vec<String> {
    let payload = |got| match got {
        Got::Publish { payload, .. } => Some(payload),
        _ => None,
    };
    fleet.got(client).into_iter().filter_map(payload).collect()
}
