//! Questions to shards, whose answers are not waited for longer than [`ADMIN_ANSWER_TIMEOUT`].

use tokio::time::{Instant, timeout, timeout_at};

use crate::config::ADMIN_ANSWER_TIMEOUT;
use crate::io::{Asked, Doors};
use crate::route::ShardId;

/// The answer to a question, if it comes in time.
pub(super) async fn answer<T>(asked: Asked<T>) -> Option<T> {
    timeout(ADMIN_ANSWER_TIMEOUT, asked?).await.ok()?.ok()
}

/// What all shards answer to the same question, asked at the same time; none of those that do not in time.
pub(super) async fn ask_all<T>(doors: &Doors, ask: impl Fn(&Doors, ShardId) -> Asked<T>) -> Vec<Option<T>> {
    let deadline = Instant::now() + ADMIN_ANSWER_TIMEOUT;
    let asked: Vec<Asked<T>> = shards(doors).map(|shard| ask(doors, shard)).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for asked in asked {
        answers.push(match asked {
            Some(answered) => timeout_at(deadline, answered).await.ok().and_then(Result::ok),
            None => None,
        });
    }
    answers
}

/// All shards.
pub(super) fn shards(doors: &Doors) -> impl Iterator<Item = ShardId> + use<> {
    (0..doors.shards()).filter_map(ShardId::new)
}
