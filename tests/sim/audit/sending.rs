//! What the broker sends: each packet has to fit what it has read and what it has sent before.

use std::collections::VecDeque;

use oncemq::proto::{Acknowledgement, Packet, Publish, QoS, ReasonCode, Received, decode};
use xxhash_rust::xxh3::xxh3_64;

use crate::ledger::{Failure, fail};

use super::{Answer, Audit, Exchange, Presence, Stage};

impl Audit {
    /// The broker gives bytes to be sent.
    pub(crate) fn sent(&mut self, connection: usize, bytes: &[u8], max_inflight: u16) -> Result<(), Failure> {
        let mut received = Received::new(bytes);
        loop {
            let record = &mut self.connections[connection];
            let frame = match record.framer.next_frame(&mut received, u32::MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => fail!("the broker sent bytes that are no packet on connection {connection}: {error:?}"),
            };
            // [MQTT-3.1.2-24]
            let max_packet_bytes = record.terms.and_then(|terms| terms.max_packet_bytes);
            if max_packet_bytes.is_some_and(|max| frame.bytes().len() > max as usize) {
                fail!("a packet of {} bytes was sent on connection {connection}", frame.bytes().len());
            }
            match decode(record.version, frame.bytes()) {
                Ok(packet) => self.sent_packet(connection, &packet, max_inflight)?,
                Err(error) => fail!("the broker sent a damaged packet on connection {connection}: {error:?}"),
            }
        }
    }

    fn sent_packet(&mut self, index: usize, packet: &Packet<'_>, max_inflight: u16) -> Result<(), Failure> {
        let record = &mut self.connections[index];
        if (record.connack == Answer::Due) != matches!(packet, Packet::Connack(_)) {
            fail!("the broker sent {packet:?} out of place on connection {index}");
        }
        match packet {
            Packet::Connack(connack) => {
                if connack.reason.is_error() && self.log_has_failed {
                    record.connack = Answer::Refused;
                    return Ok(());
                }
                record.connack = Answer::Accepted;
                // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
                let is_right = match record.expects_session {
                    Presence::Absent => !connack.session_present,
                    Presence::Unsure => true,
                    Presence::Present => connack.session_present,
                };
                if !is_right {
                    fail!("connection {index} of client {} was told {connack:?}", record.client);
                }
                let session = &mut self.sessions[record.client];
                if session.connection == Some(index) && record.is_open {
                    session.is_confirmed(connack.session_present);
                }
                Ok(())
            }
            Packet::Publish(publish) => {
                if publish.packet_id.is_some() && record.link.as_ref().is_some_and(|link| link.awaits_suback) {
                    fail!("the bridge published on connection {index} before its subscriptions were made");
                }
                self.aliases_sent += u64::from(publish.topic.is_empty());
                let topic = record.aliases.topic(publish)?;
                let publish = Publish { topic: &topic, ..*publish };
                match publish.packet_id {
                    Some(id) => self.sent_publish(index, id.get(), &publish, max_inflight),
                    None => Ok(()),
                }
            }
            // Whether a refused message deserved it, its client knows.
            Packet::Puback(refusal) | Packet::Pubrec(refusal)
                if refusal.reason.is_error()
                    && refusal.reason != ReasonCode::PayloadFormatInvalid
                    && refusal.reason != ReasonCode::NotAuthorized
                    && !self.log_has_failed
                    && !(self.log_is_bounded && refusal.reason == ReasonCode::QuotaExceeded) =>
            {
                fail!("connection {index} was told {refusal:?} without need")
            }
            Packet::Puback(puback) => acknowledged(index, "PUBACK", puback, &mut record.due_puback),
            Packet::Pubrec(pubrec) => acknowledged(index, "PUBREC", pubrec, &mut record.due_pubrec),
            Packet::Pubcomp(pubcomp) => acknowledged(index, "PUBCOMP", pubcomp, &mut record.due_pubcomp),
            Packet::Pubrel(pubrel) => self.sent_pubrel(index, pubrel),
            Packet::Disconnect(disconnect) => {
                if record.last_word() != Some(disconnect.reason) && !self.log_has_failed {
                    fail!("connection {index} was told {disconnect:?} instead of {:?}", record.last_word());
                }
                Ok(())
            }
            Packet::Suback(_) => match record.due_subacks.checked_sub(1) {
                Some(left) => {
                    record.due_subacks = left;
                    Ok(())
                }
                None => fail!("connection {index} got a SUBACK for no SUBSCRIBE"),
            },
            Packet::Unsuback(_) | Packet::Pingresp => Ok(()),
            Packet::Subscribe(_) if let Some(link) = record.link.as_mut().filter(|_| !record.has_sent_new) => {
                link.awaits_suback = true;
                Ok(())
            }
            Packet::Pingreq if record.link.is_some() => Ok(()),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq | Packet::Auth(_) => {
                fail!("the broker sent {packet:?} on connection {index}")
            }
        }
    }

    fn sent_publish(&mut self, index: usize, id: u16, publish: &Publish<'_>, max_inflight: u16) -> Result<(), Failure> {
        let record = &mut self.connections[index];
        let session = &mut self.sessions[record.client];
        if session.connection != Some(index) {
            // Encoded before another connection took over: it counts for nothing any more.
            return Ok(());
        }
        // What is in flight over a bridge may be called otherwise when the configuration has changed.
        let topic_hash = if record.link.is_some() { 0 } else { xxh3_64(publish.topic.as_bytes()) };
        let content = topic_hash ^ xxh3_64(publish.payload);
        let is_other = |exchange: &Exchange| !publish.dup || exchange.content != content || exchange.qos != publish.qos;
        let known = session.exchanges.get_mut(&id).filter(|exchange| !(exchange.may_be_over && is_other(exchange)));
        session.over.remove(&id);
        match (known, publish.dup) {
            // [MQTT-2.2.1-4] [MQTT-4.3.3-1]
            (Some(exchange), false) => {
                fail!("id {id} is used again on connection {index} before the end of {exchange:?}")
            }
            (None, true) if !session.has_unseen => {
                fail!("a first PUBLISH with DUP on connection {index}: {publish:?}")
            }
            (None, _) => {
                if publish.dup && record.has_sent_new {
                    fail!("id {id} was sent again on connection {index}, behind new messages");
                }
                record.has_sent_new |= !publish.dup;
                let ordinal = session.next_ordinal;
                session.next_ordinal += 1;
                let exchange = Exchange {
                    qos: publish.qos,
                    content,
                    stage: Stage::Published,
                    ordinal,
                    sent_on: index,
                    published_on: index,
                    is_released: false,
                    may_be_over: false,
                };
                session.exchanges.insert(id, exchange);
            }
            (Some(exchange), true) => {
                // [MQTT-4.3.3-6]
                if exchange.stage == Stage::Received {
                    fail!("id {id} was published again on connection {index} after its PUBREC");
                }
                // [MQTT-4.4.0-1]
                if exchange.sent_on == index {
                    fail!("id {id} was sent twice on connection {index}");
                }
                if exchange.content != content || exchange.qos != publish.qos {
                    fail!("id {id} was sent again on connection {index} with other content");
                }
                // [MQTT-4.6.0-1]
                if record.has_sent_new || record.last_resent.is_some_and(|ordinal| ordinal > exchange.ordinal) {
                    fail!("id {id} was sent again on connection {index} out of order");
                }
                record.last_resent = Some(exchange.ordinal);
                exchange.sent_on = index;
                exchange.published_on = index;
                exchange.stage = Stage::Published;
                exchange.may_be_over = false;
            }
        }
        // [MQTT-3.3.4-7]
        let open = session.exchanges.values().filter(|exchange| exchange.published_on == index).count();
        let allowed = record.terms.map_or(0, |terms| terms.receive_maximum).min(max_inflight);
        if open > usize::from(allowed) {
            fail!("{open} exchanges are open on connection {index}, {allowed} allowed");
        }
        Ok(())
    }

    fn sent_pubrel(&mut self, index: usize, pubrel: &Acknowledgement<'_>) -> Result<(), Failure> {
        let record = &mut self.connections[index];
        let id = pubrel.packet_id.get();
        let session = &mut self.sessions[record.client];
        let exchange = session.exchanges.get_mut(&id).filter(|_| session.connection == Some(index));
        if record.due_pubrel.front() == Some(&id) {
            record.due_pubrel.pop_front();
            if let Some(exchange) = exchange {
                exchange.is_released = true;
            }
            return Ok(());
        }
        if session.connection != Some(index) {
            return Ok(());
        }
        let may_be_too_large = record.terms.is_some_and(|terms| terms.max_packet_bytes.is_some());
        let is_before_pubrec =
            exchange.as_ref().is_none_or(|exchange| exchange.stage == Stage::Published && exchange.sent_on != index);
        let may_give_up =
            is_before_pubrec && (may_be_too_large || self.has_rules || record.link.is_some() && self.bridge_gives_up);
        match exchange {
            Some(exchange) if exchange.stage != Stage::Published && exchange.sent_on != index => {
                exchange.sent_on = index;
                exchange.stage = Stage::Received;
                exchange.is_released = true;
                exchange.may_be_over = false;
                Ok(())
            }
            // A peer that may hold the id of what can't be sent again has to be told that it is free.
            exchange if may_give_up => {
                let published_on = exchange.map_or(usize::MAX, |exchange| exchange.published_on);
                let ordinal = session.next_ordinal;
                session.next_ordinal += 1;
                let given_up = Exchange {
                    qos: QoS::ExactlyOnce,
                    content: 0,
                    stage: Stage::Received,
                    ordinal,
                    sent_on: index,
                    published_on,
                    is_released: true,
                    may_be_over: false,
                };
                session.exchanges.insert(id, given_up);
                Ok(())
            }
            exchange => {
                fail!("PUBREL {id} was sent on connection {index} for {exchange:?}, due: {:?}", record.due_pubrel)
            }
        }
    }
}

/// Takes an acknowledgement off those that are due; it must be the first.
fn acknowledged(index: usize, kind: &str, sent: &Acknowledgement<'_>, due: &mut VecDeque<u16>) -> Result<(), Failure> {
    let id = sent.packet_id.get();
    match due.pop_front() {
        Some(expected) if expected == id => Ok(()),
        expected => fail!("{kind} {id} was sent on connection {index} instead of {expected:?}"),
    }
}
