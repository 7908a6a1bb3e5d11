//! The PUBLISH packets of one publisher, which differ in identity and age only.

use oncemq::proto::{PacketId, PublishHeader, QoS, Version, encode_publish_header, publish_size};

use crate::connection::Fault;
use crate::opening::BrokerLimits;
use crate::payload::Stamp;

/// What all messages of a publisher have in common.
#[derive(Clone, Debug)]
pub(crate) struct MessageForm {
    pub(crate) version: Version,
    pub(crate) qos: QoS,
    pub(crate) topic: String,
    pub(crate) payload_bytes: usize,
    pub(crate) publisher: u32,
}

impl MessageForm {
    /// Appends PUBLISH. `packet_id` is there above QoS 0 only; `dup` says that it was sent before [MQTT-3.3.1-1].
    pub(crate) fn encode(
        &self,
        packet_id: Option<PacketId>,
        dup: bool,
        sequence: u64,
        intended_ns: u64,
        out: &mut Vec<u8>,
    ) {
        encode_publish_header(out, self.version, &self.header(packet_id, dup));
        let stamp = Stamp { publisher: self.publisher, sequence, intended_ns };
        stamp.encode(self.payload_bytes, out);
    }

    /// Whether the broker takes packets of this size [MQTT-3.2.2-15].
    pub(crate) fn check_size(&self, limits: &BrokerLimits) -> Result<(), Fault> {
        let packet_id = match self.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(PacketId::MIN),
        };
        let bytes = publish_size(self.version, &self.header(packet_id, false));
        if bytes > limits.maximum_packet_bytes as usize {
            return Err(Fault::Limited {
                limit: format!("packets to {} bytes, and a PUBLISH would have {bytes}", limits.maximum_packet_bytes),
                remedy: "choose a smaller --payload-bytes",
            });
        }
        Ok(())
    }

    fn header(&self, packet_id: Option<PacketId>, dup: bool) -> PublishHeader<'_> {
        PublishHeader {
            dup,
            qos: self.qos,
            retain: false,
            topic: self.topic.as_bytes(),
            packet_id,
            property_parts: &[],
            payload_bytes: self.payload_bytes,
        }
    }
}
