//! Tests: each kind of illegal packet is refused with its reason code.

use super::*;

const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;
const BOTH: &[Version] = &[Version::V311, Version::V5];
const V311: &[Version] = &[Version::V311];
const V5: &[Version] = &[Version::V5];

/// What it is, the versions that refuse it, first byte, what follows the fixed header, and the reason code.
type Row = (&'static str, &'static [Version], u8, &'static [u8], ReasonCode);

#[rustfmt::skip]
const REFUSED: &[Row] = &[
    // PUBLISH
    ("[MQTT-3.3.1-4] QoS 3", BOTH, 0x36, b"\x00\x01t\x00\x01\x00", MALFORMED),
    ("[MQTT-3.3.1-2] DUP with QoS 0", BOTH, 0x38, b"\x00\x01t\x00", MALFORMED),
    ("no topic name", BOTH, 0x30, b"", MALFORMED),
    ("half a topic length", BOTH, 0x30, b"\x00", MALFORMED),
    ("a topic longer than the packet", BOTH, 0x30, b"\x00\x05abcd", MALFORMED),
    ("[MQTT-1.5.4-1] a topic that is not UTF-8", BOTH, 0x30, b"\x00\x02\xc3\x28\x00", MALFORMED),
    ("[MQTT-1.5.4-1] a surrogate in the topic", BOTH, 0x30, b"\x00\x03\xed\xa0\x80\x00", MALFORMED),
    ("[MQTT-1.5.4-1] an overlong topic", BOTH, 0x30, b"\x00\x02\xc0\xaf\x00", MALFORMED),
    ("[MQTT-1.5.4-2] U+0000 in the topic", BOTH, 0x30, b"\x00\x03a\x00b\x00", MALFORMED),
    ("no packet identifier", BOTH, 0x32, b"\x00\x01t", MALFORMED),
    ("half a packet identifier", BOTH, 0x34, b"\x00\x01t\x01", MALFORMED),
    ("[MQTT-2.2.1-3] packet identifier 0", BOTH, 0x34, b"\x00\x01t\x00\x00\x00", PROTOCOL),
    ("no property length", V5, 0x30, b"\x00\x01t", MALFORMED),
    ("properties longer than the packet", V5, 0x30, b"\x00\x01t\x05\x01\x00", MALFORMED),
    ("[MQTT-1.5.5-1] overlong property length", V5, 0x30, b"\x00\x01t\x80\x00", MALFORMED),
    ("property length of five bytes", V5, 0x30, b"\x00\x01t\xff\xff\xff\xff\x01", MALFORMED),
    ("[MQTT-3.3.2-8] topic alias 0", V5, 0x30, b"\x00\x01t\x03\x23\x00\x00", ReasonCode::TopicAliasInvalid),
    ("payload format indicator 2", V5, 0x30, b"\x00\x01t\x02\x01\x02", PROTOCOL),
    ("subscription identifier 0", V5, 0x30, b"\x00\x01t\x02\x0b\x00", PROTOCOL),
    ("message expiry twice", V5, 0x30, b"\x00\x01t\x0a\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01", PROTOCOL),
    ("a will property in PUBLISH", V5, 0x30, b"\x00\x01t\x05\x18\x00\x00\x00\x01", PROTOCOL),
    ("a CONNECT property in PUBLISH", V5, 0x30, b"\x00\x01t\x03\x21\x00\x01", PROTOCOL),
    ("unknown property 0", V5, 0x30, b"\x00\x01t\x02\x00\x00", MALFORMED),
    ("unknown property 43", V5, 0x30, b"\x00\x01t\x02\x2b\x00", MALFORMED),
    ("unknown property 255", V5, 0x30, b"\x00\x01t\x03\xff\x01\x00", MALFORMED),
    ("a property cut short", V5, 0x30, b"\x00\x01t\x03\x02\x00\x00", MALFORMED),
    ("a property value longer than the block", V5, 0x30, b"\x00\x01t\x03\x03\x00\x05abcde", MALFORMED),
    ("U+0000 in a content type", V5, 0x30, b"\x00\x01t\x04\x03\x00\x01\x00", MALFORMED),
    ("[MQTT-1.5.7-1] half a user property", V5, 0x30, b"\x00\x01t\x04\x26\x00\x01k", MALFORMED),
    ("[MQTT-1.5.7-1] a user property that is not UTF-8", V5, 0x30, b"\x00\x01t\x07\x26\x00\x01k\x00\x01\xff", MALFORMED),
    // Acknowledgements
    ("PUBACK without an identifier", BOTH, 0x40, b"", MALFORMED),
    ("PUBREC with half an identifier", BOTH, 0x50, b"\x01", MALFORMED),
    ("PUBACK with identifier 0", BOTH, 0x40, b"\x00\x00", PROTOCOL),
    ("PUBREL with identifier 0", BOTH, 0x62, b"\x00\x00", PROTOCOL),
    ("a 3.1.1 PUBACK with a reason code", V311, 0x40, b"\x00\x01\x00", MALFORMED),
    ("[MQTT-3.4.2-1] PUBACK with a reason of PUBREL", V5, 0x40, b"\x00\x01\x92", PROTOCOL),
    ("[MQTT-3.5.2-1] PUBREC with an undefined reason", V5, 0x50, b"\x00\x01\x42", PROTOCOL),
    ("[MQTT-3.6.2-1] PUBREL with a reason of PUBREC", V5, 0x62, b"\x00\x01\x10", PROTOCOL),
    ("[MQTT-3.7.2-1] PUBCOMP with a reason of PUBREC", V5, 0x70, b"\x00\x01\x97", PROTOCOL),
    ("PUBACK with a property that it does not allow", V5, 0x40, b"\x00\x01\x00\x02\x01\x00", PROTOCOL),
    ("PUBREC with two reason strings", V5, 0x50, b"\x00\x01\x00\x06\x1f\x00\x00\x1f\x00\x00", PROTOCOL),
    ("bytes behind PUBCOMP", V5, 0x70, b"\x00\x01\x00\x00\x00", MALFORMED),
    ("[MQTT-2.1.3-1] PUBREL with flags 0000", BOTH, 0x60, b"\x00\x01", MALFORMED),
    ("[MQTT-2.1.3-1] PUBACK with flags 0010", BOTH, 0x42, b"\x00\x01", MALFORMED),
    // SUBSCRIBE and UNSUBSCRIBE
    ("[MQTT-3.8.1-1] SUBSCRIBE with flags 0000", BOTH, 0x80, b"\x00\x01\x00\x01a\x00", MALFORMED),
    ("SUBSCRIBE with identifier 0", V311, 0x82, b"\x00\x00\x00\x01a\x00", PROTOCOL),
    ("SUBSCRIBE with identifier 0", V5, 0x82, b"\x00\x00\x00\x00\x01a\x00", PROTOCOL),
    ("[MQTT-3.8.3-2] SUBSCRIBE without a filter", V311, 0x82, b"\x00\x01", PROTOCOL),
    ("[MQTT-3.8.3-2] SUBSCRIBE without a filter", V5, 0x82, b"\x00\x01\x00", PROTOCOL),
    ("SUBSCRIBE without options", V311, 0x82, b"\x00\x01\x00\x01a", MALFORMED),
    ("SUBSCRIBE whose second filter has no options", V5, 0x82, b"\x00\x01\x00\x00\x01a\x00\x00\x01b", MALFORMED),
    ("a filter that is not UTF-8", V311, 0x82, b"\x00\x01\x00\x01\xff\x00", MALFORMED),
    ("3.1.1 SUBSCRIBE with QoS 3", V311, 0x82, b"\x00\x01\x00\x01a\x03", MALFORMED),
    ("3.1.1 SUBSCRIBE with reserved bits", V311, 0x82, b"\x00\x01\x00\x01a\x04", MALFORMED),
    ("[MQTT-3.8.3-5] reserved option bit 6", V5, 0x82, b"\x00\x01\x00\x00\x01a\x40", MALFORMED),
    ("[MQTT-3.8.3-5] reserved option bit 7", V5, 0x82, b"\x00\x01\x00\x00\x01a\x80", MALFORMED),
    ("5.0 SUBSCRIBE with QoS 3", V5, 0x82, b"\x00\x01\x00\x00\x01a\x03", PROTOCOL),
    ("retain handling 3", V5, 0x82, b"\x00\x01\x00\x00\x01a\x30", PROTOCOL),
    ("SUBSCRIBE with subscription identifier 0", V5, 0x82, b"\x00\x01\x02\x0b\x00\x00\x01a\x00", PROTOCOL),
    ("SUBSCRIBE with two subscription identifiers", V5, 0x82, b"\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00", PROTOCOL),
    ("SUBSCRIBE with a reason string", V5, 0x82, b"\x00\x01\x03\x1f\x00\x00\x00\x01a\x00", PROTOCOL),
    ("[MQTT-3.10.1-1] UNSUBSCRIBE with flags 0000", BOTH, 0xA0, b"\x00\x01\x00\x01a", MALFORMED),
    ("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter", V311, 0xA2, b"\x00\x01", PROTOCOL),
    ("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter", V5, 0xA2, b"\x00\x01\x00", PROTOCOL),
    ("UNSUBSCRIBE with identifier 0", V311, 0xA2, b"\x00\x00\x00\x01a", PROTOCOL),
    ("UNSUBSCRIBE with a subscription identifier", V5, 0xA2, b"\x00\x01\x02\x0b\x01\x00\x01a", PROTOCOL),
    ("half a filter", V311, 0xA2, b"\x00\x01\x00\x03ab", MALFORMED),
    // Server packets
    ("[MQTT-3.2.2-1] CONNACK with reserved flags", BOTH, 0x20, b"\x02\x00\x00", MALFORMED),
    ("CONNACK without a code", BOTH, 0x20, b"\x00", MALFORMED),
    ("3.1.1 CONNACK with return code 6", V311, 0x20, b"\x00\x06", MALFORMED),
    ("5.0 CONNACK with a reason of DISCONNECT", V5, 0x20, b"\x00\x8e\x00", PROTOCOL),
    ("[MQTT-3.2.2-6] an error with session present", V311, 0x20, b"\x01\x05", PROTOCOL),
    ("[MQTT-3.2.2-6] an error with session present", V5, 0x20, b"\x01\x87\x00", PROTOCOL),
    ("CONNACK with maximum QoS 2", V5, 0x20, b"\x00\x00\x02\x24\x02", PROTOCOL),
    ("CONNACK with retain available 2", V5, 0x20, b"\x00\x00\x02\x25\x02", PROTOCOL),
    ("[MQTT-3.9.3-2] 3.1.1 SUBACK with a reserved code", V311, 0x90, b"\x00\x01\x03", PROTOCOL),
    ("[MQTT-3.9.3-2] SUBACK with a reason of UNSUBACK", V5, 0x90, b"\x00\x01\x00\x11", PROTOCOL),
    ("SUBACK without codes", V5, 0x90, b"\x00\x01\x00", PROTOCOL),
    ("[MQTT-3.11.3-2] UNSUBACK with a reason of SUBACK", V5, 0xB0, b"\x00\x01\x00\x02", PROTOCOL),
    ("UNSUBACK without codes", V5, 0xB0, b"\x00\x01\x00", PROTOCOL),
    ("3.1.1 UNSUBACK with a code", V311, 0xB0, b"\x00\x01\x00", MALFORMED),
    // The rest
    ("PINGREQ with a body", BOTH, 0xC0, b"\x00", MALFORMED),
    ("PINGRESP with a body", BOTH, 0xD0, b"\x00", MALFORMED),
    ("3.1.1 DISCONNECT with a body", V311, 0xE0, b"\x00", MALFORMED),
    ("[MQTT-3.14.2-1] DISCONNECT with a reason of CONNACK", V5, 0xE0, b"\x86", PROTOCOL),
    ("DISCONNECT with a receive maximum", V5, 0xE0, b"\x00\x03\x21\x00\x01", PROTOCOL),
    ("bytes behind DISCONNECT", V5, 0xE0, b"\x00\x00\x00", MALFORMED),
    ("AUTH in 3.1.1", V311, 0xF0, b"", MALFORMED),
    ("[MQTT-3.15.2-1] AUTH with a reason of DISCONNECT", V5, 0xF0, b"\x04\x00", PROTOCOL),
    ("AUTH without property length", V5, 0xF0, b"\x18", MALFORMED),
    ("AUTH without a method", V5, 0xF0, b"\x18\x00", PROTOCOL),
    ("authentication data without a method", V5, 0xF0, b"\x18\x04\x16\x00\x01x", PROTOCOL),
    ("packet type 0", BOTH, 0x00, b"", MALFORMED),
];

/// What it is, what follows the fixed header of CONNECT, the reason code, and the version of the CONNACK that is due.
type ConnectRow = (&'static str, &'static [u8], ReasonCode, Option<Version>);

#[rustfmt::skip]
const REFUSED_CONNECTS: &[ConnectRow] = &[
    ("nothing", b"", MALFORMED, None),
    ("no protocol level", b"\x00\x04MQTT", MALFORMED, None),
    ("[MQTT-3.1.2-1] another protocol name", b"\x00\x04AMQP\x04\x02\x00\x00\x00\x00", ReasonCode::UnsupportedProtocolVersion, Some(Version::V311)),
    ("[MQTT-3.1.2-1] lower-case protocol name", b"\x00\x04mqtt\x05\x02\x00\x00\x00\x00\x00", ReasonCode::UnsupportedProtocolVersion, Some(Version::V5)),
    ("[MQTT-3.1.2-2] the name of 3.1 with the level of 3.1.1", b"\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01a", ReasonCode::UnsupportedProtocolVersion, Some(Version::V311)),
    ("[MQTT-3.1.2-2] the name of 3.1 with the level of 5.0", b"\x00\x06MQIsdp\x05\x02\x00\x00\x00\x00\x01a", ReasonCode::UnsupportedProtocolVersion, Some(Version::V5)),
    ("[MQTT-3.1.2-2] level 3", b"\x00\x04MQTT\x03\x02\x00\x00\x00\x01a", ReasonCode::UnsupportedProtocolVersion, Some(Version::V311)),
    ("[MQTT-3.1.2-2] level 6", b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00", ReasonCode::UnsupportedProtocolVersion, Some(Version::V5)),
    ("level 3 with a bridge's bit", b"\x00\x04MQTT\x83\x02\x00\x00\x00\x01a", ReasonCode::UnsupportedProtocolVersion, Some(Version::V311)),
    ("level 5 with a bridge's bit", b"\x00\x04MQTT\x85\x02\x00\x00\x00\x00\x01a", ReasonCode::UnsupportedProtocolVersion, Some(Version::V5)),
    ("no flags", b"\x00\x04MQTT\x05", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.2-3] reserved flag", b"\x00\x04MQTT\x04\x03\x00\x00\x00\x01a", MALFORMED, None),
    ("[MQTT-3.1.2-3] reserved flag", b"\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01a", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.2-12] will QoS 3", b"\x00\x04MQTT\x05\x1e\x00\x00\x00\x00\x01a\x00\x00\x01w\x00\x00", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.2-12] will QoS 3", b"\x00\x04MQTT\x04\x1e\x00\x00\x00\x01a\x00\x01w\x00\x00", MALFORMED, None),
    ("[MQTT-3.1.2-11] will QoS without a will", b"\x00\x04MQTT\x05\x0a\x00\x00\x00\x00\x01a", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.2-13] will retain without a will", b"\x00\x04MQTT\x05\x22\x00\x00\x00\x00\x01a", MALFORMED, Some(Version::V5)),
    ("a 3.1.1 password without a user name", b"\x00\x04MQTT\x04\x42\x00\x00\x00\x01a\x00\x01p", MALFORMED, None),
    ("an empty identifier without a clean session in 3.1", b"\x00\x06MQIsdp\x03\x00\x00\x00\x00\x00", ReasonCode::ClientIdentifierNotValid, Some(Version::V311)),
    ("3.1.1: [MQTT-3.1.3-8] empty identifier without a clean session", b"\x00\x04MQTT\x04\x00\x00\x00\x00\x00", ReasonCode::ClientIdentifierNotValid, Some(Version::V311)),
    ("no keep-alive", b"\x00\x04MQTT\x05\x02\x00", MALFORMED, Some(Version::V5)),
    ("no client identifier", b"\x00\x04MQTT\x05\x02\x00\x00\x00", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.3-4] identifier that is not UTF-8", b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff", MALFORMED, Some(Version::V5)),
    ("no will topic", b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a", MALFORMED, None),
    ("no will payload", b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01a\x00\x00\x01w", MALFORMED, Some(Version::V5)),
    ("no user name", b"\x00\x04MQTT\x04\x82\x00\x00\x00\x01a", MALFORMED, None),
    ("no password", b"\x00\x04MQTT\x05\x42\x00\x00\x00\x00\x01a", MALFORMED, Some(Version::V5)),
    ("[MQTT-3.1.3-12] user name with U+0000", b"\x00\x04MQTT\x05\x82\x00\x00\x00\x00\x01a\x00\x01\x00", MALFORMED, Some(Version::V5)),
    ("bytes behind the end", b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01ab", MALFORMED, Some(Version::V5)),
    ("receive maximum 0", b"\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x01a", PROTOCOL, Some(Version::V5)),
    ("maximum packet size 0", b"\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00\x00\x00\x01a", PROTOCOL, Some(Version::V5)),
    ("session expiry twice", b"\x00\x04MQTT\x05\x02\x00\x00\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01\x00\x01a", PROTOCOL, Some(Version::V5)),
    ("request problem information 2", b"\x00\x04MQTT\x05\x02\x00\x00\x02\x17\x02\x00\x01a", PROTOCOL, Some(Version::V5)),
    ("will delay outside of the will", b"\x00\x04MQTT\x05\x02\x00\x00\x05\x18\x00\x00\x00\x01\x00\x01a", PROTOCOL, Some(Version::V5)),
    ("topic alias in the will", b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01a\x03\x23\x00\x01\x00\x01w\x00\x00", PROTOCOL, Some(Version::V5)),
    ("authentication data without a method", b"\x00\x04MQTT\x05\x02\x00\x00\x04\x16\x00\x01x\x00\x01a", PROTOCOL, Some(Version::V5)),
];

#[test]
fn illegal_packets_are_refused_with_their_reason() {
    for (name, versions, first, body, reason) in REFUSED {
        for version in *versions {
            let error = match decode(*version, &frame(*first, body)) {
                Ok(packet) => panic!("{name}: {version:?} accepted it as {packet:?}"),
                Err(error) => error,
            };
            assert_eq!(error.reason, *reason, "{name}: {version:?} said {error}");
        }
    }
}

#[test]
fn illegal_connects_are_refused_with_the_answer_that_is_due() {
    for (name, body, reason, version_to_answer) in REFUSED_CONNECTS {
        let frame = frame(0x10, body);
        let error = match decode_connect(&frame) {
            Ok(connect) => panic!("{name}: accepted as {connect:?}"),
            Err(error) => error,
        };
        assert_eq!(error.reason, *reason, "{name}: {error}");
        assert_eq!(error.version_to_answer, *version_to_answer, "{name}");
        assert_eq!(decode(Version::V5, &frame), Err(error.into()), "{name}");
    }
}

/// [MQTT-3.1.0-1]
#[test]
fn another_first_packet_is_not_answered() {
    let error = decode_connect(&frame(0xC0, b"")).expect_err("PINGREQ is no CONNECT");
    assert_eq!((error.reason, error.version_to_answer), (PROTOCOL, None));
}

#[test]
fn a_frame_of_another_length_is_refused() {
    for bytes in [&b""[..], b"\x40", b"\x40\x02\x00", b"\x40\x02\x00\x01\x00", b"\x40\x82\x00\x00\x01"] {
        let error = decode(Version::V311, bytes).expect_err("not one whole packet");
        assert_eq!(error.reason, MALFORMED);
    }
}

/// Each property against each packet: exactly the places of the standard's table 2-4.
#[test]
fn properties_are_refused_where_they_do_not_belong() {
    let places = PacketType::ALL.map(PropertyPlace::Packet).into_iter().chain([PropertyPlace::Will]);
    let mut allowed_count = 0;
    for place in places {
        for identifier in PropertyIdentifier::ALL {
            let raw = [&[*identifier as u8][..], value_of(*identifier)].concat();
            let parsed = Properties::parse(&raw, place);
            // What it must not stand without is another rule.
            if identifier.is_allowed_in(place) && *identifier != PropertyIdentifier::AuthenticationData {
                assert!(parsed.is_ok(), "{} in {place:?}: {parsed:?}", identifier.name());
            } else {
                assert_eq!(parsed.expect_err("refused").reason, PROTOCOL, "{} in {place:?}", identifier.name());
            }
            allowed_count += usize::from(identifier.is_allowed_in(place));
        }
    }
    assert_eq!(PropertyIdentifier::ALL.len(), 27);
    assert_eq!(allowed_count, 64);
}

/// Each property twice: refused but for user properties and, in PUBLISH, subscription identifiers.
#[test]
fn repeated_properties_are_refused() {
    let places = PacketType::ALL.map(PropertyPlace::Packet).into_iter().chain([PropertyPlace::Will]);
    for place in places {
        for identifier in PropertyIdentifier::ALL.iter().filter(|identifier| identifier.is_allowed_in(place)) {
            let raw = [&[*identifier as u8][..], value_of(*identifier)].concat().repeat(2);
            let parsed = Properties::parse(&raw, place);
            let is_publish = place == PropertyPlace::Packet(PacketType::Publish);
            let may_repeat = match identifier {
                PropertyIdentifier::UserProperty => true,
                PropertyIdentifier::SubscriptionIdentifier => is_publish,
                _ => false,
            };
            assert_eq!(parsed.is_ok(), may_repeat, "{} in {place:?}", identifier.name());
            if let Err(error) = parsed {
                assert_eq!(error.reason, PROTOCOL);
            }
        }
    }
}

#[test]
fn every_short_body_is_read_safely() {
    for first in 0..=u8::MAX {
        for value in 0..=u8::MAX {
            for version in BOTH {
                let _ = decode(*version, &frame(first, &[value]));
                let _ = decode(*version, &frame(first, &[0, 1, value]));
            }
        }
    }
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 0x80);
    [&[first, length.expect("short bodies only")], body].concat()
}

/// The bytes of a legal value.
fn value_of(identifier: PropertyIdentifier) -> &'static [u8] {
    use PropertyIdentifier as Id;
    match identifier {
        Id::PayloadFormatIndicator
        | Id::SubscriptionIdentifier
        | Id::RequestProblemInformation
        | Id::RequestResponseInformation
        | Id::MaximumQos
        | Id::RetainAvailable
        | Id::WildcardSubscriptionAvailable
        | Id::SubscriptionIdentifiersAvailable
        | Id::SharedSubscriptionAvailable => b"\x01",
        Id::ServerKeepAlive | Id::ReceiveMaximum | Id::TopicAliasMaximum | Id::TopicAlias => b"\x00\x01",
        Id::MessageExpiryInterval | Id::SessionExpiryInterval | Id::WillDelayInterval | Id::MaximumPacketSize => {
            b"\x00\x00\x00\x01"
        }
        Id::ContentType
        | Id::ResponseTopic
        | Id::CorrelationData
        | Id::AssignedClientIdentifier
        | Id::AuthenticationMethod
        | Id::AuthenticationData
        | Id::ResponseInformation
        | Id::ServerReference
        | Id::ReasonString => b"\x00\x01x",
        Id::UserProperty => b"\x00\x01k\x00\x01v",
    }
}
