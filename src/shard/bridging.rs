//! Bridges of ours: their sessions, and the connections on which we are the client.
//!
//! A bridge has a session like a client's, which exists as long as the bridge is configured, connected or not: so what its
//! local subscriptions match waits for the remote from the start on, and both halves of its exchanges outlive a crash. What
//! differs on its connection is here:
//!
//! - The session at the remote may be lost without ours, or belong to somebody else. Whether it is ours is in our log
//!   ([`RemoteSession`]), and is stable there before a packet leaves that counts on it.
//! - We subscribe first, where that is not known to have been done; then messages go out.
//! - Topics are mapped: of what comes in when it is routed, of what goes out when it is encoded, so that the queue holds
//!   messages as all other queues do.
//! - We keep the connection alive, and give up a remote that falls silent.
//! - A server may send other packets than a client.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::bridge::{Bridge, SESSION_PREFIX};
use crate::fault::Fault;
use crate::proto::{
    AcknowledgementKind, Connack, Packet, PacketId, PacketType, Properties, PropertyIdentifier, Publish, QoS,
    ReasonCode, RetainHandling, Suback, SubscriptionOptions, Version, decode, encode_subscribe,
};
use crate::route::{Message, TopicFilter, TopicName};
use crate::session::{RemoteSession, Resending, SessionExpiry, packet_id_of};
use crate::store::LogPosition;
use crate::time::Timestamp;
use crate::transport::Transport;

use super::aliases::OutboundAliases;
use super::connection::{Acknowledgement, Connection, ConnectionKey};
use super::ending::{self, Will};
use super::publishing::Owner;
use super::receiving::{QUOTA_EXCEEDED, Violation};
use super::refusing::Refusal;
use super::role::{BridgeNotice, Link, LinkState, Role};
use super::sessions::SessionKey;
use super::{Shard, TimerKey};

/// A connection to a remote that has been opened, on its way to the shard that owns the session of its bridge.
#[derive(Debug)]
pub struct OpenedBridge {
    /// The bridge.
    pub bridge: Arc<Bridge>,
    /// The protocol that is spoken.
    pub version: Version,
    /// CONNACK, whole; [`Opening`](crate::bridge::Opening) has found it acceptable.
    pub connack_frame: Bytes,
    /// What came behind it, as it came from the socket.
    pub early_bytes: Bytes,
    /// What these and all further bytes pass through.
    pub transport: Transport,
}

/// What a remote may have in flight to us, whatever Receive Maximum it was told: there are no more packet ids. mosquitto 2.0
/// exceeds the maximum when it resumes a session, and would never get further if it were held to it.
const QUOTA: usize = u16::MAX as usize;

/// What a bridge subscribes to, here and at the remote: nothing that comes back, RETAIN as it was set, and what is retained
/// only once.
fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, no_local: true, retain_as_published: true, retain_handling: RetainHandling::SendIfNew }
}

/// What the filters are that a bridge subscribes to at the remote, in a number.
fn digest(filters: &[(&str, QoS)]) -> u64 {
    let mut text = Vec::new();
    for (filter, qos) in filters {
        text.extend_from_slice(filter.as_bytes());
        // No filter contains it [MQTT-4.7.3-2].
        text.extend_from_slice(&[0, qos.bits()]);
    }
    xxh3_64(&text)
}

impl Shard {
    /// Brings the sessions of bridges in line with what is configured: those that are missing begin, those of other bridges
    /// end, and each is subscribed to what goes out. To be called once, before any connection; `bridges` are those whose
    /// sessions are this shard's.
    pub fn keep_bridges(&mut self, now: Timestamp, bridges: &[Arc<Bridge>]) {
        self.clients.now = now;
        let records = self.clients.log.records();
        let configured: Vec<String> = bridges.iter().map(|bridge| bridge.session_id()).collect();
        let mut place = 0;
        while let Some(session) = self.clients.sessions.at_or_behind(place) {
            place = session.index() + 1;
            let client_id = &self.clients.sessions.get(session).client_id;
            if client_id.starts_with(SESSION_PREFIX) && !configured.iter().any(|configured| **configured == **client_id)
            {
                self.notices.push_back(BridgeNotice::SessionEnded { session: client_id.clone() });
                self.end_session(session);
            }
        }
        for (bridge, id) in bridges.iter().zip(configured) {
            let session = match self.clients.sessions.find(&id) {
                Some(session) => session,
                None => self.begin_bridge_session(&id),
            };
            self.subscribe_bridge(session, bridge);
        }
        if self.clients.log.records() > records {
            // Nobody is promised anything by it, but the next start should know.
            self.clients.log.wait_for_appended();
        }
    }

    fn begin_bridge_session(&mut self, id: &str) -> SessionKey {
        let is_durable = self.clients.log.is_on();
        let session = self.clients.sessions.insert(id.into(), SessionExpiry::Never, is_durable);
        self.clients.sessions.get_mut(session).disconnected_at = Some(self.clients.now);
        self.clients.log_session(session);
        session
    }

    fn subscribe_bridge(&mut self, session: SessionKey, bridge: &Bridge) {
        let wanted: Vec<(TopicFilter<'_>, SubscriptionOptions)> = bridge
            .topics
            .local_filters()
            .into_iter()
            .map(|(filter, qos)| (TopicFilter::parse(filter).expect("parsed when it was configured"), options(qos)))
            .collect();
        let present: Vec<(String, SubscriptionOptions)> = self
            .clients
            .sessions
            .get(session)
            .subscriptions
            .iter()
            .map(|key| {
                let mut subscribers = self.subscriptions.subscribers(key).iter();
                let own = subscribers.find(|subscriber| subscriber.subscriber == session.into());
                let own = own.expect("a session knows its subscriptions");
                (self.subscriptions.filter_of(key), own.subscription.options)
            })
            .collect();
        for (filter, _) in &present {
            let filter = TopicFilter::parse(filter).expect("it was subscribed to");
            if !wanted.iter().any(|(wanted, _)| *wanted == filter) {
                self.unsubscribe_from(session, &filter);
            }
        }
        for (filter, options) in wanted {
            if !present.iter().any(|present| (present.0.as_str(), present.1) == (filter.as_str(), options)) {
                self.subscribe_session(session, &filter, options);
            }
        }
    }

    /// Whether the remote of a bridge keeps a session that belongs to the one here, as [`Opening`](crate::bridge::Opening)
    /// has to know.
    pub fn is_bridge_shared(&self, bridge: &Bridge) -> bool {
        let session = self.clients.sessions.find(&bridge.session_id());
        session.is_some_and(|session| self.clients.sessions.get(session).remote.is_some())
    }

    /// Takes the connection of a bridge over. A key is given also if it can't go on: the command to close comes out.
    ///
    /// # Panics
    /// If what the remote has said is not what the opening accepts.
    pub fn handle_bridge(&mut self, now: Timestamp, mut opened: OpenedBridge) -> ConnectionKey {
        self.clients.now = now;
        let Ok(Packet::Connack(connack)) = decode(opened.version, &opened.connack_frame) else {
            panic!("the opening has decoded the same bytes");
        };
        let entry = self.clients.connections.vacant_entry();
        let key = ConnectionKey::from_index(entry.key());
        self.admitted = self.admitted.wrapping_add(1);
        entry.insert(Connection::new(opened.version, std::mem::take(&mut opened.transport), self.admitted, now));
        match self.clients.sessions.find(&opened.bridge.session_id()) {
            Some(session) if self.clients.log.failure().is_none() => {
                self.link(key, session, &opened.bridge, &connack);
                self.receive_bytes(key, &opened.early_bytes);
            }
            Some(_) | None => self.close(key),
        }
        key
    }

    fn link(&mut self, key: ConnectionKey, session: SessionKey, bridge: &Arc<Bridge>, connack: &Connack<'_>) {
        if let Some(previous) = self.clients.sessions.get(session).connection {
            self.end_by_server(previous, ReasonCode::SessionTakenOver);
        }
        let limits = &self.clients.limits;
        let properties = connack.properties;
        let link = Link {
            bridge: Arc::clone(bridge),
            state: LinkState::Carrying,
            // [MQTT-3.3.4-9]
            window: properties.receive_maximum().unwrap_or(u16::MAX).min(bridge.max_inflight),
            retain_available: properties.retain_available().unwrap_or(true),
        };
        let topic_alias_maximum = properties.topic_alias_maximum().unwrap_or(0);
        let outbound_aliases = OutboundAliases::new(topic_alias_maximum, limits.max_outbound_topic_aliases);
        let connection = self.clients.connection(key);
        connection.session = Some(session);
        connection.role = Role::bridge(link);
        // [MQTT-3.1.2-21] [MQTT-3.2.2-21]: if the remote wants none, ours does no harm, and finds a remote that is gone.
        let server_keep_alive = properties.server_keep_alive().filter(|seconds| *seconds > 0);
        connection.keep_alive_seconds = server_keep_alive.unwrap_or(bridge.keep_alive_seconds);
        // [MQTT-3.2.2-15]
        connection.max_packet_bytes = properties.maximum_packet_size().and_then(NonZeroU32::new);
        connection.outbound_aliases = outbound_aliases.map(Box::new);
        self.clients.attached += 1;
        let record = self.clients.sessions.get_mut(session);
        record.connection = Some(key);
        record.disconnected_at = None;
        // Nothing is sent before the subscriptions are made.
        record.window = 0;
        let known = record.remote;
        if self.fault.is(Fault::ReceivedIdsForgottenByBridge) {
            *self.clients.sessions.inbound(session) = Default::default();
        }
        let (remote, resending) = match known {
            Some(known) if connack.session_present => (known, Resending::Again),
            Some(_) => {
                self.handle_session_lost(session, bridge);
                (RemoteSession::FRESH, Resending::Anew)
            }
            None => {
                assert!(!connack.session_present, "the opening accepts no session that is not ours");
                (RemoteSession::FRESH, Resending::Anew)
            }
        };
        self.clients.sessions.get_mut(session).remote = Some(remote);
        self.clients.log_session(session);
        self.arm_ping(key);
        let filters = bridge.topics.remote_filters();
        if filters.is_empty() || remote == RemoteSession::subscribed(digest(&filters)) {
            self.carry(key, session, resending);
        } else {
            self.subscribe_at_remote(key, session, &filters, resending);
        }
    }

    /// What is in flight was agreed on with a session that the remote has no more [MQTT-3.2.2-5]. Messages that it has not
    /// acknowledged are still ours to bring there.
    fn handle_session_lost(&mut self, session: SessionKey, bridge: &Bridge) {
        let received: Vec<PacketId> = match self.clients.sessions.inbound_if_any(session) {
            Some(inbound) => std::mem::take(inbound).ids().collect(),
            None => Vec::new(),
        };
        for id in &received {
            self.clients.log_released(session, *id);
        }
        let mut confirmed = Vec::new();
        let mut unacknowledged = 0;
        if let Some(outbound) = self.clients.sessions.outbound_if_any(session) {
            outbound.handle_session_lost(|number| confirmed.push(number));
            unacknowledged = outbound.inflight();
        }
        for number in &confirmed {
            self.clients.log_completed(session, *number);
        }
        self.notices.push_back(BridgeNotice::SessionLost {
            bridge: bridge.name.clone(),
            unacknowledged,
            confirmed: confirmed.len(),
            received: received.len(),
        });
    }

    fn subscribe_at_remote(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        filters: &[(&str, QoS)],
        resending: Resending,
    ) {
        let next_number = match self.clients.sessions.outbound_if_any(session) {
            Some(outbound) => outbound.next_to_start(),
            None => self.clients.sessions.get(session).next_number,
        };
        // [MQTT-2.2.1-3]: not in use, and used by no message before SUBACK.
        let packet_id = packet_id_of(next_number);
        let after = self.clients.logged_for(session);
        let since = self.clients.now;
        let connection = self.clients.connection(key);
        let mut subscribe = Vec::new();
        let filters = filters.iter().map(|(filter, qos)| (*filter, options(*qos)));
        encode_subscribe(&mut subscribe, connection.version, packet_id, Properties::EMPTY, filters);
        if connection.max_packet_bytes.is_some_and(|max| subscribe.len() > max.get() as usize) {
            let text = "the SUBSCRIBE for its topics is larger than the remote accepts";
            return self.end_for(key, Violation { reason: ReasonCode::ImplementationSpecificError, text });
        }
        if let Some(link) = connection.role.link_mut() {
            link.state = LinkState::Subscribing { packet_id, since, resending };
        }
        self.clients.send_encoded(key, &subscribe, after);
    }

    /// Messages may go out.
    fn carry(&mut self, key: ConnectionKey, session: SessionKey, resending: Resending) {
        let Some(link) = self.clients.connection(key).role.link_mut() else { return };
        link.state = LinkState::Carrying;
        let window = link.window;
        self.clients.sessions.get_mut(session).window = window;
        self.clients.resume(session, resending);
    }

    /// A packet of a remote.
    pub(super) fn handle_from_remote(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        packet: &Packet<'_>,
    ) -> Result<(), Violation> {
        match packet {
            Packet::Publish(publish) => self.handle_publish_from_remote(key, session, publish),
            Packet::Puback(puback) => {
                self.clients.counters.refused_by_remote += u64::from(puback.reason.is_error());
                self.handle_acknowledgement(key, session, AcknowledgementKind::Puback, puback.packet_id, puback.reason)
            }
            Packet::Pubrec(pubrec) => {
                self.clients.counters.refused_by_remote += u64::from(pubrec.reason.is_error());
                self.handle_acknowledgement(key, session, AcknowledgementKind::Pubrec, pubrec.packet_id, pubrec.reason)
            }
            Packet::Pubrel(pubrel) => {
                self.handle_acknowledgement(key, session, AcknowledgementKind::Pubrel, pubrel.packet_id, pubrel.reason)
            }
            Packet::Pubcomp(pubcomp) => self.handle_acknowledgement(
                key,
                session,
                AcknowledgementKind::Pubcomp,
                pubcomp.packet_id,
                pubcomp.reason,
            ),
            Packet::Suback(suback) => self.handle_suback(key, session, suback),
            Packet::Pingresp => Ok(()),
            Packet::Disconnect(disconnect) => {
                let Some(link) = self.clients.connection(key).role.link() else { return Ok(()) };
                let bridge = link.bridge.name.clone();
                self.notices.push_back(BridgeNotice::EndedByRemote { bridge, reason: disconnect.reason });
                self.end_by_client(key, Will::Discard);
                Ok(())
            }
            Packet::Connack(_) => Err(Violation::protocol_error("a second CONNACK")),
            Packet::Unsuback(_) => Err(Violation::protocol_error("UNSUBACK without an UNSUBSCRIBE")),
            Packet::Auth(_) => Err(Violation::protocol_error("AUTH without an authentication method in CONNECT")),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
                Err(Violation::protocol_error("a packet that only a client sends"))
            }
        }
    }

    /// Routes a message of the remote under its name here, as published by the bridge's session, so that no local keeps it from
    /// going back. One without a name here is dropped, and its exchange runs as if it had been taken.
    fn handle_publish_from_remote(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        publish: &Publish<'_>,
    ) -> Result<(), Violation> {
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        let Some(link) = connection.role.link() else { return Ok(()) };
        // [MQTT-3.1.2-26]
        if publish.properties.topic_alias().is_some() {
            let text = "a topic alias, although CONNECT has allowed none";
            return Err(Violation { reason: ReasonCode::TopicAliasInvalid, text });
        }
        let local = link.bridge.topics.to_local(publish.topic);
        let Some(topic) = local.as_deref().and_then(|local| self.clients.topic_to_publish(local).ok()) else {
            self.clients.counters.dropped_not_bridged += 1;
            return self.drop_publish(key, publish);
        };
        match self.refusal_of(key, session, publish, topic) {
            None => {}
            Some(refusal @ (Refusal::ReservedTopic | Refusal::NotPermitted | Refusal::PayloadFormat)) => {
                return self.refuse_publish(key, publish, QUOTA, refusal);
            }
            Some(Refusal::Unlogged(refusal)) => {
                // To refuse the message would lose it: the remote keeps it until it can be taken.
                self.clients.counters.refused_log_failed += 1;
                self.end_for(key, refusal.into());
                return Ok(());
            }
        }
        let retain = publish.retain && self.clients.service.retain;
        let message = message_of(now, publish, topic, retain);
        self.exchange_publish(key, session, publish, QUOTA, |shard, source| {
            shard.route(Owner::Session(session), Some(source), topic, message);
        })
    }

    /// Acknowledges a message that goes nowhere, as if it had been taken. Nothing has to be remembered for it, because PUBREL is
    /// answered for an id that is not known, too.
    fn drop_publish(&mut self, key: ConnectionKey, publish: &Publish<'_>) -> Result<(), Violation> {
        let Some(id) = publish.packet_id else { return Ok(()) };
        if self.clients.connection(key).receipts.len() >= QUOTA {
            return Err(QUOTA_EXCEEDED);
        }
        let kind = match publish.qos {
            QoS::AtMostOnce | QoS::AtLeastOnce => AcknowledgementKind::Puback,
            QoS::ExactlyOnce => AcknowledgementKind::Pubrec,
        };
        let receipt = Acknowledgement { kind, id, reason: ReasonCode::Success, text: None };
        self.clients.send_receipt(key, receipt, LogPosition::NOTHING);
        Ok(())
    }

    fn handle_suback(&mut self, key: ConnectionKey, session: SessionKey, suback: &Suback<'_>) -> Result<(), Violation> {
        let Some(link) = self.clients.connection(key).role.link() else { return Ok(()) };
        let (bridge, state) = (Arc::clone(&link.bridge), link.state);
        let LinkState::Subscribing { packet_id, resending, .. } = state else {
            return Err(Violation::protocol_error("SUBACK without a SUBSCRIBE"));
        };
        let filters = bridge.topics.remote_filters();
        // [MQTT-3.8.4-2] [MQTT-3.8.4-6]
        if packet_id != suback.packet_id || filters.len() != suback.codes.len() {
            return Err(Violation::protocol_error("a SUBACK that does not fit the SUBSCRIBE"));
        }
        let mut is_granted = true;
        for ((filter, qos), code) in filters.iter().zip(suback.codes) {
            let (bridge, filter) = (bridge.name.clone(), (*filter).into());
            match QoS::from_bits(*code) {
                Some(granted) if granted >= *qos => {}
                Some(qos) => self.notices.push_back(BridgeNotice::SubscriptionLowered { bridge, filter, qos }),
                None => {
                    is_granted = false;
                    let reason = ReasonCode::from_u8(*code, PacketType::Suback);
                    let reason = reason.unwrap_or(ReasonCode::UnspecifiedError);
                    self.notices.push_back(BridgeNotice::SubscriptionRefused { bridge, filter, reason });
                }
            }
        }
        if is_granted {
            self.clients.sessions.get_mut(session).remote = Some(RemoteSession::subscribed(digest(&filters)));
            self.clients.log_session(session);
        }
        self.carry(key, session, resending);
        Ok(())
    }

    /// It is time for a PINGREQ, or the remote has been silent for too long.
    pub(super) fn bridge_timeout(&mut self, key: ConnectionKey) {
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        if connection.is_paused() {
            // What it sends is not read, so its silence is ours.
            connection.last_packet_at = now;
        }
        let silent_at = ending::keep_alive_deadline(connection);
        let patience = silent_at.since(connection.last_packet_at);
        let session = connection.session;
        let Some(link) = connection.role.link() else { return };
        let is_suback_overdue = match link.state {
            LinkState::Subscribing { since, .. } => since + patience <= now,
            LinkState::Carrying => false,
        };
        if silent_at <= now {
            return self.give_remote_up(key, "the remote is silent");
        }
        if is_suback_overdue {
            return self.give_remote_up(key, "the remote does not answer SUBSCRIBE");
        }
        if let Some(session) = session {
            self.clients.sessions.release_idle_tables(session);
        }
        // Whatever else was sent meanwhile: that is one small packet, and nobody has to remember it [MQTT-3.1.2-20].
        self.clients.send_if_accepted(key, &Packet::Pingreq, LogPosition::NOTHING);
        self.arm_ping(key);
    }

    fn give_remote_up(&mut self, key: ConnectionKey, text: &'static str) {
        self.end_for(key, Violation { reason: ReasonCode::UnspecifiedError, text });
    }

    /// Arms the timer of half a keep-alive interval, so that a PINGREQ arrives in time.
    fn arm_ping(&mut self, key: ConnectionKey) {
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        let deadline = now + ending::keep_alive(connection) / 2;
        connection.timer_at = deadline;
        self.clients.timers.arm(deadline, TimerKey::Connection(key));
    }

    /// What operators should know, oldest first.
    pub fn poll_notice(&mut self) -> Option<BridgeNotice> {
        self.notices.pop_front()
    }
}

/// The message of a remote under its topic here. What belongs to the hop is left out; subscription identifiers are those of the
/// remote's session for us.
fn message_of(now: Timestamp, publish: &Publish<'_>, topic: TopicName<'_>, retain: bool) -> Message {
    let properties = publish.properties;
    let lifetime = properties.message_expiry_interval();
    let expires_at = lifetime.map(|seconds| now + std::time::Duration::from_secs(seconds.into()));
    let mut forwarded = Vec::with_capacity(properties.raw().len());
    properties.copy_where(&mut forwarded, |identifier| {
        !matches!(identifier, PropertyIdentifier::MessageExpiryInterval | PropertyIdentifier::SubscriptionIdentifier)
    });
    Message::new(topic.as_str(), &forwarded, publish.payload, publish.qos, retain, expires_at)
}
