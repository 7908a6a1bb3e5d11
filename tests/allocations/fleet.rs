//! Shards and clients that answer everything at once. Only what the shards do is [counted], by the module of that name beside
//! this one: here it counts allocations, in `benches/instructions` instructions, and in `benches/micro` nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncemq::auth::AccessRules;
use oncemq::config::{Limits, SEGMENT_BYTES_DEFAULT, Service};
use oncemq::fault::PlantedFault;
use oncemq::proto::{
    AcknowledgementKind, Connect, Framer, Packet, PacketId, Properties, Property, PropertyWriter, Publish, QoS,
    ReasonCode, Received, SubscriptionOptions, Version, decode, encode_acknowledgement, encode_subscribe,
};
use oncemq::route::{Letter, ShardId};
use oncemq::shard::{Admission, ConnectionKey, Shard, ShardConfig, Transmit, shard_of};
use oncemq::store::LogConfig;
use oncemq::time::Timestamp;

use super::counting::counted;

/// More than any commit delay, so that every turn writes what there is to write.
const TURN: Duration = Duration::from_millis(20);

/// Letters in a batch, at most.
const BATCH_LETTERS_MAX: usize = 16;

/// Whether there is a log; a write to it is stable in the turn that takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    None,
    /// With segments of the default length.
    Logged,
    /// With segments of this length.
    Segmented(u64),
}

/// A client, by its place in the fleet.
#[derive(Clone, Copy)]
pub(crate) struct Client(usize);

pub(crate) struct Fleet {
    shards: Vec<Shard>,
    now: Timestamp,
    peers: Vec<Peer>,
    /// From one shard to another.
    rings: VecDeque<(ShardId, ShardId, Vec<Letter>)>,
    /// Length of the payloads.
    pub(crate) payload_bytes: usize,
    /// Segments that the logs have begun.
    pub(crate) segments: u64,
    /// The keep-alive interval of clients that connect from now on; 0 is none.
    pub(crate) keep_alive_seconds: u16,
    /// So many bytes at the end of what a client sends at once come in a receive of their own.
    pub(crate) cut_bytes: usize,
}

struct Peer {
    shard: usize,
    key: ConnectionKey,
    version: Version,
    framer: Framer,
    /// Bytes for the shard's next receive.
    outgoing: Vec<u8>,
    next_id: u16,
    arrived: u64,
    completed: u64,
}

impl Fleet {
    pub(crate) fn new(shards: u16, durability: Durability) -> Self {
        let shard = |number| {
            let log = |segment_bytes| LogConfig { shard: number, segment_bytes, ..LogConfig::discarding() };
            Shard::new(ShardConfig {
                id: shard_id(number),
                shards,
                seed: 7,
                limits: Limits::default(),
                service: Service::default(),
                report_interval: None,
                log: match durability {
                    Durability::None => None,
                    Durability::Logged => Some(log(SEGMENT_BYTES_DEFAULT)),
                    Durability::Segmented(segment_bytes) => Some(log(segment_bytes)),
                },
                fault: PlantedFault::default(),
            })
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            now: Timestamp::from_nanos(1_000_000_000),
            peers: Vec::new(),
            rings: VecDeque::new(),
            payload_bytes: 64,
            segments: 0,
            keep_alive_seconds: 0,
            cut_bytes: 0,
        }
    }

    /// Connects a client that lives on this shard, with a session that outlives the broker.
    pub(crate) fn connect(&mut self, shard: usize, version: Version) -> Client {
        self.connect_with(shard, version, &[Property::TopicAliasMaximum(5)])
    }

    /// As [`Self::connect`], in 5.0 with these properties.
    pub(crate) fn connect_with(&mut self, shard: usize, version: Version, own: &[Property<'_>]) -> Client {
        let shards = self.shards.len() as u16;
        let names = (0..).map(|attempt| format!("client-{}-{attempt}", self.peers.len()));
        let client_id = { names }.find(|name| shard_of(name, shards).index() == shard).expect("some name hashes there");
        let mut properties = PropertyWriter::new();
        properties.push(Property::SessionExpiryInterval(3600));
        for property in own {
            properties.push(*property);
        }
        let mut frame = Vec::new();
        let connect = Connect {
            version,
            clean_start: false,
            keep_alive_seconds: self.keep_alive_seconds,
            client_id: &client_id,
            will: None,
            username: None,
            password: None,
            properties: if version == Version::V5 { properties.properties() } else { Properties::EMPTY },
        };
        Packet::Connect(connect).encode(version, &mut frame);
        let admission = Admission {
            connect_frame: Bytes::from(frame),
            client_id: client_id.into(),
            client_id_assigned: false,
            identity: None,
            authentication_data: None,
            early_bytes: Bytes::new(),
            transport: Default::default(),
        };
        let key = self.shards[shard].handle_admission(self.now, admission);
        self.peers.push(Peer {
            shard,
            key,
            version,
            framer: Framer::default(),
            outgoing: Vec::new(),
            next_id: 0,
            arrived: 0,
            completed: 0,
        });
        self.run();
        Client(self.peers.len() - 1)
    }

    /// From now on clients may do what these lines of an ACL file say.
    pub(crate) fn set_rules(&mut self, text: &str) {
        let rules = Arc::new(AccessRules::parse(text).expect("rules"));
        for shard in &mut self.shards {
            shard.handle_access_rules(self.now, Arc::clone(&rules));
        }
    }

    /// Subscribes with QoS 2, and in 5.0 with an identifier.
    pub(crate) fn subscribe(&mut self, client: Client, filter: &str, identifier: Option<u32>) {
        let peer = &mut self.peers[client.0];
        let mut properties = PropertyWriter::new();
        identifier.map(|identifier| properties.push(Property::SubscriptionIdentifier(identifier)));
        let options = SubscriptionOptions::from_qos(QoS::ExactlyOnce);
        let filters = std::iter::once((filter, options));
        encode_subscribe(&mut peer.outgoing, peer.version, id(9), properties.properties(), filters);
        self.run();
    }

    /// Has the client's next receive contain a QoS 2 message.
    pub(crate) fn publish(&mut self, client: Client, topic: &str, properties: Properties<'_>) {
        let peer = &mut self.peers[client.0];
        peer.next_id = peer.next_id % 1000 + 1;
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic,
            packet_id: Some(id(peer.next_id)),
            properties,
            payload: &vec![b'x'; self.payload_bytes],
        };
        Packet::Publish(publish).encode(peer.version, &mut peer.outgoing);
    }

    /// The shards alone, without clients.
    pub(crate) fn into_shards(self) -> Vec<Shard> {
        self.shards
    }

    /// Lets everything flow until nothing moves any more.
    pub(crate) fn run(&mut self) {
        while self.turn() {}
    }

    /// Messages that have arrived at clients, and those whose publishers have their PUBCOMP, since this was last asked.
    pub(crate) fn take_results(&mut self) -> (u64, u64) {
        let mut sum = (0, 0);
        for peer in &mut self.peers {
            sum.0 += std::mem::take(&mut peer.arrived);
            sum.1 += std::mem::take(&mut peer.completed);
        }
        sum
    }

    fn turn(&mut self) -> bool {
        self.now = self.now + TURN;
        let received = self.receive();
        let moved = self.move_letters();
        for shard in &mut self.shards {
            let goes_on = counted(|| shard.poll_lookups(self.now));
            assert!(!goes_on, "nobody asks for retained messages");
        }
        let transmitted = self.transmit();
        let logged = self.write_logs();
        received || moved || transmitted || logged
    }

    fn receive(&mut self) -> bool {
        let mut has_received = false;
        for peer in &mut self.peers {
            if peer.outgoing.is_empty() {
                continue;
            }
            has_received = true;
            let shard = &mut self.shards[peer.shard];
            let (first, cut) = peer.outgoing.split_at(peer.outgoing.len() - self.cut_bytes.min(peer.outgoing.len()));
            for bytes in [first, cut].into_iter().filter(|bytes| !bytes.is_empty()) {
                counted(|| shard.handle_received(self.now, peer.key, bytes));
            }
            peer.outgoing.clear();
        }
        has_received
    }

    fn move_letters(&mut self) -> bool {
        let mut moved = false;
        let count = self.shards.len() as u16;
        for (from, to) in
            (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to)
        {
            let (from, to) = (shard_id(from), shard_id(to));
            let shard = &mut self.shards[from.index()];
            while let Some(batch) = counted(|| shard.poll_letters(to, BATCH_LETTERS_MAX)) {
                self.rings.push_back((from, to, batch));
            }
        }
        while let Some((from, to, mut batch)) = self.rings.pop_front() {
            moved = true;
            for letter in batch.drain(..) {
                counted(|| self.shards[to.index()].handle_letter(self.now, from, letter));
            }
            counted(|| self.shards[from.index()].recycle_letters(batch));
        }
        moved
    }

    fn transmit(&mut self) -> bool {
        let mut has_transmitted = false;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some((key, transmit)) = counted(|| shard.poll_transmit()) {
                has_transmitted = true;
                let peer = self.peers.iter_mut().find(|peer| (peer.shard, peer.key) == (index, key));
                peer.expect("every connection is a client's").read(&transmit, self.payload_bytes);
                counted(|| shard.handle_sent(self.now, key, transmit));
            }
            assert_eq!(counted(|| shard.poll_command()), None, "nobody is held up or ended");
        }
        has_transmitted
    }

    fn write_logs(&mut self) -> bool {
        let mut has_written = false;
        for shard in &mut self.shards {
            if let Some(write) = counted(|| shard.poll_log_write(self.now)) {
                has_written = true;
                self.segments += u64::from(write.opens_segment);
                counted(|| shard.handle_log_written(self.now, write, Ok(())));
            }
            assert!(counted(|| shard.poll_log_read()).is_none(), "nothing has left the memory");
            while counted(|| shard.poll_obsolete_segment()).is_some() {}
        }
        has_written
    }
}

impl Peer {
    /// Answers all that has come.
    fn read(&mut self, transmit: &Transmit, payload_bytes: usize) {
        for part in transmit.parts() {
            let mut received = Received::new(part);
            while let Some(frame) = self.framer.next_frame(&mut received, u32::MAX).expect("whole packets") {
                let answer = match decode(self.version, frame.bytes()).expect("legal packets") {
                    Packet::Publish(publish) => {
                        self.arrived += 1;
                        assert_eq!((publish.qos, publish.payload.len()), (QoS::ExactlyOnce, payload_bytes));
                        Some((AcknowledgementKind::Pubrec, publish.packet_id.expect("QoS 2 has an id")))
                    }
                    Packet::Pubrec(pubrec) => {
                        assert_eq!(pubrec.reason, ReasonCode::Success);
                        Some((AcknowledgementKind::Pubrel, pubrec.packet_id))
                    }
                    Packet::Pubrel(pubrel) => Some((AcknowledgementKind::Pubcomp, pubrel.packet_id)),
                    Packet::Pubcomp(pubcomp) => {
                        assert_eq!(pubcomp.reason, ReasonCode::Success);
                        self.completed += 1;
                        None
                    }
                    Packet::Connack(_) | Packet::Suback(_) => None,
                    other => panic!("not expected: {other:?}"),
                };
                if let Some((kind, id)) = answer {
                    encode_acknowledgement(&mut self.outgoing, self.version, kind, id, ReasonCode::Success);
                }
            }
        }
    }
}

fn shard_id(number: u16) -> ShardId {
    ShardId::new(number).expect("few shards")
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}
