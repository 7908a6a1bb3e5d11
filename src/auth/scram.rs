//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): pure, with the server's nonce as an argument.
//!
//! | message      | from   | says                                                            |
//! |--------------|--------|-----------------------------------------------------------------|
//! | client-first | client | `n,,n=USER,r=NONCE`                                             |
//! | server-first | server | `r=NONCE…,s=SALT,i=ITERATIONS`                                  |
//! | client-final | client | `c=biws,r=NONCE…,p=PROOF`: it knows the password                |
//! | server-final | server | `v=SIGNATURE`: it knows what the password became when it was set |
//!
//! Neither the password nor anything that could stand in for it crosses the network, and what the server keeps does not let
//! who steals it log in elsewhere. An exchange for a user that does not exist goes the same way up to the proof, which
//! then fails; the keys for that come from the caller.
//!
//! There is no channel binding: a client that asks for it is refused. One that could, and believes that we can't, is right.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The name of the method in CONNECT, AUTH and CONNACK.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Bytes of one of its messages, at most: a user name of the greatest length, with all of it escaped, is longer than any that
/// people have.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What is kept of a password: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// How often PBKDF2 iterates.
    pub iterations: u32,
    /// Its salt.
    pub salt: Box<[u8]>,
    /// The hash of the client's key.
    pub stored_key: [u8; 32],
    /// The server's key.
    pub server_key: [u8; 32],
}

/// What the client says first.
#[derive(PartialEq, Eq, Debug)]
pub struct ClientFirst {
    user_name: Box<str>,
    nonce: Box<str>,
    /// What the client-final message has to repeat of the header that says whether the channel is bound.
    header: Box<str>,
    /// The message without that header.
    bare: Box<str>,
}

/// An exchange in which the server's first message is said.
pub struct Exchange {
    keys: ScramKeys,
    header: Box<str>,
    nonce: Box<str>,
    client_first_bare: Box<str>,
    server_first: Box<str>,
}

/// Why an exchange fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScramError {
    /// A message is not one of the mechanism.
    #[error("{0}")]
    Malformed(&'static str),
    /// The client does not know the password, or the user does not exist.
    #[error("user name or password is wrong")]
    WrongProof,
}

impl ScramError {
    /// The error in words that a client may be told.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed(text) => text,
            Self::WrongProof => "user name or password is wrong",
        }
    }
}

impl ScramKeys {
    /// What is kept of a password.
    #[must_use]
    pub fn of_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared_password(password), salt, iterations, &mut salted);
        let client_key = hmac(&salted, b"Client Key");
        Self {
            iterations,
            salt: salt.into(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Whether this is the password. Takes as long as [`of_password`](Self::of_password).
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        let other = Self::of_password(password, &self.salt, self.iterations);
        self.stored_key.ct_eq(&other.stored_key).into()
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ClientFirst {
    /// Reads a client-first message.
    ///
    /// # Errors
    /// If it is not one, or asks for channel binding.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let malformed = ScramError::Malformed("not a client-first message of SCRAM");
        let message = text(message).ok_or(malformed)?;
        let mut parts = message.splitn(3, ',');
        let (binding, authorized, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(binding), Some(authorized), Some(bare)) => (binding, authorized, bare),
            _ => return Err(malformed),
        };
        match binding {
            "n" | "y" => {}
            binding if binding.starts_with("p=") => return Err(ScramError::Malformed("channel binding is not served")),
            _ => return Err(malformed),
        }
        // A third attribute in front (`m=`) is one that whoever does not know it has to refuse.
        let mut attributes = bare.split(',');
        let user_name = attributes.next().and_then(|name| name.strip_prefix("n=")).ok_or(malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(malformed)?;
        if !is_nonce(nonce) {
            return Err(malformed);
        }
        let user_name = name_of(user_name).ok_or(ScramError::Malformed("not a user name of SCRAM"))?;
        match authorized.strip_prefix("a=") {
            None if authorized.is_empty() => {}
            Some(other) if name_of(other).is_some_and(|other| other == user_name) => {}
            _ => return Err(ScramError::Malformed("nobody may act as another user")),
        }
        let header = &message[..message.len() - bare.len()];
        Ok(Self { user_name, nonce: nonce.into(), header: header.into(), bare: bare.into() })
    }

    /// The user, as SASLprep writes the name.
    #[must_use]
    pub fn user_name(&self) -> &str {
        &self.user_name
    }

    /// Answers with a nonce that was never used before, against these keys of the user.
    #[must_use]
    pub fn challenge(self, keys: ScramKeys, server_nonce: &[u8]) -> Exchange {
        let nonce = format!("{}{}", self.nonce, BASE64.encode(server_nonce)).into_boxed_str();
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations).into_boxed_str();
        Exchange { keys, header: self.header, nonce, client_first_bare: self.bare, server_first }
    }
}

impl Exchange {
    /// The server-first message.
    #[must_use]
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// The keys that the client has to prove it knows.
    #[must_use]
    pub fn keys(&self) -> &ScramKeys {
        &self.keys
    }

    /// Reads the client-final message; the server-final message, if the client knows the password.
    ///
    /// # Errors
    /// If it does not, or if what it says is not a message of this exchange.
    pub fn finish(&self, message: &[u8]) -> Result<Box<str>, ScramError> {
        let malformed = ScramError::Malformed("not a client-final message of SCRAM");
        let message = text(message).ok_or(malformed)?;
        // Attributes between nonce and proof are extensions, which one may ignore; they are signed like the rest.
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(malformed)?;
        if BASE64.decode(binding).map_err(|_| malformed)? != self.header.as_bytes() || *nonce != *self.nonce {
            return Err(ScramError::Malformed("a message of another exchange"));
        }
        let proof: [u8; 32] = BASE64.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(malformed)?;
        let signed = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = hmac(&self.keys.stored_key, signed.as_bytes());
        let client_key: [u8; 32] = std::array::from_fn(|index| proof[index] ^ signature[index]);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.keys.stored_key)) {
            return Err(ScramError::WrongProof);
        }
        Ok(format!("v={}", BASE64.encode(hmac(&self.keys.server_key, signed.as_bytes()))).into_boxed_str())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// HMAC-SHA-256.
#[must_use]
pub(super) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// A user name as it is compared: SASLprep makes one of the ways to write it. `None` if it may not be one.
#[must_use]
pub fn prepared_name(name: &str) -> Option<Box<str>> {
    let prepared = stringprep::saslprep(name).ok()?;
    (!prepared.is_empty()).then(|| prepared.into())
}

/// A password that SASLprep does not take is taken as it is, as PostgreSQL does, whose entries are read.
fn prepared_password(password: &[u8]) -> Vec<u8> {
    let prepared = str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    prepared.map_or_else(|| password.to_vec(), |prepared| prepared.as_bytes().to_vec())
}

fn text(message: &[u8]) -> Option<&str> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    str::from_utf8(message).ok().filter(|text| !text.contains('\0'))
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name of a message, in which `=2C` is a comma and `=3D` an equals sign.
fn name_of(escaped: &str) -> Option<Box<str>> {
    let mut name = String::with_capacity(escaped.len());
    let mut parts = escaped.split('=');
    name += parts.next()?;
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        name.push(character);
        name += rest;
    }
    prepared_name(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exchange of RFC 7677, section 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn keys() -> ScramKeys {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("the salt of the example");
        ScramKeys::of_password(b"pencil", &salt, 4096)
    }

    /// The exchange of the example behind its first message. Its nonce is not one that we would make.
    fn exchange() -> Exchange {
        let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).expect("client-first");
        assert_eq!(first.user_name(), "user");
        let nonce = format!("{}{SERVER_NONCE}", first.nonce).into_boxed_str();
        Exchange { nonce, server_first: SERVER_FIRST.into(), ..first.challenge(keys(), b"") }
    }

    #[test]
    fn the_example_of_rfc_7677_succeeds() {
        assert_eq!(exchange().finish(CLIENT_FINAL.as_bytes()).as_deref(), Ok(SERVER_FINAL));
        assert!(keys().matches(b"pencil"));
        assert!(!keys().matches(b"pencils"));
    }

    #[test]
    fn a_challenge_continues_the_nonce_and_names_salt_and_iterations() {
        let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).expect("client-first");
        let exchange = first.challenge(keys(), &[0; 3]);
        assert_eq!(exchange.server_first(), "r=rOprNGfwEbeRWgbNEkqOAAAA,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    }

    #[test]
    fn each_changed_message_fails() {
        let (binding, nonce, proof) = ("c=biws", &SERVER_FIRST[..52], "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!([binding, nonce, proof].join(","), CLIENT_FINAL);
        for message in [
            [binding, nonce, "p=AHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="].join(","),
            [binding, nonce, "x=1", proof].join(","),
        ] {
            assert_eq!(exchange().finish(message.as_bytes()), Err(ScramError::WrongProof), "{message}");
        }
        for message in [
            ["c=eSws", nonce, proof].join(","),
            [binding, &nonce[..51], proof].join(","),
            [nonce, proof].join(","),
            [binding, nonce].join(","),
            [binding, nonce, "p=dHzb"].join(","),
            [binding, nonce, "p=%"].join(","),
            String::new(),
            "x".repeat(MESSAGE_BYTES_MAX + 1),
        ] {
            assert!(matches!(exchange().finish(message.as_bytes()), Err(ScramError::Malformed(_))), "{message}");
        }
        assert!(matches!(exchange().finish(&[0xFF]), Err(ScramError::Malformed(_))));
    }

    #[test]
    fn a_proof_is_of_its_password() {
        let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).expect("client-first");
        let other = ScramKeys::of_password(b"pen", &keys().salt, 4096);
        let nonce = exchange().nonce;
        let exchange = Exchange { nonce, server_first: SERVER_FIRST.into(), ..first.challenge(other, b"") };
        assert_eq!(exchange.finish(CLIENT_FINAL.as_bytes()), Err(ScramError::WrongProof));
    }

    #[test]
    fn first_messages_are_read_or_refused() {
        for (message, user_name) in [
            ("n,,n=user,r=x", "user"),
            ("y,,n=user,r=x", "user"),
            ("n,a=user,n=user,r=x", "user"),
            ("n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
            ("n,,n=I\u{AD}X,r=x,e=extension", "IX"), // SASLprep leaves soft hyphens out
        ] {
            let first = ClientFirst::parse(message.as_bytes()).map(|first| first.user_name);
            assert_eq!(first.as_deref(), Ok(user_name), "{message}");
        }
        for message in [
            "",
            "n",
            "n,,",
            "p=tls-unique,,n=user,r=x",
            "q,,n=user,r=x",
            "n,a=admin,n=user,r=x",
            "n,user,n=user,r=x",
            "n,,m=x,n=user,r=x",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=user,r=\u{7f}",
            "n,,n=,r=x",
            "n,,n=a=2c,r=x",
            "n,,n=a=,r=x",
            "n,,n=\u{7},r=x",
        ] {
            let first = ClientFirst::parse(message.as_bytes());
            assert!(matches!(first, Err(ScramError::Malformed(_))), "{message:?}: {first:?}");
        }
    }

    proptest! {
        /// Bytes of the network, some of them near to what they should be.
        #[test]
        fn no_message_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            text in "(n|y|p=x),(a=.*)?,n=.{0,20},r=.{0,10}",
            last in "c=[a-z=]{0,8},r=.{0,80},p=[A-Za-z0-9+/]{0,44}=?",
        ) {
            let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).expect("client-first");
            let exchange = first.challenge(ScramKeys::of_password(b"pencil", b"salt", 1), b"nonce");
            for message in [&bytes[..], text.as_bytes(), last.as_bytes()] {
                let _ = ClientFirst::parse(message);
                let _ = exchange.finish(message);
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", keys(), exchange());
        assert_eq!(shown, "ScramKeys { iterations: 4096, .. } Exchange { .. }");
    }
}
