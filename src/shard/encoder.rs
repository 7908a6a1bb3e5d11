//! Writes packets into the output of connections, within what their clients accept. `after` is always the log position
//! that the packet waits for.

use crate::proto::{
    self, AcknowledgementKind, Packet, PacketId, Property, PropertyWriter, PublishHeader, QoS, ReasonCode, Version,
    encode_acknowledgement, encode_property, encode_publish_header, publish_size,
};
use crate::route::{Hashing, Identifiers, Message};
use crate::store::LogPosition;
use crate::time::Timestamp;

use super::aliases::Naming;
use super::connection::{Acknowledgement, Connection};
use super::output::{BufferPool, LARGE_PAYLOAD_BYTES};
use super::packet_counts::PacketCounts;
use super::template::{Copies, Form, Template};

#[derive(Debug)]
pub(super) struct Encoder {
    /// Packets that were written.
    pub(super) sent: PacketCounts,
    /// Payload bytes of PUBLISH packets that were written.
    pub(super) payload_bytes: u64,
    pub(super) buffers: BufferPool,
    /// Scratch for the properties that belong to one hop: what is left of the expiry, subscription identifiers, and last the
    /// topic alias.
    hop_properties: Vec<u8>,
    /// Scratch for what a topic is called at the other end of a bridge.
    mapped_topic: Vec<u8>,
    template: Template,
    /// Of the topics that have aliases.
    topic_hashing: Hashing,
}

/// What a PUBLISH to a client says beside the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingPublish<'a> {
    pub(super) id: Option<PacketId>,
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: &'a Identifiers,
}

/// Why a PUBLISH is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unsent {
    /// It exceeds the Maximum Packet Size of the peer with its full topic.
    TooLarge,
    /// It is for the other end of a bridge whose topics have changed since it was queued.
    NotBridged,
    /// The client may not read it.
    NotReadable,
}

impl Encoder {
    /// The seed should be secret, for clients choose the topics that are hashed.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sent: PacketCounts::default(),
            payload_bytes: 0,
            buffers: BufferPool::default(),
            hop_properties: Vec::new(),
            mapped_topic: Vec::new(),
            template: Template::default(),
            topic_hashing: Hashing::new(seed),
        }
    }

    /// Appends a packet; false, and nothing is appended, if it exceeds the client's Maximum Packet Size [MQTT-3.1.2-24].
    pub(super) fn packet(&mut self, connection: &mut Connection, packet: &Packet<'_>, after: LogPosition) -> bool {
        let buffer = connection.output.section(after, &mut self.buffers).buffer();
        let before = buffer.len();
        packet.encode(connection.version, buffer);
        let is_accepted = connection.max_packet_bytes.is_none_or(|max| buffer.len() - before <= max.get() as usize);
        if is_accepted {
            self.sent.count_type(packet.packet_type());
        } else {
            buffer.truncate(before);
        }
        is_accepted
    }

    #[inline]
    pub(super) fn acknowledgement(
        &mut self,
        connection: &mut Connection,
        acknowledgement: Acknowledgement,
        after: LogPosition,
    ) {
        let Acknowledgement { kind, id, reason, text } = acknowledgement;
        if let Some(text) = text
            && self.acknowledgement_with_text(connection, kind, id, reason, text, after)
        {
            return;
        }
        self.sent.count_type(kind.packet_type());
        let buffer = connection.output.section(after, &mut self.buffers).buffer();
        encode_acknowledgement(buffer, connection.version, kind, id, reason);
    }

    /// Appends a PUBACK or PUBREC that says why; false, and nothing is appended, if the client wants no words
    /// [MQTT-3.1.2-29] or has no room for them [MQTT-3.4.2-2] [MQTT-3.5.2-2].
    #[cold]
    fn acknowledgement_with_text(
        &mut self,
        connection: &mut Connection,
        kind: AcknowledgementKind,
        packet_id: PacketId,
        reason: ReasonCode,
        text: &str,
        after: LogPosition,
    ) -> bool {
        if !connection.wants_problem_information {
            return false;
        }
        let mut properties = PropertyWriter::new();
        let properties = properties.push(Property::ReasonString(text)).properties();
        let acknowledgement = proto::Acknowledgement { packet_id, reason, properties };
        let packet = match kind {
            AcknowledgementKind::Puback => Packet::Puback(acknowledgement),
            AcknowledgementKind::Pubrec => Packet::Pubrec(acknowledgement),
            AcknowledgementKind::Pubrel => Packet::Pubrel(acknowledgement),
            AcknowledgementKind::Pubcomp => Packet::Pubcomp(acknowledgement),
        };
        self.packet(connection, &packet, after)
    }

    /// As [`publish`](Self::publish), of a message that may go to others as well.
    #[inline]
    pub(super) fn publish_copy(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
        message: &Message,
        copies: &mut Copies,
        packet: OutgoingPublish<'_>,
        after: LogPosition,
    ) -> Result<(), Unsent> {
        let form = Form::of(connection, message, packet);
        let Some((copy, id_at)) = self.template.packet_of(copies, form) else {
            let start = self.publish(connection, now, message, packet, after)?;
            // Nearly all messages go to one only.
            if copies.have_gone()
                && let Some(form) = form
            {
                let written = &connection.output.section(after, &mut self.buffers).buffer()[start..];
                self.template.keep(copies, form, written, message);
            }
            return Ok(());
        };
        let payload = message.payload();
        let large_bytes = if payload.len() < LARGE_PAYLOAD_BYTES { 0 } else { payload.len() };
        // [MQTT-3.1.2-24]
        if connection.max_packet_bytes.is_some_and(|max| copy.len() + large_bytes > max.get() as usize) {
            return Err(Unsent::TooLarge);
        }
        self.sent.count_publish(packet.qos);
        self.payload_bytes += payload.len() as u64;
        let section = connection.output.section(after, &mut self.buffers);
        let buffer = section.buffer();
        let start = buffer.len();
        buffer.extend_from_slice(copy);
        if let Some(id) = packet.id {
            buffer[start + id_at..start + id_at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        if large_bytes > 0 {
            section.push_large(message.payload_shared(), &mut self.buffers);
        }
        Ok(())
    }

    /// Appends a PUBLISH, or nothing if it can't be sent; where in its section it starts.
    #[inline]
    pub(super) fn publish(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
        message: &Message,
        packet: OutgoingPublish<'_>,
        after: LogPosition,
    ) -> Result<usize, Unsent> {
        if connection.version == Version::V5 {
            self.encode_hop_properties(now, message, packet.identifiers);
        }
        let (topic, retain) = match connection.role.link() {
            None => (message.topic(), packet.retain),
            Some(link) => {
                if !link.bridge.topics.to_remote(message.topic_name(), &mut self.mapped_topic) {
                    return Err(Unsent::NotBridged);
                }
                // [MQTT-3.2.2-14]
                (&self.mapped_topic[..], packet.retain && link.retain_available)
            }
        };
        let payload = message.payload();
        let naming = match &connection.outbound_aliases {
            Some(aliases) => aliases.naming(topic, &self.topic_hashing),
            None => Naming::Topic,
        };
        let hop_bytes = self.hop_properties.len();
        if let Naming::Introduction(alias) | Naming::Alias(alias) = naming {
            encode_property(&mut self.hop_properties, Property::TopicAlias(alias));
        }
        let with_alias = &[&self.hop_properties[..], message.properties()];
        let without_alias = &[&self.hop_properties[..hop_bytes], message.properties()];
        let header = |topic, property_parts| PublishHeader {
            dup: packet.dup,
            qos: packet.qos,
            retain,
            topic,
            packet_id: packet.id,
            property_parts,
            payload_bytes: payload.len(),
        };
        let (version, max_packet_bytes) = (connection.version, connection.max_packet_bytes);
        let fits = |header: &_| max_packet_bytes.is_none_or(|max| publish_size(version, header) <= max.get() as usize);
        let plain = header(topic, without_alias);
        // Also if the alias would make it fit: aliases begin anew on the next connection, and a resend there has to fit, for the
        // client may hold the id.
        if !fits(&plain) {
            return Err(Unsent::TooLarge);
        }
        let (header, introduces) = match naming {
            Naming::Topic => (plain, false),
            Naming::Alias(_) => (header(b"", with_alias), false),
            Naming::Introduction(_) => match header(topic, with_alias) {
                introduction if fits(&introduction) => (introduction, true),
                _ => (plain, false),
            },
        };
        self.sent.count_publish(packet.qos);
        self.payload_bytes += payload.len() as u64;
        let section = connection.output.section(after, &mut self.buffers);
        let start = section.buffer().len();
        encode_publish_header(section.buffer(), version, &header);
        if payload.len() < LARGE_PAYLOAD_BYTES {
            section.buffer().extend_from_slice(payload);
        } else {
            section.push_large(message.payload_shared(), &mut self.buffers);
        }
        if introduces && let Some(aliases) = &mut connection.outbound_aliases {
            aliases.introduce(topic, &self.topic_hashing);
        }
        Ok(start)
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
