//! One client between accept and hand-over.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;
use tracing::{debug, warn};

use crate::io::{Arrival, ConnectionPermit, Peer, take_descriptor};
use crate::shard::{Admission, shard_of};
use crate::transport::Transport;

use super::Context;
use super::greeting::{Progress, Refusal, Welcome, judge, progress};

/// A CONNECT with a client id, a user name and a password of ordinary length fits, and with it what is sent right behind.
const FIRST_READ_BYTES: usize = 512;

/// A client that was refused may send this much more before it is cut off.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// A client that has been accepted and not yet been handed over.
pub(super) struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    context: Rc<Context>,
}

/// A complete CONNECT, and what came behind it.
struct Greeting {
    bytes: Vec<u8>,
    connect_bytes: usize,
}

/// Why there is no CONNECT.
#[derive(Debug, thiserror::Error)]
enum NoGreeting {
    #[error("it closed the connection before its CONNECT was complete")]
    Closed,
    #[error("{0}")]
    Foreign(&'static str),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Client {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, context: Rc<Context>) -> Self {
        Self { stream, peer, context }
    }

    /// Hears the client out, and admits or refuses it.
    pub(super) async fn welcome(self) {
        let limits = self.context.limits;
        let greeting = self.within(limits.connect_timeout, read_connect(&self.stream, limits.max_connect_bytes)).await;
        let peer = self.peer;
        match greeting {
            Some(Ok(greeting)) => self.answer(greeting).await,
            Some(Err(error)) => debug!("{peer} is not admitted: {error}"),
            None => debug!("{peer} is not admitted: its CONNECT did not come in time"),
        }
    }

    async fn answer(self, greeting: Greeting) {
        let frame = &greeting.bytes[..greeting.connect_bytes];
        match judge(frame, random).and_then(|welcome| Ok((self.permit(&welcome)?, welcome))) {
            Ok((permit, welcome)) => {
                let peer = self.peer;
                if let Err(error) = self.admit(greeting, welcome, permit) {
                    debug!("{peer} could not be handed over: {error}");
                }
            }
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    fn permit(&self, welcome: &Welcome) -> Result<ConnectionPermit, Refusal> {
        let permits = &self.context.permits;
        permits.take().ok_or_else(|| {
            if let Some(times) = self.context.full.permit() {
                warn!(
                    "clients are refused ({times} times): the broker holds {}; raise --max-connections",
                    permits.max()
                );
            }
            welcome.turned_away()
        })
    }

    /// Hands the client to its shard. The runtime keeps its own descriptor, so the shard gets a duplicate, and this one is
    /// closed when `self` ends; no operation is in flight on it.
    fn admit(self, greeting: Greeting, welcome: Welcome, permit: ConnectionPermit) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let socket = take_descriptor(&self.stream)?;
        let mut connect_frame = Bytes::from(greeting.bytes);
        let early_bytes = connect_frame.split_off(greeting.connect_bytes);
        let doors = &self.context.doors;
        let shard = shard_of(&welcome.client_id, doors.shards());
        let admission = Admission {
            connect_frame,
            client_id: welcome.client_id,
            client_id_assigned: welcome.client_id_assigned,
            early_bytes,
            transport: Transport::Plain,
        };
        doors.admit(shard, Arrival { socket, peer: Peer::Client(admission), permit });
        Ok(())
    }

    /// Says why, if there is a way to, and gives the client time to read it: closing at once could reset the connection
    /// while the answer is on its way.
    async fn refuse(&self, refusal: &Refusal) {
        debug!("{} is refused: {refusal}", self.peer);
        let Some(answer) = refusal.answer(self.context.server_reference.as_ref()) else {
            return;
        };
        let lingered = self.within(self.context.limits.linger, async {
            self.stream.write_all(answer).await.0?;
            self.stream.shutdown(Shutdown::Write)?;
            drain(&self.stream).await
        });
        if let Some(Err(error)) = lingered.await {
            debug!("{} did not wait for its refusal: {error}", self.peer);
        }
    }

    /// Awaits `work`, but no longer than `patience`.
    ///
    /// The kernel does not let go of an operation that is abandoned, and with it stay the descriptor and the buffer; so the
    /// socket is shut down, which completes whatever is in flight on it.
    async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        match timeout(patience, work).await {
            Ok(done) => Some(done),
            Err(_) => {
                // Fails only if the connection is gone, which completes the operation just as well.
                let _ = self.stream.shutdown(Shutdown::Both);
                None
            }
        }
    }
}

/// Reads until the whole CONNECT is there. The buffer at most doubles with each read, so its size follows the bytes that
/// came and not the length that was declared.
async fn read_connect(stream: &TcpStream, max_connect_bytes: u32) -> Result<Greeting, NoGreeting> {
    let mut bytes = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        let filled = bytes.len();
        let (result, slice) = stream.read(bytes.slice(filled..)).await;
        bytes = slice.into_inner();
        if result? == 0 {
            return Err(NoGreeting::Closed);
        }
        match progress(&bytes, max_connect_bytes) {
            Progress::Complete { total } => {
                return Ok(Greeting { bytes, connect_bytes: total });
            }
            Progress::Foreign(text) => return Err(NoGreeting::Foreign(text)),
            Progress::Incomplete { total } if bytes.len() == bytes.capacity() => {
                let missing = total.map_or(bytes.len(), |total| total - bytes.len());
                bytes.reserve_exact(missing.min(bytes.len()));
            }
            Progress::Incomplete { .. } => {}
        }
    }
}

/// Reads and forgets until the peer has ended its stream, or has sent more than it may.
async fn drain(stream: &TcpStream) -> io::Result<()> {
    let mut drained = 0;
    let mut buffer = Vec::with_capacity(FIRST_READ_BYTES);
    while drained < DRAIN_BYTES_MAX {
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        match result? {
            0 => return Ok(()),
            read => drained += read,
        }
    }
    Ok(())
}

fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
