//! Version 1: one line of text.
//!
//! ```text
//! PROXY TCP4 203.0.113.9 192.0.2.1 51234 1883\r\n
//! PROXY TCP6 2001:db8::9 2001:db8::1 51234 1883\r\n
//! PROXY UNKNOWN, and whatever else\r\n
//! ```
//!
//! There is one space between two words. The first address and port are the client's, the second ones the proxy's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Introduction, NO_HEADER, Source, begins_like};

/// The first byte, which version 2 does not begin with.
pub(super) const FIRST_BYTE: u8 = SIGNATURE[0];

const SIGNATURE: &[u8] = b"PROXY ";

const END: &[u8] = b"\r\n";

/// Bytes of the longest line, with its end, as the protocol has it: two IPv6 addresses in full behind `UNKNOWN`.
const LINE_BYTES_MAX: usize = 107;

const MALFORMED: &str = "the PROXY header (version 1) is malformed";

pub(super) fn read(received: &[u8]) -> Header {
    if !begins_like(received, SIGNATURE) {
        return Header::Wrong(NO_HEADER);
    }
    let searched = &received[..received.len().min(LINE_BYTES_MAX)];
    let Some(length) = searched.windows(END.len()).position(|bytes| bytes == END) else {
        let is_too_long = searched.len() == LINE_BYTES_MAX;
        return if is_too_long { Header::Wrong(MALFORMED) } else { Header::Incomplete };
    };
    match source(&received[..length]) {
        Some(source) => Header::Complete { bytes: length + END.len(), introduction: Introduction::of(source) },
        None => Header::Wrong(MALFORMED),
    }
}

/// Who a whole line without its end is about; `None` if it does not say.
fn source(line: &[u8]) -> Option<Source> {
    let text = line.strip_prefix(SIGNATURE)?;
    if text.strip_prefix(b"UNKNOWN").is_some_and(|rest| rest.is_empty() || rest[0] == b' ') {
        return Some(Source::Unknown);
    }
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let parse: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (client, _proxy) = (parse(words.next()?)?, parse(words.next()?)?);
    let (client_port, _proxy_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Source::Client(SocketAddr::new(client, client_port)))
}

/// A number in digits, which std would take with a sign, too.
fn port(word: &str) -> Option<u16> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}
