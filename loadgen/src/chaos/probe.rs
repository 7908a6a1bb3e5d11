//! The question whether a broker is up: a client of its own that connects and leaves again. It blocks, because the keeper's
//! thread has nothing else to do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use oncemq::proto::{Packet, ReasonCode, decode, frame_length};

use crate::connection::{Fault, Flow};
use crate::opening::{Login, encode_disconnect};
use crate::transport::{Route, Transport, Wrapping};

/// How long a broker that accepted the connection may take for each of its answers before another connection is tried.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Largest answer to CONNECT that is read.
const ANSWER_BYTES_MAX: u32 = 4096;

/// Connects and leaves again; an error if the broker does not answer with success.
pub(super) fn probe(route: &Route, login: &Login) -> Result<(), Fault> {
    let address = route.address;
    let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT);
    let stream = stream.map_err(|source| Fault::Connect { address, source })?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    let mut line = Line { stream, transport: route.transport()? };
    line.shake_hands()?;
    let mut packet = Vec::new();
    login.encode(&mut packet);
    line.send(&mut packet, Flow::Continue)?;
    match decode(login.version, &line.receive()?)? {
        Packet::Connack(connack) if connack.reason == ReasonCode::Success => {}
        Packet::Connack(connack) => return Err(Fault::Refused(connack.reason)),
        other => return Err(Fault::Unexpected(format!("{:?} instead of a CONNACK", other.packet_type()))),
    }
    encode_disconnect(login.version, &mut packet);
    line.send(&mut packet, Flow::Leave)
}

struct Line {
    stream: TcpStream,
    transport: Transport,
}

impl Line {
    fn shake_hands(&mut self) -> Result<(), Fault> {
        let Self { stream, transport } = self;
        let Transport::Wrapped(wrapping) = transport else {
            return Ok(());
        };
        loop {
            let mut bytes = Vec::new();
            wrapping.seal(&[], Flow::Continue, &mut bytes)?;
            stream.write_all(&bytes)?;
            if wrapping.is_ready() {
                return Ok(());
            }
            open_some(stream, wrapping)?;
        }
    }

    fn send(&mut self, packets: &mut Vec<u8>, flow: Flow) -> Result<(), Fault> {
        let bytes = self.transport.seal(packets, &mut Vec::new(), flow)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next packet; what comes behind it is lost.
    fn receive(&mut self) -> Result<Vec<u8>, Fault> {
        let Self { stream, transport } = self;
        let mut packet = Vec::new();
        loop {
            match frame_length(&packet, ANSWER_BYTES_MAX)? {
                Some(length) if length <= packet.len() => {
                    packet.truncate(length);
                    return Ok(packet);
                }
                Some(_) | None => match transport {
                    Transport::Plain => packet.extend_from_slice(read_some(stream, &mut [0; 512])?),
                    Transport::Wrapped(wrapping) => {
                        open_some(stream, wrapping)?;
                        packet.append(&mut wrapping.packets);
                    }
                },
            }
        }
    }
}

fn open_some(stream: &mut TcpStream, wrapping: &mut Wrapping) -> Result<(), Fault> {
    wrapping.open(read_some(stream, &mut [0; 512])?)
}

fn read_some<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Result<&'a [u8], Fault> {
    match stream.read(buffer)? {
        0 => Err(Fault::Closed),
        length => Ok(&buffer[..length]),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::net::SocketAddr;

    use super::*;
    use crate::cli::{Endpoint, Layers, TransportKind};

    /// The way to a broker on plain TCP.
    pub(crate) fn route(address: SocketAddr) -> Route {
        let layers = Layers { tls: None, web_socket_path: None };
        let (host, port) = (address.ip().to_string(), address.port());
        Route::new(&Endpoint { host, port, kind: TransportKind::Tcp, layers }, "--port").expect("an address")
    }
}
