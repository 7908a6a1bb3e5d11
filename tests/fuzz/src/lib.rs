//! What the fuzz targets share: where a stream is cut, what holds for every packet, and an allocator with a bound.
//!
//! Each target takes bytes as they could come from the network or the disk. What holds for all of them: nothing panics, and no
//! allocation is sized by a length that nobody has checked, see [`ALLOCATION_BYTES_MAX`]. What a target holds beside that
//! stands in its file.

mod allocator;
mod packets;

pub use allocator::ALLOCATION_BYTES_MAX;
pub use packets::check_decoding;

/// How many bytes at the beginning of an input decide about what is done with the rest.
const CHOICE_BYTES: usize = 8;

/// Splits an input into bytes that decide what is done, and those that it is done to. Seeds so have a whole stream in them,
/// which dictionaries fit into.
#[must_use]
pub fn split_choices(input: &[u8]) -> Option<(&[u8; CHOICE_BYTES], &[u8])> {
    input.split_first_chunk()
}

/// The pieces in which a stream is received, by lengths that repeat; a length of 0 is all of the rest.
pub fn pieces<'a>(lengths: &[u8], mut stream: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    lengths.iter().cycle().map_while(move |length| {
        let length = match usize::from(*length) {
            0 => stream.len(),
            length => length.min(stream.len()),
        };
        let piece = stream.split_off(..length)?;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The text of an input; what is not UTF-8 is not read from any file.
#[must_use]
pub fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
