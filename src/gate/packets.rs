//! The packets of a client that is still at the gate, out of the transport below them and into it.

use std::io;

use bytes::Bytes;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::config::WebSocketRules;
use crate::transport::{Close, Ended, Transport, WebSocket};

use super::client::NoPacket;
use super::greeting::Progress;
use super::web_socket;

/// A CONNECT with a client id, a user name and a password of ordinary length fits, and with it what is sent right behind.
pub(super) const FIRST_READ_BYTES: usize = 512;

/// What a client sends and gets before a shard has it.
pub(super) struct Packets<'a> {
    stream: &'a TcpStream,
    transport: Transport,
    /// What came from the socket and is not taken yet.
    received: Vec<u8>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Self {
        Self { stream, transport: Transport::Plain, received: Vec::new() }
    }

    /// Waits for the request for a WebSocket and grants it: packets come through that from here on.
    pub(super) async fn upgrade(&mut self, rules: &WebSocketRules) -> Result<(), NoPacket> {
        self.received = web_socket::grant(self.stream, rules).await?;
        self.transport = Transport::WebSocket(Box::default());
        Ok(())
    }

    /// Reads until a whole packet is there, and nothing of what comes behind it.
    pub(super) async fn read(&mut self, progress: impl Fn(&[u8]) -> Progress) -> Result<Vec<u8>, NoPacket> {
        let received = std::mem::take(&mut self.received);
        match &mut self.transport {
            Transport::Plain => {
                let (mut packet, total) = read_plain(self.stream, received, progress).await?;
                self.received = packet.split_off(total);
                Ok(packet)
            }
            Transport::WebSocket(web_socket) => match read_framed(self.stream, web_socket, received, progress).await {
                Ok((packet, rest)) => {
                    self.received = rest;
                    Ok(packet)
                }
                Err(Unframed::Silent(error)) => Err(error),
                Err(Unframed::Closing(close, text)) => {
                    Err(NoPacket::Answered { text, answer: self.last_words(Vec::new(), close) })
                }
            },
        }
    }

    /// Sends a packet.
    pub(super) async fn write(&mut self, packet: Vec<u8>) -> io::Result<()> {
        let bytes = match &mut self.transport {
            Transport::Plain => packet,
            Transport::WebSocket(web_socket) => web_socket.frames(&packet, false),
        };
        self.stream.write_all(bytes).await.0
    }

    /// What says these packets, of which there may be none, and then the end. Nothing can be read or written behind it.
    pub(super) fn last_words(&mut self, packets: Vec<u8>, close: Close) -> Vec<u8> {
        std::mem::take(&mut self.transport).last_words(packets, close)
    }

    /// What came behind the last packet, as it came from the socket, and what that and all further bytes pass through.
    pub(super) fn into_rest(self) -> (Bytes, Transport) {
        (Bytes::from(self.received), self.transport)
    }
}

/// Reads on behind `bytes` until a whole packet is there; all that came, and the length of the packet. The buffer at most
/// doubles with each read, so its size follows the bytes that came and not the length that was declared.
async fn read_plain(
    stream: &TcpStream,
    mut bytes: Vec<u8>,
    progress: impl Fn(&[u8]) -> Progress,
) -> Result<(Vec<u8>, usize), NoPacket> {
    loop {
        match progress(&bytes) {
            Progress::Complete { total } => return Ok((bytes, total)),
            Progress::Foreign(text) => return Err(NoPacket::Foreign(text)),
            Progress::Incomplete { total } if bytes.len() == bytes.capacity() => {
                let missing = total.map_or(bytes.len(), |total| total - bytes.len());
                bytes.reserve_exact(missing.min(bytes.len()).max(FIRST_READ_BYTES));
            }
            Progress::Incomplete { .. } => {}
        }
        let filled = bytes.len();
        let (result, slice) = stream.read(bytes.slice(filled..)).await;
        bytes = slice.into_inner();
        if result? == 0 {
            return Err(NoPacket::Closed);
        }
    }
}

/// Why there is no whole packet in frames.
enum Unframed {
    Silent(NoPacket),
    /// The client hears this in a close frame.
    Closing(Close, &'static str),
}

impl From<io::Error> for Unframed {
    fn from(error: io::Error) -> Self {
        Self::Silent(error.into())
    }
}

/// Opens the frames in `received` and in what is read behind it until a whole packet is there; the packet, and what of the last
/// read has not been opened.
async fn read_framed(
    stream: &TcpStream,
    web_socket: &mut WebSocket,
    mut received: Vec<u8>,
    progress: impl Fn(&[u8]) -> Progress,
) -> Result<(Vec<u8>, Vec<u8>), Unframed> {
    let mut opened = 0;
    let mut packet = Vec::new();
    loop {
        let missing = match progress(&packet) {
            Progress::Complete { .. } => return Ok((packet, received.split_off(opened))),
            Progress::Foreign(text) => return Err(Unframed::Closing(Close::policy(text), text)),
            // Byte by byte to the end of the fixed header, which says how much there is to come.
            Progress::Incomplete { total } => total.map_or(1, |total| total - packet.len()),
        };
        if opened == received.len() {
            // Pings have been read.
            let pongs = web_socket.frames(&[], false);
            if !pongs.is_empty() {
                stream.write_all(pongs).await.0?;
            }
            received.clear();
            received.reserve(FIRST_READ_BYTES);
            opened = 0;
            let (result, returned) = stream.read(received).await;
            received = returned;
            if result? == 0 {
                return Err(Unframed::Silent(NoPacket::Closed));
            }
        }
        let mut rest = &received[opened..];
        let open = web_socket.open(&mut rest, &mut packet, missing);
        opened = received.len() - rest.len();
        match open {
            Ok(()) => {}
            Err(Ended::ByClient) => {
                return Err(Unframed::Closing(Close::NORMAL, "it closed the WebSocket before its packet was complete"));
            }
            Err(Ended::ByViolation(close)) => return Err(Unframed::Closing(close, close.text())),
        }
    }
}
