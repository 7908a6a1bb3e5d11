//! What a client does with the packets that arrive, and what it takes them for.

use oncemq::proto::{
    Acknowledgement, Connack, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Received, Suback, Version, decode,
};

use crate::aliases::Aliases;
use crate::ledger::{Arrival, Failure, Ledger, MessageNumber, fail};

use super::{Answer, Client, Meaning, Request, Stage, Surroundings, packet_id};

impl Client {
    /// Bytes arrived on the present connection.
    pub(crate) fn receive(&mut self, around: &mut Surroundings<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let mut received = Received::new(bytes);
        loop {
            let link = self.link_mut();
            let frame = match link.framer.next_frame(&mut received, u32::MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => fail!("client {} got bytes that are no packet: {error:?}", self.index),
            };
            if self.is_remote() && !self.link_mut().is_accepted {
                self.receive_connect(around, frame.bytes())?;
                continue;
            }
            let packet = match decode(self.version, frame.bytes()) {
                Ok(packet) => packet,
                Err(error) => fail!("client {} got a damaged packet: {error:?} {:?}", self.index, frame.bytes()),
            };
            self.receive_packet(around, &packet)?;
        }
    }

    fn receive_packet(&mut self, around: &mut Surroundings<'_>, packet: &Packet<'_>) -> Result<(), Failure> {
        let client = self.index;
        // [MQTT-3.2.0-1] [MQTT-3.2.0-2]
        if self.link_mut().is_accepted == matches!(packet, Packet::Connack(_)) {
            fail!("client {client} got {packet:?} out of place");
        }
        self.note_told(packet);
        match packet {
            Packet::Connack(connack) => self.receive_connack(around, connack),
            Packet::Publish(publish) => self.receive_publish(around.ledger, publish),
            Packet::Subscribe(subscribe) if self.is_remote() => self.receive_subscribe(around, subscribe),
            Packet::Pingreq if self.is_remote() => {
                if !self.link_mut().is_finished {
                    self.write(around.written, &Packet::Pingresp, Meaning::Other);
                }
                Ok(())
            }
            Packet::Puback(refusal) | Packet::Pubrec(refusal) if self.awaits_refusal(refusal.packet_id) => {
                self.receive_refusal(refusal)
            }
            Packet::Puback(puback) => {
                let is_accepted = self.is_accepted(around.ledger, puback)?;
                let message = self.take_exchange(puback.packet_id, Stage::AwaitingPuback, "PUBACK")?;
                if is_accepted {
                    self.note_acknowledged(around, message);
                }
                Ok(())
            }
            Packet::Pubrec(pubrec) if !self.is_accepted(around.ledger, pubrec)? => {
                self.take_exchange(pubrec.packet_id, Stage::AwaitingPubrec, "PUBREC").map(drop)
            }
            Packet::Pubrec(pubrec) => {
                let id = pubrec.packet_id.get();
                let Some(exchange) = self.session.exchanges.iter_mut().find(|exchange| exchange.id == id) else {
                    fail!("client {client} got PUBREC for {id}, which is free");
                };
                if exchange.stage != Stage::AwaitingPubrec {
                    fail!("client {client} got PUBREC for {exchange:?}");
                }
                exchange.stage = Stage::Releasing;
                let message = exchange.message;
                self.note_acknowledged(around, message);
                self.queue_answer(Answer::Pubrel(id));
                Ok(())
            }
            Packet::Pubcomp(pubcomp) => {
                self.take_exchange(pubcomp.packet_id, Stage::AwaitingPubcomp, "PUBCOMP").map(drop)
            }
            Packet::Pubrel(pubrel) => {
                let id = pubrel.packet_id.get();
                self.session.received.remove(&id);
                self.queue_answer(Answer::Pubcomp(id));
                Ok(())
            }
            Packet::Suback(suback) => self.receive_suback(around.ledger, suback),
            Packet::Unsuback(unsuback) => self.receive_unsuback(around.ledger, unsuback),
            Packet::Pingresp => Ok(()),
            Packet::Disconnect(_) => {
                self.finish();
                Ok(())
            }
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq | Packet::Auth(_) => {
                fail!("client {client} got {packet:?}")
            }
        }
    }

    fn receive_connack(&mut self, around: &mut Surroundings<'_>, connack: &Connack<'_>) -> Result<(), Failure> {
        let client = self.index;
        match connack.reason {
            ReasonCode::Success => {}
            reason if is_of_failed_log(reason) => {
                self.link_mut().is_accepted = true;
                self.finish();
                return Ok(());
            }
            _ => fail!("client {client} was refused: {connack:?}"),
        }
        let quota = match self.version {
            Version::V311 => u16::MAX,
            Version::V5 => connack.properties.receive_maximum().unwrap_or(u16::MAX),
        };
        let link = self.link_mut();
        link.is_accepted = true;
        link.quota = usize::from(quota);
        link.told = Aliases::new(connack.properties.topic_alias_maximum().unwrap_or(0));
        let (clean_start, is_finished) = (link.clean_start, link.is_finished);
        self.must_start_clean = false;
        self.unanswered = None;
        match (connack.session_present, clean_start) {
            // [MQTT-3.2.2-2]
            (true, true) => fail!("client {client} started clean, and a session is present"),
            (true, false) if is_finished => {}
            (true, false) => self.resend(around),
            (false, true) => {}
            (false, false) => self.start_session(around.ledger),
        }
        around.ledger.session_is_told(client);
        Ok(())
    }

    /// The broker has taken a message; if it comes over a bridge, perhaps in order to drop it.
    fn note_acknowledged(&self, around: &mut Surroundings<'_>, message: MessageNumber) {
        if !self.is_remote() || self.is_carried(around, message) {
            around.ledger.acknowledge(message);
        }
    }

    /// Sends again what is not acknowledged, in its order [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub(super) fn resend(&mut self, around: &mut Surroundings<'_>) {
        let exchanges = std::mem::take(&mut self.session.exchanges);
        for exchange in &exchanges {
            match exchange.stage {
                Stage::AwaitingPuback | Stage::AwaitingPubrec => {
                    around.ledger.message_mut(exchange.message).sends += 1;
                    self.write_publish(around, exchange.message, Some(exchange.id), true);
                }
                Stage::AwaitingPubcomp => {
                    let pubrel = Acknowledgement {
                        packet_id: packet_id(exchange.id),
                        reason: ReasonCode::Success,
                        properties: Properties::EMPTY,
                    };
                    self.write(around.written, &Packet::Pubrel(pubrel), Meaning::Pubrel(exchange.id));
                }
                Stage::Releasing => unreachable!("answers are gone with their connection"),
            }
        }
        self.session.exchanges = exchanges;
    }

    fn receive_publish(&mut self, ledger: &mut Ledger, publish: &Publish<'_>) -> Result<(), Failure> {
        let id = publish.packet_id.map(PacketId::get);
        let is_open = id.is_some_and(|id| self.session.received.contains(&id));
        if is_open && !publish.dup {
            fail!("client {} got a first PUBLISH with {id:?}, which is not released", self.index);
        }
        let topic = self.link_mut().heard.topic(publish)?;
        let topic = self.name_here(topic)?;
        let arrival = Arrival {
            topic: &topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            expiry_seconds: publish.properties.message_expiry_interval(),
            identifiers: publish.properties.subscription_identifiers().collect(),
            is_repeated: is_open && publish.qos == QoS::ExactlyOnce,
            is_transient: self.link.as_ref().is_some_and(|link| link.expiry_seconds == 0),
        };
        ledger.arrive(self.index, &arrival)?;
        if let Some(id) = id {
            self.note_handed_on(id, publish.payload);
        }
        match (publish.qos, id) {
            (QoS::AtLeastOnce, Some(id)) => self.queue_answer(Answer::Puback(id)),
            (QoS::ExactlyOnce, Some(id)) => {
                self.session.received.insert(id);
                self.queue_answer(Answer::Pubrec(id));
            }
            (QoS::AtMostOnce | QoS::AtLeastOnce | QoS::ExactlyOnce, _) => {}
        }
        Ok(())
    }

    fn receive_suback(&mut self, ledger: &mut Ledger, suback: &Suback<'_>) -> Result<(), Failure> {
        match self.link_mut().requests.remove(&suback.packet_id.get()) {
            Some(Request::Subscribe(entries)) => {
                let is_granted = |entry| ledger.rules.permit_subscription(self.index, ledger.filter(self.index, entry));
                let refusal = match self.version {
                    Version::V311 => ReasonCode::UnspecifiedError,
                    Version::V5 => ReasonCode::NotAuthorized,
                };
                let code = |&(entry, qos): &(usize, QoS)| if is_granted(entry) { qos.bits() } else { refusal.value() };
                let expected: Vec<u8> = entries.iter().map(code).collect();
                if suback.codes != expected {
                    fail!("client {} was granted {:?} instead of {expected:?}", self.index, suback.codes);
                }
                let granted: Vec<usize> =
                    entries.into_iter().map(|(entry, _)| entry).filter(|entry| is_granted(*entry)).collect();
                for entry in granted {
                    ledger.subscribed(self.index, entry);
                }
                Ok(())
            }
            other => fail!("client {} got SUBACK for {other:?}", self.index),
        }
    }

    fn receive_unsuback(&mut self, ledger: &mut Ledger, unsuback: &Suback<'_>) -> Result<(), Failure> {
        match self.link_mut().requests.remove(&unsuback.packet_id.get()) {
            Some(Request::Unsubscribe(entries)) => {
                let codes = match self.version {
                    Version::V311 => 0,
                    Version::V5 => entries.len(),
                };
                if unsuback.codes.len() != codes {
                    fail!("client {} got UNSUBACK with {} codes for {codes}", self.index, unsuback.codes.len());
                }
                for (filter, sent_at) in entries {
                    ledger.unsubscribed(self.index, &filter, sent_at);
                }
                Ok(())
            }
            other => fail!("client {} got UNSUBACK for {other:?}", self.index),
        }
    }

    /// Whether a message is taken that the client has published: not if the log has failed, nor, as far as there are words for
    /// that, if it may not publish it.
    fn is_accepted(&self, ledger: &Ledger, acknowledgement: &Acknowledgement<'_>) -> Result<bool, Failure> {
        let mut exchanges = self.session.exchanges.iter();
        let exchange = exchanges.find(|exchange| exchange.id == acknowledgement.packet_id.get());
        let is_forbidden = exchange.is_some_and(|exchange| self.is_forbidden(ledger, exchange.message));
        match (is_forbidden && self.version == Version::V5, acknowledgement.reason) {
            (true, ReasonCode::NotAuthorized) => Ok(false),
            (false, reason) if !reason.is_error() => Ok(true),
            (false, reason) if is_of_failed_log(reason) => Ok(false),
            (_, _) => fail!("client {} got {acknowledgement:?}, forbidden: {is_forbidden}", self.index),
        }
    }

    fn awaits_refusal(&mut self, id: PacketId) -> bool {
        matches!(self.link_mut().requests.get(&id.get()), Some(Request::Refusal))
    }

    fn receive_refusal(&mut self, refusal: &Acknowledgement<'_>) -> Result<(), Failure> {
        self.link_mut().requests.remove(&refusal.packet_id.get());
        match refusal.reason {
            // Its topic is not in the books.
            ReasonCode::PayloadFormatInvalid | ReasonCode::NotAuthorized => Ok(()),
            reason if is_of_failed_log(reason) => Ok(()),
            _ => fail!("client {} made a false claim and got {refusal:?}", self.index),
        }
    }

    /// Ends an exchange that must have come as far as `stage`.
    fn take_exchange(&mut self, id: PacketId, stage: Stage, packet: &str) -> Result<MessageNumber, Failure> {
        let exchanges = &mut self.session.exchanges;
        match exchanges.iter().position(|exchange| exchange.id == id.get()) {
            Some(index) if exchanges[index].stage == stage => Ok(exchanges.remove(index).expect("found above").message),
            found => {
                let found = found.map(|index| &exchanges[index]);
                fail!("client {} got {packet} for {id}, which is {found:?}", self.index)
            }
        }
    }
}

/// Whether this is how a broker refuses what it cannot log; the audit knows whether it has reason to.
fn is_of_failed_log(reason: ReasonCode) -> bool {
    let reasons = [ReasonCode::ServerUnavailable, ReasonCode::QuotaExceeded, ReasonCode::ImplementationSpecificError];
    reasons.contains(&reason)
}
