//! A stream of packets, received whole and in pieces: both yield the same packets and the same error, and these packets are
//! what was received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::proto::{DecodeError, Framer, MAX_PACKET_BYTES, Received};
use oncemq_fuzz::{pieces, split_choices};

/// What has become of a stream.
#[derive(PartialEq, Debug)]
struct Cut {
    frames: Vec<Vec<u8>>,
    /// How it ended, if not with an error.
    is_inside_packet: Result<bool, DecodeError>,
}

fuzz_target!(|input: &[u8]| {
    let Some(([size, lengths @ ..], stream)) = split_choices(input) else { return };
    let max_packet_bytes = [MAX_PACKET_BYTES as u32, 1024, 64 * 1024, 16][usize::from(size % 4)];
    let whole = cut([stream], max_packet_bytes);
    assert_eq!(cut(pieces(lengths, stream), max_packet_bytes), whole);
    assert!(stream.starts_with(&whole.frames.concat()));
    assert!(whole.frames.iter().all(|frame| frame.len() <= max_packet_bytes as usize));
    if whole.is_inside_packet == Ok(false) {
        assert_eq!(whole.frames.concat(), stream);
    }
});

fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, max_packet_bytes: u32) -> Cut {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut received = Received::new(piece);
        loop {
            match framer.next_frame(&mut received, max_packet_bytes) {
                Ok(Some(frame)) => frames.push(frame.bytes().to_vec()),
                Ok(None) => break,
                Err(error) => return Cut { frames, is_inside_packet: Err(error) },
            }
        }
    }
    Cut { frames, is_inside_packet: Ok(framer.is_inside_packet()) }
}
