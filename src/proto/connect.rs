//! Decoding CONNECT, the one packet whose refusal has an answer of its own.

use super::decode::properties;
use super::error::{ConnectError, DecodeError};
use super::header::split_frame;
use super::packet::{Connect, Will};
use super::property::PropertyPlace;
use super::reason::ReasonCode;
use super::types::{PacketType, QoS, Version};
use super::wire::Reader;

/// The protocol name of 3.1.1 and 5.0.
const PROTOCOL_NAME: &[u8] = b"MQTT";

/// The protocol name of 3.1. Its packets are laid out as those of 3.1.1, and from here on it counts as that.
const PROTOCOL_NAME_OF_31: &[u8] = b"MQIsdp";

/// Bridges of other brokers set this bit of the protocol level in 3.1 and 3.1.1; see [`connects_as_bridge`].
const BRIDGE_BIT: u8 = 0x80;

/// Decodes `frame`, which is exactly one packet and has to be a CONNECT [MQTT-3.1.0-1].
///
/// # Errors
/// What is wrong, and in which version a CONNACK is due, if one is.
pub fn decode_connect(frame: &[u8]) -> Result<Connect<'_>, ConnectError> {
    let (packet_type, _, mut body) = split_frame(frame).map_err(ConnectError::silent)?;
    if packet_type != PacketType::Connect {
        return Err(ConnectError::silent(DecodeError::protocol("the first packet is not CONNECT")));
    }
    let version = protocol_version(&mut body)?;
    connect(version, body).map_err(|error| ConnectError::answered(version, error))
}

/// Whether a CONNECT that can be decoded comes from a bridge of another broker. The standards do not know this sign, but the
/// bridges in use give it, and expect of a broker that takes it what 5.0 calls No Local and Retain As Published: without the
/// first one a topic that is bridged in both directions would loop.
#[must_use]
pub fn connects_as_bridge(frame: &[u8]) -> bool {
    let level = || {
        let (_, _, mut body) = split_frame(frame).ok()?;
        body.binary().ok()?;
        body.byte().ok()
    };
    level().is_some_and(|level| level & BRIDGE_BIT != 0)
}

/// Gives a 3.1.1 CONNECT that this codec has encoded the sign of a bridge, as [`connects_as_bridge`] reads it.
///
/// # Panics
/// If it is no CONNECT.
pub fn mark_as_bridge(connect: &mut [u8]) {
    let level_from_end = match split_frame(connect) {
        Ok((PacketType::Connect, _, body)) => body.rest().len() - (2 + PROTOCOL_NAME.len()),
        Ok(_) | Err(_) => panic!("only a CONNECT says that it is a bridge's"),
    };
    let level = connect.len() - level_from_end;
    connect[level] |= BRIDGE_BIT;
}

/// Reads protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn protocol_version(body: &mut Reader<'_>) -> Result<Version, ConnectError> {
    let name = body.binary().map_err(ConnectError::silent)?;
    let level = body.byte().map_err(ConnectError::silent)?;
    let level_without_bridge = level & !BRIDGE_BIT;
    match (name, level) {
        (PROTOCOL_NAME, 5) => Ok(Version::V5),
        (PROTOCOL_NAME, _) if level_without_bridge == 4 => Ok(Version::V311),
        (PROTOCOL_NAME_OF_31, _) if level_without_bridge == 3 => Ok(Version::V311),
        (_, _) => {
            // The answer goes out in the version that the peer most likely understands.
            let version = if level_without_bridge <= 4 { Version::V311 } else { Version::V5 };
            let error = DecodeError::new(ReasonCode::UnsupportedProtocolVersion, "the protocol version is not served");
            Err(ConnectError::answered(version, error))
        }
    }
}

fn connect(version: Version, mut body: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let flags = ConnectFlags::parse(version, body.byte()?)?;
    let keep_alive_seconds = body.two_byte_integer()?;
    // [MQTT-3.1.3-1]: the order of the fields.
    let properties = properties(version, PropertyPlace::Packet(PacketType::Connect), &mut body)?;
    // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    let client_id = body.string()?;
    // 3.1.1: [MQTT-3.1.3-7] [MQTT-3.1.3-8]; 5.0 lets the server choose one whatever Clean Start says.
    if version == Version::V311 && client_id.is_empty() && !flags.clean_start {
        return Err(DecodeError::new(
            ReasonCode::ClientIdentifierNotValid,
            "an empty client identifier without a clean session",
        ));
    }
    let will = flags.will.map(|will_flags| will(version, will_flags, &mut body)).transpose()?;
    // [MQTT-3.1.3-12]
    let username = flags.username.then(|| body.string()).transpose()?;
    let password = flags.password.then(|| body.binary()).transpose()?;
    body.finish()?;
    Ok(Connect {
        version,
        clean_start: flags.clean_start,
        keep_alive_seconds,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn will<'a>(version: Version, flags: WillFlags, body: &mut Reader<'a>) -> Result<Will<'a>, DecodeError> {
    let properties = properties(version, PropertyPlace::Will, body)?;
    // [MQTT-3.1.3-11]
    let topic = body.string()?;
    let payload = body.binary()?;
    Ok(Will { topic, payload, qos: flags.qos, retain: flags.retain, properties })
}

/// The connect flags, parsed.
struct ConnectFlags {
    clean_start: bool,
    will: Option<WillFlags>,
    username: bool,
    password: bool,
}

struct WillFlags {
    qos: QoS,
    retain: bool,
}

impl ConnectFlags {
    fn parse(version: Version, bits: u8) -> Result<Self, DecodeError> {
        // [MQTT-3.1.2-3]
        if bits & 0b0000_0001 != 0 {
            return Err(DecodeError::malformed("the reserved connect flag is set"));
        }
        let username = bits & 0b1000_0000 != 0;
        let password = bits & 0b0100_0000 != 0;
        // 3.1.1: [MQTT-3.1.2-22]; 5.0 allows a password alone.
        if version == Version::V311 && password && !username {
            return Err(DecodeError::malformed("a password without a user name"));
        }
        Ok(Self { clean_start: bits & 0b0000_0010 != 0, will: WillFlags::parse(bits)?, username, password })
    }
}

impl WillFlags {
    fn parse(bits: u8) -> Result<Option<Self>, DecodeError> {
        // [MQTT-3.1.2-12], 3.1.1: [MQTT-3.1.2-14]
        let qos = QoS::from_bits(bits >> 3 & 0b11).ok_or(DecodeError::malformed("will QoS 3"))?;
        let retain = bits & 0b0010_0000 != 0;
        if bits & 0b0000_0100 != 0 {
            return Ok(Some(Self { qos, retain }));
        }
        // [MQTT-3.1.2-11] [MQTT-3.1.2-13], 3.1.1: [MQTT-3.1.2-13] [MQTT-3.1.2-15]
        if qos != QoS::AtMostOnce || retain {
            return Err(DecodeError::malformed("will QoS or will retain without a will"));
        }
        Ok(None)
    }
}
