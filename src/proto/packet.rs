//! The control packets as types. Decoded ones borrow from their frame; the same types are given to the encoders.

use core::fmt;

use super::error::DecodeError;
use super::property::Properties;
use super::reason::ReasonCode;
use super::types::{PacketId, PacketType, QoS, SubscriptionOptions, Version};
use super::wire::Reader;

/// Any control packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// CONNACK.
    Connack(Connack<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    Puback(Acknowledgement<'a>),
    /// PUBREC.
    Pubrec(Acknowledgement<'a>),
    /// PUBREL.
    Pubrel(Acknowledgement<'a>),
    /// PUBCOMP.
    Pubcomp(Acknowledgement<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    Suback(Suback<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK, without codes in 3.1.1.
    Unsuback(Suback<'a>),
    /// PINGREQ.
    Pingreq,
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT, without reason and properties in 3.1.1.
    Disconnect(Disconnect<'a>),
    /// AUTH, which 3.1.1 does not have.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Its type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT: a client asks for a connection. Its `Debug` output withholds the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol version of the connection.
    pub version: Version,
    /// Clean Start; in 3.1.1 Clean Session, which also makes the session end with its connection.
    pub clean_start: bool,
    /// Keep-alive in seconds; 0 turns it off.
    pub keep_alive_seconds: u16,
    /// The client identifier; empty when the server is to choose one.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password; in 3.1.1 only with a user name.
    pub password: Option<&'a [u8]>,
    /// The properties.
    pub properties: Properties<'a>,
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "withheld"))
            .field("properties", &self.properties)
            .finish()
    }
}

/// The message that the server publishes when the client is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// Its topic name; the syntax has not been checked.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// The will properties.
    pub properties: Properties<'a>,
}

/// CONNACK: the server's answer to CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connack<'a> {
    /// Whether the server continues a session that it kept. With an error it is always false
    /// [MQTT-3.2.2-6]; the encoder sees to that.
    pub session_present: bool,
    /// The result. In 3.1.1 it should have a return code, see
    /// [`ReasonCode::connack_return_code`]; any other is written as "server unavailable".
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

/// PUBLISH: a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Whether the sender may have sent it before; never with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is, or is to be, retained.
    pub retain: bool,
    /// Its topic name, empty when only a topic alias names it; the syntax has not been checked.
    pub topic: &'a str,
    /// Its packet identifier: present exactly when the QoS is above 0 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// The properties.
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

/// The content of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledgement<'a> {
    /// The packet identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// The result; always success in 3.1.1.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE: at least one topic filter, each with its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// Filters and options as this version has them, validated.
    filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(
        version: Version,
        packet_id: PacketId,
        properties: Properties<'a>,
        reader: Reader<'a>,
    ) -> Result<Self, DecodeError> {
        // [MQTT-3.8.3-2], 3.1.1: [MQTT-3.8.3-3]
        if reader.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a topic filter"));
        }
        let mut unchecked = reader;
        while !unchecked.is_empty() {
            read_subscription(version, &mut unchecked)?;
        }
        Ok(Self { packet_id, properties, filters: Filters { version, reader } })
    }

    /// The topic filters and their options, in the packet's order. The syntax of the filters has not been checked.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + Clone + use<'a> {
        let Filters { version, mut reader } = self.filters;
        core::iter::from_fn(move || {
            let subscription = (!reader.is_empty()).then(|| read_subscription(version, &mut reader))?;
            Some(subscription.expect("the topic filters were validated by decoding them"))
        })
    }
}

/// UNSUBSCRIBE: at least one topic filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// The filters, validated.
    filters: Reader<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(
        packet_id: PacketId,
        properties: Properties<'a>,
        reader: Reader<'a>,
    ) -> Result<Self, DecodeError> {
        // [MQTT-3.10.3-2]
        if reader.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a topic filter"));
        }
        let mut unchecked = reader;
        while !unchecked.is_empty() {
            unchecked.string()?;
        }
        Ok(Self { packet_id, properties, filters: reader })
    }

    /// The topic filters, in the packet's order. Their syntax has not been checked.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let mut reader = self.filters;
        core::iter::from_fn(move || {
            let filter = (!reader.is_empty()).then(|| reader.string())?;
            Some(filter.expect("the topic filters were validated by decoding them"))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Filters<'a> {
    version: Version,
    reader: Reader<'a>,
}

fn read_subscription<'a>(
    version: Version,
    reader: &mut Reader<'a>,
) -> Result<(&'a str, SubscriptionOptions), DecodeError> {
    let filter = reader.string()?;
    let options = SubscriptionOptions::from_bits(version, reader.byte()?)?;
    Ok((filter, options))
}

/// The content of SUBACK and UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suback<'a> {
    /// The packet identifier of the request.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// One reason code per topic filter of the request, in its order [MQTT-3.9.3-1], [MQTT-3.11.3-1]. A 3.1.1 SUBACK says
    /// 0x80 for every failure; a 3.1.1 UNSUBACK has none.
    pub codes: &'a [u8],
}

/// DISCONNECT: the sender ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Why; always success in 3.1.1.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}

/// AUTH: a step of an extended authentication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Where the exchange stands.
    pub reason: ReasonCode,
    /// The properties.
    pub properties: Properties<'a>,
}
