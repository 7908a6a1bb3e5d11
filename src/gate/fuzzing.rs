//! What the gate decides about bytes, for the fuzz targets.

use crate::config::WebSocketRules;

use super::upgrade::{Upgrade, upgrade};

/// What is decided about the request for a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// More has to come.
    Incomplete,
    /// It is granted.
    Granted {
        /// How long it is.
        request_bytes: usize,
    },
    /// It is refused, with an answer or without.
    Refused,
}

/// What is decided about the request at the start of `received`.
pub fn verdict(received: &[u8], rules: &WebSocketRules) -> Verdict {
    match upgrade(received, rules) {
        Upgrade::Incomplete => Verdict::Incomplete,
        Upgrade::Granted { request_bytes, answer } => {
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
            Verdict::Granted { request_bytes }
        }
        Upgrade::Refused(refusal) => {
            assert!(refusal.answer().starts_with(b"HTTP/1.1 4"));
            Verdict::Refused
        }
        Upgrade::Foreign => Verdict::Refused,
    }
}
