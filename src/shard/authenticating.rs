//! A connected client shows once more who it is (5.0, section 4.12.1). Its other packets go on meanwhile.
//!
//! What an exchange consists of, and what is wrong when, stands above [`Identity`](crate::auth::Identity).

use crate::auth::{METHOD, Reply, Unproven};
use crate::proto::{Auth, Packet, Property, PropertyWriter, ReasonCode};
use crate::store::LogPosition;

use super::Shard;
use super::connection::ConnectionKey;
use super::receiving::Violation;

const NO_METHOD: Violation = Violation::protocol_error("AUTH without an authentication method in CONNECT");

const TOO_SMALL_FOR_AUTH: Violation =
    Violation { reason: ReasonCode::PacketTooLarge, text: "AUTH is larger than the client's Maximum Packet Size" };

impl Shard {
    /// AUTH: a step of a re-authentication.
    pub(super) fn handle_auth(&mut self, key: ConnectionKey, auth: &Auth<'_>) -> Result<(), Violation> {
        let principal = self.clients.connection(key).principal.as_mut();
        let identity = principal.and_then(|principal| principal.identity.as_mut()).ok_or(NO_METHOD)?;
        let (method, data) = (auth.properties.authentication_method(), auth.properties.authentication_data());
        let (reason, data) = match identity.handle_auth(auth.reason, method, data) {
            Ok(Reply::Continue(data)) => (ReasonCode::ContinueAuthentication, data),
            Ok(Reply::Done(data)) => {
                self.clients.counters.reauthenticated += 1;
                (ReasonCode::Success, data)
            }
            Err(Unproven::OutOfTurn(text)) => return Err(Violation::protocol_error(text)),
            Err(Unproven::Failed(text)) => {
                // [MQTT-4.12.1-2]
                self.clients.counters.refused_reauthentication += 1;
                return Err(Violation { reason: ReasonCode::NotAuthorized, text });
            }
        };
        // [MQTT-4.12.0-5]; nothing in it could be left out [MQTT-3.15.2-2] [MQTT-3.15.2-3].
        let mut properties = PropertyWriter::new();
        properties.push(Property::AuthenticationMethod(METHOD)).push(Property::AuthenticationData(data.as_bytes()));
        let answer = Packet::Auth(Auth { reason, properties: properties.properties() });
        // [MQTT-3.1.2-24]
        let is_sent = self.clients.send_if_accepted(key, &answer, LogPosition::NOTHING);
        if is_sent { Ok(()) } else { Err(TOO_SMALL_FOR_AUTH) }
    }
}
