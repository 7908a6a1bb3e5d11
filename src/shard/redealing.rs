//! Dealing the durable state of a broker out to another number of shards.

use crate::config::{Limits, Service};
use crate::fault::PlantedFault;
use crate::route::ShardId;
use crate::store::{Image, LogConfig, LogEnd};
use crate::time::Timestamp;

use super::placement::shard_of;
use super::{Shard, ShardConfig};

/// Letters carried at once from one shard to another.
const LETTERS_AT_ONCE: usize = 1024;

/// The images of `shards` shards that together hold what these images hold: each session with the shard that owns its
/// client's id, each retained message at its topic's home.
///
/// Letters that were under way between the old shards are delivered first, by these shards themselves, so that none is left:
/// to whom they go only the old shards know.
pub fn redeal(images: &[Image], shards: u16, now: Timestamp) -> Vec<Image> {
    let settled = settle(images, now);
    let mut dealt = vec![Image::default(); usize::from(shards)];
    for image in settled {
        for session in image.sessions.into_values() {
            let sessions = &mut dealt[shard_of(&session.client_id, shards).index()].sessions;
            sessions.insert(sessions.len() as u32, session);
        }
        for (topic, message) in image.retained {
            dealt[shard_of(&topic, shards).index()].retained.insert(topic, message);
        }
    }
    dealt
}

/// The images once every letter has arrived.
fn settle(images: &[Image], now: Timestamp) -> Vec<Image> {
    let ids =
        || (0..images.len() as u16).map(|number| ShardId::new(number).expect("a broker has at most MAX_SHARDS shards"));
    let config = |id: ShardId| ShardConfig {
        id,
        shards: images.len() as u16,
        seed: 0,
        // What is under way has been accepted: no limit refuses it now.
        limits: Limits {
            max_queued_messages: u32::MAX,
            max_queued_bytes: u64::MAX,
            max_retained_messages: u32::MAX,
            // Nothing that goes away here could come back.
            queue_memory_bytes: u64::MAX,
            ..Limits::default()
        },
        service: Service::default(),
        report_interval: None,
        log: Some(LogConfig::discarding()),
        fault: PlantedFault::default(),
    };
    let mut shards: Vec<Shard> = ids().map(|id| Shard::restore(config(id), now, images, LogEnd::default())).collect();
    let mut is_moving = true;
    while is_moving {
        is_moving = false;
        for from in ids() {
            // Nothing of this is kept: what the old logs hold is valid until the new ones are whole.
            while let Some(write) = shards[from.index()].poll_log_write(now) {
                shards[from.index()].handle_log_written(now, write, Ok(()));
                is_moving = true;
            }
            for to in ids().filter(|to| *to != from) {
                while let Some(letters) = shards[from.index()].poll_letters(to, LETTERS_AT_ONCE) {
                    is_moving = true;
                    for letter in letters {
                        shards[to.index()].handle_letter(now, from, letter);
                    }
                }
            }
        }
    }
    shards.iter_mut().map(Shard::image).map(without_links).collect()
}

/// Between new shards nothing is under way, and counting begins anew.
fn without_links(mut image: Image) -> Image {
    image.outgoing.clear();
    image.incoming.clear();
    image
}
