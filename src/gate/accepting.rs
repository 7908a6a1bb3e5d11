//! Where clients are accepted, and what they do before their CONNECT there.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tokio_uring::net::UnixStream;
use tracing::warn;

use crate::config::{ProxyRules, WebSocketRules};
use crate::io::{Origin, UnixSocket, stop_listening};

use super::Context;
use super::client::Client;
use super::socket::Socket;

/// Pause after an accept that failed for want of something that only others can give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where clients are accepted.
pub struct Listener {
    /// The socket.
    pub socket: ListeningSocket,
    /// How they come in.
    pub entrance: Entrance,
}

/// What clients connect to.
pub enum ListeningSocket {
    /// An address and a port.
    Tcp(TcpListener),
    /// A name in the file system of this machine.
    Unix(UnixSocket),
}

/// What a client does before its CONNECT.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// It comes through a proxy, by these rules, which says who it is.
    pub proxy: Option<Arc<ProxyRules>>,
    /// It does the handshake of TLS.
    pub is_tls: bool,
    /// It asks for a WebSocket, by these rules.
    pub web_socket: Option<Arc<WebSocketRules>>,
}

/// A listener in the gate's runtime.
pub(super) struct Accepting {
    socket: AcceptingSocket,
    entrance: Entrance,
    is_local: bool,
}

enum AcceptingSocket {
    Tcp(tokio_uring::net::TcpListener),
    /// tokio-uring does not take over a Unix socket that somebody else has made; its runtime stands on tokio's, which does.
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// The address as clients name it, with the port that the kernel chose where none was given; none if the kernel does not
    /// say.
    pub(super) fn address(&self) -> Option<String> {
        let address = match &self.socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().ok()?,
            ListeningSocket::Unix(socket) => return Some(format!("unix:{}", socket.path().display())),
        };
        let Entrance { proxy: _, is_tls, web_socket } = &self.entrance;
        Some(match (is_tls, web_socket) {
            (false, None) => address.to_string(),
            (false, Some(rules)) => format!("ws://{address}{}", rules.path),
            (true, None) => format!("mqtts://{address}"),
            (true, Some(rules)) => format!("wss://{address}{}", rules.path),
        })
    }

    /// Refuses clients from here on and wakes who waits in an accept.
    pub(super) fn stop(&self) {
        match &self.socket {
            ListeningSocket::Tcp(listener) => stop_listening(listener),
            ListeningSocket::Unix(socket) => {
                socket.remove_file();
                stop_listening(socket.listener());
            }
        }
    }
}

impl ListeningSocket {
    /// Whether only this machine can connect to it.
    fn is_local(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.ip().to_canonical().is_loopback()),
            Self::Unix(_) => Ok(true),
        }
    }
}

impl From<TcpListener> for ListeningSocket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixSocket> for ListeningSocket {
    fn from(socket: UnixSocket) -> Self {
        Self::Unix(socket)
    }
}

impl Accepting {
    /// Has to be called in the runtime.
    pub(super) fn new(listener: &Listener) -> io::Result<Self> {
        let socket = match &listener.socket {
            ListeningSocket::Tcp(listener) => {
                AcceptingSocket::Tcp(tokio_uring::net::TcpListener::from_std(listener.try_clone()?))
            }
            ListeningSocket::Unix(socket) => {
                let listener = socket.listener().try_clone()?;
                listener.set_nonblocking(true)?;
                AcceptingSocket::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
        };
        Ok(Self { socket, entrance: listener.entrance.clone(), is_local: listener.socket.is_local()? })
    }

    /// Accepts clients until the gate stops.
    pub(super) async fn accept_all(self, stopping: Arc<AtomicBool>, context: Rc<Context>) {
        let Self { socket, entrance, is_local } = self;
        loop {
            let Ok(slot) = Arc::clone(&context.half_open).acquire_owned().await else {
                return;
            };
            match socket.accept().await {
                Ok((stream, origin)) => {
                    context.counters.accepted.add_one();
                    let client = Client::new(stream, origin, is_local, entrance.clone(), Rc::clone(&context));
                    tokio_uring::spawn(async move {
                        client.welcome().await;
                        drop(slot);
                    });
                    context.keep_pace().await;
                }
                Err(_) if stopping.load(Ordering::Acquire) => return, // pairs with the release in `Gate::stop`
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {} // gone before we came
                Err(error) => {
                    context.counters.accepts_failed.add_one();
                    if let Some(times) = context.accept_failures.permit() {
                        warn!(
                            "clients cannot be accepted ({times} times): {error}; if files run out, raise the open-file \
                             limit or lower --max-connections"
                        );
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl AcceptingSocket {
    async fn accept(&self) -> io::Result<(Socket, Origin)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Origin::Address(address)))
            }
            Self::Unix(listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                // The ring waits by itself for what is not there yet.
                stream.set_nonblocking(false)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)), Origin::UnixSocket))
            }
        }
    }
}

impl Context {
    /// Waits until the next client may be accepted: who comes faster waits in the backlog, and nobody is refused for it.
    async fn keep_pace(&self) {
        let Some(pace) = &self.pace else { return };
        let pause = pace.borrow_mut().take(self.clock.now());
        if pause.is_zero() {
            return;
        }
        self.counters.accepts_paused.add_one();
        if let Some(times) = self.accept_pauses.permit() {
            warn!("clients come faster than --max-connect-rate; those beyond it wait to be accepted ({times} times)");
        }
        sleep(pause).await;
    }
}
