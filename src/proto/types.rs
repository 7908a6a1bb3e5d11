//! The small value types of the standard, which cannot hold an illegal value.

use core::fmt;
use core::num::NonZeroU16;

use super::error::DecodeError;

/// The protocol version of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl Version {
    /// The protocol level that CONNECT carries for this version.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Quality of service. The order is that of the guarantee, so `min` is the downgrade rule of [MQTT-3.8.4-8].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; `None` for 3 and above.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Its number on the wire.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// A packet identifier, which is never 0 [MQTT-2.2.1-3], [MQTT-2.2.1-4].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PacketId(NonZeroU16);

const _: () = assert!(size_of::<Option<PacketId>>() == 2);

impl PacketId {
    /// The smallest identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The largest identifier.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The identifier of this value; `None` for 0.
    #[inline]
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Its value on the wire.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// The type of a control packet: the upper half of its first byte.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PacketType {
    /// Connection request, client to server.
    Connect = 1,
    /// Answer to CONNECT.
    Connack = 2,
    /// A message.
    Publish = 3,
    /// Answer to a QoS 1 PUBLISH.
    Puback = 4,
    /// First answer to a QoS 2 PUBLISH: received.
    Pubrec = 5,
    /// Answer to PUBREC: release.
    Pubrel = 6,
    /// Answer to PUBREL: complete.
    Pubcomp = 7,
    /// Subscribe request.
    Subscribe = 8,
    /// Answer to SUBSCRIBE.
    Suback = 9,
    /// Unsubscribe request.
    Unsubscribe = 10,
    /// Answer to UNSUBSCRIBE.
    Unsuback = 11,
    /// Ping request.
    Pingreq = 12,
    /// Answer to PINGREQ.
    Pingresp = 13,
    /// End of the connection.
    Disconnect = 14,
    /// Authentication exchange; reserved in 3.1.1.
    Auth = 15,
}

impl PacketType {
    /// Every packet type, in wire order.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in a packet's first byte; `None` for the forbidden type 0.
    #[inline]
    #[must_use]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        match first >> 4 {
            0 => None,
            number => Some(Self::ALL[number as usize - 1]),
        }
    }

    /// The first byte of a packet of this type with the flags that the standard fixes [MQTT-2.1.3-1]; for PUBLISH, whose
    /// flags vary, with all of them clear.
    #[inline]
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::Connack
            | Self::Publish
            | Self::Puback
            | Self::Pubrec
            | Self::Pubcomp
            | Self::Suback
            | Self::Unsuback
            | Self::Pingreq
            | Self::Pingresp
            | Self::Disconnect
            | Self::Auth => 0b0000,
        };
        (self as u8) << 4 | flags
    }
}

/// A set of packet types, and of the will inside CONNECT, which has properties of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PacketSet(pub(super) u16);

impl PacketSet {
    /// The will; its bit is that of packet type 0, which no packet has.
    pub(super) const WILL: Self = Self(1);
    pub(super) const CONNECT: Self = Self::only(PacketType::Connect);
    pub(super) const CONNACK: Self = Self::only(PacketType::Connack);
    pub(super) const PUBLISH: Self = Self::only(PacketType::Publish);
    pub(super) const PUBACK: Self = Self::only(PacketType::Puback);
    pub(super) const PUBREC: Self = Self::only(PacketType::Pubrec);
    pub(super) const PUBREL: Self = Self::only(PacketType::Pubrel);
    pub(super) const PUBCOMP: Self = Self::only(PacketType::Pubcomp);
    pub(super) const SUBSCRIBE: Self = Self::only(PacketType::Subscribe);
    pub(super) const SUBACK: Self = Self::only(PacketType::Suback);
    pub(super) const UNSUBSCRIBE: Self = Self::only(PacketType::Unsubscribe);
    pub(super) const UNSUBACK: Self = Self::only(PacketType::Unsuback);
    pub(super) const DISCONNECT: Self = Self::only(PacketType::Disconnect);
    pub(super) const AUTH: Self = Self::only(PacketType::Auth);

    pub(super) const fn only(packet: PacketType) -> Self {
        Self(1 << packet as u8)
    }

    #[inline]
    pub(super) const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a new subscription does with retained messages (5.0; 3.1.1 always sends them).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum RetainHandling {
    /// Send retained messages on every SUBSCRIBE.
    #[default]
    SendAlways = 0,
    /// Send retained messages only if the subscription did not exist.
    SendIfNew = 1,
    /// Send no retained messages.
    SendNever = 2,
}

/// The options byte behind each topic filter of SUBSCRIBE. In 3.1.1 it holds the requested QoS alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS that the subscriber wants.
    pub qos: QoS,
    /// Do not send the subscriber what it published itself.
    pub no_local: bool,
    /// Keep the RETAIN flag of forwarded messages.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    const NO_LOCAL: u8 = 0b0000_0100;
    const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
    const RESERVED: u8 = 0b1100_0000;

    /// The options of a 3.1.1 subscription: this QoS, and the only behaviour that 3.1.1 has.
    #[must_use]
    pub const fn from_qos(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::SendAlways }
    }

    /// Parses the options byte of this version.
    ///
    /// # Errors
    /// Malformed packet for reserved bits [MQTT-3.8.3-5]; protocol error for QoS 3 or retain handling 3 in 5.0.
    pub const fn from_bits(version: Version, bits: u8) -> Result<Self, DecodeError> {
        match version {
            Version::V311 => match QoS::from_bits(bits) {
                Some(qos) => Ok(Self::from_qos(qos)),
                // [MQTT-3.8.3-4] of 3.1.1: the upper six bits are reserved, and QoS 3 does not exist.
                None => Err(DecodeError::malformed("reserved bits or QoS 3 in a requested QoS")),
            },
            Version::V5 => Self::from_bits_v5(bits),
        }
    }

    const fn from_bits_v5(bits: u8) -> Result<Self, DecodeError> {
        if bits & Self::RESERVED != 0 {
            return Err(DecodeError::malformed("reserved bits set in subscription options"));
        }
        let Some(qos) = QoS::from_bits(bits & 0b11) else {
            return Err(DecodeError::protocol("QoS 3 in subscription options"));
        };
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::SendAlways,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::SendNever,
            _ => {
                return Err(DecodeError::protocol("retain handling 3 in subscription options"));
            }
        };
        Ok(Self {
            qos,
            no_local: bits & Self::NO_LOCAL != 0,
            retain_as_published: bits & Self::RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    /// The options byte of this version; 3.1.1 keeps the QoS alone.
    #[must_use]
    pub const fn to_bits(self, version: Version) -> u8 {
        match version {
            Version::V311 => self.qos.bits(),
            Version::V5 => {
                self.qos.bits()
                    | (self.no_local as u8) << 2
                    | (self.retain_as_published as u8) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_types_round_trip_through_their_first_byte() {
        assert_eq!(PacketType::from_first_byte(0x0F), None);
        for (index, packet_type) in PacketType::ALL.into_iter().enumerate() {
            assert_eq!(packet_type as usize, index + 1);
            assert_eq!(PacketType::from_first_byte(packet_type.first_byte()), Some(packet_type));
        }
    }

    #[test]
    fn quality_of_service_orders_by_guarantee() {
        assert_eq!(QoS::from_bits(3), None);
        assert_eq!(QoS::ExactlyOnce.min(QoS::AtLeastOnce), QoS::AtLeastOnce);
        assert_eq!(PacketId::new(0), None);
    }

    /// Every options byte is either refused or comes back unchanged [MQTT-3.8.3-5].
    #[test]
    fn subscription_options_round_trip_or_are_refused() {
        for version in [Version::V311, Version::V5] {
            let legal = (0..=u8::MAX)
                .filter_map(|bits| Some((bits, SubscriptionOptions::from_bits(version, bits).ok()?)))
                .inspect(|(bits, options)| assert_eq!(options.to_bits(version), *bits))
                .count();
            match version {
                Version::V311 => assert_eq!(legal, 3),
                Version::V5 => assert_eq!(legal, 3 * 2 * 2 * 3),
            }
        }
    }
}
