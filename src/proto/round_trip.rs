//! Tests: what is encoded decodes to the same packet, fixed examples pin the bytes, and no input panics.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

/// Canonical packets, byte for byte as the standard's sections describe them.
const EXAMPLES: &[(Version, &[u8])] = &[
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
        assert_eq!(
            frame_length(frame, 1_000),
            Ok(Some(frame.len())),
            "{frame:02x?}"
        );
        let packet =
            decode(*version, frame).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
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
                *example_version == version
                    && PacketType::from_first_byte(frame[0]) == Some(packet_type)
            });
            // PINGREQ and PINGRESP are the same in both versions.
            let same = matches!(packet_type, PacketType::Pingreq | PacketType::Pingresp);
            let exists = packet_type != PacketType::Auth || version == Version::V5;
            assert!(
                has_example || same || !exists,
                "{packet_type:?} {version:?}"
            );
        }
    }
}

#[test]
fn a_full_connect_is_read_field_by_field() {
    let (_, frame) = EXAMPLES[0];
    let connect = decode_connect(frame).expect("an example");
    let will = Will {
        topic: "w",
        payload: b"by",
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: Properties::EMPTY,
    };
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
    assert!(
        printed.contains("withheld") && !printed.contains("112, 119"),
        "{printed}"
    );
}

#[test]
fn connect_properties_are_read_by_name() {
    let (_, frame) = EXAMPLES[2];
    let connect = decode_connect(frame).expect("an example");
    assert_eq!(connect.properties.session_expiry_interval(), Some(10));
    assert_eq!(connect.properties.receive_maximum(), Some(20));
    assert_eq!(connect.properties.maximum_packet_size(), None);
    assert_eq!(
        connect
            .will
            .and_then(|will| will.properties.will_delay_interval()),
        Some(5)
    );
    assert_eq!(
        (connect.username, connect.password),
        (None, Some(&b"pw"[..]))
    );
}

#[test]
fn user_properties_keep_their_order_and_repetition() {
    let frame =
        b"\x30\x16\x00\x01t\x11\x26\x00\x01b\x00\x01\x31\x26\x00\x01a\x00\x00\x0b\x01\x0b\x02x";
    let Ok(Packet::Publish(publish)) = decode(Version::V5, frame) else {
        panic!("a PUBLISH")
    };
    let pairs: Vec<_> = publish.properties.user_properties().collect();
    assert_eq!(
        pairs,
        [
            StringPair {
                name: "b",
                value: "1"
            },
            StringPair {
                name: "a",
                value: ""
            }
        ]
    );
    assert!(publish.properties.subscription_identifiers().eq([1, 2]));
    let mut kept = Vec::new();
    publish.properties.copy_where(&mut kept, |identifier| {
        identifier == PropertyIdentifier::UserProperty
    });
    assert_eq!(kept, &publish.properties.raw()[..13]);
}

/// Trap: a 5.0 acknowledgement ends behind the identifier, behind the reason code, or behind its properties.
#[test]
fn every_form_of_an_acknowledgement_is_read() {
    for packet_type in [
        PacketType::Puback,
        PacketType::Pubrec,
        PacketType::Pubrel,
        PacketType::Pubcomp,
    ] {
        let bad = match packet_type {
            PacketType::Puback | PacketType::Pubrec => ReasonCode::UnspecifiedError,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        let forms: [(&[u8], ReasonCode, Option<&str>); 6] = [
            (&[0, 7], ReasonCode::Success, None),
            (&[0, 7, 0], ReasonCode::Success, None),
            (&[0, 7, bad.value()], bad, None),
            (&[0, 7, bad.value(), 0], bad, None),
            (
                &[0, 7, 0, 4, 0x1F, 0, 1, b'x'],
                ReasonCode::Success,
                Some("x"),
            ),
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
    assert_eq!(
        encoded(Version::V5, pubcomp, ReasonCode::Success),
        [0x70, 2, 0x12, 0x34]
    );
    assert_eq!(
        encoded(Version::V5, pubcomp, not_found),
        [0x70, 3, 0x12, 0x34, 0x92]
    );
    assert_eq!(
        encoded(Version::V311, pubcomp, not_found),
        [0x70, 2, 0x12, 0x34]
    );
    let pubrel = AcknowledgementKind::Pubrel;
    assert_eq!(
        encoded(Version::V311, pubrel, ReasonCode::Success),
        [0x62, 2, 0x12, 0x34]
    );
}

#[test]
fn what_311_cannot_say_is_left_out() {
    let suback = Suback {
        packet_id: PacketId::MIN,
        properties: Properties::EMPTY,
        codes: &[1, 0x87],
    };
    let encoded = |packet: Packet<'_>| {
        let mut out = Vec::new();
        packet.encode(Version::V311, &mut out);
        out
    };
    // 3.1.1: [MQTT-3.9.3-2]
    assert_eq!(encoded(Packet::Suback(suback)), [0x90, 4, 0, 1, 1, 0x80]);
    assert_eq!(encoded(Packet::Unsuback(suback)), [0xB0, 2, 0, 1]);
    // [MQTT-3.2.2-6]
    let connack = Connack {
        session_present: true,
        reason: ReasonCode::Banned,
        properties: Properties::EMPTY,
    };
    assert_eq!(encoded(Packet::Connack(connack)), [0x20, 2, 0, 5]);
}

/// Cuts the body of every example at every byte, under a remaining length that fits: never a panic, and an error
/// wherever the packet cannot end.
#[test]
fn truncated_examples_never_panic() {
    for (version, frame) in EXAMPLES {
        for end in 0..frame.len() {
            assert!(
                decode(*version, &frame[..end]).is_err(),
                "a frame shorter than it says"
            );
            let Some(body) = frame[..end].get(2..) else {
                continue;
            };
            let shortened = [&[frame[0], body.len() as u8], body].concat();
            check_any_frame(&shortened);
        }
    }
}

/// An error, or a packet that comes back the same when it is encoded and decoded again.
fn check_any_frame(frame: &[u8]) {
    for version in [Version::V311, Version::V5] {
        if let Ok(packet) = decode(version, frame) {
            check_round_trip(version, packet);
        }
    }
    assert_eq!(
        decode_connect(frame).is_ok(),
        matches!(decode(Version::V5, frame), Ok(Packet::Connect(_)))
    );
}

fn check_round_trip(version: Version, packet: Packet<'_>) {
    let mut bytes = vec![0xAA];
    packet.encode(version, &mut bytes);
    let frame = &bytes[1..];
    assert_eq!(
        frame_length(frame, u32::MAX),
        Ok(Some(frame.len())),
        "{packet:?}"
    );
    for end in 0..frame.len().min(MAX_FIXED_HEADER_BYTES) {
        let length = frame_length(&frame[..end], u32::MAX).expect("a prefix is no error");
        assert!(length.is_none_or(|length| length == frame.len()));
    }
    let again = decode(version, frame).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    match (packet, again) {
        // The raw filters of both are compared by what they hold.
        (Packet::Subscribe(before), Packet::Subscribe(after)) => {
            assert_eq!(
                (before.packet_id, before.properties),
                (after.packet_id, after.properties)
            );
            assert!(before.filters().eq(after.filters()));
        }
        (before, after) => assert_eq!(before, after),
    }
    if let Packet::Publish(publish) = packet {
        check_publish_size(version, &publish, frame.len());
    }
}

fn check_publish_size(version: Version, publish: &Publish<'_>, frame_bytes: usize) {
    let raw = publish.properties.raw();
    let (front, back) = raw.split_at(raw.len() / 2);
    let header = PublishHeader {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.as_bytes(),
        packet_id: publish.packet_id,
        property_parts: &[front, &[], back],
        payload_bytes: publish.payload.len(),
    };
    assert_eq!(publish_size(version, &header), frame_bytes);
    let mut bytes = Vec::new();
    encode_publish_header(&mut bytes, version, &header);
    bytes.extend_from_slice(publish.payload);
    assert_eq!(decode(version, &bytes), Ok(Packet::Publish(*publish)));
}

/// Material for the value of any property.
#[derive(Clone, Debug)]
struct Seed {
    text: String,
    other_text: String,
    bytes: Vec<u8>,
    number: u32,
}

impl Seed {
    fn property(&self, identifier: PropertyIdentifier) -> Property<'_> {
        use PropertyIdentifier as Id;
        let flag = self.number & 1 == 1;
        let short = self.number as u16;
        match identifier {
            Id::PayloadFormatIndicator => Property::PayloadFormatIndicator(u8::from(flag)),
            Id::MessageExpiryInterval => Property::MessageExpiryInterval(self.number),
            Id::ContentType => Property::ContentType(&self.text),
            Id::ResponseTopic => Property::ResponseTopic(&self.text),
            Id::CorrelationData => Property::CorrelationData(&self.bytes),
            Id::SubscriptionIdentifier => {
                Property::SubscriptionIdentifier((self.number % MAX_REMAINING_LENGTH as u32).max(1))
            }
            Id::SessionExpiryInterval => Property::SessionExpiryInterval(self.number),
            Id::AssignedClientIdentifier => Property::AssignedClientIdentifier(&self.text),
            Id::ServerKeepAlive => Property::ServerKeepAlive(short),
            Id::AuthenticationMethod => Property::AuthenticationMethod(&self.text),
            Id::AuthenticationData => Property::AuthenticationData(&self.bytes),
            Id::RequestProblemInformation => Property::RequestProblemInformation(flag),
            Id::WillDelayInterval => Property::WillDelayInterval(self.number),
            Id::RequestResponseInformation => Property::RequestResponseInformation(flag),
            Id::ResponseInformation => Property::ResponseInformation(&self.text),
            Id::ServerReference => Property::ServerReference(&self.text),
            Id::ReasonString => Property::ReasonString(&self.text),
            Id::ReceiveMaximum => Property::ReceiveMaximum(short.max(1)),
            Id::TopicAliasMaximum => Property::TopicAliasMaximum(short),
            Id::TopicAlias => Property::TopicAlias(short.max(1)),
            Id::MaximumQos => Property::MaximumQos(if flag {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            }),
            Id::RetainAvailable => Property::RetainAvailable(flag),
            Id::UserProperty => Property::UserProperty(StringPair {
                name: &self.text,
                value: &self.other_text,
            }),
            Id::MaximumPacketSize => Property::MaximumPacketSize(self.number.max(1)),
            Id::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(flag),
            Id::SubscriptionIdentifiersAvailable => {
                Property::SubscriptionIdentifiersAvailable(flag)
            }
            Id::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(flag),
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    // [MQTT-1.5.4-2]: all but U+0000.
    prop::collection::vec(prop::char::range('\u{1}', char::MAX), 0..12).prop_map(String::from_iter)
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn seed() -> impl Strategy<Value = Seed> {
    (text(), text(), bytes(12), any::<u32>()).prop_map(|(text, other_text, bytes, number)| Seed {
        text,
        other_text,
        bytes,
        number,
    })
}

/// Any legal block for this place, in any order, repeatable properties repeated.
fn block(place: PropertyPlace) -> impl Strategy<Value = PropertyWriter> {
    let allowed: Vec<_> = PropertyIdentifier::ALL
        .iter()
        .copied()
        .filter(|id| id.is_allowed_in(place))
        .collect();
    let repeatable = allowed
        .iter()
        .copied()
        .filter(move |id| id.is_repeatable_in(place));
    let candidates: Vec<_> = allowed.iter().copied().chain(repeatable).collect();
    let count = candidates.len();
    let chosen = subsequence(candidates, 0..=count).prop_shuffle();
    (chosen, prop::collection::vec(seed(), count + 1)).prop_map(|(chosen, seeds)| {
        let mut writer = PropertyWriter::new();
        for (identifier, seed) in chosen.iter().zip(&seeds) {
            writer.push(seed.property(*identifier));
        }
        let needs_method = chosen.contains(&PropertyIdentifier::AuthenticationData)
            && !chosen.contains(&PropertyIdentifier::AuthenticationMethod);
        if needs_method {
            writer.push(Property::AuthenticationMethod("method"));
        }
        writer
    })
}

fn packet_block(packet_type: PacketType) -> impl Strategy<Value = PropertyWriter> {
    block(PropertyPlace::Packet(packet_type))
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|value| PacketId::new(value).expect("not 0"))
}

fn reason(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| reason.is_allowed_in(packet_type))
        .collect();
    prop::sample::select(allowed)
}

/// The properties that a packet of this version can have.
fn carried(version: Version, block: &PropertyWriter) -> Properties<'_> {
    match version {
        Version::V311 => Properties::EMPTY,
        Version::V5 => block.properties(),
    }
}

fn acknowledgement_type() -> impl Strategy<Value = PacketType> {
    prop::sample::select(vec![
        PacketType::Puback,
        PacketType::Pubrec,
        PacketType::Pubrel,
        PacketType::Pubcomp,
    ])
}

proptest! {
    #[test]
    fn connect_round_trips(
        version in version(),
        (clean_start, keep_alive_seconds, client_id) in (any::<bool>(), any::<u16>(), text()),
        will in prop::option::of((text(), bytes(300), qos(), any::<bool>(), block(PropertyPlace::Will))),
        (username, password) in (prop::option::of(text()), prop::option::of(bytes(20))),
        block in packet_block(PacketType::Connect),
    ) {
        let connect = Connect {
            version,
            // 3.1.1: [MQTT-3.1.3-7]
            clean_start: clean_start || client_id.is_empty(),
            keep_alive_seconds,
            client_id: &client_id,
            will: will.as_ref().map(|(topic, payload, qos, retain, block)| Will {
                topic,
                payload,
                qos: *qos,
                retain: *retain,
                properties: carried(version, block),
            }),
            username: username.as_deref(),
            // 3.1.1: [MQTT-3.1.2-22]
            password: password.as_deref().filter(|_| version == Version::V5 || username.is_some()),
            properties: carried(version, &block),
        };
        check_round_trip(version, Packet::Connect(connect));
    }

    #[test]
    fn connack_round_trips(
        session_present in any::<bool>(),
        reason in reason(PacketType::Connack),
        block in packet_block(PacketType::Connack),
    ) {
        let connack = Connack {
            session_present: session_present && !reason.is_error(),
            reason,
            properties: block.properties(),
        };
        check_round_trip(Version::V5, Packet::Connack(connack));
    }

    #[test]
    fn publish_round_trips(
        version in version(),
        (dup, qos, retain) in (any::<bool>(), qos(), any::<bool>()),
        (topic, packet_id, payload) in (text(), packet_id(), bytes(300)),
        block in packet_block(PacketType::Publish),
    ) {
        let publish = Publish {
            dup: dup && qos > QoS::AtMostOnce,
            qos,
            retain,
            topic: &topic,
            packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
            properties: carried(version, &block),
            payload: &payload,
        };
        check_round_trip(version, Packet::Publish(publish));
    }

    #[test]
    fn acknowledgements_round_trip(
        packet_id in packet_id(),
        (packet_type, reason, block) in acknowledgement_type()
            .prop_flat_map(|packet_type| (Just(packet_type), reason(packet_type), packet_block(packet_type))),
    ) {
        let acknowledgement = Acknowledgement { packet_id, reason, properties: block.properties() };
        check_round_trip(Version::V5, match packet_type {
            PacketType::Puback => Packet::Puback(acknowledgement),
            PacketType::Pubrec => Packet::Pubrec(acknowledgement),
            PacketType::Pubrel => Packet::Pubrel(acknowledgement),
            _ => Packet::Pubcomp(acknowledgement),
        });
    }

    #[test]
    fn subscribe_round_trips(
        (version, packet_id) in (version(), packet_id()),
        filters in prop::collection::vec((text(), any::<u8>()), 1..20),
        block in packet_block(PacketType::Subscribe),
    ) {
        let filters: Vec<_> = filters
            .iter()
            .map(|(filter, bits)| {
                let options = SubscriptionOptions::from_bits(version, *bits);
                (filter.as_str(), options.unwrap_or(SubscriptionOptions::from_qos(QoS::ExactlyOnce)))
            })
            .collect();
        let mut bytes = Vec::new();
        let properties = carried(version, &block);
        encode_subscribe(&mut bytes, version, packet_id, properties, filters.iter().copied());
        let Ok(Packet::Subscribe(subscribe)) = decode(version, &bytes) else { panic!("a SUBSCRIBE") };
        prop_assert_eq!(subscribe.packet_id, packet_id);
        prop_assert_eq!(subscribe.properties, properties);
        prop_assert!(subscribe.filters().eq(filters));
        check_round_trip(version, Packet::Subscribe(subscribe));
    }

    #[test]
    fn unsubscribe_round_trips(
        (version, packet_id) in (version(), packet_id()),
        filters in prop::collection::vec(text(), 1..20),
        block in packet_block(PacketType::Unsubscribe),
    ) {
        let filters = filters.iter().map(String::as_str);
        let mut bytes = Vec::new();
        let properties = carried(version, &block);
        encode_unsubscribe(&mut bytes, version, packet_id, properties, filters.clone());
        let Ok(Packet::Unsubscribe(unsubscribe)) = decode(version, &bytes) else { panic!("an UNSUBSCRIBE") };
        prop_assert_eq!(unsubscribe.packet_id, packet_id);
        prop_assert_eq!(unsubscribe.properties, properties);
        prop_assert!(unsubscribe.filters().eq(filters));
        check_round_trip(version, Packet::Unsubscribe(unsubscribe));
    }

    #[test]
    fn suback_and_unsuback_round_trip(
        packet_id in packet_id(),
        suback_codes in prop::collection::vec(reason(PacketType::Suback), 1..20),
        unsuback_codes in prop::collection::vec(reason(PacketType::Unsuback), 1..20),
        // Both packets allow the same properties.
        block in packet_block(PacketType::Suback),
    ) {
        let properties = block.properties();
        let codes: Vec<_> = suback_codes.into_iter().map(ReasonCode::value).collect();
        check_round_trip(Version::V5, Packet::Suback(Suback { packet_id, properties, codes: &codes }));
        let codes: Vec<_> = unsuback_codes.into_iter().map(ReasonCode::value).collect();
        check_round_trip(Version::V5, Packet::Unsuback(Suback { packet_id, properties, codes: &codes }));
    }

    #[test]
    fn disconnect_round_trips(
        reason in reason(PacketType::Disconnect),
        block in packet_block(PacketType::Disconnect),
    ) {
        let disconnect = Disconnect { reason, properties: block.properties() };
        check_round_trip(Version::V5, Packet::Disconnect(disconnect));
    }

    #[test]
    fn auth_round_trips(reason in reason(PacketType::Auth), block in packet_block(PacketType::Auth)) {
        check_round_trip(Version::V5, Packet::Auth(Auth { reason, properties: block.properties() }));
    }

    /// Every property comes out of a block as it went in, and its accessor's answer is among them.
    #[test]
    fn properties_are_iterated_as_written(block in packet_block(PacketType::Connack)) {
        let properties = block.properties();
        let mut again = PropertyWriter::new();
        for property in properties {
            prop_assert!(properties.contains(property.identifier()));
            again.push(property);
        }
        prop_assert_eq!(again.properties(), properties);
        let place = PropertyPlace::Packet(PacketType::Connack);
        prop_assert_eq!(Properties::parse(properties.raw(), place), Ok(properties));
        let mut all = Vec::new();
        properties.copy_where(&mut all, |_| true);
        prop_assert_eq!(all, properties.raw());
    }

    #[test]
    fn arbitrary_bytes_never_panic(first in any::<u8>(), body in bytes(127), stream in bytes(20)) {
        check_any_frame(&[&[first, body.len() as u8], &body[..]].concat());
        check_any_frame(&stream);
        if let Ok(Some(length)) = frame_length(&stream, 1_000) {
            prop_assert!(length <= 1_000);
        }
        for packet_type in PacketType::ALL {
            if let Ok(properties) = Properties::parse(&body, PropertyPlace::Packet(packet_type)) {
                prop_assert!(properties.iter().count() > 0 || body.is_empty());
            }
        }
    }

    #[test]
    fn damaged_examples_never_panic(
        example in prop::sample::select(EXAMPLES),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = example.1.to_vec();
        for (index, value) in damage {
            let index = index.index(frame.len());
            frame[index] = value;
        }
        check_any_frame(&frame);
    }
}
