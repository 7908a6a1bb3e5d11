//! What the gate decides about bytes, for the fuzz targets.

use crate::config::WebSocketRules;

use super::proxy_header::{self, Header};
use super::upgrade::{Upgrade, upgrade};

/// What is decided about the bytes at the start of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// More has to come.
    Incomplete,
    /// They are what they should be.
    Granted {
        /// How many of them.
        bytes: usize,
    },
    /// They are refused, with an answer or without.
    Refused,
}

/// What is decided about the request for a WebSocket at the start of `received`.
pub fn upgrade_verdict(received: &[u8], rules: &WebSocketRules) -> Verdict {
    match upgrade(received, rules) {
        Upgrade::Incomplete => Verdict::Incomplete,
        Upgrade::Granted { request_bytes, answer } => {
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
            Verdict::Granted { bytes: request_bytes }
        }
        Upgrade::Refused(refusal) => {
            assert!(refusal.answer().starts_with(b"HTTP/1.1 4"));
            Verdict::Refused
        }
        Upgrade::Foreign => Verdict::Refused,
    }
}

/// What is decided about the header of a proxy at the start of `received`.
pub fn proxy_verdict(received: &[u8]) -> Verdict {
    match proxy_header::read(received) {
        Header::Incomplete => Verdict::Incomplete,
        Header::Complete { bytes, introduction: _ } => Verdict::Granted { bytes },
        Header::Wrong(_) => Verdict::Refused,
    }
}
