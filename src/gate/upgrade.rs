//! The request that turns a connection into a WebSocket (RFC 6455, section 4.2), judged: pure, so that every refusal can be
//! tested without a socket.

use httparse::{EMPTY_HEADER, Header, Request, Status};
use tungstenite::handshake::derive_accept_key;

use crate::config::{MAX_UPGRADE_HEADERS, MAX_UPGRADE_REQUEST_BYTES, WebSocketRules};

/// The version of the protocol that all clients speak.
const VERSION: &str = "13";

/// Length of a key: 16 bytes in base64.
const KEY_BYTES: usize = 24;

/// The subprotocols that are served, the better one first. The second is what clients called it before the standard had a name
/// for it; nothing but the name differs.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// How far a request has come.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Upgrade {
    /// More has to come.
    Incomplete,
    /// It is the first `request_bytes` bytes, and granted by these.
    Granted { request_bytes: usize, answer: Vec<u8> },
    /// It is not granted.
    Refused(Refusal),
    /// What came is no request of HTTP: there is no answer to that.
    Foreign,
}

/// Why a request is not granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    status: &'static str,
    /// A header field that the status asks for.
    field: &'static str,
    text: &'static str,
}

/// How far the request at the start of `received` has come.
pub(super) fn upgrade(received: &[u8], rules: &WebSocketRules) -> Upgrade {
    match received.first() {
        None => return Upgrade::Incomplete,
        // A method is in capitals. Whoever begins otherwise speaks MQTT or TLS, and may wait for an answer for long.
        Some(byte) if !byte.is_ascii_uppercase() => return Upgrade::Foreign,
        Some(_) => {}
    }
    let mut headers = [EMPTY_HEADER; MAX_UPGRADE_HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(received) {
        Ok(Status::Complete(request_bytes)) => match grant(&request, rules) {
            Ok(answer) => Upgrade::Granted { request_bytes, answer },
            Err(refusal) => Upgrade::Refused(refusal),
        },
        Ok(Status::Partial) if received.len() < MAX_UPGRADE_REQUEST_BYTES => Upgrade::Incomplete,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => Upgrade::Refused(TOO_LARGE),
        Err(_) => Upgrade::Refused(MALFORMED),
    }
}

const TOO_LARGE: Refusal = Refusal::new("431 Request Header Fields Too Large", "the request is too large");
const MALFORMED: Refusal = Refusal::new("400 Bad Request", "this is not a request of HTTP/1.1");
const OLD_HTTP: Refusal = Refusal::new("400 Bad Request", "a WebSocket needs HTTP/1.1");
const NOT_GET: Refusal =
    Refusal { field: "Allow: GET\r\n", ..Refusal::new("405 Method Not Allowed", "a WebSocket is asked for with GET") };
const ELSEWHERE: Refusal = Refusal::new("404 Not Found", "MQTT is not served at this path");
const NO_UPGRADE: Refusal = Refusal {
    field: "Upgrade: websocket\r\n",
    ..Refusal::new("426 Upgrade Required", "this is a WebSocket for MQTT, not a page")
};
const OTHER_VERSION: Refusal = Refusal {
    field: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ..Refusal::new("426 Upgrade Required", "only version 13 of the WebSocket protocol is served")
};
const NO_KEY: Refusal = Refusal::new("400 Bad Request", "Sec-WebSocket-Key is missing or not 16 bytes in base64");
const FOREIGN_ORIGIN: Refusal = Refusal::new("403 Forbidden", "pages of this origin may not connect");
const NO_SUBPROTOCOL: Refusal = Refusal::new("400 Bad Request", "the subprotocol mqtt is not offered");

/// The answer that grants a request.
fn grant(request: &Request<'_, '_>, rules: &WebSocketRules) -> Result<Vec<u8>, Refusal> {
    let fields = Fields(request.headers);
    if request.method != Some("GET") {
        return Err(NOT_GET);
    }
    if request.path.and_then(|target| target.split('?').next()) != Some(&rules.path) {
        return Err(ELSEWHERE);
    }
    // httparse knows 1.0 and 1.1, and calls them 0 and 1.
    if request.version != Some(1) {
        return Err(OLD_HTTP);
    }
    if !fields.has("Upgrade", "websocket") || !fields.has("Connection", "upgrade") {
        return Err(NO_UPGRADE);
    }
    if !fields.all("Sec-WebSocket-Version").eq([VERSION]) {
        return Err(OTHER_VERSION);
    }
    let mut origins = fields.all("Origin");
    if !rules.origins.is_empty() && !origins.all(|origin| rules.origins.iter().any(|known| **known == *origin)) {
        return Err(FOREIGN_ORIGIN);
    }
    let key = fields.key().ok_or(NO_KEY)?;
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    let offers = |subprotocol: &&str| fields.elements("Sec-WebSocket-Protocol").any(|offered| offered == *subprotocol);
    let subprotocol = SUBPROTOCOLS.into_iter().find(offers).ok_or(NO_SUBPROTOCOL)?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    Ok(answer.into_bytes())
}

/// The header fields of a request.
struct Fields<'a>(&'a [Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all fields of this name; one that is not ASCII is like one that says nothing.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
    }

    /// The elements of all fields of this name, which are lists.
    fn elements(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|list| list.split(',')).map(str::trim)
    }

    /// Whether this element is among them, in any case of letters.
    fn has(&self, name: &str, element: &str) -> bool {
        self.elements(name).any(|found| found.eq_ignore_ascii_case(element))
    }

    /// The client's key, if it is one.
    fn key(&self) -> Option<&'a str> {
        let mut keys = self.all("Sec-WebSocket-Key");
        let key = keys.next().filter(|_| keys.next().is_none())?;
        let digits = key.strip_suffix("==")?;
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        (key.len() == KEY_BYTES && digits.bytes().all(is_digit)).then_some(key)
    }
}

impl Refusal {
    const fn new(status: &'static str, text: &'static str) -> Self {
        Self { status, field: "", text }
    }

    /// Why, in words.
    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// The response that says so.
    pub(super) fn answer(&self) -> Vec<u8> {
        let Self { status, field, text } = self;
        // And the line end.
        let length = text.len() + 1;
        let answer = format!(
            "HTTP/1.1 {status}\r\n{field}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n\
             {text}\n"
        );
        answer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.2.
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    const FIELDS: [&str; 5] = [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        KEY,
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ];

    fn request(line: &str, fields: &[&str]) -> Vec<u8> {
        format!("{line}\r\nHost: broker.example\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes()
    }

    /// The fields of a good request, with one in place of another.
    fn with(index: usize, field: &'static str) -> Vec<u8> {
        let mut fields = FIELDS;
        fields[index] = field;
        request("GET /mqtt HTTP/1.1", &fields)
    }

    fn granted(request: &[u8], rules: &WebSocketRules) -> String {
        match upgrade(request, rules) {
            Upgrade::Granted { request_bytes, answer } => {
                assert_eq!(request_bytes, request.len());
                String::from_utf8(answer).expect("text")
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(request: &[u8], rules: &WebSocketRules) -> Refusal {
        match upgrade(request, rules) {
            Upgrade::Refused(refusal) => refusal,
            other => panic!("{other:?} for {}", String::from_utf8_lossy(request)),
        }
    }

    // [MQTT-6.0.0-4]
    #[test]
    fn the_subprotocol_mqtt_is_selected() {
        let rules = WebSocketRules::default();
        let answer = granted(&request("GET /mqtt HTTP/1.1", &FIELDS), &rules);
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        for line in ["Upgrade: websocket", "Connection: Upgrade", ACCEPT, "Sec-WebSocket-Protocol: mqtt"] {
            assert!(answer.lines().any(|found| found == line), "{line}: {answer}");
        }
        for (offer, selected) in [
            ("Sec-WebSocket-Protocol: mqttv3.1, mqtt", "mqtt"),
            ("sec-websocket-protocol: chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
            ("Sec-WebSocket-Protocol: mqttv3.1", "mqttv3.1"),
        ] {
            let answer = granted(&with(4, offer), &rules);
            assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {selected}\r\n")), "{offer}: {answer}");
        }
    }

    #[test]
    fn a_request_is_understood_however_it_is_written() {
        let rules = WebSocketRules::default();
        for whole in [
            request("GET /mqtt?token=x HTTP/1.1", &FIELDS),
            with(0, "upgrade:   WebSocket  "),
            with(1, "connection: UPGRADE"),
        ] {
            granted(&whole, &rules);
            for length in 0..whole.len() {
                assert_eq!(upgrade(&whole[..length], &rules), Upgrade::Incomplete, "{length} bytes");
            }
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let rules = WebSocketRules::default();
        let good = |line| request(line, &FIELDS);
        let many: Vec<&str> = std::iter::repeat_n("X: y", MAX_UPGRADE_HEADERS + 1).collect();
        let long = format!("Cookie: {}", "x".repeat(MAX_UPGRADE_REQUEST_BYTES));
        for (request, refusal) in [
            (good("POST /mqtt HTTP/1.1"), NOT_GET),
            (good("GET / HTTP/1.1"), ELSEWHERE),
            (good("GET /mqtt/x HTTP/1.1"), ELSEWHERE),
            (good("GET /mqtt HTTP/1.0"), OLD_HTTP),
            (good("GET /mqtt HTTP/2.0"), MALFORMED),
            (request("GET /mqtt HTTP/1.1", &[]), NO_UPGRADE),
            (with(0, "Upgrade: h2c"), NO_UPGRADE),
            (with(1, "Connection: close"), NO_UPGRADE),
            (with(2, "Sec-WebSocket-Key: c2hvcnQ="), NO_KEY),
            (with(2, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ.."), NO_KEY),
            (with(2, "X-No: key"), NO_KEY),
            (with(2, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x"), NO_KEY),
            (with(3, "Sec-WebSocket-Version: 8"), OTHER_VERSION),
            (with(3, "X-No: version"), OTHER_VERSION),
            (with(4, "Sec-WebSocket-Protocol: chat"), NO_SUBPROTOCOL),
            (with(4, "Sec-WebSocket-Protocol: MQTT"), NO_SUBPROTOCOL),
            (with(4, "X-No: subprotocol"), NO_SUBPROTOCOL),
            (with(0, "Bad Name: x"), MALFORMED),
            (request("GET /mqtt HTTP/1.1", &many), TOO_LARGE),
            (request("GET /mqtt HTTP/1.1", &[&long]), TOO_LARGE),
        ] {
            let request = &request[..request.len().min(MAX_UPGRADE_REQUEST_BYTES)];
            assert_eq!(refused(request, &rules), refusal, "{}", String::from_utf8_lossy(request));
            let answer = String::from_utf8(refusal.answer()).expect("text");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
            assert_eq!(body, format!("{}\n", refusal.text()));
        }
    }

    #[test]
    fn what_is_no_http_is_not_answered() {
        let rules = WebSocketRules::default();
        for foreign in [&[0x10, 12, 0, 4][..], &[0x16, 3, 1], b"get / HTTP/1.1\r\n", b"\r\n"] {
            assert_eq!(upgrade(foreign, &rules), Upgrade::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_kept_out() {
        let panel = "https://panel.example";
        let rules = WebSocketRules { path: "/".into(), origins: vec![panel.into(), "null".into()] };
        let from = |origins: &[&str]| {
            let origins: Vec<String> = origins.iter().map(|origin| format!("Origin: {origin}")).collect();
            let fields: Vec<&str> = FIELDS.into_iter().chain(origins.iter().map(String::as_str)).collect();
            request("GET / HTTP/1.1", &fields)
        };
        for allowed in [&[][..], &[panel], &["null"]] {
            granted(&from(allowed), &rules);
        }
        let other = "https://panel.example.evil";
        for foreign in [&[other][..], &["http://panel.example"], &[""], &[panel, other]] {
            assert_eq!(refused(&from(foreign), &rules), FOREIGN_ORIGIN, "{foreign:?}");
        }
        let all = WebSocketRules { origins: Vec::new(), ..rules };
        granted(&from(&[other]), &all);
    }
}
