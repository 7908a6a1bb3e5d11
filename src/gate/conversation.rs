//! The packets of an enhanced authentication before CONNACK: pure, so that each can be tested without a socket.

use crate::auth::METHOD;
use crate::proto::{Auth, Packet, Property, PropertyWriter, ReasonCode, Version, decode, frame_length};

use super::greeting::Progress;

/// What a client answers a challenge with.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Answer<'a> {
    /// Its next message.
    Data(&'a [u8]),
    /// It goes away.
    Gone,
    /// What it may not say now.
    Wrong(ReasonCode, &'static str),
}

/// The AUTH packet that goes on with this data [MQTT-4.12.0-2] [MQTT-4.12.0-5]; `None` if the client does not accept one of
/// that size. There is nothing in it that could be left out [MQTT-3.15.2-2] [MQTT-3.15.2-3].
pub(super) fn challenge(data: &str, max_packet_bytes: Option<u32>) -> Option<Vec<u8>> {
    let mut properties = PropertyWriter::new();
    properties.push(Property::AuthenticationMethod(METHOD)).push(Property::AuthenticationData(data.as_bytes()));
    let mut packet = Vec::new();
    let reason = ReasonCode::ContinueAuthentication;
    Packet::Auth(Auth { reason, properties: properties.properties() }).encode(Version::V5, &mut packet);
    // [MQTT-3.1.2-24]
    max_packet_bytes.is_none_or(|max| packet.len() <= max as usize).then_some(packet)
}

/// How far the packet at the start of `bytes` has come.
pub(super) fn progress(bytes: &[u8], max_bytes: u32) -> Progress {
    match frame_length(bytes, max_bytes) {
        Ok(Some(total)) if total <= bytes.len() => Progress::Complete { total },
        Ok(total) => Progress::Incomplete { total },
        Err(error) => Progress::Foreign(error.text),
    }
}

/// What a packet answers that came behind a challenge.
pub(super) fn answer(frame: &[u8]) -> Answer<'_> {
    match decode(Version::V5, frame) {
        Ok(Packet::Auth(auth)) => match (auth.reason, auth.properties.authentication_data()) {
            // [MQTT-4.12.0-3] [MQTT-4.12.0-5]
            _ if auth.properties.authentication_method() != Some(METHOD) => {
                Answer::Wrong(ReasonCode::ProtocolError, "another authentication method than in CONNECT")
            }
            (ReasonCode::ContinueAuthentication, Some(data)) => Answer::Data(data),
            (ReasonCode::ContinueAuthentication, None) => Answer::Wrong(ReasonCode::NotAuthorized, "AUTH without data"),
            _ => Answer::Wrong(ReasonCode::ProtocolError, "only AUTH 0x18 answers a challenge"),
        },
        Ok(Packet::Disconnect(_)) => Answer::Gone,
        // [MQTT-3.1.2-30]
        Ok(_) => Answer::Wrong(ReasonCode::ProtocolError, "only AUTH or DISCONNECT comes before CONNACK"),
        Err(error) => {
            // The codec has reasons that only a DISCONNECT can carry.
            let reason = if error.reason.is_allowed_in(crate::proto::PacketType::Connack) {
                error.reason
            } else {
                ReasonCode::ProtocolError
            };
            Answer::Wrong(reason, error.text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(reason: ReasonCode, method: &str, data: Option<&[u8]>) -> Vec<u8> {
        let mut properties = PropertyWriter::new();
        properties.push(Property::AuthenticationMethod(method));
        if let Some(data) = data {
            properties.push(Property::AuthenticationData(data));
        }
        let mut packet = Vec::new();
        Packet::Auth(Auth { reason, properties: properties.properties() }).encode(Version::V5, &mut packet);
        packet
    }

    /// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    #[test]
    fn a_challenge_has_method_and_data_and_nothing_else() {
        let packet = challenge("data", None).expect("no limit");
        assert_eq!(packet, auth(ReasonCode::ContinueAuthentication, METHOD, Some(b"data")));
        let size = u32::try_from(packet.len()).expect("a small packet");
        assert_eq!(challenge("data", Some(size)), Some(packet));
        assert_eq!(challenge("data", Some(size - 1)), None);
    }

    #[test]
    fn each_packet_behind_a_challenge_is_an_answer_or_wrong() {
        let go_on = ReasonCode::ContinueAuthentication;
        assert_eq!(answer(&auth(go_on, METHOD, Some(b"proof"))), Answer::Data(b"proof"));
        assert_eq!(answer(&[0xE0, 0]), Answer::Gone);
        for (frame, expected) in [
            (auth(go_on, METHOD, None), ReasonCode::NotAuthorized),
            (auth(go_on, "SCRAM-SHA-1", Some(b"proof")), ReasonCode::ProtocolError),
            (auth(ReasonCode::Reauthenticate, METHOD, Some(b"proof")), ReasonCode::ProtocolError),
            (auth(ReasonCode::Success, METHOD, Some(b"proof")), ReasonCode::ProtocolError),
            (vec![0xF0, 0], ReasonCode::ProtocolError), // AUTH 0x00 without properties has no method
            (vec![0xC0, 0], ReasonCode::ProtocolError),
            (vec![0xF1, 0], ReasonCode::MalformedPacket),
        ] {
            let Answer::Wrong(reason, _) = answer(&frame) else { panic!("{frame:02x?} is wrong") };
            assert_eq!(reason, expected, "{frame:02x?}");
        }
    }

    #[test]
    fn an_endless_packet_is_refused_on_its_header() {
        assert_eq!(progress(&[0xF0], 100), Progress::Incomplete { total: None });
        assert_eq!(progress(&[0xF0, 98], 100), Progress::Incomplete { total: Some(100) });
        assert!(matches!(progress(&[0xF0, 99], 100), Progress::Foreign(_)));
    }
}
