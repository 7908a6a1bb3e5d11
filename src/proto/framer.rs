//! Cuts a received byte stream into packets without copying what need not be copied.
//!
//! A packet that lies whole in the received bytes is handed on where it lies. One that is split between two receives is
//! collected in the framer; the maximum packet size is enforced on its fixed header, before anything is collected.

use bytes::Bytes;

use super::{DecodeError, frame_length};

/// Bytes to collect before room is made for all of a packet's declared length.
const TRUST_DECLARED_LENGTH_AFTER_BYTES: usize = 4096;

/// Up to this length room is made for all of a packet at once, whatever is there of it.
const SHORT_PACKET_BYTES: usize = 1024;

/// The start of a packet whose end has not been received yet. Empty, and without memory, between packets.
#[derive(Debug, Default)]
pub struct Framer {
    partial: Vec<u8>,
}

/// The bytes of one receive, consumed packet by packet.
#[derive(Debug)]
pub struct Received<'a> {
    bytes: &'a [u8],
    consumed: usize,
}

/// One whole packet, fixed header included.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Lies in the received bytes.
    InPlace(&'a [u8]),
    /// Was collected from several receives.
    Collected(Bytes),
}

impl Frame<'_> {
    /// The packet's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Frame::InPlace(bytes) => bytes,
            Frame::Collected(bytes) => bytes,
        }
    }
}

impl<'a> Received<'a> {
    /// Starts on the bytes of one receive.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, consumed: 0 }
    }

    /// What has not been cut into packets yet.
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.consumed..]
    }
}

impl Framer {
    /// The next whole packet, or `None` when the rest of `received` is the beginning of one, which is then kept here.
    ///
    /// # Errors
    /// As [`frame_length`]; the stream has no further packet boundaries after that.
    #[inline]
    pub fn next_frame<'a>(
        &mut self,
        received: &mut Received<'a>,
        max_packet_bytes: u32,
    ) -> Result<Option<Frame<'a>>, DecodeError> {
        if !self.partial.is_empty() {
            return self.collect(received, max_packet_bytes);
        }
        let rest = received.rest();
        if rest.is_empty() {
            return Ok(None);
        }
        match frame_length(rest, max_packet_bytes)? {
            Some(length) if length <= rest.len() => {
                received.consumed += length;
                Ok(Some(Frame::InPlace(&rest[..length])))
            }
            length => {
                self.partial.reserve_exact(trusted_bytes(length, rest.len()));
                self.partial.extend_from_slice(rest);
                received.consumed = received.bytes.len();
                Ok(None)
            }
        }
    }

    /// Whether a packet has begun and not ended.
    pub fn is_inside_packet(&self) -> bool {
        !self.partial.is_empty()
    }

    fn collect<'a>(
        &mut self,
        received: &mut Received<'a>,
        max_packet_bytes: u32,
    ) -> Result<Option<Frame<'a>>, DecodeError> {
        loop {
            let rest = received.rest();
            let Some(length) = frame_length(&self.partial, max_packet_bytes)? else {
                // The fixed header itself is split: it has at most five bytes, so byte by byte is cheap.
                let Some(&byte) = rest.first() else { return Ok(None) };
                self.partial.push(byte);
                received.consumed += 1;
                continue;
            };
            let missing = length - self.partial.len();
            let taken = missing.min(rest.len());
            if self.partial.len() >= TRUST_DECLARED_LENGTH_AFTER_BYTES {
                self.partial.reserve_exact(missing);
            }
            self.partial.extend_from_slice(&rest[..taken]);
            received.consumed += taken;
            return Ok((taken == missing).then(|| Frame::Collected(Bytes::from(std::mem::take(&mut self.partial)))));
        }
    }
}

/// For how much of a packet to make room, of which so many bytes are there and the length is known or not.
fn trusted_bytes(length: Option<usize>, present: usize) -> usize {
    length.filter(|length| *length <= SHORT_PACKET_BYTES).unwrap_or(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1 << 20;

    fn pingreq() -> Vec<u8> {
        vec![0xC0, 0]
    }

    fn publish(payload_bytes: usize) -> Vec<u8> {
        let mut body = vec![0, 1, b't'];
        body.extend((0..payload_bytes).map(|index| index as u8));
        let mut packet = vec![0x30];
        let mut length = body.len();
        loop {
            let digit = (length & 0x7F) as u8;
            length >>= 7;
            packet.push(if length > 0 { digit | 0x80 } else { digit });
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        packet
    }

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framer = Framer::default();
        let mut packets = Vec::new();
        for piece in pieces {
            let mut received = Received::new(piece);
            while let Some(frame) = framer.next_frame(&mut received, MAX).expect("well formed") {
                packets.push(frame.bytes().to_vec());
            }
        }
        assert!(!framer.is_inside_packet());
        packets
    }

    /// Trap 38: refused on the header, before any buffering.
    #[test]
    fn too_large_is_refused_on_the_fixed_header() {
        let mut framer = Framer::default();
        let mut received = Received::new(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(framer.next_frame(&mut received, MAX).is_err());
        let mut framer = Framer::default();
        for byte in [0x30u8, 0xFF, 0xFF, 0xFF] {
            let piece = [byte];
            assert!(framer.next_frame(&mut Received::new(&piece), MAX).expect("not yet known").is_none());
        }
        assert!(framer.next_frame(&mut Received::new(&[0x7F]), MAX).is_err());
    }

    /// Trap 54: a declared length alone makes no room.
    #[test]
    fn a_declared_length_allocates_nothing_by_itself() {
        let mut framer = Framer::default();
        let header = [0x30, 0x80, 0x80, 0x40, 0, 1];
        assert!(framer.next_frame(&mut Received::new(&header), 1 << 24).expect("legal").is_none());
        assert!(framer.partial.capacity() < 64, "{} bytes", framer.partial.capacity());
    }

    proptest! {
        /// Trap 40: a stream cut anywhere yields the same packets.
        #[test]
        fn any_cut_of_the_stream_yields_the_same_packets(
            sizes in prop::collection::vec(prop_oneof![0usize..300, 4000usize..20_000], 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let packets: Vec<Vec<u8>> =
                sizes.iter().map(|&size| if size == 0 { pingreq() } else { publish(size) }).collect();
            let stream = packets.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces), packets);
        }
    }

    #[test]
    fn one_byte_per_receive_works() {
        let packets = vec![publish(200), pingreq(), publish(0)];
        let stream = packets.concat();
        let pieces: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(cut(&pieces), packets);
    }
}
