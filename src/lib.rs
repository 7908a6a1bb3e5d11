//! OnceMQ: an MQTT 3.1.1 and 5.0 broker that delivers exactly once.

/// The MQTT wire format.
pub mod proto;
/// Who gets a message: topics, subscriptions, retained messages.
pub mod route;
