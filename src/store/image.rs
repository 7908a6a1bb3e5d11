//! What the records of a log add up to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::proto::PacketId;
use crate::route::{Message, Subscription, Terms, WillMessage};
use crate::session::SessionExpiry;
use crate::time::Timestamp;

use super::record::{DeliveryNumber, LetterNumber, LetterPurpose, Record};

/// The durable state of one shard, apart from the code that works with it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Image {
    /// Sessions by their id in the log.
    pub sessions: BTreeMap<u32, SessionImage>,
    /// Retained messages by topic.
    pub retained: BTreeMap<Box<str>, Message>,
    /// Letters to other shards, by shard number.
    pub outgoing: BTreeMap<u16, OutgoingImage>,
    /// The last letter that was applied, by the number of the shard that sent it.
    pub incoming: BTreeMap<u16, LetterNumber>,
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
    /// Subscriptions by filter.
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    /// Packet ids that await PUBREL.
    pub received: BTreeSet<PacketId>,
    /// The next delivery gets at least this number.
    pub next_number: DeliveryNumber,
    /// Deliveries with numbers below this may have been sent.
    pub sent_below: DeliveryNumber,
    /// Number of the first entry of `deliveries`.
    pub first_number: DeliveryNumber,
    /// Open deliveries in the order of their numbers, without gaps; none is one that is over. Neither the first nor the last
    /// entry is none.
    pub deliveries: VecDeque<Option<DeliveryImage>>,
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

impl Image {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record<'_>) {
        let _ = record;
    }
}
