//! The client's side of SCRAM-SHA-256, and what it needs to meet the server's, for tests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::scram::{ScramKeys, hmac};
use super::{Access, Accounts, Authenticated, Claim, METHOD, Scheme, Step, StoredPassword};
use std::sync::Arc;

/// A client that knows a password.
pub(crate) struct ScramClient {
    password: Vec<u8>,
    bare: String,
    /// What the server has to sign, and the signature.
    expected: String,
}

impl ScramClient {
    pub(crate) fn new(user_name: &str, password: &str) -> Self {
        Self { password: password.into(), bare: format!("n={user_name},r=client"), expected: String::new() }
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// The answer to a server-first message.
    pub(crate) fn answer(&mut self, server_first: &[u8]) -> Vec<u8> {
        let server_first = str::from_utf8(server_first).expect("text");
        let mut attributes = server_first.split(',');
        let mut attribute = |key| attributes.next().and_then(|text| text.strip_prefix(key)).expect("an attribute");
        let (nonce, salt, iterations) = (attribute("r="), attribute("s="), attribute("i="));
        let salt = BASE64.decode(salt).expect("base64");
        let iterations = iterations.parse().expect("a number");
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(&self.password, &salt, iterations, &mut salted);
        let client_key = hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let signature = hmac(&stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        let server_signature = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        self.expected = format!("v={}", BASE64.encode(server_signature));
        format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes()
    }

    /// Whether the server has shown that it knows the account.
    pub(crate) fn trusts(&self, server_final: &[u8]) -> bool {
        server_final == self.expected.as_bytes()
    }
}

/// Accounts that ask for `secret`: `alice` with SCRAM, and with few iterations.
pub(crate) fn access() -> Arc<Access> {
    let alice = StoredPassword::Scram(ScramKeys::of_password(b"secret", b"salt", 4));
    let bob = StoredPassword::new(Scheme::Argon2id, b"secret", [1; crate::config::NEW_SALT_BYTES]);
    let accounts = Accounts::parse(&format!("alice:{alice}\nbob:{bob}\n")).expect("two accounts");
    Arc::new(Access::new(Some(accounts), false))
}

/// What the gate has found out about a client that came by an exchange.
pub(crate) fn authenticated(client: &mut ScramClient) -> Authenticated {
    let claim = Claim::Enhanced { method: METHOD.into(), data: Some(client.first().into()), user_name: None };
    let Step::Converse(opening) = access().judge(claim, false) else { panic!("an exchange begins") };
    let conversation = opening.challenge(b"nonce");
    let answer = client.answer(conversation.data().as_bytes());
    conversation.finish(&answer, [7; 32]).expect("the client knows the password")
}
