//! Packet ids of deliveries, as a function of their numbers.

use crate::proto::PacketId;

/// Packet ids run from 1 to this and start again.
pub const PACKET_IDS: u64 = 65_535;

/// The packet id of the delivery with this number. That it follows from the number alone is what keeps a resend after a
/// restart under the id that the client knows, without a log record that says so.
pub fn packet_id_of(number: u64) -> PacketId {
    PacketId::new((number % PACKET_IDS) as u16 + 1).expect("one more than a remainder is not zero")
}
