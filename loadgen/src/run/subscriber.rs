//! The subscribing client of `run`: an honest receiver that keeps the ledger.

use std::rc::Rc;

use oncemq::proto::{AcknowledgementKind, Packet, PacketId, Publish, QoS, ReasonCode, Version, encode_acknowledgement};

use crate::connection::{Client, Fault, Flow};
use crate::exchange::Receiver;
use crate::ledger::{Arrival, Ledger};
use crate::participant::Participant;
use crate::payload::Stamp;
use crate::shape::Shape;

/// A subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    participant: Participant,
    qos: QoS,
    shape: Rc<Shape>,
    index: u32,
    receiver: Receiver,
    ledger: Ledger,
    foreign: u64,
}

impl Subscriber {
    pub(crate) fn new(participant: Participant, qos: QoS, shape: Rc<Shape>, index: u32) -> Self {
        let ledger = Ledger::new(shape.sources(index) as usize);
        Self { participant, qos, shape, index, receiver: Receiver::default(), ledger, foreign: 0 }
    }

    /// Its account, and how many messages it got that no publisher of this run sent to it.
    pub(crate) fn into_ledger(self) -> (Ledger, u64) {
        (self.ledger, self.foreign)
    }

    fn take(&mut self, publish: &Publish<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        if publish.qos != self.qos {
            return Err(Fault::Unexpected(format!(
                "a message of QoS {} was delivered at QoS {}",
                self.qos.bits(),
                publish.qos.bits()
            )));
        }
        let is_new = match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(packet_id)) => {
                let is_new = self.receiver.handle_publish(packet_id);
                self.participant.seat.counters.taken.add(u64::from(is_new));
                // [MQTT-4.3.3-8], also for what was taken before [MQTT-4.3.3-10].
                self.answer(AcknowledgementKind::Pubrec, packet_id, ReasonCode::Success, out);
                is_new
            }
            (QoS::AtLeastOnce, Some(packet_id)) => {
                self.answer(AcknowledgementKind::Puback, packet_id, ReasonCode::Success, out);
                true
            }
            (QoS::AtMostOnce | QoS::AtLeastOnce | QoS::ExactlyOnce, _) => true,
        };
        if is_new {
            self.account(publish.payload, now_ns);
        }
        Ok(())
    }

    fn account(&mut self, payload: &[u8], now_ns: u64) {
        let addressed = Stamp::decode(payload).and_then(|stamp| {
            let slot = self.shape.slot(self.index, stamp.publisher)?;
            Some((stamp, slot))
        });
        let Some((stamp, slot)) = addressed else {
            self.foreign += 1;
            return;
        };
        match self.ledger.record(slot, stamp.sequence) {
            Arrival::New | Arrival::Reordered => self.participant.seat.counters.delivered.add(1),
            Arrival::Duplicate => return,
        }
        if let Some(schedule) = self.participant.seat.schedule()
            && schedule.measures(stamp.intended_ns)
        {
            let latency_ns = now_ns.saturating_sub(stamp.intended_ns);
            let mut latencies = self.participant.seat.latencies.borrow_mut();
            latencies.end_to_end.saturating_record(latency_ns);
        }
    }

    fn answer(&self, kind: AcknowledgementKind, packet_id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
        encode_acknowledgement(out, self.participant.version(), kind, packet_id, reason);
    }
}

impl Client for Subscriber {
    fn version(&self) -> Version {
        self.participant.version()
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        match packet {
            Packet::Publish(publish) if self.participant.is_open() => {
                self.take(publish, now_ns, out)?;
            }
            Packet::Pubrel(pubrel) => {
                let was_held = self.receiver.handle_pubrel(pubrel.packet_id);
                self.participant.seat.counters.released.add(u64::from(was_held));
                let reason = match was_held {
                    true => ReasonCode::Success,
                    false => ReasonCode::PacketIdentifierNotFound,
                };
                // [MQTT-4.3.3-11]
                self.answer(AcknowledgementKind::Pubcomp, pubrel.packet_id, reason, out);
            }
            other => {
                let _no_limit_concerns_a_subscriber = self.participant.handle_packet(other, out)?;
            }
        }
        Ok(Flow::Continue)
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        Ok(self.participant.poll(now_ns, out))
    }
}
