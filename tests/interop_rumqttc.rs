//! rumqttc, the Rust client, in both of its versions against a real broker process.
//!
//! A scenario is written once, against the [`Peer`] trait, and runs for 3.1.1 and 5.0 and on one and two shards. What
//! rumqttc itself does not do is not asked of it: it forgets received packet ids when it reconnects, so only a
//! publisher resumes in mid-exchange here (the other clients' tests under `tests/interop/` break subscribers too).

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rumqttc::v5;

/// Bounds a hang; nothing is judged by speed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection that is polled in turns with another yields this soon when it has nothing.
const TURN: Duration = Duration::from_millis(10);
/// Requests that a client takes before its connection is polled.
const REQUESTS_MAX: usize = 1_000;
const SESSION_EXPIRY_SECONDS: u32 = 3_600;
const SHARD_COUNTS: [u16; 2] = [1, 2];
const MEGABYTE: usize = 1 << 20;
/// What broker and clients take: the megabyte and its header.
const PACKET_BYTES_MAX: u32 = 2 << 20;

macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        mod v311 {
            $(#[test] fn $scenario() { super::on_every_shard_count(super::$scenario::<super::V311Peer>); })*
        }
        mod v50 {
            $(#[test] fn $scenario() { super::on_every_shard_count(super::$scenario::<super::V5Peer>); })*
        }
    };
}

scenarios!(
    qos2_round_trip_both_ways,
    messages_queue_while_the_subscriber_is_away,
    publisher_resumes_in_mid_exchange,
    retained_message_is_set_delivered_and_cleared,
    will_follows_a_broken_connection,
    take_over_of_a_live_session,
    lower_qos_of_publisher_and_subscription_wins,
    a_clean_start_ends_the_session,
    payload_of_a_megabyte,
    unsubscribe_ends_delivery,
    shared_subscription_has_one_member_per_message,
);

fn on_every_shard_count(scenario: fn(u16)) {
    for shards in SHARD_COUNTS {
        let broker = Broker::start(shards);
        scenario(broker.port);
        broker.stop();
    }
}

fn qos2_round_trip_both_ways<P: Peer>(port: u16) {
    let mut left = P::connect_fresh(port, "left");
    let mut right = P::connect_fresh(port, "right");
    left.subscribe_and_wait("to-left/#");
    right.subscribe_and_wait("to-right/+");
    let sent = numbered(50);
    for payload in &sent {
        left.publish("to-right/x", payload, false);
        right.publish("to-left/x/y", payload, false);
    }
    left.complete(sent.len());
    right.complete(sent.len());
    assert_eq!(left.collect(sent.len()), all_live(&sent));
    assert_eq!(right.collect(sent.len()), all_live(&sent));
}

fn messages_queue_while_the_subscriber_is_away<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let (mut subscriber, present) = P::connect(port, "subscriber", Session::Persistent, None);
    assert!(!present, "[MQTT-3.2.2-2]");
    subscriber.subscribe_and_wait("queued");
    drop(subscriber);
    let sent = numbered(80);
    for payload in &sent {
        publisher.publish("queued", payload, false);
    }
    publisher.complete(sent.len());
    let (mut subscriber, present) = P::connect(port, "subscriber", Session::Persistent, None);
    assert!(present, "the session was lost");
    assert_eq!(subscriber.collect(sent.len()), all_live(&sent));
    // Nothing came twice behind the last one either.
    publisher.publish("queued", "marker", false);
    publisher.complete(1);
    assert_eq!(subscriber.collect(1), [live("marker")]);
}

/// [MQTT-4.3.3-10]: what the publisher repeats after a drop routes nothing twice.
fn publisher_resumes_in_mid_exchange<P: Peer>(port: u16) {
    let (mut publisher, _) = P::connect(port, "publisher", Session::Persistent, None);
    let mut subscriber = P::connect_fresh(port, "subscriber");
    subscriber.subscribe_and_wait("resumed");
    let sent = numbered(80);
    for payload in &sent {
        publisher.publish("resumed", payload, false);
    }
    let delivered = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            publisher.complete(20);
            publisher.sever();
            while !delivered.load(Ordering::Acquire) {
                publisher.poll(TURN);
            }
        });
        assert_eq!(subscriber.collect(sent.len()), all_live(&sent));
        delivered.store(true, Ordering::Release);
    });
    // Nothing came twice behind the last one either.
    subscriber.publish("resumed", "marker", false);
    assert_eq!(subscriber.collect(1), [live("marker")]);
}

fn retained_message_is_set_delivered_and_cleared<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    publisher.publish("retained/state", "on", true);
    publisher.complete(1);
    let mut late = P::connect_fresh(port, "late");
    late.subscribe_and_wait("retained/+");
    assert_eq!(late.collect(1), [retained("on")]);
    publisher.publish("retained/state", "", true);
    publisher.publish("retained/other", "marker", true);
    publisher.complete(2);
    let mut last = P::connect_fresh(port, "last");
    last.subscribe_and_wait("retained/#");
    assert_eq!(last.collect(1), [retained("marker")]);
}

fn will_follows_a_broken_connection<P: Peer>(port: u16) {
    let mut watcher = P::connect_fresh(port, "watcher");
    watcher.subscribe_and_wait("wills/#");
    let (mortal, _) = P::connect(port, "mortal", Session::Clean, Some(("wills/mortal", "gone")));
    drop(mortal);
    assert_eq!(watcher.collect(1), [live("gone")]);
}

/// [MQTT-3.1.4-2]: the second connection gets the session, the first one ends.
fn take_over_of_a_live_session<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let (mut first, _) = P::connect(port, "shared", Session::Persistent, None);
    first.subscribe_and_wait("taken");
    let (mut second, present) = P::connect(port, "shared", Session::Persistent, None);
    assert!(present, "the session was lost");
    first.expect_the_end();
    let sent = numbered(20);
    for payload in &sent {
        publisher.publish("taken", payload, false);
    }
    publisher.complete(sent.len());
    assert_eq!(second.collect(sent.len()), all_live(&sent));
}

fn lower_qos_of_publisher_and_subscription_wins<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let mut subscriber = P::connect_fresh(port, "subscriber");
    for granted in 0..=2 {
        let topic = format!("granted/{granted}");
        subscriber.subscribe(&topic, granted);
        subscriber.wait_for(|seen| *seen == Seen::Subscribed);
        for qos in 0..=2 {
            publisher.publish_with(&topic, &qos.to_string(), qos, false);
        }
        publisher.complete(2);
        let expected = (0..=2).map(|qos: u8| Message { qos: qos.min(granted), ..live(&qos.to_string()) });
        assert_eq!(subscriber.collect(3), expected.collect::<Vec<_>>());
    }
}

fn a_clean_start_ends_the_session<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let (mut subscriber, _) = P::connect(port, "subscriber", Session::Persistent, None);
    subscriber.subscribe_and_wait("before");
    drop(subscriber);
    publisher.publish("before", "lost with the session", false);
    publisher.complete(1);
    let mut successor = P::connect_fresh(port, "subscriber");
    successor.subscribe_and_wait("after");
    publisher.publish("before", "no longer subscribed", false);
    publisher.publish("after", "marker", false);
    publisher.complete(2);
    assert_eq!(successor.collect(1), [live("marker")]);
}

fn payload_of_a_megabyte<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let mut subscriber = P::connect_fresh(port, "subscriber");
    subscriber.subscribe_and_wait("large");
    let sent = ["a", "b", "c"].map(|character| character.repeat(MEGABYTE));
    for payload in &sent {
        publisher.publish("large", payload, false);
    }
    publisher.complete(sent.len());
    assert!(subscriber.collect(sent.len()) == all_live(&sent), "the payloads differ");
}

fn unsubscribe_ends_delivery<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let mut subscriber = P::connect_fresh(port, "subscriber");
    subscriber.subscribe_and_wait("unsubscribed/#");
    subscriber.subscribe_and_wait("unsubscribed/b");
    subscriber.unsubscribe("unsubscribed/#");
    subscriber.wait_for(|seen| *seen == Seen::Unsubscribed);
    publisher.publish("unsubscribed/a", "unsubscribed", false);
    publisher.publish("unsubscribed/b", "marker", false);
    publisher.complete(2);
    assert_eq!(subscriber.collect(1), [live("marker")]);
}

/// 5.0 section 4.8.2: whoever of the group gets a message, it is one of them, and once.
fn shared_subscription_has_one_member_per_message<P: Peer>(port: u16) {
    let mut publisher = P::connect_fresh(port, "publisher");
    let mut members = [P::connect_fresh(port, "first"), P::connect_fresh(port, "second")];
    for member in &mut members {
        member.subscribe_and_wait("$share/group/shared/+");
    }
    let mut sent = numbered(80);
    for payload in &sent {
        publisher.publish("shared/x", payload, false);
    }
    publisher.complete(sent.len());
    let mut delivered = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while delivered.len() < sent.len() {
        assert!(Instant::now() < deadline, "{} messages came", delivered.len());
        for member in &mut members {
            if let Some(Seen::Message(message)) = member.poll(TURN) {
                delivered.push(message);
            }
        }
    }
    let [first, second] = &mut members;
    second.unsubscribe("$share/group/shared/+");
    second.wait_for(|seen| *seen == Seen::Unsubscribed);
    publisher.publish("shared/x", "marker", false);
    publisher.complete(1);
    delivered.extend(first.collect(1));
    delivered.append(second.backlog());
    sent.push("marker".to_owned());
    sent.sort();
    delivered.sort_by(|left, right| left.payload.cmp(&right.payload));
    assert_eq!(delivered, all_live(&sent));
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// A message as it is delivered when it was not retained [MQTT-3.3.1-9].
fn live(payload: &str) -> Message {
    Message { payload: payload.to_owned(), qos: 2, retain: false }
}

fn all_live(payloads: &[String]) -> Vec<Message> {
    payloads.iter().map(|payload| live(payload)).collect()
}

fn retained(payload: &str) -> Message {
    Message { retain: true, ..live(payload) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Clean,
    Persistent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    payload: String,
    qos: u8,
    retain: bool,
}

/// What of a connection's events the scenarios look at.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connected {
        session_present: bool,
    },
    Subscribed,
    Unsubscribed,
    /// A publication with QoS 1 or 2 is.
    Completed,
    Message(Message),
    Ended(String),
    Other,
}

/// One client of either version. Dropping it breaks its connection without a DISCONNECT.
trait Peer: Sized + Send {
    fn open(port: u16, id: &str, session: Session, will: Option<(&str, &str)>) -> Self;
    fn subscribe(&mut self, filter: &str, qos: u8);
    fn unsubscribe(&mut self, filter: &str);
    fn publish_with(&mut self, topic: &str, payload: &str, qos: u8, retain: bool);
    /// Breaks the connection; the next poll makes another one for the same session.
    fn sever(&mut self);
    /// The next event, or `None` after `patience`.
    fn poll(&mut self, patience: Duration) -> Option<Seen>;
    /// Messages that arrived while something else was waited for.
    fn backlog(&mut self) -> &mut Vec<Message>;

    fn connect(port: u16, id: &str, session: Session, will: Option<(&str, &str)>) -> (Self, bool) {
        let mut peer = Self::open(port, id, session, will);
        match peer.wait_for(|seen| matches!(seen, Seen::Connected { .. })) {
            Seen::Connected { session_present } => (peer, session_present),
            other => unreachable!("{other:?} was not asked for"),
        }
    }

    fn connect_fresh(port: u16, id: &str) -> Self {
        let (peer, session_present) = Self::connect(port, id, Session::Clean, None);
        assert!(!session_present, "[MQTT-3.2.2-2]");
        peer
    }

    fn subscribe_and_wait(&mut self, filter: &str) {
        self.subscribe(filter, 2);
        self.wait_for(|seen| *seen == Seen::Subscribed);
    }

    fn publish(&mut self, topic: &str, payload: &str, retain: bool) {
        self.publish_with(topic, payload, 2, retain);
    }

    fn complete(&mut self, count: usize) {
        for _ in 0..count {
            self.wait_for(|seen| *seen == Seen::Completed);
        }
    }

    /// The next `count` messages.
    fn collect(&mut self, count: usize) -> Vec<Message> {
        while self.backlog().len() < count {
            if let Seen::Message(message) = self.wait_for(|seen| matches!(seen, Seen::Message(_))) {
                self.backlog().push(message);
            }
        }
        self.backlog().drain(..count).collect()
    }

    fn expect_the_end(&mut self) {
        self.wait_for(|seen| matches!(seen, Seen::Ended(_)));
    }

    fn wait_for(&mut self, wanted: fn(&Seen) -> bool) -> Seen {
        loop {
            let seen = self.poll(PATIENCE).expect("nothing came");
            match seen {
                seen if wanted(&seen) => return seen,
                Seen::Message(message) => self.backlog().push(message),
                Seen::Ended(why) => panic!("the connection ended: {why}"),
                Seen::Connected { .. } | Seen::Subscribed | Seen::Unsubscribed | Seen::Completed | Seen::Other => {}
            }
        }
    }
}

struct V311Peer {
    client: rumqttc::Client,
    connection: rumqttc::Connection,
    backlog: Vec<Message>,
}

impl Peer for V311Peer {
    fn open(port: u16, id: &str, session: Session, will: Option<(&str, &str)>) -> Self {
        let mut options = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_session(session == Session::Clean);
        options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
        if let Some((topic, payload)) = will {
            options.set_last_will(rumqttc::LastWill::new(topic, payload, rumqttc::QoS::ExactlyOnce, false));
        }
        let (client, connection) = rumqttc::Client::new(options, REQUESTS_MAX);
        Self { client, connection, backlog: Vec::new() }
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.client.subscribe(filter, rumqttc::qos(qos).expect("a QoS")).expect("queued");
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).expect("queued");
    }

    fn publish_with(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        self.client.publish(topic, rumqttc::qos(qos).expect("a QoS"), retain, payload).expect("queued");
    }

    fn sever(&mut self) {
        self.connection.eventloop.clean();
    }

    fn poll(&mut self, patience: Duration) -> Option<Seen> {
        use rumqttc::Packet;
        let event = self.connection.recv_timeout(patience).ok()?;
        Some(match event {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(connack))) => {
                Seen::Connected { session_present: connack.session_present }
            }
            Ok(rumqttc::Event::Incoming(Packet::SubAck(_))) => Seen::Subscribed,
            Ok(rumqttc::Event::Incoming(Packet::UnsubAck(_))) => Seen::Unsubscribed,
            Ok(rumqttc::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Seen::Completed,
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => Seen::Message(Message {
                payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                qos: publish.qos as u8,
                retain: publish.retain,
            }),
            Ok(_) => Seen::Other,
            Err(error) => Seen::Ended(error.to_string()),
        })
    }

    fn backlog(&mut self) -> &mut Vec<Message> {
        &mut self.backlog
    }
}

struct V5Peer {
    client: v5::Client,
    connection: v5::Connection,
    backlog: Vec<Message>,
}

impl Peer for V5Peer {
    fn open(port: u16, id: &str, session: Session, will: Option<(&str, &str)>) -> Self {
        let mut options = v5::MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_start(session == Session::Clean);
        options.set_max_packet_size(Some(PACKET_BYTES_MAX));
        if session == Session::Persistent {
            options.set_session_expiry_interval(Some(SESSION_EXPIRY_SECONDS));
        }
        if let Some((topic, payload)) = will {
            options.set_last_will(v5::mqttbytes::v5::LastWill::new(
                topic,
                payload,
                v5::mqttbytes::QoS::ExactlyOnce,
                false,
                None,
            ));
        }
        let (client, connection) = v5::Client::new(options, REQUESTS_MAX);
        Self { client, connection, backlog: Vec::new() }
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.client.subscribe(filter, v5::mqttbytes::qos(qos).expect("a QoS")).expect("queued");
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).expect("queued");
    }

    fn publish_with(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let qos = v5::mqttbytes::qos(qos).expect("a QoS");
        self.client.publish(topic, qos, retain, payload.to_owned()).expect("queued");
    }

    fn sever(&mut self) {
        self.connection.eventloop.clean();
    }

    fn poll(&mut self, patience: Duration) -> Option<Seen> {
        use v5::mqttbytes::v5::Packet;
        let event = self.connection.recv_timeout(patience).ok()?;
        Some(match event {
            Ok(v5::Event::Incoming(Packet::ConnAck(connack))) => {
                Seen::Connected { session_present: connack.session_present }
            }
            Ok(v5::Event::Incoming(Packet::SubAck(_))) => Seen::Subscribed,
            Ok(v5::Event::Incoming(Packet::UnsubAck(_))) => Seen::Unsubscribed,
            Ok(v5::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Seen::Completed,
            Ok(v5::Event::Incoming(Packet::Publish(publish))) => Seen::Message(Message {
                payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                qos: publish.qos as u8,
                retain: publish.retain,
            }),
            Ok(_) => Seen::Other,
            Err(error) => Seen::Ended(error.to_string()),
        })
    }

    fn backlog(&mut self) -> &mut Vec<Message> {
        &mut self.backlog
    }
}

/// A broker process of the test's own, on a free port.
struct Broker {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl Broker {
    fn start(shards: u16) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rumqttc-{port}"));
        fs::create_dir_all(&directory).expect("a data directory");
        let binary = env::var_os("ONCEMQ_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_oncemq").into());
        let log = directory.join("log");
        let process = Command::new(binary)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--shards", &shards.to_string()])
            .args(["--durability", "none"])
            .args(["--max-packet-bytes", &PACKET_BYTES_MAX.to_string()])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("the broker starts");
        let mut broker = Self { process, port, directory };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).expect("the log");
            if said.contains("ready") {
                break;
            }
            let ended = broker.process.try_wait().expect("its state");
            assert!(ended.is_none() && Instant::now() < deadline, "never ready: {said}");
            thread::sleep(TURN);
        }
        broker
    }

    /// Asks for the end; it must be a clean one.
    fn stop(mut self) {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(asked.success());
        let status = self.process.wait().expect("its status");
        assert!(status.success(), "the broker ended with {status}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A test that failed leaves it running; after `stop` there is nothing left to end.
        if matches!(self.process.try_wait(), Ok(None)) {
            self.process.kill().expect("it ends");
            self.process.wait().expect("its status");
        }
        fs::remove_dir_all(&self.directory).expect("the directory goes");
    }
}
