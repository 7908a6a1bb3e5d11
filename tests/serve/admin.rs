//! The operator's window of the real process: metrics, health, the API, and who may not look in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use oncemq::config::{ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX};
use serde_json::json;

use crate::broker::{Broker, DataDirectory, command, connect, read_exactly, refused_start};
use crate::http::{ADMIN, Answer, ask, ask_over, get, publish};
use crate::session::Client;

/// All samples, those of all shards added up.
fn metrics(broker: &Broker) -> BTreeMap<String, f64> {
    let answer = get(broker, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
    let mut sums = BTreeMap::new();
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let key = (0..2).fold(key.to_owned(), |key, shard| {
            key.replace(&format!("{{shard=\"{shard}\"}}"), "").replace(&format!("shard=\"{shard}\","), "")
        });
        *sums.entry(key).or_default() += value.parse::<f64>().expect("a number");
    }
    sums
}

/// By how much each of these has moved.
fn moved<const N: usize>(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, keys: [&str; N]) -> [f64; N] {
    keys.map(|key| after.get(key).unwrap_or_else(|| panic!("{key}: {after:?}")) - before[key])
}

#[test]
fn metrics_move_by_what_is_exchanged() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let (mut dash, _) = Client::resume(&broker, "dash");
    let (mut sensor, _) = Client::resume(&broker, "sensor");
    dash.subscribe("t/a");
    let before = metrics(&broker);
    for key in ["oncemq_connections", "oncemq_shard_up"] {
        assert_eq!(before[key], 2.0, "{key}");
    }
    assert_eq!(before[r#"oncemq_sessions{state="connected"}"#], 2.0);
    assert_eq!(before["oncemq_subscriptions"], 1.0);
    sensor.publish(1, "t/a", "22.5");
    sensor.expect(0x50, &[0, 1]);
    let halfway = metrics(&broker);
    assert_eq!(halfway[r#"oncemq_inflight_messages{direction="in",awaiting="pubrel"}"#], 1.0);
    sensor.release(1);
    assert_eq!(dash.take_messages(1), ["22.5"]);
    // Behind the PUBCOMP of the subscriber.
    dash.ping();
    let after = metrics(&broker);
    for (direction, packets) in [
        ("received", ["publish", "pubrel", "pubrec", "pubcomp", "pingreq", "connect"]),
        ("sent", ["pubrec", "pubcomp", "publish", "pubrel", "pingresp", "connack"]),
    ] {
        let keys = packets.map(|packet| format!("oncemq_packets_{direction}_total{{type=\"{packet}\"}}"));
        assert_eq!(moved(&before, &after, keys.each_ref().map(|key| &key[..])), [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    }
    let keys = [
        r#"oncemq_messages_received_total{qos="2"}"#,
        r#"oncemq_messages_received_total{qos="1"}"#,
        r#"oncemq_messages_sent_total{qos="2"}"#,
        "oncemq_received_payload_bytes_total",
        "oncemq_sent_payload_bytes_total",
        // PUBLISH of 13, PUBREL of 4; PUBREC and PUBCOMP of 4, and PINGREQ.
        "oncemq_received_bytes_total",
        "oncemq_sent_bytes_total",
        "oncemq_duplicates_suppressed_total",
        "oncemq_connections",
    ];
    assert_eq!(moved(&before, &after, keys), [1.0, 0.0, 1.0, 4.0, 4.0, 27.0, 27.0, 0.0, 0.0]);
    for state in [r#"in",awaiting="pubrel"#, r#"out",awaiting="pubrec"#, r#"out",awaiting="pubcomp"#] {
        assert_eq!(after[&format!("oncemq_inflight_messages{{direction=\"{state}\"}}")], 0.0, "{state}");
    }
    for key in [
        "oncemq_message_latency_seconds_count",
        "oncemq_log_records_total",
        "oncemq_log_commit_seconds_count",
        "oncemq_loop_turn_seconds_count",
    ] {
        assert!(after[key] > before[key], "{key}");
    }
    assert_eq!(after[r#"oncemq_gate_connections_total{outcome="admitted"}"#], 2.0);
    assert_eq!(after[r#"oncemq_log_failed{reason="no_space"}"#], 0.0);
    assert!(after["process_resident_memory_bytes"] > 1e6 && after["process_cpu_seconds_total"] > 0.0);
    dash.leave();
    assert_eq!(metrics(&broker)[r#"oncemq_sessions{state="away"}"#], 1.0);
}

#[test]
fn health_and_readiness_are_told() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    for (path, status) in [("/healthz", "healthy"), ("/readyz", "ready")] {
        let answer = get(&broker, path);
        assert_eq!((answer.status, answer.json()), (200, json!({ "status": status })), "{path}");
    }
    // It does not read what it is sent, and so is waited for.
    let _lingering = Client::resume(&broker, "lingering");
    broker.signal("TERM");
    let draining = loop {
        let answer = get(&broker, "/readyz");
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((draining.status, draining.json()), (503, json!({ "status": "draining" })));
}

/// The logs of a broker are read from a pipe that somebody writes to later.
#[test]
fn a_broker_that_reads_its_logs_is_alive_and_not_ready() {
    let data = DataDirectory::new();
    drop(Broker::start_in(&data, &["--shards=1"]));
    let complete = data.path().join("log-000001/COMPLETE");
    let (aside, pipe) = (data.path().join("aside"), data.path().join("pipe"));
    fs::rename(&complete, &aside).expect("it is there");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be started");
    assert!(made.success());
    fs::hard_link(&pipe, &complete).expect("two names for one pipe");
    let mut process = command(&data, &["--shards=1", ADMIN]).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut log = BufReader::new(process.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let address = log.find_map(|line| Some(line.split_once("admin: http://")?.1.split(' ').next()?.to_owned()));
    let address = address.expect("it is said before the logs are read");
    let get = |path| {
        let stream = TcpStream::connect(&address).expect("it listens");
        let answer = ask_over(stream, "GET", path, "", "");
        (answer.status, answer.body)
    };
    let recovering = json!({ "status": "recovering" }).to_string();
    assert_eq!(get("/readyz"), (503, recovering.clone()));
    assert_eq!(get("/healthz"), (200, recovering));
    let (status, body) = get("/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("\noncemq_ready 0\n") && !body.contains("shard"), "{body}");
    assert_eq!(get("/api/v1/clients").0, 503);
    fs::rename(&aside, &complete).expect("in place of the pipe");
    let mut pipe = OpenOptions::new().read(true).write(true).open(&pipe).expect("its other name");
    pipe.write_all(b"shards=1\n").expect("there is room");
    drop(pipe);
    assert!(log.any(|line| line.contains("ready on ")));
    assert_eq!(get("/readyz").0, 200);
    process.kill().and_then(|()| process.wait()).expect("it runs");
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_broker_whose_log_has_failed_is_alive_and_not_ready() {
    let data = DataDirectory::new();
    let mut faulty = command(&data, &["--shards=1", ADMIN]);
    faulty.env("ONCEMQ_PLANTED_DISK_FAULT", "0:1:5");
    let broker = Broker::run(faulty);
    let (mut failing, _) = Client::resume(&broker, "failing");
    failing.publish(1, "t/a", "lost");
    assert!(failing.remaining().is_empty());
    let answer = get(&broker, "/readyz");
    assert_eq!((answer.status, answer.json()), (503, json!({ "status": "log of shard 0 has failed: io" })));
    assert_eq!(get(&broker, "/healthz").status, 200);
    assert_eq!(metrics(&broker)[r#"oncemq_log_failed{reason="io"}"#], 1.0);
}

#[test]
fn without_the_token_only_health_is_told() {
    let (one, other) = ("a-token-of-some-length", "another-token-of-that-length");
    let directory = DataDirectory::new();
    fs::create_dir(directory.path()).expect("a new directory");
    let file = directory.path().join("token");
    fs::write(&file, format!("{one}\n")).expect("written");
    let flag = format!("--admin-token-file={}", file.display());
    let broker = Broker::start(&["--shards=1", ADMIN, &flag]);
    let status_with = |headers: &str, path: &str| ask_over(broker.connect_as("http"), "GET", path, headers, "").status;
    let shown = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for path in ["/metrics", "/api/v1/clients", "/api/v1/live", "/no/such/path"] {
        let refused = ask_over(broker.connect_as("http"), "GET", path, "", "");
        assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true), "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        assert_eq!(status_with(&shown(other), path), 401, "{path}");
        assert_eq!(status_with("Authorization: Basic YTpi\r\n", path), 401, "{path}");
    }
    assert_eq!(status_with(&shown(one), "/metrics"), 200);
    assert_eq!(status_with(&shown(one), "/no/such/path"), 404);
    // The page has no figures in it, and asks for the token.
    for path in ["/healthz", "/readyz", "/", "/dashboard/page.js"] {
        assert_eq!(status_with("", path), 200, "{path}");
    }
    fs::write(&file, "short\n").expect("written");
    broker.signal("HUP");
    broker.wait_for_line("the token that was read before stays good");
    assert_eq!(status_with(&shown(one), "/metrics"), 200);
    fs::write(&file, other).expect("written");
    broker.signal("HUP");
    broker.wait_for_line("the token was read again");
    assert_eq!([status_with(&shown(one), "/metrics"), status_with(&shown(other), "/metrics")], [401, 200]);
}

#[test]
fn an_address_that_others_reach_wants_a_token() {
    let (code, text) = refused_start(&["--durability=none", "--admin-listen=0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--admin-token-file"), "{text}");
    let flags = ["--durability=none", "--admin-listen=0.0.0.0:0", "--admin-token-file=/no/such/file"];
    let (code, text) = refused_start(&flags);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("--admin-token-file /no/such/file: No such file"), "{text}");
}

#[test]
fn what_is_not_there_is_told_in_json() {
    let broker = Broker::start(&["--shards=1", ADMIN]);
    for (method, path, status) in [
        ("GET", "/dashboard/no.js", 404),
        ("DELETE", "/", 405),
        ("GET", "/api/v1/no", 404),
        ("GET", "/api/v1/clients/nobody", 404),
        ("DELETE", "/api/v1/clients/nobody", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/api/v1/clients", 405),
        ("GET", "/api/v1/publish", 405),
        ("GET", "/api/v1/clients?limit=0", 400),
        ("GET", "/api/v1/clients?page=1", 400),
        ("GET", "/api/v1/clients/%FF", 400),
        ("POST", "/api/v1/publish", 415),
    ] {
        let answer = ask(&broker, method, path);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.json()["error"].is_string(), "{method} {path}");
    }
    // A name that leads here is anybody's to give, and a web page could use it.
    let mut stranger = broker.connect_as("http");
    stranger.write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").expect("sent");
    assert_eq!(Answer::read(&mut stranger).status, 403);
}

#[test]
fn requests_have_bounds_and_who_is_slow_makes_way() {
    let broker = Broker::start(&["--shards=1", ADMIN]);
    let long = format!("X-Long: {}\r\n", "x".repeat(2 * ADMIN_HEAD_BYTES_MAX));
    assert_eq!(ask_over(broker.connect_as("http"), "GET", "/healthz", &long, "").status, 431);
    let headers = "Content-Type: application/json\r\n";
    let body = "x".repeat(ADMIN_BODY_BYTES_MAX + 1);
    let answer = ask_over(broker.connect_as("http"), "POST", "/api/v1/publish", headers, &body);
    assert_eq!(answer.status, 413);
    let mut slow: Vec<TcpStream> = (0..2 * ADMIN_CONNECTIONS_MAX).map(|_| broker.connect_as("http")).collect();
    for stream in &mut slow {
        // Those that have made way may be gone already.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ");
    }
    assert_eq!(get(&broker, "/healthz").status, 200);
    let mut nothing = Vec::new();
    // A reset is an end, too.
    let _ = slow[0].read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    let mut client = broker.connect();
    client.write_all(&connect(4, "sensor")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), [0x20, 2, 0, 0]);
}

#[test]
fn clients_are_listed_by_pages_and_found_by_their_ids() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let ids: BTreeSet<String> = (0..30).map(|number| format!("room {}/{number}", number % 3)).collect();
    let mut clients: Vec<Client> = ids.iter().map(|id| Client::transient(&broker, id)).collect();
    clients[0].subscribe("t/a");
    let (away, _) = Client::resume(&broker, "away");
    away.leave();
    let list = |query: &str| {
        let (mut found, mut after) = (BTreeSet::new(), String::new());
        loop {
            let page = get(&broker, &format!("/api/v1/clients?{query}{after}")).json();
            for client in page["clients"].as_array().expect("a list") {
                let id = client["id"].as_str().expect("an id");
                assert!(found.insert(id.to_owned()), "{id} comes twice");
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return found,
            }
        }
    };
    let all: BTreeSet<String> = ids.iter().cloned().chain(["away".to_owned()]).collect();
    assert_eq!(list("limit=7"), all);
    assert_eq!(list("limit=1000"), all);
    let of_one_room: BTreeSet<String> = ids.iter().filter(|id| id.contains("room 1")).cloned().collect();
    assert_eq!(list("limit=3&q=room+1"), of_one_room);
    assert!(list("q=nobody").is_empty());
    let client = get(&broker, "/api/v1/clients/room%200%2F0").json();
    assert_eq!(client["connection"]["version"], "3.1.1");
    assert!(client["connection"]["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
    assert!(client["connection"]["since"].as_u64() > Some(1_700_000_000));
    assert_eq!(
        (&client["subscriptions"], &client["durable"], &client["away_since"]),
        (&json!(1), &json!(false), &json!(null))
    );
    let client = get(&broker, "/api/v1/clients/away").json();
    assert_eq!((&client["connection"], &client["durable"]), (&json!(null), &json!(true)));
    assert!(client["away_since"].as_u64() > Some(1_700_000_000));
}

#[test]
fn a_client_is_disconnected_on_request_and_told_why() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let mut client = broker.connect();
    client.write_all(&connect(5, "sensor")).expect("sent");
    let [0x20, remaining] = read_exactly::<2>(&mut client) else { panic!("no CONNACK") };
    client.read_exact(&mut vec![0; usize::from(remaining)]).expect("the rest of CONNACK");
    let answer = ask(&broker, "DELETE", "/api/v1/clients/sensor");
    assert_eq!((answer.status, answer.json()), (200, json!({ "disconnected": "sensor" })));
    let mut farewell = Vec::new();
    client.read_to_end(&mut farewell).expect("the broker ends the stream");
    assert_eq!(farewell[..3], [0xE0, 2, 0x98][..]);
    drop(client);
    assert_eq!(ask(&broker, "DELETE", "/api/v1/clients/sensor").status, 404);
}

#[test]
fn a_message_is_published_on_request() {
    let broker = Broker::start(&["--shards=2", ADMIN]);
    let (mut dash, _) = Client::resume(&broker, "dash");
    dash.subscribe("t/a");
    let answer = publish(&broker, &json!({ "topic": "t/a", "payload": "now", "qos": 2 }));
    assert_eq!((answer.status, answer.json()), (200, json!({ "published": true })));
    let answer = publish(&broker, &json!({ "topic": "t/b", "payload_base64": "a2VwdA==", "qos": 2, "retain": true }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(dash.take_messages(1), ["now"]);
    let (mut late, _) = Client::resume(&broker, "late");
    late.subscribe("t/b");
    late.expect(0x35, b"\0\x03t/b\0\x01kept");
    for (topic, part) in [("t/+", "not a valid topic name"), ("$SYS/broker/uptime", "the broker's own"), ("", "topic")]
    {
        let answer = publish(&broker, &json!({ "topic": topic, "payload": "" }));
        assert_eq!(answer.status, 422, "{topic}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| error.contains(part)), "{}", answer.body);
    }
    assert_eq!(publish(&broker, &json!({ "payload": "" })).status, 400);
}

#[test]
fn the_page_may_load_nothing_from_elsewhere() {
    let broker = Broker::start(&["--shards=1", ADMIN]);
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = get(&broker, path);
        assert_eq!(answer.status, 200, "{path}");
        for header in [
            &format!("content-type: {media_type}\r\n")[..],
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ",
            "x-content-type-options: nosniff\r\n",
        ] {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
    }
    assert_eq!(get(&broker, "/api/v1/openapi.json").json()["info"]["title"], "OnceMQ");
}
