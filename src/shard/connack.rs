//! What CONNACK tells a client of the broker.
//!
//! Whatever binds the client is told, and who does not accept a CONNACK that says it is refused: a client that did not hear of
//! a limit would be sent away for exceeding it. What only offers something is left out where there is no room for it. What the
//! standard assumes anyway is not said.

use crate::auth::METHOD;
use crate::proto::{Connect, Property, PropertyWriter, QoS, ReasonCode, Version, connack_size};

use super::admission::Admission;
use super::clients::Clients;
use super::receiving::Violation;

const TOO_SMALL_FOR_CONNACK: Violation =
    Violation { reason: ReasonCode::PacketTooLarge, text: "CONNACK is larger than the client's Maximum Packet Size" };

impl Clients {
    /// The properties of the CONNACK that takes a client in. It is as large whether its session is present or not.
    pub(super) fn connack_properties(
        &self,
        connect: &Connect<'_>,
        admission: &Admission,
    ) -> Result<PropertyWriter, Violation> {
        let mut told = PropertyWriter::new();
        if connect.version == Version::V311 {
            return Ok(told);
        }
        self.push_bounds(connect, admission, &mut told);
        let max = connect.properties.maximum_packet_size().map_or(usize::MAX, |max| max as usize);
        let fits = |told: &PropertyWriter| connack_size(connect.version, told.properties()) <= max;
        // [MQTT-3.1.2-24]
        if !fits(&told) {
            return Err(TOO_SMALL_FOR_CONNACK);
        }
        for offer in self.offers(connect).into_iter().flatten() {
            let mut with_offer = told.clone();
            if fits(with_offer.push(offer)) {
                told = with_offer;
            }
        }
        Ok(told)
    }

    /// What binds the client.
    fn push_bounds(&self, connect: &Connect<'_>, admission: &Admission, told: &mut PropertyWriter) {
        let (limits, service) = (&self.limits, &self.service);
        told.push(Property::ReceiveMaximum(limits.receive_maximum));
        told.push(Property::MaximumPacketSize(limits.max_packet_bytes));
        // [MQTT-3.2.2-9]
        if service.max_qos < QoS::ExactlyOnce {
            told.push(Property::MaximumQos(service.max_qos));
        }
        if !service.retain {
            told.push(Property::RetainAvailable(false));
        }
        if !service.wildcard_subscriptions {
            told.push(Property::WildcardSubscriptionAvailable(false));
        }
        if !service.subscription_identifiers {
            told.push(Property::SubscriptionIdentifiersAvailable(false));
        }
        if !service.shared_subscriptions {
            told.push(Property::SharedSubscriptionAvailable(false));
        }
        if let Some(seconds) = self.server_keep_alive(connect) {
            told.push(Property::ServerKeepAlive(seconds));
        }
        // [MQTT-3.1.3-7]
        if admission.client_id_assigned {
            told.push(Property::AssignedClientIdentifier(&admission.client_id));
        }
        // [MQTT-4.12.0-5]
        if let Some(data) = &admission.authentication_data {
            told.push(Property::AuthenticationMethod(METHOD)).push(Property::AuthenticationData(data.as_bytes()));
        }
    }

    /// What the client may make use of, the most useful first.
    fn offers(&self, connect: &Connect<'_>) -> [Option<Property<'_>>; 2] {
        let aliases = self.limits.topic_alias_maximum;
        // [MQTT-3.1.2-28]
        let asks = connect.properties.request_response_information() == Some(true);
        let information = self.service.response_information.as_ref().filter(|_| asks);
        [
            (aliases > 0).then_some(Property::TopicAliasMaximum(aliases)),
            information.map(|information| Property::ResponseInformation(information.as_str())),
        ]
    }

    /// The keep-alive that a client gets instead of its own, in seconds. 3.1.1 clients could not be told.
    pub(super) fn server_keep_alive(&self, connect: &Connect<'_>) -> Option<u16> {
        let max = self.service.max_keep_alive_seconds?.get();
        let asked = connect.keep_alive_seconds;
        (connect.version == Version::V5 && (asked == 0 || asked > max)).then_some(max)
    }
}
