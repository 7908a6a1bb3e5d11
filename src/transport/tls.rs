//! TLS 1.2 and 1.3, the server's side, between the records of the socket and what lies in them: packets, or the frames of a
//! WebSocket. The protocol is rustls's; here its buffers are filled and emptied.
//!
//! - Records and packets need not be aligned in any way. What a record holds is taken out as soon as it is whole, so that beside
//!   one unfinished record nothing that was received waits here.
//! - All packets of a send are sealed at once and leave at once; what is sealed lies in the same output, with the same bounds, as
//!   on other connections.
//! - What rustls has to say by itself leaves with the packets, an alert also without them.
//! - The client's `close_notify` is the end of its stream. The server's goes out behind its last packet, and nothing behind it: no
//!   alert either, and so what is received from then on is not even opened. A connection that ends without one has broken off,
//!   which is the socket's affair.
//! - A record that can't be opened ends the connection: the client hears why in an alert, and nothing else.
//!
//! The handshake is the gate's affair (`gate::wire`), which also knows certificates. rustls reads a clock and random numbers only
//! there: records are numbered.

use std::fmt;
use std::io::{BufRead, Write};

use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use crate::shard::Transmit;

use super::{Close, Ended, WebSocket};

/// What is sealed before it is taken to the output.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// What a record is longer than what lies in it, generously.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The state of one connection over TLS, in both directions.
pub struct Tls {
    connection: ServerConnection,
    /// What lies in the records; packets if there is none.
    web_socket: Option<Box<WebSocket>>,
    /// What came out of records already and was not taken by anyone.
    opened: Vec<u8>,
    incoming: Incoming,
    goodbye: Goodbye,
}

/// How far the client's stream is.
#[derive(Debug)]
enum Incoming {
    Open,
    /// The client has sent `close_notify`.
    Closed {
        is_told: bool,
    },
    /// The client has sent what is no record, or not one of this connection.
    Broken(rustls::Error),
}

/// How far the server's `close_notify` is.
#[derive(Debug)]
enum Goodbye {
    /// Packets may follow.
    NotDue,
    /// It follows on the last packet.
    Due,
    /// Nothing follows; an alert that says what was wrong is the last word, too.
    Said,
}

impl Tls {
    /// A connection before its handshake.
    pub fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Self { connection, web_socket: None, opened: Vec::new(), incoming: Incoming::Open, goodbye: Goodbye::NotDue }
    }

    /// From here on this lies in the records, of which `opened` is out already. Whoever opens them next does not know yet that
    /// they have ended.
    pub fn carry(&mut self, web_socket: Option<Box<WebSocket>>, opened: Vec<u8>) {
        self.web_socket = web_socket;
        self.opened = opened;
        if let Incoming::Closed { is_told } = &mut self.incoming {
            *is_told = false;
        }
    }

    /// Whether nothing more comes out of records.
    pub fn has_ended(&self) -> bool {
        match self.incoming {
            Incoming::Open => false,
            Incoming::Closed { .. } | Incoming::Broken(_) => true,
        }
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The client's own certificate, if it has shown one.
    pub fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// Why what the client has sent could not be opened.
    pub fn failure(&self) -> Option<&rustls::Error> {
        match &self.incoming {
            Incoming::Open | Incoming::Closed { .. } => None,
            Incoming::Broken(error) => Some(error),
        }
    }

    /// Appends the bytes of packets in received records to `packets`. Says once that nothing more comes; what is received behind
    /// that is dropped, and so is what is received behind the server's own end.
    pub fn open(&mut self, mut received: &[u8], packets: &mut Vec<u8>) -> Result<(), Ended> {
        let opened = std::mem::take(&mut self.opened);
        let mut result = unwrap(&mut self.web_socket, &opened, packets);
        while !received.is_empty() && matches!(self.incoming, Incoming::Open) && self.may_speak() {
            let processed = match self.connection.read_tls(&mut received) {
                Ok(1..) => self.connection.process_new_packets(),
                // Neither is possible while every record is processed and emptied at once.
                Ok(0) | Err(_) => Err(rustls::Error::General("a record is longer than it may be".to_owned())),
            };
            // Also before what can't be opened there may be something.
            let mut reader = self.connection.reader();
            while let Ok(content) = reader.fill_buf()
                && !content.is_empty()
            {
                let length = content.len();
                result = result.and(unwrap(&mut self.web_socket, content, packets));
                reader.consume(length);
            }
            match processed {
                Ok(state) if state.peer_has_closed() => self.incoming = Incoming::Closed { is_told: false },
                Ok(_) => {}
                Err(error) => {
                    self.incoming = Incoming::Broken(error);
                    self.goodbye = Goodbye::Said;
                    result = Err(Ended::ByBrokenRecord);
                }
            }
        }
        if let Incoming::Closed { is_told: is_told @ false } = &mut self.incoming {
            *is_told = true;
            result = result.and(Err(Ended::ByClient));
        }
        result
    }

    /// Whether there is something to send beside packets. `is_last` says that no packet will follow.
    pub fn has_records(&self, is_last: bool) -> bool {
        let is_close_due = matches!(self.goodbye, Goodbye::Due) && is_last;
        let web_socket = self.web_socket.as_ref();
        is_close_due
            || self.connection.wants_write()
            || web_socket.is_some_and(|web_socket| web_socket.has_control_frames(is_last) && self.may_speak())
    }

    /// The records for all packets of a transmit, and behind them what else is due. There are none if the connection is broken
    /// and the client knows.
    pub(super) fn seal(&mut self, transmit: Transmit, is_last: bool) -> Transmit {
        let transmit = match &mut self.web_socket {
            None => transmit,
            Some(web_socket) => web_socket.seal(transmit, is_last),
        };
        let mut sealed = Transmit::default();
        let records = sealed.buffer();
        records.reserve(transmit.len() + RECORD_OVERHEAD_BYTES);
        for part in transmit.parts() {
            self.push_sealed(part, records);
        }
        self.push_due(is_last, records);
        sealed
    }

    /// The records for bytes that do not lie in a transmit, with nothing around them, and what else is due.
    pub fn records(&mut self, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let mut records = Vec::with_capacity(bytes.len() + RECORD_OVERHEAD_BYTES);
        self.push_sealed(bytes, &mut records);
        self.push_due(is_last, &mut records);
        records
    }

    /// The connection ends behind the last packet.
    pub fn end(&mut self, close: Close) {
        if let Some(web_socket) = &mut self.web_socket {
            web_socket.end(close);
        }
        match self.goodbye {
            Goodbye::NotDue => self.goodbye = Goodbye::Due,
            Goodbye::Due | Goodbye::Said => {}
        }
    }

    fn may_speak(&self) -> bool {
        match self.goodbye {
            Goodbye::NotDue | Goodbye::Due => true,
            Goodbye::Said => false,
        }
    }

    fn push_sealed(&mut self, mut bytes: &[u8], records: &mut Vec<u8>) {
        while !bytes.is_empty() && self.may_speak() {
            match self.connection.writer().write(bytes) {
                Ok(sealed @ 1..) => bytes = &bytes[sealed..],
                // There are no keys left that may be used.
                Ok(0) | Err(_) => {
                    self.connection.send_close_notify();
                    self.goodbye = Goodbye::Said;
                }
            }
            self.push_pending(records);
        }
    }

    fn push_due(&mut self, is_last: bool, records: &mut Vec<u8>) {
        match self.goodbye {
            Goodbye::Due if is_last => {
                self.connection.send_close_notify();
                self.goodbye = Goodbye::Said;
            }
            Goodbye::Due | Goodbye::NotDue | Goodbye::Said => {}
        }
        self.push_pending(records);
    }

    fn push_pending(&mut self, records: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(records).expect("a vector takes all that is written");
        }
    }
}

/// Keys are not shown.
impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection: _, web_socket, opened, incoming, goodbye } = self;
        formatter
            .debug_struct("Tls")
            .field("web_socket", web_socket)
            .field("opened", &opened.len())
            .field("incoming", incoming)
            .field("goodbye", goodbye)
            .finish_non_exhaustive()
    }
}

/// Appends the packets in the content of records.
fn unwrap(web_socket: &mut Option<Box<WebSocket>>, mut content: &[u8], packets: &mut Vec<u8>) -> Result<(), Ended> {
    match web_socket {
        None => {
            packets.extend_from_slice(content);
            Ok(())
        }
        Some(web_socket) => web_socket.open(&mut content, packets, usize::MAX),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
