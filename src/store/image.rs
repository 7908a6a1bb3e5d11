//! What the records of a log add up to.
//!
//! A log begins in the middle: what came before its oldest segment is gone, and a checkpoint, spread over the records
//! that follow, has repeated what of it was still alive. So a record may name what is not known yet; it is then ignored,
//! because what it says is contained in what the checkpoint says later. Where a record repeats what is known, it
//! replaces it.
//!
//! An image may be told how much memory it has for deliveries that are not over ([`Image::within`]). Beyond that, a
//! delivery that lies in one batch with its message is kept as the place where it lies.

mod messages;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::config::MAX_QUEUED_MESSAGES;
use crate::proto::PacketId;
use crate::route::{Author, Message, ShardId, Subscription, Terms, WillMessage};
use crate::session::{RemoteSession, SessionExpiry};
use crate::time::Timestamp;

use super::log::LogPosition;
use super::logged::LoggedDeliveries;
use super::record::{
    DeliveryNumber, LetterNumber, LetterPurpose, MessageId, MessageRecord, Record, SessionId, SessionRecord,
};

use messages::{MessageTable, NamedMessage};

/// How far apart the numbers of a session's open deliveries may lie; what is further away can't be one of them. Keeps a
/// number that makes no sense from asking for all the memory there is.
const DELIVERY_SPAN_MAX: u64 = 1 << 27;

const _: () = assert!(*MAX_QUEUED_MESSAGES.end() as u64 + crate::session::PACKET_IDS < DELIVERY_SPAN_MAX);

/// The durable state of one shard, apart from the code that works with it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Sessions by their id in the log.
    pub sessions: BTreeMap<u32, SessionImage>,
    /// Retained messages by topic, and who published them.
    pub retained: BTreeMap<Box<str>, (Message, Author)>,
    /// Letters to other shards, by shard number.
    pub outgoing: BTreeMap<u16, OutgoingImage>,
    /// The last letter that was applied, by the number of the shard that sent it.
    pub incoming: BTreeMap<u16, LetterNumber>,
    /// How far the log was read. No part of the state.
    reading: Reading,
}

/// What is known while a log is read.
#[derive(Clone, Debug, Default)]
struct Reading {
    /// What the ids of messages stand for at this point of the log.
    messages: MessageTable,
    /// The batch that is being applied.
    batch: LogPosition,
    /// What the open deliveries that are held take in memory, about.
    held_bytes: u64,
    /// What they may take; none is all there is.
    held_bytes_max: Option<u64>,
}

impl Reading {
    fn forget(&mut self, delivery: Option<DeliveryImage>) {
        let bytes = delivery.map_or(0, |delivery| delivery.memory_bytes());
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }
}

/// A session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionImage {
    /// The client's id.
    pub client_id: Box<str>,
    /// How long the session outlives its connection.
    pub expiry: SessionExpiry,
    /// When the client went away; none if it was connected when the log ended.
    pub disconnected_at: Option<Timestamp>,
    /// The client's will, if it has not been published.
    pub will: Option<WillMessage>,
    /// What the broker at the other end of a bridge keeps for it.
    pub remote: Option<RemoteSession>,
    /// Subscriptions by filter.
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    /// Packet ids that await PUBREL.
    pub received: BTreeSet<PacketId>,
    /// The next delivery gets at least this number.
    pub next_number: DeliveryNumber,
    /// Deliveries with numbers below this may have been sent.
    pub sent_below: DeliveryNumber,
    /// Number of the first entry of `deliveries`; `next_number` if there is none.
    pub first_number: DeliveryNumber,
    /// Open deliveries in the order of their numbers, without gaps; none is one that is over. Neither the first nor the last
    /// entry is none.
    pub deliveries: VecDeque<Option<DeliveryImage>>,
    /// Open deliveries that were left in the log; none of them is in `deliveries`.
    pub logged: LoggedDeliveries,
    /// Messages held back behind a SUBSCRIBE, in the order in which they came.
    pub held_back: Vec<(Message, Terms)>,
}

/// A delivery that is not over.
#[derive(Clone, PartialEq, Debug)]
pub enum DeliveryImage {
    /// The client has not acknowledged the message.
    Open {
        /// The message.
        message: Message,
        /// How the session gets it.
        terms: Terms,
    },
    /// The client has confirmed the message with PUBREC; PUBREL and PUBCOMP are due.
    Confirmed,
}

/// The letters to one shard that it has not acknowledged.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OutgoingImage {
    /// Everything up to here is acknowledged.
    pub acknowledged: LetterNumber,
    /// The letters after that.
    pub waiting: BTreeMap<LetterNumber, (LetterPurpose, Message)>,
}

/// What an open delivery takes beside its message, about, in bytes.
const DELIVERY_MEMORY: u64 = 256;

impl Image {
    /// An image that holds open deliveries up to about so many bytes, and leaves others in the log.
    pub fn within(held_bytes_max: u64) -> Self {
        Self { reading: Reading { held_bytes_max: Some(held_bytes_max), ..Reading::default() }, ..Self::default() }
    }

    /// Applies one record of a batch.
    pub fn apply_from(&mut self, record: &Record<'_>, batch: LogPosition) {
        self.reading.batch = batch;
        self.apply(record);
    }

    /// Applies one record.
    pub fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Session(head) => self.apply_head(head),
            Record::SessionEnded { session } => {
                let ended = self.sessions.remove(&session.0);
                for delivery in ended.into_iter().flat_map(|session| session.deliveries) {
                    self.reading.forget(delivery);
                }
            }
            Record::Subscribed { session, filter, subscription } => self.with_session(*session, |session| {
                session.subscriptions.insert(filter.as_ref().into(), *subscription);
            }),
            Record::Unsubscribed { session, filter } => self.with_session(*session, |session| {
                session.subscriptions.remove(filter.as_ref());
            }),
            Record::Received { session, id } => self.with_session(*session, |session| {
                session.received.insert(*id);
            }),
            Record::Released { session, id } => self.with_session(*session, |session| {
                session.received.remove(id);
            }),
            Record::Message { message, body } => {
                let named = NamedMessage { message: body.to_message(), batch: self.reading.batch };
                self.reading.messages.insert(*message, named);
            }
            Record::Delivered { session, number, message, terms } => {
                self.deliver(*session, *number, *message, terms);
            }
            Record::SentBelow { session, number } => self.with_session(*session, |session| {
                session.sent_below = *number;
            }),
            Record::Confirmed { session, number } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                session.logged.remove(*number);
                self.reading.forget(session.set_delivery(*number, DeliveryImage::Confirmed));
            }
            Record::Completed { session, number } => {
                let Some(session) = self.sessions.get_mut(&session.0) else { return };
                session.logged.remove(*number);
                self.reading.forget(session.complete(*number));
            }
            Record::HeldBack { session, message, terms } => self.hold_back(*session, *message, terms),
            Record::HeldReleased { session } => self.with_session(*session, |session| session.held_back.clear()),
            Record::Retained { body, author } => {
                self.retained.insert(body.topic.as_ref().into(), (body.to_message(), *author));
            }
            Record::RetainedRemoved { topic } => {
                self.retained.remove(topic.as_ref());
            }
            Record::LetterPosted { purpose, to, body } => self.post(purpose, to, body),
            Record::LettersAcknowledged { by, through } => self.acknowledge(*by, *through),
            Record::LettersApplied { from, through } => {
                let applied = self.incoming.entry(from.number()).or_default();
                *applied = (*applied).max(*through);
            }
        }
    }

    /// Forgets what the ids of messages stand for: the log is at its end, and no record follows that names one. Messages
    /// that nobody waits for any more are freed.
    pub fn forget_message_ids(&mut self) {
        self.reading.messages = MessageTable::default();
    }

    /// The records that add up to this image, in an order in which they can be applied.
    ///
    /// A message that several deliveries share is named by all of them.
    pub fn records(&self, emit: &mut dyn FnMut(&Record<'_>)) {
        let mut named = NamedMessages::default();
        for (&session, image) in &self.sessions {
            image.records(SessionId(session), &mut named, emit);
        }
        for (message, author) in self.retained.values() {
            emit(&Record::Retained { body: message.into(), author: *author });
        }
        for (&shard, outgoing) in &self.outgoing {
            outgoing.records(shard_id(shard), emit);
        }
        for (&shard, &through) in &self.incoming {
            emit(&Record::LettersApplied { from: shard_id(shard), through });
        }
    }

    /// Creates the session or changes its head.
    fn apply_head(&mut self, head: &SessionRecord<'_>) {
        let SessionRecord { session, client_id, expiry, disconnected_at, next_number, sent_below, will, remote } = head;
        let image = self.sessions.entry(session.0).or_insert_with(|| SessionImage::new(client_id));
        if *image.client_id != **client_id {
            // Only what a salvage has lost says that the session before is gone.
            *image = SessionImage::new(client_id);
        }
        image.expiry = *expiry;
        image.disconnected_at = *disconnected_at;
        image.will = will.as_ref().map(|will| will.to_will());
        image.remote = *remote;
        image.sent_below = *sent_below;
        image.raise_next_number(*next_number);
    }

    fn deliver(&mut self, session: SessionId, number: DeliveryNumber, message: MessageId, terms: &Terms) {
        let Some(session) = self.sessions.get_mut(&session.0) else { return };
        session.raise_next_number(number.saturating_add(1));
        let Some(NamedMessage { message, batch }) = self.reading.messages.find(message) else { return };
        let Reading { held_bytes, held_bytes_max, batch: present, .. } = self.reading;
        // What comes behind others that are in the log alone stays there, too: only the end of a queue does.
        let is_full = |max| held_bytes >= max || !session.logged.is_empty();
        if *batch == present && held_bytes_max.is_some_and(is_full) && session.may_hold(number) {
            session.logged.insert(number, present, message.bytes() as u64);
            self.reading.forget(session.complete(number));
        } else {
            session.logged.remove(number);
            let open = DeliveryImage::Open { message: message.clone(), terms: terms.clone() };
            self.reading.held_bytes += open.memory_bytes();
            self.reading.forget(session.set_delivery(number, open));
        }
    }

    fn hold_back(&mut self, session: SessionId, message: MessageId, terms: &Terms) {
        let Some(session) = self.sessions.get_mut(&session.0) else { return };
        if let Some(NamedMessage { message, .. }) = self.reading.messages.find(message) {
            session.held_back.push((message.clone(), terms.clone()));
        }
    }

    fn post(&mut self, purpose: &LetterPurpose, to: &[(ShardId, LetterNumber)], body: &MessageRecord<'_>) {
        let message = body.to_message();
        for (shard, letter) in to {
            let outgoing = self.outgoing.entry(shard.number()).or_default();
            if *letter > outgoing.acknowledged {
                outgoing.waiting.insert(*letter, (purpose.clone(), message.clone()));
            }
        }
    }

    fn acknowledge(&mut self, by: ShardId, through: LetterNumber) {
        let outgoing = self.outgoing.entry(by.number()).or_default();
        outgoing.acknowledged = outgoing.acknowledged.max(through);
        while let Some(first) = outgoing.waiting.first_entry()
            && *first.key() <= outgoing.acknowledged
        {
            first.remove();
        }
    }

    /// Changes a session; one that is not known is gone or yet to come, and nothing is to be changed.
    fn with_session(&mut self, session: SessionId, change: impl FnOnce(&mut SessionImage)) {
        if let Some(session) = self.sessions.get_mut(&session.0) {
            change(session);
        }
    }
}

/// Equal in the state that they are the image of.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        let Self { sessions, retained, outgoing, incoming, reading: _ } = self;
        *sessions == other.sessions
            && *retained == other.retained
            && *outgoing == other.outgoing
            && *incoming == other.incoming
    }
}

impl SessionImage {
    fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.into(),
            expiry: SessionExpiry::Never,
            disconnected_at: None,
            will: None,
            remote: None,
            subscriptions: BTreeMap::new(),
            received: BTreeSet::new(),
            next_number: 0,
            sent_below: 0,
            first_number: 0,
            deliveries: VecDeque::new(),
            logged: LoggedDeliveries::default(),
            held_back: Vec::new(),
        }
    }

    fn raise_next_number(&mut self, to: DeliveryNumber) {
        self.next_number = self.next_number.max(to);
        if self.deliveries.is_empty() {
            self.first_number = self.next_number;
        }
    }

    /// Whether a delivery with this number may be one of the session beside those that there are.
    fn may_hold(&self, number: DeliveryNumber) -> bool {
        let first = self.logged.first().map_or(self.first_number, |(first, _)| first.min(self.first_number));
        number < DeliveryNumber::MAX && first.abs_diff(number) <= DELIVERY_SPAN_MAX
    }

    /// Puts a delivery under its number, wherever that lies: a checkpoint repeats old ones behind new ones. What does not
    /// stay is handed back.
    pub(super) fn set_delivery(&mut self, number: DeliveryNumber, delivery: DeliveryImage) -> Option<DeliveryImage> {
        self.raise_next_number(number.saturating_add(1));
        if self.deliveries.is_empty() {
            self.first_number = number;
        }
        let end = self.first_number.saturating_add(self.deliveries.len() as u64);
        if self.first_number.abs_diff(number) > DELIVERY_SPAN_MAX || end.abs_diff(number) > DELIVERY_SPAN_MAX {
            return Some(delivery);
        }
        if number < self.first_number {
            let missing = self.first_number - number;
            self.deliveries.reserve(missing as usize);
            for _ in 0..missing {
                self.deliveries.push_front(None);
            }
            self.first_number = number;
        } else if number >= end {
            // Doubling would cost as much again as the deliveries of a long queue do.
            let missing = (number - end) as usize + 1;
            if self.deliveries.capacity() - self.deliveries.len() < missing {
                self.deliveries.reserve_exact(missing + self.deliveries.len() / 4 + 4);
            }
            self.deliveries.resize((number - self.first_number) as usize + 1, None);
        }
        self.deliveries[(number - self.first_number) as usize].replace(delivery)
    }

    /// Takes a delivery out, if it is held.
    fn complete(&mut self, number: DeliveryNumber) -> Option<DeliveryImage> {
        let index = usize::try_from(number.checked_sub(self.first_number)?).ok()?;
        let completed = self.deliveries.get_mut(index)?.take();
        while let Some(None) = self.deliveries.front() {
            self.deliveries.pop_front();
            self.first_number = self.first_number.saturating_add(1);
        }
        while let Some(None) = self.deliveries.back() {
            self.deliveries.pop_back();
        }
        if self.deliveries.is_empty() {
            self.first_number = self.next_number;
        }
        completed
    }

    /// Deliveries with lower numbers may have been sent: a number that is not open was sent or discarded, and so were all
    /// before it.
    pub fn in_flight_below(&self) -> DeliveryNumber {
        let mut open_from = self.next_number;
        loop {
            let before = open_from;
            open_from = self.logged.contiguous_before(open_from);
            let end = self.first_number.saturating_add(self.deliveries.len() as u64);
            if open_from == end {
                let is_open = |delivery: &Option<_>| matches!(delivery, Some(DeliveryImage::Open { .. }));
                open_from -= self.deliveries.iter().rev().take_while(|delivery| is_open(delivery)).count() as u64;
            } else if let Some(index) = open_from.checked_sub(self.first_number + 1)
                && let Some(Some(DeliveryImage::Open { .. })) = self.deliveries.get(index as usize)
            {
                open_from -= 1;
            }
            if open_from == before {
                return self.sent_below.min(self.next_number).max(open_from);
            }
        }
    }

    /// Deliveries with lower numbers have to be held before the session can go on: those in flight, and those that do not
    /// wait behind all that are held.
    pub(super) fn held_below(&self) -> DeliveryNumber {
        let end = self.deliveries.len() as u64;
        let end = if end == 0 { 0 } else { self.first_number.saturating_add(end) };
        self.in_flight_below().max(end)
    }

    /// How many deliveries are not over.
    pub fn open_deliveries(&self) -> u64 {
        self.deliveries.iter().flatten().count() as u64 + self.logged.count()
    }

    fn records<'a>(&'a self, session: SessionId, named: &mut NamedMessages<'a>, emit: &mut dyn FnMut(&Record<'_>)) {
        emit(&Record::Session(SessionRecord {
            session,
            client_id: (&*self.client_id).into(),
            expiry: self.expiry,
            disconnected_at: self.disconnected_at,
            next_number: self.next_number,
            sent_below: self.sent_below,
            will: self.will.as_ref().map(Into::into),
            remote: self.remote,
        }));
        for (filter, &subscription) in &self.subscriptions {
            emit(&Record::Subscribed { session, filter: (&**filter).into(), subscription });
        }
        for &id in &self.received {
            emit(&Record::Received { session, id });
        }
        assert!(self.logged.is_empty(), "deliveries are recalled before they are logged anew");
        for (index, delivery) in self.deliveries.iter().enumerate() {
            let number = self.first_number + index as u64;
            match delivery {
                Some(DeliveryImage::Open { message, terms }) => {
                    let message = named.name(message, emit);
                    emit(&Record::Delivered { session, number, message, terms: Cow::Borrowed(terms) });
                }
                Some(DeliveryImage::Confirmed) => emit(&Record::Confirmed { session, number }),
                None => {}
            }
        }
        if !self.held_back.is_empty() {
            // They have no numbers by which one could replace another.
            emit(&Record::HeldReleased { session });
        }
        for (message, terms) in &self.held_back {
            let message = named.name(message, emit);
            emit(&Record::HeldBack { session, message, terms: Cow::Borrowed(terms) });
        }
    }
}

impl DeliveryImage {
    /// What it takes in memory, about.
    fn memory_bytes(&self) -> u64 {
        match self {
            DeliveryImage::Open { message, .. } => DELIVERY_MEMORY + message.bytes() as u64,
            DeliveryImage::Confirmed => 0,
        }
    }
}

impl OutgoingImage {
    fn records(&self, shard: ShardId, emit: &mut dyn FnMut(&Record<'_>)) {
        emit(&Record::LettersAcknowledged { by: shard, through: self.acknowledged });
        for (&letter, (purpose, message)) in &self.waiting {
            let to = [(shard, letter)];
            emit(&Record::LetterPosted { purpose: purpose.clone(), to: (&to[..]).into(), body: message.into() });
        }
    }
}

/// The messages that records have been given for, by where their bytes lie: clones of a message lie in the same place.
#[derive(Default)]
struct NamedMessages<'a> {
    names: HashMap<*const u8, (MessageId, &'a Message), foldhash::fast::FixedState>,
    next: u32,
}

impl<'a> NamedMessages<'a> {
    /// The message's name, after a record that gives it one.
    fn name(&mut self, message: &'a Message, emit: &mut dyn FnMut(&Record<'_>)) -> MessageId {
        let name = MessageId(self.next);
        match self.names.entry(message.body_address()) {
            // The same bytes may stand for another message, with another expiry.
            Entry::Occupied(known) if known.get().1 == message => return known.get().0,
            Entry::Occupied(mut other) => {
                other.insert((name, message));
            }
            Entry::Vacant(vacant) => {
                vacant.insert((name, message));
            }
        }
        self.next = self.next.checked_add(1).expect("an image has fewer than 2^32 messages");
        emit(&Record::Message { message: name, body: message.into() });
        name
    }
}

fn shard_id(number: u16) -> ShardId {
    ShardId::new(number).expect("images name shards that there are")
}

#[cfg(test)]
mod tests;
