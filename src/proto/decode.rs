//! Decoding: one frame in, one packet out, in a single pass and without allocation.

use super::connect::decode_connect;
use super::encode::AcknowledgementKind;
use super::error::DecodeError;
use super::header::split_frame;
use super::packet::{Acknowledgement, Auth, Connack, Disconnect, Packet, Publish, Suback, Subscribe, Unsubscribe};
use super::property::{Properties, PropertyIdentifier, PropertyPlace};
use super::reason::ReasonCode;
use super::types::{PacketId, PacketType, QoS, Version};
use super::wire::{BYTES_BEHIND_END, Reader};

/// Decodes `frame`, which is exactly one packet, fixed header included. A CONNECT says its version itself; use
/// [`decode_connect`] where the answer to a refused one matters.
///
/// # Errors
/// Whatever the standard forbids in a packet taken by itself; see [`DecodeError`].
#[inline]
pub fn decode(version: Version, frame: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let (packet_type, flags, body) = split_frame(frame)?;
    // Each function makes the whole result, in place: moving one costs more than decoding most.
    match packet_type {
        PacketType::Publish => publish(version, flags, body).map(Packet::Publish),
        PacketType::Puback => acknowledgement(version, packet_type, Packet::Puback, body),
        PacketType::Pubrec => acknowledgement(version, packet_type, Packet::Pubrec, body),
        PacketType::Pubrel => acknowledgement(version, packet_type, Packet::Pubrel, body),
        PacketType::Pubcomp => acknowledgement(version, packet_type, Packet::Pubcomp, body),
        PacketType::Connect => connect(frame),
        PacketType::Connack => connack(version, body),
        PacketType::Subscribe => subscribe(version, body),
        PacketType::Suback => suback(version, body),
        PacketType::Unsubscribe => unsubscribe(version, body),
        PacketType::Unsuback => unsuback(version, body),
        PacketType::Pingreq => body.finish().map(|()| Packet::Pingreq),
        PacketType::Pingresp => body.finish().map(|()| Packet::Pingresp),
        PacketType::Disconnect => disconnect(version, body),
        PacketType::Auth => auth(version, body),
    }
}

/// As [`decode`], of a frame that is an acknowledgement in the form that nearly all have: four bytes, which say success in both
/// versions. `None` for any other frame, also for a malformed one.
#[inline]
pub fn decode_short_acknowledgement(frame: &[u8]) -> Option<(AcknowledgementKind, PacketId)> {
    const PUBACK: u8 = PacketType::Puback.first_byte();
    const PUBREC: u8 = PacketType::Pubrec.first_byte();
    const PUBREL: u8 = PacketType::Pubrel.first_byte();
    const PUBCOMP: u8 = PacketType::Pubcomp.first_byte();
    let &[first, 2, high, low] = frame else { return None };
    let kind = match first {
        PUBACK => AcknowledgementKind::Puback,
        PUBREC => AcknowledgementKind::Pubrec,
        PUBREL => AcknowledgementKind::Pubrel,
        PUBCOMP => AcknowledgementKind::Pubcomp,
        _of_another_packet => return None,
    };
    PacketId::new(u16::from_be_bytes([high, low])).map(|id| (kind, id))
}

/// As [`decode`], of a frame that is a PUBLISH. `None` for any other frame.
#[inline]
pub fn decode_publish(version: Version, frame: &[u8]) -> Option<Result<Publish<'_>, DecodeError>> {
    let is_publish = frame.first().is_some_and(|first| first & 0xF0 == PacketType::Publish.first_byte());
    is_publish.then(|| split_frame(frame).and_then(|(_, flags, body)| publish(version, flags, body)))
}

/// Reads a block of properties behind its length; 3.1.1 has none.
#[inline]
pub(super) fn properties<'a>(
    version: Version,
    place: PropertyPlace,
    body: &mut Reader<'a>,
) -> Result<Properties<'a>, DecodeError> {
    match version {
        Version::V311 => Ok(Properties::EMPTY),
        Version::V5 => {
            let byte_count = body.variable_byte_integer()?;
            Properties::parse(body.bytes(byte_count as usize)?, place)
        }
    }
}

#[inline]
fn publish<'a>(version: Version, flags: u8, mut body: Reader<'a>) -> Result<Publish<'a>, DecodeError> {
    let qos = QoS::from_bits(flags >> 1 & 0b11).ok_or(DecodeError::malformed("PUBLISH with QoS 3"))?;
    let topic = body.string()?;
    // [MQTT-2.2.1-2]: QoS 0 has no packet identifier.
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(body.packet_id()?),
    };
    let properties = properties(version, PropertyPlace::Packet(PacketType::Publish), &mut body)?;
    Ok(Publish {
        dup: flags & 0b1000 != 0,
        qos,
        retain: flags & 0b0001 != 0,
        topic,
        packet_id,
        properties,
        payload: body.take_rest(),
    })
}

/// 3.1.1 has the identifier alone. 5.0 may leave out the properties, and the reason code too if it
/// is success, as nearly every acknowledgement does.
#[inline]
fn acknowledgement<'a>(
    version: Version,
    packet_type: PacketType,
    packet: impl Fn(Acknowledgement<'a>) -> Packet<'a>,
    body: Reader<'a>,
) -> Result<Packet<'a>, DecodeError> {
    if let [high, low] = *body.rest()
        && let Some(packet_id) = PacketId::new(u16::from_be_bytes([high, low]))
    {
        return Ok(packet(Acknowledgement { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }));
    }
    long_acknowledgement(version, packet_type, body).map(packet)
}

#[inline(never)]
fn long_acknowledgement<'a>(
    version: Version,
    packet_type: PacketType,
    mut body: Reader<'a>,
) -> Result<Acknowledgement<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    if version == Version::V311 {
        return Err(BYTES_BEHIND_END);
    }
    // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    let reason = reason(packet_type, &mut body)?;
    let properties = properties_or_end(packet_type, &mut body)?;
    body.finish()?;
    Ok(Acknowledgement { packet_id, reason, properties })
}

#[inline(never)]
fn connect(frame: &[u8]) -> Result<Packet<'_>, DecodeError> {
    Ok(Packet::Connect(decode_connect(frame)?))
}

#[inline(never)]
fn connack<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    let session_present = match body.byte()? {
        0 => false,
        1 => true,
        // [MQTT-3.2.2-1]
        _ => return Err(DecodeError::malformed("reserved flags set in CONNACK")),
    };
    let reason = match version {
        Version::V311 => ReasonCode::from_connack_return_code(body.byte()?)
            .ok_or(DecodeError::malformed("reserved return code in CONNACK"))?,
        Version::V5 => reason(PacketType::Connack, &mut body)?,
    };
    // [MQTT-3.2.2-6], 3.1.1: [MQTT-3.2.2-4]
    if session_present && reason.is_error() {
        return Err(DecodeError::protocol("CONNACK with an error and Session Present"));
    }
    let properties = properties(version, PropertyPlace::Packet(PacketType::Connack), &mut body)?;
    body.finish()?;
    Ok(Packet::Connack(Connack { session_present, reason, properties }))
}

#[inline(never)]
fn subscribe<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(version, PropertyPlace::Packet(PacketType::Subscribe), &mut body)?;
    Subscribe::decode(version, packet_id, properties, body).map(Packet::Subscribe)
}

#[inline(never)]
fn unsubscribe<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(version, PropertyPlace::Packet(PacketType::Unsubscribe), &mut body)?;
    Unsubscribe::decode(packet_id, properties, body).map(Packet::Unsubscribe)
}

#[inline(never)]
fn suback<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(version, PropertyPlace::Packet(PacketType::Suback), &mut body)?;
    let codes = body.take_rest();
    let is_legal = |code: &u8| match version {
        // 3.1.1: [MQTT-3.9.3-2]
        Version::V311 => matches!(code, 0x00..=0x02 | 0x80),
        Version::V5 => ReasonCode::from_u8(*code, PacketType::Suback).is_some(),
    };
    check_codes(codes, is_legal)?;
    Ok(Packet::Suback(Suback { packet_id, properties, codes }))
}

#[inline(never)]
fn unsuback<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    let packet_id = body.packet_id()?;
    let properties = properties(version, PropertyPlace::Packet(PacketType::Unsuback), &mut body)?;
    let codes = match version {
        Version::V311 => {
            body.finish()?;
            &[][..]
        }
        Version::V5 => {
            let codes = body.take_rest();
            check_codes(codes, |code| ReasonCode::from_u8(*code, PacketType::Unsuback).is_some())?;
            codes
        }
    };
    Ok(Packet::Unsuback(Suback { packet_id, properties, codes }))
}

/// [MQTT-3.9.3-2], [MQTT-3.11.3-2]; there is one code per topic filter, and so at least one.
fn check_codes(codes: &[u8], is_legal: impl Fn(&u8) -> bool) -> Result<(), DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::protocol("an acknowledgement without reason codes"));
    }
    if !codes.iter().all(is_legal) {
        return Err(NOT_ALLOWED_REASON);
    }
    Ok(())
}

#[inline(never)]
fn disconnect<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    if version == Version::V311 || body.is_empty() {
        body.finish()?;
        return Ok(Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY }));
    }
    // [MQTT-3.14.2-1]
    let reason = reason(PacketType::Disconnect, &mut body)?;
    let properties = properties_or_end(PacketType::Disconnect, &mut body)?;
    body.finish()?;
    Ok(Packet::Disconnect(Disconnect { reason, properties }))
}

#[inline(never)]
fn auth<'a>(version: Version, mut body: Reader<'a>) -> Result<Packet<'a>, DecodeError> {
    if version == Version::V311 {
        return Err(DecodeError::malformed("packet type 15 is reserved in 3.1.1"));
    }
    if body.is_empty() {
        return Ok(Packet::Auth(Auth { reason: ReasonCode::Success, properties: Properties::EMPTY }));
    }
    // [MQTT-3.15.2-1]
    let reason = reason(PacketType::Auth, &mut body)?;
    let properties = properties(version, PropertyPlace::Packet(PacketType::Auth), &mut body)?;
    body.finish()?;
    // 5.0 section 3.15.2.2.2
    if !properties.contains(PropertyIdentifier::AuthenticationMethod) {
        return Err(DecodeError::protocol("AUTH without Authentication Method"));
    }
    Ok(Packet::Auth(Auth { reason, properties }))
}

const NOT_ALLOWED_REASON: DecodeError =
    DecodeError::new(ReasonCode::ProtocolError, "a reason code that this packet does not allow");

#[inline]
fn reason(packet_type: PacketType, body: &mut Reader<'_>) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(body.byte()?, packet_type).ok_or(NOT_ALLOWED_REASON)
}

/// The properties of a 5.0 packet that may end before their length.
#[inline]
fn properties_or_end<'a>(packet_type: PacketType, body: &mut Reader<'a>) -> Result<Properties<'a>, DecodeError> {
    if body.is_empty() {
        return Ok(Properties::EMPTY);
    }
    properties(Version::V5, PropertyPlace::Packet(packet_type), body)
}
