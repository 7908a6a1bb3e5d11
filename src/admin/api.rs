//! The API: clients, and messages of the operator's. Bodies are JSON in both directions; `openapi.json` says what is in them.

mod paging;
mod retained;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::io::{Announcement, ClientDetails, ClientDetailsPage, ClientQuery};
use crate::proto::{QoS, Version};
use crate::route::ShardId;
use crate::shard::{NotRemoved, shard_of};

use super::asking::answer as await_answer;
use super::server::{Failure, answer};
use super::{Broker, Context};

use paging::{Cursor, Wanted, collect};

pub(super) use retained::{delete_retained, get_all_retained, get_retained};
pub(super) use sessions::{delete_session, get_session, get_sessions};

/// What a handler answers.
type Answered = Result<Response, Failure>;

/// `GET /api/v1/openapi.json`: what there is, for programs.
pub(super) async fn get_description() -> Response {
    let mut response = Response::new(Body::from(DESCRIPTION));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// All routes of the listener, in the words of OpenAPI 3.1.
pub(super) const DESCRIPTION: &str = include_str!("openapi.json");

/// `GET /api/v1/clients`: some sessions, and where the next ones are.
pub(super) async fn get_clients(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Answered {
    list_clients(&context, query, "clients").await
}

/// Some sessions under a name, and where the next ones are.
async fn list_clients(context: &Context, query: Option<String>, name: &str) -> Answered {
    let broker = serving(context)?;
    let mut wanted = Wanted::parse(query.as_deref(), &["q", "state"]).map_err(bad_request)?;
    let id_contains: Box<str> = wanted.take("q").unwrap_or_default();
    let is_connected = match wanted.take("state").as_deref() {
        None => None,
        Some("connected") => Some(true),
        Some("away") => Some(false),
        Some(_) => return Err(bad_request("state is connected or away")),
    };
    let is_wanted =
        |client: &ClientDetails| is_connected.is_none_or(|wanted| client.report.connection.is_some() == wanted);
    let _turn = context.walking.acquire().await;
    let ask =
        |shard, from, max| broker.doors.clients(shard, ClientQuery { from, max, id_contains: id_contains.clone() });
    let open = |shard, found: ClientDetailsPage| {
        let clients = found.clients.iter().filter(|client| is_wanted(client));
        (clients.map(|client| describe(shard, client)).collect(), found.next)
    };
    let (clients, next) = collect(&broker.doors, &wanted, ask, open).await.map_err(silent)?;
    Ok(answer(StatusCode::OK, &page(name, clients, next)))
}

/// A page of something, as the API has it.
fn page(name: &str, found: Vec<Value>, next: Option<Cursor>) -> Value {
    json!({ name: found, "next": next.map(|cursor| cursor.to_string()) })
}

/// `GET /api/v1/clients/{id}`: one session.
pub(super) async fn get_client(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, path_text(id)?);
    let shard = shard_of(&id, broker.doors.shards());
    match await_answer(broker.doors.client(shard, &id)).await.ok_or_else(|| silent(shard))? {
        Some(client) => Ok(answer(StatusCode::OK, &describe(shard, &client))),
        None => Err(Failure::new(StatusCode::NOT_FOUND, NO_SESSION)),
    }
}

/// `DELETE /api/v1/clients/{id}`: the end of its connection.
pub(super) async fn delete_client(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, path_text(id)?);
    let shard = shard_of(&id, broker.doors.shards());
    match await_answer(broker.doors.dismiss(shard, &id)).await.ok_or_else(|| silent(shard))? {
        true => Ok(answer(StatusCode::OK, &json!({ "disconnected": id }))),
        false => Err(Failure::new(StatusCode::NOT_FOUND, "this client is not connected")),
    }
}

/// `POST /api/v1/publish`: a message.
pub(super) async fn post_publish(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answered {
    let broker = serving(&context)?;
    let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    // A web page could send anything else without asking first.
    if !headers.get(CONTENT_TYPE).is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json")) {
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is to be application/json"));
    }
    let announcement = announcement(&body).map_err(bad_request)?;
    // Where it is kept, if it is retained, so that one shard knows when it is safe.
    let shard = shard_of(&announcement.topic, broker.doors.shards());
    let text = "the shard has not answered in time: whether the message is published is not known";
    let unknown = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, text);
    match await_answer(broker.doors.announce(shard, announcement)).await.ok_or_else(unknown)? {
        Ok(()) => Ok(answer(StatusCode::OK, &json!({ "published": true }))),
        Err(refusal) => Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, refusal)),
    }
}

const NO_SESSION: &str = "there is no session of this client";

/// The broker, once it has shards.
fn serving(context: &Context) -> Result<Arc<Broker>, Failure> {
    context.broker().ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the broker is recovering"))
}

fn silent(shard: ShardId) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("shard {} does not answer", shard.number()))
}

fn bad_request(text: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, text)
}

/// Why something is still there; `nothing` is said where it never was.
fn not_removed(reason: NotRemoved, nothing: &'static str) -> Failure {
    let (status, text) = match reason {
        NotRemoved::NothingThere => (StatusCode::NOT_FOUND, nothing),
        NotRemoved::Connected => (StatusCode::CONFLICT, "the client is connected: disconnect it first"),
        NotRemoved::OfTheBroker => (StatusCode::CONFLICT, "it is the broker's own, and would come again"),
        NotRemoved::LogFailed => {
            (StatusCode::SERVICE_UNAVAILABLE, "the log has failed: the next start may find it again")
        }
    };
    Failure::new(status, text)
}

fn path_text(id: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    id.map(|Path(id)| id).map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))
}

/// A client, as the API tells of it.
fn describe(shard: ShardId, client: &ClientDetails) -> Value {
    let ClientDetails { report, origin, connected_at_seconds } = client;
    let connection = report.connection.as_ref().map(|connection| {
        json!({
            "address": origin.map(|origin| origin.to_string()),
            "since": connected_at_seconds,
            "version": match connection.version {
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            },
            "user": connection.user_name,
            "keep_alive_seconds": connection.keep_alive_seconds,
            "bridge": connection.bridge,
        })
    });
    json!({
        "id": report.client_id,
        "shard": shard.number(),
        "connection": connection,
        "away_since": report.disconnected_at.map(|moment| moment.as_nanos() / 1_000_000_000),
        "durable": report.is_durable,
        "subscriptions": report.subscriptions,
        "queued_messages": report.queued,
        "queued_bytes": report.queued_bytes,
        "inflight_in": report.inflight_in,
        "inflight_out": report.inflight_out,
    })
}

/// The message in a body: `topic`, `payload` or `payload_base64` (none is an empty one), `qos` (0) and `retain` (false).
fn announcement(body: &[u8]) -> Result<Announcement, String> {
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    let mut fields: BTreeMap<String, Value> = object.into_iter().collect();
    let text = |key: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("{key} is a string")),
    };
    let topic = fields.remove("topic").ok_or("topic is missing")?;
    let payload = match (fields.remove("payload"), fields.remove("payload_base64")) {
        (None, None) => Vec::new(),
        (Some(payload), None) => text("payload", payload)?.into_bytes(),
        (None, Some(encoded)) => {
            let encoded = text("payload_base64", encoded)?;
            STANDARD.decode(encoded).map_err(|error| format!("payload_base64: {error}"))?
        }
        (Some(_), Some(_)) => return Err("payload and payload_base64 are two ways to say one thing".to_owned()),
    };
    let qos = match fields.remove("qos") {
        None => QoS::AtMostOnce,
        Some(qos) => {
            let number = qos.as_u64().and_then(|number| u8::try_from(number).ok());
            number.and_then(QoS::from_bits).ok_or("qos is 0, 1 or 2")?
        }
    };
    let retain = match fields.remove("retain") {
        None => false,
        Some(retain) => retain.as_bool().ok_or("retain is true or false")?,
    };
    match fields.into_keys().next() {
        Some(unknown) => Err(format!("{unknown:?} is not topic, payload, payload_base64, qos or retain")),
        None => Ok(Announcement { topic: text("topic", topic)?.into(), payload, qos, retain }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_or_refused() {
        let message = |topic: &str, payload: &[u8], qos, retain| {
            Ok(Announcement { topic: topic.into(), payload: payload.into(), qos, retain })
        };
        assert_eq!(announcement(br#"{"topic":"a/b"}"#), message("a/b", b"", QoS::AtMostOnce, false));
        let body = br#"{"topic":"t","payload":"22.5","qos":2,"retain":true}"#;
        assert_eq!(announcement(body), message("t", b"22.5", QoS::ExactlyOnce, true));
        let body = br#"{"topic":"t","payload_base64":"AP8=","qos":1}"#;
        assert_eq!(announcement(body), message("t", &[0, 255], QoS::AtLeastOnce, false));
        for (body, part) in [
            (&br#"{"payload":"x"}"#[..], "topic is missing"),
            (br#"{"topic":7}"#, "topic is a string"),
            (br#"{"topic":"t","payload":7}"#, "payload is a string"),
            (br#"{"topic":"t","payload":"","payload_base64":""}"#, "two ways"),
            (br#"{"topic":"t","payload_base64":"?"}"#, "payload_base64: "),
            (br#"{"topic":"t","qos":3}"#, "0, 1 or 2"),
            (br#"{"topic":"t","qos":"2"}"#, "0, 1 or 2"),
            (br#"{"topic":"t","retain":1}"#, "true or false"),
            (br#"{"topic":"t","Qos":1}"#, "\"Qos\" is not"),
            (b"[]", "the body: "),
            (b"", "the body: "),
        ] {
            let refused = announcement(body).expect_err("refused");
            assert!(refused.contains(part), "{body:?}: {refused}");
        }
    }
}
