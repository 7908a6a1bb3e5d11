//! Flags whose values are words. Each error says which there are; clap adds the flag and what was given.

use crate::config::{ClientIdRule, Durability, QueuePolicy, SharedBalance, SlowReaderPolicy};
use crate::store::RecoveryMode;

const KEEP_OR_POLICY: &str = "allowed is keep, drop-newest, drop-oldest or disconnect";

/// What is done when the queue of a session that outlives the broker is full; `None` if it never is.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurableQueuePolicy(pub(super) Option<QueuePolicy>);

pub(super) fn durability(text: &str) -> Result<Durability, &'static str> {
    match text {
        "sync" => Ok(Durability::Sync),
        "write" => Ok(Durability::Write),
        "none" => Ok(Durability::None),
        _ => Err("allowed is sync, write or none"),
    }
}

pub(super) fn client_id_rule(text: &str) -> Result<ClientIdRule, &'static str> {
    match text {
        "any" => Ok(ClientIdRule::Any),
        "user" => Ok(ClientIdRule::User),
        "user-prefix" => Ok(ClientIdRule::UserPrefix),
        _ => Err("allowed is any, user or user-prefix"),
    }
}

pub(super) fn shared_balance(text: &str) -> Result<SharedBalance, &'static str> {
    match text {
        "least-inflight" => Ok(SharedBalance::LeastInflight),
        "round-robin" => Ok(SharedBalance::RoundRobin),
        "sticky" => Ok(SharedBalance::Sticky),
        _ => Err("allowed is least-inflight, round-robin or sticky"),
    }
}

pub(super) fn queue_policy(text: &str) -> Result<QueuePolicy, &'static str> {
    match text {
        "drop-newest" => Ok(QueuePolicy::DropNewest),
        "drop-oldest" => Ok(QueuePolicy::DropOldest),
        "disconnect" => Ok(QueuePolicy::Disconnect),
        _ => Err("allowed is drop-newest, drop-oldest or disconnect"),
    }
}

pub(super) fn durable_queue_policy(text: &str) -> Result<DurableQueuePolicy, &'static str> {
    let policy = if text == "keep" { None } else { Some(queue_policy(text).map_err(|_| KEEP_OR_POLICY)?) };
    Ok(DurableQueuePolicy(policy))
}

pub(super) fn slow_reader_policy(text: &str) -> Result<SlowReaderPolicy, &'static str> {
    match text {
        "drop-newest" => Ok(SlowReaderPolicy::DropNewest),
        "disconnect" => Ok(SlowReaderPolicy::Disconnect),
        _ => Err("allowed is drop-newest or disconnect"),
    }
}

pub(super) fn recovery(text: &str) -> Result<RecoveryMode, &'static str> {
    match text {
        "strict" => Ok(RecoveryMode::Strict),
        "salvage" => Ok(RecoveryMode::Salvage),
        _ => Err("allowed is strict or salvage"),
    }
}
