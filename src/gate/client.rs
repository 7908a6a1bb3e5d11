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
use super::identifying::{Attempt, Identified};

/// A CONNECT with a client id, a user name and a password of ordinary length fits, and with it what is sent right behind.
const FIRST_READ_BYTES: usize = 512;

/// A client that was refused may send this much more before it is cut off.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// A client that has been accepted and not yet been handed over.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) context: Rc<Context>,
}

/// A client that may come in.
struct Entrant {
    connect_frame: Bytes,
    /// What came behind CONNECT, or behind the last packet of an exchange.
    early_bytes: Bytes,
    welcome: Welcome,
    identified: Identified,
    permit: ConnectionPermit,
}

/// Why a client is not admitted.
pub(super) enum Dismissal {
    /// There is no packet, and no answer.
    Silent(NoPacket),
    /// It has said that it goes.
    Gone,
    /// It is told why.
    Refused(Refusal),
    /// It has not shown who it is, and is told so when its time has come.
    Failed(Refusal, Attempt),
}

/// Why there is no whole packet.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPacket {
    #[error("it closed the connection before its packet was complete")]
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
        let peer = self.peer;
        match self.within(self.context.limits.connect_timeout, self.hear()).await {
            Some(Ok(entrant)) => {
                if let Err(error) = self.admit(entrant) {
                    debug!("{peer} could not be handed over: {error}");
                }
            }
            Some(Err(Dismissal::Refused(refusal))) => self.refuse(&refusal).await,
            Some(Err(Dismissal::Failed(refusal, attempt))) => {
                attempt.hold_back().await;
                self.refuse(&refusal).await;
            }
            Some(Err(Dismissal::Silent(error))) => debug!("{peer} is not admitted: {error}"),
            Some(Err(Dismissal::Gone)) => debug!("{peer} is not admitted: it has disconnected"),
            None => debug!("{peer} is not admitted: what it has to say did not come in time"),
        }
    }

    /// Reads what the client has to say before it comes in.
    async fn hear(&self) -> Result<Entrant, Dismissal> {
        let max_connect_bytes = self.context.limits.max_connect_bytes;
        let first = Vec::with_capacity(FIRST_READ_BYTES);
        let (mut bytes, total) = read_packet(&self.stream, first, |bytes| progress(bytes, max_connect_bytes)).await?;
        let mut welcome = judge(&bytes[..total], random)?;
        let mut early = bytes.split_off(total);
        let identified = self.identify(&mut welcome, &mut early).await?;
        let permit = self.permit(&welcome)?;
        Ok(Entrant { connect_frame: Bytes::from(bytes), early_bytes: Bytes::from(early), welcome, identified, permit })
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
    fn admit(self, entrant: Entrant) -> io::Result<()> {
        let Entrant { connect_frame, early_bytes, welcome, identified, permit } = entrant;
        self.stream.set_nodelay(true)?;
        let socket = take_descriptor(&self.stream)?;
        let doors = &self.context.doors;
        let shard = shard_of(&welcome.client_id, doors.shards());
        let admission = Admission {
            connect_frame,
            client_id: welcome.client_id,
            client_id_assigned: welcome.client_id_assigned,
            identity: identified.identity,
            authentication_data: identified.authentication_data,
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

impl From<Refusal> for Dismissal {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoPacket> for Dismissal {
    fn from(error: NoPacket) -> Self {
        Self::Silent(error)
    }
}

impl From<io::Error> for Dismissal {
    fn from(error: io::Error) -> Self {
        Self::Silent(error.into())
    }
}

/// Reads on behind `bytes` until a whole packet is there; all that came, and the length of the packet. The buffer at most
/// doubles with each read, so its size follows the bytes that came and not the length that was declared.
pub(super) async fn read_packet(
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

pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
