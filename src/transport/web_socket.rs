//! MQTT over WebSocket (RFC 6455), the server's side behind the handshake: frames of the client become packets, and packets
//! become frames.
//!
//! - Packets and frames need not be aligned in any way [MQTT-6.0.0-2]: the payload of binary frames is one stream of bytes,
//!   however it is cut into frames, messages and receives. Nothing of it is collected here, so a frame may be of any length; what
//!   is too large is for the framer of packets to say.
//! - What is no binary frame ends the connection [MQTT-6.0.0-1], and so does every breach of RFC 6455; the client hears the reason
//!   in a close frame.
//! - A ping is answered behind the packets that leave first after it. Of several pings that wait for that the last one is
//!   answered, as RFC 6455 (section 5.5.3) allows, so that nobody makes the broker keep more than one.
//! - A close frame of the client is the end of its stream. The server's goes out behind its last packet, and nothing behind it.
//!
//! The header of a frame is read and written by `tungstenite`, of which nothing is used that owns a socket or a buffer. No
//! extension is known, and the payload of outgoing frames is not masked.
//!
//! The other end, which masks its frames, is [`WebSocketClient`]; the broker has no use for it, the load generator has.

mod client;
mod incoming;

use std::fmt;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::shard::Transmit;

pub use client::{ServerEnded, WebSocketClient};
use incoming::Incoming;

/// Length of the longest header of a frame to a client: there is no mask.
const SENT_HEADER_BYTES_MAX: usize = 10;

/// Length of the longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// The state of one WebSocket, in both directions.
#[derive(Debug, Default)]
pub struct WebSocket {
    incoming: Incoming,
    /// What the client has said in the last ping that is not answered.
    pong: Option<Box<[u8]>>,
    goodbye: Goodbye,
}

/// How far the server's close frame is.
#[derive(Debug, Default)]
enum Goodbye {
    /// Packets may follow.
    #[default]
    NotDue,
    /// It follows on the last packet.
    Due(Close),
    /// Nothing follows.
    Said,
}

/// What a close frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// None for an answer to a client that gave none.
    code: Option<CloseCode>,
    text: &'static str,
}

/// Why nothing more comes from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It has sent a close frame.
    ByClient,
    /// It has sent what is no WebSocket that carries MQTT.
    ByViolation(Close),
    /// It has sent what is no record of TLS, or not one of its connection.
    ByBrokenRecord,
}

impl WebSocket {
    /// Takes the bytes of packets out of received ones and appends them to `packets`, at most `max` bytes; what is left of
    /// `received` is to be opened next. Says once that nothing more comes; what is received behind that is dropped.
    pub fn open(&mut self, received: &mut &[u8], packets: &mut Vec<u8>, max: usize) -> Result<(), Ended> {
        let max = packets.len().saturating_add(max);
        while !received.is_empty() && packets.len() < max {
            match self.incoming.take(received, packets, max) {
                Ok(None) => {}
                Ok(Some(ping)) => self.pong = Some(ping),
                Err(ended) => {
                    *received = &[];
                    return Err(ended);
                }
            }
        }
        Ok(())
    }

    /// Whether a pong is due, or the close frame.
    pub(super) fn has_control_frames(&self, is_last: bool) -> bool {
        match self.goodbye {
            Goodbye::NotDue => self.pong.is_some(),
            Goodbye::Due(_) => self.pong.is_some() || is_last,
            Goodbye::Said => false,
        }
    }

    /// Appends the control frames that are due. `is_last` says that no packet will follow.
    fn push_control_frames(&mut self, into: &mut Vec<u8>, is_last: bool) {
        if matches!(self.goodbye, Goodbye::Said) {
            return;
        }
        if let Some(pong) = self.pong.take() {
            push_header(into, OpCode::Control(Control::Pong), pong.len(), None);
            into.extend_from_slice(&pong);
        }
        match self.goodbye {
            Goodbye::Due(close) if is_last => {
                close.push_frame(into);
                self.goodbye = Goodbye::Said;
            }
            Goodbye::Due(_) | Goodbye::NotDue | Goodbye::Said => {}
        }
    }

    /// One binary frame for all packets of a transmit, and behind it the control frames that are due.
    pub(super) fn seal(&mut self, mut transmit: Transmit, is_last: bool) -> Transmit {
        if !transmit.is_empty() {
            let mut header = Vec::with_capacity(SENT_HEADER_BYTES_MAX);
            push_header(&mut header, OpCode::Data(Data::Binary), transmit.len(), None);
            transmit.prepend(&header);
        }
        self.push_control_frames(transmit.buffer(), is_last);
        transmit
    }

    /// The same for packets that do not lie in a transmit.
    pub fn frames(&mut self, packets: &[u8], is_last: bool) -> Vec<u8> {
        let mut frames = Vec::new();
        if !packets.is_empty() {
            push_header(&mut frames, OpCode::Data(Data::Binary), packets.len(), None);
            frames.extend_from_slice(packets);
        }
        self.push_control_frames(&mut frames, is_last);
        frames
    }

    /// The bytes that say these packets, of which there may be none, and then the end.
    pub fn last_words(mut self, packets: &[u8], close: Close) -> Vec<u8> {
        self.end(close);
        self.frames(packets, true)
    }

    /// The connection ends behind the last packet. A client that has ended it itself, by a close frame or a violation, is
    /// answered to that.
    pub(super) fn end(&mut self, close: Close) {
        match self.goodbye {
            Goodbye::NotDue => self.goodbye = Goodbye::Due(self.incoming.answer().unwrap_or(close)),
            Goodbye::Due(_) | Goodbye::Said => {}
        }
    }
}

impl Close {
    /// The connection has served its purpose.
    pub const NORMAL: Self = Self::new(CloseCode::Normal, "");
    /// The broker stops.
    pub const GOING_AWAY: Self = Self::new(CloseCode::Away, "");

    /// What the client did goes against MQTT, or against a rule of the broker. A text of more than 123 bytes is left out.
    pub const fn policy(text: &'static str) -> Self {
        Self::new(CloseCode::Policy, text)
    }

    const fn new(code: CloseCode, text: &'static str) -> Self {
        let has_room = text.len() <= CONTROL_BYTES_MAX - 2;
        Self { code: Some(code), text: if has_room { text } else { "" } }
    }

    /// What the client sent goes against RFC 6455.
    const fn protocol(text: &'static str) -> Self {
        Self::new(CloseCode::Protocol, text)
    }

    /// The answer to a close frame.
    const fn answer(code: Option<CloseCode>) -> Self {
        Self { code, text: "" }
    }

    /// The reason in words.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The code, if one is said.
    fn code(self) -> Option<u16> {
        self.code.map(u16::from)
    }

    /// What stands in the close frame.
    fn payload(self) -> Vec<u8> {
        let Some(code) = self.code() else { return Vec::new() };
        [&code.to_be_bytes(), self.text.as_bytes()].concat()
    }

    fn push_frame(self, into: &mut Vec<u8>) {
        let payload = self.payload();
        push_header(into, OpCode::Control(Control::Close), payload.len(), None);
        into.extend_from_slice(&payload);
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Ended::ByClient => "the client has closed the WebSocket",
            Ended::ByViolation(close) => close.text(),
            Ended::ByBrokenRecord => "the client has sent what is no record of its TLS connection",
        })
    }
}

/// Appends the header of a frame that is whole.
fn push_header(into: &mut Vec<u8>, opcode: OpCode, length: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
    header.format(length as u64, into).expect("a vector takes all that is written");
}

#[cfg(test)]
mod tests;
