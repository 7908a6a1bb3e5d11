//! Which shard owns a client: its id is hashed to one of 1,024 slots, and a table gives every slot to a shard.
//!
//! The hash is part of what will be durable (a slot's sessions are found again after a restart), so it is a published
//! one, XXH3 with seed 0, and never changes.

use xxhash_rust::xxh3::xxh3_64;

use crate::route::ShardId;

/// Slots; more than there can be shards, so that the shares differ by a few percent at most.
const SLOTS: usize = 1024;

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS >= 16 * crate::route::MAX_SHARDS);

/// The slot of a key: a client id, or the topic of a retained message.
fn slot_of(key: &str) -> usize {
    (xxh3_64(key.as_bytes()) % SLOTS as u64) as usize
}

/// The shard that owns a slot, in the table that deals slots out in turn.
pub fn shard_of(key: &str, shards: u16) -> ShardId {
    assert!(shards > 0, "a broker has at least one shard");
    ShardId::new((slot_of(key) % usize::from(shards)) as u16).expect("a remainder of the number of shards")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed hash would lose every durable session: these values are for ever.
    #[test]
    fn slots_never_change() {
        // XXH3-64 of the empty string is published as 0x2d06800538d394c2.
        assert_eq!(slot_of(""), 0x2d06800538d394c2u64 as usize % SLOTS);
        assert_eq!(["a", "sensor-1", "sensor-2"].map(slot_of), [543, 314, 130]);
    }

    #[test]
    fn every_shard_gets_its_share() {
        for shards in [1, 2, 3, 16, 64] {
            let mut clients = vec![0; usize::from(shards)];
            for client in 0..64_000 {
                clients[shard_of(&format!("client-{client}"), shards).index()] += 1;
            }
            let fair = 64_000 / u32::from(shards);
            assert!(clients.iter().all(|&clients| (fair * 8 / 10..=fair * 12 / 10).contains(&clients)), "{clients:?}");
        }
    }
}
