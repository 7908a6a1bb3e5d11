//! Requests to the admin listener of a real broker.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::broker::Broker;

/// Has the broker serve its operator on a free port.
pub(crate) const ADMIN: &str = "--admin-listen=127.0.0.1:0";

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// To what was asked on this connection.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // It may be cut off where the request was not read to its end.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// Of an API that speaks JSON.
    pub(crate) fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Asks on this connection.
pub(crate) fn ask_over(mut stream: TcpStream, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let host = stream.peer_addr().expect("it is connected");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n");
    // A request that is refused early may not be taken whole.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    Answer::read(&mut stream)
}

/// Asks without a body.
pub(crate) fn ask(broker: &Broker, method: &str, path: &str) -> Answer {
    ask_over(broker.connect_as("http"), method, path, "", "")
}

/// Asks for something.
pub(crate) fn get(broker: &Broker, path: &str) -> Answer {
    ask(broker, "GET", path)
}

/// Has the broker publish a message.
pub(crate) fn publish(broker: &Broker, message: &Value) -> Answer {
    let headers = "Content-Type: application/json\r\n";
    ask_over(broker.connect_as("http"), "POST", "/api/v1/publish", headers, &message.to_string())
}
