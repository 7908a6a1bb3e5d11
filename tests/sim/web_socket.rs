//! The WebSocket that some connections have below their packets.
//!
//! The network of the world carries packets, cut anywhere; what the shards read and send for such a connection is in frames all
//! the same. Each piece that is read becomes a message of its own, of frames with a ping between them, and what is sent has to
//! be whole frames, of which the packets are taken out. That frames may be cut anywhere, too, is shown beside the codec.

use oncemq::transport::{Transport, WebSocket};

use crate::ledger::{Failure, fail};

/// Of so many connections of clients one has a WebSocket.
const ONE_IN: usize = 4;

const FINAL: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a connection has below its packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Plain,
    WebSocket {
        /// Whether its client closes the WebSocket before its side of the connection.
        says_close: bool,
    },
}

/// What the broker's frames say.
#[derive(Debug, Default)]
pub(crate) struct Unwrapped {
    pub(crate) packets: Vec<u8>,
    /// The last frame is a close frame.
    pub(crate) is_closed: bool,
}

impl Wire {
    /// That of a client's connection with this number.
    pub(crate) fn of_client(connection: usize) -> Self {
        match connection % (2 * ONE_IN) {
            1 => Self::WebSocket { says_close: true },
            5 => Self::WebSocket { says_close: false },
            _ => Self::Plain,
        }
    }

    pub(crate) fn is_web_socket(self) -> bool {
        match self {
            Self::Plain => false,
            Self::WebSocket { .. } => true,
        }
    }

    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Plain => Transport::Plain,
            Self::WebSocket { .. } => WebSocket::default().into(),
        }
    }

    /// What the broker reads for these bytes of packets.
    pub(crate) fn wrap(self, packets: Vec<u8>) -> Vec<u8> {
        match self {
            Self::WebSocket { .. } if !packets.is_empty() => {
                let (first, second) = packets.split_at(packets.len() / 3);
                [frame(BINARY, first), frame(FINAL | PING, b""), frame(FINAL | CONTINUATION, second)].concat()
            }
            Self::Plain | Self::WebSocket { .. } => packets,
        }
    }

    /// What the broker reads at the end of the stream before it, if anything.
    pub(crate) fn last_frame(self) -> Option<Vec<u8>> {
        match self {
            Self::WebSocket { says_close: true } => Some(frame(FINAL | CLOSE, &1000u16.to_be_bytes())),
            Self::Plain | Self::WebSocket { says_close: false } => None,
        }
    }

    /// What the broker has sent.
    pub(crate) fn unwrap(self, sent: Vec<u8>) -> Result<Unwrapped, Failure> {
        match self {
            Self::Plain => Ok(Unwrapped { packets: sent, is_closed: false }),
            Self::WebSocket { .. } => unwrap_frames(&sent),
        }
    }
}

fn unwrap_frames(sent: &[u8]) -> Result<Unwrapped, Failure> {
    let mut unwrapped = Unwrapped::default();
    let mut rest = sent;
    while let [first_byte, length, behind @ ..] = rest {
        let (length, behind) = match length {
            126 => split_length::<2>(behind)?,
            127 => split_length::<8>(behind)?,
            short => (usize::from(*short), behind),
        };
        if behind.len() < length || unwrapped.is_closed {
            fail!("a frame that is not whole, or behind a close frame: {rest:02x?}");
        }
        let (payload, others) = behind.split_at(length);
        match *first_byte & !FINAL {
            BINARY => unwrapped.packets.extend_from_slice(payload),
            PONG => {}
            CLOSE => unwrapped.is_closed = true,
            other => fail!("a frame of kind {other}"),
        }
        rest = others;
    }
    if !rest.is_empty() {
        fail!("the start of a header in place of a frame: {rest:02x?}");
    }
    Ok(unwrapped)
}

fn split_length<const BYTES: usize>(bytes: &[u8]) -> Result<(usize, &[u8]), Failure> {
    let Some((length, behind)) = bytes.split_first_chunk::<BYTES>() else { fail!("half a length: {bytes:02x?}") };
    Ok((length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), behind))
}

/// A frame of a client.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xA5, 0x5A, 0x00, 0x3C];
    let mut frame = vec![first_byte];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        middle @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
