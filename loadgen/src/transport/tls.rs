//! TLS 1.2 and 1.3, the client's side, by rustls, whose buffers are filled and emptied here.
//!
//! What is given to it before its handshake is done, such as the request for a WebSocket, it keeps and sends behind that.

use std::fmt;
use std::io::{self, BufRead as _, Write as _};

use rustls::{ClientConnection, ProtocolVersion};

use crate::connection::{Fault, Flow};

/// What is sealed before it is taken out.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// What a record is longer than what lies in it, generously.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// One connection's end of TLS.
pub(super) struct Tls {
    connection: ClientConnection,
}

impl Tls {
    /// A connection before its handshake.
    pub(super) fn new(mut connection: ClientConnection) -> Self {
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Self { connection }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Version and cipher suite, once the handshake is done.
    pub(super) fn agreement(&self) -> Option<String> {
        let version = match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };
        Some(format!("{version}, {:?}", self.connection.negotiated_cipher_suite()?.suite()))
    }

    /// Whether rustls has something to say by itself: the handshake, an answer to new keys, an alert.
    pub(super) fn has_records(&self) -> bool {
        self.connection.wants_write()
    }

    /// Gives what lies in received records to `take`, piece by piece. The first error is final.
    pub(super) fn open(
        &mut self,
        mut received: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while !received.is_empty() {
            // Neither an error nor 0 is possible while every record is emptied at once.
            if self.connection.read_tls(&mut received)? == 0 {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            let processed = self.connection.process_new_packets();
            // Also before what can't be opened there may be something.
            let mut reader = self.connection.reader();
            while let Ok(content) = reader.fill_buf()
                && !content.is_empty()
            {
                let length = content.len();
                take(content)?;
                reader.consume(length);
            }
            if processed?.peer_has_closed() {
                return Err(Fault::Closed);
            }
        }
        Ok(())
    }

    /// Appends the records for this content, of which there may be none, and what else is due.
    pub(super) fn seal(&mut self, mut content: &[u8], flow: Flow, into: &mut Vec<u8>) -> Result<(), Fault> {
        into.reserve(content.len() + RECORD_OVERHEAD_BYTES);
        while !content.is_empty() {
            let sealed = self.connection.writer().write(content)?;
            if sealed == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            content = &content[sealed..];
            self.push_pending(into)?;
        }
        match flow {
            Flow::Leave => self.connection.send_close_notify(),
            Flow::Continue | Flow::Close | Flow::CloseAfterReading | Flow::Abandon => {}
        }
        self.push_pending(into)
    }

    fn push_pending(&mut self, into: &mut Vec<u8>) -> Result<(), Fault> {
        while self.connection.wants_write() {
            self.connection.write_tls(into)?;
        }
        Ok(())
    }
}

/// Keys are not shown.
impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}
