//! How clients reach a broker: its address, and the transport that is spoken there.
//!
//! Each client does a whole handshake of TLS, as a device of a fleet does: a session of TLS is resumed only by the client that
//! had it, and only where clients come back (`chaos`), by [`Route::with_tickets`].

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde::Serialize;
use thiserror::Error;

use super::web_socket::Place;
use super::{Tls, Transport, WebSocket, Wrapping};
use crate::cli::{Endpoint, TlsLayer, TransportKind};
use crate::connection::Fault;

/// Sessions that a client remembers; rustls rounds it up to those of one server.
const SESSIONS_OF_CLIENT: usize = 1;

/// How a broker is reached.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) address: SocketAddr,
    kind: TransportKind,
    tls: Option<Security>,
    web_socket: Option<Arc<Place>>,
}

#[derive(Clone, Debug)]
struct Security {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    /// What the first handshake has agreed upon.
    agreement: Arc<OnceLock<String>>,
}

/// Why there is no way to a broker.
#[derive(Debug, Error)]
pub(crate) enum RouteError {
    #[error("cannot resolve {host}:{port} given by {flags}: {reason}")]
    Unresolved { flags: &'static str, host: String, port: u16, reason: String },
    #[error("cannot read {flag} {}: {source}", path.display())]
    Unreadable { flag: &'static str, path: PathBuf, source: io::Error },
    #[error("{flag} {}: {reason}", path.display())]
    Unfit { flag: &'static str, path: PathBuf, reason: String },
    #[error("--tls-server-name is missing: {host} can't be the name in a certificate")]
    NoServerName { host: String },
}

/// What a report says of the transport.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TransportReport {
    transport: &'static str,
    /// Version and cipher suite; absent without TLS.
    tls: Option<String>,
}

impl Route {
    /// The way to an endpoint that these flags name.
    pub(crate) fn new(endpoint: &Endpoint, flags: &'static str) -> Result<Self, RouteError> {
        let Endpoint { host, port, kind, layers } = endpoint;
        let tls = layers.tls.as_ref().map(|tls| Security::new(tls, host)).transpose()?;
        let web_socket = layers.web_socket_path.as_ref().map(|path| {
            let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            Arc::new(Place { authority, path: path.clone() })
        });
        Ok(Self { address: resolve(host, *port, flags)?, kind: *kind, tls, web_socket })
    }

    /// The same for one client that comes back: it resumes the sessions of TLS that it had.
    pub(crate) fn with_tickets(mut self) -> Self {
        if let Some(security) = &mut self.tls {
            let mut config = ClientConfig::clone(&security.config);
            config.resumption = Resumption::in_memory_sessions(SESSIONS_OF_CLIENT);
            security.config = Arc::new(config);
        }
        self
    }

    /// The transport of a new connection, before its handshake.
    pub(crate) fn transport(&self) -> Result<Transport, Fault> {
        let Self { address: _, kind: _, tls, web_socket } = self;
        let tls = match tls {
            None => None,
            Some(Security { config, server_name, agreement: _ }) => {
                Some(Tls::new(ClientConnection::new(Arc::clone(config), server_name.clone())?))
            }
        };
        let web_socket = web_socket.as_ref().map(|place| WebSocket::new(place));
        match (&tls, &web_socket) {
            (None, None) => Ok(Transport::Plain),
            (Some(_), _) | (_, Some(_)) => Ok(Transport::Wrapped(Box::new(Wrapping::new(tls, web_socket)))),
        }
    }

    /// Remembers for the report what a handshake has agreed upon.
    pub(crate) fn note_agreement(&self, wrapping: &Wrapping) {
        if let (Some(security), Some(tls)) = (&self.tls, &wrapping.tls)
            && security.agreement.get().is_none()
            && let Some(agreement) = tls.agreement()
        {
            security.agreement.get_or_init(|| agreement);
        }
    }

    pub(crate) fn report(&self) -> TransportReport {
        let tls = self.tls.as_ref().and_then(|security| security.agreement.get().cloned());
        TransportReport { transport: self.kind.name(), tls }
    }
}

impl Security {
    fn new(layer: &TlsLayer, host: &str) -> Result<Self, RouteError> {
        let TlsLayer { authorities, identity, server_name } = layer;
        let server_name = match server_name {
            Some(name) => name.clone(),
            None => {
                ServerName::try_from(host.to_owned()).map_err(|_| RouteError::NoServerName { host: host.to_owned() })?
            }
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("--tls-ca", authorities)? {
            roots.add(root).map_err(|error| RouteError::unfit("--tls-ca", authorities, &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows both versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("--tls-certificate", certificate)?;
                let text = read("--tls-key", key)?;
                let unfit = |error: pem::Error| RouteError::unfit("--tls-key", key, &error);
                let private = PrivateKeyDer::from_pem_slice(&text).map_err(unfit)?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| RouteError::unfit("--tls-certificate", certificate, &error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name, agreement: Arc::default() })
    }
}

impl RouteError {
    fn unfit(flag: &'static str, path: &Path, reason: &impl fmt::Display) -> Self {
        Self::Unfit { flag, path: path.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for TransportReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.transport)?;
        match &self.tls {
            None => Ok(()),
            Some(tls) => write!(formatter, " ({tls})"),
        }
    }
}

/// All certificates in a file, one at least.
fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RouteError> {
    let text = read(flag, path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(RouteError::unfit(flag, path, &"there is no certificate in it (PEM)")),
        Ok(found) => Ok(found),
        Err(error) => Err(RouteError::unfit(flag, path, &error)),
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, RouteError> {
    fs::read(path).map_err(|source| RouteError::Unreadable { flag, path: path.to_owned(), source })
}

fn resolve(host: &str, port: u16, flags: &'static str) -> Result<SocketAddr, RouteError> {
    let unresolved = |reason: String| RouteError::Unresolved { flags, host: host.to_owned(), port, reason };
    (host, port)
        .to_socket_addrs()
        .map_err(|error| unresolved(error.to_string()))?
        .next()
        .ok_or_else(|| unresolved("no address".to_owned()))
}
