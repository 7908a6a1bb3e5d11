//! What lies between a socket and the codec, the client's side: a pure transform of bytes.
//!
//! - [`route`] says how a broker is reached and makes the transport of each connection; [`tls`] has the records of TLS,
//!   [`web_socket`] the handshake and the frames of a WebSocket, which may lie in records.
//! - A transport begins with a handshake: while it is not [`ready`](Wrapping::is_ready), what [`Wrapping::seal`] gives is sent,
//!   and what comes is given to [`Wrapping::open`]. Packets follow.
//! - Plain TCP has neither handshake nor buffers: its packets lie in the buffers of the socket, and nothing is copied.
//! - A client that leaves says so in every layer behind its DISCONNECT: a close frame, `close_notify`. One that breaks off says
//!   nothing. It does not wait for the answer either way, as little as on plain TCP.
//!
//! The broker has the other side of each of these in `oncemq::transport`.

mod route;
mod tls;
mod web_socket;

use crate::connection::{Fault, Flow};

pub(crate) use route::{Route, RouteError, TransportReport};
use tls::Tls;
use web_socket::WebSocket;

/// The transport of one connection.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP: the bytes of the socket are the bytes of the packets.
    Plain,
    /// Packets lie in something else.
    Wrapped(Box<Wrapping>),
}

/// What packets lie in: a WebSocket, TLS, or the one in the other.
#[derive(Debug)]
pub(crate) struct Wrapping {
    tls: Option<Tls>,
    web_socket: Option<WebSocket>,
    /// Frames on their way into records.
    frames: Vec<u8>,
    /// Bytes of packets that have come out and that nobody has taken.
    pub(crate) packets: Vec<u8>,
}

impl Transport {
    /// Whether there is something to send beside packets.
    pub(crate) fn has_frames(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Wrapped(wrapping) => wrapping.has_frames(),
        }
    }

    /// Turns packets into bytes to send, and leaves `packets` empty. `spare` is an empty buffer that may be used for either.
    /// What is said beside packets depends on what becomes of the connection.
    pub(crate) fn seal(&mut self, packets: &mut Vec<u8>, spare: &mut Vec<u8>, flow: Flow) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Plain => Ok(std::mem::replace(packets, std::mem::take(spare))),
            Self::Wrapped(wrapping) => {
                let mut bytes = std::mem::take(spare);
                wrapping.seal(packets, flow, &mut bytes)?;
                packets.clear();
                Ok(bytes)
            }
        }
    }
}

impl Wrapping {
    fn new(tls: Option<Tls>, web_socket: Option<WebSocket>) -> Self {
        Self { tls, web_socket, frames: Vec::new(), packets: Vec::new() }
    }

    /// Whether all handshakes are done, so that packets may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.web_socket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Takes the bytes of packets out of received ones and appends them to [`packets`](Self::packets). An error is final;
    /// what came before it is there all the same.
    pub(crate) fn open(&mut self, received: &[u8]) -> Result<(), Fault> {
        let Self { tls, web_socket, frames: _, packets } = self;
        match tls {
            None => open_content(web_socket, received, packets),
            Some(tls) => tls.open(received, |content| open_content(web_socket, content, packets)),
        }
    }

    /// Appends the bytes that say these packets, of which there may be none, and what else is due.
    pub(crate) fn seal(&mut self, packets: &[u8], flow: Flow, into: &mut Vec<u8>) -> Result<(), Fault> {
        let Self { tls, web_socket, frames, packets: _ } = self;
        match (tls, web_socket) {
            (None, None) => {
                into.extend_from_slice(packets);
                Ok(())
            }
            (None, Some(web_socket)) => {
                web_socket.seal(packets, flow, into);
                Ok(())
            }
            (Some(tls), None) => tls.seal(packets, flow, into),
            (Some(tls), Some(web_socket)) => {
                frames.clear();
                web_socket.seal(packets, flow, frames);
                tls.seal(frames, flow, into)
            }
        }
    }

    fn has_frames(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::has_records) || self.web_socket.as_ref().is_some_and(WebSocket::has_frames)
    }
}

/// Appends the packets in what came out of records, or from the socket where there are none.
fn open_content(web_socket: &mut Option<WebSocket>, content: &[u8], packets: &mut Vec<u8>) -> Result<(), Fault> {
    match web_socket {
        None => {
            packets.extend_from_slice(content);
            Ok(())
        }
        Some(web_socket) => web_socket.open(content, packets),
    }
}

#[cfg(test)]
mod tests;
