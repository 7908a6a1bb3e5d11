//! The fixed header: packet type, flags and remaining length. All that is needed to cut a byte stream into frames.

use super::error::DecodeError;
use super::reason::ReasonCode;
use super::types::PacketType;
use super::wire::{Reader, VARIABLE_BYTE_INTEGER_MAX, put_variable_byte_integer, variable_byte_integer};

/// The largest remaining length that the standard can express.
pub const MAX_REMAINING_LENGTH: usize = VARIABLE_BYTE_INTEGER_MAX as usize;
/// The largest fixed header: the first byte and a remaining length of four.
pub const MAX_FIXED_HEADER_BYTES: usize = 5;
/// The largest packet that the standard can express, fixed header included.
pub const MAX_PACKET_BYTES: usize = MAX_FIXED_HEADER_BYTES + MAX_REMAINING_LENGTH;

/// For each packet type, the set of flags that are legal with it: bit `n` for the flags `n`.
const LEGAL_FLAGS: [u16; 16] = legal_flags();

/// The total length of the packet at the start of `bytes`, fixed header included; `None` until its fixed header is
/// complete.
///
/// Everything that the fixed header tells is judged here, before any of the packet is buffered. `max_packet_bytes`
/// counts the whole packet, as the Maximum Packet Size of 5.0 does.
///
/// # Errors
/// Malformed packet for packet type 0, illegal flags and an ill-formed remaining length; packet too large.
#[inline]
pub fn frame_length(bytes: &[u8], max_packet_bytes: u32) -> Result<Option<usize>, DecodeError> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    check_first_byte(*first)?;
    let Some((remaining, length_bytes)) = variable_byte_integer(rest)? else {
        return Ok(None);
    };
    let total = 1 + length_bytes + remaining as usize;
    if total > max_packet_bytes as usize {
        return Err(DecodeError::new(ReasonCode::PacketTooLarge, "the packet is larger than the maximum packet size"));
    }
    Ok(Some(total))
}

/// Splits exactly one packet into its type, the flags of its first byte, and what follows the fixed header.
#[inline]
pub(super) fn split_frame(frame: &[u8]) -> Result<(PacketType, u8, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let first = reader.byte()?;
    let packet_type = check_first_byte(first)?;
    let remaining = reader.variable_byte_integer()? as usize;
    if remaining != reader.rest().len() {
        return Err(DecodeError::malformed("the remaining length does not match the frame"));
    }
    Ok((packet_type, first & 0x0F, reader))
}

/// Appends a fixed header.
///
/// # Panics
/// If `remaining` is above [`MAX_REMAINING_LENGTH`].
#[inline]
pub(super) fn put_fixed_header(out: &mut Vec<u8>, first: u8, remaining: usize) {
    out.push(first);
    put_variable_byte_integer(out, remaining);
}

#[inline]
fn check_first_byte(first: u8) -> Result<PacketType, DecodeError> {
    let legal = LEGAL_FLAGS[usize::from(first >> 4)] >> (first & 0x0F) & 1 == 1;
    match PacketType::from_first_byte(first) {
        Some(packet_type) if legal => Ok(packet_type),
        packet_type => Err(illegal_first_byte(packet_type, first)),
    }
}

#[cold]
fn illegal_first_byte(packet_type: Option<PacketType>, first: u8) -> DecodeError {
    DecodeError::malformed(match packet_type {
        None => "packet type 0",
        Some(PacketType::Publish) if first & 0b0110 == 0b0110 => "PUBLISH with QoS 3",
        Some(PacketType::Publish) => "PUBLISH with QoS 0 and DUP",
        Some(_) => "reserved flags of the fixed header have the wrong value",
    })
}

const fn legal_flags() -> [u16; 16] {
    let mut legal = [0; 16];
    let mut index = 0;
    while index < PacketType::ALL.len() {
        let packet_type = PacketType::ALL[index];
        legal[packet_type as usize] = if matches!(packet_type, PacketType::Publish) {
            // DUP QoS QoS RETAIN. [MQTT-3.3.1-4]: not both QoS bits; [MQTT-3.3.1-2]: no DUP with QoS 0.
            0b0011_1100_0011_1111
        } else {
            // [MQTT-2.1.3-1], 3.1.1: [MQTT-2.2.2-2]
            1 << (packet_type.first_byte() & 0x0F)
        };
        index += 1;
    }
    legal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-2.1.3-1], [MQTT-3.3.1-2], [MQTT-3.3.1-4]: all 256 first bytes, against the standard's tables 2-1 and 2-2.
    #[test]
    fn exactly_the_legal_first_bytes_pass() {
        let legal: Vec<u8> = [
            &[0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0][..],
            &[0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D][..],
        ]
        .concat();
        for first in 0..=u8::MAX {
            let answer = frame_length(&[first, 0], 100);
            if legal.contains(&first) {
                assert_eq!(answer, Ok(Some(2)), "{first:#04x}");
            } else {
                assert_eq!(answer.expect_err("refused").reason, ReasonCode::MalformedPacket, "{first:#04x}");
            }
        }
    }

    #[test]
    fn the_length_is_known_once_the_header_is_complete() {
        assert_eq!(frame_length(&[], 100), Ok(None));
        assert_eq!(frame_length(&[0x30], 1_000), Ok(None));
        assert_eq!(frame_length(&[0x30, 0x80], 1_000), Ok(None));
        assert_eq!(frame_length(&[0x30, 0x80, 0x01], 1_000), Ok(Some(131)));
        assert_eq!(frame_length(&[0x30, 0xFF, 0xFF, 0xFF], u32::MAX), Ok(None));
        assert_eq!(frame_length(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX), Ok(Some(MAX_PACKET_BYTES)));
    }

    #[test]
    fn the_limit_counts_the_whole_packet() {
        assert_eq!(frame_length(&[0x30, 98], 100), Ok(Some(100)));
        assert_eq!(frame_length(&[0x30, 99], 100).expect_err("refused").reason, ReasonCode::PacketTooLarge);
        let largest = frame_length(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1 << 20);
        assert_eq!(largest.expect_err("refused").reason, ReasonCode::PacketTooLarge);
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn ill_formed_lengths_are_refused_on_the_header() {
        for bytes in [&[0x30, 0x80, 0x00][..], &[0x30, 0xFF, 0xFF, 0xFF, 0x80][..], &[0x30, 0xFF, 0xFF, 0xFF, 0xFF][..]]
        {
            assert_eq!(frame_length(bytes, u32::MAX).expect_err("refused").reason, ReasonCode::MalformedPacket);
        }
    }
}
