//! The API: clients, and messages of the operator's. Bodies are JSON in both directions.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::config::{ADMIN_CLIENTS_PER_QUESTION, ADMIN_PAGE, ADMIN_PAGE_DEFAULT, ADMIN_QUESTIONS_PER_PAGE};
use crate::io::{Announcement, ClientDetails, ClientQuery, Doors};
use crate::proto::{QoS, Version};
use crate::route::ShardId;
use crate::shard::shard_of;

use super::asking::answer as await_answer;
use super::server::{Failure, answer};
use super::{Broker, Context};

/// What a handler answers.
type Answered = Result<Response, Failure>;

/// `GET /api/v1/clients`: some sessions, and where the next ones are.
pub(super) async fn get_clients(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Answered {
    let broker = serving(&context)?;
    let wanted = PageWanted::parse(query.as_deref().unwrap_or_default())
        .map_err(|text| Failure::new(StatusCode::BAD_REQUEST, text))?;
    let _turn = context.walking.acquire().await;
    let (clients, next) = page(&broker.doors, wanted).await.map_err(silent)?;
    let clients: Vec<Value> = clients.iter().map(|(shard, client)| describe(*shard, client)).collect();
    Ok(answer(StatusCode::OK, &json!({ "clients": clients, "next": next.map(|cursor| cursor.to_string()) })))
}

/// `GET /api/v1/clients/{id}`: one session.
pub(super) async fn get_client(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, client_id(id)?);
    let shard = shard_of(&id, broker.doors.shards());
    match await_answer(broker.doors.client(shard, &id)).await.ok_or_else(|| silent(shard))? {
        Some(client) => Ok(answer(StatusCode::OK, &describe(shard, &client))),
        None => Err(Failure::new(StatusCode::NOT_FOUND, "there is no session of this client")),
    }
}

/// `DELETE /api/v1/clients/{id}`: the end of its connection.
pub(super) async fn delete_client(
    State(context): State<Arc<Context>>,
    id: Result<Path<String>, PathRejection>,
) -> Answered {
    let (broker, id) = (serving(&context)?, client_id(id)?);
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
    let announcement = announcement(&body).map_err(|text| Failure::new(StatusCode::BAD_REQUEST, text))?;
    // Where it is kept, if it is retained, so that one shard knows when it is safe.
    let shard = shard_of(&announcement.topic, broker.doors.shards());
    let text = "the shard has not answered in time: whether the message is published is not known";
    let unknown = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, text);
    match await_answer(broker.doors.announce(shard, announcement)).await.ok_or_else(unknown)? {
        Ok(()) => Ok(answer(StatusCode::OK, &json!({ "published": true }))),
        Err(refusal) => Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, refusal)),
    }
}

/// The broker, once it has shards.
fn serving(context: &Context) -> Result<Arc<Broker>, Failure> {
    context.broker().ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the broker is recovering"))
}

fn silent(shard: ShardId) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("shard {} does not answer", shard.number()))
}

fn client_id(id: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    id.map(|Path(id)| id).map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))
}

/// A place among the sessions of all shards, as the client of the API has it: `SHARD.PLACE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    shard: u16,
    place: u32,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.shard, self.place)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, place) = text.split_once('.').ok_or(())?;
        Ok(Self { shard: shard.parse().map_err(drop)?, place: place.parse().map_err(drop)? })
    }
}

/// Which clients are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct PageWanted {
    limit: usize,
    after: Cursor,
    id_contains: Box<str>,
}

impl PageWanted {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wanted =
            Self { limit: ADMIN_PAGE_DEFAULT, after: Cursor { shard: 0, place: 0 }, id_contains: "".into() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| ADMIN_PAGE.contains(limit));
                    let allowed = || format!("limit is a number from {} to {}", ADMIN_PAGE.start(), ADMIN_PAGE.end());
                    wanted.limit = limit.ok_or_else(allowed)?;
                }
                "after" => wanted.after = value.parse().map_err(|()| "after is what an answer gave as next")?,
                "q" => wanted.id_contains = value.into(),
                unknown => return Err(format!("{unknown:?} is not limit, after or q")),
            }
        }
        Ok(wanted)
    }
}

/// The clients that are wanted, with their shards, and where to go on. So many shards are asked, and no more often than
/// [`ADMIN_QUESTIONS_PER_PAGE`]: a page may be short though others follow. An error is a shard that does not answer.
async fn page(doors: &Doors, wanted: PageWanted) -> Result<(Vec<(ShardId, ClientDetails)>, Option<Cursor>), ShardId> {
    let PageWanted { limit, after: mut cursor, id_contains } = wanted;
    let mut clients = Vec::new();
    for _ in 0..ADMIN_QUESTIONS_PER_PAGE {
        let Some(shard) = ShardId::new(cursor.shard).filter(|_| cursor.shard < doors.shards()) else {
            return Ok((clients, None));
        };
        if clients.len() == limit {
            break;
        }
        let max = (limit - clients.len()).min(ADMIN_CLIENTS_PER_QUESTION);
        let query = ClientQuery { from: cursor.place, max, id_contains: id_contains.clone() };
        let found = await_answer(doors.clients(shard, query)).await.ok_or(shard)?;
        clients.extend(found.clients.into_iter().map(|client| (shard, client)));
        cursor = match found.next {
            Some(place) => Cursor { place, ..cursor },
            None => Cursor { shard: cursor.shard + 1, place: 0 },
        };
    }
    Ok((clients, (cursor.shard < doors.shards()).then_some(cursor)))
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
    fn pages_are_asked_for_in_words() {
        let wanted = |limit, shard, place, id_contains: &str| {
            Ok(PageWanted { limit, after: Cursor { shard, place }, id_contains: id_contains.into() })
        };
        assert_eq!(PageWanted::parse(""), wanted(ADMIN_PAGE_DEFAULT, 0, 0, ""));
        assert_eq!(PageWanted::parse("limit=7&after=3.4096&q=a%2Fb+c"), wanted(7, 3, 4096, "a/b c"));
        for (query, part) in [
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("after=3", "an answer gave"),
            ("after=3.-1", "an answer gave"),
            ("page=3", "\"page\" is not"),
        ] {
            let refused = PageWanted::parse(query).expect_err("refused");
            assert!(refused.contains(part), "{query}: {refused}");
        }
    }

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
