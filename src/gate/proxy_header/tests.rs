use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::config::PROXY_HEADER_BYTES_MAX;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a length");
    [SIGNATURE, &[command, family], &length.to_be_bytes(), content].concat()
}

/// A value with its type and length.
fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(content.len()).expect("a length").to_be_bytes(), content].concat()
}

/// The addresses and ports of a header that is about TCP over IPv4.
const IPV4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xC8, 0x22, 0x07, 0x5B];

fn client() -> Source {
    Source::Client("203.0.113.9:51234".parse().expect("an address"))
}

/// A header about a client over IPv4, with these values.
fn with_values(values: &[Vec<u8>]) -> Vec<u8> {
    v2(0x21, 0x11, &[&IPV4[..], &values.concat()].concat())
}

/// The same with a checksum behind them.
fn with_checksum(values: &[Vec<u8>]) -> Vec<u8> {
    let mut header = with_values(&[values.concat(), value(0x03, &[0; 4])]);
    let checksum = crc32c::crc32c(&header);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// A value about TLS.
fn tls(flags: u8, verify: u32, values: &[Vec<u8>]) -> Vec<u8> {
    value(0x20, &[&[flags][..], &verify.to_be_bytes(), &values.concat()].concat())
}

fn named(name: &str) -> Vec<u8> {
    tls(0x07, 0, &[value(0x21, b"TLSv1.3"), value(0x22, name.as_bytes())])
}

/// What a header that is whole says, however it is cut and whatever comes behind it.
fn introduction(header: &[u8]) -> Introduction {
    for length in 0..header.len() {
        assert_eq!(read(&header[..length]), Header::Incomplete, "{length} bytes of {header:02x?}");
    }
    let followed = [header, &[0x10, 12, 0, 4]].concat();
    match read(&followed) {
        Header::Complete { bytes, introduction } => {
            assert_eq!(bytes, header.len());
            introduction
        }
        other => panic!("{other:?}: {header:02x?}"),
    }
}

#[test]
fn each_good_header_says_who_it_is_about() {
    let ipv6 = Source::Client("[2001:db8::9]:51234".parse().expect("an address"));
    let [from, to] = ["2001:db8::9", "2001:db8::1"].map(|text| text.parse::<Ipv6Addr>().expect("an address").octets());
    let ipv6_addresses = [&from[..], &to, &IPV4[8..]].concat();
    let longest = format!("PROXY UNKNOWN {} {} 65535 65535\r\n", "f".repeat(39), "f".repeat(39));
    assert_eq!(longest.len(), 107);
    for (header, source) in [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 1883\r\n".to_vec(), client()),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 51234 1883\r\n".to_vec(), ipv6),
        (b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
        (b"PROXY UNKNOWN \xFF what\rever\r\n".to_vec(), Source::Unknown),
        (longest.into_bytes(), Source::Unknown),
        (v2(0x21, 0x11, &IPV4), client()),
        (v2(0x21, 0x21, &ipv6_addresses), ipv6),
        (v2(0x21, 0x31, &[b'/'; 216]), Source::Unknown),
        (v2(0x21, 0x00, &[]), Source::Unknown),
        (v2(0x21, 0x00, b"anything"), Source::Unknown),
        (v2(0x20, 0x00, &[]), Source::Proxy),
        (v2(0x20, 0x11, &IPV4), Source::Proxy),
        (v2(0x20, 0xFF, b"anything"), Source::Proxy),
        (with_values(&[value(0x04, &[0; 9]), value(0xEA, b"vpce-1"), value(0x05, b"")]), client()),
        (with_checksum(&[value(0x02, b"broker.example")]), client()),
    ] {
        assert_eq!(introduction(&header), Introduction::of(source));
    }
}

#[test]
fn the_name_in_a_verified_certificate_is_a_user_name() {
    let cn = |name: &[u8]| vec![value(0x22, name)];
    let verified = |name: Option<&str>| Some(ClientTls::Verified(name.map(Box::from)));
    for (values, expected) in [
        (vec![named("pump-7")], verified(Some("pump-7"))),
        (vec![named("Pumpe süd")], verified(Some("Pumpe süd"))),
        // A session that was resumed: the certificate was shown when it began.
        (vec![tls(0x05, 0, &cn(b"pump-7"))], verified(Some("pump-7"))),
        (vec![tls(0x03, 0, &cn(b"pump-7"))], verified(Some("pump-7"))),
        (vec![tls(0x07, 0, &[cn(b"pump-7"), cn(b"root")].concat())], verified(Some("pump-7"))),
        // Not verified, or not shown.
        (vec![tls(0x07, 1, &cn(b"pump-7"))], Some(ClientTls::Unverified)),
        (vec![tls(0x07, 0x0100_0000, &cn(b"pump-7"))], Some(ClientTls::Unverified)),
        (vec![tls(0x01, 0, &cn(b"pump-7"))], Some(ClientTls::Unverified)),
        (vec![tls(0x01, 0, &[])], Some(ClientTls::Unverified)),
        // No name that a user could have.
        (vec![tls(0x07, 0, &[])], verified(None)),
        (vec![named("")], verified(None)),
        (vec![named("pump\n7")], verified(None)),
        (vec![tls(0x07, 0, &cn(&[0xFF]))], verified(None)),
        // No TLS.
        (vec![tls(0x06, 0, &cn(b"pump-7"))], None),
        (vec![], None),
    ] {
        assert_eq!(introduction(&with_values(&values)).tls, expected, "{values:02x?}");
        assert_eq!(introduction(&with_checksum(&values)).tls, expected, "{values:02x?}");
    }
}

#[test]
fn what_is_no_header_is_refused_with_its_first_wrong_byte() {
    for good in [&b"PROXY TCP4 "[..], &v2(0x21, 0x11, &IPV4)[..13]] {
        for at in 0..good.len().min(6) {
            let mut bytes = good[..=at].to_vec();
            bytes[at] ^= 0x40;
            assert!(matches!(read(&bytes), Header::Wrong(_)), "{bytes:02x?}");
        }
    }
    for foreign in [&[0x10, 12, 0, 4][..], b"GET / HTTP/1.1\r\n", &[0x16, 3, 1], b"proxy TCP4 "] {
        assert_eq!(read(foreign), Header::Wrong(NO_HEADER));
    }
}

#[test]
fn each_bad_header_is_refused() {
    let mut wrong_sum = with_checksum(&[named("pump-7")]);
    wrong_sum[20] ^= 1;
    let two_sums = with_values(&[with_checksum(&[])[28..].to_vec(), value(0x03, &[0; 4])]);
    let too_long = format!("PROXY UNKNOWN {}", "f".repeat(107));
    for header in [
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 1883 7\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9  192.0.2.1 51234 1883\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.009 192.0.2.1 51234 1883\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 +51234 1883\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 \r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 65536\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::9 2001:db8::1 51234 1883\r\n".to_vec(),
        b"PROXY TCP6 203.0.113.9 192.0.2.1 51234 1883\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 1883\n\r\n".to_vec(),
        b"PROXY UNKNOWNS\r\n".to_vec(),
        b"PROXY UDP4 203.0.113.9 192.0.2.1 51234 1883\r\n".to_vec(),
        b"PROXY \xFF\r\n".to_vec(),
        b"PROXY \r\n".to_vec(),
        too_long.into_bytes(),
        v2(0x11, 0x11, &IPV4), // another version
        v2(0x22, 0x11, &IPV4), // another command
        v2(0x21, 0x12, &IPV4), // UDP
        v2(0x21, 0x01, &IPV4), // a family that there is not
        v2(0x21, 0x11, &IPV4[..11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[&IPV4[..], &[0x04, 0]].concat()),
        v2(0x21, 0x11, &[&IPV4[..], &[0x04, 0, 2, 7]].concat()),
        with_values(&[value(0x03, &[0; 3])]),
        with_values(&[value(0x20, &[7, 0, 0, 0])]),
        with_values(&[tls(7, 0, &[vec![0x22, 0, 9, b'x']])]),
        with_values(&[named("pump-7"), named("root")]),
        wrong_sum,
        two_sums,
        [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat(), // refused before it is there
        [SIGNATURE, &[0x20, 0x00, 0xFF, 0xFF]].concat(),
    ] {
        assert!(matches!(read(&header), Header::Wrong(_)), "{}", String::from_utf8_lossy(&header));
    }
}

#[test]
fn the_largest_header_is_read() {
    let rest = PROXY_HEADER_BYTES_MAX - 16 - IPV4.len();
    let largest = with_values(&[value(0x04, &vec![0; rest - 3])]);
    assert_eq!(largest.len(), PROXY_HEADER_BYTES_MAX);
    assert_eq!(introduction(&largest).source, client());
    assert!(matches!(read(&with_values(&[value(0x04, &vec![0; rest - 2])])), Header::Wrong(_)));
}

/// A good header, or one that differs from a good one in a few bytes, or nothing of the kind.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(vec![
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 1883\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x11, &IPV4),
        with_checksum(&[named("pump-7"), value(0x04, &[0; 20])]),
        with_values(&[named("pump-7")]),
        v2(0x20, 0, &[]),
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let changed = (good, changes).prop_map(|(mut bytes, changes)| {
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    let begun = prop::collection::vec(any::<u8>(), 0..300).prop_map(|rest| [SIGNATURE, &[0x21, 0x11], &rest].concat());
    prop_oneof![4 => changed, 2 => begun, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    /// Nothing panics; what a header says does not depend on how much of what follows is there, and is not said before it is whole.
    #[test]
    fn a_verdict_stays(bytes in hostile()) {
        let mut verdict = Header::Incomplete;
        for length in 0..=bytes.len() {
            let next = read(&bytes[..length]);
            match verdict {
                Header::Incomplete => {
                    if let Header::Complete { bytes, .. } = &next {
                        prop_assert_eq!(*bytes, length);
                    }
                }
                Header::Complete { .. } | Header::Wrong(_) => prop_assert_eq!(&next, &verdict),
            }
            verdict = next;
        }
        if let Header::Incomplete = verdict {
            prop_assert!(bytes.len() < PROXY_HEADER_BYTES_MAX);
        }
    }
}
