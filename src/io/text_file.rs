//! Files of text that the operator writes, read whole and with a bound; and the directory of them that a mosquitto.conf may
//! include.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::auth::BadLine;
use crate::cli::MosquittoFile;
use crate::config::{CONFIGURATION_FILE_BYTES_MAX, MOSQUITTO_FILES_MAX};
use crate::error::LineFileError;

/// Reads a configuration file.
pub fn read_configuration(path: &Path) -> io::Result<String> {
    read_text_file(path, CONFIGURATION_FILE_BYTES_MAX)
}

/// Reads a mosquitto.conf.
pub fn read_mosquitto_file(path: &Path) -> io::Result<MosquittoFile> {
    Ok(MosquittoFile { name: path.display().to_string(), text: read_configuration(path)? })
}

/// Reads the files of a directory that a mosquitto.conf includes, in mosquitto's order.
pub fn read_mosquitto_directory(path: &Path) -> io::Result<Vec<MosquittoFile>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            paths.push(path);
        }
        if paths.len() > MOSQUITTO_FILES_MAX {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("there are more than {MOSQUITTO_FILES_MAX} files in it"),
            ));
        }
    }
    // By letters, the upper case of each before the lower.
    paths.sort_by_cached_key(|path| (path.to_string_lossy().to_lowercase(), path.clone()));
    paths.iter().map(|path| read_mosquitto_file(path)).collect()
}

/// What `parse` makes of the lines of a file of at most `bytes_max` bytes.
pub(super) fn read_lines<T>(
    path: &Path,
    bytes_max: u64,
    parse: impl FnOnce(&str) -> Result<T, BadLine>,
) -> Result<T, LineFileError> {
    let text = read_text_file(path, bytes_max).map_err(unreadable(path))?;
    parse(&text).map_err(bad_line(path))
}

/// What a failure to read a file of lines is.
pub(super) fn unreadable(path: &Path) -> impl Fn(io::Error) -> LineFileError {
    |source| LineFileError::Unreadable { path: path.to_owned(), source }
}

/// What a bad line in a file of lines is.
pub(super) fn bad_line(path: &Path) -> impl Fn(BadLine) -> LineFileError {
    |bad| LineFileError::BadLine { path: path.to_owned(), bad }
}

/// The text of a file of at most `bytes_max` bytes.
fn read_text_file(path: &Path, bytes_max: u64) -> io::Result<String> {
    read_text(&mut File::open(path)?, bytes_max)
}

/// The rest of the text of a file, likewise.
pub(super) fn read_text(file: &mut File, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", bytes_max >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn a_directory_is_read_in_the_order_of_mosquitto() {
        let scratch = Scratch::new("mosquitto-directory");
        for name in ["b.conf", "A.conf", "01.conf", "a.conf", "B.conf", "00.conf", "README"] {
            fs::write(scratch.path().join(name), name).expect("written");
        }
        let files = read_mosquitto_directory(scratch.path()).expect("readable");
        let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["00.conf", "01.conf", "A.conf", "a.conf", "B.conf", "b.conf"]);
        assert!(files[0].name.ends_with("/00.conf"), "{}", files[0].name);
    }

    #[test]
    fn a_file_that_is_too_large_or_no_text_is_refused() {
        let scratch = Scratch::new("configuration");
        let path = scratch.path().join("oncemq.toml");
        fs::write(&path, " ".repeat(CONFIGURATION_FILE_BYTES_MAX as usize)).expect("written");
        assert!(read_configuration(&path).is_ok());
        fs::write(&path, " ".repeat(CONFIGURATION_FILE_BYTES_MAX as usize + 1)).expect("written");
        let refused = read_configuration(&path).expect_err("too large").to_string();
        assert_eq!(refused, "it is larger than 1 MiB");
        fs::write(&path, [0xFF]).expect("written");
        assert!(read_configuration(&path).is_err());
    }
}
