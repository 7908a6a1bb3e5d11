//! Where and with which certificates MQTT over TLS is served, and its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What `oncemq serve` was told about TLS; there is none where TLS is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// Addresses to accept MQTT over TLS on.
    pub listen: Vec<SocketAddr>,
    /// Addresses to accept MQTT over WebSocket over TLS on. One of the two is not empty.
    pub web_socket_listen: Vec<SocketAddr>,
    /// The server's certificate, with those between it and the authority.
    pub certificate: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
    /// What is asked of clients; `None` is no certificate.
    pub clients: Option<ClientCertificates>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
}

/// Which certificates clients have to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificates {
    /// The authorities, one of which has to have signed them.
    pub authorities: PathBuf,
    /// What these authorities have revoked.
    pub revoked: Option<PathBuf>,
    /// The name in them that is the client's user name; `None` leaves user names to CONNECT.
    pub user_name: Option<CertificateName>,
}

/// A name in a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateName {
    /// The common name (CN) of the subject.
    Common,
    /// The first DNS name or e-mail address of the subject's alternative names (SAN).
    Alternative,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Bytes of a file with certificates, at most: revocation lists may be long.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Handshakes whose keys are worked with at the same time; further ones wait.
pub const HANDSHAKE_THREADS: usize = 2;
