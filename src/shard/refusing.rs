//! What is not accepted of what clients ask for: messages, wills and subscriptions that the operator has switched off, payloads
//! that are not what they claim to be, topics of the broker's own, what the operator's rules do not permit, and what a failed or
//! full log could not keep.
//!
//! # Invariants
//! - A refusal by PUBACK or PUBREC ends the exchange: its identifier means a new message from then on [MQTT-4.3.3-9], and no
//!   state of it is kept. So a QoS 2 message that was taken before is never refused when it comes again.
//! - Refusals keep the order of the other receipts, and count against the Receive Maximum like them.
//! - What a 5.0 client was told in CONNACK not to do ends its connection, because that is a protocol error
//!   [MQTT-4.13.1-1]. 3.1.1 clients were told nothing: their filters are refused one by one.

use crate::proto::{AcknowledgementKind, Properties, Publish, QoS, ReasonCode, Subscribe, Version, Will};
use crate::route::{TopicFilter, TopicName};
use crate::store::LogPosition;

use super::Shard;
use super::connection::{Acknowledgement, ConnectionKey};
use super::log_failure::LogRefusal;
use super::receiving::{QUOTA_EXCEEDED, Violation};
use super::sessions::SessionKey;
use super::topics;

const QOS_NOT_SERVED: Violation =
    Violation { reason: ReasonCode::QosNotSupported, text: "a QoS above the Maximum QoS of the broker" };

const RETAIN_NOT_SERVED: Violation =
    Violation { reason: ReasonCode::RetainNotSupported, text: "the broker keeps no retained messages" };

const WILDCARDS_NOT_SERVED: Violation = Violation {
    reason: ReasonCode::WildcardSubscriptionsNotSupported,
    text: "the broker takes no subscriptions with wildcards",
};

const IDENTIFIERS_NOT_SERVED: Violation = Violation {
    reason: ReasonCode::SubscriptionIdentifiersNotSupported,
    text: "the broker takes no subscription identifiers",
};

const SHARES_NOT_SERVED: Violation =
    Violation { reason: ReasonCode::SharedSubscriptionsNotSupported, text: "the broker takes no shared subscriptions" };

const SUBSCRIPTIONS_FULL: Violation =
    Violation { reason: ReasonCode::QuotaExceeded, text: "the session has as many subscriptions as it may" };

const NOT_UTF8: Violation = Violation {
    reason: ReasonCode::PayloadFormatInvalid,
    text: "the Payload Format Indicator says UTF-8, and the payload is not",
};

pub(super) const RESERVED_TOPIC: Violation =
    Violation { reason: ReasonCode::NotAuthorized, text: "the topic is one of the broker's own" };

const NOT_PERMITTED: Violation =
    Violation { reason: ReasonCode::NotAuthorized, text: "the client may not publish to this topic" };

const SUBSCRIPTION_NOT_PERMITTED: Violation =
    Violation { reason: ReasonCode::NotAuthorized, text: "the client may read no topic that this filter matches" };

/// Why a message is not accepted that breaks no rule of the standard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// Somebody who gets it has a session whose log has failed or is full.
    Unlogged(LogRefusal),
    /// Its topic is the broker's own.
    ReservedTopic,
    /// Its publisher may not.
    NotPermitted,
    /// Its payload is not UTF-8, as its Payload Format Indicator says.
    PayloadFormat,
}

impl Shard {
    /// Whether the broker serves messages of this kind.
    #[inline]
    pub(super) fn check_served(&mut self, qos: QoS, retain: bool) -> Result<(), Violation> {
        let service = &self.clients.service;
        let violation = if qos > service.max_qos {
            QOS_NOT_SERVED
        } else if retain && !service.retain {
            RETAIN_NOT_SERVED
        } else {
            return Ok(());
        };
        self.clients.counters.refused_not_served += 1;
        Err(violation)
    }

    /// Whether a will may be left as it is [MQTT-3.2.2-12] [MQTT-3.2.2-13].
    pub(super) fn check_will(&mut self, will: &Will<'_>, topic: TopicName<'_>) -> Result<(), Violation> {
        self.check_served(will.qos, will.retain)?;
        if topics::is_reserved(topic) {
            self.clients.counters.refused_reserved_topic += 1;
            return Err(RESERVED_TOPIC);
        }
        if self.is_mislabelled(will.properties, will.payload) {
            self.clients.counters.refused_payload_format += 1;
            return Err(NOT_UTF8);
        }
        Ok(())
    }

    /// Whether a client may leave a will on this topic.
    pub(super) fn check_will_is_permitted(
        &mut self,
        key: ConnectionKey,
        client_id: &str,
        topic: TopicName<'_>,
    ) -> Result<(), Violation> {
        if self.clients.may_leave_will(key, client_id, topic) {
            return Ok(());
        }
        self.clients.counters.refused_acl_will += 1;
        Err(NOT_PERMITTED)
    }

    /// Why a message cannot be accepted, if so.
    #[inline]
    pub(super) fn refusal_of(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        publish: &Publish<'_>,
        topic: TopicName<'_>,
    ) -> Option<Refusal> {
        // First: who may not, is not told what else speaks against it.
        let is_permitted = self.clients.may_publish(key, session, topic.as_str());
        let log_refusal =
            if self.clients.is_degraded() { self.log_refusal_for(publish.qos, publish.retain, topic) } else { None };
        let refusal = if !is_permitted {
            Refusal::NotPermitted
        } else if let Some(refusal) = log_refusal {
            Refusal::Unlogged(refusal)
        } else if topics::is_reserved(topic) {
            Refusal::ReservedTopic
        } else if self.is_mislabelled(publish.properties, publish.payload) {
            Refusal::PayloadFormat
        } else {
            return None;
        };
        (!self.is_repetition(session, publish)).then_some(refusal)
    }

    /// Tells a publisher that its message was not accepted. `quota` is its Receive Maximum.
    ///
    /// 3.1.1 has no word for that but the end of the connection. Only to a topic that is not its own the exchange runs as if the
    /// message had been taken [MQTT-3.3.5-2]; nothing has to be remembered for it, because PUBREL is answered for an id that is not known, too.
    #[cold]
    pub(super) fn refuse_publish(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        quota: usize,
        refusal: Refusal,
    ) -> Result<(), Violation> {
        let counters = &mut self.clients.counters;
        let (violation, count) = match refusal {
            Refusal::Unlogged(refusal @ LogRefusal::Failed(_)) => (refusal.into(), &mut counters.refused_log_failed),
            Refusal::Unlogged(refusal @ LogRefusal::AtLimit) => (refusal.into(), &mut counters.refused_log_full),
            Refusal::ReservedTopic => (RESERVED_TOPIC, &mut counters.refused_reserved_topic),
            Refusal::NotPermitted => (NOT_PERMITTED, &mut counters.refused_acl_publish),
            Refusal::PayloadFormat => (NOT_UTF8, &mut counters.refused_payload_format),
        };
        *count += 1;
        let connection = self.clients.connection(key);
        let (reason, text) = match (refusal, connection.version, publish.packet_id) {
            (_, Version::V5, Some(_)) => (violation.reason, Some(violation.text)),
            (Refusal::ReservedTopic | Refusal::NotPermitted, Version::V311, Some(_)) => (ReasonCode::Success, None),
            (Refusal::ReservedTopic | Refusal::NotPermitted, _, None) => return Ok(()),
            (Refusal::Unlogged(_), _, _) => {
                self.end_for(key, violation);
                return Ok(());
            }
            (Refusal::PayloadFormat, _, _) => return Err(violation),
        };
        if connection.receipts.len() >= quota {
            return Err(QUOTA_EXCEEDED);
        }
        let id = publish.packet_id.expect("matched above");
        let kind = match publish.qos {
            QoS::AtMostOnce | QoS::AtLeastOnce => AcknowledgementKind::Puback,
            QoS::ExactlyOnce => AcknowledgementKind::Pubrec,
        };
        self.clients.send_receipt(key, Acknowledgement { kind, id, reason, text }, LogPosition::NOTHING);
        Ok(())
    }

    /// Whether a SUBSCRIBE keeps to what CONNACK has told its client. Asked before any of its filters is subscribed to.
    pub(super) fn check_subscribe(&mut self, version: Version, subscribe: &Subscribe<'_>) -> Result<(), Violation> {
        if version == Version::V311 {
            return Ok(());
        }
        let identifier = subscribe.properties.subscription_identifier();
        if identifier.is_some() && !self.clients.service.subscription_identifiers {
            self.clients.counters.refused_not_served += 1;
            return Err(IDENTIFIERS_NOT_SERVED);
        }
        for (text, options) in subscribe.filters() {
            let Ok(filter) = TopicFilter::parse(text) else { continue };
            // [MQTT-3.8.3-4]
            if filter.share().is_some() && options.no_local {
                return Err(Violation::protocol_error("no local on a shared subscription"));
            }
            self.check_served_filter(&filter)?;
        }
        Ok(())
    }

    /// The filter of a subscription, or why the subscription is refused.
    pub(super) fn filter_if_accepted<'a>(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        text: &'a str,
    ) -> Result<TopicFilter<'a>, Violation> {
        let filter = self.clients.filter_to_subscribe(text)?;
        self.check_served_filter(&filter)?;
        if !self.clients.may_subscribe(key, session, &filter) {
            self.clients.counters.refused_acl_subscribe += 1;
            return Err(SUBSCRIPTION_NOT_PERMITTED);
        }
        if self.has_all_subscriptions(session, text, &filter) {
            self.clients.counters.refused_max_subscriptions += 1;
            return Err(SUBSCRIPTIONS_FULL);
        }
        Ok(filter)
    }

    fn check_served_filter(&mut self, filter: &TopicFilter<'_>) -> Result<(), Violation> {
        let service = &self.clients.service;
        let violation = if filter.share().is_some() && !service.shared_subscriptions {
            SHARES_NOT_SERVED
        } else if !filter.is_exact() && !service.wildcard_subscriptions {
            WILDCARDS_NOT_SERVED
        } else {
            return Ok(());
        };
        self.clients.counters.refused_not_served += 1;
        Err(violation)
    }

    /// Whether the session has as many subscriptions as it may, and none that this filter would replace.
    fn has_all_subscriptions(&self, key: SessionKey, text: &str, filter: &TopicFilter<'_>) -> bool {
        let session = self.clients.sessions.get(key);
        if session.subscription_count() < self.clients.limits.max_subscriptions as usize {
            return false;
        }
        let is_known = match filter.share() {
            Some(_) => session.membership(text).is_some(),
            None => self.subscriptions.is_subscribed(filter, key.into()),
        };
        !is_known
    }

    /// Whether a payload has to be UTF-8 and is not.
    #[inline]
    fn is_mislabelled(&self, properties: Properties<'_>, payload: &[u8]) -> bool {
        self.clients.service.validates_payload_format
            && properties.payload_format_indicator() == Some(1)
            && std::str::from_utf8(payload).is_err()
    }

    /// Whether the message was taken before: its publisher still holds the identifier, and would give it to the next message
    /// if it heard of a refusal, while here it would still stand for this one.
    fn is_repetition(&mut self, session: SessionKey, publish: &Publish<'_>) -> bool {
        let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) else { return false };
        self.clients.sessions.inbound_if_any(session).is_some_and(|inbound| inbound.awaits_release(id))
    }
}
