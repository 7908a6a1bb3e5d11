//! Frames are written and read here by hand, so that an error in the codec can't hide.

use proptest::prelude::*;

use super::*;
use crate::proto::{Framer, Received};
use crate::transport::Transport;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame of a client. The mask begins anew with each.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first_byte, 0x80, payload.len() as u64);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn header(first_byte: u8, mask_bit: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first_byte];
    match length {
        0..=125 => header.push(mask_bit | length as u8),
        126..=0xFFFF => {
            header.push(mask_bit | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask_bit | 127);
            header.extend_from_slice(&length.to_be_bytes());
        }
    }
    header
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(FINAL | BINARY, payload)
}

/// What all of these bytes open to.
fn opened(web_socket: &mut WebSocket, mut received: &[u8]) -> (Vec<u8>, Result<(), Ended>) {
    let mut packets = Vec::new();
    let ended = web_socket.open(&mut received, &mut packets, usize::MAX);
    assert!(received.is_empty());
    (packets, ended)
}

/// The control frames that go out with no packet before them.
fn control_frames(web_socket: &mut WebSocket, is_last: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    web_socket.push_control_frames(&mut frames, is_last);
    frames
}

/// The code that a client which sends this hears in the close frame.
fn violation(received: &[u8]) -> u16 {
    let mut web_socket = WebSocket::default();
    let Err(Ended::ByViolation(close)) = opened(&mut web_socket, received).1 else {
        panic!("no violation: {received:02x?}");
    };
    assert!(!close.text().is_empty());
    assert_eq!(opened(&mut web_socket, &binary(b"more")), (Vec::new(), Ok(())), "nothing comes behind it");
    web_socket.end(Close::NORMAL);
    let frame = control_frames(&mut web_socket, true);
    assert_eq!(frame[..2], [FINAL | CLOSE, 2 + close.text().len() as u8]);
    assert_eq!(&frame[4..], close.text().as_bytes());
    u16::from_be_bytes([frame[2], frame[3]])
}

/// [MQTT-6.0.0-1]
#[test]
fn what_is_no_binary_frame_ends_the_connection() {
    assert_eq!(violation(&frame(FINAL | TEXT, b"text")), 1003);
    assert_eq!(violation(&frame(TEXT, b"the start of a text")), 1003);
    for reserved in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        assert_eq!(violation(&frame(FINAL | reserved, b"?")), 1002, "{reserved:x}");
    }
}

#[test]
fn each_breach_of_the_protocol_ends_the_connection() {
    let in_message = |next: Vec<u8>| [frame(BINARY, b"begun"), next].concat();
    let unmasked = [&header(FINAL | BINARY, 0, 3), &b"abc"[..]].concat();
    let masked = |header: Vec<u8>| [&header, &MASK[..]].concat();
    for (what, received) in [
        ("a reserved bit", frame(FINAL | 0x40 | BINARY, b"x")),
        ("another reserved bit", frame(FINAL | 0x20 | PING, b"x")),
        ("the third reserved bit", frame(FINAL | 0x10 | BINARY, b"x")),
        ("no mask", unmasked),
        ("no mask on a ping", header(FINAL | PING, 0, 0)),
        ("a continuation of nothing", frame(FINAL | CONTINUATION, b"x")),
        ("a message inside another one", in_message(binary(b"x"))),
        ("a text inside a message", in_message(frame(FINAL | TEXT, b"x"))),
        ("a fragmented ping", frame(PING, b"x")),
        ("a long ping", frame(FINAL | PING, &[0; 126])),
        ("a long close frame", frame(FINAL | CLOSE, &[3; 126])),
        ("half a code", frame(FINAL | CLOSE, &[3])),
        ("a code that is never sent", frame(FINAL | CLOSE, &1005u16.to_be_bytes())),
        ("a code that there is not", frame(FINAL | CLOSE, &999u16.to_be_bytes())),
        ("a long form of a short length", masked(vec![FINAL | BINARY, 0x80 | 126, 0, 125])),
        ("the longest form of a short length", masked(vec![FINAL | BINARY, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF])),
        ("a length of 64 bits", masked(header(FINAL | BINARY, 0x80, 1 << 63))),
    ] {
        assert_eq!(violation(&received), 1002, "{what}");
    }
    assert_eq!(violation(&frame(FINAL | CLOSE, &[3, 0xE8, 0xFF])), 1007, "a reason that is not UTF-8");
}

#[test]
fn a_close_frame_is_the_end_and_is_answered() {
    let normal = [3, 0xE8];
    for (payload, answer) in [
        (&[][..], &[FINAL | CLOSE, 0][..]),
        (&normal, &[FINAL | CLOSE, 2, 3, 0xE8]),
        (&[&normal[..], b"done"].concat(), &[FINAL | CLOSE, 2, 3, 0xE8]),
        (&4000u16.to_be_bytes(), &[FINAL | CLOSE, 2, 15, 160]),
    ] {
        let mut web_socket = WebSocket::default();
        let received = [binary(b"before"), frame(FINAL | CLOSE, payload), binary(b"behind")].concat();
        assert_eq!(opened(&mut web_socket, &received), (b"before".to_vec(), Err(Ended::ByClient)));
        assert!(!web_socket.has_control_frames(true), "the connection may have more to say");
        web_socket.end(Close::GOING_AWAY);
        assert!(!web_socket.has_control_frames(false));
        assert!(control_frames(&mut web_socket, false).is_empty());
        assert_eq!(control_frames(&mut web_socket, true), answer);
        assert!(!web_socket.has_control_frames(true), "once");
        assert!(control_frames(&mut web_socket, true).is_empty());
    }
}

#[test]
fn the_first_reason_for_the_end_counts() {
    let mut web_socket = WebSocket::default();
    web_socket.end(Close::policy("why"));
    web_socket.end(Close::NORMAL);
    assert_eq!(control_frames(&mut web_socket, true), [&[FINAL | CLOSE, 5, 3, 0xF0][..], b"why"].concat());
    assert_eq!(Close::policy(&"x".repeat(124).leak()[..]).text(), "", "no room for it");
}

#[test]
fn the_last_ping_is_answered_behind_the_packets() {
    let mut web_socket = WebSocket::default();
    let received =
        [frame(FINAL | PING, b"first"), frame(FINAL | PONG, b"unasked"), frame(FINAL | PING, &[7; 125])].concat();
    assert_eq!(opened(&mut web_socket, &received), (Vec::new(), Ok(())));
    assert!(web_socket.has_control_frames(false));
    let mut packets = Transmit::default();
    packets.buffer().extend_from_slice(b"packets");
    let sent = web_socket.seal(packets, false);
    let pong = [&[FINAL | PONG, 125][..], &[7; 125]].concat();
    assert_eq!(sent.as_single(), Some(&[&[FINAL | BINARY, 7][..], b"packets", &pong].concat()[..]));
    assert!(!web_socket.has_control_frames(false));
}

#[test]
fn a_ping_behind_the_end_is_not_answered() {
    let mut web_socket = WebSocket::default();
    web_socket.end(Close::NORMAL);
    assert_eq!(control_frames(&mut web_socket, true), [FINAL | CLOSE, 2, 3, 0xE8]);
    assert_eq!(opened(&mut web_socket, &frame(FINAL | PING, b"late")), (Vec::new(), Ok(())));
    assert!(!web_socket.has_control_frames(true));
    assert!(control_frames(&mut web_socket, true).is_empty());
}

#[test]
fn a_ping_between_the_frames_of_a_message_is_answered() {
    let mut web_socket = WebSocket::default();
    let received =
        [frame(BINARY, b"one "), frame(FINAL | PING, b""), frame(CONTINUATION, b""), frame(FINAL, b"message")].concat();
    assert_eq!(opened(&mut web_socket, &received), (b"one message".to_vec(), Ok(())));
    assert_eq!(control_frames(&mut web_socket, false), [FINAL | PONG, 0]);
}

#[test]
fn all_packets_of_a_send_are_one_frame() {
    for length in [1usize, 125, 126, 0xFFFF, 0x1_0000] {
        let mut packets = Transmit::default();
        packets.buffer().resize(length, 0xC0);
        let sent = Transport::from(WebSocket::default()).seal(packets, true);
        let expected = [header(FINAL | BINARY, 0, length as u64), vec![0xC0; length]].concat();
        assert_eq!(sent.as_single(), Some(&expected[..]), "{length}");
    }
}

#[test]
fn last_words_are_packets_and_a_close_frame() {
    let close = [&[FINAL | CLOSE, 4, 3, 0xF0][..], b"no"].concat();
    for (packets, frame) in [(&b""[..], &b""[..]), (b"refused", &[&[FINAL | BINARY, 7][..], b"refused"].concat())] {
        assert_eq!(WebSocket::default().last_words(packets, Close::policy("no")), [frame, &close].concat());
    }
}

/// Trap 54, for frames: any length is legal, and none makes room by itself.
#[test]
fn a_declared_length_allocates_nothing() {
    let mut web_socket = WebSocket::default();
    let mut received = header(FINAL | BINARY, 0x80, i64::MAX as u64);
    received.extend_from_slice(&[0; 4]);
    received.extend_from_slice(b"begun");
    let (packets, ended) = opened(&mut web_socket, &received);
    assert_eq!((&packets[..], ended), (&b"begun"[..], Ok(())));
    assert!(packets.capacity() < 64, "{} bytes", packets.capacity());
}

#[test]
fn what_is_not_taken_is_left() {
    let stream = [binary(b"CONNECT and"), frame(FINAL | PING, b""), binary(b" more")].concat();
    let mut web_socket = WebSocket::default();
    let (mut received, mut packets) = (&stream[..], Vec::new());
    for (max, expected) in [(1, &b"C"[..]), (6, b"CONNECT"), (usize::MAX, b"CONNECT and more")] {
        web_socket.open(&mut received, &mut packets, max).expect("no end");
        assert_eq!(packets, expected);
    }
    assert!(received.is_empty());
}

/// One frame of a stream, with how much of the stream is in it, and whether it ends its message.
fn layout() -> impl Strategy<Value = Vec<(prop::sample::Index, bool, bool)>> {
    prop::collection::vec(any::<(prop::sample::Index, bool, bool)>(), 0..12)
}

proptest! {
    /// [MQTT-6.0.0-2]
    #[test]
    fn any_framing_and_any_cut_yield_the_same_packets(
        sizes in prop::collection::vec(prop_oneof![0usize..200, 60_000usize..70_000], 1..6),
        layout in layout(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let packets: Vec<Vec<u8>> = sizes.iter().map(|size| publish(*size)).collect();
        let stream = packets.concat();
        let wire = framed(&stream, &layout);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let mut web_socket = WebSocket::default();
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for pair in cuts.windows(2) {
            let (run, ended) = opened(&mut web_socket, &wire[pair[0]..pair[1]]);
            prop_assert_eq!(ended, Ok(()));
            let mut received = Received::new(&run);
            while let Some(packet) = framer.next_frame(&mut received, 1 << 20).expect("well formed") {
                found.push(packet.bytes().to_vec());
            }
        }
        prop_assert_eq!(found, packets);
        prop_assert_eq!(web_socket.pong.is_some(), layout.iter().any(|(_, _, pings)| *pings));
    }

    #[test]
    fn what_was_opened_in_pieces_opens_the_same(
        stream in prop::collection::vec(any::<u8>(), 1..300),
        layout in layout(),
        max in 1usize..20,
    ) {
        let wire = framed(&stream, &layout);
        let (mut received, mut packets) = (&wire[..], Vec::new());
        let mut web_socket = WebSocket::default();
        while !received.is_empty() {
            let before = packets.len();
            prop_assert_eq!(web_socket.open(&mut received, &mut packets, max), Ok(()));
            prop_assert!(packets.len() - before <= max);
        }
        prop_assert_eq!(packets, stream);
    }

    /// Hostile bytes end the connection or are taken, and take no more memory than they have themselves.
    #[test]
    fn hostile_bytes_are_survived(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(first, payload)| frame(first, &payload)),
                prop::collection::vec(any::<u8>(), 0..200).prop_map(|payload| binary(&payload)),
            ],
            1..8,
        ),
        step in 1usize..50,
    ) {
        let wire = pieces.concat();
        let mut web_socket = WebSocket::default();
        let (mut total, mut ends) = (0, 0);
        for piece in wire.chunks(step) {
            let (packets, ended) = opened(&mut web_socket, piece);
            total += packets.len();
            ends += usize::from(ended.is_err());
        }
        prop_assert!(total <= wire.len() && ends <= 1);
        web_socket.end(Close::NORMAL);
        let frames = control_frames(&mut web_socket, true);
        prop_assert!(frames.len() <= 2 * (2 + CONTROL_BYTES_MAX) && frames.contains(&(FINAL | CLOSE)));
    }
}

fn publish(payload_bytes: usize) -> Vec<u8> {
    let mut length = 3 + payload_bytes;
    let mut packet = vec![0x30];
    while length > 0x7F {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.extend_from_slice(&[length as u8, 0, 1, b't']);
    packet.extend((0..payload_bytes).map(|index| index as u8));
    packet
}

/// A stream in frames as the layout says, with pings between them; the last frame has what is left.
fn framed(stream: &[u8], layout: &[(prop::sample::Index, bool, bool)]) -> Vec<u8> {
    let mut wire = Vec::new();
    let (mut rest, mut opcode) = (stream, BINARY);
    for (length, ends, pings) in layout {
        let (payload, others) = rest.split_at(length.index(rest.len() + 1));
        rest = others;
        wire.extend(frame(if *ends { FINAL } else { 0 } | opcode, payload));
        opcode = if *ends { BINARY } else { CONTINUATION };
        if *pings {
            wire.extend(frame(FINAL | PING, b"still there?"));
        }
    }
    wire.extend(frame(FINAL | opcode, rest));
    wire
}
