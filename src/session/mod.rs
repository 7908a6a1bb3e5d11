//! The state machines of a session, pure: what the client's packets and a connection's coming and going mean for
//! exactly-once.
//!
//! [`Inbound`] is the receiver towards a publishing client, [`Outbound`] the sender towards a subscribing one. Both
//! outlive the connection. They know packet ids and states; messages are opaque to them, and encoding, connections and
//! routing are the shard's.

mod expiry;
mod inbound;
mod numbering;
mod outbound;
mod remote;

pub use expiry::SessionExpiry;
pub use inbound::{Inbound, Reception, Release};
pub use numbering::{PACKET_IDS, packet_id_of};
pub use outbound::{
    Acknowledged, Awaited, Deliverable, NextPublish, Outbound, QueueLength, QueueLimit, Reopened, Resend, Resending,
};
pub use remote::RemoteSession;
