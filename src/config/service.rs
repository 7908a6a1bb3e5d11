//! What of MQTT the broker serves, and what it tells clients of itself.
//!
//! A 5.0 client hears in CONNACK what differs from what the standard assumes. 3.1.1 has no words for it: there the rules hold
//! all the same, and what is refused ends as 3.1.1 lets it end.
//!
//! Nothing here takes back what was accepted before a restart with other values: messages in queues keep their QoS, and
//! subscriptions stay.

use std::num::NonZeroU16;

use crate::proto::QoS;

/// Bytes of a [`Notice`], at most: it has to fit beside all else in a packet that small clients accept.
pub const NOTICE_BYTES_MAX: usize = 1024;

/// What of MQTT the broker serves, and what it tells clients of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Highest QoS that clients may publish and leave wills with. They may subscribe with any [MQTT-3.2.2-10].
    pub max_qos: QoS,
    /// Whether clients may publish retained messages and get those that there are.
    pub retain: bool,
    /// Whether clients may subscribe to filters with wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether clients may give their subscriptions identifiers.
    pub subscription_identifiers: bool,
    /// Whether clients may subscribe to filters of the form `$share/group/filter`.
    pub shared_subscriptions: bool,
    /// Longest keep-alive of a 5.0 client in seconds, which none may turn off then; `None` leaves it to the clients.
    pub max_keep_alive_seconds: Option<NonZeroU16>,
    /// What a client that asks for it is told as a basis for its response topics.
    pub response_information: Option<Notice>,
    /// The server that clients are sent to when this one shuts down or is full.
    pub server_reference: Option<Notice>,
    /// Whether a payload whose Payload Format Indicator is 1 has to be UTF-8.
    pub validates_payload_format: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            max_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            max_keep_alive_seconds: None,
            response_information: None,
            server_reference: None,
            validates_payload_format: false,
        }
    }
}

/// A text that clients are told: a string of MQTT, not empty and of at most [`NOTICE_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice(Box<str>);

impl Notice {
    /// The text, if it can be told.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_tellable = !text.is_empty() && text.len() <= NOTICE_BYTES_MAX && !text.contains('\0');
        is_tellable.then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_a_short_string_of_mqtt() {
        let longest = "x".repeat(NOTICE_BYTES_MAX);
        for text in ["a", "broker-2.example:1883", &longest] {
            assert_eq!(Notice::new(text).expect("a notice").as_str(), text);
        }
        for text in ["", "a\0b", &format!("{longest}x")] {
            assert_eq!(Notice::new(text), None, "{text:?}");
        }
    }
}
