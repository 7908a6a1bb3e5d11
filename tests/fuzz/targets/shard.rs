//! A shard with four clients that do what the input says: connect in either version, publish, subscribe, acknowledge what they
//! like, send arbitrary bytes, stop to read, leave; while time passes and the disk stalls.
//!
//! All that the shard sends are packets, the first of them a CONNACK, and when all clients have left no connection is.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use oncemq::config::{Limits, Service};
use oncemq::fault::PlantedFault;
use oncemq::proto::{
    AcknowledgementKind, Connect, Framer, MAX_PACKET_BYTES, Packet, PacketId, Properties, Property, PropertyWriter,
    Publish, QoS, ReasonCode, Received, SubscriptionOptions, Version, Will, decode, encode_acknowledgement,
    encode_subscribe, encode_unsubscribe,
};
use oncemq::route::ShardId;
use oncemq::shard::{Admission, Command, ConnectionKey, Shard, ShardConfig, Transmit};
use oncemq::store::{LogConfig, LogWrite};
use oncemq::time::Timestamp;
use oncemq::transport::Transport;

const CLIENTS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const TOPICS: [&str; 8] = ["a", "a/b", "b", "a/b/c", "", "$SYS/x", "a/+", "/"];
const FILTERS: [&str; 8] = ["a", "#", "a/+", "$share/g/a", "$share/g/#", "a/#", "+/b", "a/#/b"];
const ACKNOWLEDGEMENTS: [AcknowledgementKind; 4] = [
    AcknowledgementKind::Puback,
    AcknowledgementKind::Pubrec,
    AcknowledgementKind::Pubrel,
    AcknowledgementKind::Pubcomp,
];

fuzz_target!(|input: &[u8]| {
    let mut broker = Broker::new();
    let mut script = Script(input);
    while let Some(word) = script.next() {
        broker.act(usize::from(word % 4), word / 4 % 8, &mut script);
        broker.turn();
    }
    broker.end();
});

/// What is left of an input. At its end everything is 0.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn next(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default()
    }
}

/// The shard, and what its driver would keep.
struct Broker {
    shard: Shard,
    now: Timestamp,
    /// The connection of each client.
    clients: [Option<ConnectionKey>; CLIENTS.len()],
    /// By the index of the key.
    lines: Vec<Option<Line>>,
    write: Option<LogWrite>,
    disk_stalls: bool,
}

/// A connection, as its client and its driver see it.
struct Line {
    key: ConnectionKey,
    version: Version,
    framer: Framer,
    has_connack: bool,
    /// What the client has not read.
    unread: Option<Transmit>,
    reads: bool,
    /// The driver was told to receive nothing.
    is_paused: bool,
    /// The client has ended it.
    has_ended: bool,
}

impl Broker {
    fn new() -> Self {
        let config = ShardConfig {
            id: ShardId::new(0).expect("the first shard"),
            shards: 1,
            seed: 1,
            limits: Limits { max_inflight: 4, receive_maximum: 4, max_queued_messages: 16, ..Limits::default() },
            service: Service::default(),
            report_interval: Some(Duration::from_secs(10)),
            log: Some(LogConfig { segment_bytes: 1 << 16, is_synced: true, ..LogConfig::discarding() }),
            fault: PlantedFault::default(),
        };
        let (clients, lines, write) = ([None; CLIENTS.len()], Vec::new(), None);
        Self {
            shard: Shard::new(config),
            now: Timestamp::from_nanos(1 << 60),
            clients,
            lines,
            write,
            disk_stalls: false,
        }
    }

    fn act(&mut self, client: usize, action: u8, script: &mut Script<'_>) {
        let version = self.line(client).map_or(Version::V5, |line| line.version);
        match action {
            0 => self.connect(client, script.byte()),
            1 => self.receive(client, &publish(version, script)),
            2 => self.receive(client, &subscribe(version, script)),
            3 => self.receive(client, &acknowledge(version, script)),
            4 => self.receive(client, script.bytes()),
            5 => self.leave(client, script.byte() % 2 == 0),
            6 => self.stall(client, script.byte()),
            _ => self.wait(Duration::from_millis(1 << (script.byte() % 24))),
        }
    }

    fn line(&mut self, client: usize) -> Option<&mut Line> {
        self.lines[self.clients[client]?.index()].as_mut()
    }

    /// As the gate does with who may come in.
    fn connect(&mut self, client: usize, flags: u8) {
        let has = |bit: u8| flags >> bit & 1 == 1;
        let version = if has(0) { Version::V5 } else { Version::V311 };
        let mut properties = PropertyWriter::new();
        if has(0) && has(2) {
            properties.push(Property::SessionExpiryInterval(if has(3) { u32::MAX } else { 30 }));
        }
        if has(0) && has(4) {
            properties.push(Property::ReceiveMaximum(1));
            properties.push(Property::TopicAliasMaximum(2));
            properties.push(Property::MaximumPacketSize(32));
        }
        let will = Will {
            topic: TOPICS[usize::from(flags % 8)],
            payload: b"will",
            qos: QoS::ExactlyOnce,
            retain: has(6),
            properties: Properties::EMPTY,
        };
        let connect = Connect {
            version,
            clean_start: has(1),
            keep_alive_seconds: if has(7) { 10 } else { 0 },
            client_id: CLIENTS[client],
            will: has(5).then_some(will),
            username: None,
            password: None,
            properties: properties.properties(),
        };
        let mut frame = Vec::new();
        Packet::Connect(connect).encode(version, &mut frame);
        let admission = Admission {
            connect_frame: frame.into(),
            client_id: CLIENTS[client].into(),
            client_id_assigned: false,
            identity: None,
            authentication_data: None,
            early_bytes: Bytes::new(),
            transport: Transport::Plain,
        };
        let key = self.shard.handle_admission(self.now, admission);
        let line = Line {
            key,
            version,
            framer: Framer::default(),
            has_connack: false,
            unread: None,
            reads: true,
            is_paused: false,
            has_ended: false,
        };
        self.lines.resize_with(self.lines.len().max(key.index() + 1), || None);
        assert!(self.lines[key.index()].replace(line).is_none(), "a key is given out once");
        self.clients[client] = Some(key);
    }

    fn receive(&mut self, client: usize, bytes: &[u8]) {
        if let Some(&mut Line { key, is_paused: false, has_ended: false, .. }) = self.line(client) {
            self.shard.handle_received(self.now, key, bytes);
        }
    }

    fn leave(&mut self, client: usize, in_peace: bool) {
        let now = self.now;
        let Some(line) = self.line(client) else { return };
        let key = line.key;
        if std::mem::replace(&mut line.has_ended, true) {
            return;
        }
        if in_peace {
            self.shard.handle_end_of_stream(now, key);
        } else {
            self.shard.handle_connection_failed(now, key);
        }
    }

    /// A client stops to read or begins again, or the disk does.
    fn stall(&mut self, client: usize, what: u8) {
        match what % 4 {
            0 => self.disk_stalls = !self.disk_stalls,
            _ => {
                let Some(line) = self.line(client) else { return };
                line.reads = !line.reads;
                let (key, unread) = (line.key, line.unread.take_if(|_| line.reads));
                if let Some(transmit) = unread {
                    self.shard.handle_sent(self.now, key, transmit);
                }
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.shard.handle_timeout(self.now);
    }

    /// One turn of the driver, in the order that the shard asks for.
    fn turn(&mut self) {
        while self.shard.poll_lookups(self.now) {}
        while let Some((key, transmit)) = self.shard.poll_transmit() {
            let line = self.lines[key.index()].as_mut().expect("what is sent has a connection");
            line.read(&transmit);
            if line.reads {
                self.shard.handle_sent(self.now, key, transmit);
            } else {
                assert!(line.unread.replace(transmit).is_none(), "one transmit is out at a time");
            }
        }
        while let Some(command) = self.shard.poll_command() {
            self.obey(command);
        }
        while self.shard.poll_notice().is_some() {}
        self.commit();
        assert!(self.shard.poll_log_read().is_none(), "all that waits is held in memory");
        while self.shard.poll_obsolete_segment().is_some() {}
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::PauseReceiving(key) => self.of(key).is_paused = true,
            Command::ResumeReceiving(key) => self.of(key).is_paused = false,
            Command::FinishSending(key) => assert!(self.of(key).unread.is_none(), "all is sent"),
            Command::Close(key) => {
                let unread = self.of(key).unread.take();
                if let Some(transmit) = unread {
                    self.shard.handle_sent(self.now, key, transmit);
                }
                self.shard.handle_closed(key);
                self.lines[key.index()] = None;
                self.clients.iter_mut().for_each(|client| *client = client.filter(|other| *other != key));
            }
        }
    }

    fn of(&mut self, key: ConnectionKey) -> &mut Line {
        self.lines[key.index()].as_mut().expect("a command names a connection that there is")
    }

    /// Writes to the log, unless the disk stalls.
    fn commit(&mut self) {
        loop {
            if self.write.is_none() {
                self.write = self.shard.poll_log_write(self.now);
            }
            if self.disk_stalls {
                break;
            }
            let Some(write) = self.write.take() else { break };
            self.shard.handle_log_written(self.now, write, Ok(()));
        }
    }

    /// All connections break, those too whose place another one has taken, or that the client had only half closed.
    fn end(&mut self) {
        self.disk_stalls = false;
        let keys: Vec<_> = self.lines.iter().flatten().map(|line| line.key).collect();
        for key in keys {
            self.shard.handle_connection_failed(self.now, key);
        }
        for _ in 0..4 {
            self.wait(Duration::from_secs(60));
            self.turn();
            self.turn();
        }
        assert!(self.shard.is_drained(), "{}", self.shard.counters());
    }
}

impl Line {
    /// What the client gets are packets.
    fn read(&mut self, transmit: &Transmit) {
        for part in transmit.parts() {
            let mut received = Received::new(part);
            loop {
                let frame = self.framer.next_frame(&mut received, MAX_PACKET_BYTES as u32).expect("a packet begins");
                let Some(frame) = frame else { break };
                let packet = decode(self.version, frame.bytes()).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
                let is_first = !std::mem::replace(&mut self.has_connack, true);
                assert_eq!(is_first, matches!(packet, Packet::Connack(_)), "{packet:?}");
            }
        }
    }
}

fn publish(version: Version, script: &mut Script<'_>) -> Vec<u8> {
    let (flags, name, id) = (script.byte(), script.byte(), script.byte());
    let qos = [QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::AtMostOnce, QoS::ExactlyOnce][usize::from(flags % 4)];
    let is_numbered = qos > QoS::AtMostOnce;
    let mut properties = PropertyWriter::new();
    if version == Version::V5 && flags & 0x20 != 0 {
        properties.push(Property::TopicAlias(u16::from(name / 8 % 4).max(1)));
    }
    if version == Version::V5 && flags & 0x40 != 0 {
        properties.push(Property::MessageExpiryInterval(5));
    }
    let publish = Publish {
        dup: is_numbered && flags & 4 != 0,
        qos,
        retain: flags & 8 != 0,
        topic: TOPICS[usize::from(name % 8)],
        packet_id: is_numbered.then(|| packet_id(id)),
        properties: properties.properties(),
        payload: if flags & 16 != 0 { b"" } else { script.bytes() },
    };
    let mut frame = Vec::new();
    Packet::Publish(publish).encode(version, &mut frame);
    frame
}

/// SUBSCRIBE or UNSUBSCRIBE.
fn subscribe(version: Version, script: &mut Script<'_>) -> Vec<u8> {
    let (name, id, options) = (script.byte(), script.byte(), script.byte());
    let filter = FILTERS[usize::from(name % 8)];
    let mut properties = PropertyWriter::new();
    if version == Version::V5 && name & 0x10 != 0 {
        properties.push(Property::SubscriptionIdentifier(u32::from(id).max(1)));
    }
    let mut frame = Vec::new();
    if name & 8 != 0 {
        encode_unsubscribe(&mut frame, version, packet_id(id), Properties::EMPTY, std::iter::once(filter));
    } else {
        let options = SubscriptionOptions::from_bits(version, options);
        let options = options.unwrap_or(SubscriptionOptions::from_qos(QoS::ExactlyOnce));
        encode_subscribe(
            &mut frame,
            version,
            packet_id(id),
            properties.properties(),
            std::iter::once((filter, options)),
        );
    }
    frame
}

fn acknowledge(version: Version, script: &mut Script<'_>) -> Vec<u8> {
    let (kind, id) = (script.byte(), script.byte());
    let is_refusal = kind & 8 != 0;
    let kind = ACKNOWLEDGEMENTS[usize::from(kind % 4)];
    let reason = match (is_refusal, kind) {
        (true, AcknowledgementKind::Puback | AcknowledgementKind::Pubrec) => ReasonCode::UnspecifiedError,
        (true, AcknowledgementKind::Pubrel | AcknowledgementKind::Pubcomp) => ReasonCode::PacketIdentifierNotFound,
        (false, _) => ReasonCode::Success,
    };
    let mut frame = Vec::new();
    encode_acknowledgement(&mut frame, version, kind, packet_id(id), reason);
    frame
}

/// Few, so that they meet.
fn packet_id(byte: u8) -> PacketId {
    PacketId::new(u16::from(byte % 8)).unwrap_or(PacketId::MAX)
}
