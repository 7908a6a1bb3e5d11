//! What the log says: one record for each change of durable state.
//!
//! A shard's durable state is what its records, applied in order, add up to ([`Image`](super::Image) does the sum). All
//! records that one event causes lie in one batch, and a batch counts whole or not at all; so an effect and its cause (a
//! message and the packet id it came with, a letter's deliveries and the mark that it has arrived) are never parted.
//!
//! Recovery begins wherever the oldest segment begins, behind which a checkpoint has repeated all that was still alive.
//! Records between may therefore speak of things whose repetition comes only later: what is said of an unknown session
//! is ignored, and every record can be applied again on top of itself.
//!
//! Sessions and messages are named by their keys in the arenas of the shard that wrote the log. A key is reused when its
//! owner is gone; the order of the records says which owner is meant.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::{PacketId, QoS};
use crate::route::{Author, Message, ShardId, Share, Subscription, Terms, WillMessage};
use crate::session::{RemoteSession, SessionExpiry};
use crate::time::Timestamp;

/// Names a session within the log of one shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u32);

/// Names a message within the log of one shard, from its [`Record::Message`] to the next one with the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId(pub u32);

/// Numbers the QoS 1 and 2 messages of one session in the order in which they came to it, from 0. The packet id it goes
/// out with is a function of it: [`packet_id_of`](crate::session::packet_id_of).
pub type DeliveryNumber = u64;

/// Numbers the durable letters from one shard to another, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LetterNumber(pub u64);

/// One change of a shard's durable state.
#[derive(Clone, PartialEq, Debug)]
pub enum Record<'a> {
    /// The head of a session: at its start, at every change of it, and repeated by a checkpoint. Says nothing about the
    /// session's subscriptions, ids and deliveries, which stay as they are.
    Session(SessionRecord<'a>),
    /// The session and all that belongs to it is gone.
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// The session has a subscription, in place of the one for the same filter if there was one.
    Subscribed {
        /// Which.
        session: SessionId,
        /// The filter, with `$share` and the group if it is shared.
        filter: Cow<'a, str>,
        /// What it asked for.
        subscription: Subscription,
    },
    /// The session has the subscription no more.
    Unsubscribed {
        /// Which.
        session: SessionId,
        /// The filter.
        filter: Cow<'a, str>,
    },
    /// A QoS 2 message with this packet id came from the client: it awaits PUBREL.
    Received {
        /// The publisher's session.
        session: SessionId,
        /// The packet id.
        id: PacketId,
    },
    /// PUBREL came: the id is free.
    Released {
        /// The publisher's session.
        session: SessionId,
        /// The packet id.
        id: PacketId,
    },
    /// A message that records after this one refer to.
    Message {
        /// Its name, which may have named another one before.
        message: MessageId,
        /// The message itself.
        body: MessageRecord<'a>,
    },
    /// A message was given to a session, as the delivery with this number; in place of what is known under this number.
    Delivered {
        /// The subscriber's session.
        session: SessionId,
        /// Its number in the session.
        number: DeliveryNumber,
        /// Which message.
        message: MessageId,
        /// How the session gets it.
        terms: Cow<'a, Terms>,
    },
    /// Deliveries with numbers below this one may have been sent to the client; the others have not. The last word counts,
    /// also if it is lower than an earlier one.
    SentBelow {
        /// The subscriber's session.
        session: SessionId,
        /// The number.
        number: DeliveryNumber,
    },
    /// The client has confirmed the QoS 2 delivery with PUBREC: its message is never sent again, PUBREL is. Creates the
    /// delivery if it is not known, because its message belongs to a segment that is gone.
    Confirmed {
        /// The subscriber's session.
        session: SessionId,
        /// The delivery.
        number: DeliveryNumber,
    },
    /// The delivery is over: PUBACK, PUBCOMP, a refusing PUBREC, expired, or too large for the client.
    Completed {
        /// The subscriber's session.
        session: SessionId,
        /// The delivery.
        number: DeliveryNumber,
    },
    /// A message was given to a session while a SUBSCRIBE of it waits for other shards. It has no number yet; so a
    /// checkpoint repeats all of a session in one batch, behind a [`Record::HeldReleased`].
    HeldBack {
        /// The subscriber's session.
        session: SessionId,
        /// Which message.
        message: MessageId,
        /// How the session gets it.
        terms: Cow<'a, Terms>,
    },
    /// The messages held back have become deliveries, by other records of the same batch.
    HeldReleased {
        /// The subscriber's session.
        session: SessionId,
    },
    /// The message is retained for its topic, in place of the one before.
    Retained {
        /// The message.
        body: MessageRecord<'a>,
        /// Who published it.
        author: Author,
    },
    /// Nothing is retained for the topic any more.
    RetainedRemoved {
        /// The topic.
        topic: Cow<'a, str>,
    },
    /// A letter goes to other shards, under a number of its own at each of them.
    LetterPosted {
        /// What the other shards are to do with the message.
        purpose: LetterPurpose,
        /// To whom, and its number there.
        to: Cow<'a, [(ShardId, LetterNumber)]>,
        /// The message.
        body: MessageRecord<'a>,
    },
    /// Another shard has made the letters up to this one its own.
    LettersAcknowledged {
        /// Who.
        by: ShardId,
        /// The last of them. The numbers after it go on from here also if none is waiting.
        through: LetterNumber,
    },
    /// The letters of another shard up to this one have had their effect here.
    LettersApplied {
        /// Whose.
        from: ShardId,
        /// The last of them.
        through: LetterNumber,
    },
}

/// What a letter asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LetterPurpose {
    /// Deliver the message to the sessions that are subscribed.
    Deliver,
    /// Keep the message of this client for its topic.
    Retain(Author),
    /// Deliver the message to one member of a group.
    ToMember {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription.
        share: Arc<Share>,
    },
    /// Deliver the message to another member of the group.
    FromMember {
        /// The subscription of the one that had it.
        share: Arc<Share>,
    },
}

/// The head of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionRecord<'a> {
    /// Which.
    pub session: SessionId,
    /// The client's id.
    pub client_id: Cow<'a, str>,
    /// How long the session outlives its connection.
    pub expiry: SessionExpiry,
    /// When the client went away; none while it is connected.
    pub disconnected_at: Option<Timestamp>,
    /// The next delivery gets at least this number.
    pub next_number: DeliveryNumber,
    /// As [`Record::SentBelow`].
    pub sent_below: DeliveryNumber,
    /// The message that the client leaves, if it has not been published.
    pub will: Option<WillRecord<'a>>,
    /// What the broker at the other end of a bridge keeps for it.
    pub remote: Option<RemoteSession>,
}

/// A will, as logged.
#[derive(Clone, PartialEq, Debug)]
pub struct WillRecord<'a> {
    /// The message.
    pub body: MessageRecord<'a>,
    /// How long the message is worth delivering once it is published.
    pub expires_after: Option<Duration>,
    /// How long after the end of the connection it is published.
    pub delay: Duration,
}

/// A message, as logged.
#[derive(Clone, PartialEq, Debug)]
pub struct MessageRecord<'a> {
    /// The topic name.
    pub topic: Cow<'a, str>,
    /// The forwarded properties, a raw block.
    pub properties: Cow<'a, [u8]>,
    /// The payload.
    pub payload: Cow<'a, [u8]>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When it stops being worth delivering.
    pub expires_at: Option<Timestamp>,
}

impl<'a> From<&'a Message> for MessageRecord<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            topic: Cow::Borrowed(message.topic_name()),
            properties: Cow::Borrowed(message.properties()),
            payload: Cow::Borrowed(message.payload()),
            qos: message.qos,
            retain: message.retain,
            expires_at: message.expires_at,
        }
    }
}

impl MessageRecord<'_> {
    /// The message, in an allocation of its own.
    pub fn to_message(&self) -> Message {
        Message::new(&self.topic, &self.properties, &self.payload, self.qos, self.retain, self.expires_at)
    }
}

impl<'a> From<&'a WillMessage> for WillRecord<'a> {
    fn from(will: &'a WillMessage) -> Self {
        Self { body: will.message().into(), expires_after: will.expires_after(), delay: will.delay() }
    }
}

impl WillRecord<'_> {
    /// The will.
    pub fn to_will(&self) -> WillMessage {
        WillMessage::from_parts(self.body.to_message(), self.expires_after, self.delay)
    }
}
