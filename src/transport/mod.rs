//! What lies between a socket and the codec: a pure transform of bytes, chosen by the gate for each connection.
//!
//! The gate does the handshake of a transport (there is none for plain TCP) and hands its state over with the client;
//! from then on the shard passes every received and every outgoing byte through it. No I/O happens here.
//!
//! What a transport has to say by itself (the pong and the close frame of a WebSocket, the alerts of TLS) leaves with the packets,
//! in their order: [`Transport::has_frames`] says whether there is some, and [`Transport::seal`] adds it to what is sent.

mod tls;
mod web_socket;

use crate::shard::Transmit;

pub use tls::Tls;
#[cfg(test)]
pub(crate) use tls::testing as tls_testing;
pub use web_socket::{Close, Ended, ServerEnded, WebSocket, WebSocketClient};

/// The transport of one connection.
#[derive(Debug, Default)]
pub enum Transport {
    /// Plain TCP: the bytes of the socket are the bytes of the packets.
    #[default]
    Plain,
    /// Packets lie in something else. Boxed, so that plain connections do not pay for its state.
    Wrapped(Box<Wrapping>),
}

/// What packets lie in on their way through the socket.
#[derive(Debug)]
pub enum Wrapping {
    /// The binary frames of a WebSocket.
    WebSocket(WebSocket),
    /// The records of TLS, maybe with the frames of a WebSocket between. Boxed, so that a WebSocket alone does not pay for it.
    Tls(Box<Tls>),
}

impl Transport {
    /// Whether there is something to send beside packets. `is_last` says that no packet will follow on those that can be sent
    /// now.
    #[inline]
    pub fn has_frames(&self, is_last: bool) -> bool {
        match self {
            Transport::Plain => false,
            Transport::Wrapped(wrapping) => wrapping.has_frames(is_last),
        }
    }

    /// Turns packets, of which there may be none, into bytes to send, with what else there is to send behind them. Nothing comes
    /// out of it if the connection can't say anything any more.
    #[inline]
    pub fn seal(&mut self, transmit: Transmit, is_last: bool) -> Transmit {
        match self {
            Transport::Plain => transmit,
            Transport::Wrapped(wrapping) => wrapping.seal(transmit, is_last),
        }
    }

    /// The server ends the connection behind the packets that are on their way, which plain TCP has no word for. The first
    /// reason counts.
    pub fn end(&mut self, close: Close) {
        match self {
            Transport::Plain => {}
            Transport::Wrapped(wrapping) => wrapping.end(close),
        }
    }

    /// Whether the client's DISCONNECT is the last that comes from it. Behind that of a WebSocket comes a close frame, behind
    /// that in TLS `close_notify`.
    pub fn ends_with_disconnect(&self) -> bool {
        match self {
            Transport::Plain => true,
            Transport::Wrapped(_) => false,
        }
    }
}

impl Wrapping {
    /// Takes the bytes of packets out of received ones and appends them to `packets`. Says once that nothing more comes; what is
    /// received behind that is dropped.
    pub fn open(&mut self, mut received: &[u8], packets: &mut Vec<u8>) -> Result<(), Ended> {
        match self {
            Wrapping::WebSocket(web_socket) => web_socket.open(&mut received, packets, usize::MAX),
            Wrapping::Tls(tls) => tls.open(received, packets),
        }
    }

    fn has_frames(&self, is_last: bool) -> bool {
        match self {
            Wrapping::WebSocket(web_socket) => web_socket.has_control_frames(is_last),
            Wrapping::Tls(tls) => tls.has_records(is_last),
        }
    }

    fn seal(&mut self, transmit: Transmit, is_last: bool) -> Transmit {
        match self {
            Wrapping::WebSocket(web_socket) => web_socket.seal(transmit, is_last),
            Wrapping::Tls(tls) => tls.seal(transmit, is_last),
        }
    }

    fn end(&mut self, close: Close) {
        match self {
            Wrapping::WebSocket(web_socket) => web_socket.end(close),
            Wrapping::Tls(tls) => tls.end(close),
        }
    }
}

impl From<WebSocket> for Transport {
    fn from(web_socket: WebSocket) -> Self {
        Self::Wrapped(Box::new(Wrapping::WebSocket(web_socket)))
    }
}

impl From<Box<Tls>> for Transport {
    fn from(tls: Box<Tls>) -> Self {
        Self::Wrapped(Box::new(Wrapping::Tls(tls)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_says_nothing_by_itself() {
        let mut transport = Transport::Plain;
        transport.end(Close::NORMAL);
        assert!(!transport.has_frames(true));
    }

    #[test]
    fn a_plain_connection_does_not_pay_for_the_others() {
        assert_eq!(size_of::<Transport>(), size_of::<usize>());
        assert!(size_of::<Wrapping>() < 100, "what a WebSocket costs");
    }
}
