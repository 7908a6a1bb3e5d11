//! OnceMQ as a client of another broker.
//!
//! The four packets of a hop are the same in both directions, whoever opened the connection. So a bridge is an ordinary
//! durable session of a shard, on a connection that we opened: its outbound half sends to the other broker, the *remote*,
//! what its local subscriptions match, its inbound half takes what the remote sends. Both tables are in the log, which makes
//! QoS 2 exactly-once in both directions across crashes of either side, as far as the remote keeps its own state.
//!
//! What is here is pure: what is configured ([`Bridge`]), what topics are called at either end ([`Topics`]), the opening
//! handshake ([`Opening`]) and when to try again ([`Backoff`]). `gate` opens the connection with it and hands it to the shard that owns the
//! session, where it is a connection like others, but for its role (`shard::bridging`).
//!
//! # Loops
//! What came from the remote is published as by the bridge's own session, whose subscriptions have no local, so it does not
//! go back there. Against the same in the other direction the subscriptions at a 5.0 remote have no local, too, and 3.1.1
//! remotes are told that we are a bridge. Nothing keeps a message from going round in a ring of three brokers and more.

mod backoff;
mod opening;
mod settings;
mod topics;

pub use backoff::Backoff;
pub use opening::{Dialect, Opening, Progress, Refusal};
pub use settings::{Bridge, SESSION_PREFIX};
pub use topics::{BridgedTopic, Direction, TopicFault, Topics};
