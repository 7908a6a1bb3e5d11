//! The last words to a client: why it is refused, or why its connection ends, and which other server it may try.
//!
//! They are as many as the client's Maximum Packet Size has room for [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.14.2-3]: without
//! room for the referral it is the reason in words, then the reason alone, and in the end nothing.

use crate::config::Notice;
use crate::proto::{Connack, Disconnect, Packet, Properties, Property, PropertyWriter, ReasonCode, Version};
use crate::store::LogPosition;
use crate::transport::Close;

use super::Shard;
use super::connection::ConnectionKey;

/// Why a connection ends, or does not begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Farewell {
    pub(crate) reason: ReasonCode,
    pub(crate) text: Option<&'static str>,
    /// Whether another server may serve the client. It is told which, if the operator has named one.
    pub(crate) refers: bool,
}

impl Farewell {
    /// How to say it on a WebSocket, where there is also a word for it in 3.1.1.
    pub(crate) fn close(self) -> Close {
        if self.reason == ReasonCode::ServerShuttingDown {
            Close::GOING_AWAY
        } else {
            Close::policy(self.text.unwrap_or_default())
        }
    }

    /// The ways to say it in 5.0, the one with the most words first.
    pub(crate) fn ways(self, server_reference: Option<&Notice>) -> impl Iterator<Item = (ReasonCode, PropertyWriter)> {
        let text = self.text.map(Property::ReasonString);
        let reference = server_reference.filter(|_| self.refers);
        let reference = reference.map(|reference| Property::ServerReference(reference.as_str()));
        // The reason string explains the reason, which a referral replaces.
        let referral = reference.map(|reference| (ReasonCode::UseAnotherServer, Some(reference)));
        let in_words = text.map(|text| (self.reason, Some(text)));
        let ways = [referral, in_words, Some((self.reason, None))];
        ways.into_iter().flatten().map(|(reason, property)| {
            let mut properties = PropertyWriter::new();
            if let Some(property) = property {
                properties.push(property);
            }
            (reason, properties)
        })
    }
}

impl Shard {
    /// Refuses a client with CONNACK, if there is one that says so.
    pub(super) fn send_refusal(&mut self, key: ConnectionKey, farewell: Farewell) {
        self.clients.connection(key).transport.end(farewell.close());
        // 3.1.1 has hardly a return code for what a client does wrong: the connection is closed [3.1.1: MQTT-4.8.0-1].
        let is_tellable = match self.clients.connection(key).version {
            Version::V311 => farewell.reason.connack_return_code().is_some(),
            Version::V5 => true,
        };
        if is_tellable {
            self.send_farewell(key, farewell, |reason, properties| {
                Packet::Connack(Connack { session_present: false, reason, properties })
            });
        }
    }

    /// Tells a client, or the remote of a bridge, that its connection ends; 3.1.1 has no DISCONNECT from the server.
    pub(super) fn send_disconnect(&mut self, key: ConnectionKey, farewell: Farewell) {
        let connection = self.clients.connection(key);
        connection.transport.end(farewell.close());
        match (connection.role.link(), connection.version) {
            (None, Version::V311) => {}
            (None, Version::V5) | (Some(_), _) => self.send_farewell(key, farewell, |reason, properties| {
                Packet::Disconnect(Disconnect { reason, properties })
            }),
        }
    }

    fn send_farewell(
        &mut self,
        key: ConnectionKey,
        farewell: Farewell,
        packet: impl for<'a> Fn(ReasonCode, Properties<'a>) -> Packet<'a>,
    ) {
        let reference = self.clients.service.server_reference.clone();
        for (reason, properties) in farewell.ways(reference.as_ref()) {
            if self.clients.send_if_accepted(key, &packet(reason, properties.properties()), LogPosition::NOTHING) {
                return;
            }
        }
    }
}
