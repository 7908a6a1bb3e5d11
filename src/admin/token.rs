//! The token that requests have to carry.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::ADMIN_TOKEN_CHARACTERS;
use crate::error::TokenError;

/// A token, as far as it has to be known to recognise it.
pub struct Token {
    hash: [u8; 32],
}

impl Token {
    /// The token in a file of one line.
    ///
    /// # Errors
    /// If the file cannot be read, or has something else in it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = read_some(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).ok_or_else(|| TokenError::NotAToken { path: path.to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.trim_end_matches(['\r', '\n']);
        let is_token = ADMIN_TOKEN_CHARACTERS.contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self { hash: hash(line.as_bytes()) })
    }

    /// Whether an `Authorization` header shows it. Takes as long for every wrong one of its length.
    pub(super) fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let Some((scheme, shown)) = authorization.split_at_checked(SCHEME.len()) else { return false };
        scheme.eq_ignore_ascii_case(SCHEME) && bool::from(hash(shown.trim_ascii()).ct_eq(&self.hash))
    }
}

const SCHEME: &[u8] = b"Bearer ";

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The text of a file, or so much of it that it is seen to be too long.
fn read_some(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes_max = ADMIN_TOKEN_CHARACTERS.end() + "\r\n".len() + 1;
    File::open(path)?.take(bytes_max as u64).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_good() {
        let token = Token::parse("0123456789abcdef\n").expect("a token");
        for (shown, is_good) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(token.is_shown_by(shown.as_bytes()), is_good, "{shown}");
        }
    }

    #[test]
    fn what_can_be_guessed_or_not_be_sent_is_no_token() {
        for text in ["", "\n", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\n\nmore", "0123456789abcdéf"]
        {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
        assert!(Token::parse(&"x".repeat(*ADMIN_TOKEN_CHARACTERS.end())).is_some());
        assert!(Token::parse(&"x".repeat(ADMIN_TOKEN_CHARACTERS.end() + 1)).is_none());
    }
}
