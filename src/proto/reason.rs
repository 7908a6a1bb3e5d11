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

    #[test]
    fn values_are_unique_and_ascending() {
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert!(ReasonCode::ALL.is_sorted_by(|a, b| a.value() < b.value()));
    }

    /// The counts of the standard's table 2-6 pin the "packets" column.
    #[test]
    fn each_packet_allows_the_codes_of_its_table() {
        let allowed = |packet| (0..=u8::MAX).filter(|value| ReasonCode::from_u8(*value, packet).is_some()).count();
        let expected = [
            (PacketType::Connect, 0),
            (PacketType::Connack, 22),
            (PacketType::Publish, 0),
            (PacketType::Puback, 9),
            (PacketType::Pubrec, 9),
            (PacketType::Pubrel, 2),
            (PacketType::Pubcomp, 2),
            (PacketType::Subscribe, 0),
            (PacketType::Suback, 12),
            (PacketType::Unsubscribe, 0),
            (PacketType::Unsuback, 7),
            (PacketType::Pingreq, 0),
            (PacketType::Pingresp, 0),
            (PacketType::Disconnect, 30),
            (PacketType::Auth, 3),
        ];
        for (packet, count) in expected {
            assert_eq!(allowed(packet), count, "{packet:?}");
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
