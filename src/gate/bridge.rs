//! The way out: opens the connection of a bridge, hands it to the shard that owns the bridge's session, and opens it again
//! when it has ended.
//!
//! Whatever keeps a remote from being reached is a reason to wait and try again, for as long as the broker runs. What is said to
//! the remote and what its answer means is [`Opening`]'s affair.

use std::io;
use std::net::{Shutdown, TcpStream as BlockingStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;
use tracing::{info, warn};

use crate::bridge::{Backoff, Bridge, Dialect, Opening, Progress, Refusal};
use crate::config::BRIDGE_OPENING_TIMEOUT;
use crate::io::{Arrival, ConnectionEnded, ConnectionPermit, Doors, Peer, take_descriptor};
use crate::shard::{OpenedBridge, shard_of};
use crate::transport::Transport;

use super::throttle::Throttle;

/// A CONNACK fits, but for long reason strings.
const FIRST_READ_BYTES: usize = 256;

/// DISCONNECT, as 3.1.1 writes it.
const DISCONNECT: &[u8] = &[0xE0, 0];

/// A bridge, and what it needs to be opened.
pub(super) struct Route {
    pub(super) bridge: Arc<Bridge>,
    /// What a 5.0 remote may have unacknowledged.
    pub(super) receive_maximum: u16,
    /// The largest packet that is accepted.
    pub(super) max_packet_bytes: u32,
    pub(super) doors: Doors,
    pub(super) stopping: Arc<AtomicBool>,
}

/// Why a bridge is not open.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Unreachable(io::Error),
    #[error("it does not answer CONNECT")]
    Silent,
    #[error("it closes the connection before its CONNACK is complete")]
    Ended,
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the broker stops")]
    Stopping,
}

impl Route {
    /// Keeps the bridge open until the broker stops.
    pub(super) async fn keep_open(self) {
        let mut backoff = Backoff::default();
        let (opened, ended, closed) = (Throttle::default(), Throttle::default(), Throttle::default());
        let Bridge { name, host, port, .. } = &*self.bridge;
        while !self.stopping.load(Ordering::Acquire) {
            // pairs with the release in `Gate::stop`
            match self.open().await {
                Ok(end) => {
                    backoff.reset();
                    if let Some(times) = opened.permit() {
                        info!("bridge {name}: connected to {host}:{port} ({times} times)");
                    }
                    // It is never sent to, only dropped.
                    let Err(_) = end.await;
                    if let Some(times) = ended.permit() {
                        warn!("bridge {name}: the connection to {host}:{port} has ended ({times} times)");
                    }
                }
                Err(Closed::Stopping) => return,
                Err(why) => {
                    if let Some(times) = closed.permit() {
                        warn!("bridge {name}: {host}:{port} is not connected ({times} times): {why}");
                    }
                }
            }
            // Without random numbers it waits as long as it may.
            sleep(backoff.next(getrandom::u64().unwrap_or(u64::MAX))).await;
        }
    }

    /// Opens the connection and hands it over; resolves to what tells its end.
    async fn open(&self) -> Result<ConnectionEnded, Closed> {
        let shard = shard_of(&self.bridge.session_id(), self.doors.shards());
        let is_shared = self.doors.is_bridge_shared(shard, &self.bridge).await.map_err(|_| Closed::Stopping)?;
        let mut opening = Opening::new(Dialect::first(self.bridge.version), is_shared);
        // Each way to go on is taken once at most.
        loop {
            let stream = reach(&self.bridge).await?;
            let (mut received, progress) = match timeout(BRIDGE_OPENING_TIMEOUT, self.greet(&stream, &opening)).await {
                Ok(greeted) => greeted?,
                Err(_) => {
                    // The kernel lets go of what is in flight.
                    let _ = stream.shutdown(Shutdown::Both);
                    return Err(Closed::Silent);
                }
            };
            match progress {
                Progress::Opened { total } => {
                    let early_bytes = received.split_off(total);
                    let (permit, ended) = ConnectionPermit::of_bridge();
                    let opened = OpenedBridge {
                        bridge: Arc::clone(&self.bridge),
                        version: opening.dialect().version(),
                        connack_frame: received,
                        early_bytes,
                        transport: Transport::Plain,
                    };
                    // The runtime keeps its own descriptor, on which no operation is in flight.
                    let socket = take_descriptor(&stream)?;
                    self.doors.admit(shard, Arrival { socket, peer: Peer::Remote(opened), permit });
                    return Ok(ended);
                }
                Progress::Cleared(next) => {
                    stream.write_all(DISCONNECT).await.0?;
                    opening = next;
                }
                Progress::Refused(refusal) => match opening.dialect().fallback(&refusal) {
                    Some(dialect) => opening = Opening::new(dialect, is_shared),
                    None => return Err(Closed::Refused(refusal)),
                },
                Progress::Incomplete => unreachable!("greeting goes on until there is more to say"),
            }
        }
    }

    /// Sends CONNECT and reads until it is clear what to do. The buffer at most doubles with each read.
    async fn greet(&self, stream: &TcpStream, opening: &Opening) -> Result<(Bytes, Progress), Closed> {
        let connect = opening.connect_frame(&self.bridge, self.receive_maximum, self.max_packet_bytes);
        stream.write_all(connect).await.0?;
        let mut bytes = Vec::with_capacity(FIRST_READ_BYTES);
        loop {
            if bytes.len() == bytes.capacity() {
                bytes.reserve_exact(bytes.len());
            }
            let filled = bytes.len();
            let (result, slice) = stream.read(bytes.slice(filled..)).await;
            bytes = slice.into_inner();
            if result? == 0 {
                return Err(Closed::Ended);
            }
            match opening.progress(&self.bridge, &bytes) {
                Progress::Incomplete => {}
                progress @ (Progress::Opened { .. } | Progress::Cleared(_) | Progress::Refused(_)) => {
                    return Ok((Bytes::from(bytes), progress));
                }
            }
        }
    }
}

/// Connects to the remote, on a thread where finding its address may block. How long that may take is the resolver's
/// affair, so at most one thread waits for each bridge.
async fn reach(bridge: &Arc<Bridge>) -> Result<TcpStream, Closed> {
    let bridge = Arc::clone(bridge);
    let reached = spawn_blocking(move || {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in (&*bridge.host, bridge.port).to_socket_addrs()? {
            match BlockingStream::connect_timeout(&address, BRIDGE_OPENING_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    });
    let stream = reached.await.map_err(|_| Closed::Stopping)?.map_err(Closed::Unreachable)?;
    Ok(TcpStream::from_std(stream))
}
