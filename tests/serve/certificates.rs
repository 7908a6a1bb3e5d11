//! Authorities and certificates for one test, in files of its own; and TLS clients that trust and show them.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::broker::DataDirectory;

/// The names of the server's certificate.
const SERVER: &str = "broker.example";

/// A client's TLS on a socket.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Who signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Certified {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// Files of a test, removed when dropped.
pub(crate) struct Files {
    directory: DataDirectory,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    pub(crate) fn server(&self) -> Certified {
        self.sign(1, "server", vec![SanType::DnsName(SERVER.try_into().expect("a name"))], 4000)
    }

    /// The same with a last day in the past.
    pub(crate) fn expired_server(&self) -> Certified {
        self.sign(1, "server", vec![SanType::DnsName(SERVER.try_into().expect("a name"))], 2001)
    }

    pub(crate) fn client(&self, serial: u64, common_name: &str, mail: Option<&str>) -> Certified {
        let mail = mail.map(|mail| SanType::Rfc822Name(mail.try_into().expect("an address")));
        self.sign(serial, common_name, mail.into_iter().collect(), 4000)
    }

    fn sign(&self, serial: u64, common_name: &str, names: Vec<SanType>, last_year: i32) -> Certified {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").der().clone();
        Certified { certificate, key }
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.issuer.der())
    }

    /// What it has revoked.
    pub(crate) fn revocations(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        pem("X509 CRL", params.signed_by(&self.issuer).expect("a list").der())
    }

    /// TLS on a socket, by a client that trusts this authority; no handshake has been done.
    pub(crate) fn secure(&self, socket: TcpStream, options: &Options<'_>) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(options.versions)
            .expect("versions of the provider")
            .with_root_certificates(roots);
        let mut config = match options.certified {
            None => builder.with_no_client_auth(),
            Some(certified) => builder
                .with_client_auth_cert(vec![certified.certificate.clone()], certified.key_der())
                .expect("a certificate"),
        };
        config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(SERVER).expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), socket)
    }
}

/// What a client does differently.
pub(crate) struct Options<'a> {
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    pub(crate) certified: Option<&'a Certified>,
    pub(crate) alpn: &'a [&'a str],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, certified: None, alpn: &[] }
    }
}

impl Certified {
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl Files {
    pub(crate) fn new() -> Self {
        let directory = DataDirectory::new();
        fs::create_dir(directory.path()).expect("a new directory");
        Self { directory }
    }

    /// Writes a file, and gives the flag that names it.
    pub(crate) fn flag(&self, flag: &str, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        let mut file = fs::File::create(&path).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        format!("{flag}={}", path.display())
    }

    /// Writes the server's files, and gives their flags.
    pub(crate) fn server_flags(&self, certified: &Certified) -> [String; 2] {
        [
            self.flag("--tls-certificate", "server.pem", &certified.pem()),
            self.flag("--tls-key", "server.key", &certified.key_pem()),
        ]
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
