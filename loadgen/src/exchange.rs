//! The client's side of the QoS 1 and QoS 2 exchanges: an honest sender and an honest receiver.
//!
//! Both are plain state without I/O, and both belong to the *session*: they are kept over a reconnect to a broker that
//! still has the session. What they assert about the broker they return as a [`Violation`].
//!
//! Sender, by packet id:
//!
//! | state             | event                     | next              | to send                            |
//! |-------------------|---------------------------|-------------------|------------------------------------|
//! | free              | `begin`, QoS 1            | awaiting PUBACK   | PUBLISH                            |
//! | free              | `begin`, QoS 2            | awaiting PUBREC   | PUBLISH [MQTT-4.3.3-1]             |
//! | awaiting PUBACK   | PUBACK                    | free              |                                    |
//! | awaiting PUBREC   | PUBREC, success           | awaiting PUBCOMP  | PUBREL [MQTT-4.3.3-4]              |
//! | awaiting PUBREC   | PUBREC, 0x80 or more      | free              | nothing [MQTT-4.3.3-4]             |
//! | awaiting PUBCOMP  | PUBCOMP                   | free              |                                    |
//! | awaiting PUBACK, PUBREC | resume              | same              | PUBLISH, DUP=1 [MQTT-4.4.0-1]      |
//! | awaiting PUBCOMP  | resume                    | same              | PUBREL [MQTT-4.4.0-1]              |
//! | anything else     |                           | violation         |                                    |
//!
//! Receiver: an id is *held* from the first PUBLISH until PUBREL; a PUBLISH with a held id is the same message again
//! [MQTT-4.3.3-10].

use oncemq::proto::{PacketId, QoS};
use thiserror::Error;

/// A message on its way, and where its exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inflight {
    pub(crate) sequence: u64,
    pub(crate) intended_ns: u64,
    pub(crate) stage: Stage,
}

/// What the sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Puback,
    Pubrec,
    Pubcomp,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) sequence: u64,
    pub(crate) intended_ns: u64,
    /// The broker refused the message with a reason code of 0x80 or more.
    pub(crate) refused: bool,
}

/// What follows from a PUBREC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterPubrec {
    /// PUBREL is due.
    Release,
    /// The broker refused the message; the id is free.
    Refused(Ended),
}

/// A packet that no correct broker sends in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("the broker sent {packet} for packet id {packet_id}, which is not in use")]
    UnknownId { packet: &'static str, packet_id: u16 },
    #[error("the broker sent {packet} for packet id {packet_id}, which awaits {awaited}")]
    WrongStage { packet: &'static str, packet_id: u16, awaited: &'static str },
}

/// The sender of one session.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Indexed by packet id - 1.
    slots: Vec<Option<Inflight>>,
    /// Free packet ids below `slots.len()`; the one freed last is used first.
    free: Vec<PacketId>,
    inflight: usize,
    window: u16,
}

impl Sender {
    /// A sender with no more than `window` exchanges at a time.
    pub(crate) fn new(window: u16) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), inflight: 0, window }
    }

    /// Lowers the window to what the broker permits, its Receive Maximum [MQTT-3.3.4-7].
    pub(crate) fn limit_window(&mut self, receive_maximum: u16) {
        self.window = self.window.min(receive_maximum);
    }

    /// Whether `begin` would give an id.
    pub(crate) fn has_room(&self) -> bool {
        self.inflight < usize::from(self.window)
    }

    /// Starts the exchange of a message of QoS 1 or 2 with an id that is not in use [MQTT-2.2.1-3]; `None` while the
    /// window is full.
    pub(crate) fn begin(&mut self, qos: QoS, sequence: u64, intended_ns: u64) -> Option<PacketId> {
        if !self.has_room() {
            return None;
        }
        let packet_id = match self.free.pop() {
            Some(packet_id) => packet_id,
            None => {
                self.slots.push(None);
                PacketId::new(u16::try_from(self.slots.len()).ok()?)?
            }
        };
        let stage = match qos {
            QoS::AtMostOnce | QoS::AtLeastOnce => Stage::Puback,
            QoS::ExactlyOnce => Stage::Pubrec,
        };
        self.slots[index(packet_id)] = Some(Inflight { sequence, intended_ns, stage });
        self.inflight += 1;
        Some(packet_id)
    }

    pub(crate) fn handle_puback(&mut self, packet_id: PacketId, refused: bool) -> Result<Ended, Violation> {
        let inflight = self.expect("PUBACK", packet_id, Stage::Puback)?;
        Ok(self.end(packet_id, inflight, refused))
    }

    pub(crate) fn handle_pubrec(&mut self, packet_id: PacketId, refused: bool) -> Result<AfterPubrec, Violation> {
        let inflight = self.expect("PUBREC", packet_id, Stage::Pubrec)?;
        if refused {
            return Ok(AfterPubrec::Refused(self.end(packet_id, inflight, true)));
        }
        self.slots[index(packet_id)] = Some(Inflight { stage: Stage::Pubcomp, ..inflight });
        Ok(AfterPubrec::Release)
    }

    pub(crate) fn handle_pubcomp(&mut self, packet_id: PacketId) -> Result<Ended, Violation> {
        let inflight = self.expect("PUBCOMP", packet_id, Stage::Pubcomp)?;
        Ok(self.end(packet_id, inflight, false))
    }

    /// What has to be sent again on a resumed session, in the order in which it was first sent.
    pub(crate) fn unfinished(&self) -> Vec<(PacketId, Inflight)> {
        let mut unfinished: Vec<_> = (1..=u16::MAX)
            .filter_map(PacketId::new)
            .zip(&self.slots)
            .filter_map(|(packet_id, slot)| Some((packet_id, (*slot)?)))
            .collect();
        unfinished.sort_unstable_by_key(|(_, inflight)| inflight.sequence);
        unfinished
    }

    /// Forgets all exchanges, because the broker has lost the session [MQTT-3.2.2-5]; returns where they stood.
    pub(crate) fn abandon(&mut self) -> Vec<Inflight> {
        let unfinished = self.unfinished();
        for &(packet_id, inflight) in &unfinished {
            self.end(packet_id, inflight, false);
        }
        unfinished.into_iter().map(|(_, inflight)| inflight).collect()
    }

    /// The message with this id, if it waits for this packet.
    fn expect(&self, packet: &'static str, packet_id: PacketId, stage: Stage) -> Result<Inflight, Violation> {
        match self.slots.get(index(packet_id)).copied().flatten() {
            Some(inflight) if inflight.stage == stage => Ok(inflight),
            Some(inflight) => Err(Violation::WrongStage {
                packet,
                packet_id: packet_id.get(),
                awaited: match inflight.stage {
                    Stage::Puback => "PUBACK",
                    Stage::Pubrec => "PUBREC",
                    Stage::Pubcomp => "PUBCOMP",
                },
            }),
            None => Err(Violation::UnknownId { packet, packet_id: packet_id.get() }),
        }
    }

    fn end(&mut self, packet_id: PacketId, inflight: Inflight, refused: bool) -> Ended {
        self.slots[index(packet_id)] = None;
        self.free.push(packet_id);
        self.inflight -= 1;
        Ended { sequence: inflight.sequence, intended_ns: inflight.intended_ns, refused }
    }
}

/// The receiver of one session: the ids of QoS 2 messages that it has taken and that the broker has not released.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// One bit for each id, as far as ids were seen.
    bits: Vec<u64>,
    held: usize,
}

impl Receiver {
    /// Takes a PUBLISH of QoS 2; true when it is a new message, false when it is one already taken [MQTT-4.3.3-10].
    pub(crate) fn handle_publish(&mut self, packet_id: PacketId) -> bool {
        let (word, bit) = position(packet_id);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.held += usize::from(is_new);
        is_new
    }

    /// Takes a PUBREL; false when the id was not held. PUBCOMP is due either way [MQTT-4.3.3-11].
    pub(crate) fn handle_pubrel(&mut self, packet_id: PacketId) -> bool {
        let (word, bit) = position(packet_id);
        let was_held = self.bits.get(word).is_some_and(|bits| bits & bit != 0);
        if was_held {
            self.bits[word] &= !bit;
            self.held -= 1;
        }
        was_held
    }

    /// How many ids it holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}

fn index(packet_id: PacketId) -> usize {
    usize::from(packet_id.get()) - 1
}

fn position(packet_id: PacketId) -> (usize, u64) {
    let index = index(packet_id);
    (index / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("not 0")
    }

    /// A sender that has id 1 in `stage`, or free.
    fn sender_in(stage: Option<Stage>) -> Sender {
        let mut sender = Sender::new(10);
        let qos = match stage {
            None => return sender,
            Some(Stage::Puback) => QoS::AtLeastOnce,
            Some(Stage::Pubrec | Stage::Pubcomp) => QoS::ExactlyOnce,
        };
        assert_eq!(sender.begin(qos, 0, 5), Some(id(1)));
        if stage == Some(Stage::Pubcomp) {
            assert_eq!(sender.handle_pubrec(id(1), false), Ok(AfterPubrec::Release));
        }
        sender
    }

    const ALL: [Option<Stage>; 4] = [None, Some(Stage::Puback), Some(Stage::Pubrec), Some(Stage::Pubcomp)];

    /// Every state against every acknowledgement: legal in exactly one, a violation that changes nothing elsewhere.
    #[test]
    fn every_state_meets_every_acknowledgement() {
        for stage in ALL {
            for refused in [false, true] {
                let mut sender = sender_in(stage);
                let puback = sender.handle_puback(id(1), refused);
                assert_eq!(puback.is_ok(), stage == Some(Stage::Puback));
                let mut sender = sender_in(stage);
                let pubrec = sender.handle_pubrec(id(1), refused);
                assert_eq!(pubrec.is_ok(), stage == Some(Stage::Pubrec));
                if pubrec.is_ok() {
                    // [MQTT-4.3.3-4]: a refusal ends the exchange.
                    assert_eq!(sender.inflight, usize::from(!refused));
                }
            }
            let mut sender = sender_in(stage);
            let pubcomp = sender.handle_pubcomp(id(1));
            assert_eq!(pubcomp.is_ok(), stage == Some(Stage::Pubcomp));
            let expected = usize::from(stage.is_some() && pubcomp.is_err());
            assert_eq!(sender.inflight, expected);
        }
    }

    #[test]
    fn the_window_bounds_the_exchanges_and_ids_return() {
        let mut sender = Sender::new(100);
        sender.limit_window(2);
        assert_eq!(sender.begin(QoS::AtLeastOnce, 0, 0), Some(id(1)));
        assert_eq!(sender.begin(QoS::AtLeastOnce, 1, 0), Some(id(2)));
        assert_eq!(sender.begin(QoS::AtLeastOnce, 2, 0), None);
        let ended = sender.handle_puback(id(1), false).expect("in use");
        assert_eq!(ended.sequence, 0);
        assert_eq!(sender.begin(QoS::AtLeastOnce, 2, 0), Some(id(1)));
    }

    #[test]
    fn every_packet_id_can_be_in_use_and_none_is_made_up() {
        let mut sender = Sender::new(u16::MAX);
        for sequence in 0..u64::from(u16::MAX) {
            assert!(sender.begin(QoS::ExactlyOnce, sequence, 0).is_some());
        }
        assert_eq!(sender.begin(QoS::ExactlyOnce, 70_000, 0), None);
        assert_eq!(sender.inflight, usize::from(u16::MAX));
    }

    // [MQTT-4.6.0-1]: resent in the order of the first sending, whatever ids they have.
    #[test]
    fn the_unfinished_come_back_in_order() {
        let mut sender = Sender::new(3);
        for sequence in 0..3 {
            sender.begin(QoS::ExactlyOnce, sequence, 0);
        }
        sender.handle_pubrec(id(1), false).expect("awaits PUBREC");
        sender.handle_pubcomp(id(1)).expect("awaits PUBCOMP");
        sender.handle_pubrec(id(2), false).expect("awaits PUBREC");
        assert_eq!(sender.begin(QoS::ExactlyOnce, 3, 0), Some(id(1)));
        let unfinished: Vec<_> = sender
            .unfinished()
            .into_iter()
            .map(|(packet_id, inflight)| (packet_id.get(), inflight.sequence, inflight.stage))
            .collect();
        assert_eq!(unfinished, [(2, 1, Stage::Pubcomp), (3, 2, Stage::Pubrec), (1, 3, Stage::Pubrec)]);
    }

    // [MQTT-4.3.3-10], [MQTT-4.3.3-12]: the same id is the same message until PUBREL, and a new one after it.
    #[test]
    fn the_receiver_takes_an_id_once_until_it_is_released() {
        let mut receiver = Receiver::default();
        for value in [1, 64, 65, u16::MAX] {
            assert!(receiver.handle_publish(id(value)));
            assert!(!receiver.handle_publish(id(value)));
        }
        assert_eq!(receiver.held, 4);
        for value in [1, 64, 65, u16::MAX] {
            assert!(receiver.handle_pubrel(id(value)));
            assert!(!receiver.handle_pubrel(id(value)));
            assert!(receiver.handle_publish(id(value)));
        }
        assert!(!Receiver::default().handle_pubrel(id(9)));
    }
}
