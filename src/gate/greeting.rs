//! What a client says first, judged: pure, so that every refusal can be tested without a socket.

use std::fmt::{self, Write};

use crate::auth::Claim;
use crate::bridge::SESSION_PREFIX;
use crate::config::Notice;
use crate::proto::{
    Connack, ConnectError, Packet, Properties, ReasonCode, Version, connack_size, decode_connect, frame_length,
};
use crate::shard::Farewell;

/// Prefix of the client ids that the broker assigns.
const ASSIGNED_PREFIX: &str = "once-";

/// Packet type and flags of CONNECT, the first byte of every client that speaks MQTT.
const CONNECT_FIRST_BYTE: u8 = 0x10;

/// Where the CONNECT ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// More has to come.
    Incomplete {
        /// Length of the CONNECT, once its fixed header is there.
        total: Option<usize>,
    },
    /// It is the first `total` bytes.
    Complete {
        /// Its length.
        total: usize,
    },
    /// What came is not a CONNECT, or one that is too large: there is no answer to that.
    Foreign(&'static str),
}

/// A client that may come in, if it is who it says.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Welcome {
    pub(super) version: Version,
    pub(super) client_id: Box<str>,
    pub(super) client_id_assigned: bool,
    /// Its Maximum Packet Size.
    pub(super) max_packet_bytes: Option<u32>,
    /// Who it says it is.
    pub(super) claim: Claim,
}

/// A client that may not come in.
#[derive(Debug)]
pub(super) struct Refusal {
    error: ConnectError,
    /// Whether another server may serve it.
    refers: bool,
    /// The largest packet that it accepts, as far as that is known.
    max_packet_bytes: usize,
}

/// How far the CONNECT at the start of `bytes` has come.
pub(super) fn progress(bytes: &[u8], max_connect_bytes: u32) -> Progress {
    match bytes.first() {
        None => return Progress::Incomplete { total: None },
        // [MQTT-3.1.0-1]: whoever begins otherwise is not answered, not even as far as its length would go.
        Some(&CONNECT_FIRST_BYTE) => {}
        Some(_) => return Progress::Foreign("the first packet is not CONNECT"),
    }
    match frame_length(bytes, max_connect_bytes) {
        Ok(Some(total)) if total <= bytes.len() => Progress::Complete { total },
        Ok(total) => Progress::Incomplete { total },
        Err(error) => Progress::Foreign(error.text),
    }
}

/// Decides about a complete CONNECT. `random` is asked for the name of a client that has none.
pub(super) fn judge(frame: &[u8], random: impl FnOnce() -> Option<[u8; 16]>) -> Result<Welcome, Refusal> {
    let connect = decode_connect(frame)?;
    let (version, max_packet_bytes) = (connect.version, connect.properties.maximum_packet_size());
    let refusal = |reason, text| Refusal::new(version, max_packet_bytes, reason, text);
    // These sessions are our own bridges'.
    if connect.client_id.starts_with(SESSION_PREFIX) {
        return Err(refusal(ReasonCode::ClientIdentifierNotValid, "a client id that is reserved for bridges"));
    }
    // [MQTT-3.1.3-6]; what 3.1.1 has to say about it, the codec has said [MQTT-3.1.3-7].
    let client_id_assigned = connect.client_id.is_empty();
    let client_id = if client_id_assigned {
        let random = random().ok_or_else(|| {
            refusal(ReasonCode::ServerUnavailable, "the machine gave no random bytes for a client id")
        })?;
        assigned_client_id(random)
    } else {
        connect.client_id.into()
    };
    Ok(Welcome { version, client_id, client_id_assigned, max_packet_bytes, claim: Claim::of(&connect) })
}

impl Welcome {
    /// The refusal of a client for which there is no room, though it may be welcome elsewhere.
    pub(super) fn turned_away(&self) -> Refusal {
        let text = "the broker holds as many clients as it may";
        Refusal { refers: true, ..self.refusal(ReasonCode::QuotaExceeded, text) }
    }

    /// The refusal of a client for another reason.
    pub(super) fn refusal(&self, reason: ReasonCode, text: &'static str) -> Refusal {
        Refusal::new(self.version, self.max_packet_bytes, reason, text)
    }
}

impl Refusal {
    fn new(version: Version, max_packet_bytes: Option<u32>, reason: ReasonCode, text: &'static str) -> Self {
        let error = ConnectError { version_to_answer: Some(version), reason, text };
        Self { error, refers: false, max_packet_bytes: max_packet_bytes.map_or(usize::MAX, |max| max as usize) }
    }

    /// The CONNACK that says why the client was refused; nothing for one whose version is not known, or that does not accept
    /// it.
    pub(super) fn answer(&self, server_reference: Option<&Notice>) -> Option<Vec<u8>> {
        let version = self.error.version_to_answer?;
        let farewell = Farewell { reason: self.error.reason, text: Some(self.error.text), refers: self.refers };
        farewell.ways(server_reference).find_map(|(reason, properties)| {
            let properties = properties.properties();
            // [MQTT-3.1.2-24] [MQTT-3.2.2-19]
            if connack_size(version, properties) > self.max_packet_bytes {
                return None;
            }
            let mut answer = Vec::with_capacity(8);
            // [MQTT-3.2.2-6]: session present is 0 with an error.
            Packet::Connack(Connack { session_present: false, reason, properties }).encode(version, &mut answer);
            Some(answer)
        })
    }
}

/// A CONNECT that breaks the rules: what its client accepts is not known, and so nothing is said that could be left out.
impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        Self { error, refers: false, max_packet_bytes: connack_size(Version::V5, Properties::EMPTY) }
    }
}

impl Refusal {
    /// Why, in words.
    pub(super) fn text(&self) -> &'static str {
        self.error.text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

fn assigned_client_id(random: [u8; 16]) -> Box<str> {
    let mut client_id = String::with_capacity(ASSIGNED_PREFIX.len() + 2 * random.len());
    client_id += ASSIGNED_PREFIX;
    for byte in random {
        // Writing into a String cannot fail.
        let _ = write!(client_id, "{byte:02x}");
    }
    client_id.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Denial;
    use crate::proto::decode;

    const MAX_BYTES: u32 = 1024;

    /// CONNECT with clean start, keep-alive 60 and an optional property block.
    fn connect(level: u8, client_id: &str, properties: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0b10, 0, 60];
        if level == 5 {
            body.push(properties.len() as u8);
            body.extend_from_slice(properties);
        }
        body.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
        body.extend_from_slice(client_id.as_bytes());
        let mut frame = vec![0x10, body.len() as u8];
        frame.append(&mut body);
        frame
    }

    fn no_random() -> Option<[u8; 16]> {
        panic!("the client has a name")
    }

    #[test]
    fn a_connect_is_complete_with_its_last_byte() {
        let mut bytes = connect(4, "sensor", &[]);
        let total = bytes.len();
        for length in 0..total {
            let known = (length >= 2).then_some(total);
            let expected = Progress::Incomplete { total: known };
            assert_eq!(progress(&bytes[..length], MAX_BYTES), expected, "{length} bytes");
        }
        bytes.extend_from_slice(&[0xC0, 0]); // PINGREQ, sent at once
        assert_eq!(progress(&bytes, MAX_BYTES), Progress::Complete { total });
    }

    // [MQTT-3.1.0-1]
    #[test]
    fn what_is_not_a_connect_is_foreign_with_its_first_byte() {
        for first in (0..=u8::MAX).filter(|&first| first != 0x10) {
            assert!(matches!(progress(&[first], MAX_BYTES), Progress::Foreign(_)), "{first:#x}");
        }
    }

    #[test]
    fn a_huge_length_is_refused_on_the_header() {
        let huge = [0x10, 0xFF, 0xFF, 0xFF, 0x7F];
        assert!(matches!(progress(&huge, MAX_BYTES), Progress::Foreign(_)));
        let endless = [0x10, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(matches!(progress(&endless, MAX_BYTES), Progress::Foreign(_)));
    }

    #[test]
    fn a_client_with_a_name_keeps_it() {
        for (level, version) in [(4, Version::V311), (5, Version::V5)] {
            let welcome = judge(&connect(level, "sensor", &[]), no_random).expect("welcome");
            let expected = Welcome {
                version,
                client_id: "sensor".into(),
                client_id_assigned: false,
                max_packet_bytes: None,
                claim: Claim::Anonymous,
            };
            assert_eq!(welcome, expected);
        }
    }

    // [MQTT-3.1.3-6]
    #[test]
    fn a_client_without_a_name_gets_one() {
        for level in [4, 5] {
            let welcome = judge(&connect(level, "", &[]), || Some([0xA5; 16])).expect("welcome");
            assert!(welcome.client_id_assigned);
            assert_eq!(&*welcome.client_id, format!("once-{}", "a5".repeat(16)));
        }
    }

    #[test]
    fn each_refusal_has_its_answer() {
        let mut wrong_name = connect(4, "sensor", &[]);
        wrong_name[4] = b'X';
        let mut no_name = connect(4, "", &[]);
        no_name[9] = 0; // clean session 0
        for (frame, answer) in [
            (connect(3, "sensor", &[]), &[0x20, 2, 0, 1][..]), // [MQTT-3.1.2-2] in 3.1.1
            (connect(6, "sensor", &[]), &[0x20, 3, 0, 0x84, 0]),
            (connect(4, "$bridge/up", &[]), &[0x20, 2, 0, 2]),
            (connect(5, "$bridge/up", &[0x27, 0, 0, 0, 5]), &[0x20, 3, 0, 0x85, 0]),
            (no_name, &[0x20, 2, 0, 2]), // [MQTT-3.1.3-8] in 3.1.1
            (wrong_name, &[0x20, 2, 0, 1]),
        ] {
            let refusal = judge(&frame, no_random).expect_err("refused");
            assert_eq!(refusal.answer(None).as_deref(), Some(answer), "{refusal}");
        }
    }

    /// [MQTT-4.12.0-1] [MQTT-4.12.0-4]: nobody is told whether there is such a user.
    #[test]
    fn each_denial_has_its_answer() {
        // With a Maximum Packet Size that leaves no room for words.
        let [old, new] = [(4, &[][..]), (5, &[0x27, 0, 0, 0, 5])]
            .map(|(level, properties)| judge(&connect(level, "sensor", properties), no_random).expect("welcome"));
        for (denial, old_code, new_code) in [
            (Denial::Anonymous, 5, 0x87),
            (Denial::WrongPassword, 4, 0x86),
            (Denial::BadExchange("not a message"), 5, 0x87),
            (Denial::UnknownMethod, 4, 0x8C),
            (Denial::Nameless, 5, 0x87),
        ] {
            let answer = |welcome: &Welcome| welcome.refusal(denial.reason(), denial.text()).answer(None);
            assert_eq!(answer(&old).as_deref(), Some(&[0x20, 2, 0, old_code][..]), "{denial:?}");
            assert_eq!(answer(&new).as_deref(), Some(&[0x20, 3, 0, new_code, 0][..]), "{denial:?}");
        }
    }

    /// What a 5.0 client with this Maximum Packet Size is told when it is turned away.
    fn told(max_packet_bytes: Option<u32>, server_reference: Option<&Notice>) -> Option<(ReasonCode, String)> {
        let size = max_packet_bytes.map(|max| [&[0x27], &max.to_be_bytes()[..]].concat()).unwrap_or_default();
        let welcome = judge(&connect(5, "sensor", &size), no_random).expect("welcome");
        let answer = welcome.turned_away().answer(server_reference)?;
        assert!(max_packet_bytes.is_none_or(|max| answer.len() <= max as usize), "{answer:02x?}");
        let Ok(Packet::Connack(connack)) = decode(Version::V5, &answer) else { panic!("a CONNACK") };
        let words = connack.properties.server_reference().or(connack.properties.reason_string());
        Some((connack.reason, words.unwrap_or_default().to_owned()))
    }

    /// [MQTT-3.2.2-19] [MQTT-3.1.2-24]
    #[test]
    fn a_full_broker_says_so_in_as_many_words_as_the_client_accepts() {
        let welcome = judge(&connect(4, "sensor", &[]), no_random).expect("welcome");
        let other = Notice::new("other.example:1883").expect("a notice");
        for server_reference in [None, Some(&other)] {
            assert_eq!(welcome.turned_away().answer(server_reference).as_deref(), Some(&[0x20, 2, 0, 3][..]));
        }
        let full = "the broker holds as many clients as it may";
        let (quota, elsewhere) = (ReasonCode::QuotaExceeded, ReasonCode::UseAnotherServer);
        for (max_packet_bytes, server_reference, expected) in [
            (None, None, Some((quota, full))),
            (Some(50), None, Some((quota, full))),
            (Some(49), None, Some((quota, ""))),
            (Some(5), None, Some((quota, ""))),
            (Some(4), None, None),
            (None, Some(&other), Some((elsewhere, other.as_str()))),
            (Some(26), Some(&other), Some((elsewhere, other.as_str()))),
            (Some(25), Some(&other), Some((quota, ""))),
        ] {
            let expected = expected.map(|(reason, words)| (reason, words.to_owned()));
            assert_eq!(told(max_packet_bytes, server_reference), expected, "{max_packet_bytes:?}");
        }
    }
}
