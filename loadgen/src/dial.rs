//! Opens connections: TCP, then the handshakes of what lies between the socket and MQTT.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio_uring::net::TcpStream;

use crate::connection::{Connection, Fault, Flow, close};
use crate::transport::{Route, Transport, Wrapping};

/// How long connecting may take, and the handshakes behind it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first flight of a server comes in a few of these.
const READ_BYTES: usize = 4096;

/// Clients for each source address on loopback. Linux gives each address some 28,000 ports, but finds one slowly once
/// the 14,000 of the parity that it prefers are taken.
const CLIENTS_PER_SOURCE_ADDRESS: u32 = 10_000;

/// Opens a connection. `client` spreads many of them over source addresses on loopback, beyond the ports of one.
pub(crate) async fn open(route: &Route, client: u32) -> Result<Connection, Fault> {
    let address = route.address;
    let timed_out = |_elapsed| Fault::Connect { address, source: io::ErrorKind::TimedOut.into() };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(address, client)).await.map_err(timed_out)?;
    let stream = connected.map_err(|source| Fault::Connect { address, source })?;
    stream.set_nodelay(true)?;
    let mut transport = route.transport()?;
    match &mut transport {
        Transport::Plain => {}
        Transport::Wrapped(wrapping) => {
            let shaken = tokio::time::timeout(CONNECT_TIMEOUT, shake_hands(&stream, wrapping)).await;
            if let Err(fault) = shaken.map_err(timed_out).and_then(|shaken| shaken) {
                close(&stream);
                return Err(fault);
            }
            route.note_agreement(wrapping);
        }
    }
    Ok(Connection { stream, transport })
}

async fn connect(address: SocketAddr, client: u32) -> io::Result<TcpStream> {
    match source_address(address, client) {
        Some(source) => connect_from(source, address).await,
        None => TcpStream::connect(address).await,
    }
}

/// Does all handshakes. A fault is told to the broker, if there is a word for it.
async fn shake_hands(stream: &TcpStream, wrapping: &mut Wrapping) -> Result<(), Fault> {
    let mut received = Vec::with_capacity(READ_BYTES);
    loop {
        send_due(stream, wrapping).await?;
        if wrapping.is_ready() {
            return Ok(());
        }
        received.clear();
        let (result, returned) = stream.read(received).await;
        received = returned;
        match result {
            Ok(1..) => {}
            Ok(0) => return Err(Fault::Closed),
            Err(error) => return Err(Fault::of_io(error)),
        }
        if let Err(fault) = wrapping.open(&received) {
            // Whether the alert reaches it or not, this is what went wrong.
            let _told = send_due(stream, wrapping).await;
            return Err(fault);
        }
    }
}

async fn send_due(stream: &TcpStream, wrapping: &mut Wrapping) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    wrapping.seal(&[], Flow::Continue, &mut bytes)?;
    if !bytes.is_empty() {
        stream.write_all(bytes).await.0.map_err(Fault::of_io)?;
    }
    Ok(())
}

/// `None` for the first source address, which the kernel chooses.
fn source_address(address: SocketAddr, client: u32) -> Option<SocketAddr> {
    let group = client / CLIENTS_PER_SOURCE_ADDRESS;
    match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_loopback() && group > 0 => {
            let source = u32::from(std::net::Ipv4Addr::LOCALHOST) + group;
            Some(SocketAddr::new(std::net::Ipv4Addr::from(source).into(), 0))
        }
        std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_) => None,
    }
}

/// tokio-uring has no bind before connect, so tokio's own socket connects and its blocking form is taken over.
async fn connect_from(source: SocketAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(source)?;
    let stream = socket.connect(address).await?.into_std()?;
    // A nonblocking socket would make io_uring answer EAGAIN instead of waiting.
    stream.set_nonblocking(false)?;
    Ok(TcpStream::from_std(stream))
}
