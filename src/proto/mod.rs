//! The MQTT wire format: all 15 control packets of 3.1.1 and 5.0, decoded and encoded.
//!
//! The codec is direction-neutral, so that the broker and the load generator share it, and it is pure: bytes in, typed
//! packets out, and back. It keeps no state between packets.
//!
//! Invariants:
//! - Bytes from the network never panic, and never cause an allocation: decoded packets borrow from the frame.
//! - What [`decode`](fn@crate::proto::decode) returns is legal by itself: flags, lengths, UTF-8, packet identifiers, reason codes and properties
//!   (known, allowed in that packet, not repeated, in range) have been checked.
//! - What the encoders append is a packet that [`decode`](fn@crate::proto::decode) accepts, as long as their documented preconditions hold; those
//!   concern only our own code and are asserted.
//!
//! What it does not do: it does not check topic name and filter syntax (`route`), what is legal only in one direction or
//! state (`session`, `shard`, `gate`), nor does it buffer partial packets.
//!
//! Statement numbers such as `[MQTT-3.1.2-3]` are those of the 5.0 standard unless `3.1.1` stands beside them.

mod connect;
mod decode;
mod encode;
mod error;
mod framer;
mod header;
mod packet;
mod property;
mod reason;
mod types;
mod wire;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod round_trip;

pub use connect::{connects_as_bridge, decode_connect, mark_as_bridge};
pub use decode::{decode, decode_publish, decode_short_acknowledgement};
pub use encode::{
    AcknowledgementKind, PublishHeader, connack_size, encode_acknowledgement, encode_publish_header, encode_subscribe,
    encode_unsubscribe, publish_size, suback_size,
};
pub use error::{ConnectError, DecodeError};
pub use framer::{Frame, Framer, Received};
pub use header::{MAX_FIXED_HEADER_BYTES, MAX_PACKET_BYTES, MAX_REMAINING_LENGTH, frame_length};
pub use packet::{
    Acknowledgement, Auth, Connack, Connect, Disconnect, Packet, Publish, Suback, Subscribe, Unsubscribe, Will,
};
pub use property::{
    Properties, Property, PropertyIdentifier, PropertyIter, PropertyPlace, PropertyWriter, StringPair, encode_property,
};
pub use reason::ReasonCode;
pub use types::{PacketId, PacketType, QoS, RetainHandling, SubscriptionOptions, Version};
