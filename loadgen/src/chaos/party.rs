//! The two honest parties of `chaos`. Their state belongs to the session and outlives every connection.

use oncemq::proto::{
    Acknowledgement, AcknowledgementKind, Packet, PacketId, Publish, QoS, ReasonCode, Version, encode_acknowledgement,
};

use super::cut::{Cutter, Role, Step};
use crate::connection::Fault;
use crate::exchange::{AfterPubrec, Ended, Inflight, Receiver, Sender, Stage};
use crate::fleet::Counters;
use crate::ledger::{Arrival, Ledger, Published};
use crate::message::MessageForm;
use crate::opening::{BrokerLimits, unexpected};
use crate::pacer::Timing;
use crate::payload::Stamp;

/// One connection of a party: the cutter through which all its packets go, and what they are written to.
pub(super) struct Line<'a> {
    pub(super) cutter: &'a mut Cutter,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) counters: &'a Counters,
    pub(super) now_ns: u64,
}

impl Line<'_> {
    fn acknowledge(&mut self, version: Version, step: Step, packet_id: PacketId, reason: ReasonCode) {
        let kind = match step {
            Step::Puback => AcknowledgementKind::Puback,
            Step::Pubrec => AcknowledgementKind::Pubrec,
            Step::Pubrel => AcknowledgementKind::Pubrel,
            Step::Publish | Step::Pubcomp => AcknowledgementKind::Pubcomp,
        };
        self.cutter.send(step, self.out, |out| {
            encode_acknowledgement(out, version, kind, packet_id, reason);
        });
    }
}

/// What a party does on a connection.
pub(super) trait Party {
    const ROLE: Role;

    /// The connection is open: check its limits, and send again what a resumed session owes.
    fn resume(&mut self, limits: &BrokerLimits, line: &mut Line<'_>) -> Result<(), Fault>;

    fn handle_packet(&mut self, packet: &Packet<'_>, line: &mut Line<'_>) -> Result<(), Fault>;

    /// Messages may be published, since `start_ns`.
    fn publish(&mut self, start_ns: u64, line: &mut Line<'_>);

    /// The broker has lost the session, so its state ends here too [MQTT-3.2.2-5].
    fn lose_session(&mut self, counters: &Counters);
}

/// Publishes what is due as fast as its window lets it.
#[derive(Debug)]
pub(super) struct Publisher {
    form: MessageForm,
    timing: Timing,
    sender: Sender,
    next_sequence: u64,
    refused: Vec<u64>,
    /// Sent to a session that was lost before the broker took them over.
    abandoned: Vec<u64>,
}

impl Publisher {
    pub(super) fn new(form: MessageForm, timing: Timing, window: u16) -> Self {
        Self { form, timing, sender: Sender::new(window), next_sequence: 0, refused: Vec::new(), abandoned: Vec::new() }
    }

    /// What it says about its messages in the end, and how many of them the broker refused.
    pub(super) fn into_published(self) -> (Published, u64) {
        let refused_count = self.refused.len() as u64;
        let unfinished = self.sender.unfinished();
        let not_taken =
            unfinished.iter().filter_map(|(_, inflight)| sequence_not_taken(inflight)).chain(self.abandoned);
        let published = Published::new(self.next_sequence, self.refused, not_taken);
        (published, refused_count)
    }

    fn send_message(&self, packet_id: PacketId, dup: bool, (sequence, intended_ns): (u64, u64), line: &mut Line<'_>) {
        line.cutter.send(Step::Publish, line.out, |out| {
            self.form.encode(Some(packet_id), dup, sequence, intended_ns, out);
        });
    }

    fn release(&self, packet_id: PacketId, line: &mut Line<'_>) {
        line.acknowledge(self.form.version, Step::Pubrel, packet_id, ReasonCode::Success);
    }

    fn finish(&mut self, ended: Ended, line: &Line<'_>) {
        line.counters.completed.add(1);
        if ended.refused {
            self.refused.push(ended.sequence);
        }
    }
}

impl Party for Publisher {
    const ROLE: Role = Role::Publisher;

    fn resume(&mut self, limits: &BrokerLimits, line: &mut Line<'_>) -> Result<(), Fault> {
        self.form.check_size(limits)?;
        self.sender.limit_window(limits.receive_maximum);
        // [MQTT-4.4.0-1]: the unacknowledged PUBLISHes and PUBRELs, with their ids, in their order [MQTT-4.6.0-1].
        for (packet_id, inflight) in self.sender.unfinished() {
            match inflight.stage {
                // [MQTT-3.3.1-1]
                Stage::Puback | Stage::Pubrec => {
                    let message = (inflight.sequence, inflight.intended_ns);
                    self.send_message(packet_id, true, message, line);
                }
                // [MQTT-4.3.3-6]: PUBREL was due, so PUBLISH must not be sent again.
                Stage::Pubcomp => self.release(packet_id, line),
            }
        }
        Ok(())
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, line: &mut Line<'_>) -> Result<(), Fault> {
        let refused = |acknowledgement: &Acknowledgement<'_>| acknowledgement.reason.is_error();
        match packet {
            Packet::Puback(puback) => {
                let ended = self.sender.handle_puback(puback.packet_id, refused(puback))?;
                self.finish(ended, line);
            }
            Packet::Pubrec(pubrec) => match self.sender.handle_pubrec(pubrec.packet_id, refused(pubrec))? {
                AfterPubrec::Release => self.release(pubrec.packet_id, line),
                AfterPubrec::Refused(ended) => self.finish(ended, line),
            },
            Packet::Pubcomp(pubcomp) => {
                let ended = self.sender.handle_pubcomp(pubcomp.packet_id)?;
                self.finish(ended, line);
            }
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    fn publish(&mut self, start_ns: u64, line: &mut Line<'_>) {
        while !line.cutter.has_struck() {
            let (sequence, qos) = (self.next_sequence, self.form.qos);
            if self.timing.due_ns(start_ns, sequence).is_some_and(|due_ns| due_ns > line.now_ns) {
                break;
            }
            let Some(packet_id) = self.sender.begin(qos, sequence, line.now_ns) else {
                break;
            };
            self.send_message(packet_id, false, (sequence, line.now_ns), line);
            self.next_sequence += 1;
            line.counters.published.add(1);
        }
    }

    fn lose_session(&mut self, counters: &Counters) {
        let ended = self.sender.abandon();
        counters.completed.add(ended.len() as u64);
        self.abandoned.extend(ended.iter().filter_map(sequence_not_taken));
    }
}

/// The sequence of a message that the broker has not taken over. With PUBREC it has: such a message must arrive, whatever
/// became of its exchange.
fn sequence_not_taken(inflight: &Inflight) -> Option<u64> {
    match inflight.stage {
        Stage::Puback | Stage::Pubrec => Some(inflight.sequence),
        Stage::Pubcomp => None,
    }
}

/// Receives from one publisher and keeps the ledger.
#[derive(Debug)]
pub(super) struct Subscriber {
    version: Version,
    qos: QoS,
    publisher: u32,
    receiver: Receiver,
    ledger: Ledger,
    foreign: u64,
}

impl Subscriber {
    pub(super) fn new(version: Version, qos: QoS, publisher: u32) -> Self {
        Self { version, qos, publisher, receiver: Receiver::default(), ledger: Ledger::new(1), foreign: 0 }
    }

    /// Its account, and how many messages it got that its publisher did not send.
    pub(super) fn into_ledger(self) -> (Ledger, u64) {
        (self.ledger, self.foreign)
    }

    fn take(&mut self, publish: &Publish<'_>, line: &mut Line<'_>) -> Result<(), Fault> {
        let is_new = match (self.qos, publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, QoS::ExactlyOnce, Some(packet_id)) => {
                let is_new = self.receiver.handle_publish(packet_id);
                if !is_new && !publish.dup {
                    // [MQTT-3.3.1-1], or else an id that was given to a new message too early [MQTT-2.2.1-4].
                    return Err(Fault::Unexpected(format!(
                        "the broker sent PUBLISH with packet id {packet_id} again without DUP, before PUBREL"
                    )));
                }
                line.counters.taken.add(u64::from(is_new));
                line.acknowledge(self.version, Step::Pubrec, packet_id, ReasonCode::Success);
                is_new
            }
            (QoS::AtLeastOnce, QoS::AtLeastOnce, Some(packet_id)) => {
                line.acknowledge(self.version, Step::Puback, packet_id, ReasonCode::Success);
                true
            }
            (asked, given, _) => {
                return Err(Fault::Unexpected(format!(
                    "a message of QoS {} was delivered at QoS {}",
                    asked.bits(),
                    given.bits()
                )));
            }
        };
        if is_new {
            self.account(publish.payload, line.counters);
        }
        Ok(())
    }

    fn account(&mut self, payload: &[u8], counters: &Counters) {
        match Stamp::decode(payload) {
            Some(stamp) if stamp.publisher == self.publisher => match self.ledger.record(0, stamp.sequence) {
                Arrival::New | Arrival::Reordered => counters.delivered.add(1),
                Arrival::Duplicate => {}
            },
            Some(_) | None => self.foreign += 1,
        }
    }
}

impl Party for Subscriber {
    const ROLE: Role = Role::Subscriber;

    fn resume(&mut self, _limits: &BrokerLimits, _line: &mut Line<'_>) -> Result<(), Fault> {
        // A receiver sends nothing by itself; it keeps the ids that it holds.
        Ok(())
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, line: &mut Line<'_>) -> Result<(), Fault> {
        match packet {
            Packet::Publish(publish) => self.take(publish, line),
            Packet::Pubrel(pubrel) => {
                let was_held = self.receiver.handle_pubrel(pubrel.packet_id);
                line.counters.released.add(u64::from(was_held));
                let reason = match was_held {
                    true => ReasonCode::Success,
                    // Its PUBCOMP was lost with a connection.
                    false => ReasonCode::PacketIdentifierNotFound,
                };
                // [MQTT-4.3.3-11]
                line.acknowledge(self.version, Step::Pubcomp, pubrel.packet_id, reason);
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    fn publish(&mut self, _start_ns: u64, _line: &mut Line<'_>) {}

    fn lose_session(&mut self, counters: &Counters) {
        let held = std::mem::take(&mut self.receiver).held();
        counters.released.add(held as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("not 0")
    }

    /// What a broker says about a packet id.
    fn acknowledgement(packet_id: u16) -> Acknowledgement<'static> {
        let (packet_id, reason) = (id(packet_id), ReasonCode::Success);
        Acknowledgement { packet_id, reason, properties: oncemq::proto::Properties::EMPTY }
    }

    /// A lost session ends its exchanges; what the broker had taken over with PUBREC must still arrive.
    #[test]
    fn a_publisher_stands_by_what_was_taken_over_before_the_session_was_lost() {
        let form = MessageForm {
            version: Version::V5,
            qos: QoS::ExactlyOnce,
            topic: "t".to_owned(),
            payload_bytes: 20,
            publisher: 0,
        };
        let mut publisher = Publisher::new(form, Timing::Closed, 3);
        let (mut cutter, counters) = (Cutter::new(Random::new(1, 0)), Counters::default());
        let mut out = Vec::new();
        let mut line = Line { cutter: &mut cutter, out: &mut out, counters: &counters, now_ns: 0 };
        publisher.publish(0, &mut line);
        publisher.handle_packet(&Packet::Pubrec(acknowledgement(2)), &mut line).expect("in use");
        publisher.lose_session(&counters);
        assert_eq!((counters.published.value(), counters.completed.value()), (3, 3));
        let (published, _refused) = publisher.into_published();
        assert_eq!((published.total, published.undecided), (3, vec![0, 2]));
    }

    #[test]
    fn a_subscriber_forgets_the_ids_of_a_lost_session() {
        let mut subscriber = Subscriber::new(Version::V5, QoS::ExactlyOnce, 0);
        let counters = Counters::default();
        assert!(subscriber.receiver.handle_publish(id(7)));
        counters.taken.add(1);
        subscriber.lose_session(&counters);
        assert_eq!(counters.released.value(), 1);
        assert!(subscriber.receiver.handle_publish(id(7)));
    }
}
