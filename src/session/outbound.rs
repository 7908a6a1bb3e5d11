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
//! | awaiting PUBACK or PUBREC | server lost the session | (unchanged) | PUBLISH, same id, DUP 0         | MQTT-3.2.2-5  |
//! | awaiting PUBCOMP  | server lost the session | done             | –                                   | MQTT-3.2.2-5  |
//! | unknown           | PUBREC                 | unknown           | PUBREL (5.0: 0x92), or it would hang | MQTT-4.3.3-4 |
//! | unknown           | PUBACK, PUBCOMP        | unknown           | ignored: the end of an old exchange | –             |
//!
//! Every message has a number, given in the order of arrival, and its packet id follows from it ([`packet_id_of`]). So the
//! entries in flight form a queue in which an id is an index: no hashing, the original order of resends [MQTT-4.6.0-1] is
//! the order of the queue, and a log that knows the number knows the id. An entry that is done in the middle stays as a
//! place holder until all before it are done; an id is used again only after 65,535 others.
//!
//! A message can be *withdrawn* from the queue. Its number is used up, so its place stays until those before it have gone.
//!
//! The end of the queue may be *away*: the log has it, and here are only its length and its bytes. What comes back goes to the
//! end of what is here, and while something is away, new messages go away too; so the order stays.
//!
//! Flow control (5.0 §4.9): a slot is taken by each PUBLISH sent on this connection until its PUBACK, PUBCOMP or error
//! PUBREC, and by each exchange that a resume finds past its PUBREC. A PUBREL never needs a slot.

use std::collections::VecDeque;

use crate::fault::{Fault, PlantedFault};
use crate::proto::{PacketId, QoS};

use super::numbering::{PACKET_IDS, packet_id_of};

/// How many sends the log learns of at once, ahead of them: one record for so many messages, at the price that after a
/// crash so many may carry DUP although they were never sent.
const SENDS_RESERVED: u64 = 256;

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
    /// The exchange of the message with this number is over, the id and its slot are free; the message, if it was still
    /// held, is handed back.
    Completed(u64, Option<M>),
    /// The message with this number arrived and is handed back (the first time); a PUBREL is due.
    Received(u64, Option<M>),
    /// No such exchange is open.
    Unknown,
    /// The exchange is of another kind, or not that far.
    ProtocolError,
}

/// A packet to send again after a resume.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a, M> {
    /// PUBLISH of the message with this number.
    Publish(u64, &'a M),
    /// PUBREL of the message with this number.
    Pubrel(u64),
}

/// What PUBLISHes that were sent before are to the peer of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resending {
    /// It has kept the session, and may know them: they carry DUP 1.
    Again,
    /// It has lost the session, and with it all packet ids: they are sent for the first time.
    Anew,
}

/// A PUBLISH that may go out.
#[derive(Debug, PartialEq, Eq)]
pub struct NextPublish<'a, M> {
    /// The message's number in the session.
    pub number: u64,
    /// The packet id that follows from it.
    pub id: PacketId,
    /// Whether it was sent before.
    pub dup: bool,
    /// The message.
    pub message: &'a M,
}

/// An exchange that was open when the state was saved.
#[derive(Debug)]
pub enum Reopened<M> {
    /// PUBACK or PUBREC is due.
    Unacknowledged(M),
    /// PUBREC has come, PUBCOMP is due.
    AwaitingPubcomp,
    /// It is over, while one before it is not.
    Done,
}

/// How much may wait for one client.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit {
    /// Messages.
    pub messages: u32,
    /// Sum of [`Deliverable::bytes`].
    pub bytes: u64,
}

/// How much waits for one client, here and away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueLength {
    /// Messages.
    pub messages: usize,
    /// Sum of [`Deliverable::bytes`].
    pub bytes: u64,
}

/// Exchanges of one session by what they await.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Awaited {
    /// Messages of QoS 1.
    pub puback: u64,
    /// Messages of QoS 2 that the client may not have.
    pub pubrec: u64,
    /// Those that it has.
    pub pubcomp: u64,
}

impl QueueLimit {
    /// No limit.
    pub const NONE: Self = Self { messages: u32::MAX, bytes: u64::MAX };
}

/// Queue and inflight table of one session.
#[derive(Debug)]
pub struct Outbound<M> {
    /// None is a message that was withdrawn; the first is not, unless ids have run out.
    queue: VecDeque<Option<M>>,
    queued_bytes: u64,
    withdrawn: usize,
    /// Messages behind those of the queue that only the log holds, and their bytes, of which only the sum is known.
    away: u64,
    away_bytes: u64,
    /// Entries in the order of their first sending; the number of `inflight[i]` is `first + i`, and those of the queue
    /// follow.
    inflight: VecDeque<Entry<M>>,
    first: u64,
    /// Messages with numbers below this may have been sent, as far as the log knows.
    sent_below: u64,
    /// Entries that are not done.
    open: u32,
    /// Slots taken on this connection, and how many there are; none while the client is away.
    used: u32,
    window: u32,
    /// Entries before this index need no resend on this connection.
    resent: usize,
    /// What the others are to the peer.
    resending: Resending,
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
    /// An empty sender, not connected, whose first message gets the number `next`.
    pub fn new(next: u64, fault: PlantedFault) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            withdrawn: 0,
            away: 0,
            away_bytes: 0,
            inflight: VecDeque::new(),
            first: next,
            sent_below: next,
            open: 0,
            used: 0,
            window: 0,
            resent: 0,
            resending: Resending::Again,
            fault,
        }
    }

    /// Puts an exchange back that was in flight when the state was saved; before anything is queued. Its number is the
    /// [`next_number`](Self::next_number).
    pub fn reopen(&mut self, exchange: Reopened<M>) {
        assert!(self.queued() == 0 && self.window == 0, "exchanges come back before anything else happens");
        let entry = match exchange {
            Reopened::Unacknowledged(message) => Entry::sent(message),
            Reopened::AwaitingPubcomp => Entry::AwaitingPubcomp,
            Reopened::Done => Entry::Done,
        };
        self.open += u32::from(!matches!(entry, Entry::Done));
        self.inflight.push_back(entry);
        self.forget_done();
    }

    /// Messages with numbers below this may have been sent, as far as the log knows.
    pub fn sent_below(&self) -> u64 {
        self.sent_below
    }

    /// Puts back, or corrects, what the log knows of messages that may have been sent.
    pub fn set_sent_below(&mut self, number: u64) {
        self.sent_below = number;
    }

    /// The number of the next message that comes.
    pub fn next_number(&self) -> u64 {
        self.next_to_return() + self.away
    }

    /// The number of the first message that is away; if none is, as [`next_number`](Self::next_number).
    pub fn next_to_return(&self) -> u64 {
        self.next_to_start() + self.queue.len() as u64
    }

    /// The number of the next message that is sent for the first time.
    pub fn next_to_start(&self) -> u64 {
        self.first + self.inflight.len() as u64
    }

    /// How long the queue is.
    pub fn queue_length(&self) -> QueueLength {
        QueueLength { messages: self.queued(), bytes: self.queued_bytes() }
    }

    /// Whether the queue takes a message of so many bytes.
    pub fn has_room(&self, bytes: u64, limit: QueueLimit) -> bool {
        self.queued() < limit.messages as usize && self.queued_bytes + self.away_bytes + bytes <= limit.bytes
    }

    /// Appends a message to the queue, which is to [have room](Self::has_room) for it; also its number.
    pub fn enqueue(&mut self, message: M) -> (u64, &M) {
        assert!(self.away == 0, "a message may not overtake those that are away");
        let number = self.next_number();
        self.queued_bytes += message.bytes();
        self.queue.push_back(Some(message));
        (number, self.queue.back().and_then(Option::as_ref).expect("pushed above"))
    }

    /// Appends a message to the queue that only the log holds; its number.
    pub fn enqueue_away(&mut self, bytes: u64) -> u64 {
        let number = self.next_number();
        self.away_bytes += bytes;
        self.away += 1;
        number
    }

    /// The first message that was away is back: that of the number [`next_to_return`](Self::next_to_return).
    pub fn return_from_log(&mut self, message: M) {
        assert!(self.away > 0, "only what was away returns");
        self.forget_away();
        self.requeue(message);
    }

    /// Puts messages back behind the queue that were away when the state was saved; no limit refuses them.
    pub fn requeue_away(&mut self, messages: u64, bytes: u64) {
        self.away += messages;
        self.away_bytes += bytes;
    }

    /// Messages that only the log holds.
    pub fn away(&self) -> u64 {
        self.away
    }

    /// Messages that wait for a slot and are here.
    pub fn queued_here(&self) -> usize {
        self.queue.len() - self.withdrawn
    }

    /// Puts a message back into the queue that was there when the state was saved; no limit refuses it.
    pub fn requeue(&mut self, message: M) {
        self.queued_bytes += message.bytes();
        self.queue.push_back(Some(message));
    }

    /// Takes messages out of the queue that meet a condition, not to be sent; their numbers are used up. Those that are away
    /// stay.
    pub fn withdraw(&mut self, mut condition: impl FnMut(&M) -> bool) -> Vec<(u64, M)> {
        let start = self.next_to_start();
        let mut taken = Vec::new();
        for (number, place) in (start..).zip(&mut self.queue) {
            if let Some(message) = place.take_if(|message| condition(message)) {
                self.queued_bytes -= message.bytes();
                taken.push((number, message));
            }
        }
        self.withdrawn += taken.len();
        self.pass_withdrawn();
        taken
    }

    /// Whether a new message could be sent at once, with nothing before it.
    pub fn is_clear(&self) -> bool {
        self.has_nothing_to_send() && self.has_slot()
    }

    /// Whether no PUBLISH waits, whatever slots there are.
    pub fn has_nothing_to_send(&self) -> bool {
        self.queue.is_empty() && self.away == 0 && self.resent == self.inflight.len()
    }

    /// Takes a slot and an id for a message that goes out at once; only when [`is_clear`](Self::is_clear). Also says, now
    /// and then, the new [`sent_below`](Self::sent_below), which a log has to know before the message leaves.
    pub fn send_now(&mut self, message: M) -> (NextPublish<'_, M>, Option<u64>) {
        assert!(self.is_clear(), "a message may not overtake others");
        self.start(message)
    }

    /// The next PUBLISH that may go out: first what the resume left over, then the queue. Also says the new
    /// [`sent_below`](Self::sent_below) as [`send_now`](Self::send_now) does.
    pub fn next_publish(&mut self) -> Option<(NextPublish<'_, M>, Option<u64>)> {
        if !self.has_slot() {
            return None;
        }
        while self.resent < self.inflight.len() {
            let index = self.resent;
            self.resent += 1;
            if matches!(self.inflight[index], Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_)) {
                self.used += 1;
                let number = self.first + index as u64;
                let (Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message)) = &self.inflight[index] else {
                    unreachable!("matched above")
                };
                let dup = self.resending == Resending::Again;
                return Some((NextPublish { number, id: packet_id_of(number), dup, message }, None));
            }
        }
        self.pass_withdrawn();
        if !self.has_id() {
            return None;
        }
        let message = self.queue.pop_front()??;
        self.queued_bytes -= message.bytes();
        Some(self.start(message))
    }

    /// The message at the head of the queue.
    pub fn next_queued(&mut self) -> Option<&M> {
        self.pass_withdrawn();
        self.queue.front()?.as_ref()
    }

    /// Takes the message at the head of the queue out, not to be sent; its number is used up. None if there is no such
    /// message, or the ids behind an open exchange have run out.
    pub fn discard_queued(&mut self) -> Option<(u64, M)> {
        self.pass_withdrawn();
        if !self.has_id() {
            return None;
        }
        let message = self.queue.pop_front()??;
        self.queued_bytes -= message.bytes();
        Some((self.use_number_up(), message))
    }

    /// As [`discard_queued`](Self::discard_queued), when the oldest message that waits is one that only the log holds.
    pub fn discard_away(&mut self) -> Option<u64> {
        if !self.queue.is_empty() || self.away == 0 || !self.has_id() {
            return None;
        }
        self.forget_away();
        Some(self.use_number_up())
    }

    /// Ends an exchange that the client was not told of, as if it were complete; hands its message back.
    pub fn abandon(&mut self, id: PacketId) -> Option<M> {
        let index = self.index_of(id)?;
        self.complete(index).1
    }

    /// A new connection with `window` slots took the session over: calls `resend` for all that must and may be sent
    /// again now, in the original order [MQTT-4.6.0-1]; PUBLISHes beyond the window come out of
    /// [`next_publish`](Self::next_publish) as slots get free, PUBRELs do not wait for them.
    pub fn attach(&mut self, window: u16, resending: Resending, mut resend: impl FnMut(Resend<'_, M>)) {
        assert!(window > 0, "a Receive Maximum of 0 is a protocol error");
        self.resending = resending;
        self.window = u32::from(window);
        self.used = self.inflight.iter().filter(|entry| matches!(entry, Entry::AwaitingPubcomp)).count() as u32;
        self.resent = self.inflight.len();
        for (index, entry) in self.inflight.iter().enumerate() {
            let number = self.first + index as u64;
            match entry {
                Entry::Done => {}
                Entry::AwaitingPubcomp => resend(Resend::Pubrel(number)),
                // Behind the first that has to wait, all PUBLISHes wait.
                Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) if self.resent < index => {}
                Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) if self.used >= self.window => self.resent = index,
                Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => {
                    self.used += 1;
                    resend(Resend::Publish(number, message));
                }
            }
        }
    }

    /// The peer, a server, has lost the session: exchanges past their PUBREC are over, of which `completed` gets the numbers.
    /// The other messages are still ours [MQTT-3.2.2-5]; while nobody is attached, so they go out at the next
    /// [`attach`](Self::attach).
    pub fn handle_session_lost(&mut self, mut completed: impl FnMut(u64)) {
        assert!(self.window == 0, "a session is found lost before it goes on");
        for (number, entry) in (self.first..).zip(&mut self.inflight) {
            if let Entry::AwaitingPubcomp = entry {
                *entry = Entry::Done;
                self.open -= 1;
                completed(number);
            }
        }
        self.forget_done();
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
            Entry::AwaitingPuback(_) => self.completed(index),
            Entry::AwaitingPubrec(_) | Entry::AwaitingPubcomp => Acknowledged::ProtocolError,
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Takes a PUBREC; `refused` when its reason code is 0x80 or more.
    pub fn handle_pubrec(&mut self, id: PacketId, refused: bool) -> Acknowledged<M> {
        let Some(index) = self.index_of(id) else { return Acknowledged::Unknown };
        let number = self.first + index as u64;
        match &self.inflight[index] {
            Entry::AwaitingPuback(_) => Acknowledged::ProtocolError,
            Entry::AwaitingPubrec(_) if refused => self.completed(index),
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::PublishResentAfterPubrec) => {
                Acknowledged::Received(number, None)
            }
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::IdReusedBeforePubcomp) => {
                let (_, message) = self.complete(index);
                if self.inflight.is_empty() {
                    self.first = number;
                }
                Acknowledged::Received(number, message)
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
                Acknowledged::Received(number, Some(message))
            }
            Entry::AwaitingPubcomp => Acknowledged::Received(number, None),
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Takes a PUBCOMP.
    pub fn handle_pubcomp(&mut self, id: PacketId) -> Acknowledged<M> {
        let Some(index) = self.index_of(id) else { return Acknowledged::Unknown };
        match &self.inflight[index] {
            Entry::AwaitingPubrec(_) if self.fault.is(Fault::PublishResentAfterPubrec) => self.completed(index),
            Entry::AwaitingPuback(_) | Entry::AwaitingPubrec(_) => Acknowledged::ProtocolError,
            Entry::AwaitingPubcomp => self.completed(index),
            Entry::Done => Acknowledged::Unknown,
        }
    }

    /// Messages that wait for a slot.
    pub fn queued(&self) -> usize {
        self.queued_here() + self.away as usize
    }

    /// The bytes of the messages that wait for a slot.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes + self.away_bytes
    }

    /// Exchanges that are open.
    pub fn inflight(&self) -> usize {
        self.open as usize
    }

    /// The open exchanges by what they await. Visits each of them.
    pub fn awaited(&self) -> Awaited {
        let mut awaited = Awaited::default();
        for entry in &self.inflight {
            match entry {
                Entry::AwaitingPuback(_) => awaited.puback += 1,
                Entry::AwaitingPubrec(_) => awaited.pubrec += 1,
                Entry::AwaitingPubcomp => awaited.pubcomp += 1,
                Entry::Done => {}
            }
        }
        awaited
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.queued() == 0 && self.open == 0
    }

    /// All exchanges and messages with their numbers, in order, as [`reopen`](Self::reopen) and
    /// [`enqueue`](Self::enqueue) take them; those from number `from` on, without those that are away.
    pub fn held_from(&self, from: u64) -> impl Iterator<Item = (u64, Reopened<&M>)> {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skipped_inflight = skipped.min(self.inflight.len());
        let skipped_queued = (skipped - skipped_inflight).min(self.queue.len());
        let inflight = self.inflight.range(skipped_inflight..).map(|entry| match entry {
            Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => Reopened::Unacknowledged(message),
            Entry::AwaitingPubcomp => Reopened::AwaitingPubcomp,
            Entry::Done => Reopened::Done,
        });
        let queue = self.queue.range(skipped_queued..).map(|place| match place {
            Some(message) => Reopened::Unacknowledged(message),
            None => Reopened::Done,
        });
        (self.first + (skipped_inflight + skipped_queued) as u64..).zip(inflight.chain(queue))
    }

    /// Ends everything: all messages still held, with whether they have been sent.
    pub fn drain(&mut self) -> impl Iterator<Item = (M, bool)> {
        let next = self.next_number();
        let inflight = std::mem::take(&mut self.inflight);
        let queue = std::mem::take(&mut self.queue);
        self.first = next;
        self.queued_bytes = 0;
        self.withdrawn = 0;
        self.away = 0;
        self.away_bytes = 0;
        self.open = 0;
        self.resent = 0;
        let held = inflight.into_iter().filter_map(|entry| match entry {
            Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => Some((message, true)),
            Entry::AwaitingPubcomp | Entry::Done => None,
        });
        held.chain(queue.into_iter().flatten().map(|message| (message, false)))
    }

    /// Gives up the places at the head of the queue whose messages were withdrawn.
    #[inline]
    fn pass_withdrawn(&mut self) {
        while self.withdrawn > 0 && matches!(self.queue.front(), Some(None)) && self.has_id() {
            self.queue.pop_front();
            self.withdrawn -= 1;
            self.use_number_up();
        }
    }

    fn has_slot(&self) -> bool {
        self.used < self.window && self.has_id()
    }

    /// The table spans fewer than all ids, so an id in flight is never given out again.
    fn has_id(&self) -> bool {
        (self.inflight.len() as u64) < PACKET_IDS - 1
    }

    fn start(&mut self, message: M) -> (NextPublish<'_, M>, Option<u64>) {
        let number = self.next_to_start();
        let reserved = (number >= self.sent_below).then(|| {
            self.sent_below = number + SENDS_RESERVED;
            self.sent_below
        });
        self.inflight.push_back(Entry::sent(message));
        self.open += 1;
        self.used += 1;
        self.resent = self.inflight.len();
        let Some(Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message)) = self.inflight.back() else {
            unreachable!("pushed above")
        };
        (NextPublish { number, id: packet_id_of(number), dup: false, message }, reserved)
    }

    /// The first message that only the log holds is not there any more.
    fn forget_away(&mut self) {
        self.away_bytes -= self.away_bytes / self.away;
        self.away -= 1;
    }

    /// The next message to be started will not be: its number is over.
    fn use_number_up(&mut self) -> u64 {
        let number = self.next_to_start();
        if self.resent == self.inflight.len() {
            self.resent += 1;
        }
        self.inflight.push_back(Entry::Done);
        self.forget_done();
        number
    }

    fn completed(&mut self, index: usize) -> Acknowledged<M> {
        let (number, message) = self.complete(index);
        Acknowledged::Completed(number, message)
    }

    fn complete(&mut self, index: usize) -> (u64, Option<M>) {
        let number = self.first + index as u64;
        let entry = std::mem::replace(&mut self.inflight[index], Entry::Done);
        if index < self.resent || matches!(entry, Entry::AwaitingPubcomp) {
            self.used = self.used.saturating_sub(1);
        }
        self.open -= 1;
        self.forget_done();
        match entry {
            Entry::AwaitingPuback(message) | Entry::AwaitingPubrec(message) => (number, Some(message)),
            Entry::AwaitingPubcomp | Entry::Done => (number, None),
        }
    }

    fn forget_done(&mut self) {
        while let Some(Entry::Done) = self.inflight.front() {
            self.inflight.pop_front();
            self.first += 1;
            self.resent = self.resent.saturating_sub(1);
        }
    }

    fn index_of(&self, id: PacketId) -> Option<usize> {
        let (id, first) = (u64::from(id.get()) - 1, self.first % PACKET_IDS);
        let index = ((id + PACKET_IDS - first) % PACKET_IDS) as usize;
        (index < self.inflight.len()).then_some(index)
    }
}

impl<M: Deliverable> Entry<M> {
    fn sent(message: M) -> Self {
        match message.qos() {
            QoS::AtLeastOnce => Entry::AwaitingPuback(message),
            QoS::ExactlyOnce => Entry::AwaitingPubrec(message),
            QoS::AtMostOnce => unreachable!("QoS 0 needs no exchange"),
        }
    }
}

#[cfg(test)]
mod tests;
