//! One client between accept and hand-over.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::io::{AddressPlace, Arrival, ConnectionPermit, Origin, Peer, take_descriptor};
use crate::proto::ReasonCode;
use crate::shard::{Admission, shard_of};
use crate::transport::{Close, Transport};

use super::greeting::{Refusal, Welcome, judge, progress};
use super::identifying::{Attempt, Certified, Identified};
use super::packets::{FIRST_READ_BYTES, Packets};
use super::proxy_header::ClientTls;
use super::socket::Socket;
use super::{Context, Entrance};

/// A client that was refused may send this much more before it is cut off.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// A client that has been accepted and not yet been handed over.
pub(super) struct Client {
    stream: Socket,
    /// Where it comes from: its connection's other end, until a proxy there has said more.
    pub(super) origin: Cell<Origin>,
    /// Whether only this machine can connect to its listener.
    pub(super) is_local: bool,
    pub(super) entrance: Entrance,
    pub(super) context: Rc<Context>,
}

/// What is known of a client before it is heard.
pub(super) struct Arrived {
    /// Whether it comes from this machine.
    pub(super) is_local: bool,
    /// What a proxy knows from its handshake of TLS.
    pub(super) tls: Option<ClientTls>,
    /// Its place among the connections of its address.
    pub(super) place: Option<AddressPlace>,
}

/// A client that may come in.
struct Entrant {
    connect_frame: Bytes,
    welcome: Welcome,
    identified: Identified,
    permit: ConnectionPermit,
}

/// Why a client is not admitted.
pub(super) enum Dismissal {
    /// There is no packet, and so no answer with one.
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
    /// Below the packets there is an answer to what came.
    #[error("{text}")]
    Answered { text: &'static str, answer: Vec<u8> },
    /// What came is not of a TLS connection, or not of this one; the alert, if there is one, says what is wrong with it.
    #[error("TLS: {error}")]
    Tls { error: rustls::Error, alert: Vec<u8> },
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Client {
    pub(super) fn new(
        stream: Socket,
        origin: Origin,
        is_local: bool,
        entrance: Entrance,
        context: Rc<Context>,
    ) -> Self {
        Self { stream, origin: Cell::new(origin), is_local, entrance, context }
    }

    /// Hears the client out, and admits or refuses it.
    pub(super) async fn welcome(self) {
        let mut packets = Packets::new(&self.stream);
        let heard = self.within(self.context.limits.connect_timeout, self.hear(&mut packets)).await;
        let origin = self.origin.get();
        match heard {
            Some(Ok(entrant)) => {
                let (early_bytes, transport) = packets.into_rest();
                let context = Rc::clone(&self.context);
                match self.admit(entrant, early_bytes, transport) {
                    Ok(()) => context.counters.admitted.add_one(),
                    Err(error) => {
                        debug!("{origin} could not be handed over: {error}");
                        context.counters.broken_off.add_one();
                    }
                }
            }
            Some(Err(Dismissal::Refused(refusal))) => self.refuse(&refusal, &mut packets).await,
            Some(Err(Dismissal::Failed(refusal, attempt))) => {
                attempt.hold_back().await;
                self.refuse(&refusal, &mut packets).await;
            }
            Some(Err(Dismissal::Silent(error))) => {
                debug!("{origin} is not admitted: {error}");
                let last_words = match error {
                    NoPacket::Answered { answer, .. } => packets.last_bytes(answer),
                    NoPacket::Tls { alert, .. } => alert,
                    NoPacket::Closed | NoPacket::Foreign(_) | NoPacket::Failed(_) => packets.last_bytes(Vec::new()),
                };
                if !last_words.is_empty() {
                    self.say_last(last_words).await;
                }
                self.context.counters.broken_off.add_one();
            }
            Some(Err(Dismissal::Gone)) => {
                debug!("{origin} is not admitted: it has disconnected");
                self.context.counters.broken_off.add_one();
            }
            None => {
                debug!("{origin} is not admitted: what it has to say did not come in time");
                self.context.counters.timed_out.add_one();
            }
        }
    }

    /// Reads what the client has to say before it comes in.
    async fn hear(&self, packets: &mut Packets<'_>) -> Result<Entrant, Dismissal> {
        let Arrived { is_local, tls, place } = self.arrive(packets).await?;
        let web_socket = self.entrance.web_socket.as_deref();
        let mut certified = Certified::NotAsked;
        if self.entrance.is_tls {
            let credentials = self.context.credentials();
            packets.secure(&credentials, web_socket.is_some(), &self.context).await?;
            if let Some(which) = credentials.user_name() {
                certified = Certified::As(packets.certified_user_name(which));
            }
        }
        if let Some(rules) = web_socket {
            packets.upgrade(rules).await?;
        }
        let max_connect_bytes = self.context.limits.max_connect_bytes;
        let connect_frame = packets.read(|bytes| progress(bytes, max_connect_bytes)).await?;
        let mut welcome = judge(&connect_frame, random)?;
        let certified = self.certified(tls, certified);
        let identified = self.identify(&mut welcome, certified, is_local, packets).await?;
        self.check_client_id(&welcome, &identified)?;
        let permit = self.permit(&welcome, place)?;
        Ok(Entrant { connect_frame: Bytes::from(connect_frame), welcome, identified, permit })
    }

    fn permit(&self, welcome: &Welcome, mut place: Option<AddressPlace>) -> Result<ConnectionPermit, Refusal> {
        if place.as_mut().is_some_and(|place| !place.admit()) {
            self.tell_address_is_full();
            let text = "as many clients are connected from the same address as may be";
            return Err(welcome.refusal(ReasonCode::QuotaExceeded, text));
        }
        let permits = &self.context.permits;
        let permit = permits.take().ok_or_else(|| {
            self.context.counters.refused_full.add_one();
            if let Some(times) = self.context.full.permit() {
                warn!(
                    "clients are refused ({times} times): the broker holds {}; raise --max-connections",
                    permits.max()
                );
            }
            welcome.turned_away()
        })?;
        Ok(permit.with(self.address_by_proxy(), place))
    }

    /// The address that its connection does not tell.
    fn address_by_proxy(&self) -> Option<SocketAddr> {
        match self.origin.get() {
            Origin::Address(address) if self.entrance.proxy.is_some() => Some(address),
            Origin::Address(_) | Origin::UnixSocket => None,
        }
    }

    /// Hands the client to its shard. The runtime keeps its own descriptor, so the shard gets a duplicate, and this one is
    /// closed when `self` ends; no operation is in flight on it.
    fn admit(self, entrant: Entrant, early_bytes: Bytes, transport: Transport) -> io::Result<()> {
        let Entrant { connect_frame, welcome, identified, permit } = entrant;
        self.stream.set_nodelay()?;
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
            transport,
        };
        doors.admit(shard, Arrival { socket, peer: Peer::Client(admission), permit });
        Ok(())
    }

    /// Says why, if there is a way to.
    async fn refuse(&self, refusal: &Refusal, packets: &mut Packets<'_>) {
        debug!("{} is refused: {refusal}", self.origin.get());
        let connack = refusal.answer(self.context.server_reference.as_ref()).unwrap_or_default();
        let answer = packets.last_words(connack, Close::policy(refusal.text()));
        if !answer.is_empty() {
            self.say_last(answer).await;
        }
        self.context.counters.refused.add_one();
    }

    /// Answers and gives the client time to read it: closing at once could reset the connection while the answer is on its way.
    async fn say_last(&self, answer: Vec<u8>) {
        let lingered = self.within(self.context.limits.linger, async {
            self.stream.write_all(answer).await.0?;
            self.stream.shutdown(Shutdown::Write)?;
            drain(&self.stream).await
        });
        if let Some(Err(error)) = lingered.await {
            debug!("{} did not wait for its refusal: {error}", self.origin.get());
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

/// Reads and forgets until the peer has ended its stream, or has sent more than it may.
async fn drain(stream: &Socket) -> io::Result<()> {
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
