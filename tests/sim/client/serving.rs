//! A client that plays the part of a server: the remote of the broker's bridge.
//!
//! It is an honest server with one client, the bridge: it keeps the session that the bridge asks for, subscriptions and all,
//! until it [loses](Client::lose_session) it. What it sends are messages that clients of its own might have published, what it
//! receives it hands on to them. But for the packets at the beginning of a connection that is what every client here does.
//!
//! A remote that has lost the session and whose CONNACK then is lost would find the bridge resuming a session which knows
//! nothing of its exchanges. The protocol has no remedy for that, so it is spared to the bridge, as it is to clients: the remote
//! takes a session for lost again until the bridge has sent something that counts on it.

use std::collections::{BTreeMap, VecDeque};

use oncemq::proto::{
    Connack, Connect, Framer, Packet, Properties, Property, PropertyWriter, QoS, ReasonCode, RetainHandling, Suback,
    Subscribe, SubscriptionOptions, Version, connects_as_bridge, decode_connect,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::aliases::Aliases;
use crate::bridging::{Pattern, name_here};
use crate::ledger::{Failure, MessageNumber, fail};
use crate::scenario::matches;

use super::{Client, ConnectTerms, Link, Meaning, Outgoing, Session, Surroundings};

/// SUBACK says no.
const REFUSED: u8 = 0x80;

/// What a server has beside what a client has.
#[derive(Debug, Default)]
pub(super) struct Serving {
    kept: Kept,
    /// What the bridge has subscribed to, with the QoS that it was granted.
    subscriptions: Vec<(String, QoS)>,
    /// The message that came last with each packet id, with its payload's hash.
    handed_on: BTreeMap<u16, HandedOn>,
    /// The same of sessions that are lost.
    lost: Vec<(u16, HandedOn)>,
}

/// A message of the bridge that has been handed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandedOn {
    pub(crate) number: MessageNumber,
    pub(crate) payload_hash: u64,
}

/// Which session it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Kept {
    #[default]
    None,
    /// A clean one of 3.1.1.
    WithConnection,
    /// A new one; whether the bridge knows of it is not certain.
    Untold,
    /// One that the bridge knows of.
    Told,
}

impl Client {
    /// The bridge opens a connection.
    pub(crate) fn accept(&mut self, connection: usize, version: Version, patterns: Vec<Pattern>) {
        self.lose_connection();
        self.version = version;
        self.link = Some(Link {
            connection,
            clean_start: false,
            expiry_seconds: u32::MAX,
            is_accepted: false,
            is_finished: false,
            framer: Framer::default(),
            answers: VecDeque::new(),
            requests: BTreeMap::new(),
            quota: 0,
            told: Aliases::default(),
            heard: Aliases::new(self.topic_alias_maximum()),
            patterns,
        });
    }

    /// Whether it plays the remote.
    pub(crate) fn is_remote(&self) -> bool {
        self.serving.is_some()
    }

    /// Loses the session and everything in it.
    pub(crate) fn lose_session(&mut self) {
        let last_id = self.session.last_id;
        self.session = Session { last_id, ..Session::default() };
        let serving = self.serving_mut();
        serving.kept = Kept::None;
        serving.subscriptions.clear();
        serving.lost.extend(std::mem::take(&mut serving.handed_on));
    }

    /// What was handed on in sessions that are lost, once.
    pub(crate) fn take_lost(&mut self) -> Vec<(u16, HandedOn)> {
        std::mem::take(&mut self.serving_mut().lost)
    }

    /// A packet of the bridge counts on the session that it found.
    pub(super) fn note_told(&mut self, packet: &Packet<'_>) {
        // Neither waits for anything.
        let says_nothing = matches!(packet, Packet::Pingreq | Packet::Disconnect(_));
        if let Some(serving) = self.serving.as_mut().filter(|serving| serving.kept == Kept::Untold && !says_nothing) {
            serving.kept = Kept::Told;
        }
    }

    pub(super) fn receive_connect(&mut self, around: &mut Surroundings<'_>, frame: &[u8]) -> Result<(), Failure> {
        let connect = match decode_connect(frame) {
            Ok(connect) => connect,
            Err(error) => fail!("the bridge does not begin with a CONNECT: {error:?}"),
        };
        let plan = &around.bridging.expect("a run with a remote has a bridge").plan;
        if (connect.version, connect.client_id) != (self.version, "edge") {
            fail!("the bridge connects with {connect:?}");
        }
        self.link_mut().is_accepted = true;
        if self.link_mut().is_finished {
            return Ok(());
        }
        if connects_as_bridge(frame) && !plan.remote_knows_bridges {
            let connack = Connack {
                session_present: false,
                reason: ReasonCode::UnsupportedProtocolVersion,
                properties: Properties::EMPTY,
            };
            self.write(around.written, &Packet::Connack(connack), Meaning::Other);
            self.finish();
            return Ok(());
        }
        let is_present = self.find_session(&connect);
        let quota = connect.properties.receive_maximum().unwrap_or(u16::MAX);
        self.link_mut().quota = quota.into();
        self.write_connack(around, &connect, is_present);
        if is_present {
            self.resend(around);
        }
        Ok(())
    }

    /// Whether the session is there that CONNECT asks for. It is in any case afterwards.
    fn find_session(&mut self, connect: &Connect<'_>) -> bool {
        let is_present = !connect.clean_start && self.serving_mut().kept == Kept::Told;
        if !is_present {
            self.lose_session();
            let ends_with_connection = connect.clean_start && self.version == Version::V311;
            self.serving_mut().kept = if ends_with_connection { Kept::WithConnection } else { Kept::Untold };
        }
        is_present
    }

    fn write_connack(&mut self, around: &mut Surroundings<'_>, connect: &Connect<'_>, session_present: bool) {
        let plan = &around.bridging.expect("a run with a remote has a bridge").plan;
        let (receive_maximum, server_keep_alive_seconds) = match self.version {
            Version::V311 => (None, None),
            Version::V5 => (self.profile.receive_maximum, plan.server_keep_alive_seconds),
        };
        let terms = ConnectTerms {
            clean_start: connect.clean_start,
            expiry_seconds: u32::MAX,
            receive_maximum: receive_maximum.unwrap_or(u16::MAX),
            max_packet_bytes: self.max_packet_bytes(),
            topic_alias_maximum: self.topic_alias_maximum(),
            keep_alive_seconds: server_keep_alive_seconds.unwrap_or(connect.keep_alive_seconds),
            will: None,
        };
        let mut properties = PropertyWriter::new();
        if let Some(maximum) = receive_maximum {
            properties.push(Property::ReceiveMaximum(maximum));
        }
        if let Some(bytes) = terms.max_packet_bytes {
            properties.push(Property::MaximumPacketSize(bytes));
        }
        if terms.topic_alias_maximum > 0 {
            properties.push(Property::TopicAliasMaximum(terms.topic_alias_maximum));
        }
        if let Some(seconds) = server_keep_alive_seconds {
            properties.push(Property::ServerKeepAlive(seconds));
        }
        let connack = Connack { session_present, reason: ReasonCode::Success, properties: properties.properties() };
        self.write(around.written, &Packet::Connack(connack), Meaning::Connack { terms, session_present });
    }

    pub(super) fn receive_subscribe(
        &mut self,
        around: &mut Surroundings<'_>,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Failure> {
        let mut codes = Vec::new();
        for (filter, options) in subscribe.filters() {
            let wanted: Vec<_> = self.link_mut().patterns.iter().filter(|pattern| pattern.is_in()).cloned().collect();
            let Some(pattern) = wanted.iter().find(|pattern| pattern.remote_filter() == filter) else {
                fail!("the bridge subscribes to {filter}");
            };
            let expected = match self.version {
                Version::V311 => SubscriptionOptions::from_qos(pattern.qos),
                Version::V5 => SubscriptionOptions {
                    qos: pattern.qos,
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::SendIfNew,
                },
            };
            if options != expected {
                fail!("the bridge subscribes to {filter} with {options:?}");
            }
            let refusal_percent = around.bridging.map_or(0, |bridging| bridging.plan.refusal_percent);
            let granted = match around.random.percent(refusal_percent) {
                true => around.random.pick(&[None, Some(QoS::AtMostOnce), Some(QoS::AtLeastOnce)]),
                false => Some(options.qos),
            };
            let granted = granted.map(|granted| granted.min(options.qos));
            let subscriptions = &mut self.serving_mut().subscriptions;
            subscriptions.retain(|(known, _)| known != filter);
            subscriptions.extend(granted.map(|qos| (filter.to_owned(), qos)));
            codes.push(granted.map_or(REFUSED, QoS::bits));
        }
        if self.link_mut().is_finished {
            return Ok(());
        }
        let suback = Suback { packet_id: subscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
        self.write(around.written, &Packet::Suback(suback), Meaning::Suback);
        Ok(())
    }

    /// The QoS with which a message goes to the bridge that has this name here; none if the bridge has not asked for it.
    pub(super) fn qos_to_bridge(&self, around: &Surroundings<'_>, topic: &str, qos: QoS) -> Option<QoS> {
        let serving = self.serving.as_ref()?;
        let name = around.bridging?.plan.name_at_remote(topic)?;
        let granted = serving.subscriptions.iter().filter(|(filter, _)| matches(filter, &name)).map(|(_, qos)| *qos);
        granted.max().map(|granted| granted.min(qos))
    }

    /// Whether the bridge has carried a message of this remote in all the time since it was sent.
    pub(super) fn is_carried(&self, around: &Surroundings<'_>, message: MessageNumber) -> bool {
        let (topic, sent_at) = (&around.ledger.message(message).topic, around.ledger.sent_at(message));
        around.bridging.is_some_and(|bridging| bridging.carries_since(topic, sent_at))
    }

    /// Sends what no server may send, and turns away.
    pub(crate) fn misbehave_as_server(&mut self, around: &mut Surroundings<'_>) {
        // Packet type 0; a packet that only clients send; a second CONNACK; a topic alias that was not allowed.
        let (bytes, reason): (&[u8], _) = around.random.pick(&[
            (&[0x00][..], ReasonCode::MalformedPacket),
            (&[0xC0, 0][..], ReasonCode::ProtocolError),
            match self.version {
                Version::V311 => (&[0x20, 2, 0, 0][..], ReasonCode::ProtocolError),
                Version::V5 => (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 1][..], ReasonCode::TopicAliasInvalid),
            },
        ]);
        around.written.push(Outgoing { bytes: bytes.to_vec(), meaning: Meaning::Violation(reason) });
        self.lose_connection();
    }

    /// What a topic that was received is called here.
    pub(super) fn name_here(&mut self, topic: String) -> Result<String, Failure> {
        if !self.is_remote() {
            return Ok(topic);
        }
        match name_here(&self.link_mut().patterns, &topic) {
            Some(name) => Ok(name),
            None => fail!("the remote got a message of {topic}, which is not carried there"),
        }
    }

    /// Notes which message came with an id.
    pub(super) fn note_handed_on(&mut self, id: u16, payload: &[u8]) {
        if let (Some(serving), Some(number)) = (&mut self.serving, payload.first_chunk()) {
            let number = MessageNumber::from_le_bytes(*number);
            serving.handed_on.insert(id, HandedOn { number, payload_hash: xxh3_64(payload) });
        }
    }

    fn topic_alias_maximum(&self) -> u16 {
        match self.version {
            Version::V311 => 0,
            Version::V5 => self.profile.topic_alias_maximum,
        }
    }

    fn serving_mut(&mut self) -> &mut Serving {
        self.serving.as_mut().expect("the client that plays the remote")
    }
}
