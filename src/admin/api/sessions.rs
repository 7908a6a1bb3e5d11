//! Sessions: those of clients that are connected, and those that wait for theirs.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::config::ADMIN_SUBSCRIPTIONS_MAX;
use crate::shard::{SubscriptionReport, shard_of};

use super::super::Context;
use super::super::asking::answer as await_answer;
use super::super::server::{Failure, answer};
use super::{Answered, NO_SESSION, describe, list_clients, not_removed, path_text, serving, silent};

/// `GET /api/v1/sessions`: some sessions, and where the next ones are.
pub(in super::super) async fn get_sessions(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Answered {
    list_clients(&context, query, "sessions").await
}

/// `GET /api/v1/sessions/{id}`: one session, with its subscriptions.
pub(in super::super) async fn get_session(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, path_text(id)?);
    let shard = shard_of(&id, broker.doors.shards());
    let nothing = || Failure::new(StatusCode::NOT_FOUND, NO_SESSION);
    let client = await_answer(broker.doors.client(shard, &id)).await.ok_or_else(|| silent(shard))?;
    let mut described = describe(shard, &client.ok_or_else(nothing)?);
    let asked = broker.doors.subscriptions(shard, &id, ADMIN_SUBSCRIPTIONS_MAX);
    let filters = await_answer(asked).await.ok_or_else(|| silent(shard))?.ok_or_else(nothing)?;
    described["filters"] = filters.iter().map(describe_subscription).collect();
    Ok(answer(StatusCode::OK, &described))
}

/// `DELETE /api/v1/sessions/{id}`: the end of a session whose client is away.
pub(in super::super) async fn delete_session(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, path_text(id)?);
    let shard = shard_of(&id, broker.doors.shards());
    let ended = await_answer(broker.doors.end_session(shard, &id)).await.ok_or_else(|| silent(shard))?;
    ended.map_err(|reason| not_removed(reason, NO_SESSION))?;
    Ok(answer(StatusCode::OK, &json!({ "ended": id })))
}

fn describe_subscription(of: &SubscriptionReport) -> Value {
    let options = of.subscription.options;
    json!({
        "filter": of.filter,
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "identifier": of.subscription.identifier,
    })
}
