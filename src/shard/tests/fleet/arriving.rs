//! How the clients of a fleet come in, and the remotes of its bridges.

use super::super::*;
use super::{Client, Fleet, Peer};
use crate::auth::{AccessRules, Authenticated, Identity};
use crate::bridge::Bridge;
use crate::transport::{Transport, WebSocket};
use std::sync::Arc;

/// Where the protocol level stands in a CONNECT of less than 128 bytes, and what a bridge of 3.1.1 adds to it.
const PROTOCOL_LEVEL: usize = 8;
const BRIDGE_BIT: u8 = 0x80;

impl Fleet {
    pub(in crate::shard::tests) fn connect(&mut self, version: Version, client_id: &str, clean_start: bool) -> Client {
        self.connect_with(Connect { clean_start, ..connect(version, client_id, Properties::EMPTY) })
    }

    /// A 5.0 client whose session outlives it.
    pub(in crate::shard::tests) fn connect_v5(&mut self, client_id: &str, receive_maximum: u16) -> Client {
        let mut properties = PropertyWriter::new();
        properties.push(Property::ReceiveMaximum(receive_maximum));
        self.connect_v5_with(client_id, properties)
    }

    /// A 5.0 client with these properties beside the expiry of its session, which outlives it.
    pub(in crate::shard::tests) fn connect_v5_with(
        &mut self,
        client_id: &str,
        mut properties: PropertyWriter,
    ) -> Client {
        properties.push(Property::SessionExpiryInterval(60));
        self.connect_with(Connect { clean_start: false, ..connect(Version::V5, client_id, properties.properties()) })
    }

    /// A 5.0 client whose session ends with it.
    pub(in crate::shard::tests) fn connect_v5_transient(&mut self, client_id: &str) -> Client {
        self.connect(Version::V5, client_id, true)
    }

    /// A 5.0 client with a will on the topic `will`; its session ends so many seconds after it, and the will has a delay.
    pub(in crate::shard::tests) fn connect_with_will(
        &mut self,
        client_id: &str,
        expiry_seconds: u32,
        delay_seconds: u32,
    ) -> Client {
        let (mut properties, mut will) = (PropertyWriter::new(), PropertyWriter::new());
        properties.push(Property::SessionExpiryInterval(expiry_seconds));
        will.push(Property::WillDelayInterval(delay_seconds));
        let will = Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "will",
            properties: will.properties(),
            payload: b"gone",
        };
        self.connect_with(Connect {
            clean_start: false,
            will: Some(will),
            ..connect(Version::V5, client_id, properties.properties())
        })
    }

    pub(in crate::shard::tests) fn connect_with(&mut self, connect: Connect<'_>) -> Client {
        self.admit(connect.version, admission(&connect))
    }

    /// A client that has come through a WebSocket, and has sent these bytes behind its CONNECT.
    pub(in crate::shard::tests) fn connect_web_socket(&mut self, connect: Connect<'_>, early_bytes: &[u8]) -> Client {
        self.connect_through(WebSocket::default().into(), connect, early_bytes)
    }

    /// A client that has come through this, and has sent these bytes behind its CONNECT.
    pub(in crate::shard::tests) fn connect_through(
        &mut self,
        transport: Transport,
        connect: Connect<'_>,
        early_bytes: &[u8],
    ) -> Client {
        let early_bytes = Bytes::copy_from_slice(early_bytes);
        self.admit(connect.version, Admission { early_bytes, transport, ..admission(&connect) })
    }

    /// A 5.0 client that has shown who it is.
    pub(in crate::shard::tests) fn connect_as(
        &mut self,
        client_id: &str,
        properties: Properties<'_>,
        client: Authenticated,
    ) -> Client {
        let Authenticated { identity, data } = client;
        let admission = admission(&connect(Version::V5, client_id, properties));
        self.admit(Version::V5, Admission { identity: Some(identity), authentication_data: Some(data), ..admission })
    }

    /// A client that has shown that it is this user.
    pub(in crate::shard::tests) fn connect_user(&mut self, connect: Connect<'_>, user_name: &str) -> Client {
        let identity = Some(Box::new(Identity::without_exchange(user_name.into())));
        self.admit(connect.version, Admission { identity, ..admission(&connect) })
    }

    /// From now on clients may do what these lines of an ACL file say.
    pub(in crate::shard::tests) fn set_rules(&mut self, text: &str) {
        let rules = Arc::new(AccessRules::parse(text).expect("rules"));
        for shard in &mut self.shards {
            shard.handle_access_rules(self.now, Arc::clone(&rules));
        }
    }

    /// A 3.1.1 client with a clean session that says it is a bridge.
    pub(in crate::shard::tests) fn connect_bridge(&mut self, client_id: &str) -> Client {
        let mut admission = admission(&connect(Version::V311, client_id, Properties::EMPTY));
        let mut frame = admission.connect_frame.to_vec();
        frame[PROTOCOL_LEVEL] |= BRIDGE_BIT;
        admission.connect_frame = Bytes::from(frame);
        self.admit(Version::V311, admission)
    }

    fn admit(&mut self, version: Version, admission: Admission) -> Client {
        let shard = shard_of(&admission.client_id, self.shards.len() as u16).index();
        let key = self.shards[shard].handle_admission(self.now, admission);
        self.add_peer(shard, key, version)
    }

    fn add_peer(&mut self, shard: usize, key: ConnectionKey, version: Version) -> Client {
        self.clients.push(Peer {
            shard,
            key,
            version,
            received: Vec::new(),
            stalled: None,
            commands: Vec::new(),
            closed: false,
        });
        self.run();
        Client(self.clients.len() - 1)
    }

    /// The sessions of these bridges are kept, each by its shard.
    pub(in crate::shard::tests) fn keep_bridges(&mut self, bridges: &[Arc<Bridge>]) {
        for index in 0..self.shards.len() {
            let own = bridges.iter().filter(|bridge| self.owner_of(bridge) == index).cloned().collect::<Vec<_>>();
            self.shards[index].keep_bridges(self.now, &own);
        }
        self.run();
    }

    pub(in crate::shard::tests) fn is_bridge_shared(&self, bridge: &Bridge) -> bool {
        self.shards[self.owner_of(bridge)].is_bridge_shared(bridge)
    }

    /// The remote of a bridge, which has accepted it.
    pub(in crate::shard::tests) fn open_bridge(
        &mut self,
        bridge: &Arc<Bridge>,
        session_present: bool,
        properties: Properties<'_>,
    ) -> Client {
        let shard = self.owner_of(bridge);
        let mut connack_frame = Vec::new();
        Packet::Connack(Connack { session_present, reason: ReasonCode::Success, properties })
            .encode(bridge.version, &mut connack_frame);
        let opened = OpenedBridge {
            bridge: Arc::clone(bridge),
            version: bridge.version,
            connack_frame: Bytes::from(connack_frame),
            early_bytes: Bytes::new(),
            transport: Default::default(),
        };
        let key = self.shards[shard].handle_bridge(self.now, opened);
        self.add_peer(shard, key, bridge.version)
    }

    fn owner_of(&self, bridge: &Bridge) -> usize {
        shard_of(&bridge.session_id(), self.shards.len() as u16).index()
    }
}

/// What the gate hands over of a client that has come by plain TCP and says nothing more than CONNECT.
fn admission(connect: &Connect<'_>) -> Admission {
    let mut frame = Vec::new();
    Packet::Connect(*connect).encode(connect.version, &mut frame);
    Admission {
        connect_frame: Bytes::from(frame),
        client_id: connect.client_id.into(),
        client_id_assigned: false,
        identity: None,
        authentication_data: None,
        early_bytes: Bytes::new(),
        transport: Transport::Plain,
    }
}
