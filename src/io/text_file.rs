//! Text files that an operator has written: read whole, up to a size, so that a mistaken name does not fill the memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The text of a file of at most `bytes_max` bytes.
pub(super) fn read_text_file(path: &Path, bytes_max: u64) -> Result<String> {
    read_text(&mut File::open(path)?, bytes_max)
}

/// The rest of the text of a file, likewise.
pub(super) fn read_text(file: &mut File, bytes_max: u64) -> Result<String> {
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        let text = format!("it is larger than {} MiB", bytes_max / (1024 * 1024));
        return Err(Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(text)
}
