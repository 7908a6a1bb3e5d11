//! What lies between a socket and the codec: a pure transform of bytes, chosen by the gate for each connection.
//!
//! The gate does the handshake of a transport (there is none for plain TCP) and hands its state over with the client;
//! from then on the shard passes every received and every outgoing byte through it. No I/O happens here.
//!
//! What a transport has to say by itself (the pong and the close frame of a WebSocket) leaves with the packets, in their order:
//! [`Transport::has_frames`] says whether there is some, and [`Transport::seal`] adds it to what is sent.

mod web_socket;

use crate::shard::Transmit;

pub use web_socket::{Close, Ended, WebSocket};

/// The transport of one connection.
#[derive(Debug, Default)]
pub enum Transport {
    /// Plain TCP: the bytes of the socket are the bytes of the packets.
    #[default]
    Plain,
    /// MQTT in the binary frames of a WebSocket. Boxed, so that plain connections do not pay for its state.
    WebSocket(Box<WebSocket>),
}

impl Transport {
    /// Whether there is something to send beside packets. `is_last` says that no packet will follow on those that can be sent
    /// now.
    #[inline]
    pub fn has_frames(&self, is_last: bool) -> bool {
        match self {
            Transport::Plain => false,
            Transport::WebSocket(web_socket) => web_socket.has_control_frames(is_last),
        }
    }

    /// Turns packets, of which there may be none, into bytes to send, with what else there is to send behind them.
    #[inline]
    pub fn seal(&mut self, transmit: Transmit, is_last: bool) -> Transmit {
        match self {
            Transport::Plain => transmit,
            Transport::WebSocket(web_socket) => web_socket.seal(transmit, is_last),
        }
    }

    /// The server ends the connection behind the packets that are on their way, which plain TCP has no word for. The first
    /// reason counts.
    pub fn end(&mut self, close: Close) {
        match self {
            Transport::Plain => {}
            Transport::WebSocket(web_socket) => web_socket.end(close),
        }
    }

    /// Whether the client's DISCONNECT is the last that comes from it. Behind that of a WebSocket comes a close frame.
    pub fn ends_with_disconnect(&self) -> bool {
        match self {
            Transport::Plain => true,
            Transport::WebSocket(_) => false,
        }
    }

    /// The bytes that say these packets, of which there may be none, and then the end.
    pub fn last_words(mut self, packets: Vec<u8>, close: Close) -> Vec<u8> {
        self.end(close);
        match self {
            Transport::Plain => packets,
            Transport::WebSocket(mut web_socket) => web_socket.frames(&packets, true),
        }
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
        assert_eq!(transport.last_words(b"packet".to_vec(), Close::NORMAL), b"packet");
    }

    #[test]
    fn a_plain_connection_does_not_pay_for_the_others() {
        assert_eq!(size_of::<Transport>(), size_of::<usize>());
        assert!(size_of::<WebSocket>() < 100, "what one of the others costs");
    }
}
