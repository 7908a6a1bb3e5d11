//! Tests: fixed examples pin the bytes of every packet, and what is read out of them.

use super::round_trip::check_any_frame;
use super::*;

/// Canonical packets, byte for byte as the standard's sections describe them.
pub(super) const EXAMPLES: &[(Version, &[u8])] = &[
    // CONNECT: all fields of 3.1.1.
    (
        Version::V311,
        b"\x10\x1c\x00\x04MQTT\x04\xee\x00\x3c\x00\x02id\x00\x01w\x00\x02by\x00\x01u\x00\x02pw",
    ),
    // CONNECT: the least 3.1.1 allows.
    (Version::V311, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"),
    // CONNECT: session expiry 10, receive maximum 20, will delay 5, password alone.
    (
        Version::V5,
        b"\x10\x26\x00\x04MQTT\x05\x56\x00\x0a\x08\x11\x00\x00\x00\x0a\x21\x00\x14\x00\x02id\x05\x18\x00\x00\x00\x05\x00\x01w\x00\x00\x00\x02pw",
    ),
    (Version::V311, b"\x20\x02\x01\x00"),
    (Version::V311, b"\x20\x02\x00\x05"),
    (Version::V5, b"\x20\x09\x00\x00\x06\x12\x00\x03abc"),
    (Version::V5, b"\x20\x03\x00\x87\x00"),
    // PUBLISH: QoS 0; QoS 1, retained; QoS 2, repeated.
    (Version::V311, b"\x30\x06\x00\x03a/b1"),
    (Version::V311, b"\x33\x09\x00\x03a/b\x00\x0a22"),
    (Version::V311, b"\x3c\x07\x00\x03a/b\x00\x0a"),
    // PUBLISH: no properties; topic alias alone; expiry and two user properties.
    (Version::V5, b"\x34\x08\x00\x03a/b\xff\xff\x00"),
    (Version::V5, b"\x30\x09\x00\x00\x03\x23\x00\x01tmp"),
    (
        Version::V5,
        b"\x32\x1b\x00\x01t\x00\x01\x13\x02\x00\x00\x00\x3c\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01wp!",
    ),
    (Version::V311, b"\x40\x02\x00\x01"),
    (Version::V311, b"\x50\x02\x12\x34"),
    (Version::V311, b"\x62\x02\x12\x34"),
    (Version::V311, b"\x70\x02\x12\x34"),
    (Version::V5, b"\x40\x02\x00\x01"),
    (Version::V5, b"\x50\x09\x00\x01\x97\x05\x1f\x00\x02no"),
    (Version::V5, b"\x62\x04\x00\x01\x92\x00"),
    (Version::V5, b"\x70\x04\x00\x01\x92\x00"),
    (Version::V311, b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/#\x02"),
    (Version::V5, b"\x82\x0b\x00\x0a\x02\x0b\x07\x00\x03a/+\x2e"),
    (Version::V311, b"\x90\x04\x00\x0a\x02\x80"),
    (Version::V5, b"\x90\x06\x00\x0a\x00\x01\x02\x8f"),
    (Version::V311, b"\xa2\x07\x00\x0a\x00\x03a/b"),
    (Version::V5, b"\xa2\x0b\x00\x0a\x00\x00\x03a/b\x00\x01c"),
    (Version::V311, b"\xb0\x02\x00\x0a"),
    (Version::V5, b"\xb0\x05\x00\x0a\x00\x00\x11"),
    (Version::V311, b"\xc0\x00"),
    (Version::V5, b"\xd0\x00"),
    (Version::V311, b"\xe0\x00"),
    (Version::V5, b"\xe0\x00"),
    (Version::V5, b"\xe0\x02\x8b\x00"),
    (Version::V5, b"\xe0\x07\x04\x05\x11\x00\x00\x00\x01"),
    (Version::V5, b"\xf0\x00"),
    (Version::V5, b"\xf0\x0b\x18\x09\x15\x00\x01m\x16\x00\x02xy"),
];

#[test]
fn examples_decode_and_encode_to_the_same_bytes() {
    for (version, frame) in EXAMPLES {
        assert_eq!(frame_length(frame, 1_000), Ok(Some(frame.len())), "{frame:02x?}");
        let packet = decode(*version, frame).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
        let mut bytes = Vec::new();
        packet.encode(*version, &mut bytes);
        assert_eq!(bytes, *frame, "{packet:?}");
    }
}

#[test]
fn there_is_an_example_of_every_packet() {
    for packet_type in PacketType::ALL {
        for version in [Version::V311, Version::V5] {
            let has_example = EXAMPLES.iter().any(|(example_version, frame)| {
                *example_version == version && PacketType::from_first_byte(frame[0]) == Some(packet_type)
            });
            // PINGREQ and PINGRESP are the same in both versions.
            let same = matches!(packet_type, PacketType::Pingreq | PacketType::Pingresp);
            let exists = packet_type != PacketType::Auth || version == Version::V5;
            assert!(has_example || same || !exists, "{packet_type:?} {version:?}");
        }
    }
}

#[test]
fn a_full_connect_is_read_field_by_field() {
    let (_, frame) = EXAMPLES[0];
    let connect = decode_connect(frame).expect("an example");
    let will = Will { topic: "w", payload: b"by", qos: QoS::AtLeastOnce, retain: true, properties: Properties::EMPTY };
    assert_eq!(
        connect,
        Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive_seconds: 60,
            client_id: "id",
            will: Some(will),
            username: Some("u"),
            password: Some(b"pw"),
            properties: Properties::EMPTY,
        }
    );
    let printed = format!("{connect:?}");
    assert!(printed.contains("withheld") && !printed.contains("112, 119"), "{printed}");
}

/// 3.1 under its own name is 3.1.1 from there on, with a client id of any length, which 3.1 limited to 23 bytes.
#[test]
fn mqtt_31_counts_as_311() {
    for level in [3, 0x83] {
        let client_id = "a-client-id-of-more-than-23-bytes";
        let mut frame = b"\x10\x2f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x21".to_vec();
        frame[10] = level;
        frame.extend_from_slice(client_id.as_bytes());
        let connect = decode_connect(&frame).expect("a CONNECT of 3.1");
        assert_eq!((connect.version, connect.client_id), (Version::V311, client_id));
        assert_eq!((connect.clean_start, connect.keep_alive_seconds), (true, 60));
    }
}

#[test]
fn a_bridge_is_known_by_a_bit_of_its_level() {
    for (level, is_bridge) in [(4, false), (0x84, true)] {
        let mut frame = EXAMPLES[1].1.to_vec();
        frame[8] = level;
        assert_eq!(decode_connect(&frame).map(|connect| connect.version), Ok(Version::V311));
        assert_eq!(connects_as_bridge(&frame), is_bridge);
    }
}

#[test]
fn connect_properties_are_read_by_name() {
    let (_, frame) = EXAMPLES[2];
    let connect = decode_connect(frame).expect("an example");
    assert_eq!(connect.properties.session_expiry_interval(), Some(10));
    assert_eq!(connect.properties.receive_maximum(), Some(20));
    assert_eq!(connect.properties.maximum_packet_size(), None);
    assert_eq!(connect.will.and_then(|will| will.properties.will_delay_interval()), Some(5));
    assert_eq!((connect.username, connect.password), (None, Some(&b"pw"[..])));
}

#[test]
fn user_properties_keep_their_order_and_repetition() {
    let frame = b"\x30\x16\x00\x01t\x11\x26\x00\x01b\x00\x01\x31\x26\x00\x01a\x00\x00\x0b\x01\x0b\x02x";
    let Ok(Packet::Publish(publish)) = decode(Version::V5, frame) else { panic!("a PUBLISH") };
    let pairs: Vec<_> = publish.properties.user_properties().collect();
    assert_eq!(pairs, [StringPair { name: "b", value: "1" }, StringPair { name: "a", value: "" }]);
    assert!(publish.properties.subscription_identifiers().eq([1, 2]));
    let mut kept = Vec::new();
    publish.properties.copy_where(&mut kept, |identifier| identifier == PropertyIdentifier::UserProperty);
    assert_eq!(kept, &publish.properties.raw()[..13]);
}

/// Trap: a 5.0 acknowledgement ends behind the identifier, behind the reason code, or behind its properties.
#[test]
fn every_form_of_an_acknowledgement_is_read() {
    for packet_type in [PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp] {
        let bad = match packet_type {
            PacketType::Puback | PacketType::Pubrec => ReasonCode::UnspecifiedError,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        let forms: [(&[u8], ReasonCode, Option<&str>); 6] = [
            (&[0, 7], ReasonCode::Success, None),
            (&[0, 7, 0], ReasonCode::Success, None),
            (&[0, 7, bad.value()], bad, None),
            (&[0, 7, bad.value(), 0], bad, None),
            (&[0, 7, 0, 4, 0x1F, 0, 1, b'x'], ReasonCode::Success, Some("x")),
            (&[0, 7, bad.value(), 4, 0x1F, 0, 1, b'x'], bad, Some("x")),
        ];
        for (body, reason, reason_string) in forms {
            let frame = [&[packet_type.first_byte(), body.len() as u8], body].concat();
            let acknowledgement = match decode(Version::V5, &frame).expect("a legal form") {
                Packet::Puback(acknowledgement)
                | Packet::Pubrec(acknowledgement)
                | Packet::Pubrel(acknowledgement)
                | Packet::Pubcomp(acknowledgement) => acknowledgement,
                other => panic!("{other:?}"),
            };
            assert_eq!(acknowledgement.packet_id.get(), 7);
            assert_eq!(acknowledgement.reason, reason);
            assert_eq!(acknowledgement.properties.reason_string(), reason_string);
            // 3.1.1 knows the first form alone.
            assert_eq!(decode(Version::V311, &frame).is_ok(), body.len() == 2);
        }
    }
}

#[test]
fn short_acknowledgements_decode() {
    let packet_id = PacketId::new(0x1234).expect("not 0");
    let not_found = ReasonCode::PacketIdentifierNotFound;
    let encoded = |version, kind, reason| {
        let mut out = Vec::new();
        encode_acknowledgement(&mut out, version, kind, packet_id, reason);
        out
    };
    let pubcomp = AcknowledgementKind::Pubcomp;
    assert_eq!(encoded(Version::V5, pubcomp, ReasonCode::Success), [0x70, 2, 0x12, 0x34]);
    assert_eq!(encoded(Version::V5, pubcomp, not_found), [0x70, 3, 0x12, 0x34, 0x92]);
    assert_eq!(encoded(Version::V311, pubcomp, not_found), [0x70, 2, 0x12, 0x34]);
    let pubrel = AcknowledgementKind::Pubrel;
    assert_eq!(encoded(Version::V311, pubrel, ReasonCode::Success), [0x62, 2, 0x12, 0x34]);
}

#[test]
fn what_311_cannot_say_is_left_out() {
    let suback = Suback { packet_id: PacketId::MIN, properties: Properties::EMPTY, codes: &[1, 0x87] };
    let encoded = |packet: Packet<'_>| {
        let mut out = Vec::new();
        packet.encode(Version::V311, &mut out);
        out
    };
    // 3.1.1: [MQTT-3.9.3-2]
    assert_eq!(encoded(Packet::Suback(suback)), [0x90, 4, 0, 1, 1, 0x80]);
    assert_eq!(encoded(Packet::Unsuback(suback)), [0xB0, 2, 0, 1]);
    // [MQTT-3.2.2-6]
    let connack = Connack { session_present: true, reason: ReasonCode::Banned, properties: Properties::EMPTY };
    assert_eq!(encoded(Packet::Connack(connack)), [0x20, 2, 0, 5]);
}

/// Cuts the body of every example at every byte, under a remaining length that fits: never a panic, and an error
/// wherever the packet cannot end.
#[test]
fn truncated_examples_never_panic() {
    for (version, frame) in EXAMPLES {
        for end in 0..frame.len() {
            assert!(decode(*version, &frame[..end]).is_err(), "a frame shorter than it says");
            let Some(body) = frame[..end].get(2..) else {
                continue;
            };
            let shortened = [&[frame[0], body.len() as u8], body].concat();
            check_any_frame(&shortened);
        }
    }
}
