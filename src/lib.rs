//! OnceMQ: an MQTT 3.1.1 and 5.0 broker that delivers exactly once.

pub mod config;
/// The MQTT wire format.
pub mod proto;
pub mod route;
pub mod shard;
pub mod time;
