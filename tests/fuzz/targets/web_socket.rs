//! What comes on a WebSocket, received whole and in pieces: both yield the same packets, the same end and the same answer. And
//! what is sent in binary frames, cut anywhere, comes out as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::transport::{Close, Ended, WebSocket};
use oncemq_fuzz::{pieces, split_choices};

/// What has become of a stream.
#[derive(PartialEq, Debug)]
struct Opened {
    packets: Vec<u8>,
    end: Result<(), Ended>,
    /// What is said at last.
    answer: Vec<u8>,
}

fuzz_target!(|input: &[u8]| {
    let Some(([max, lengths @ ..], stream)) = split_choices(input) else { return };
    let whole = open([stream], usize::MAX);
    let max = usize::from(*max) + 1;
    assert_eq!(open(pieces(lengths, stream), max), whole);
    assert!(whole.packets.len() <= stream.len(), "nothing is made up");

    let mut frames = Vec::new();
    for payload in pieces(lengths, stream).flat_map(|piece| piece.chunks(usize::from(u16::MAX))) {
        push_frame(&mut frames, payload, [max as u8, 7, 0, 255]);
    }
    let opened = open(pieces(lengths, &frames), max);
    assert_eq!((opened.packets, opened.end), (stream.to_vec(), Ok(())));
});

/// Takes at most `max` bytes out at a time.
fn open<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, max: usize) -> Opened {
    let mut web_socket = WebSocket::default();
    let mut packets = Vec::new();
    let mut end = Ok(());
    for mut piece in pieces {
        while !piece.is_empty() {
            let before = packets.len();
            let opened = web_socket.open(&mut piece, &mut packets, max);
            assert!(packets.len() - before <= max);
            // It is said once.
            end = end.and(opened);
        }
    }
    Opened { packets, end, answer: web_socket.last_words(b"", Close::NORMAL) }
}

/// Appends a binary frame as a client sends it: with a mask, and a length of one byte or of two.
fn push_frame(frames: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    frames.push(0x82);
    if payload.len() < 126 {
        frames.push(0x80 | payload.len() as u8);
    } else {
        frames.push(0x80 | 126);
        frames.extend((payload.len() as u16).to_be_bytes());
    }
    frames.extend(mask);
    frames.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
