//! What a proxy says of the client that it has accepted, before the client's own first byte: the header of the PROXY protocol
//! in both versions, judged. Pure, so that every byte of it can be tested without a socket.
//!
//! Which of the two versions it is shows in the first byte. A header ends where it says; nothing behind it is looked at. What
//! is no header is recognized by the first byte that differs, since whoever sent that may wait for an answer for long.
//!
//! | command | family        | who is at the other end                                                |
//! |---------|---------------|------------------------------------------------------------------------|
//! | LOCAL   | any           | the proxy itself, which looks whether the broker is well               |
//! | PROXY   | TCP over IP   | the client at the source address                                       |
//! | PROXY   | unknown, Unix | somebody of whom the proxy cannot say where he is                      |
//! | PROXY   | others        | nobody who could be served: the header is refused                      |
//!
//! Whether the sender is one to be believed is decided before ([`ProxyRules::trusts`](crate::config::ProxyRules::trusts)). It
//! is a parser of our own: those that there are leave out what is half of it, the checksum and what is said of certificates.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

/// How far a header has come.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Header {
    /// More has to come.
    Incomplete,
    /// It is the first `bytes` bytes, and says this.
    Complete { bytes: usize, introduction: Introduction },
    /// What came is no header, or one that cannot be believed. There is no answer to that.
    Wrong(&'static str),
}

/// What a proxy says of who is at the other end.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Introduction {
    pub(super) source: Source,
    /// What the proxy knows from the client's handshake of TLS, if it was the proxy that did that with the client.
    pub(super) tls: Option<ClientTls>,
}

/// Where who is at the other end comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// It is the proxy itself.
    Proxy,
    /// The proxy cannot say.
    Unknown,
    /// From this address.
    Client(SocketAddr),
}

/// What a proxy knows from a client's handshake of TLS.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ClientTls {
    /// The client has shown no certificate, or none that the proxy could verify.
    Unverified,
    /// It has shown one with this common name in it, if that can be a user's name.
    Verified(Option<Box<str>>),
}

/// How far the header at the start of `received` has come.
pub(super) fn read(received: &[u8]) -> Header {
    match received.first() {
        None => Header::Incomplete,
        Some(&v1::FIRST_BYTE) => v1::read(received),
        Some(&v2::FIRST_BYTE) => v2::read(received),
        Some(_) => Header::Wrong(NO_HEADER),
    }
}

const NO_HEADER: &str = "what came first is no header of the PROXY protocol";

impl Introduction {
    fn of(source: Source) -> Self {
        Self { source, tls: None }
    }
}

/// Whether `received` can still become, or is, something that begins with these bytes.
fn begins_like(received: &[u8], beginning: &[u8]) -> bool {
    received.iter().zip(beginning).all(|(byte, expected)| byte == expected)
}
