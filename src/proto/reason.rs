//! The reason codes of 5.0 in one table, and the return codes of 3.1.1 mapped to and from them.

use core::fmt;

use super::types::{PacketSet, PacketType};

/// One row per reason code: value, variant, name in the standard, meaning, packets that may carry it.
macro_rules! reason_codes {
    ($($value:literal $variant:ident $name:literal $text:literal [$($packet:ident)+];)+) => {
        /// The result of an operation, as 5.0 says it. Values from 0x80 on are failures.
        ///
        /// 0x00 has three names in the standard: Success, Normal disconnection (DISCONNECT) and Granted QoS 0 (SUBACK).
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum ReasonCode {
            $(#[doc = concat!($name, " (", stringify!($value), "): ", $text, ".")] $variant = $value,)+
        }

        impl ReasonCode {
            /// Every reason code, in order of value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in the standard.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in a few words, for logs and reason strings.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            const fn from_value(value: u8) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }

            const fn packets(self) -> PacketSet {
                match self { $(Self::$variant => PacketSet(0 $(| PacketSet::$packet.0)+),)+ }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success" "the operation succeeded"
        [CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH];
    0x01 GrantedQos1 "Granted QoS 1" "subscribed with QoS 1 at most" [SUBACK];
    0x02 GrantedQos2 "Granted QoS 2" "subscribed with QoS 2 at most" [SUBACK];
    0x04 DisconnectWithWill "Disconnect with Will Message" "the client disconnects and wants its will published"
        [DISCONNECT];
    0x10 NoMatchingSubscribers "No matching subscribers" "accepted, but nobody is subscribed" [PUBACK PUBREC];
    0x11 NoSubscriptionExisted "No subscription existed" "there was no such subscription" [UNSUBACK];
    0x18 ContinueAuthentication "Continue authentication" "the next authentication step is due" [AUTH];
    0x19 Reauthenticate "Re-authenticate" "the client starts a re-authentication" [AUTH];
    0x80 UnspecifiedError "Unspecified error" "an error whose reason is not told"
        [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT];
    0x81 MalformedPacket "Malformed Packet" "a packet cannot be parsed" [CONNACK DISCONNECT];
    0x82 ProtocolError "Protocol Error" "a packet is not allowed here or holds what is not allowed"
        [CONNACK DISCONNECT];
    0x83 ImplementationSpecificError "Implementation specific error" "legal, but not accepted by this receiver"
        [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT];
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" "this protocol version is not served" [CONNACK];
    0x85 ClientIdentifierNotValid "Client Identifier not valid" "the client identifier is not accepted" [CONNACK];
    0x86 BadUserNameOrPassword "Bad User Name or Password" "user name or password is not accepted" [CONNACK];
    0x87 NotAuthorized "Not authorized" "the client may not do this"
        [CONNACK PUBACK PUBREC SUBACK UNSUBACK DISCONNECT];
    0x88 ServerUnavailable "Server unavailable" "the server cannot serve now" [CONNACK];
    0x89 ServerBusy "Server busy" "the server is busy, try again later" [CONNACK DISCONNECT];
    0x8A Banned "Banned" "the client is banned" [CONNACK];
    0x8B ServerShuttingDown "Server shutting down" "the server is shutting down" [DISCONNECT];
    0x8C BadAuthenticationMethod "Bad authentication method" "the authentication method is not supported"
        [CONNACK DISCONNECT];
    0x8D KeepAliveTimeout "Keep Alive timeout" "no packet came within one and a half keep-alive intervals" [DISCONNECT];
    0x8E SessionTakenOver "Session taken over" "another connection uses this client identifier" [DISCONNECT];
    0x8F TopicFilterInvalid "Topic Filter invalid" "the topic filter is not accepted" [SUBACK UNSUBACK DISCONNECT];
    0x90 TopicNameInvalid "Topic Name invalid" "the topic name is not accepted" [CONNACK PUBACK PUBREC DISCONNECT];
    0x91 PacketIdentifierInUse "Packet Identifier in use" "the packet identifier is in use"
        [PUBACK PUBREC SUBACK UNSUBACK];
    0x92 PacketIdentifierNotFound "Packet Identifier not found" "the packet identifier is not known" [PUBREL PUBCOMP];
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" "more unacknowledged messages than the receive maximum"
        [DISCONNECT];
    0x94 TopicAliasInvalid "Topic Alias invalid" "the topic alias is 0 or above the maximum" [DISCONNECT];
    0x95 PacketTooLarge "Packet too large" "the packet is larger than the maximum packet size" [CONNACK DISCONNECT];
    0x96 MessageRateTooHigh "Message rate too high" "messages come too fast" [DISCONNECT];
    0x97 QuotaExceeded "Quota exceeded" "a limit of the receiver is reached" [CONNACK PUBACK PUBREC SUBACK DISCONNECT];
    0x98 AdministrativeAction "Administrative action" "an administrator closed the connection" [DISCONNECT];
    0x99 PayloadFormatInvalid "Payload format invalid" "the payload does not match its format indicator"
        [CONNACK PUBACK PUBREC DISCONNECT];
    0x9A RetainNotSupported "Retain not supported" "the server does not keep retained messages" [CONNACK DISCONNECT];
    0x9B QosNotSupported "QoS not supported" "the QoS is above the maximum QoS" [CONNACK DISCONNECT];
    0x9C UseAnotherServer "Use another server" "the client should use another server for now" [CONNACK DISCONNECT];
    0x9D ServerMoved "Server moved" "the client should use another server for good" [CONNACK DISCONNECT];
    0x9E SharedSubscriptionsNotSupported "Shared Subscriptions not supported" "shared subscriptions are not served"
        [SUBACK DISCONNECT];
    0x9F ConnectionRateExceeded "Connection rate exceeded" "connections come too fast" [CONNACK DISCONNECT];
    0xA0 MaximumConnectTime "Maximum connect time" "the connection lasted as long as it may" [DISCONNECT];
    0xA1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported"
        "subscription identifiers are not served" [SUBACK DISCONNECT];
    0xA2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported"
        "wildcard subscriptions are not served" [SUBACK DISCONNECT];
}

impl ReasonCode {
    /// Its value on the wire.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The reason code of this value, if a packet of this type may carry it.
    #[inline]
    #[must_use]
    pub const fn from_u8(value: u8, packet: PacketType) -> Option<Self> {
        match Self::from_value(value) {
            Some(reason) if reason.is_allowed_in(packet) => Some(reason),
            Some(_) | None => None,
        }
    }

    /// Whether a packet of this type may carry it.
    #[inline]
    #[must_use]
    pub const fn is_allowed_in(self, packet: PacketType) -> bool {
        self.packets().overlaps(PacketSet::only(packet))
    }

    /// Whether it tells a failure.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The return code that says this in a 3.1.1 CONNACK; `None` where 3.1.1 closes the connection without a CONNACK.
    #[must_use]
    pub const fn connack_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::UnspecifiedError
            | Self::ImplementationSpecificError
            | Self::ServerUnavailable
            | Self::ServerBusy
            | Self::ServerShuttingDown
            | Self::QuotaExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved
            | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            Self::GrantedQos1
            | Self::GrantedQos2
            | Self::DisconnectWithWill
            | Self::NoMatchingSubscribers
            | Self::NoSubscriptionExisted
            | Self::ContinueAuthentication
            | Self::Reauthenticate
            | Self::MalformedPacket
            | Self::ProtocolError
            | Self::KeepAliveTimeout
            | Self::SessionTakenOver
            | Self::TopicFilterInvalid
            | Self::TopicNameInvalid
            | Self::PacketIdentifierInUse
            | Self::PacketIdentifierNotFound
            | Self::ReceiveMaximumExceeded
            | Self::TopicAliasInvalid
            | Self::PacketTooLarge
            | Self::MessageRateTooHigh
            | Self::AdministrativeAction
            | Self::PayloadFormatInvalid
            | Self::RetainNotSupported
            | Self::QosNotSupported
            | Self::SharedSubscriptionsNotSupported
            | Self::MaximumConnectTime
            | Self::SubscriptionIdentifiersNotSupported
            | Self::WildcardSubscriptionsNotSupported => None,
        }
    }

    /// The reason that a 3.1.1 CONNACK return code tells; `None` for the reserved ones, 6 and above.
    #[must_use]
    pub const fn from_connack_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (0x{:02X})", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Version, decode};

    #[test]
    fn values_are_unique_and_ascending() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert!(ReasonCode::ALL.is_sorted_by(|a, b| a.value() < b.value()));
    }

    /// The codes that each packet may carry: section 2.4 of 5.0, and the tables of the packets.
    const TABLES: [(PacketType, &[u8]); 15] = [
        (PacketType::Connect, &[]),
        (
            PacketType::Connack,
            &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
                0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
            ],
        ),
        (PacketType::Publish, &[]),
        (PacketType::Puback, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::Pubrec, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::Pubrel, &[0x00, 0x92]),
        (PacketType::Pubcomp, &[0x00, 0x92]),
        (PacketType::Subscribe, &[]),
        (PacketType::Suback, &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]),
        (PacketType::Unsubscribe, &[]),
        (PacketType::Unsuback, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
        (PacketType::Pingreq, &[]),
        (PacketType::Pingresp, &[]),
        (
            PacketType::Disconnect,
            // 0x8C stands in the table of section 2.4 only.
            &[
                0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
                0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
            ],
        ),
        (PacketType::Auth, &[0x00, 0x18, 0x19]),
    ];

    /// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
    /// [MQTT-3.14.2-1] [MQTT-3.15.2-1]
    #[test]
    fn each_packet_allows_the_codes_of_its_table() {
        for (packet, codes) in TABLES {
            let allowed = (0..=u8::MAX).filter(|value| ReasonCode::from_u8(*value, packet).is_some());
            assert_eq!(allowed.collect::<Vec<_>>(), codes, "{packet:?}");
        }
    }

    /// A packet of 5.0 with this reason, in its longest form.
    fn with_reason(packet: PacketType, value: u8) -> Option<Vec<u8>> {
        let first = packet.first_byte();
        match packet {
            PacketType::Connack => Some(vec![first, 3, 0, value, 0]),
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                Some(vec![first, 4, 0, 1, value, 0])
            }
            PacketType::Suback | PacketType::Unsuback => Some(vec![first, 4, 0, 1, 0, value]),
            PacketType::Disconnect => Some(vec![first, 2, value, 0]),
            PacketType::Auth => Some(vec![first, 6, value, 4, 21, 0, 1, b'M']),
            PacketType::Connect
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::Pingreq
            | PacketType::Pingresp => None,
        }
    }

    /// The codec keeps to the tables: what is in them is read and written as it was, and the rest is a protocol error.
    #[test]
    fn each_packet_is_read_and_written_with_the_codes_of_its_table() {
        for (packet, codes) in TABLES {
            for value in 0..=u8::MAX {
                let Some(frame) = with_reason(packet, value) else { continue };
                let decoded = decode(Version::V5, &frame);
                assert_eq!(decoded.is_ok(), codes.contains(&value), "{packet:?} {value:#x}: {decoded:?}");
                match decoded {
                    Ok(decoded) => {
                        let mut encoded = Vec::new();
                        decoded.encode(Version::V5, &mut encoded);
                        assert_eq!(decode(Version::V5, &encoded), Ok(decoded), "{packet:?} {value:#x}");
                    }
                    Err(error) => assert_eq!(error.reason, ReasonCode::ProtocolError, "{packet:?} {value:#x}"),
                }
            }
        }
    }

    #[test]
    fn return_codes_round_trip() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connack_return_code(code).expect("a defined return code");
            assert_eq!(reason.connack_return_code(), Some(code));
            assert!(reason.is_allowed_in(PacketType::Connack));
        }
        assert_eq!(ReasonCode::from_connack_return_code(6), None);
    }
}
