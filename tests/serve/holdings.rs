//! What the operator sees and removes of what the broker keeps: sessions and retained messages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::broker::{Broker, DataDirectory, HUNG};
use crate::http::{ADMIN, ask, get, publish};
use crate::session::Client;

/// What the pages of a list have, by this field.
fn all(broker: &Broker, path: &str, list: &str, field: &str) -> BTreeSet<String> {
    let (mut found, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = get(broker, &format!("{path}{after}")).json();
        for entry in page[list].as_array().unwrap_or_else(|| panic!("a list: {page}")) {
            let name = entry[field].as_str().expect("a text");
            assert!(found.insert(name.to_owned()), "{name} comes twice");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn sessions_are_listed_with_their_subscriptions() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let (mut here, _) = Client::resume(&broker, "here");
    here.subscribe("t/#");
    here.subscribe("$share/group/u/+");
    let (mut away, _) = Client::resume(&broker, "away/1");
    away.subscribe("t/a");
    away.leave();
    let (mut sensor, _) = Client::resume(&broker, "sensor");
    sensor.publish_whole(1, "t/a", "waits");
    assert_eq!(all(&broker, "/api/v1/sessions?limit=1", "sessions", "id"), names(["away/1", "here", "sensor"]));
    assert_eq!(all(&broker, "/api/v1/sessions?state=away", "sessions", "id"), names(["away/1"]));
    assert_eq!(all(&broker, "/api/v1/clients?state=connected&q=e", "clients", "id"), names(["here", "sensor"]));
    assert_eq!(get(&broker, "/api/v1/sessions?state=lost").status, 400);
    let session = get(&broker, "/api/v1/sessions/away%2F1").json();
    assert_eq!((&session["queued_messages"], &session["connection"]), (&json!(1), &Value::Null));
    let filter = json!({
        "filter": "t/a", "qos": 2, "no_local": false, "retain_as_published": false, "retain_handling": 0,
        "identifier": null,
    });
    assert_eq!(session["filters"], json!([filter]));
    let session = get(&broker, "/api/v1/sessions/here").json();
    let filters = session["filters"].as_array().expect("a list").iter();
    let filters: BTreeSet<&str> = filters.map(|filter| filter["filter"].as_str().expect("a text")).collect();
    assert_eq!((filters, &session["subscriptions"]), (["$share/group/u/+", "t/#"].into(), &json!(2)));
    assert_eq!(get(&broker, "/api/v1/sessions/nobody").status, 404);
}

/// What is removed does not come back with the next start.
#[test]
fn sessions_and_retained_messages_are_removed_for_good() {
    let data = DataDirectory::new();
    let broker = Broker::start_in(&data, &["--shards=2", ADMIN]);
    let (mut gone, _) = Client::resume(&broker, "gone");
    gone.subscribe("t/a");
    assert_eq!(ask(&broker, "DELETE", "/api/v1/sessions/gone").status, 409, "it is connected");
    gone.leave();
    let (mut kept, _) = Client::resume(&broker, "kept");
    kept.subscribe("t/a");
    kept.leave();
    let (mut sensor, _) = Client::resume(&broker, "sensor");
    sensor.publish_whole(1, "t/a", "waits");
    for (id, topic) in [(2, "r/1"), (3, "r/2"), (4, "s/1")] {
        sensor.retain(id, topic, "kept");
    }
    let answer = ask(&broker, "DELETE", "/api/v1/sessions/gone");
    assert_eq!((answer.status, answer.json()), (200, json!({ "ended": "gone" })));
    assert_eq!(ask(&broker, "DELETE", "/api/v1/sessions/gone").status, 404);
    assert_eq!(ask(&broker, "DELETE", "/api/v1/sessions/$bridge%2Fup").status, 409);
    let answer = ask(&broker, "DELETE", "/api/v1/retained/r%2F1");
    assert_eq!((answer.status, answer.json()), (200, json!({ "removed": "r/1" })));
    assert_eq!(ask(&broker, "DELETE", "/api/v1/retained/r%2F1").status, 404);
    broker.kill();
    let broker = Broker::start_in(&data, &["--shards=2", ADMIN]);
    assert_eq!(all(&broker, "/api/v1/sessions?limit=5", "sessions", "id"), names(["kept", "sensor"]));
    assert_eq!(all(&broker, "/api/v1/retained?limit=1", "retained", "topic"), names(["r/2", "s/1"]));
    let (mut kept, is_there) = Client::resume(&broker, "kept");
    assert!(is_there);
    assert_eq!(kept.take_messages(1), ["waits"]);
    let (_, is_there) = Client::resume(&broker, "gone");
    assert!(!is_there);
}

#[test]
fn retained_messages_are_found_by_their_topics() {
    let broker = Broker::start(&["--shards=2", "--sys-interval=1s", ADMIN]);
    for number in 0..10 {
        let message = json!({ "topic": format!("r/{number}"), "payload": "22.5", "qos": 1, "retain": true });
        assert_eq!(publish(&broker, &message).status, 200);
    }
    let binary = json!({ "topic": "b", "payload_base64": "AP8=", "retain": true });
    assert_eq!(publish(&broker, &binary).status, 200);
    let list = |query: &str| all(&broker, &format!("/api/v1/retained?{query}"), "retained", "topic");
    assert_eq!(list("limit=3&filter=r%2F%2B").len(), 10);
    assert_eq!(list("limit=100").len(), 11, "without those of the broker");
    assert_eq!(list("filter=b"), names(["b"]));
    assert_eq!(get(&broker, "/api/v1/retained?filter=a%23").status, 400);
    let message = get(&broker, "/api/v1/retained/r%2F7").json();
    assert_eq!((&message["payload"], &message["qos"]), (&json!("22.5"), &json!(1)));
    assert_eq!((&message["payload_bytes"], &message["expires_in_seconds"]), (&json!(4), &Value::Null));
    let message = get(&broker, "/api/v1/retained/b").json();
    assert_eq!((&message["payload_base64"], &message["payload"]), (&json!("AP8="), &Value::Null));
    assert_eq!(get(&broker, "/api/v1/retained/nothing").status, 404);
    // The broker tells of itself a moment behind its start.
    let began = std::time::Instant::now();
    while list("filter=$SYS/%23").is_empty() {
        assert!(began.elapsed() < HUNG);
    }
    assert_eq!(ask(&broker, "DELETE", "/api/v1/retained/$SYS%2Fbroker%2Fuptime").status, 409);
}
