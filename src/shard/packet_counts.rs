//! How many packets of which kind have come or gone: one addition for each.

use crate::proto::{PacketType, QoS};

/// Packets by type, and PUBLISHes by QoS, since the start.
#[derive(Clone, Debug)]
pub struct PacketCounts {
    /// By the first byte without its lowest bit: the type, and of a PUBLISH DUP and QoS.
    by_first_byte: [u64; 128],
}

impl Default for PacketCounts {
    fn default() -> Self {
        Self { by_first_byte: [0; 128] }
    }
}

impl PacketCounts {
    /// Counts a packet that begins with this byte.
    #[inline]
    pub(super) fn count(&mut self, first_byte: u8) {
        self.by_first_byte[usize::from(first_byte >> 1)] += 1;
    }

    /// Counts a packet of this type that is no PUBLISH.
    #[inline]
    pub(super) fn count_type(&mut self, packet_type: PacketType) {
        self.count((packet_type as u8) << 4);
    }

    /// Counts a PUBLISH.
    #[inline]
    pub(super) fn count_publish(&mut self, qos: QoS) {
        self.count((PacketType::Publish as u8) << 4 | (qos as u8) << 1);
    }

    /// All packets.
    pub fn total(&self) -> u64 {
        self.by_first_byte.iter().sum()
    }

    /// Packets of a type; what a client has sent of it may be malformed.
    pub fn of_type(&self, packet_type: PacketType) -> u64 {
        self.by_first_byte[usize::from(packet_type as u8) << 3..][..8].iter().sum()
    }

    /// PUBLISH packets of a QoS, repeats included.
    pub fn publishes(&self, qos: QoS) -> u64 {
        let first = usize::from(PacketType::Publish as u8) << 3 | qos as usize;
        self.by_first_byte[first] + self.by_first_byte[first | 1 << 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart_by_their_first_byte() {
        let mut counts = PacketCounts::default();
        for first_byte in [0x10, 0x30, 0x31, 0x32, 0x34, 0x35, 0x3C, 0x36, 0x62, 0xF0] {
            counts.count(first_byte);
        }
        counts.count_publish(QoS::AtLeastOnce);
        counts.count_type(PacketType::Pingresp);
        assert_eq!(counts.total(), 12);
        assert_eq!(counts.of_type(PacketType::Publish), 8, "one of them with a QoS that there is not");
        let by_qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| counts.publishes(qos));
        assert_eq!(by_qos, [2, 2, 3]);
        let others = [PacketType::Connect, PacketType::Pubrel, PacketType::Pingresp, PacketType::Auth];
        assert_eq!(others.map(|packet_type| counts.of_type(packet_type)), [1; 4]);
        assert_eq!(counts.of_type(PacketType::Puback), 0);
    }
}
