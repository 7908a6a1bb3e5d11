//! The data types of the wire (section 1.5 of both standards): a reader that cannot run past its end, and writers.

use super::error::DecodeError;
use super::types::PacketId;

/// The largest value of a variable byte integer of four bytes.
pub(super) const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

const TRUNCATED: DecodeError =
    DecodeError::new(super::ReasonCode::MalformedPacket, "a field runs past the packet's end");

/// The packet has bytes behind its last field.
pub(super) const BYTES_BEHIND_END: DecodeError =
    DecodeError::new(super::ReasonCode::MalformedPacket, "bytes behind the end of the packet");

/// Takes fields off the front of a byte slice; every field borrows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes all that is left.
    #[inline]
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Refuses bytes behind the last field of a packet.
    #[inline]
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BYTES_BEHIND_END) }
    }

    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn two_byte_integer(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn four_byte_integer(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let (value, byte_count) = variable_byte_integer(self.rest)?.ok_or(TRUNCATED)?;
        self.rest = &self.rest[byte_count..];
        Ok(value)
    }

    /// Binary data behind its two-byte length.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let byte_count = self.two_byte_integer()?;
        self.bytes(usize::from(byte_count))
    }

    /// A UTF-8 string behind its two-byte length.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        string(self.binary()?)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        // [MQTT-2.2.1-3] [MQTT-2.2.1-4], 3.1.1: [MQTT-2.3.1-1]
        PacketId::new(self.two_byte_integer()?)
            .ok_or(DecodeError::new(super::ReasonCode::ProtocolError, "packet identifier 0"))
    }
}

/// The variable byte integer at the start of `bytes` and the number of bytes that it takes; `None` while it is
/// incomplete.
#[inline]
pub(super) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    match bytes {
        [] => Ok(None),
        [byte @ 0..=0x7F, ..] => Ok(Some((u32::from(*byte), 1))),
        [_, ..] => long_variable_byte_integer(bytes),
    }
}

fn long_variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // [MQTT-1.5.5-1]: the fewest bytes that can hold the value, so the last one is never 0.
            if *byte == 0 && index > 0 {
                return Err(DecodeError::malformed("a variable byte integer is longer than its value needs"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(DecodeError::malformed("a variable byte integer of more than four bytes"))
}

/// [MQTT-1.5.4-1] (no ill-formed UTF-8, surrogates included), [MQTT-1.5.4-2] (no U+0000) and [MQTT-1.5.4-3] (U+FEFF is
/// kept); in 3.1.1 these are [MQTT-1.5.3-1] to [MQTT-1.5.3-3].
#[inline]
fn string(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = core::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("a string is not UTF-8"))?;
    // A minimum over all bytes compiles to vector instructions; a search with an early exit does not.
    if bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) == 0 {
        return Err(DecodeError::malformed("a string holds U+0000"));
    }
    Ok(text)
}

/// The number of bytes that a variable byte integer takes.
#[inline]
pub(super) const fn variable_byte_integer_bytes(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// # Panics
/// If the value is above [`VARIABLE_BYTE_INTEGER_MAX`].
#[inline]
pub(super) fn put_variable_byte_integer(out: &mut Vec<u8>, value: usize) {
    assert!(value <= VARIABLE_BYTE_INTEGER_MAX as usize, "{value} does not fit a variable byte integer");
    let mut rest = value;
    while rest > 0x7F {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
pub(super) fn put_two_byte_integer(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_four_byte_integer(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// # Panics
/// If there are more than 65,535 bytes.
#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let byte_count = u16::try_from(bytes.len()).expect("binary data and strings hold at most 65,535 bytes");
    put_two_byte_integer(out, byte_count);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_round_trip_at_their_borders() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, VARIABLE_BYTE_INTEGER_MAX] {
            let mut bytes = Vec::new();
            put_variable_byte_integer(&mut bytes, value as usize);
            assert_eq!(bytes.len(), variable_byte_integer_bytes(value as usize));
            assert_eq!(variable_byte_integer(&bytes), Ok(Some((value, bytes.len()))));
            for prefix in 0..bytes.len() {
                assert_eq!(variable_byte_integer(&bytes[..prefix]), Ok(None));
            }
        }
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn overlong_variable_byte_integers_are_refused() {
        let refused: [&[u8]; 5] =
            [&[0x80, 0x00], &[0xFF, 0x00], &[0x80, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x00], &[0xFF, 0xFF, 0xFF, 0xFF]];
        for bytes in refused {
            let error = variable_byte_integer(bytes).expect_err("refused");
            assert_eq!(error.reason, super::super::ReasonCode::MalformedPacket);
        }
    }

    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2]
    #[test]
    fn ill_formed_strings_are_refused() {
        let refused: [&[u8]; 7] = [
            b"a\0b",
            &[0xC0, 0x80],             // U+0000, overlong
            &[0xE0, 0x80, 0xAF],       // '/', overlong
            &[0xED, 0xA0, 0x80],       // the surrogate U+D800
            &[0xED, 0xBF, 0xBF],       // the surrogate U+DFFF
            &[0xF4, 0x90, 0x80, 0x80], // above U+10FFFF
            &[0xE2, 0x82],             // cut short
        ];
        for bytes in refused {
            assert!(string(bytes).is_err(), "{bytes:?}");
        }
    }

    /// [MQTT-1.5.4-3]
    #[test]
    fn a_byte_order_mark_is_kept() {
        assert_eq!(string("\u{FEFF}a\u{FEFF}".as_bytes()), Ok("\u{FEFF}a\u{FEFF}"));
    }
}
