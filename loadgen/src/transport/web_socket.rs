//! A WebSocket that carries MQTT, the client's side: the request for it and its answer (RFC 6455, section 4.1), then frames.
//!
//! Masks are drawn from a seeded generator: RFC 6455 (section 10.3) wants them unpredictable against scripts of strangers in
//! a browser, and there are none here.

use httparse::{EMPTY_HEADER, Header, Response, Status};
use oncemq::transport::WebSocketClient;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::connection::{Fault, Flow};
use crate::random::Random;

/// The name of MQTT among the protocols of WebSockets [MQTT-6.0.0-3].
const SUBPROTOCOL: &str = "mqtt";

/// Bytes and header fields of the answer, at most.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
const ANSWER_FIELDS_MAX: usize = 64;

/// Bytes of a broker's own words that a fault repeats.
const REASON_BYTES_MAX: usize = 200;

/// What to ask for, the same for all connections.
#[derive(Debug)]
pub(super) struct Place {
    /// Host and port, as a URL has them.
    pub(super) authority: String,
    pub(super) path: Box<str>,
}

/// One connection's end of a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket {
    state: State,
    masks: Random,
}

#[derive(Debug)]
enum State {
    /// The request is to be sent.
    Asking(Question),
    /// The answer is to come, of which so much is there.
    Asked {
        key: String,
        answer: Vec<u8>,
    },
    Open(WebSocketClient),
}

#[derive(Debug)]
struct Question {
    key: String,
    request: String,
}

impl WebSocket {
    /// A connection before its handshake.
    pub(super) fn new(place: &Place) -> Self {
        let Place { authority, path } = place;
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        // The key has random bits enough for a seed.
        let seed = key.bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
        Self { state: State::Asking(Question { key, request }), masks: Random::new(seed, 0) }
    }

    pub(super) fn is_open(&self) -> bool {
        match self.state {
            State::Asking(_) | State::Asked { .. } => false,
            State::Open(_) => true,
        }
    }

    /// Whether there is something to send beside packets.
    pub(super) fn has_frames(&self) -> bool {
        match &self.state {
            State::Asking(_) => true,
            State::Asked { .. } => false,
            State::Open(web_socket) => web_socket.has_pong(),
        }
    }

    /// Takes the bytes of packets out of received ones and appends them to `packets`. An error is final.
    pub(super) fn open(&mut self, received: &[u8], packets: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.state {
            State::Asking(_) => Err(Fault::Upgrade("something before it was asked".to_owned())),
            State::Asked { key, answer } => {
                answer.extend_from_slice(received);
                let Some(length) = granted(answer, key).map_err(Fault::Upgrade)? else {
                    return Ok(());
                };
                let mut web_socket = WebSocketClient::default();
                let opened = web_socket.open(&answer[length..], packets);
                self.state = State::Open(web_socket);
                opened.map_err(Fault::WebSocket)
            }
            State::Open(web_socket) => web_socket.open(received, packets).map_err(Fault::WebSocket),
        }
    }

    /// Appends what has to be sent for these packets, of which there may be none, and what else is due. Packets are for an open
    /// one.
    pub(super) fn seal(&mut self, packets: &[u8], flow: Flow, into: &mut Vec<u8>) {
        match &mut self.state {
            State::Asking(question) => {
                into.extend_from_slice(question.request.as_bytes());
                self.state = State::Asked { key: std::mem::take(&mut question.key), answer: Vec::new() };
            }
            State::Asked { .. } => {}
            State::Open(web_socket) => {
                let is_last = match flow {
                    Flow::Leave => true,
                    Flow::Continue | Flow::Close | Flow::CloseAfterReading | Flow::Abandon => false,
                };
                web_socket.push_frames(packets, is_last, || draw(&mut self.masks), into);
            }
        }
    }
}

fn draw(masks: &mut Random) -> [u8; 4] {
    (masks.next() as u32).to_ne_bytes()
}

/// The length of the answer that grants a request with this key; nothing while it is not whole. Or what it says instead.
fn granted(answer: &[u8], key: &str) -> Result<Option<usize>, String> {
    let mut fields = [EMPTY_HEADER; ANSWER_FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let length = match response.parse(answer) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if answer.len() < ANSWER_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(format!("more than {ANSWER_BYTES_MAX} bytes")),
        Err(error) => return Err(format!("what is not HTTP ({error})")),
    };
    if response.code != Some(101) {
        let code = response.code.unwrap_or_default();
        let reason: String = response.reason.unwrap_or_default().chars().take(REASON_BYTES_MAX).collect();
        return Err(format!("{code} {reason}"));
    }
    let fields = &*response.headers;
    let accept = derive_accept_key(key.as_bytes());
    for (name, wanted) in [("Sec-WebSocket-Accept", &accept[..]), ("Sec-WebSocket-Protocol", SUBPROTOCOL)] {
        if !values(fields, name).eq([wanted]) {
            return Err(format!("101 without {name}: {wanted}"));
        }
    }
    for (name, wanted) in [("Upgrade", "websocket"), ("Connection", "upgrade")] {
        let mut elements = values(fields, name).flat_map(|value| value.split(',')).map(str::trim);
        if !elements.any(|element| element.eq_ignore_ascii_case(wanted)) {
            return Err(format!("101 without {name}: {wanted}"));
        }
    }
    Ok(Some(length))
}

/// The values of all fields with this name.
fn values<'a>(fields: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.2.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const FIELDS: [&str; 4] = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: mqtt",
    ];

    fn answer(line: &str, fields: &[&str]) -> Vec<u8> {
        format!("{line}\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes()
    }

    #[test]
    fn an_answer_grants_however_it_is_written_and_cut() {
        let plain = answer("HTTP/1.1 101 Switching Protocols", &FIELDS);
        let mut fields = FIELDS;
        fields[0] = "upgrade: WebSocket";
        fields[1] = "connection: keep-alive, upgrade";
        for answer in [plain, answer("HTTP/1.1 101 Yes", &fields)] {
            for length in 0..answer.len() {
                assert_eq!(granted(&answer[..length], KEY), Ok(None), "{length} bytes");
            }
            let behind = [&answer[..], b"\x88\0"].concat();
            assert_eq!(granted(&behind, KEY), Ok(Some(answer.len())));
        }
    }

    // [MQTT-6.0.0-4], and RFC 6455, section 4.1
    #[test]
    fn every_other_answer_is_a_fault_that_says_what_is_wrong() {
        let without = |index: usize| {
            let mut fields = FIELDS.to_vec();
            fields.remove(index);
            answer("HTTP/1.1 101 Switching Protocols", &fields)
        };
        for (answer, part) in [
            (answer("HTTP/1.1 404 Not Found", &["Content-Length: 0"]), "404 Not Found"),
            (answer("HTTP/1.1 403 Forbidden", &FIELDS), "403"),
            (without(0), "Upgrade"),
            (without(1), "Connection"),
            (without(2), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (without(3), "Sec-WebSocket-Protocol: mqtt"),
            (b"\x20\x02\0\0".to_vec(), "not HTTP"),
            ([&b"HTTP/1.1 101 Yes\r\nX: "[..], &[b'x'; ANSWER_BYTES_MAX]].concat(), "more than 8192 bytes"),
        ] {
            let told = granted(&answer, KEY).expect_err(part);
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn the_request_comes_first_and_packets_in_frames_behind_the_answer() {
        let mut web_socket = WebSocket::new(&Place { authority: "[::1]:8083".to_owned(), path: "/mqtt".into() });
        assert!(web_socket.has_frames() && !web_socket.is_open());
        let mut request = Vec::new();
        web_socket.seal(b"", Flow::Continue, &mut request);
        let request = String::from_utf8(request).expect("text");
        assert!(request.starts_with("GET /mqtt HTTP/1.1\r\nHost: [::1]:8083\r\n"), "{request}");
        let key =
            request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a key");
        let accept = format!("Sec-WebSocket-Accept: {}", derive_accept_key(key.as_bytes()));
        let fields = [FIELDS[0], FIELDS[1], &accept, FIELDS[3]];
        let mut received = answer("HTTP/1.1 101 Switching Protocols", &fields);
        received.extend_from_slice(b"\x82\x05early");
        let mut packets = Vec::new();
        for byte in received {
            assert!(!web_socket.has_frames());
            web_socket.open(&[byte], &mut packets).expect("it is granted");
        }
        assert!(web_socket.is_open());
        assert_eq!(packets, b"early");
        let mut frames = Vec::new();
        web_socket.seal(b"bye", Flow::Leave, &mut frames);
        assert_eq!((frames[0], frames[1], frames.len()), (0x82, 0x83, 2 + 4 + 3 + 2 + 4 + 2));
    }
}
