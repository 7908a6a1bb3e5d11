//! Transports against a server in memory: rustls's own end of TLS, and the broker's end of a WebSocket behind an answer that is
//! written by hand.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oncemq::transport::{Ended, WebSocket as ServerWebSocket};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tungstenite::handshake::derive_accept_key;

use super::*;
use crate::cli::{Endpoint, Layers, TlsLayer, TransportKind};

/// Nobody waits in memory; a handshake that does not come to an end is wrong.
const FLIGHTS_MAX: usize = 10;

/// A certificate for a name, which is its own authority, and the file that says so.
struct Certified {
    config: Arc<ServerConfig>,
    authorities: PathBuf,
}

impl Certified {
    fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let authorities = std::env::temp_dir().join(format!("oncemq-loadgen-test-{}-{number}.pem", std::process::id()));
        fs::write(&authorities, pem(certified.cert.der())).expect("a file");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("both versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("its key");
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("random bytes");
        Self { config: Arc::new(config), authorities }
    }

    fn route(&self, kind: TransportKind) -> Route {
        let (is_tls, is_web_socket) = match kind {
            TransportKind::Tcp => (false, false),
            TransportKind::Tls => (true, false),
            TransportKind::Ws => (false, true),
            TransportKind::Wss => (true, true),
        };
        let tls = is_tls.then(|| TlsLayer {
            authorities: self.authorities.clone(),
            identity: None,
            server_name: Some("broker.example".try_into().expect("a name")),
        });
        let layers = Layers { tls, web_socket_path: is_web_socket.then(|| "/mqtt".into()) };
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1, kind, layers };
        Route::new(&endpoint, "--port").expect("a route")
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        // It is in a directory for what nobody needs.
        let _gone = fs::remove_file(&self.authorities);
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The server's end of all layers.
struct Server {
    tls: Option<ServerConnection>,
    web_socket: Option<ServerWebSocket>,
    /// What came of a request for a WebSocket.
    request: Vec<u8>,
    is_upgraded: bool,
    packets: Vec<u8>,
}

impl Server {
    fn new(certified: &Certified, kind: TransportKind) -> Self {
        let (tls, web_socket) = match kind {
            TransportKind::Tcp => (false, false),
            TransportKind::Tls => (true, false),
            TransportKind::Ws => (false, true),
            TransportKind::Wss => (true, true),
        };
        Self {
            tls: tls.then(|| ServerConnection::new(Arc::clone(&certified.config)).expect("a server")),
            web_socket: web_socket.then(ServerWebSocket::default),
            request: Vec::new(),
            is_upgraded: false,
            packets: Vec::new(),
        }
    }

    /// Takes bytes; returns what they are answered with.
    fn take(&mut self, received: &[u8]) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        match &mut self.tls {
            None => content.extend_from_slice(received),
            Some(tls) => {
                let mut received = received;
                while !received.is_empty() {
                    tls.read_tls(&mut received).expect("room");
                    tls.process_new_packets().map_err(|error| error.to_string())?;
                    // It ends with what there is.
                    let _ = tls.reader().read_to_end(&mut content);
                }
            }
        }
        match &mut self.web_socket {
            None => self.packets.extend(content),
            Some(web_socket) if self.is_upgraded => {
                match web_socket.open(&mut &content[..], &mut self.packets, usize::MAX) {
                    Ok(()) | Err(Ended::ByClient) => {}
                    Err(ended) => return Err(ended.to_string()),
                }
            }
            Some(_) => {
                self.request.extend(content);
                if self.request.ends_with(b"\r\n\r\n") {
                    self.is_upgraded = true;
                    let answer = grant(std::str::from_utf8(&self.request).expect("text"));
                    return Ok(self.sent(answer.as_bytes()));
                }
            }
        }
        Ok(self.sent(&[]))
    }

    /// The bytes that say these packets.
    fn say(&mut self, packets: &[u8]) -> Vec<u8> {
        let framed = match &mut self.web_socket {
            None => packets.to_vec(),
            Some(web_socket) => web_socket.frames(packets, false),
        };
        self.sent(&framed)
    }

    fn sent(&mut self, content: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return content.to_vec() };
        tls.set_buffer_limit(None);
        tls.writer().write_all(content).expect("no limit");
        let mut records = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut records).expect("a vector");
        }
        records
    }
}

fn grant(request: &str) -> String {
    assert!(request.starts_with("GET /mqtt HTTP/1.1\r\n"), "{request}");
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let accept = derive_accept_key(key.expect("a key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
}

/// Both ends behind their handshakes, what passes between them cut into pieces.
fn connected(route: &Route, mut server: Server, step: usize) -> Result<(Box<Wrapping>, Server), Fault> {
    let Transport::Wrapped(mut wrapping) = route.transport()? else { panic!("plain TCP has no handshake") };
    for _ in 0..FLIGHTS_MAX {
        let mut flight = Vec::new();
        wrapping.seal(&[], Flow::Continue, &mut flight)?;
        if wrapping.is_ready() {
            // The last flight of TLS, if it is the client's, and the answer to it: tickets.
            open_all(&mut wrapping, &server.take(&flight).expect("no error"), step)?;
            assert!(wrapping.packets.is_empty());
            return Ok((wrapping, server));
        }
        let answer = server.take(&flight).expect("no error");
        open_all(&mut wrapping, &answer, step)?;
    }
    panic!("the handshake has no end");
}

fn open_all(wrapping: &mut Wrapping, bytes: &[u8], step: usize) -> Result<(), Fault> {
    bytes.chunks(step).try_for_each(|piece| wrapping.open(piece))
}

fn said(wrapping: &mut Wrapping, packets: &[u8], flow: Flow) -> Vec<u8> {
    let mut bytes = Vec::new();
    wrapping.seal(packets, flow, &mut bytes).expect("there are keys");
    bytes
}

const WRAPPED: [TransportKind; 3] = [TransportKind::Tls, TransportKind::Ws, TransportKind::Wss];

#[test]
fn packets_pass_both_ways_however_they_are_cut() {
    let certified = Certified::new("broker.example");
    for kind in WRAPPED {
        for step in [1, 700, usize::MAX] {
            let server = Server::new(&certified, kind);
            let (mut wrapping, mut server) = connected(&certified.route(kind), server, step).expect("it connects");
            for length in [1, 5_000, 200_000] {
                let packets: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
                let bytes = said(&mut wrapping, &packets, Flow::Continue);
                for piece in bytes.chunks(step) {
                    assert_eq!(server.take(piece), Ok(Vec::new()));
                }
                assert!(std::mem::take(&mut server.packets) == packets, "{kind}, {length} bytes up");
                open_all(&mut wrapping, &server.say(&packets), step).expect("good bytes");
                assert!(std::mem::take(&mut wrapping.packets) == packets, "{kind}, {length} bytes down");
            }
            assert!(!wrapping.has_frames(), "nothing is to be said to that");
        }
    }
}

#[test]
fn who_leaves_says_so_and_who_breaks_off_does_not() {
    let certified = Certified::new("broker.example");
    for kind in WRAPPED {
        let connect =
            || connected(&certified.route(kind), Server::new(&certified, kind), usize::MAX).expect("it connects");
        let (mut left, mut server) = connect();
        let goodbye = said(&mut left, b"DISCONNECT", Flow::Leave);
        server.take(&goodbye).expect("good bytes");
        assert_eq!(server.packets, b"DISCONNECT");
        let (mut broken, _server) = connect();
        assert!(said(&mut broken, b"DISCONNECT", Flow::Close).len() < goodbye.len(), "{kind}");
    }
}

/// What `chaos` cuts off: nothing of a torn record comes out, of a frame what is there.
#[test]
fn a_cut_tears_what_packets_lie_in() {
    let certified = Certified::new("broker.example");
    for (kind, arrived) in [(TransportKind::Tls, &b""[..]), (TransportKind::Wss, b""), (TransportKind::Ws, b"a pack")] {
        let server = Server::new(&certified, kind);
        let (mut wrapping, mut server) = connected(&certified.route(kind), server, usize::MAX).expect("it connects");
        let mut bytes = said(&mut wrapping, b"a packet", Flow::Close);
        bytes.truncate(bytes.len() - 2);
        assert_eq!(server.take(&bytes), Ok(Vec::new()));
        assert_eq!(server.packets, arrived, "{kind}");
    }
}

#[test]
fn a_session_is_resumed_only_by_the_client_that_had_it() {
    let certified = Certified::new("broker.example");
    let kind_of_handshake = |route: &Route| {
        let server = Server::new(&certified, TransportKind::Tls);
        let (_client, server) = connected(route, server, usize::MAX).expect("it connects");
        server.tls.and_then(|tls| tls.handshake_kind())
    };
    let all = certified.route(TransportKind::Tls);
    let (one, other) = (all.clone().with_tickets(), all.clone().with_tickets());
    assert_eq!(kind_of_handshake(&one), Some(HandshakeKind::Full));
    assert_eq!(kind_of_handshake(&one), Some(HandshakeKind::Resumed));
    assert_eq!(kind_of_handshake(&other), Some(HandshakeKind::Full));
    assert_eq!(kind_of_handshake(&all), Some(HandshakeKind::Full));
    assert_eq!(kind_of_handshake(&all), Some(HandshakeKind::Full));
}

#[test]
fn a_certificate_of_another_authority_or_for_another_name_is_refused() {
    let certified = Certified::new("broker.example");
    for other in [Certified::new("broker.example"), Certified::new("other.example")] {
        let server = Server::new(&other, TransportKind::Tls);
        let refused = connected(&certified.route(TransportKind::Tls), server, usize::MAX).map(|_| ());
        let fault = refused.expect_err("a stranger");
        assert!(matches!(&fault, Fault::Tls(rustls::Error::InvalidCertificate(_))), "{fault}");
        assert!(!fault.is_broken_connection(), "the death of a broker looks different");
    }
}

#[test]
fn a_file_that_is_of_no_use_is_named_with_its_flag() {
    let certified = Certified::new("broker.example");
    let with = |authorities: PathBuf, identity: Option<(PathBuf, PathBuf)>| {
        let tls = Some(TlsLayer { authorities, identity, server_name: None });
        let layers = Layers { tls, web_socket_path: None };
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1, kind: TransportKind::Tls, layers };
        Route::new(&endpoint, "--port").map(|_| ()).expect_err("of no use").to_string()
    };
    let good = || certified.authorities.clone();
    let missing = || PathBuf::from("/nowhere/a.pem");
    // A file with other text in it: this one.
    let other = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    for (told, flag, part) in [
        (with(missing(), None), "--tls-ca", "/nowhere/a.pem"),
        (with(other(), None), "--tls-ca", "no certificate"),
        (with(good(), Some((missing(), good()))), "--tls-certificate", "/nowhere/a.pem"),
        (with(good(), Some((good(), other()))), "--tls-key", "Cargo.toml"),
    ] {
        assert!(told.contains(flag) && told.contains(part), "{told}");
    }
}
