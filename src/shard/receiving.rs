//! What a client's packets do, once its connection is admitted.

use crate::proto::{
    self, AcknowledgementKind, Disconnect, Frame, Packet, PacketId, PacketType, Properties, Property, Publish, QoS,
    ReasonCode, Received, Version, decode, decode_publish, decode_short_acknowledgement,
};
use crate::route::{Message, Publisher, TopicName};
use crate::session::{Acknowledged, Outbound, Reception, Release, SessionExpiry};
use crate::store::LogPosition;

use super::Shard;
use super::connection::{Acknowledgement, ConnectionKey};
use super::ending::Will;
use super::messages::Delivery;
use super::publishing::{Owner, Source};
use super::sessions::SessionKey;

/// Why a connection has to end: what 5.0 clients are told, and what the log says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Violation {
    pub(super) reason: ReasonCode,
    pub(super) text: &'static str,
}

/// [MQTT-3.3.4-7]
pub(super) const QUOTA_EXCEEDED: Violation = Violation {
    reason: ReasonCode::ReceiveMaximumExceeded,
    text: "more messages in flight than the Receive Maximum of CONNACK",
};

/// [MQTT-3.1.0-2]
const SECOND_CONNECT: Violation = Violation::protocol_error("a second CONNECT");

impl Violation {
    pub(super) const fn protocol_error(text: &'static str) -> Self {
        Self { reason: ReasonCode::ProtocolError, text }
    }
}

impl From<proto::DecodeError> for Violation {
    fn from(error: proto::DecodeError) -> Self {
        Self { reason: error.reason, text: error.text }
    }
}

impl Shard {
    /// Takes all whole packets out of what was received.
    pub(super) fn receive(&mut self, key: ConnectionKey, received: &mut Received<'_>) {
        let max_packet_bytes = self.clients.limits.max_packet_bytes;
        loop {
            let connection = self.clients.connection(key);
            if !connection.is_open() {
                return;
            }
            let handled = match connection.framer.next_frame(received, max_packet_bytes) {
                Ok(Some(frame)) => self.handle_frame(key, &frame),
                Ok(None) => return,
                Err(error) => Err(error.into()),
            };
            if let Err(violation) = handled {
                self.end_by_violation(key, violation);
                return;
            }
        }
    }

    #[inline]
    fn handle_frame(&mut self, key: ConnectionKey, frame: &Frame<'_>) -> Result<(), Violation> {
        self.clients.received.count(frame.bytes().first().copied().unwrap_or_default());
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        // Trap 41: only whole packets count as a sign of life.
        connection.last_packet_at = now;
        let session = connection.session.expect("an open connection serves a session");
        let (version, is_of_remote) = (connection.version, connection.role.link().is_some());
        // All that comes again and again first, past the type that can hold any packet: moving it costs more than decoding.
        if let Some((kind, id)) = decode_short_acknowledgement(frame.bytes()) {
            return self.handle_acknowledgement(key, session, kind, id, ReasonCode::Success);
        }
        if !is_of_remote && let Some(publish) = decode_publish(version, frame.bytes()) {
            return self.handle_publish(key, session, &publish?, frame);
        }
        let packet = decode(version, frame.bytes()).map_err(|error| fault_of(frame, error))?;
        if is_of_remote {
            return self.handle_from_remote(key, session, &packet);
        }
        self.handle_packet(key, session, &packet)
    }

    /// A packet of a client other than PUBLISH.
    fn handle_packet(&mut self, key: ConnectionKey, session: SessionKey, packet: &Packet<'_>) -> Result<(), Violation> {
        use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
        match packet {
            Packet::Publish(_) => unreachable!("decoded before all others"),
            Packet::Puback(puback) => {
                self.handle_acknowledgement(key, session, Puback, puback.packet_id, puback.reason)
            }
            Packet::Pubrec(pubrec) => {
                self.handle_acknowledgement(key, session, Pubrec, pubrec.packet_id, pubrec.reason)
            }
            Packet::Pubrel(pubrel) => {
                self.handle_acknowledgement(key, session, Pubrel, pubrel.packet_id, pubrel.reason)
            }
            Packet::Pubcomp(pubcomp) => {
                self.handle_acknowledgement(key, session, Pubcomp, pubcomp.packet_id, pubcomp.reason)
            }
            Packet::Subscribe(subscribe) => self.handle_subscribe(key, session, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(key, session, unsubscribe),
            Packet::Pingreq => {
                self.clients.send(key, &Packet::Pingresp, LogPosition::NOTHING);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(key, session, disconnect),
            Packet::Connect(_) => Err(SECOND_CONNECT),
            Packet::Auth(auth) => self.handle_auth(key, auth),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(Violation::protocol_error("a packet that only a server sends"))
            }
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    pub(super) fn handle_acknowledgement(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        kind: AcknowledgementKind,
        id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), Violation> {
        match kind {
            AcknowledgementKind::Puback => {
                let acknowledged = self.acknowledged_by(session, |outbound| outbound.handle_puback(id));
                self.finish_exchange(key, session, id, acknowledged)
            }
            AcknowledgementKind::Pubrec => {
                let refused = reason.is_error();
                let acknowledged = self.acknowledged_by(session, |outbound| outbound.handle_pubrec(id, refused));
                if matches!(acknowledged, Acknowledged::Unknown) && !refused {
                    // The client would wait for ever without an answer.
                    let reason = ReasonCode::PacketIdentifierNotFound;
                    self.send_release(key, session, AcknowledgementKind::Pubrel, id, reason);
                    return Ok(());
                }
                self.finish_exchange(key, session, id, acknowledged)
            }
            AcknowledgementKind::Pubcomp => {
                let acknowledged = self.acknowledged_by(session, |outbound| outbound.handle_pubcomp(id));
                self.finish_exchange(key, session, id, acknowledged)
            }
            AcknowledgementKind::Pubrel => {
                let release = match self.clients.sessions.inbound_if_any(session) {
                    Some(inbound) => inbound.handle_pubrel(id),
                    None => Release::Unknown,
                };
                // [MQTT-4.3.3-11], trap 4: answered also for an unknown id.
                let reason = match release {
                    Release::Completed => {
                        self.clients.log_released(session, id);
                        ReasonCode::Success
                    }
                    Release::Unknown => ReasonCode::PacketIdentifierNotFound,
                };
                // If PUBCOMP left before the release is stable, a crash could bring the id back while the client uses it
                // for its next message, which would then pass for a repetition.
                self.send_release(key, session, AcknowledgementKind::Pubcomp, id, reason);
                Ok(())
            }
        }
    }

    #[inline]
    fn handle_publish(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        publish: &Publish<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Violation> {
        self.clients.counters.payload_bytes_received += publish.payload.len() as u64;
        self.clients.pace_publisher(key, frame.bytes().len());
        check_properties(publish.properties)?;
        self.check_served(publish.qos, publish.retain)?;
        match publish.properties.topic_alias() {
            None if publish.topic.is_empty() => Err(Violation::protocol_error("an empty topic without a topic alias")),
            None => self.handle_named_publish(key, session, publish, frame),
            Some(alias) => self.handle_aliased_publish(key, session, alias, publish, frame),
        }
    }

    /// Handles a PUBLISH whose topic alias stands for its topic, or will from now on.
    fn handle_aliased_publish(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        alias: u16,
        publish: &Publish<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Violation> {
        let maximum = self.clients.limits.topic_alias_maximum;
        // Lent for the time of this packet, so that the topic need not be copied out.
        let mut aliases = self.clients.connection(key).inbound_aliases.take().unwrap_or_default();
        let handled = aliases
            .resolve(alias, publish.topic, maximum)
            .and_then(|topic| self.handle_named_publish(key, session, &Publish { topic, ..*publish }, frame));
        self.clients.connection(key).inbound_aliases = Some(aliases);
        handled
    }

    /// Handles a PUBLISH with its full topic.
    #[inline]
    fn handle_named_publish(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        publish: &Publish<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Violation> {
        let topic = self.clients.topic_to_publish(publish.topic)?;
        let receive_maximum = self.clients.limits.receive_maximum;
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        // 3.1.1 has no Receive Maximum: all its ids may be in flight.
        let quota = match connection.version {
            Version::V5 => usize::from(receive_maximum),
            Version::V311 => usize::from(u16::MAX),
        };
        if let Some(refusal) = self.refusal_of(key, session, publish, topic) {
            return self.refuse_publish(key, publish, quota, refusal);
        }
        self.exchange_publish(key, session, publish, quota, |shard, source| {
            let mut message = Message::from_publish(now, publish, frame, &mut shard.clients.message_bytes);
            message.read_at = shard.clients.sampling.mark(now);
            shard.route(Owner::Session(session), Some(source), topic, message);
        })
    }

    /// The receiver's part of the exchange of a message that may be taken: `route` it if it is new, and acknowledge it.
    /// `quota` is the publisher's Receive Maximum.
    #[inline]
    pub(super) fn exchange_publish(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        publish: &Publish<'_>,
        quota: usize,
        route: impl FnOnce(&mut Self, Source),
    ) -> Result<(), Violation> {
        let connection = self.clients.connection(key);
        let source = Source {
            connection: key,
            publisher: Publisher { connection: key.index() as u32, serial: connection.serial },
        };
        let receipts_due = connection.receipts.len();
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, None) if self.clients.memory.drops_messages() => {
                self.clients.counters.dropped_memory += 1
            }
            (QoS::AtMostOnce, None) => route(self, source),
            (QoS::AtLeastOnce, Some(_)) if receipts_due >= quota => return Err(QUOTA_EXCEEDED),
            (QoS::AtLeastOnce, Some(id)) => {
                let records = self.clients.log.records();
                route(self, source);
                let after = self.logged_since(session, records);
                self.send_receipt(key, AcknowledgementKind::Puback, id, after);
            }
            (QoS::ExactlyOnce, Some(id)) => {
                let after = match self.clients.sessions.inbound(session).handle_publish(id, quota) {
                    Reception::New => {
                        let records = self.clients.log.records();
                        self.clients.log_received(session, id);
                        route(self, source);
                        self.logged_since(session, records)
                    }
                    Reception::Duplicate => {
                        self.clients.counters.duplicates_suppressed += 1;
                        // What the first one caused may not be stable yet.
                        self.clients.log.wait_for_appended()
                    }
                    Reception::QuotaExceeded => return Err(QUOTA_EXCEEDED),
                };
                self.send_receipt(key, AcknowledgementKind::Pubrec, id, after);
            }
            (QoS::AtMostOnce, Some(_)) | (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => {
                unreachable!("the codec gives an id exactly above QoS 0")
            }
        }
        if self.clients.is_log_full() {
            self.clients.pause_source(key);
        }
        Ok(())
    }

    fn acknowledged_by(
        &mut self,
        session: SessionKey,
        handle: impl FnOnce(&mut Outbound<Delivery>) -> Acknowledged<Delivery>,
    ) -> Acknowledged<Delivery> {
        match self.clients.sessions.outbound_if_any(session) {
            Some(outbound) => handle(outbound),
            None => Acknowledged::Unknown,
        }
    }

    /// Does what an acknowledgement by a subscriber calls for.
    #[inline]
    fn finish_exchange(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        id: PacketId,
        acknowledged: Acknowledged<Delivery>,
    ) -> Result<(), Violation> {
        self.clients.note_progress(session);
        match acknowledged {
            Acknowledged::Completed(number, delivery) => {
                if let Some(delivery) = delivery {
                    self.clients.end_delivery(session, &delivery);
                }
                self.clients.log_completed(session, number);
                self.clients.pump(session);
                self.feed_if_drained(session);
                Ok(())
            }
            Acknowledged::Received(number, delivery) => {
                if let Some(delivery) = delivery {
                    self.clients.end_delivery(session, &delivery);
                    self.clients.log_confirmed(session, number);
                }
                // If PUBREL left before the confirmation is stable, a crash could bring the PUBLISH back to a client that
                // has forgotten its id.
                self.send_release(key, session, AcknowledgementKind::Pubrel, id, ReasonCode::Success);
                Ok(())
            }
            // The end of an exchange that we know nothing of any more: nothing to do.
            Acknowledged::Unknown => Ok(()),
            Acknowledged::ProtocolError => Err(Violation::protocol_error(
                "an acknowledgement that does not fit the QoS or the state of its message",
            )),
        }
    }

    fn handle_disconnect(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), Violation> {
        if let Some(interval) = disconnect.properties.session_expiry_interval() {
            let session = self.clients.sessions.get_mut(session);
            // 5.0 section 3.14.2.2.2, trap 17
            if session.expiry == SessionExpiry::WithConnection && interval != 0 {
                return Err(Violation::protocol_error("a session expiry of 0 cannot be raised by DISCONNECT"));
            }
            session.expiry = SessionExpiry::from_interval(interval);
        }
        // [MQTT-3.1.2-8] [MQTT-3.14.4-3]: only the normal disconnection takes the will back.
        let will = if disconnect.reason == ReasonCode::Success { Will::Discard } else { Will::Publish };
        self.end_by_client(key, will);
        Ok(())
    }

    /// PUBACK or PUBREC.
    fn send_receipt(&mut self, key: ConnectionKey, kind: AcknowledgementKind, id: PacketId, after: LogPosition) {
        let receipt = Acknowledgement { kind, id, reason: ReasonCode::Success, text: None };
        self.clients.send_receipt(key, receipt, after);
    }

    /// PUBREL or PUBCOMP.
    fn send_release(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        kind: AcknowledgementKind,
        id: PacketId,
        reason: ReasonCode,
    ) {
        let after = self.clients.logged_for(session);
        self.clients.send_release(key, Acknowledgement { kind, id, reason, text: None }, after);
    }

    /// What a promise to this client waits for, when `records` had been logged before the event that causes it: all that
    /// was logged so far if its session outlives the broker or the event logged something, nothing if not.
    fn logged_since(&mut self, session: SessionKey, records: u64) -> LogPosition {
        if self.clients.log.records() > records {
            self.clients.log.wait_for_appended()
        } else {
            self.clients.logged_for(session)
        }
    }
}

/// What is wrong with a packet that cannot be decoded. A second CONNECT is a protocol error whatever it says: the codec has
/// reasons for it that only CONNACK can carry.
#[cold]
fn fault_of(frame: &Frame<'_>, error: proto::DecodeError) -> Violation {
    match frame.bytes().first().copied().and_then(PacketType::from_first_byte) {
        Some(PacketType::Connect) => SECOND_CONNECT,
        Some(_) | None => error.into(),
    }
}

/// What the properties of a client's PUBLISH or will must obey beyond the codec's rules.
#[inline]
pub(super) fn check_properties(properties: Properties<'_>) -> Result<(), Violation> {
    for property in properties {
        match property {
            // [MQTT-3.3.4-6]
            Property::SubscriptionIdentifier(_) => {
                return Err(Violation::protocol_error("a subscription identifier in a PUBLISH from a client"));
            }
            // [MQTT-3.3.2-14]
            Property::ResponseTopic(topic) if TopicName::parse(topic).is_err() => {
                return Err(Violation::protocol_error("a response topic that is not a topic name"));
            }
            _ => {}
        }
    }
    Ok(())
}
