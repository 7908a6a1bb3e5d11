//! Encoding: packets are appended to a buffer that the caller owns.
//!
//! Lengths are computed before anything is written, so that no byte is moved twice. The encoders cannot fail; what would
//! make an illegal packet is our own fault and panics: strings and binary data above 65,535 bytes, packets above
//! [`MAX_REMAINING_LENGTH`](super::MAX_REMAINING_LENGTH). Content from decoded packets never has the former; callers keep
//! the latter by comparing [`publish_size`] with the receiver's maximum packet size before they encode a message.

use super::header::put_fixed_header;
use super::packet::{Acknowledgement, Connack, Connect, Packet, Publish, Suback, Will};
use super::property::Properties;
use super::reason::ReasonCode;
use super::types::{PacketId, PacketType, QoS, SubscriptionOptions, Version};
use super::wire::{put_binary, put_two_byte_integer, put_variable_byte_integer, variable_byte_integer_bytes};

/// The four packets that acknowledge a PUBLISH or each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AcknowledgementKind {
    /// Answers a QoS 1 PUBLISH.
    Puback,
    /// Answers a QoS 2 PUBLISH.
    Pubrec,
    /// Answers PUBREC.
    Pubrel,
    /// Answers PUBREL.
    Pubcomp,
}

impl AcknowledgementKind {
    /// Its packet type.
    #[inline]
    #[must_use]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Puback => PacketType::Puback,
            Self::Pubrec => PacketType::Pubrec,
            Self::Pubrel => PacketType::Pubrel,
            Self::Pubcomp => PacketType::Pubcomp,
        }
    }
}

/// Appends an acknowledgement in its shortest form. 3.1.1 cannot tell the reason.
#[inline]
pub fn encode_acknowledgement(
    out: &mut Vec<u8>,
    version: Version,
    kind: AcknowledgementKind,
    packet_id: PacketId,
    reason: ReasonCode,
) {
    let packet_type = kind.packet_type();
    debug_assert!(reason.is_allowed_in(packet_type), "{packet_type:?} cannot carry {reason}");
    let first = packet_type.first_byte();
    let [high, low] = packet_id.get().to_be_bytes();
    if version == Version::V311 || reason == ReasonCode::Success {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason.value()]);
    }
}

/// All of a PUBLISH but its payload.
#[derive(Clone, Copy, Debug)]
pub struct PublishHeader<'a> {
    /// Whether the packet may have been sent before; not with QoS 0.
    pub dup: bool,
    /// Its QoS.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic name.
    pub topic: &'a [u8],
    /// Present exactly when the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// Raw blocks of properties (without length) that make up the packet's properties one behind the other. 3.1.1 leaves
    /// them out.
    pub property_parts: &'a [&'a [u8]],
    /// The size of the payload, which the caller sends behind the header.
    pub payload_bytes: usize,
}

impl PublishHeader<'_> {
    #[inline]
    fn property_bytes(&self) -> usize {
        self.property_parts.iter().map(|part| part.len()).sum()
    }

    /// The remaining length without the payload.
    #[inline]
    fn variable_header_bytes(&self, version: Version) -> usize {
        let packet_id_bytes = if self.packet_id.is_some() { 2 } else { 0 };
        let block_bytes = match version {
            Version::V311 => 0,
            Version::V5 => block_bytes(self.property_bytes()),
        };
        2 + self.topic.len() + packet_id_bytes + block_bytes
    }
}

/// The size of the whole packet, fixed header and payload included: what the receiver's Maximum Packet Size counts.
#[inline]
#[must_use]
pub fn publish_size(version: Version, header: &PublishHeader<'_>) -> usize {
    packet_bytes(header.variable_header_bytes(version) + header.payload_bytes)
}

/// The size of a whole CONNACK.
#[must_use]
pub fn connack_size(version: Version, properties: Properties<'_>) -> usize {
    packet_bytes(2 + properties_bytes(version, properties))
}

/// The size of a whole SUBACK or 5.0 UNSUBACK with so many reason codes.
#[must_use]
pub fn suback_size(version: Version, properties: Properties<'_>, codes: usize) -> usize {
    packet_bytes(2 + properties_bytes(version, properties) + codes)
}

/// Appends a PUBLISH without its payload.
///
/// # Panics
/// If QoS, DUP and packet identifier contradict each other, the topic is longer than 65,535 bytes, or the packet larger
/// than the standard can express.
#[inline]
pub fn encode_publish_header(out: &mut Vec<u8>, version: Version, header: &PublishHeader<'_>) {
    // [MQTT-2.2.1-2] [MQTT-3.3.1-2]
    assert_eq!(header.packet_id.is_some(), header.qos > QoS::AtMostOnce, "a packet identifier exactly above QoS 0");
    assert!(!header.dup || header.qos > QoS::AtMostOnce, "DUP with QoS 0");
    let variable_header_bytes = header.variable_header_bytes(version);
    out.reserve(super::MAX_FIXED_HEADER_BYTES + variable_header_bytes);
    let flags = u8::from(header.dup) << 3 | header.qos.bits() << 1 | u8::from(header.retain);
    put_fixed_header(out, PacketType::Publish.first_byte() | flags, variable_header_bytes + header.payload_bytes);
    put_binary(out, header.topic);
    if let Some(packet_id) = header.packet_id {
        put_two_byte_integer(out, packet_id.get());
    }
    if version == Version::V5 {
        put_variable_byte_integer(out, header.property_bytes());
        for part in header.property_parts {
            out.extend_from_slice(part);
        }
    }
}

/// Appends a SUBSCRIBE.
///
/// # Panics
/// If there is no filter [MQTT-3.8.3-2], or one is longer than 65,535 bytes.
pub fn encode_subscribe<'a>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    properties: Properties<'_>,
    filters: impl Iterator<Item = (&'a str, SubscriptionOptions)> + Clone,
) {
    let filter_bytes: usize = filters.clone().map(|(filter, _)| 2 + filter.len() + 1).sum();
    assert!(filter_bytes > 0, "SUBSCRIBE without a topic filter");
    let remaining = 2 + properties_bytes(version, properties) + filter_bytes;
    put_fixed_header(out, PacketType::Subscribe.first_byte(), remaining);
    put_two_byte_integer(out, packet_id.get());
    put_properties(out, version, properties);
    for (filter, options) in filters {
        put_binary(out, filter.as_bytes());
        out.push(options.to_bits(version));
    }
}

/// Appends an UNSUBSCRIBE.
///
/// # Panics
/// If there is no filter [MQTT-3.10.3-2], or one is longer than 65,535 bytes.
pub fn encode_unsubscribe<'a>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: PacketId,
    properties: Properties<'_>,
    filters: impl Iterator<Item = &'a str> + Clone,
) {
    let filter_bytes: usize = filters.clone().map(|filter| 2 + filter.len()).sum();
    assert!(filter_bytes > 0, "UNSUBSCRIBE without a topic filter");
    let remaining = 2 + properties_bytes(version, properties) + filter_bytes;
    put_fixed_header(out, PacketType::Unsubscribe.first_byte(), remaining);
    put_two_byte_integer(out, packet_id.get());
    put_properties(out, version, properties);
    for filter in filters {
        put_binary(out, filter.as_bytes());
    }
}

impl Packet<'_> {
    /// Appends the packet as `version` writes it; a CONNECT as its own version does. What 3.1.1 cannot say (properties,
    /// most reason codes, subscription options other than the QoS) is left out.
    ///
    /// # Panics
    /// If the packet does not exist: AUTH in 3.1.1, a reason code of another packet, or a limit of the standard is exceeded;
    /// see the module.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let packet_type = self.packet_type();
        match self {
            Self::Connect(connect) => encode_connect(out, connect),
            Self::Connack(connack) => encode_connack(out, version, connack),
            Self::Publish(publish) => encode_publish(out, version, publish),
            Self::Puback(acknowledgement)
            | Self::Pubrec(acknowledgement)
            | Self::Pubrel(acknowledgement)
            | Self::Pubcomp(acknowledgement) => {
                encode_full_acknowledgement(out, version, packet_type, acknowledgement);
            }
            Self::Subscribe(subscribe) => {
                encode_subscribe(out, version, subscribe.packet_id, subscribe.properties, subscribe.filters());
            }
            Self::Unsubscribe(unsubscribe) => {
                encode_unsubscribe(out, version, unsubscribe.packet_id, unsubscribe.properties, unsubscribe.filters());
            }
            Self::Suback(suback) | Self::Unsuback(suback) => encode_suback(out, version, packet_type, suback),
            Self::Pingreq | Self::Pingresp => put_fixed_header(out, packet_type.first_byte(), 0),
            Self::Disconnect(disconnect) => match version {
                Version::V311 => put_fixed_header(out, packet_type.first_byte(), 0),
                Version::V5 => put_reason_and_properties(out, packet_type, disconnect.reason, disconnect.properties),
            },
            Self::Auth(auth) => {
                assert_eq!(version, Version::V5, "AUTH exists in 5.0 only");
                put_reason_and_properties(out, packet_type, auth.reason, auth.properties);
            }
        }
    }
}

fn encode_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    const PROTOCOL_NAME: &[u8] = b"MQTT";
    let version = connect.version;
    let will_bytes = connect
        .will
        .map_or(0, |will| properties_bytes(version, will.properties) + 2 + will.topic.len() + 2 + will.payload.len());
    let remaining = 2
        + PROTOCOL_NAME.len()
        + 4 // level, flags, keep-alive
        + properties_bytes(version, connect.properties)
        + 2
        + connect.client_id.len()
        + will_bytes
        + connect.username.map_or(0, |username| 2 + username.len())
        + connect.password.map_or(0, |password| 2 + password.len());
    put_fixed_header(out, PacketType::Connect.first_byte(), remaining);
    put_binary(out, PROTOCOL_NAME);
    out.push(version.level());
    out.push(connect_flags(connect));
    put_two_byte_integer(out, connect.keep_alive_seconds);
    put_properties(out, version, connect.properties);
    put_binary(out, connect.client_id.as_bytes());
    if let Some(Will { topic, payload, properties, .. }) = connect.will {
        put_properties(out, version, properties);
        put_binary(out, topic.as_bytes());
        put_binary(out, payload);
    }
    if let Some(username) = connect.username {
        put_binary(out, username.as_bytes());
    }
    if let Some(password) = connect.password {
        put_binary(out, password);
    }
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will_flags = connect.will.map_or(0, |will| 0b0000_0100 | will.qos.bits() << 3 | u8::from(will.retain) << 5);
    u8::from(connect.username.is_some()) << 7
        | u8::from(connect.password.is_some()) << 6
        | will_flags
        | u8::from(connect.clean_start) << 1
}

fn encode_connack(out: &mut Vec<u8>, version: Version, connack: &Connack<'_>) {
    // [MQTT-3.2.2-6], 3.1.1: [MQTT-3.2.2-4]
    let session_present = connack.session_present && !connack.reason.is_error();
    let code = match version {
        // A refusal that 3.1.1 has no return code for is better not answered at all; who answers all
        // the same says "server unavailable".
        Version::V311 => connack.reason.connack_return_code().unwrap_or(3),
        Version::V5 => {
            assert_allowed(connack.reason, PacketType::Connack);
            connack.reason.value()
        }
    };
    put_fixed_header(out, PacketType::Connack.first_byte(), 2 + properties_bytes(version, connack.properties));
    out.extend_from_slice(&[u8::from(session_present), code]);
    put_properties(out, version, connack.properties);
}

fn encode_publish(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    let header = PublishHeader {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.as_bytes(),
        packet_id: publish.packet_id,
        property_parts: &[publish.properties.raw()],
        payload_bytes: publish.payload.len(),
    };
    encode_publish_header(out, version, &header);
    out.extend_from_slice(publish.payload);
}

fn encode_full_acknowledgement(
    out: &mut Vec<u8>,
    version: Version,
    packet_type: PacketType,
    acknowledgement: &Acknowledgement<'_>,
) {
    let &Acknowledgement { packet_id, reason, properties } = acknowledgement;
    assert_allowed(reason, packet_type);
    let tail_bytes = match version {
        Version::V311 => 0,
        Version::V5 => reason_and_properties_bytes(reason, properties),
    };
    put_fixed_header(out, packet_type.first_byte(), 2 + tail_bytes);
    put_two_byte_integer(out, packet_id.get());
    put_tail(out, tail_bytes, reason, properties);
}

fn encode_suback(out: &mut Vec<u8>, version: Version, packet_type: PacketType, suback: &Suback<'_>) {
    let codes = match (version, packet_type) {
        (Version::V311, PacketType::Unsuback) => &[],
        _ => suback.codes,
    };
    let remaining = 2 + properties_bytes(version, suback.properties) + codes.len();
    put_fixed_header(out, packet_type.first_byte(), remaining);
    put_two_byte_integer(out, suback.packet_id.get());
    put_properties(out, version, suback.properties);
    match version {
        // 3.1.1: [MQTT-3.9.3-2], one code for every failure.
        Version::V311 => out.extend(codes.iter().map(|code| code.min(&0x80))),
        Version::V5 => out.extend_from_slice(codes),
    }
}

/// DISCONNECT and AUTH of 5.0.
fn put_reason_and_properties(
    out: &mut Vec<u8>,
    packet_type: PacketType,
    reason: ReasonCode,
    properties: Properties<'_>,
) {
    assert_allowed(reason, packet_type);
    let tail_bytes = reason_and_properties_bytes(reason, properties);
    put_fixed_header(out, packet_type.first_byte(), tail_bytes);
    put_tail(out, tail_bytes, reason, properties);
}

/// Success without properties needs no byte.
fn reason_and_properties_bytes(reason: ReasonCode, properties: Properties<'_>) -> usize {
    match (reason, properties.is_empty()) {
        (ReasonCode::Success, true) => 0,
        (_, _) => 1 + block_bytes(properties.raw().len()),
    }
}

/// Only our own code could give a packet a reason that it must not carry [MQTT-3.2.2-8] [MQTT-3.14.2-1].
fn assert_allowed(reason: ReasonCode, packet_type: PacketType) {
    assert!(reason.is_allowed_in(packet_type), "{packet_type:?} cannot carry {reason}");
}

fn put_tail(out: &mut Vec<u8>, tail_bytes: usize, reason: ReasonCode, properties: Properties<'_>) {
    if tail_bytes > 0 {
        out.push(reason.value());
        put_properties(out, Version::V5, properties);
    }
}

/// The size of a packet with its fixed header.
#[inline]
const fn packet_bytes(remaining: usize) -> usize {
    1 + variable_byte_integer_bytes(remaining) + remaining
}

fn put_properties(out: &mut Vec<u8>, version: Version, properties: Properties<'_>) {
    if version == Version::V5 {
        // [MQTT-2.2.2-1]: a length of 0 says that there are none.
        put_variable_byte_integer(out, properties.raw().len());
        out.extend_from_slice(properties.raw());
    }
}

fn properties_bytes(version: Version, properties: Properties<'_>) -> usize {
    match version {
        Version::V311 => 0,
        Version::V5 => block_bytes(properties.raw().len()),
    }
}

/// The size of a block of properties with its length.
#[inline]
const fn block_bytes(raw_bytes: usize) -> usize {
    variable_byte_integer_bytes(raw_bytes) + raw_bytes
}
