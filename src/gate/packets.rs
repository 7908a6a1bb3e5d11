//! The packets of a client that is still at the gate, out of the frames that they may lie in and into them.

use std::io;

use bytes::Bytes;

use crate::config::{CertificateName, WebSocketRules};
use crate::transport::{Close, Ended, Transport, WebSocket};

use super::Context;
use super::certificates::Credentials;
use super::client::NoPacket;
use super::greeting::Progress;
use super::proxy_header::Introduction;
use super::socket::Socket;
use super::web_socket;
use super::wire::Wire;

/// A CONNECT with a client id, a user name and a password of ordinary length fits, and with it what is sent right behind.
pub(super) const FIRST_READ_BYTES: usize = 512;

/// What a client sends and gets before a shard has it.
pub(super) struct Packets<'a> {
    wire: Wire<'a>,
    web_socket: Option<Box<WebSocket>>,
    /// What came and is not taken yet.
    received: Vec<u8>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(stream: &'a Socket) -> Self {
        Self { wire: Wire::new(stream), web_socket: None, received: Vec::new() }
    }

    /// Waits for what a proxy says of the client, before anything else.
    pub(super) async fn introduce(&mut self) -> Result<Introduction, NoPacket> {
        self.wire.introduce().await
    }

    /// Does the handshake of TLS, before anything of the client's own.
    pub(super) async fn secure(
        &mut self,
        credentials: &Credentials,
        is_web_socket: bool,
        context: &Context,
    ) -> Result<(), NoPacket> {
        self.received = self.wire.secure(credentials, is_web_socket, context).await?;
        Ok(())
    }

    /// The user name in the certificate that the client has shown, if there is one.
    pub(super) fn certified_user_name(&self, which: CertificateName) -> Option<Box<str>> {
        self.wire.certified_user_name(which)
    }

    /// Waits for the request for a WebSocket and grants it: packets come through that from here on.
    pub(super) async fn upgrade(&mut self, rules: &WebSocketRules) -> Result<(), NoPacket> {
        let received = std::mem::take(&mut self.received);
        self.received = web_socket::grant(&mut self.wire, received, rules).await?;
        self.web_socket = Some(Box::default());
        Ok(())
    }

    /// Reads until a whole packet is there, and nothing of what comes behind it.
    pub(super) async fn read(&mut self, progress: impl Fn(&[u8]) -> Progress) -> Result<Vec<u8>, NoPacket> {
        let received = std::mem::take(&mut self.received);
        let Some(web_socket) = &mut self.web_socket else {
            let (mut packet, total) = read_plain(&mut self.wire, received, progress).await?;
            self.received = packet.split_off(total);
            return Ok(packet);
        };
        match read_framed(&mut self.wire, web_socket, received, progress).await {
            Ok((packet, rest)) => {
                self.received = rest;
                Ok(packet)
            }
            Err(Unframed::Silent(error)) => Err(error),
            Err(Unframed::Closing(close, text)) => {
                Err(NoPacket::Answered { text, answer: self.last_frames(Vec::new(), close) })
            }
        }
    }

    /// Sends a packet.
    pub(super) async fn write(&mut self, packet: Vec<u8>) -> io::Result<()> {
        let bytes = match &mut self.web_socket {
            None => packet,
            Some(web_socket) => web_socket.frames(&packet, false),
        };
        self.wire.write(bytes).await
    }

    /// What has to go through the socket to say these packets, of which there may be none, and then the end. Nothing can be
    /// read or written behind it.
    pub(super) fn last_words(&mut self, packets: Vec<u8>, close: Close) -> Vec<u8> {
        let frames = self.last_frames(packets, close);
        self.last_bytes(frames)
    }

    /// The same for what is no packet.
    pub(super) fn last_bytes(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.wire.last_words(bytes)
    }

    fn last_frames(&mut self, packets: Vec<u8>, close: Close) -> Vec<u8> {
        match self.web_socket.take() {
            None => packets,
            Some(web_socket) => web_socket.last_words(&packets, close),
        }
    }

    /// What came behind the last packet, as it came from the socket, and what that and all further bytes pass through.
    pub(super) fn into_rest(self) -> (Bytes, Transport) {
        let Self { wire, web_socket, received } = self;
        match (wire.into_tls(), web_socket) {
            // What has come out of records can't come from the socket again.
            (Some(mut tls), web_socket) => {
                tls.carry(web_socket, received);
                (Bytes::new(), tls.into())
            }
            (None, Some(web_socket)) => (Bytes::from(received), (*web_socket).into()),
            (None, None) => (Bytes::from(received), Transport::Plain),
        }
    }
}

/// Reads on behind `bytes` until a whole packet is there; all that came, and the length of the packet. The buffer at most
/// doubles with each read, so its size follows the bytes that came and not the length that was declared.
async fn read_plain(
    wire: &mut Wire<'_>,
    mut bytes: Vec<u8>,
    progress: impl Fn(&[u8]) -> Progress,
) -> Result<(Vec<u8>, usize), NoPacket> {
    loop {
        match progress(&bytes) {
            Progress::Complete { total } => return Ok((bytes, total)),
            Progress::Foreign(text) => return Err(NoPacket::Foreign(text)),
            Progress::Incomplete { total } => {
                let missing = total.map_or(bytes.len(), |total| total - bytes.len());
                let filled = bytes.len();
                bytes = wire.read(bytes, missing.min(filled).max(FIRST_READ_BYTES)).await?;
                if bytes.len() == filled {
                    return Err(NoPacket::Closed);
                }
            }
        }
    }
}

/// Why there is no whole packet in frames.
enum Unframed {
    Silent(NoPacket),
    /// The client hears this in a close frame.
    Closing(Close, &'static str),
}

impl From<NoPacket> for Unframed {
    fn from(error: NoPacket) -> Self {
        Self::Silent(error)
    }
}

/// Opens the frames in `received` and in what is read behind it until a whole packet is there; the packet, and what of the last
/// read has not been opened.
async fn read_framed(
    wire: &mut Wire<'_>,
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
                wire.write(pongs).await.map_err(NoPacket::from)?;
            }
            received.clear();
            opened = 0;
            received = wire.read(received, FIRST_READ_BYTES).await?;
            if received.is_empty() {
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
            Err(Ended::ByBrokenRecord) => unreachable!("records are opened below the frames"),
        }
    }
}
