//! Tests: any packet that is encoded decodes to the same packet, and no input panics.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::examples::EXAMPLES;
use super::*;

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
    fn auth_round_trips(reason in reason(PacketType::Auth), mut block in packet_block(PacketType::Auth)) {
        if !block.properties().contains(PropertyIdentifier::AuthenticationMethod) {
            block.push(Property::AuthenticationMethod("method"));
        }
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

/// An error, or a packet that comes back the same when it is encoded and decoded again.
pub(super) fn check_any_frame(frame: &[u8]) {
    for version in [Version::V311, Version::V5] {
        if let Ok(packet) = decode(version, frame) {
            check_round_trip(version, packet);
        }
    }
    assert_eq!(decode_connect(frame).is_ok(), matches!(decode(Version::V5, frame), Ok(Packet::Connect(_))));
}

fn check_round_trip(version: Version, packet: Packet<'_>) {
    let mut bytes = vec![0xAA];
    packet.encode(version, &mut bytes);
    let frame = &bytes[1..];
    assert_eq!(frame_length(frame, u32::MAX), Ok(Some(frame.len())), "{packet:?}");
    for end in 0..frame.len().min(MAX_FIXED_HEADER_BYTES) {
        let length = frame_length(&frame[..end], u32::MAX).expect("a prefix is no error");
        assert!(length.is_none_or(|length| length == frame.len()));
    }
    let again = decode(version, frame).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    match (packet, again) {
        // The raw filters of both are compared by what they hold.
        (Packet::Subscribe(before), Packet::Subscribe(after)) => {
            assert_eq!((before.packet_id, before.properties), (after.packet_id, after.properties));
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
            Id::MaximumQos => Property::MaximumQos(if flag { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            Id::RetainAvailable => Property::RetainAvailable(flag),
            Id::UserProperty => Property::UserProperty(StringPair { name: &self.text, value: &self.other_text }),
            Id::MaximumPacketSize => Property::MaximumPacketSize(self.number.max(1)),
            Id::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(flag),
            Id::SubscriptionIdentifiersAvailable => Property::SubscriptionIdentifiersAvailable(flag),
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
    let allowed: Vec<_> = PropertyIdentifier::ALL.iter().copied().filter(|id| id.is_allowed_in(place)).collect();
    let repeatable = allowed.iter().copied().filter(move |id| id.is_repeatable_in(place));
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
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|value| PacketId::new(value).expect("not 0"))
}

fn reason(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = ReasonCode::ALL.iter().copied().filter(|reason| reason.is_allowed_in(packet_type)).collect();
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
    prop::sample::select(vec![PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp])
}
