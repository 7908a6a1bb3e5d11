//! The certificates of TLS: read from the operator's files, checked as far as that is possible before a client comes, and put
//! into the form in which handshakes need them.
//!
//! All files are read at the start and again on SIGHUP. What is read is used as a whole or not at all: a file with an error changes
//! nothing. Tickets that were given out before are not taken afterwards, so that nobody resumes past an authority or a
//! revocation that has changed since; that costs each client one whole handshake.
//!
//! Tickets, which are good for half a day at most, are sealed by a key that only this process has. There is no early data: a
//! message that came in it could be repeated by whoever has seen it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::config::{CERTIFICATE_FILE_BYTES_MAX, CertificateName, ClientCertificates, TlsSettings, TlsVersion};
use crate::error::TlsError;

/// What a handshake needs.
#[derive(Debug)]
pub struct Credentials {
    /// For MQTT in TLS.
    mqtt: Arc<ServerConfig>,
    /// For MQTT in a WebSocket in TLS.
    http: Arc<ServerConfig>,
    /// The name in a client's certificate that is its user name.
    user_name: Option<CertificateName>,
    /// When the server's certificate is valid.
    validity: Option<(ASN1Time, ASN1Time)>,
}

const CERTIFICATE: &str = "--tls-certificate";
const KEY: &str = "--tls-key";
const CLIENT_CA: &str = "--tls-client-ca";
const CRL: &str = "--tls-crl";

/// Reads all files that the settings name.
///
/// # Errors
/// If one of them can't be read, or has not in it what it should.
pub fn read_credentials(settings: &TlsSettings) -> Result<Credentials, TlsError> {
    let TlsSettings { certificate, key, clients, min_version, .. } = settings;
    let chain: Vec<CertificateDer<'static>> = read_all(CERTIFICATE, certificate, "certificate")?;
    let validity = X509Certificate::from_der(&chain[0]).ok().map(|(_, certificate)| {
        let validity = certificate.validity();
        (validity.not_before, validity.not_after)
    });
    let private_key = read_key(key)?;
    let versions: &[_] = match min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("both are known to the provider");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(client_verifier(clients)?),
    };
    let mut mqtt = builder.with_single_cert(chain, private_key).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::unfit(KEY, key, format!("the key is not that of {CERTIFICATE} {}", certificate.display()))
        }
        Error::InvalidCertificate(reason) => TlsError::unfit(CERTIFICATE, certificate, format!("{reason:?}")),
        other => TlsError::unfit(KEY, key, other.to_string()),
    })?;
    mqtt.session_storage = Arc::new(NoServerSessionStorage {});
    mqtt.ticketer = ring::Ticketer::new().map_err(|_| TlsError::Random)?;
    let mut http = mqtt.clone();
    mqtt.alpn_protocols = vec![b"mqtt".to_vec()];
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    let user_name = clients.as_ref().and_then(|clients| clients.user_name);
    Ok(Credentials { mqtt: Arc::new(mqtt), http: Arc::new(http), user_name, validity })
}

impl Credentials {
    /// For a handshake below a WebSocket, or below MQTT itself.
    pub(super) fn config(&self, is_web_socket: bool) -> Arc<ServerConfig> {
        Arc::clone(if is_web_socket { &self.http } else { &self.mqtt })
    }

    /// The name in a client's certificate that is its user name.
    pub(super) fn user_name(&self) -> Option<CertificateName> {
        self.user_name
    }

    /// What clients will find wrong with the server's certificate, if they look at their clocks now.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let (from, until) = self.validity?;
        let now = ASN1Time::now();
        if now > until {
            Some(format!("it has expired on {until}"))
        } else if now < from {
            Some(format!("it is not valid before {from}"))
        } else {
            None
        }
    }

    /// When the server's certificate expires, in words.
    #[must_use]
    pub fn expiry(&self) -> String {
        self.validity.map_or_else(|| "an unknown day".to_owned(), |(_, until)| until.to_string())
    }
}

fn client_verifier(clients: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let ClientCertificates { authorities, revoked, user_name: _ } = clients;
    let mut roots = RootCertStore::empty();
    for root in read_all(CLIENT_CA, authorities, "certificate")? {
        roots.add(root).map_err(|error| TlsError::unfit(CLIENT_CA, authorities, error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    if let Some(revoked) = revoked {
        let lists: Vec<CertificateRevocationListDer<'static>> = read_all(CRL, revoked, "revocation list")?;
        // As mosquitto has it: of the authorities between, nothing is asked.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    builder.build().map_err(|error| match (error, revoked) {
        (VerifierBuilderError::InvalidCrl(error), Some(revoked)) => TlsError::unfit(CRL, revoked, format!("{error:?}")),
        (error, _) => TlsError::unfit(CLIENT_CA, authorities, error.to_string()),
    })
}

/// All objects of one kind in a file, one at least.
fn read_all<T: PemObject>(flag: &'static str, path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let text = read(flag, path)?;
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| TlsError::unfit(flag, path, error.to_string()))?;
    if found.is_empty() {
        return Err(TlsError::unfit(flag, path, format!("there is no {what} in it (PEM)")));
    }
    Ok(found)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED);
        let reason = match error {
            _ if is_encrypted => {
                "the key in it is encrypted, and nobody is there to ask for the password: decrypt it (openssl pkey), \
                 and keep the file to the broker's user"
                    .to_owned()
            }
            pem::Error::NoItemsFound => "there is no private key in it (PEM)".to_owned(),
            other => other.to_string(),
        };
        TlsError::unfit(KEY, path, reason)
    })
}

/// In the first line of a key that is encrypted (PKCS 8), or in the second one (older forms).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    let result = File::open(path).and_then(|file| file.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut text));
    let result = result.and_then(|_| {
        let is_too_large = text.len() as u64 > CERTIFICATE_FILE_BYTES_MAX;
        if is_too_large { Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 64 MiB")) } else { Ok(text) }
    });
    result.map_err(|source| TlsError::Unreadable { flag, path: path.to_owned(), source })
}
