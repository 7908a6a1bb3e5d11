//! The client's end of TLS, by rustls, too, and the server's for it: in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::Tls;

/// Nobody waits in memory; a rustls that does not come to an end is wrong.
const FLIGHTS_MAX: usize = 10;

/// Both ends before the handshake.
pub(crate) fn ends(version: &'static SupportedProtocolVersion) -> (ClientConnection, Tls) {
    let certified = rcgen::generate_simple_self_signed(["broker.example".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version of the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version of the provider")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("its key");
    server.ticketer = rustls::crypto::ring::Ticketer::new().expect("random bytes");
    let name = ServerName::try_from("broker.example").expect("a name");
    let client = ClientConnection::new(Arc::new(client), name).expect("a client");
    (client, Tls::new(ServerConnection::new(Arc::new(server)).expect("a server")))
}

/// Both ends behind the handshake.
pub(crate) fn connected(version: &'static SupportedProtocolVersion) -> (ClientConnection, Tls) {
    let (mut client, mut tls) = ends(version);
    for _ in 0..FLIGHTS_MAX {
        let mut nothing = Vec::new();
        assert_eq!(tls.open(&sent_by(&mut client), &mut nothing), Ok(()));
        assert!(nothing.is_empty());
        take(&mut client, &tls.records(&[], false)).expect("good records");
        if !tls.is_handshaking() && !client.wants_write() {
            assert!(!client.is_handshaking() && !tls.has_records(false), "all has been said");
            return (client, tls);
        }
    }
    panic!("the handshake has no end");
}

/// What a client has to send.
pub(crate) fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut records = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut records).expect("a vector");
    }
    records
}

/// The records for something that a client says.
pub(crate) fn said_by(client: &mut ClientConnection, content: &[u8]) -> Vec<u8> {
    client.set_buffer_limit(None);
    client.writer().write_all(content).expect("no limit");
    sent_by(client)
}

/// What a client finds in records.
pub(crate) fn take(client: &mut ClientConnection, mut records: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut content = Vec::new();
    while !records.is_empty() {
        if client.read_tls(&mut records).expect("room") == 0 {
            break;
        }
        client.process_new_packets()?;
        // It ends with what there is.
        let _ = client.reader().read_to_end(&mut content);
    }
    Ok(content)
}
