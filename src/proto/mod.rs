//! The MQTT wire format.
