//! The sender's half of a session: what waits for the client, and what is in flight to it.
//!
//! | entry is          | event                  | becomes           | answer                              | statement     |
//! |-------------------|------------------------|-------------------|-------------------------------------|---------------|
//! | (queued)          | a slot is free         | awaiting PUBACK   | PUBLISH QoS 1, new id, DUP 0        | MQTT-4.3.2-1  |
//! | (queued)          | a slot is free         | awaiting PUBREC   | PUBLISH QoS 2, new id, DUP 0        | MQTT-4.3.3-1  |
//! | awaiting PUBACK   | PUBACK                 | done              | –                                   | MQTT-4.3.2-5  |
//! | awaiting PUBACK   | PUBREC, PUBCOMP        | (unchanged)       | protocol error                      | MQTT-4.3.2-4  |
//! | awaiting PUBACK   | reconnect              | (unchanged)       | PUBLISH, same id, DUP 1             | MQTT-4.4.0-1  |
//! | awaiting PUBREC   | PUBREC, success        | awaiting PUBCOMP  | PUBREL; the message is forgotten    | MQTT-4.3.3-4  |
//! | awaiting PUBREC   | PUBREC, reason >= 0x80 | done              | –                                   | MQTT-4.3.3-4  |
//! | awaiting PUBREC   | PUBACK, PUBCOMP        | (unchanged)       | protocol error                      | MQTT-4.3.3-4  |
//! | awaiting PUBREC   | reconnect              | (unchanged)       | PUBLISH, same id, DUP 1             | MQTT-4.4.0-1  |
//! | awaiting PUBCOMP  | PUBREC                 | (unchanged)       | PUBREL again                        | MQTT-4.3.3-4  |
//! | awaiting PUBCOMP  | PUBCOMP                | done              | –                                   | MQTT-4.3.3-5  |
//! | awaiting PUBCOMP  | PUBACK                 | (unchanged)       | protocol error                      | MQTT-4.3.3-4  |
//! | awaiting PUBCOMP  | reconnect              | (unchanged)       | PUBREL, never the PUBLISH           | MQTT-4.3.3-6  |
//! | unknown           | PUBREC                 | unknown           | PUBREL (5.0: 0x92), or it would hang | MQTT-4.3.3-4 |
//! | unknown           | PUBACK, PUBCOMP        | unknown           | ignored: the end of an old exchange | –             |
//!
//! Ids are given out in sequence, so the entries in flight form a queue in which an id is an index: no hashing, and
//! the original order of resends [MQTT-4.6.0-1] is the order of the queue. An entry that is done in the middle stays as
//! a place holder until all before it are done; an id is used again only after 65,535 others.
//!
//! Flow control (5.0 §4.9): a slot is taken by each PUBLISH sent on this connection until its PUBACK, PUBCOMP or error
//! PUBREC, and by each exchange that a resume finds past its PUBREC. A PUBREL never needs a slot.

use std::collections::VecDeque;

use crate::fault::{Fault, PlantedFault};
use crate::proto::{PacketId, QoS};

/// Packet ids run from 1 to this and start again.
const PACKET_IDS: u32 = 65_535;

/// What the sender needs to know of a message; the rest is the shard's.
pub trait Deliverable {
    /// The QoS it goes out with, 1 or 2.
    fn qos(&self) -> QoS;
    /// What it counts for in the queue's byte limit.
    fn bytes(&self) -> u64;
}

/// What an acknowledgement did.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged<M> {
    /// The exchange is over, the id and its slot are free; the message, if it was still held, is handed back.
    Completed(Option<M>),
    /// The message arrived and is handed back (the first time); a PUBREL is due.
    Received(Option<M>),
    /// No such exchange is open.
    Unknown,
    /// The exchange is of another kind, or not that far.
    ProtocolError,
}

/// A packet to send again after a resume.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a, M> {
    /// PUBLISH with this id and DUP 1.
    Publish(PacketId, &'a M),
    /// PUBREL with this id.
    Pubrel(PacketId),
}

/// How much may wait for one client.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    /// Messages.
    pub messages: u32,
    /// Sum of [`Deliverable::bytes`].
    pub bytes: u64,
}

/// Queue and inflight table of one session.
#[derive(Debug)]
pub struct Outbound<M> {
    queue: VecDeque<M>,
    queued_bytes: u64,
    /// Entries in the order of their first sending; the id of `inflight[i]` is `first + i`.
    inflight: VecDeque<Entry<M>>,
    first: PacketId,
    /// Entries that are not done.
    open: u32,
    /// Slots taken on this connection, and how many there are; none while the client is away.
    used: u32,
    window: u32,
    /// Entries before this index need no resend on this connection.
    resent: usize,
    fault: PlantedFault,
}

#[derive(Debug)]
enum Entry<M> {
    AwaitingPuback(M),
    AwaitingPubrec(M),
    AwaitingPubcomp,
    Done,
}

impl<M: Deliverable> Outbound<M> {
    /// An empty sender, not connected.
    pub fn new(fault: PlantedFault) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            inflight: VecDeque::new(),
            first: PacketId::MIN,
            open: 0,
            used: 0,
            window: 0,
            resent: 0,
            fault,
        }
    }

    /// Appends a message to the queue, or hands it back if the queue is full.
    pub fn enqueue(&mut self, message: M, limit: QueueLimit) -> Result<(), M> {
        let bytes = message.bytes();
        if self.queue.len() >= limit.messages as usize || self.queued_bytes + bytes > limit.bytes {
            return Err(message);
        }
        self.queued_bytes += bytes;
        self.queue.push_back(message);
        Ok(())
    }

    /// Whether a new message could be sent at once, with nothing before it.
    pub fn is_clear(&self) -> bool {
        self.queue.is_empty() && self.has_slot() && self.resent == self.inflight.len()
    }

    /// Takes a slot and an id for a message that goes out at once; only when [`is_clear`](Self::is_clear).
    pub fn send_now(&mut self, message: M) -> (PacketId, &M) {
        assert!(self.is_clear(), "a message may not overtake others");
        self.start(message)
    }

    /// The next PUBLISH that may go out: first what the resume left over, then the queue. `true` is DUP.
    pub fn next_publish(&mut self) -> Option<(PacketId, bool, &M)> {
        if !self.has_slot() {
            return None;
        }
        while self.resent < self.inflight.len() {
            let index = self.resent;
            self.resent += 1;
            if matches!(self.inflight[index], Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_)) {
                self.used += 1;
                let id = self.id_of(index);
                let (Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message)) = &self.inflight[index] else {
                    unreachable!("matched above")
                };
                return Some((id, true, message));
            }
        }
        let message = self.discard_queued()?;
        let (id, message) = self.start(message);
        Some((id, false, message))
    }

    /// The message at the head of the queue.
    pub fn next_queued(&self) -> Option<&M> {
        self.queue.front()
    }

    /// Takes the message at the head of the queue out, not to be sent.
    pub fn discard_queued(&mut self) -> Option<M> {
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.bytes();
        Some(message)
    }

    /// Ends an exchange that the client was not told of, as if it were complete; hands its message back.
    pub fn abandon(&mut self, id: PacketId) -> Option<M> {
        let index = self.index_of(id)?;
        self.complete(index)
    }

    /// A new connection with `window` slots took the session over: calls `resend` for all that must and may be sent
    /// again now, in the original order [MQTT-4.6.0-1]; PUBLISHes beyond the window come out of
    /// [`next_publish`](Self::next_publish) as slots get free, PUBRELs do not wait for them.
    pub fn attach(&mut self, window: u16, mut resend: impl FnMut(Resend<'_, M>)) {
        assert!(window > 0, "a Receive Maximum of 0 is a protocol error");
        self.window = u32::from(window);
        self.used = self.inflight.iter().filter(|entry| matches!(entry, Entry::AwaitingPubcomp)).count() as u32;
        self.resent = self.inflight.len();
        for (index, entry) in self.inflight.iter().enumerate() {
            let id = id_after(self.first, index);
            match entry {
                Entry::Done => {}
                Entry::AwaitingPubcomp => resend(Resend::Pubrel(id)),
                // Behind the first that has to wait, all PUBLISHes wait.
                Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) if self.resent < index => {}
                Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) if self.used >= self.window => self.resent = index,
                Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => {
                    self.used += 1;
                    resend(Resend::Publish(id, message));
                }
            }
        }
    }

    /// The connection is gone: nothing goes out until the next [`attach`](Self::attach).
    pub fn detach(&mut self) {
        self.window = 0;
        self.used = 0;
    }

    /// Takes a PUBACK.
    pub fn handle_puback(&mut self, id: PacketId) -> Acknowledged<M> {
        let Some(index) = self.index_of(id) else { return Acknowledged::Unknown };
        match &self.inflight[index] {
            Entry::AwaitingPuback(_) => Acknowledged::Completed(self.complete(index)),
            Entry::AwaitingPubrec(_) | Entry::AwaitingPubcomp => Acknowledged::ProtocolError,
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Takes a PUBREC; `refused` when its reason code is 0x80 or more.
    pub fn handle_pubrec(&mut self, id: PacketId, refused: bool) -> Acknowledged<M> {
        let Some(index) = self.index_of(id) else { return Acknowledged::Unknown };
        match &self.inflight[index] {
            Entry::AwaitingPuback(_) => Acknowledged::ProtocolError,
            Entry::AwaitingPubrec(_) if refused => Acknowledged::Completed(self.complete(index)),
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::PublishResentAfterPubrec) => Acknowledged::Received(None),
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::IdReusedBeforePubcomp) => {
                let message = self.complete(index);
                if self.inflight.is_empty() {
                    self.first = id;
                }
                Acknowledged::Received(message)
            }
            Entry::AwaitingPubrec(_) => {
                if index >= self.resent {
                    // Not yet sent on this connection, so it holds no slot; its PUBREL phase does.
                    self.used += 1;
                }
                let Entry::AwaitingPubrec(message) =
                    std::mem::replace(&mut self.inflight[index], Entry::AwaitingPubcomp)
                else {
                    unreachable!("matched above")
                };
                Acknowledged::Received(Some(message))
            }
            Entry::AwaitingPubcomp => Acknowledged::Received(None),
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Takes a PUBCOMP.
    pub fn handle_pubcomp(&mut self, id: PacketId) -> Acknowledged<M> {
        let Some(index) = self.index_of(id) else { return Acknowledged::Unknown };
        match &self.inflight[index] {
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::PublishResentAfterPubrec) => {
                Acknowledged::Completed(self.complete(index))
            }
            Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) => Acknowledged::ProtocolError,
            Entry::AwaitingPubcomp => Acknowledged::Completed(self.complete(index)),
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Messages that wait for a slot.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Exchanges that are open.
    pub fn inflight(&self) -> usize {
        self.open as usize
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.open == 0
    }

    /// Ends everything: all messages still held.
    pub fn drain(&mut self) -> impl Iterator<Item = M> {
        let inflight = std::mem::take(&mut self.inflight);
        let queue = std::mem::take(&mut self.queue);
        self.queued_bytes = 0;
        self.open = 0;
        self.resent = 0;
        let held = inflight.into_iter().filter_map(|entry| match entry {
            Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => Some(message),
            Entry::AwaitingPubcomp | Entry::Done => None,
        });
        held.chain(queue)
    }

    fn has_slot(&self) -> bool {
        // The table spans fewer than all ids, so an id in flight is never given out again.
        self.used < self.window && (self.inflight.len() as u32) < PACKET_IDS - 1
    }

    fn start(&mut self, message: M) -> (PacketId, &M) {
        let index = self.inflight.len();
        let id = self.id_of(index);
        self.inflight.push_back(match message.qos() {
            QoS::AtLeastOnce => Entry::AwaitingPuback(message),
            QoS::ExactlyOnce => Entry::AwaitingPubrec(message),
            QoS::AtMostOnce => unreachable!("QoS 0 needs no exchange"),
        });
        self.open += 1;
        self.used += 1;
        self.resent = index + 1;
        let Some(Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message)) = self.inflight.back() else {
            unreachable!("pushed above")
        };
        (id, message)
    }

    fn complete(&mut self, index: usize) -> Option<M> {
        let entry = std::mem::replace(&mut self.inflight[index], Entry::Done);
        if index < self.resent || matches!(entry, Entry::AwaitingPubcomp) {
            self.used = self.used.saturating_sub(1);
        }
        self.open -= 1;
        while let Some(Entry::Done) = self.inflight.front() {
            self.inflight.pop_front();
            self.first = id_after(self.first, 1);
            self.resent = self.resent.saturating_sub(1);
        }
        match entry {
            Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => Some(message),
            Entry::AwaitingPubcomp | Entry::Done => None,
        }
    }

    fn id_of(&self, index: usize) -> PacketId {
        id_after(self.first, index)
    }

    fn index_of(&self, id: PacketId) -> Option<usize> {
        let (id, first) = (u32::from(id.get()), u32::from(self.first.get()));
        let index = if id >= first { id - first } else { id + PACKET_IDS - first } as usize;
        (index < self.inflight.len()).then_some(index)
    }
}

/// The id that is `steps` after `first` in the cycle 1..=65,535.
fn id_after(first: PacketId, steps: usize) -> PacketId {
    let zero_based = (u32::from(first.get()) - 1 + steps as u32) % PACKET_IDS;
    PacketId::new(zero_based as u16 + 1).expect("one more than a remainder is not zero")
}

#[cfg(test)]
mod tests;
