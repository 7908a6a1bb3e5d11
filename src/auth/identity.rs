//! Who a connected client is, and how it shows once more that it still is.
//!
//! A client that came by an exchange of AUTH packets may begin another one whenever it likes (5.0, section 4.12.1). It is checked
//! against the keys that its account had when it connected, and has to be for the same account: a password file that was read
//! anew meanwhile changes nothing for who is connected.
//!
//! | exchange | AUTH 0x19                     | AUTH 0x18                    | AUTH 0x00      |
//! |----------|-------------------------------|------------------------------|----------------|
//! | none     | challenge, or failure         | protocol error               | protocol error |
//! | begun    | protocol error                | success or failure; it is over | protocol error |
//!
//! There is no randomness here: the nonces come from a secret that each connection has for itself.

use crate::proto::ReasonCode;

use super::scram::{ClientFirst, Exchange, METHOD, ScramError, ScramKeys, hmac};

/// Who a client is.
#[derive(Debug)]
pub struct Identity {
    /// The name of its account.
    pub user_name: Box<str>,
    /// For a client that came by an exchange of AUTH packets: how it does so again.
    reauthentication: Option<Box<Reauthentication>>,
}

/// What the nonces of one connection come from.
pub type ReauthenticationSecret = [u8; 32];

/// Re-authentication of one connection.
pub(super) struct Reauthentication {
    keys: ScramKeys,
    secret: ReauthenticationSecret,
    /// Exchanges begun.
    begun: u64,
    exchange: Option<Exchange>,
}

/// What a client is answered that authenticates again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// AUTH 0x18 with this data.
    Continue(Box<str>),
    /// AUTH 0x00 with this data: it is over.
    Done(Box<str>),
}

/// Why a re-authentication ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unproven {
    /// The packet is not due.
    OutOfTurn(&'static str),
    /// The client has not shown that it is who it was [MQTT-4.12.1-2].
    Failed(&'static str),
}

impl Identity {
    /// Of a client that has shown who it is by a password or a certificate.
    pub(crate) fn without_exchange(user_name: Box<str>) -> Self {
        Self { user_name, reauthentication: None }
    }

    pub(super) fn of_exchange(user_name: Box<str>, reauthentication: Reauthentication) -> Self {
        Self { user_name, reauthentication: Some(Box::new(reauthentication)) }
    }

    /// Takes an AUTH packet.
    ///
    /// # Errors
    /// If the connection has to end.
    pub fn handle_auth(
        &mut self,
        reason: ReasonCode,
        method: Option<&str>,
        data: Option<&[u8]>,
    ) -> Result<Reply, Unproven> {
        let Some(reauthentication) = &mut self.reauthentication else {
            return Err(Unproven::OutOfTurn("AUTH without an authentication method in CONNECT"));
        };
        // [MQTT-4.12.1-1]
        if method != Some(METHOD) {
            return Err(Unproven::OutOfTurn("another authentication method than in CONNECT"));
        }
        match (reason, reauthentication.exchange.take()) {
            (ReasonCode::Reauthenticate, None) => reauthentication.begin(&self.user_name, data),
            (ReasonCode::ContinueAuthentication, Some(exchange)) => {
                let data = data.ok_or(Unproven::Failed("AUTH without data"))?;
                exchange.finish(data).map(Reply::Done).map_err(Unproven::from)
            }
            (ReasonCode::Reauthenticate, Some(_)) => Err(Unproven::OutOfTurn("a second re-authentication at a time")),
            (ReasonCode::ContinueAuthentication, None) => Err(Unproven::OutOfTurn("AUTH 0x18 without a challenge")),
            // Of the codes that AUTH may have this leaves 0x00, which is the server's.
            (_, _) => Err(Unproven::OutOfTurn("AUTH with a reason code of the server")),
        }
    }
}

impl Reauthentication {
    pub(super) fn new(keys: ScramKeys, secret: ReauthenticationSecret) -> Self {
        Self { keys, secret, begun: 0, exchange: None }
    }

    fn begin(&mut self, user_name: &str, data: Option<&[u8]>) -> Result<Reply, Unproven> {
        let first = ClientFirst::parse(data.ok_or(Unproven::Failed("AUTH without data"))?)?;
        if first.user_name() != user_name {
            return Err(Unproven::Failed("a re-authentication as another user"));
        }
        self.begun += 1;
        let nonce = hmac(&self.secret, &self.begun.to_be_bytes());
        let exchange = first.challenge(self.keys.clone(), &nonce);
        let data = exchange.server_first().into();
        self.exchange = Some(exchange);
        Ok(Reply::Continue(data))
    }
}

impl From<ScramError> for Unproven {
    fn from(error: ScramError) -> Self {
        Self::Failed(error.text())
    }
}

/// Without keys and secret.
impl std::fmt::Debug for Reauthentication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reauthentication").field("begun", &self.begun).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::Authenticated;
    use super::super::testing::{ScramClient, authenticated};
    use super::*;

    const AGAIN: ReasonCode = ReasonCode::Reauthenticate;
    const GO_ON: ReasonCode = ReasonCode::ContinueAuthentication;

    /// What the client is challenged with.
    fn challenged(identity: &mut Identity, client: &ScramClient) -> Box<str> {
        match identity.handle_auth(AGAIN, Some(METHOD), Some(&client.first())) {
            Ok(Reply::Continue(data)) => data,
            other => panic!("no challenge: {other:?}"),
        }
    }

    #[test]
    fn a_client_authenticates_again_as_often_as_it_likes() {
        let mut client = ScramClient::new("alice", "secret");
        let Authenticated { mut identity, data } = authenticated(&mut client);
        assert!(client.trusts(data.as_bytes()) && &*identity.user_name == "alice");
        let mut challenges = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let challenge = challenged(&mut identity, &client);
            let answer = client.answer(challenge.as_bytes());
            assert!(challenges.insert(challenge), "no nonce comes twice");
            match identity.handle_auth(GO_ON, Some(METHOD), Some(&answer)) {
                Ok(Reply::Done(data)) => assert!(client.trusts(data.as_bytes())),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Every state with every packet, as the table above has them; [MQTT-4.12.1-2].
    #[test]
    fn what_is_not_due_or_not_proven_ends_the_connection() {
        let out_of_turn = |result: Result<Reply, Unproven>| matches!(result, Err(Unproven::OutOfTurn(_)));
        let failed = |result: Result<Reply, Unproven>| matches!(result, Err(Unproven::Failed(_)));
        let first = ScramClient::new("alice", "secret").first();
        let idle = || authenticated(&mut ScramClient::new("alice", "secret")).identity;
        let begun = || {
            let mut identity = idle();
            challenged(&mut identity, &ScramClient::new("alice", "secret"));
            identity
        };
        assert!(out_of_turn(idle().handle_auth(GO_ON, Some(METHOD), Some(b""))));
        assert!(out_of_turn(begun().handle_auth(AGAIN, Some(METHOD), Some(&first))));
        for state in [&idle as &dyn Fn() -> Box<Identity>, &begun] {
            assert!(out_of_turn(state().handle_auth(ReasonCode::Success, Some(METHOD), Some(b""))));
            assert!(out_of_turn(state().handle_auth(AGAIN, Some("SCRAM-SHA-1"), Some(&first))));
        }
        assert!(failed(idle().handle_auth(AGAIN, Some(METHOD), None)));
        assert!(failed(idle().handle_auth(AGAIN, Some(METHOD), Some(b"n"))));
        assert!(failed(idle().handle_auth(AGAIN, Some(METHOD), Some(&ScramClient::new("bob", "secret").first()))));
        assert!(failed(begun().handle_auth(GO_ON, Some(METHOD), None)));
        assert!(failed(begun().handle_auth(GO_ON, Some(METHOD), Some(b"c=biws"))));
        let mut identity = idle();
        let mut mistaken = ScramClient::new("alice", "Secret");
        let challenge = challenged(&mut identity, &mistaken);
        assert!(failed(identity.handle_auth(GO_ON, Some(METHOD), Some(&mistaken.answer(challenge.as_bytes())))));
    }

    #[test]
    fn who_came_with_a_password_has_no_method() {
        let mut identity = Identity::without_exchange("alice".into());
        let first = ScramClient::new("alice", "secret").first();
        let refused = identity.handle_auth(AGAIN, Some(METHOD), Some(&first));
        assert!(matches!(refused, Err(Unproven::OutOfTurn(_))));
    }
}
