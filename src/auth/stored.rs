//! What a password file keeps in place of a password: four forms, each read, written and checked here.
//!
//! | form                                         | whose                                                     |
//! |----------------------------------------------|-----------------------------------------------------------|
//! | `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH` | ours, and that of most programs (PHC string format)  |
//! | `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER` | ours and PostgreSQL's (RFC 5803); also for the AUTH exchange |
//! | `$7$ITERATIONS$SALT$HASH`                    | mosquitto's: PBKDF2 with SHA-512                          |
//! | `$6$SALT$HASH`                               | mosquitto's of old: SHA-512, one round                    |
//!
//! Salts and hashes are in base64, without padding in the first form. What an entry asks for in time and memory is bounded by
//! `config`.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_NO_PAD};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use crate::config::{
    ARGON2_KIB_MAX, ARGON2_LANES_MAX, ARGON2_PASSES_MAX, NEW_ARGON2, NEW_SALT_BYTES, NEW_SCRAM_ITERATIONS,
    PASSWORD_ITERATIONS, SALT_BYTES,
};

use super::scram::ScramKeys;

const ARGON2ID: &str = "$argon2id$v=19$";
const SCRAM: &str = "SCRAM-SHA-256$";
const PBKDF2: &str = "$7$";
const SHA512: &str = "$6$";

/// Bytes of an Argon2id hash that is read, and of a new one.
const ARGON2_HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
const NEW_ARGON2_HASH_BYTES: usize = 32;

/// What is kept of one password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredPassword {
    /// Argon2id.
    Argon2id {
        /// Memory, passes, lanes.
        parameters: Params,
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8]>,
    },
    /// The keys of SCRAM-SHA-256.
    Scram(ScramKeys),
    /// PBKDF2 with SHA-512.
    Pbkdf2 {
        /// How often it iterates.
        iterations: u32,
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8; 64]>,
    },
    /// SHA-512 of password and salt.
    Sha512 {
        /// The salt.
        salt: Box<[u8]>,
        /// The hash.
        hash: Box<[u8; 64]>,
    },
}

/// Why a stored password is none, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadEntry(pub &'static str);

/// How a new password is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Argon2id: hardest to try passwords against.
    Argon2id,
    /// SCRAM-SHA-256: the only one that serves the AUTH exchange; plain passwords are checked against it, too.
    Scram,
}

impl StoredPassword {
    /// Keeps a new password. Slow on purpose.
    #[must_use]
    pub fn new(scheme: Scheme, password: &[u8], salt: [u8; NEW_SALT_BYTES]) -> Self {
        match scheme {
            Scheme::Argon2id => {
                let (kib, passes, lanes) = NEW_ARGON2;
                let parameters = Params::new(kib, passes, lanes, None).expect("our own parameters are in bounds");
                let hash = argon2id(&parameters, password, &salt, NEW_ARGON2_HASH_BYTES);
                Self::Argon2id { parameters, salt: salt.into(), hash }
            }
            Scheme::Scram => Self::Scram(ScramKeys::of_password(password, &salt, NEW_SCRAM_ITERATIONS)),
        }
    }

    /// Reads one of the forms.
    ///
    /// # Errors
    /// If it is none of them, or asks for more than is allowed.
    pub fn parse(text: &str) -> Result<Self, BadEntry> {
        if let Some(rest) = text.strip_prefix(ARGON2ID) {
            parse_argon2id(rest)
        } else if let Some(rest) = text.strip_prefix(SCRAM) {
            parse_scram(rest).map(Self::Scram)
        } else if let Some(rest) = text.strip_prefix(PBKDF2) {
            let (iterations, rest) = rest.split_once('$').ok_or(BadEntry("a $7$ entry is $7$ITERATIONS$SALT$HASH"))?;
            let iterations = parse_iterations(iterations)?;
            let (salt, hash) = parse_sha512(rest)?;
            Ok(Self::Pbkdf2 { iterations, salt, hash })
        } else if let Some(rest) = text.strip_prefix(SHA512) {
            let (salt, hash) = parse_sha512(rest)?;
            Ok(Self::Sha512 { salt, hash })
        } else if text.starts_with('$') {
            Err(BadEntry("this kind of hash is not known; known are $argon2id$v=19$, SCRAM-SHA-256$, $7$ and $6$"))
        } else {
            Err(BadEntry("the password is not hashed; set it with `oncemq passwd`"))
        }
    }

    /// Whether this is the password. Slow on purpose; the same time for a right and a wrong one.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2id { parameters, salt, hash } => {
                argon2id(parameters, password, salt, hash.len()).ct_eq(hash).into()
            }
            Self::Scram(keys) => keys.matches(password),
            Self::Pbkdf2 { iterations, salt, hash } => {
                let mut other = [0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, &mut other);
                other.ct_eq(&**hash).into()
            }
            Self::Sha512 { salt, hash } => {
                let other: [u8; 64] = Sha512::new().chain_update(password).chain_update(salt).finalize().into();
                other.ct_eq(&**hash).into()
            }
        }
    }

    /// The keys of SCRAM, if that is how it is kept.
    #[must_use]
    pub fn scram_keys(&self) -> Option<&ScramKeys> {
        match self {
            Self::Scram(keys) => Some(keys),
            Self::Argon2id { .. } | Self::Pbkdf2 { .. } | Self::Sha512 { .. } => None,
        }
    }
}

/// As the file has it.
impl fmt::Display for StoredPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base64 = |bytes: &[u8]| BASE64.encode(bytes);
        match self {
            Self::Argon2id { parameters, salt, hash } => write!(
                formatter,
                "{ARGON2ID}m={},t={},p={}${}${}",
                parameters.m_cost(),
                parameters.t_cost(),
                parameters.p_cost(),
                BASE64_NO_PAD.encode(salt),
                BASE64_NO_PAD.encode(hash)
            ),
            Self::Scram(ScramKeys { iterations, salt, stored_key, server_key }) => {
                write!(formatter, "{SCRAM}{iterations}:{}${}:{}", base64(salt), base64(stored_key), base64(server_key))
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(formatter, "{PBKDF2}{iterations}${}${}", base64(salt), base64(&**hash))
            }
            Self::Sha512 { salt, hash } => write!(formatter, "{SHA512}{}${}", base64(salt), base64(&**hash)),
        }
    }
}

/// Without what it keeps.
impl fmt::Debug for StoredPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Argon2id { .. } => "Argon2id",
            Self::Scram(_) => "Scram",
            Self::Pbkdf2 { .. } => "Pbkdf2",
            Self::Sha512 { .. } => "Sha512",
        })
    }
}

fn argon2id(parameters: &Params, password: &[u8], salt: &[u8], hash_bytes: usize) -> Box<[u8]> {
    let mut hash = vec![0; hash_bytes].into_boxed_slice();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters.clone())
        .hash_password_into(password, salt, &mut hash)
        .expect("parameters, salt and length were checked when the entry was made");
    hash
}

fn parse_argon2id(rest: &str) -> Result<StoredPassword, BadEntry> {
    let malformed = BadEntry("an Argon2id entry is $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH");
    let mut fields = rest.split('$');
    let (Some(parameters), Some(salt), Some(hash), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed);
    };
    let mut numbers = parameters.split(',');
    let mut number = |key| numbers.next()?.strip_prefix(key)?.parse::<u32>().ok();
    let (Some(kib), Some(passes), Some(lanes)) = (number("m="), number("t="), number("p=")) else {
        return Err(malformed);
    };
    if numbers.next().is_some() {
        return Err(malformed);
    }
    if kib > ARGON2_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
        return Err(BadEntry("Argon2id may take 262144 KiB, 64 passes and 64 lanes at most"));
    }
    let parameters = Params::new(kib, passes, lanes, None).map_err(|_| BadEntry("Argon2id with too little memory"))?;
    let salt = decode_salt(&BASE64_NO_PAD, salt)?;
    let hash = BASE64_NO_PAD.decode(hash).map_err(|_| malformed)?.into_boxed_slice();
    if salt.len() < argon2::MIN_SALT_LEN || !ARGON2_HASH_BYTES.contains(&hash.len()) {
        return Err(BadEntry("Argon2id wants a salt of 8 to 64 bytes and a hash of 16 to 64"));
    }
    Ok(StoredPassword::Argon2id { parameters, salt, hash })
}

fn parse_scram(rest: &str) -> Result<ScramKeys, BadEntry> {
    let malformed = BadEntry("a SCRAM entry is SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY");
    let (work, keys) = rest.split_once('$').ok_or(malformed)?;
    let (iterations, salt) = work.split_once(':').ok_or(malformed)?;
    let (stored_key, server_key) = keys.split_once(':').ok_or(malformed)?;
    let key = |text| BASE64.decode(text).ok().and_then(|key| <[u8; 32]>::try_from(key).ok()).ok_or(malformed);
    Ok(ScramKeys {
        iterations: parse_iterations(iterations)?,
        salt: decode_salt(&BASE64, salt)?,
        stored_key: key(stored_key)?,
        server_key: key(server_key)?,
    })
}

/// A salt, and what SHA-512 has made with it.
type SaltAndHash = (Box<[u8]>, Box<[u8; 64]>);

/// `SALT$HASH`, as mosquitto writes it.
fn parse_sha512(rest: &str) -> Result<SaltAndHash, BadEntry> {
    let malformed = BadEntry("behind $6$, or $7$ITERATIONS$, comes SALT$HASH, the hash of 64 bytes");
    let (salt, hash) = rest.split_once('$').ok_or(malformed)?;
    let hash = BASE64.decode(hash).ok().and_then(|hash| <[u8; 64]>::try_from(hash).ok()).ok_or(malformed)?;
    Ok((decode_salt(&BASE64, salt)?, Box::new(hash)))
}

fn parse_iterations(text: &str) -> Result<u32, BadEntry> {
    let iterations = text.parse().ok().filter(|iterations| PASSWORD_ITERATIONS.contains(iterations));
    iterations.ok_or(BadEntry("the number of iterations is from 1 to 10000000"))
}

fn decode_salt(alphabet: &impl Engine, text: &str) -> Result<Box<[u8]>, BadEntry> {
    let salt = alphabet.decode(text).ok().filter(|salt| SALT_BYTES.contains(&salt.len()));
    salt.map(Vec::into_boxed_slice).ok_or(BadEntry("the salt is 1 to 64 bytes in base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries that other programs have made, and their passwords.
    const FOREIGN: [(&str, &[u8]); 4] = [
        // mosquitto_passwd of mosquitto 2.0.11
        (
            "$7$101$rrHbpR4Du5UizrHg$HyN1OtzqSbxNx7qN2JQq528hyB2rksMjJV4VOxKodHD3UjrlJO+279NHuH0MNLP+WlW7NY/b91BPh7f3CeCLqA==",
            b"secret",
        ),
        (
            "$6$cDBX6c5CG3S2isZ1$syfrmW92r3l0uob1kTmYc2qYmLi5qHrhB8tR1/fRl2g0MeD8mrYQNyMBL9O/yB5u9gxrjmV/ceD1aGH9EeEYew==",
            b"hunter2",
        ),
        // The example of RFC 7677, as PostgreSQL would have it
        (
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            b"pencil",
        ),
        // A test vector of the reference implementation of Argon2
        ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", b"password"),
    ];

    #[test]
    fn entries_of_other_programs_are_read_checked_and_written() {
        for (text, password) in FOREIGN {
            let stored = StoredPassword::parse(text).expect("an entry");
            assert_eq!(stored.to_string(), text);
            assert!(stored.matches(password), "{text}");
            for wrong in [&b""[..], b"Secret", &[password, b"x"].concat(), &[0xFF]] {
                assert!(!stored.matches(wrong), "{text}: {wrong:?}");
            }
        }
    }

    #[test]
    fn new_entries_match_their_passwords_only() {
        for scheme in [Scheme::Argon2id, Scheme::Scram] {
            let stored = StoredPassword::new(scheme, b"open sesame", [7; NEW_SALT_BYTES]);
            assert!(stored.matches(b"open sesame") && !stored.matches(b"open barley"), "{stored:?}");
            assert_eq!(StoredPassword::parse(&stored.to_string()), Ok(stored.clone()));
            assert_eq!(stored.scram_keys().is_some(), scheme == Scheme::Scram);
        }
    }

    #[test]
    fn what_is_not_an_entry_is_refused_in_words() {
        let hash = BASE64.encode([0; 64]);
        let short = BASE64_NO_PAD.encode([0; 15]);
        for (text, part) in [
            ("", "not hashed"),
            ("secret", "not hashed"),
            ("$1$salt$hash", "not known"),
            ("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "not known"),
            ("$argon2id$v=19$m=256,t=2$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5", "$v=19$m=KIB"),
            ("$argon2id$v=19$m=256,t=2,p=1,q=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5", "$v=19$m=KIB"),
            ("$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5", "at most"),
            ("$argon2id$v=19$m=256,t=65,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5", "at most"),
            ("$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5", "too little"),
            ("$argon2id$v=19$m=256,t=2,p=1$c29t$nf65EOgLrQMR/uIPnA4rEsF5", "8 to 64"),
            (&format!("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ${short}"), "8 to 64"),
            ("SCRAM-SHA-256$0:W22Z$WG5d:wfPL", "1 to 10000000"),
            ("SCRAM-SHA-256$4096:W22Z$WG5d:wfPL", "STOREDKEY"),
            ("SCRAM-SHA-256$4096$WG5d:wfPL", "STOREDKEY"),
            ("$7$101$rrHbpR4Du5UizrHg", "SALT$HASH"),
            (&format!("$7$10000001$rrHbpR4Du5UizrHg${hash}"), "1 to 10000000"),
            (&format!("$6$%${hash}"), "salt"),
            (&format!("$6$${hash}"), "salt"),
            ("$6$cDBX6c5CG3S2isZ1$syfrmW92", "64 bytes"),
        ] {
            let BadEntry(told) = StoredPassword::parse(text).expect_err("refused");
            assert!(told.contains(part), "{text}: {told}");
        }
    }
}
