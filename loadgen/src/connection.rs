//! The driver between one socket and one client state machine, on tokio-uring.
//!
//! A [`Client`] is plain state: packets go in, bytes to send come out. The driver keeps one read and at most one write
//! with the kernel at the same time, so that neither direction ever waits for the other, and it sends everything that
//! one wake-up produced with one write.
//!
//! It takes no protocol decision; it only cuts the byte stream into packets, bounded by [`FRAME_BYTES_MAX`].

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oncemq::proto::{DecodeError, Packet, ReasonCode, Version, decode, frame_length};
use thiserror::Error;
use tokio_uring::buf::{BoundedBuf as _, Slice};
use tokio_uring::net::TcpStream;

use crate::cli::PAYLOAD_BYTES_MAX;
use crate::clock::Clock;
use crate::exchange::Violation;

/// Largest packet accepted from a broker: the largest message and room for its topic and properties.
const FRAME_BYTES_MAX: u32 = PAYLOAD_BYTES_MAX as u32 + (1 << 18);

/// Read buffer of an idle client; it doubles whenever a read fills it, up to the second figure.
const READ_BUFFER_BYTES_MIN: usize = 512;
const READ_BUFFER_BYTES_MAX: usize = 1 << 18;

/// While so much waits to be written, a client that is not bound by a window should produce no more.
pub(crate) const UNSENT_BYTES_HIGH: usize = 1 << 16;

/// How long a [`Flow::CloseAfterReading`] reads.
const LAST_READ: Duration = Duration::from_millis(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients for each source address on loopback. Linux gives each address some 28,000 ports, but finds one slowly once
/// the 14,000 of the parity that it prefers are taken.
const CLIENTS_PER_SOURCE_ADDRESS: u32 = 10_000;

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

    /// Bytes that one read may take.
    fn read_bytes_max(&self) -> usize {
        READ_BUFFER_BYTES_MAX
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Write what is pending, then close; what arrives meanwhile is not read.
    Close,
    /// Write what is pending, take what the broker has sent without answering it, then close.
    CloseAfterReading,
    /// Write what is pending and leave the connection open, unread, for the caller to deal with.
    Abandon,
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
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
}

impl Fault {
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
            | Self::Unexpected(_) => false,
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

/// Opens a connection. `client` spreads many of them over source addresses on loopback, beyond the ports of one.
pub(crate) async fn open(address: SocketAddr, client: u32) -> Result<TcpStream, Fault> {
    let connecting = async {
        match source_address(address, client) {
            Some(source) => connect_from(source, address).await,
            None => TcpStream::connect(address).await,
        }
    };
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = connected.map_err(|source| Fault::Connect { address, source })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Runs one client on one connection until it ends the connection or something fails. Unless the client abandoned the
/// connection it is closed afterwards.
pub(crate) async fn drive<C: Client>(
    stream: &TcpStream,
    client: &mut C,
    kick: &Kick,
    clock: Clock,
) -> Result<Flow, Fault> {
    let ended = exchange(stream, client, kick, clock).await;
    if !matches!(ended, Ok(Flow::Abandon)) {
        close(stream);
    }
    ended
}

/// Closes a connection although a read may still be with the kernel: the read then ends and gives the socket back.
/// A socket that is no longer connected needs no closing.
pub(crate) fn close(stream: &TcpStream) {
    let _already_closed = stream.shutdown(Shutdown::Both);
}

/// Waits until the broker closes a connection whose client no longer looks at it; false if it takes longer than `limit`.
pub(crate) async fn wait_for_close(stream: &TcpStream, limit: Duration) -> bool {
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

async fn exchange<C: Client>(stream: &TcpStream, client: &mut C, kick: &Kick, clock: Clock) -> Result<Flow, Fault> {
    let mut out = Vec::new();
    let mut spare = Vec::new();
    let mut unread = Vec::new();
    let mut flow = client.poll(clock.now_ns(), &mut out)?;
    let first = read_buffer(Vec::with_capacity(READ_BUFFER_BYTES_MIN), client);
    let mut reading = pin!(Some(stream.read(first)));
    let mut writing = pin!(None);
    loop {
        if writing.is_none() && !out.is_empty() {
            let bytes = std::mem::replace(&mut out, std::mem::take(&mut spare));
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
                flow = handle_frames(client, &mut buffer, now_ns, &mut out)?;
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
            read_until_closed(stream, client, clock, unread).await
        };
        match tokio::time::timeout(LAST_READ, read).await {
            // The broker saw the end coming, or has nothing more to say.
            Ok(Ok(()) | Err(Fault::Closed | Fault::Io(_))) | Err(_) => {}
            Ok(Err(fault)) => return Err(fault),
        }
    }
    Ok(flow)
}

/// Takes what the broker has sent and still sends, without an answer.
async fn read_until_closed<C: Client>(
    stream: &TcpStream,
    client: &mut C,
    clock: Clock,
    mut buffer: Vec<u8>,
) -> Result<(), Fault> {
    let mut unsent = Vec::new();
    loop {
        handle_frames(client, &mut buffer, clock.now_ns(), &mut unsent)?;
        unsent.clear();
        let (result, slice) = stream.read(read_buffer(buffer, client)).await;
        buffer = read_result(result, slice)?;
    }
}

fn read_result(result: io::Result<usize>, slice: Slice<Vec<u8>>) -> Result<Vec<u8>, Fault> {
    match result {
        Ok(0) => Err(Fault::Closed),
        Ok(_) => Ok(slice.into_inner()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Fault::Closed),
        Err(error) => Err(error.into()),
    }
}

/// Hands every complete packet to the client and leaves the incomplete rest at the start of the buffer.
fn handle_frames<C: Client>(
    client: &mut C,
    buffer: &mut Vec<u8>,
    now_ns: u64,
    out: &mut Vec<u8>,
) -> Result<Flow, Fault> {
    let filled = buffer.len() == buffer.capacity();
    let mut flow = Flow::Continue;
    let mut consumed = 0;
    while flow == Flow::Continue {
        let rest = &buffer[consumed..];
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
    let left = buffer.len() - consumed;
    buffer.copy_within(consumed.., 0);
    buffer.truncate(left);
    let wanted = if filled && buffer.capacity() < READ_BUFFER_BYTES_MAX {
        buffer.capacity()
    } else {
        // A packet larger than the buffer grows it as its bytes arrive, never by its declared length.
        READ_BUFFER_BYTES_MIN
    };
    if filled {
        buffer.reserve(wanted);
    }
    Ok(flow)
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

/// `None` for the first source address, which the kernel chooses.
fn source_address(address: SocketAddr, client: u32) -> Option<SocketAddr> {
    let group = client / CLIENTS_PER_SOURCE_ADDRESS;
    match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_loopback() && group > 0 => {
            let source = u32::from(std::net::Ipv4Addr::LOCALHOST) + group;
            Some(SocketAddr::new(std::net::Ipv4Addr::from(source).into(), 0))
        }
        std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_) => None,
    }
}

/// tokio-uring has no bind before connect, so tokio's own socket connects and its blocking form is taken over.
async fn connect_from(source: SocketAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(source)?;
    let stream = socket.connect(address).await?.into_std()?;
    // A nonblocking socket would make io_uring answer EAGAIN instead of waiting.
    stream.set_nonblocking(false)?;
    Ok(TcpStream::from_std(stream))
}
