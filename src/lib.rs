//! OnceMQ: an MQTT 3.1.1 and 5.0 broker that delivers exactly once.

pub mod cli;
pub mod config;
pub mod error;
pub mod fault;
pub mod gate;
pub mod io;
pub mod proto;
pub mod route;
pub mod session;
pub mod shard;
pub mod store;
pub mod time;
