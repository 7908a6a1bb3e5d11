//! The driver between one socket and one client state machine, on tokio-uring.
//!
//! A [`Client`] is plain state: packets go in, bytes to send come out. The driver keeps one read and at most one write
//! with the kernel at the same time, so that neither direction ever waits for the other, and it sends everything that
//! one wake-up produced with one write.
//!
//! It takes no protocol decision; it only cuts the byte stream into packets, bounded by [`FRAME_BYTES_MAX`], behind what the
//! transport makes of the socket's bytes. On plain TCP packets are cut out where the kernel has put them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oncemq::proto::{DecodeError, Packet, ReasonCode, Version, decode, frame_length};
use oncemq::transport::ServerEnded;
use thiserror::Error;
use tokio_uring::buf::{BoundedBuf as _, Slice};
use tokio_uring::net::TcpStream;

use crate::cli::PAYLOAD_BYTES_MAX;
use crate::clock::Clock;
use crate::exchange::Violation;
use crate::transport::Transport;

/// Largest packet accepted from a broker: the largest message and room for its topic and properties.
const FRAME_BYTES_MAX: u32 = PAYLOAD_BYTES_MAX as u32 + (1 << 18);

/// Read buffer of an idle client; it doubles whenever a read fills it, up to the second figure.
const READ_BUFFER_BYTES_MIN: usize = 512;
const READ_BUFFER_BYTES_MAX: usize = 1 << 18;

/// While so much waits to be written, a client that is not bound by a window should produce no more.
pub(crate) const UNSENT_BYTES_HIGH: usize = 1 << 16;

/// How long a [`Flow::CloseAfterReading`] reads.
const LAST_READ: Duration = Duration::from_millis(2);

/// A connection whose handshakes below MQTT are done.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) transport: Transport,
}

/// A client's state machine, as the driver sees it.
pub(crate) trait Client {
    fn version(&self) -> Version;

    /// Takes one packet from the broker and appends the answers to `out`.
    fn handle_packet(&mut self, packet: &Packet<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault>;

    /// Learns that a packet that begins with `first_byte` has arrived in part.
    fn handle_partial_packet(&mut self, _first_byte: u8) -> Flow {
        Flow::Continue
    }

    /// Appends what the client wants to send of itself. Called first of all, after each batch of packets and writes,
    /// and after a kick.
    fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault>;

    /// Bytes that one read may take, and bytes of packets that come out of it and are looked at at once.
    fn read_bytes_max(&self) -> usize {
        READ_BUFFER_BYTES_MAX
    }

    /// Bytes that never go out, of the last ones before a [`Flow::Close`] or [`Flow::CloseAfterReading`]: as they stand on the
    /// wire, so that a frame or a record is torn with the packet in it.
    fn cut_bytes(&self) -> usize {
        0
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Write what is pending, behind it the end as the transport says it, then close; what arrives meanwhile is not read.
    Leave,
    /// Write what is pending, then close without a word; what arrives meanwhile is not read.
    Close,
    /// Write what is pending, take what the broker has sent without answering it, then close.
    CloseAfterReading,
    /// Write what is pending and leave the connection open, unread, for the caller to deal with.
    Abandon,
}

impl Flow {
    /// Whether the connection ends in the middle of everything.
    fn breaks_off(self) -> bool {
        match self {
            Self::Continue | Self::Leave | Self::Abandon => false,
            Self::Close | Self::CloseAfterReading => true,
        }
    }
}

/// Why a connection failed.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker disconnected the client: {0}")]
    Disconnected(ReasonCode),
    #[error("the broker refused the connection: {0}")]
    Refused(ReasonCode),
    #[error("the broker lost the session: it says session present 0")]
    SessionLost,
    #[error("the broker refused the subscription to {filter}: {reason}")]
    SubscriptionRefused { filter: String, reason: String },
    #[error("the broker limits {limit}; {remedy}")]
    Limited { limit: String, remedy: &'static str },
    #[error("the broker sent what is no MQTT packet: {0}")]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("{0}")]
    Unexpected(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the broker answered the request for a WebSocket with {0}")]
    Upgrade(String),
    #[error("{0}")]
    WebSocket(ServerEnded),
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
}

impl Fault {
    /// Of a read or a write.
    pub(crate) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }

    /// Whether it is what the death of a broker looks like, rather than something that a broker did.
    pub(crate) fn is_broken_connection(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed | Self::Io(_) => true,
            Self::Disconnected(_)
            | Self::Refused(_)
            | Self::SessionLost
            | Self::SubscriptionRefused { .. }
            | Self::Limited { .. }
            | Self::Malformed(_)
            | Self::Violation(_)
            | Self::Unexpected(_)
            | Self::Tls(_)
            | Self::Upgrade(_)
            | Self::WebSocket(_) => false,
        }
    }
}

/// Wakes a client so that its `poll` runs; any number of kicks before that count as one.
#[derive(Debug, Default)]
pub(crate) struct Kick {
    pending: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Kick {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn kick(&self) {
        self.pending.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> bool {
        if self.pending.take() {
            return true;
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        false
    }
}

/// Runs one client on one connection until it ends the connection or something fails. Unless the client abandoned the
/// connection it is closed afterwards.
pub(crate) async fn drive<C: Client>(
    connection: &mut Connection,
    client: &mut C,
    kick: &Kick,
    clock: Clock,
) -> Result<Flow, Fault> {
    let ended = exchange(connection, client, kick, clock).await;
    if !matches!(ended, Ok(Flow::Abandon)) {
        close(&connection.stream);
    }
    ended
}

/// Closes a connection although a read may still be with the kernel: the read then ends and gives the socket back.
/// A socket that is no longer connected needs no closing.
pub(crate) fn close(stream: &TcpStream) {
    let _already_closed = stream.shutdown(Shutdown::Both);
}

/// Waits until the broker closes a connection whose client no longer looks at it; false if it takes longer than `limit`.
pub(crate) async fn wait_for_close(connection: &Connection, limit: Duration) -> bool {
    let stream = &connection.stream;
    let closed = async {
        let mut buffer = Vec::with_capacity(READ_BUFFER_BYTES_MIN);
        loop {
            buffer.clear();
            let (result, returned) = stream.read(buffer).await;
            buffer = returned;
            match result {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(limit, closed).await.is_ok()
}

async fn exchange<C: Client>(
    connection: &mut Connection,
    client: &mut C,
    kick: &Kick,
    clock: Clock,
) -> Result<Flow, Fault> {
    let Connection { stream, transport } = connection;
    let mut out = Vec::new();
    let mut spare = Vec::new();
    let mut unread = Vec::new();
    let mut flow = client.poll(clock.now_ns(), &mut out)?;
    let first = read_buffer(Vec::with_capacity(READ_BUFFER_BYTES_MIN), client);
    let mut reading = pin!(Some(stream.read(first)));
    let mut writing = pin!(None);
    loop {
        if writing.is_none() && (!out.is_empty() || (flow == Flow::Continue && transport.has_frames())) {
            let mut bytes = transport.seal(&mut out, &mut spare, flow)?;
            if flow.breaks_off() {
                bytes.truncate(bytes.len().saturating_sub(client.cut_bytes()));
            }
            writing.set(Some(stream.write_all(bytes)));
        }
        if flow != Flow::Continue && writing.is_none() {
            break;
        }
        let mut was_read = None;
        let mut was_written = None;
        std::future::poll_fn(|context| {
            let kicked = kick.poll(context);
            was_read = poll_once(reading.as_mut().as_pin_mut(), context);
            was_written = poll_once(writing.as_mut().as_pin_mut(), context);
            match kicked || was_read.is_some() || was_written.is_some() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        if let Some((result, mut bytes)) = was_written {
            writing.set(None);
            result?;
            bytes.clear();
            spare = bytes;
        }
        let now_ns = clock.now_ns();
        if let Some((result, slice)) = was_read {
            reading.set(None);
            let mut buffer = match read_result(result, slice) {
                Ok(buffer) => buffer,
                // What was still to be written before closing no longer matters.
                Err(_) if flow != Flow::Continue => break,
                Err(fault) => return Err(fault),
            };
            if flow == Flow::Continue {
                flow = handle_received(client, transport, &mut buffer, now_ns, &mut out)?;
            }
            if flow == Flow::Continue {
                reading.set(Some(stream.read(read_buffer(buffer, client))));
            } else {
                unread = buffer;
            }
        }
        if flow == Flow::Continue {
            flow = client.poll(now_ns, &mut out)?;
        }
    }
    if flow == Flow::CloseAfterReading {
        let read = async {
            if let Some(pending) = reading.as_mut().as_pin_mut() {
                let (result, slice) = pending.await;
                unread = read_result(result, slice)?;
            }
            read_until_closed(stream, transport, client, clock, unread).await
        };
        match tokio::time::timeout(LAST_READ, read).await {
            // The broker saw the end coming, or has nothing more to say.
            Ok(Ok(()) | Err(Fault::Closed | Fault::WebSocket(ServerEnded::Closed(_)) | Fault::Io(_))) | Err(_) => {}
            Ok(Err(fault)) => return Err(fault),
        }
    }
    Ok(flow)
}

/// Takes what the broker has sent and still sends, without an answer.
async fn read_until_closed<C: Client>(
    stream: &TcpStream,
    transport: &mut Transport,
    client: &mut C,
    clock: Clock,
    mut buffer: Vec<u8>,
) -> Result<(), Fault> {
    let mut unsent = Vec::new();
    loop {
        handle_received(client, transport, &mut buffer, clock.now_ns(), &mut unsent)?;
        unsent.clear();
        let (result, slice) = stream.read(read_buffer(buffer, client)).await;
        buffer = read_result(result, slice)?;
    }
}

fn read_result(result: io::Result<usize>, slice: Slice<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    match result {
        Ok(0) => Err(Fault::Closed),
        Ok(_) => Ok(slice.into_inner()),
        Err(error) => Err(Fault::of_io(error)),
    }
}

/// Hands every complete packet to the client. What is left in the buffer is what the next read goes behind.
fn handle_received<C: Client>(
    client: &mut C,
    transport: &mut Transport,
    buffer: &mut Vec<u8>,
    now_ns: u64,
    out: &mut Vec<u8>,
) -> Result<Flow, Fault> {
    let filled = buffer.len() == buffer.capacity();
    let flow = match transport {
        Transport::Plain => {
            let (flow, consumed) = handle_packets(client, buffer, now_ns, out)?;
            discard(buffer, consumed);
            flow
        }
        Transport::Wrapped(wrapping) => {
            let opened = wrapping.open(buffer);
            buffer.clear();
            match handle_opened(client, &mut wrapping.packets, now_ns, out)? {
                Flow::Continue => opened.map(|()| Flow::Continue)?,
                ended @ (Flow::Leave | Flow::Close | Flow::CloseAfterReading | Flow::Abandon) => ended,
            }
        }
    };
    if filled {
        let wanted = if buffer.capacity() < READ_BUFFER_BYTES_MAX {
            buffer.capacity()
        } else {
            // A packet larger than the buffer grows it as its bytes arrive, never by its declared length.
            READ_BUFFER_BYTES_MIN
        };
        buffer.reserve(wanted);
    }
    Ok(flow)
}

/// The same for packets that came out of something else, no more of them at once than a read would have brought.
fn handle_opened<C: Client>(
    client: &mut C,
    packets: &mut Vec<u8>,
    now_ns: u64,
    out: &mut Vec<u8>,
) -> Result<Flow, Fault> {
    let (mut start, mut end) = (0, 0);
    let mut flow = Flow::Continue;
    while flow == Flow::Continue && end < packets.len() {
        end = end.saturating_add(client.read_bytes_max().max(1)).min(packets.len());
        let consumed;
        (flow, consumed) = handle_packets(client, &packets[start..end], now_ns, out)?;
        start += consumed;
    }
    discard(packets, start);
    Ok(flow)
}

/// Hands every complete packet to the client; says how many bytes they had.
fn handle_packets<C: Client>(
    client: &mut C,
    bytes: &[u8],
    now_ns: u64,
    out: &mut Vec<u8>,
) -> Result<(Flow, usize), Fault> {
    let mut flow = Flow::Continue;
    let mut consumed = 0;
    while flow == Flow::Continue {
        let rest = &bytes[consumed..];
        match frame_length(rest, FRAME_BYTES_MAX)? {
            Some(length) if length <= rest.len() => {
                let packet = decode(client.version(), &rest[..length])?;
                flow = client.handle_packet(&packet, now_ns, out)?;
                consumed += length;
            }
            Some(_) | None => {
                if let Some(&first_byte) = rest.first() {
                    flow = client.handle_partial_packet(first_byte);
                }
                break;
            }
        }
    }
    Ok((flow, consumed))
}

/// Moves the incomplete rest to the start.
fn discard(bytes: &mut Vec<u8>, consumed: usize) {
    let left = bytes.len() - consumed;
    bytes.copy_within(consumed.., 0);
    bytes.truncate(left);
}

/// The free part of the buffer, as much of it as one read may fill.
fn read_buffer<C: Client>(mut buffer: Vec<u8>, client: &C) -> Slice<Vec<u8>> {
    if buffer.len() == buffer.capacity() {
        buffer.reserve(READ_BUFFER_BYTES_MIN);
    }
    let start = buffer.len();
    let end = buffer.capacity().min(start.saturating_add(client.read_bytes_max().max(1)));
    buffer.slice(start..end)
}

fn poll_once<F: Future>(future: Option<std::pin::Pin<&mut F>>, context: &mut Context<'_>) -> Option<F::Output> {
    match future?.poll(context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in pieces of a few bytes, and leaves when one of them ends inside of a packet.
    struct Nibbler {
        taken: usize,
    }

    impl Client for Nibbler {
        fn version(&self) -> Version {
            Version::V311
        }

        fn handle_packet(&mut self, _packet: &Packet<'_>, _now_ns: u64, _out: &mut Vec<u8>) -> Result<Flow, Fault> {
            self.taken += 1;
            Ok(Flow::Continue)
        }

        fn handle_partial_packet(&mut self, first_byte: u8) -> Flow {
            if first_byte == 0x50 { Flow::Close } else { Flow::Continue }
        }

        fn poll(&mut self, _now_ns: u64, _out: &mut Vec<u8>) -> Result<Flow, Fault> {
            Ok(Flow::Continue)
        }

        fn read_bytes_max(&self) -> usize {
            3
        }
    }

    /// A record brings whole packets, but a client that wants to see a part of one does.
    #[test]
    fn what_comes_out_of_a_record_is_looked_at_in_small_pieces() {
        let mut packets = vec![0xD0, 0, 0x40, 2, 0, 1, 0x50, 2, 0, 2, 0xD0, 0];
        let mut nibbler = Nibbler { taken: 0 };
        let flow = handle_opened(&mut nibbler, &mut packets, 0, &mut Vec::new()).expect("good packets");
        assert_eq!((flow, nibbler.taken), (Flow::Close, 2));
        assert_eq!(packets[0], 0x50, "it is not taken");
    }
}
