//! The bytes of a client that is still at the gate: the socket's own, or what lies in the records of TLS on it.
//!
//! The handshake of TLS is done here. What it computes with keys runs on threads of its own (`slow_threads`), so that a storm of
//! handshakes delays nobody who comes in without one, and no message. A connection costs nothing for TLS before the first
//! byte of its handshake is there.

use std::io;

use rustls::ServerConnection;
use tokio_uring::buf::BoundedBuf;

use crate::auth::user_name_of;
use crate::config::{CertificateName, PROXY_HEADER_BYTES_MAX};
use crate::transport::{Close, Tls};

use super::Context;
use super::certificates::Credentials;
use super::client::NoPacket;
use super::counters::GateCounters;
use super::proxy_header::{self, Header, Introduction};
use super::socket::Socket;

/// The first flight of a client, and most records behind it, come in one of these.
const TLS_READ_BYTES: usize = 4096;

/// The header of a proxy fits, and with it a CONNECT that came right behind.
const FIRST_PROXY_READ_BYTES: usize = 512;

/// A client's bytes, in both directions.
pub(super) struct Wire<'a> {
    stream: &'a Socket,
    /// What came in one piece with the header of a proxy, and is the client's own.
    early: Vec<u8>,
    tls: Option<Box<Tls>>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(stream: &'a Socket) -> Self {
        Self { stream, early: Vec::new(), tls: None }
    }

    /// Reads the header of a proxy, which comes before anything else. The buffer at most doubles with each read.
    pub(super) async fn introduce(&mut self) -> Result<Introduction, NoPacket> {
        let mut received = Vec::new();
        loop {
            let filled = received.len();
            let room = filled.max(FIRST_PROXY_READ_BYTES).min(PROXY_HEADER_BYTES_MAX - filled);
            received = read_some(self.stream, &mut self.early, received, room).await?;
            if received.len() == filled {
                return Err(NoPacket::Closed);
            }
            match proxy_header::read(&received) {
                Header::Incomplete => {}
                Header::Complete { bytes, introduction } => {
                    self.early = received.split_off(bytes);
                    return Ok(introduction);
                }
                Header::Wrong(text) => return Err(NoPacket::Foreign(text)),
            }
        }
    }

    /// Does the handshake of TLS; all bytes lie in its records from here on. Returns what came behind it already.
    pub(super) async fn secure(
        &mut self,
        credentials: &Credentials,
        is_web_socket: bool,
        context: &Context,
    ) -> Result<Vec<u8>, NoPacket> {
        let mut received = read_some(self.stream, &mut self.early, Vec::new(), TLS_READ_BYTES).await?;
        if received.is_empty() {
            return Err(NoPacket::Closed);
        }
        let handshake = Handshake { counters: &context.counters, is_done: false };
        let connection = ServerConnection::new(credentials.config(is_web_socket));
        let connection = connection.map_err(|error| NoPacket::Tls { error, alert: Vec::new() })?;
        let mut tls = Box::new(Tls::new(connection));
        let mut opened = Vec::new();
        loop {
            let flight = received;
            let (answered, content) = context
                .handshakes
                .run(move || {
                    let mut content = Vec::new();
                    // What it says about the end is asked below.
                    let _ = tls.open(&flight, &mut content);
                    (tls, content)
                })
                .await;
            tls = answered;
            opened.extend(content);
            let records = tls.records(&[], false);
            if let Some(error) = tls.failure() {
                return Err(NoPacket::Tls { error: error.clone(), alert: records });
            }
            if !records.is_empty() {
                self.stream.write_all(records).await.0?;
            }
            if !tls.is_handshaking() {
                handshake.done();
                self.tls = Some(tls);
                return Ok(opened);
            }
            received = read_some(self.stream, &mut self.early, Vec::new(), TLS_READ_BYTES).await?;
            if received.is_empty() {
                return Err(NoPacket::Closed);
            }
        }
    }

    /// The user name in the certificate that the client has shown, if there is one.
    pub(super) fn certified_user_name(&self, which: CertificateName) -> Option<Box<str>> {
        user_name_of(self.tls.as_ref()?.client_certificate()?, which)
    }

    /// Reads what comes next and appends it to the buffer, which gets room for so many bytes more if there is none. Nothing
    /// is appended at the end of the stream.
    pub(super) async fn read(&mut self, mut into: Vec<u8>, room: usize) -> Result<Vec<u8>, NoPacket> {
        let Some(tls) = &mut self.tls else {
            return Ok(read_some(self.stream, &mut self.early, into, room).await?);
        };
        let filled = into.len();
        while into.len() == filled && !tls.has_ended() {
            let received = read_some(self.stream, &mut self.early, Vec::new(), TLS_READ_BYTES).await?;
            if received.is_empty() {
                break;
            }
            // What it says about the end is asked of it.
            let _ = tls.open(&received, &mut into);
            let records = tls.records(&[], false);
            if let Some(error) = tls.failure() {
                return Err(NoPacket::Tls { error: error.clone(), alert: records });
            }
            if !records.is_empty() {
                self.stream.write_all(records).await.0?;
            }
        }
        Ok(into)
    }

    /// Sends bytes.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => tls.records(&bytes, false),
        };
        self.stream.write_all(bytes).await.0
    }

    /// What has to go through the socket to say these bytes, of which there may be none, and then the end.
    pub(super) fn last_words(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        match &mut self.tls {
            None => bytes,
            Some(tls) => {
                tls.end(Close::NORMAL);
                tls.records(&bytes, true)
            }
        }
    }

    /// What the bytes lie in, if they do.
    pub(super) fn into_tls(self) -> Option<Box<Tls>> {
        assert!(self.early.is_empty(), "what comes first is read first, all of it");
        self.tls
    }
}

/// A handshake that has been begun; failed if it is dropped before it is done, by whatever.
struct Handshake<'a> {
    counters: &'a GateCounters,
    is_done: bool,
}

impl Handshake<'_> {
    fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let Self { counters, is_done } = self;
        if *is_done { counters.tls_handshakes.add_one() } else { counters.tls_handshakes_failed.add_one() }
    }
}

/// Takes what has come early, or reads once, behind what is in the buffer.
async fn read_some(stream: &Socket, early: &mut Vec<u8>, mut into: Vec<u8>, room: usize) -> io::Result<Vec<u8>> {
    if !early.is_empty() {
        into.append(early);
        return Ok(into);
    }
    if into.len() == into.capacity() {
        into.reserve_exact(room);
    }
    let filled = into.len();
    let (result, slice) = stream.read(into.slice(filled..)).await;
    result?;
    Ok(slice.into_inner())
}
