//! Retained messages, at the shards that keep them.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::io::RetainedQuery;
use crate::route::{ShardId, TopicFilter};
use crate::shard::{RetainedPage, RetainedReport, shard_of};

use super::super::Context;
use super::super::asking::answer as await_answer;
use super::super::server::{Failure, answer};
use super::paging::{Wanted, collect};
use super::{Answered, bad_request, not_removed, page, path_text, serving, silent};

const NOT_RETAINED: &str = "nothing is retained for this topic";

/// `GET /api/v1/retained`: some retained messages without their payloads, and where the next ones are.
pub(in super::super) async fn get_all_retained(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Answered {
    let broker = serving(&context)?;
    let mut wanted = Wanted::parse(query.as_deref(), &["filter"]).map_err(bad_request)?;
    let filter = wanted.take("filter").unwrap_or_else(|| "#".into());
    TopicFilter::parse(&filter).map_err(|error| bad_request(format!("filter: {error}")))?;
    let _turn = context.walking.acquire().await;
    let ask =
        |shard, from, max| broker.doors.retained_messages(shard, RetainedQuery { from, max, filter: filter.clone() });
    let open = |shard, found: RetainedPage| {
        (found.messages.iter().map(|message| describe(shard, message)).collect(), found.next)
    };
    let (messages, next) = collect(&broker.doors, &wanted, ask, open).await.map_err(silent)?;
    Ok(answer(StatusCode::OK, &page("retained", messages, next)))
}

/// `GET /api/v1/retained/{topic}`: one retained message.
pub(in super::super) async fn get_retained(
    State(context): State<Arc<Context>>,
    topic: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, topic) = (serving(&context)?, path_text(topic)?);
    let shard = shard_of(&topic, broker.doors.shards());
    let found = await_answer(broker.doors.retained_message(shard, &topic)).await.ok_or_else(|| silent(shard))?;
    let (report, payload) = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, NOT_RETAINED))?;
    let mut described = describe(shard, &report);
    if let Some(payload) = payload {
        match std::str::from_utf8(&payload) {
            Ok(text) => described["payload"] = text.into(),
            Err(_) => described["payload_base64"] = STANDARD.encode(&payload).into(),
        }
    }
    Ok(answer(StatusCode::OK, &described))
}

/// `DELETE /api/v1/retained/{topic}`: the message is forgotten, and nobody hears of it.
pub(in super::super) async fn delete_retained(
    State(context): State<Arc<Context>>,
    topic: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, topic) = (serving(&context)?, path_text(topic)?);
    let shard = shard_of(&topic, broker.doors.shards());
    let removed = await_answer(broker.doors.remove_retained(shard, &topic)).await.ok_or_else(|| silent(shard))?;
    removed.map_err(|reason| not_removed(reason, NOT_RETAINED))?;
    Ok(answer(StatusCode::OK, &json!({ "removed": topic })))
}

fn describe(shard: ShardId, message: &RetainedReport) -> Value {
    json!({
        "topic": message.topic,
        "shard": shard.number(),
        "qos": message.qos as u8,
        "payload_bytes": message.payload_bytes,
        "expires_in_seconds": message.expires_in.map(|left| left.as_secs()),
    })
}
