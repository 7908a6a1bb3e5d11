//! An enhanced authentication before CONNACK, as the gate drives it: pure, one step for each packet.

use super::access::Denial;
use super::identity::{Identity, Reauthentication, ReauthenticationSecret};
use super::scram::{ClientFirst, Exchange, ScramError, ScramKeys};

/// SCRAM, behind the client's first message.
#[derive(Debug)]
pub struct ScramOpening {
    first: ClientFirst,
    keys: ScramKeys,
}

/// SCRAM, behind the server's first message.
#[derive(Debug)]
pub struct ScramConversation {
    user_name: Box<str>,
    exchange: Exchange,
}

/// Who the client is, and what it is told with CONNACK.
#[derive(Debug)]
pub struct Authenticated {
    /// Who it is.
    pub identity: Box<Identity>,
    /// The last message of the exchange.
    pub data: Box<str>,
}

impl ScramOpening {
    pub(super) fn new(first: ClientFirst, keys: ScramKeys) -> Self {
        Self { first, keys }
    }

    /// Goes on with a nonce that was never used before.
    #[must_use]
    pub fn challenge(self, server_nonce: &[u8]) -> ScramConversation {
        let user_name = self.first.user_name().into();
        ScramConversation { user_name, exchange: self.first.challenge(self.keys, server_nonce) }
    }
}

impl ScramConversation {
    /// What the client is told in AUTH.
    #[must_use]
    pub fn data(&self) -> &str {
        self.exchange.server_first()
    }

    /// Takes the client's answer. `secret` is where the nonces of later re-authentications come from.
    ///
    /// # Errors
    /// If the client has not proven who it is.
    pub fn finish(self, data: &[u8], secret: ReauthenticationSecret) -> Result<Authenticated, Denial> {
        let data = self.exchange.finish(data).map_err(|error| match error {
            ScramError::Malformed(text) => Denial::BadExchange(text),
            ScramError::WrongProof => Denial::WrongPassword,
        })?;
        let reauthentication = Reauthentication::new(self.exchange.keys().clone(), secret);
        Ok(Authenticated { identity: Box::new(Identity::of_exchange(self.user_name, reauthentication)), data })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ScramClient, access, authenticated};
    use super::super::{Claim, METHOD, Step};
    use super::*;

    fn conversation(client: &ScramClient) -> ScramConversation {
        let claim = Claim::Enhanced { method: METHOD.into(), data: Some(client.first().into()), user_name: None };
        let Step::Converse(opening) = access().judge(claim, false) else { panic!("an exchange begins") };
        opening.challenge(b"nonce")
    }

    #[test]
    fn who_knows_the_password_is_who_it_says() {
        let mut client = ScramClient::new("alice", "secret");
        let Authenticated { identity, data } = authenticated(&mut client);
        assert_eq!(&*identity.user_name, "alice");
        assert!(client.trusts(data.as_bytes()));
    }

    /// A wrong password, a user without SCRAM keys and one that does not exist end alike. [MQTT-4.12.0-4]
    #[test]
    fn who_does_not_is_not_told_why() {
        for (user_name, password) in [("alice", "Secret"), ("bob", "secret"), ("carol", "secret")] {
            let mut client = ScramClient::new(user_name, password);
            let conversation = conversation(&client);
            let answer = client.answer(conversation.data().as_bytes());
            assert_eq!(conversation.finish(&answer, [7; 32]).err(), Some(Denial::WrongPassword), "{user_name}");
        }
        let denied = conversation(&ScramClient::new("alice", "secret")).finish(b"c=biws", [7; 32]).err();
        assert!(matches!(denied, Some(Denial::BadExchange(_))));
    }
}
