//! What holds for bytes that may be a packet.

use oncemq::proto::{
    Acknowledgement, AcknowledgementKind, Packet, Properties, ReasonCode, Version, decode, decode_connect,
    decode_publish, decode_short_acknowledgement, frame_length,
};

/// The bytes are refused, or are a packet that is the same when it is encoded and decoded again; the decoders for single kinds
/// of packets say what the one for all says. This holds of the bytes as they are, and of the packet of which they are the first
/// byte and what follows the length.
pub fn check_decoding(version: Version, bytes: &[u8]) {
    check_frame(version, bytes);
    if let Some((first, body)) = bytes.split_first() {
        check_frame(version, &frame_of(*first, body));
    }
}

fn frame_of(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        frame.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    frame.extend_from_slice(body);
    frame
}

fn check_frame(version: Version, frame: &[u8]) {
    let decoded = decode(version, frame);
    assert_eq!(decode_connect(frame).is_ok(), matches!(decoded, Ok(Packet::Connect(_))));
    if let Some(publish) = decode_publish(version, frame) {
        assert_eq!(publish.map(Packet::Publish), decoded);
    }
    if let Some((kind, packet_id)) = decode_short_acknowledgement(frame) {
        let content = Acknowledgement { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY };
        let packet = match kind {
            AcknowledgementKind::Puback => Packet::Puback(content),
            AcknowledgementKind::Pubrec => Packet::Pubrec(content),
            AcknowledgementKind::Pubrel => Packet::Pubrel(content),
            AcknowledgementKind::Pubcomp => Packet::Pubcomp(content),
        };
        assert_eq!(decoded, Ok(packet));
    }
    let Ok(packet) = decoded else { return };
    assert_eq!(frame_length(frame, u32::MAX), Ok(Some(frame.len())), "{packet:?}");
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    assert_eq!(frame_length(&encoded, u32::MAX), Ok(Some(encoded.len())), "{packet:?}");
    let again = decode(version, &encoded).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    match (packet, again) {
        // The raw filters of both are compared by what they hold.
        (Packet::Subscribe(before), Packet::Subscribe(after)) => {
            assert_eq!((before.packet_id, before.properties), (after.packet_id, after.properties));
            assert!(before.filters().eq(after.filters()));
        }
        (before, after) => assert_eq!(before, after),
    }
    let mut encoded_again = Vec::new();
    again.encode(version, &mut encoded_again);
    assert_eq!(encoded, encoded_again);
}
