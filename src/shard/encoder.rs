//! Writes packets into the output of connections, within what their clients accept. `after` is always the log position
//! that the packet waits for.

use crate::proto::{
    Packet, PacketId, Property, PublishHeader, QoS, Version, encode_acknowledgement, encode_property,
    encode_publish_header, publish_size,
};
use crate::route::{Identifiers, Message};
use crate::store::LogPosition;
use crate::time::Timestamp;

use super::connection::{Acknowledgement, Connection};
use super::output::{BufferPool, LARGE_PAYLOAD_BYTES};

#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) buffers: BufferPool,
    /// Scratch for the properties that belong to one hop: what is left of the expiry, and subscription identifiers.
    hop_properties: Vec<u8>,
}

/// What a PUBLISH to a client says beside the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingPublish {
    pub(super) id: Option<PacketId>,
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

impl Encoder {
    pub(super) fn packet(&mut self, connection: &mut Connection, packet: &Packet<'_>, after: LogPosition) {
        packet.encode(connection.version, connection.output.section(after, &mut self.buffers).buffer());
    }

    #[inline]
    pub(super) fn acknowledgement(
        &mut self,
        connection: &mut Connection,
        acknowledgement: Acknowledgement,
        after: LogPosition,
    ) {
        let Acknowledgement { kind, id, reason } = acknowledgement;
        let buffer = connection.output.section(after, &mut self.buffers).buffer();
        encode_acknowledgement(buffer, connection.version, kind, id, reason);
    }

    /// Appends a PUBLISH; false, and nothing is appended, if it exceeds the client's Maximum Packet Size.
    #[inline]
    pub(super) fn publish(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
        message: &Message,
        packet: OutgoingPublish,
        identifiers: &Identifiers,
        after: LogPosition,
    ) -> bool {
        if connection.version == Version::V5 {
            self.encode_hop_properties(now, message, identifiers);
        }
        let payload = message.payload();
        let header = PublishHeader {
            dup: packet.dup,
            qos: packet.qos,
            retain: packet.retain,
            topic: message.topic(),
            packet_id: packet.id,
            property_parts: &[&self.hop_properties, message.properties()],
            payload_bytes: payload.len(),
        };
        if connection.max_packet_bytes.is_some_and(|max| publish_size(connection.version, &header) > max as usize) {
            return false;
        }
        let section = connection.output.section(after, &mut self.buffers);
        encode_publish_header(section.buffer(), connection.version, &header);
        if payload.len() < LARGE_PAYLOAD_BYTES {
            section.buffer().extend_from_slice(payload);
        } else {
            section.push_large(message.payload_shared());
        }
        true
    }

    fn encode_hop_properties(&mut self, now: Timestamp, message: &Message, identifiers: &Identifiers) {
        self.hop_properties.clear();
        if let Some(deadline) = message.expires_at {
            // What is left of the lifetime [MQTT-3.3.2-6]; a started second counts, so that it is never 0.
            let seconds = deadline.since(now).as_nanos().div_ceil(1_000_000_000).max(1) as u32;
            encode_property(&mut self.hop_properties, Property::MessageExpiryInterval(seconds));
        }
        for identifier in identifiers.iter() {
            encode_property(&mut self.hop_properties, Property::SubscriptionIdentifier(identifier.get()));
        }
    }
}
