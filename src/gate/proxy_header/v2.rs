//! Version 2: sixteen bytes, and behind them as many as these say.
//!
//! | offset | bytes  | what                                                                          |
//! |--------|--------|-------------------------------------------------------------------------------|
//! | 0      | 12     | the signature, which no other protocol begins with                            |
//! | 12     | 1      | the version (2) in the upper half, the command in the lower one               |
//! | 13     | 1      | the family of the addresses in the upper half, the transport in the lower one |
//! | 14     | 2      | how many bytes follow                                                         |
//! | 16     | 12, 36 or 216 | the addresses of client and proxy, then (but for Unix sockets) their ports |
//! | behind | rest   | values, each with a type (1 byte) and a length (2 bytes) in front              |
//!
//! Numbers are in network order. Values of types that mean nothing here are passed over, as the protocol has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use crate::auth::as_user_name;
use crate::config::PROXY_HEADER_BYTES_MAX;

use super::{ClientTls, Header, Introduction, NO_HEADER, Source, begins_like};

/// The first byte, which version 1 does not begin with.
pub(super) const FIRST_BYTE: u8 = SIGNATURE[0];

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const VERSION_AND_COMMAND_AT: usize = 12;
const FAMILY_AND_TRANSPORT_AT: usize = 13;
const LENGTH_AT: usize = 14;
const ADDRESSES_AT: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// Addresses (4 or 16 bytes each) and ports (2 bytes each), of the client and of the proxy; of Unix sockets two paths.
const IPV4_BYTES: usize = 2 * 4 + 2 * 2;
const IPV6_BYTES: usize = 2 * 16 + 2 * 2;
const UNIX_BYTES: usize = 2 * 108;

const TYPE_CRC32C: u8 = 0x03;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_SSL_CN: u8 = 0x22;

/// Type and length in front of a value.
const VALUE_HEAD_BYTES: usize = 3;

/// In a value about TLS: flags (1 byte), and 0 (in 4 bytes) if the client has shown a certificate that was verified.
const SSL_VERIFY_AT: usize = 1;
const SSL_VALUES_AT: usize = 5;

/// The client has spoken TLS with the proxy.
const CLIENT_SSL: u8 = 0x01;
/// It has shown a certificate in this connection.
const CLIENT_CERT_CONN: u8 = 0x02;
/// It has shown one in this session of TLS, which may have been resumed since: its certificate was verified as well.
const CLIENT_CERT_SESS: u8 = 0x04;

const MALFORMED: &str = "the PROXY header (version 2) is malformed";
const TOO_LARGE: &str = "the PROXY header (version 2) is too large";
const OTHER_PROTOCOL: &str = "the PROXY header (version 2) is about another protocol than TCP";
const WRONG_CHECKSUM: &str = "the checksum of the PROXY header (version 2) is wrong";

pub(super) fn read(received: &[u8]) -> Header {
    if !begins_like(received, SIGNATURE) {
        return Header::Wrong(NO_HEADER);
    }
    let Some(command) = received.get(VERSION_AND_COMMAND_AT) else { return Header::Incomplete };
    if !matches!(*command, LOCAL | PROXY) {
        return Header::Wrong(MALFORMED);
    }
    let Some(length) = received.get(LENGTH_AT..ADDRESSES_AT) else { return Header::Incomplete };
    let bytes = ADDRESSES_AT + usize::from(number(length));
    if bytes > PROXY_HEADER_BYTES_MAX {
        return Header::Wrong(TOO_LARGE);
    }
    let Some(header) = received.get(..bytes) else { return Header::Incomplete };
    // What else is in a header of the proxy's own is to be ignored.
    let introduction = if *command == LOCAL { Ok(Introduction::of(Source::Proxy)) } else { introduction(header) };
    match introduction {
        Ok(introduction) => Header::Complete { bytes, introduction },
        Err(text) => Header::Wrong(text),
    }
}

/// What a whole header says that is about a client.
fn introduction(header: &[u8]) -> Result<Introduction, &'static str> {
    let addresses = &header[ADDRESSES_AT..];
    let (source, address_bytes) = match header[FAMILY_AND_TRANSPORT_AT] {
        // How long the addresses are, and so where the values begin, is not known then.
        UNSPECIFIED => return Ok(Introduction::of(Source::Unknown)),
        TCP_OVER_IPV4 => {
            let (client, ports) = (addresses.first_chunk::<4>(), addresses.get(2 * 4..IPV4_BYTES));
            let (client, ports) = client.zip(ports).ok_or(MALFORMED)?;
            (source(Ipv4Addr::from(*client).into(), ports), IPV4_BYTES)
        }
        TCP_OVER_IPV6 => {
            let (client, ports) = (addresses.first_chunk::<16>(), addresses.get(2 * 16..IPV6_BYTES));
            let (client, ports) = client.zip(ports).ok_or(MALFORMED)?;
            (source(Ipv6Addr::from(*client).into(), ports), IPV6_BYTES)
        }
        UNIX_STREAM => (Source::Unknown, UNIX_BYTES),
        _ => return Err(OTHER_PROTOCOL),
    };
    let mut introduction = Introduction::of(source);
    let (mut has_checksum, mut has_tls) = (false, false);
    for value in values(header, ADDRESSES_AT + address_bytes) {
        let (kind, place) = value?;
        match kind {
            TYPE_CRC32C => {
                let is_second = std::mem::replace(&mut has_checksum, true);
                if is_second || !is_checksum(header, place) {
                    return Err(WRONG_CHECKSUM);
                }
            }
            TYPE_SSL => {
                let is_second = std::mem::replace(&mut has_tls, true);
                if is_second {
                    return Err(MALFORMED);
                }
                introduction.tls = client_tls(&header[place])?;
            }
            _ => {}
        }
    }
    Ok(introduction)
}

fn source(client: IpAddr, ports: &[u8]) -> Source {
    Source::Client(SocketAddr::new(client, number(ports)))
}

/// What is said of the client's handshake; `None` if there was none.
fn client_tls(content: &[u8]) -> Result<Option<ClientTls>, &'static str> {
    let flags = *content.first().ok_or(MALFORMED)?;
    let verify = content.get(SSL_VERIFY_AT..SSL_VALUES_AT).ok_or(MALFORMED)?;
    let is_verified = flags & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0 && verify.iter().all(|byte| *byte == 0);
    let mut common_name = None;
    for value in values(content, SSL_VALUES_AT) {
        if let (SUBTYPE_SSL_CN, place) = value? {
            // Of several the first counts, as in a certificate.
            common_name = common_name.or(Some(&content[place]));
        }
    }
    if flags & CLIENT_SSL == 0 {
        return Ok(None);
    }
    if !is_verified {
        return Ok(Some(ClientTls::Unverified));
    }
    let name = common_name.and_then(|name| std::str::from_utf8(name).ok());
    Ok(Some(ClientTls::Verified(name.and_then(as_user_name))))
}

/// Whether what lies in this place of the header is its checksum: that of the header with zeroes there.
fn is_checksum(header: &[u8], place: Range<usize>) -> bool {
    let found = crc32c::crc32c(&header[..place.start]);
    let found = crc32c::crc32c_append(found, &[0; size_of::<u32>()]);
    let found = crc32c::crc32c_append(found, &header[place.end..]);
    header[place] == found.to_be_bytes()
}

/// The values that lie behind one another in these bytes from here on: the type of each, and its place.
fn values(bytes: &[u8], mut at: usize) -> impl Iterator<Item = Result<(u8, Range<usize>), &'static str>> {
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        let value = bytes.get(at..at + VALUE_HEAD_BYTES).and_then(|head| {
            let start = at + VALUE_HEAD_BYTES;
            let place = start..start + usize::from(number(&head[1..]));
            (place.end <= bytes.len()).then_some((head[0], place))
        });
        // Behind what is malformed nothing can be found.
        at = value.as_ref().map_or(bytes.len(), |(_, place)| place.end);
        Some(value.ok_or(MALFORMED))
    })
}

/// The number in the first two of these bytes.
fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
