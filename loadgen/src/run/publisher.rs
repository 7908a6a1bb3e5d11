//! The publishing client of `run`.

use oncemq::proto::{AcknowledgementKind, Packet, PacketId, QoS, ReasonCode, Version, encode_acknowledgement};

use crate::connection::{Client, Fault, Flow, UNSENT_BYTES_HIGH};
use crate::exchange::{AfterPubrec, Ended, Sender};
use crate::fleet::Phase;
use crate::ledger::Published;
use crate::message::MessageForm;
use crate::pacer::Timing;
use crate::participant::Participant;

/// A publisher: keeps its window full, or to its timing, until the phase or the count ends it.
#[derive(Debug)]
pub(crate) struct Publisher {
    participant: Participant,
    form: MessageForm,
    timing: Timing,
    /// Messages that it publishes at most.
    count_max: u64,
    sender: Sender,
    next_sequence: u64,
    refused: Vec<u64>,
}

impl Publisher {
    pub(crate) fn new(
        participant: Participant,
        form: MessageForm,
        timing: Timing,
        count_max: u64,
        window: u16,
    ) -> Self {
        Self {
            participant,
            form,
            timing,
            count_max,
            sender: Sender::new(window),
            next_sequence: 0,
            refused: Vec::new(),
        }
    }

    /// Messages that were due before the end of the measured span and have not been sent; `None` where none ever is due.
    pub(crate) fn overdue(&self) -> Option<u64> {
        let schedule = self.participant.seat.schedule()?;
        let due = self.timing.due_before(schedule.publish_start_ns, schedule.measure_end_ns)?;
        Some(due.min(self.count_max).saturating_sub(self.next_sequence))
    }

    /// What it says about its messages in the end, and how many of them the broker refused.
    pub(crate) fn into_published(self) -> (Published, u64) {
        let refused_count = self.refused.len() as u64;
        let unfinished = self.sender.unfinished();
        let unfinished = unfinished.iter().map(|(_, inflight)| inflight.sequence);
        let published = Published::new(self.next_sequence, self.refused, unfinished);
        (published, refused_count)
    }

    fn publish(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        let Some(schedule) = self.participant.seat.schedule() else {
            return;
        };
        let first = self.next_sequence;
        while self.next_sequence < self.count_max {
            let due_ns = self.timing.due_ns(schedule.publish_start_ns, self.next_sequence);
            let intended_ns = match due_ns {
                Some(due_ns) if due_ns > now_ns => break,
                Some(due_ns) => due_ns,
                None => now_ns,
            };
            let packet_id = match self.form.qos {
                QoS::AtMostOnce if out.len() >= UNSENT_BYTES_HIGH => break,
                QoS::AtMostOnce => None,
                qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                    match self.sender.begin(qos, self.next_sequence, intended_ns) {
                        Some(packet_id) => Some(packet_id),
                        None => break,
                    }
                }
            };
            self.form.encode(packet_id, false, self.next_sequence, intended_ns, out);
            self.next_sequence += 1;
        }
        let published = self.next_sequence - first;
        if published > 0 {
            self.participant.seat.counters.published.add(published);
            if self.form.qos == QoS::AtMostOnce {
                self.participant.seat.counters.completed.add(published);
            }
        }
    }

    fn finish(&mut self, ended: Ended, now_ns: u64) {
        self.participant.seat.counters.completed.add(1);
        if ended.refused {
            self.refused.push(ended.sequence);
            return;
        }
        if let Some(schedule) = self.participant.seat.schedule()
            && schedule.measures(ended.intended_ns)
        {
            let latency_ns = now_ns.saturating_sub(ended.intended_ns);
            let mut latencies = self.participant.seat.latencies.borrow_mut();
            latencies.handshake.saturating_record(latency_ns);
        }
    }

    fn release(&self, packet_id: PacketId, out: &mut Vec<u8>) {
        let version = self.form.version;
        let kind = AcknowledgementKind::Pubrel;
        encode_acknowledgement(out, version, kind, packet_id, ReasonCode::Success);
    }
}

impl Client for Publisher {
    fn version(&self) -> Version {
        self.form.version
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        match packet {
            Packet::Pubrec(pubrec) => {
                let refused = pubrec.reason.is_error();
                match self.sender.handle_pubrec(pubrec.packet_id, refused)? {
                    AfterPubrec::Release => self.release(pubrec.packet_id, out),
                    AfterPubrec::Refused(ended) => self.finish(ended, now_ns),
                }
            }
            Packet::Pubcomp(pubcomp) => {
                let ended = self.sender.handle_pubcomp(pubcomp.packet_id)?;
                self.finish(ended, now_ns);
            }
            Packet::Puback(puback) => {
                let refused = puback.reason.is_error();
                let ended = self.sender.handle_puback(puback.packet_id, refused)?;
                self.finish(ended, now_ns);
            }
            other => {
                if let Some(limits) = self.participant.handle_packet(other, out)? {
                    self.form.check_size(&limits)?;
                    self.sender.limit_window(limits.receive_maximum);
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        match self.participant.seat.phase() {
            Phase::Publish => self.publish(now_ns, out),
            Phase::Open | Phase::Drain | Phase::Close => {}
        }
        Ok(self.participant.poll(now_ns, out))
    }
}
