//! The receiver's half of a session: which QoS 2 packet ids of the client await their PUBREL.
//!
//! | id is            | event        | becomes          | answer                                   | statement      |
//! |------------------|--------------|------------------|------------------------------------------|----------------|
//! | free             | PUBLISH      | awaiting PUBREL  | route the message, then PUBREC           | MQTT-4.3.3-8   |
//! | free, quota used | PUBLISH      | free             | DISCONNECT 0x93 (5.0 only)               | MQTT-3.3.4-7   |
//! | awaiting PUBREL  | PUBLISH      | awaiting PUBREL  | PUBREC again, nothing is routed          | MQTT-4.3.3-10  |
//! | awaiting PUBREL  | PUBREL       | free             | PUBCOMP                                  | MQTT-4.3.3-11  |
//! | free             | PUBREL       | free             | PUBCOMP (5.0: Packet Identifier not found) | MQTT-4.3.3-11 |
//!
//! The ids belong to the session, not to a connection: they outlive a reconnect, and nothing but a PUBREL or the end of
//! the session frees one. DUP plays no part: before PUBREL the id is the same message, after PUBCOMP it is a new one.

use crate::proto::PacketId;

/// What a QoS 2 PUBLISH is to the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reception {
    /// A message not seen before: route it once.
    New,
    /// A message already owned: acknowledge again, route nothing.
    Duplicate,
    /// One more than the receiver allows in flight.
    QuotaExceeded,
}

/// What a PUBREL was to the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The exchange it belongs to is complete.
    Completed,
    /// No exchange with that id is open; answered all the same, or the sender would wait for ever.
    Unknown,
}

/// The ids of one session that await PUBREL.
#[derive(Debug, Default)]
pub struct Inbound {
    awaiting_release: PacketIdSet,
}

impl Inbound {
    /// Takes a QoS 2 PUBLISH; `quota` is how many exchanges may be open at once.
    pub fn handle_publish(&mut self, id: PacketId, quota: usize) -> Reception {
        if self.awaiting_release.contains(id) {
            Reception::Duplicate
        } else if self.awaiting_release.len() >= quota {
            Reception::QuotaExceeded
        } else {
            self.awaiting_release.insert(id);
            Reception::New
        }
    }

    /// Whether a message with this id was taken and its PUBREL has not come.
    pub fn is_open(&self, id: PacketId) -> bool {
        self.awaiting_release.contains(id)
    }

    /// Takes a PUBREL.
    pub fn handle_pubrel(&mut self, id: PacketId) -> Release {
        if self.awaiting_release.remove(id) { Release::Completed } else { Release::Unknown }
    }

    /// Puts an exchange back that was open when the state was saved.
    pub fn reopen(&mut self, id: PacketId) {
        if !self.awaiting_release.contains(id) {
            self.awaiting_release.insert(id);
        }
    }

    /// The ids that await PUBREL, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.awaiting_release.iter()
    }

    /// Number of exchanges that await PUBREL.
    pub fn len(&self) -> usize {
        self.awaiting_release.len()
    }

    /// Whether no exchange is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A set of packet ids in pages of 512: clients number their packets in sequence, so the ids in flight share one or two
/// pages, and a page is one and a half cache lines.
#[derive(Debug, Default)]
struct PacketIdSet {
    pages: Vec<Page>,
    count: u32,
}

#[derive(Debug)]
struct Page {
    number: u8,
    count: u16,
    bits: [u64; 8],
}

impl PacketIdSet {
    fn len(&self) -> usize {
        self.count as usize
    }

    fn contains(&self, id: PacketId) -> bool {
        let (number, word, bit) = position(id);
        self.pages.iter().find(|page| page.number == number).is_some_and(|page| page.bits[word] & bit != 0)
    }

    /// The id must not be in the set.
    fn insert(&mut self, id: PacketId) {
        let (number, word, bit) = position(id);
        let index = self.pages.iter().position(|page| page.number == number).unwrap_or_else(|| {
            self.pages.push(Page { number, count: 0, bits: [0; 8] });
            self.pages.len() - 1
        });
        let page = &mut self.pages[index];
        assert!(page.bits[word] & bit == 0, "packet id {} is already in the set", id.get());
        page.bits[word] |= bit;
        page.count += 1;
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.pages.iter().flat_map(|page| {
            let number = u16::from(page.number) << 9;
            (0..512u16)
                .filter(|bit| page.bits[usize::from(bit >> 6)] & 1 << (bit & 63) != 0)
                .filter_map(move |bit| PacketId::new(number | bit))
        })
    }

    /// Whether the id was in the set.
    fn remove(&mut self, id: PacketId) -> bool {
        let (number, word, bit) = position(id);
        let Some(index) = self.pages.iter().position(|page| page.number == number) else { return false };
        let page = &mut self.pages[index];
        if page.bits[word] & bit == 0 {
            return false;
        }
        page.bits[word] &= !bit;
        page.count -= 1;
        self.count -= 1;
        if page.count == 0 {
            self.pages.swap_remove(index);
        }
        true
    }
}

fn position(id: PacketId) -> (u8, usize, u64) {
    let id = id.get();
    ((id >> 9) as u8, usize::from(id >> 6 & 7), 1 << (id & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("a packet id is not zero")
    }

    /// Every row of the table above. [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-3.3.4-7]
    #[test]
    fn every_state_and_event() {
        let free = Inbound::default;
        let awaiting = || {
            let mut inbound = Inbound::default();
            inbound.handle_publish(id(7), 1);
            inbound
        };
        assert_eq!(free().handle_publish(id(7), 1), Reception::New);
        assert_eq!(free().handle_publish(id(7), 0), Reception::QuotaExceeded);
        assert_eq!(free().handle_pubrel(id(7)), Release::Unknown);
        assert_eq!(
            awaiting().handle_publish(id(7), 1),
            Reception::Duplicate,
            "the quota is no reason to refuse a repeat"
        );
        assert_eq!(awaiting().handle_publish(id(8), 1), Reception::QuotaExceeded);
        assert_eq!(awaiting().handle_pubrel(id(7)), Release::Completed);
        assert_eq!(awaiting().handle_pubrel(id(8)), Release::Unknown);
    }

    #[test]
    fn after_the_release_the_same_id_is_a_new_message() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.handle_publish(id(1), 9), Reception::New);
        assert_eq!(inbound.handle_publish(id(1), 9), Reception::Duplicate);
        assert_eq!(inbound.handle_pubrel(id(1)), Release::Completed);
        assert_eq!(inbound.handle_publish(id(1), 9), Reception::New);
    }

    #[test]
    fn all_ids_fit_and_an_empty_set_holds_no_page() {
        let mut inbound = Inbound::default();
        for value in 1..=u16::MAX {
            assert_eq!(inbound.handle_publish(id(value), 65_535), Reception::New);
        }
        assert_eq!(inbound.len(), 65_535);
        for value in 1..=u16::MAX {
            assert_eq!(inbound.handle_pubrel(id(value)), Release::Completed);
        }
        assert!(inbound.is_empty());
        assert!(inbound.awaiting_release.pages.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(events in prop::collection::vec((1u16..1200, any::<bool>()), 0..400)) {
            let mut inbound = Inbound::default();
            let mut model = BTreeSet::new();
            for (value, publish) in events {
                if publish {
                    let expected = if model.insert(value) { Reception::New } else { Reception::Duplicate };
                    prop_assert_eq!(inbound.handle_publish(id(value), 65_535), expected);
                } else {
                    let expected = if model.remove(&value) { Release::Completed } else { Release::Unknown };
                    prop_assert_eq!(inbound.handle_pubrel(id(value)), expected);
                }
                prop_assert_eq!(inbound.len(), model.len());
            }
            let mut reopened = Inbound::default();
            inbound.ids().for_each(|id| reopened.reopen(id));
            prop_assert_eq!(reopened.ids().map(PacketId::get).collect::<BTreeSet<_>>(), model);
        }
    }
}
