//! Whether the broker lives, and whether clients should be sent to it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use crate::io::Doors;
use crate::store::LogFailure;

use super::asking::ask_all;
use super::server::answer;
use super::{Context, Stage};

/// `/healthz`: whether it makes sense to leave it running.
pub(super) async fn get_health(State(context): State<Arc<Context>>) -> Response {
    let (word, broker) = match context.stage() {
        Stage::Recovering => return say(StatusCode::OK, RECOVERING),
        Stage::Serving(broker) => ("healthy", broker),
        Stage::Draining(broker) => (DRAINING, broker),
    };
    match complaint(&ask_health(&broker.doors).await, Severity::Dead) {
        Some(complaint) => say(StatusCode::SERVICE_UNAVAILABLE, &complaint),
        None => say(StatusCode::OK, word),
    }
}

/// `/readyz`: whether it makes sense to send clients to it.
pub(super) async fn get_readiness(State(context): State<Arc<Context>>) -> Response {
    let broker = match context.stage() {
        Stage::Recovering => return say(StatusCode::SERVICE_UNAVAILABLE, RECOVERING),
        Stage::Draining(_) => return say(StatusCode::SERVICE_UNAVAILABLE, DRAINING),
        Stage::Serving(broker) => broker,
    };
    match complaint(&ask_health(&broker.doors).await, Severity::Useless) {
        Some(complaint) => say(StatusCode::SERVICE_UNAVAILABLE, &complaint),
        None => say(StatusCode::OK, READY),
    }
}

pub(super) const RECOVERING: &str = "recovering";
pub(super) const DRAINING: &str = "draining";
pub(super) const READY: &str = "ready";

/// What is complained about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// A shard that does not go on.
    Dead,
    /// That, or one that can promise nothing durable.
    Useless,
}

/// Why the log of each shard has failed, if so; none of a shard that does not answer.
pub(super) type Health = Vec<Option<Option<LogFailure>>>;

async fn ask_health(doors: &Doors) -> Health {
    ask_all(doors, |doors, shard| doors.log_failure(shard)).await
}

/// What is wrong with the first shard that something is wrong with.
pub(super) fn complaint(health: &Health, severity: Severity) -> Option<String> {
    let silent = health.iter().position(Option::is_none).map(|shard| format!("shard {shard} does not answer"));
    let failed = || {
        let mut failures = health.iter().enumerate().filter_map(|(shard, failure)| Some((shard, (*failure)??)));
        let (shard, failure) = failures.next()?;
        Some(format!("log of shard {shard} has failed: {}", failure.name()))
    };
    match severity {
        Severity::Dead => silent,
        Severity::Useless => silent.or_else(failed),
    }
}

fn say(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({ "status": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_shard_is_dead_and_a_failed_log_useless() {
        let failed = Some(Some(LogFailure::NoSpace));
        for (health, dead, useless) in [
            (vec![Some(None), Some(None)], None, None),
            (vec![Some(None), None], Some("shard 1 does not answer"), Some("shard 1 does not answer")),
            (vec![Some(None), failed], None, Some("log of shard 1 has failed: no_space")),
            (vec![failed, None], Some("shard 1 does not answer"), Some("shard 1 does not answer")),
        ] {
            let complaints = [Severity::Dead, Severity::Useless].map(|severity| complaint(&health, severity));
            assert_eq!(complaints.each_ref().map(Option::as_deref), [dead, useless], "{health:?}");
        }
    }
}
