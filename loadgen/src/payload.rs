//! What every message carries: who sent it, which one it is, and when it was meant to be sent.
//!
//! Layout, little endian: publisher `u32`, sequence `u64`, intended send time `u64` (nanoseconds of
//! [`crate::clock::Clock`]), then filler up to the payload size that was asked for.

/// Bytes that the stamp takes, hence the smallest payload.
pub(crate) const STAMP_BYTES: usize = 20;

/// The identity and the age of one message. Its identity is the pair of publisher and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    /// Counts from 0 without a gap for each publisher.
    pub(crate) sequence: u64,
    /// When the message was due, not when it could be written: a message that waited for the window or for the
    /// socket is charged for the wait.
    pub(crate) intended_ns: u64,
}

impl Stamp {
    /// Appends the stamp and filler, `payload_bytes` in all.
    pub(crate) fn encode(&self, payload_bytes: usize, out: &mut Vec<u8>) {
        debug_assert!(payload_bytes >= STAMP_BYTES);
        out.extend_from_slice(&self.publisher.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.intended_ns.to_le_bytes());
        out.resize(out.len() + (payload_bytes - STAMP_BYTES), FILLER);
    }

    /// Reads the stamp of a payload; `None` for one too short to be ours.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (intended_ns, _filler) = rest.split_first_chunk()?;
        Some(Self {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u64::from_le_bytes(*sequence),
            intended_ns: u64::from_le_bytes(*intended_ns),
        })
    }
}

const FILLER: u8 = b'.';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_wire_at_every_payload_size() {
        let stamp = Stamp { publisher: 7, sequence: 1 << 40, intended_ns: 123_456_789_012 };
        for payload_bytes in [STAMP_BYTES, STAMP_BYTES + 1, 1000] {
            let mut payload = Vec::new();
            stamp.encode(payload_bytes, &mut payload);
            assert_eq!(payload.len(), payload_bytes);
            assert_eq!(Stamp::decode(&payload), Some(stamp));
        }
    }

    #[test]
    fn a_payload_of_somebody_else_is_not_read_past_its_end() {
        for length in 0..STAMP_BYTES {
            assert_eq!(Stamp::decode(&vec![0; length]), None);
        }
    }
}
