//! The bodies of the records: what stands behind the header that [`format`](super::format) describes.
//!
//! | kind | record | body |
//! |---|---|---|
//! | 1  | `Session`             | session, *text* client id, *expiry*, next number, sent below, flags (1: disconnected, 2: will, 4: remote), then if so: moment; *message*, *lifetime*, *duration* of the delay; mark of 8 bytes, not 0 |
//! | 2  | `SessionEnded`        | session |
//! | 3  | `Subscribed`          | session, *text* filter, options byte of 5.0, identifier (0: none) |
//! | 4  | `Unsubscribed`        | session, *text* filter |
//! | 5  | `Received`            | session, packet id |
//! | 6  | `Released`            | session, packet id |
//! | 7  | `Message`             | message, *message* |
//! | 8  | `Delivered`           | session, number, message, *terms* |
//! | 9  | `SentBelow`           | session, number |
//! | 10 | `Confirmed`           | session, number |
//! | 11 | `Completed`           | session, number |
//! | 12 | `HeldBack`            | session, message, *terms* |
//! | 13 | `HeldReleased`        | session |
//! | 14 | `Retained`            | author, *message* |
//! | 15 | `RetainedRemoved`     | *text* topic |
//! | 16 | `LetterPosted`        | *purpose*, count of 2 bytes, so often: shard and letter; *message* |
//! | 17 | `LettersAcknowledged` | shard, letter |
//! | 18 | `LettersApplied`      | shard, letter |
//!
//! Sessions, messages and identifiers have 4 bytes, packet ids and shards 2, numbers, letters, moments and authors 8, flags 1.
//! - *text*: length of 2 bytes, UTF-8;
//! - *duration*: seconds of 8 bytes, nanoseconds of 4;
//! - *lifetime*: flag (1: there is one), then if so: *duration*;
//! - *expiry*: flag (0: with the connection, 1: after a time, 2: never), then if 1: *duration*;
//! - *message*: flags (bits 0 and 1: QoS, bit 2: retain, bit 3: expires), then if so: moment; *text* topic; properties and
//!   payload, each with a length of 4 bytes;
//! - *terms*: flags (bits 0 and 1: QoS, bit 2: retain, bit 3: one identifier, bit 4: several, bit 5: shared), then if one:
//!   identifier; if several: count of 4 bytes, and they; if shared: *share*;
//! - *share*: *text* group, options byte of 5.0, identifier (0: none);
//! - *purpose*: 0: deliver; 1: retain, then author; 2: to a member, then *text* client id and *share*; 3: from a member, then *share*.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::{PacketId, QoS, SubscriptionOptions, Version};
use crate::route::{Author, Identifiers, ShardId, Share, SharedTerms, Standing, Subscription, Terms};
use crate::session::{RemoteSession, SessionExpiry};
use crate::time::Timestamp;

use super::format::{begin_record, finish_record};
use super::record::{
    DeliveryNumber, LetterNumber, LetterPurpose, MessageId, MessageRecord, Record, SessionId, SessionRecord, WillRecord,
};

/// The kinds of records, with the numbers that they have in the log.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Session = 1,
    SessionEnded = 2,
    Subscribed = 3,
    Unsubscribed = 4,
    Received = 5,
    Released = 6,
    Message = 7,
    Delivered = 8,
    SentBelow = 9,
    Confirmed = 10,
    Completed = 11,
    HeldBack = 12,
    HeldReleased = 13,
    Retained = 14,
    RetainedRemoved = 15,
    LetterPosted = 16,
    LettersAcknowledged = 17,
    LettersApplied = 18,
}

/// A body that says nothing sensible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

const SESSION_DISCONNECTED: u8 = 1;
const SESSION_WILL: u8 = 2;
const SESSION_REMOTE: u8 = 4;

const QOS_BITS: u8 = 0b0_0011;
const RETAIN: u8 = 0b0_0100;
const MESSAGE_EXPIRES: u8 = 0b0_1000;
const TERMS_ONE_IDENTIFIER: u8 = 0b0_1000;
const TERMS_SEVERAL_IDENTIFIERS: u8 = 0b1_0000;
const TERMS_SHARED: u8 = 0b10_0000;

/// Appends a record, header and body, to a batch.
#[inline]
pub(super) fn append(batch: &mut Vec<u8>, seed: u32, sequence: u64, record: &Record<'_>) {
    let start = begin_record(batch, kind_of(record) as u8);
    encode(batch, record);
    finish_record(batch, start, seed, sequence);
}

/// Of what kind a record is.
#[inline]
pub(super) fn kind_of(record: &Record<'_>) -> Kind {
    match record {
        Record::Session(_) => Kind::Session,
        Record::SessionEnded { .. } => Kind::SessionEnded,
        Record::Subscribed { .. } => Kind::Subscribed,
        Record::Unsubscribed { .. } => Kind::Unsubscribed,
        Record::Received { .. } => Kind::Received,
        Record::Released { .. } => Kind::Released,
        Record::Message { .. } => Kind::Message,
        Record::Delivered { .. } => Kind::Delivered,
        Record::SentBelow { .. } => Kind::SentBelow,
        Record::Confirmed { .. } => Kind::Confirmed,
        Record::Completed { .. } => Kind::Completed,
        Record::HeldBack { .. } => Kind::HeldBack,
        Record::HeldReleased { .. } => Kind::HeldReleased,
        Record::Retained { .. } => Kind::Retained,
        Record::RetainedRemoved { .. } => Kind::RetainedRemoved,
        Record::LetterPosted { .. } => Kind::LetterPosted,
        Record::LettersAcknowledged { .. } => Kind::LettersAcknowledged,
        Record::LettersApplied { .. } => Kind::LettersApplied,
    }
}

#[inline]
fn encode(to: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::Session(session) => put_session(to, session),
        Record::SessionEnded { session } | Record::HeldReleased { session } => put(to, session.0.to_le_bytes()),
        Record::Subscribed { session, filter, subscription } => {
            put(to, session.0.to_le_bytes());
            put_text(to, filter);
            put_subscription(to, subscription);
        }
        Record::Unsubscribed { session, filter } => {
            put(to, session.0.to_le_bytes());
            put_text(to, filter);
        }
        Record::Received { session, id } | Record::Released { session, id } => {
            put::<6>(to, join(session.0.to_le_bytes(), id.get().to_le_bytes()));
        }
        Record::Message { message, body } => {
            put(to, message.0.to_le_bytes());
            put_message(to, body);
        }
        Record::Delivered { session, number, message, terms } => {
            let number: [u8; 12] = join(session.0.to_le_bytes(), number.to_le_bytes());
            put::<16>(to, join(number, message.0.to_le_bytes()));
            put_terms(to, terms);
        }
        Record::SentBelow { session, number }
        | Record::Confirmed { session, number }
        | Record::Completed { session, number } => {
            put::<12>(to, join(session.0.to_le_bytes(), number.to_le_bytes()));
        }
        Record::HeldBack { session, message, terms } => {
            put::<8>(to, join(session.0.to_le_bytes(), message.0.to_le_bytes()));
            put_terms(to, terms);
        }
        Record::Retained { body, author } => {
            put(to, author.0.to_le_bytes());
            put_message(to, body);
        }
        Record::RetainedRemoved { topic } => put_text(to, topic),
        Record::LetterPosted { purpose, to: shards, body } => {
            put_purpose(to, purpose);
            let count = u16::try_from(shards.len()).expect("a letter goes at most once to each shard");
            put(to, count.to_le_bytes());
            for (shard, letter) in shards.iter() {
                put(to, shard.number().to_le_bytes());
                put(to, letter.0.to_le_bytes());
            }
            put_message(to, body);
        }
        Record::LettersAcknowledged { by: shard, through } | Record::LettersApplied { from: shard, through } => {
            put::<10>(to, join(shard.number().to_le_bytes(), through.0.to_le_bytes()));
        }
    }
}

/// Reads the record of a kind from its body.
pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut from = Reader { rest: body };
    let record = match Kind::from_number(kind)? {
        Kind::Session => Record::Session(from.session_record()?),
        Kind::SessionEnded => Record::SessionEnded { session: from.session()? },
        Kind::Subscribed => {
            Record::Subscribed { session: from.session()?, filter: from.text()?, subscription: from.subscription()? }
        }
        Kind::Unsubscribed => Record::Unsubscribed { session: from.session()?, filter: from.text()? },
        Kind::Received => Record::Received { session: from.session()?, id: from.packet_id()? },
        Kind::Released => Record::Released { session: from.session()?, id: from.packet_id()? },
        Kind::Message => Record::Message { message: from.message()?, body: from.message_record()? },
        Kind::Delivered => Record::Delivered {
            session: from.session()?,
            number: from.number()?,
            message: from.message()?,
            terms: Cow::Owned(from.terms()?),
        },
        Kind::SentBelow => Record::SentBelow { session: from.session()?, number: from.number()? },
        Kind::Confirmed => Record::Confirmed { session: from.session()?, number: from.number()? },
        Kind::Completed => Record::Completed { session: from.session()?, number: from.number()? },
        Kind::HeldBack => {
            Record::HeldBack { session: from.session()?, message: from.message()?, terms: Cow::Owned(from.terms()?) }
        }
        Kind::HeldReleased => Record::HeldReleased { session: from.session()? },
        Kind::Retained => Record::Retained { author: from.author()?, body: from.message_record()? },
        Kind::RetainedRemoved => Record::RetainedRemoved { topic: from.text()? },
        Kind::LetterPosted => Record::LetterPosted {
            purpose: from.purpose()?,
            to: Cow::Owned(from.addresses()?),
            body: from.message_record()?,
        },
        Kind::LettersAcknowledged => Record::LettersAcknowledged { by: from.shard()?, through: from.letter()? },
        Kind::LettersApplied => Record::LettersApplied { from: from.shard()?, through: from.letter()? },
    };
    if from.rest.is_empty() { Ok(record) } else { Err(Malformed) }
}

impl Kind {
    /// All of them, in the order of their numbers, which begin with 1.
    pub(super) const ALL: [Self; 18] = [
        Self::Session,
        Self::SessionEnded,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::Received,
        Self::Released,
        Self::Message,
        Self::Delivered,
        Self::SentBelow,
        Self::Confirmed,
        Self::Completed,
        Self::HeldBack,
        Self::HeldReleased,
        Self::Retained,
        Self::RetainedRemoved,
        Self::LetterPosted,
        Self::LettersAcknowledged,
        Self::LettersApplied,
    ];

    fn from_number(number: u8) -> Result<Self, Malformed> {
        let index = usize::from(number).checked_sub(1).ok_or(Malformed)?;
        Self::ALL.get(index).copied().ok_or(Malformed)
    }
}

const _: () = {
    let mut index = 0;
    while index < Kind::ALL.len() {
        assert!(Kind::ALL[index] as usize == index + 1);
        index += 1;
    }
};

#[inline]
fn put<const BYTES: usize>(to: &mut Vec<u8>, value: [u8; BYTES]) {
    to.extend_from_slice(&value);
}

/// One field after the other, so that both are appended in one step.
#[inline]
fn join<const FIRST: usize, const SECOND: usize, const BOTH: usize>(
    first: [u8; FIRST],
    second: [u8; SECOND],
) -> [u8; BOTH] {
    const { assert!(FIRST + SECOND == BOTH) };
    let mut both = [0; BOTH];
    both[..FIRST].copy_from_slice(&first);
    both[FIRST..].copy_from_slice(&second);
    both
}

#[inline]
fn put_text(to: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a string of MQTT has at most 65,535 bytes");
    put(to, length.to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

#[inline]
fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a packet of MQTT has less than 4 GiB");
    put(to, length.to_le_bytes());
    to.extend_from_slice(bytes);
}

#[inline]
fn put_moment(to: &mut Vec<u8>, moment: Timestamp) {
    put(to, moment.as_nanos().to_le_bytes());
}

fn put_duration(to: &mut Vec<u8>, duration: Duration) {
    put(to, duration.as_secs().to_le_bytes());
    put(to, duration.subsec_nanos().to_le_bytes());
}

#[inline]
fn put_message(to: &mut Vec<u8>, message: &MessageRecord<'_>) {
    let retain = if message.retain { RETAIN } else { 0 };
    let expires = if message.expires_at.is_some() { MESSAGE_EXPIRES } else { 0 };
    put(to, [message.qos.bits() | retain | expires]);
    if let Some(moment) = message.expires_at {
        put_moment(to, moment);
    }
    put_text(to, &message.topic);
    put_bytes(to, &message.properties);
    put_bytes(to, &message.payload);
}

#[inline]
fn put_terms(to: &mut Vec<u8>, terms: &Terms) {
    let flags = terms.qos.bits() | if terms.retain { RETAIN } else { 0 };
    match &terms.identifiers {
        Identifiers::None => put(to, [flags]),
        Identifiers::One(identifier) => {
            put(to, [flags | TERMS_ONE_IDENTIFIER]);
            put(to, identifier.get().to_le_bytes());
        }
        Identifiers::Several(identifiers) => {
            put(to, [flags | TERMS_SEVERAL_IDENTIFIERS]);
            let count = u32::try_from(identifiers.len()).expect("a session has fewer than 2^32 subscriptions");
            put(to, count.to_le_bytes());
            for identifier in identifiers {
                put(to, identifier.get().to_le_bytes());
            }
        }
        Identifiers::Shared(SharedTerms { share, standing }) => {
            assert!(standing.is_settled(), "what may come again gets into no log");
            put(to, [flags | TERMS_SHARED]);
            put_share(to, share);
        }
    }
}

#[inline]
fn put_purpose(to: &mut Vec<u8>, purpose: &LetterPurpose) {
    match purpose {
        LetterPurpose::Deliver => put(to, [0]),
        LetterPurpose::Retain(author) => put::<9>(to, join([1], author.0.to_le_bytes())),
        LetterPurpose::ToMember { client_id, share } => {
            put(to, [2]);
            put_text(to, client_id);
            put_share(to, share);
        }
        LetterPurpose::FromMember { share } => {
            put(to, [3]);
            put_share(to, share);
        }
    }
}

fn put_share(to: &mut Vec<u8>, share: &Share) {
    put_text(to, &share.group);
    put_subscription(to, &share.subscription);
}

fn put_subscription(to: &mut Vec<u8>, subscription: &Subscription) {
    put(to, [subscription.options.to_bits(Version::V5)]);
    put(to, subscription.identifier.map_or(0, NonZeroU32::get).to_le_bytes());
}

fn put_session(to: &mut Vec<u8>, session: &SessionRecord<'_>) {
    put(to, session.session.0.to_le_bytes());
    put_text(to, &session.client_id);
    match session.expiry {
        SessionExpiry::WithConnection => put(to, [0]),
        SessionExpiry::After(duration) => {
            put(to, [1]);
            put_duration(to, duration);
        }
        SessionExpiry::Never => put(to, [2]),
    }
    put(to, session.next_number.to_le_bytes());
    put(to, session.sent_below.to_le_bytes());
    let disconnected = if session.disconnected_at.is_some() { SESSION_DISCONNECTED } else { 0 };
    let will = if session.will.is_some() { SESSION_WILL } else { 0 };
    let remote = if session.remote.is_some() { SESSION_REMOTE } else { 0 };
    put(to, [disconnected | will | remote]);
    if let Some(moment) = session.disconnected_at {
        put_moment(to, moment);
    }
    if let Some(will) = &session.will {
        put_message(to, &will.body);
        match will.expires_after {
            Some(lifetime) => {
                put(to, [1]);
                put_duration(to, lifetime);
            }
            None => put(to, [0]),
        }
        put_duration(to, will.delay);
    }
    if let Some(remote) = session.remote {
        put(to, remote.mark().to_le_bytes());
    }
}

/// Takes a body apart from the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn session(&mut self) -> Result<SessionId, Malformed> {
        self.u32().map(SessionId)
    }

    fn message(&mut self) -> Result<MessageId, Malformed> {
        self.u32().map(MessageId)
    }

    fn number(&mut self) -> Result<DeliveryNumber, Malformed> {
        self.u64()
    }

    fn letter(&mut self) -> Result<LetterNumber, Malformed> {
        self.u64().map(LetterNumber)
    }

    fn moment(&mut self) -> Result<Timestamp, Malformed> {
        self.u64().map(Timestamp::from_nanos)
    }

    fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.u16()?).ok_or(Malformed)
    }

    fn shard(&mut self) -> Result<ShardId, Malformed> {
        ShardId::new(self.u16()?).ok_or(Malformed)
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let length = self.u16()?.into();
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        Ok(Cow::Borrowed(text))
    }

    fn bytes(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let length = self.u32()? as usize;
        Ok(Cow::Borrowed(self.take(length)?))
    }

    fn duration(&mut self) -> Result<Duration, Malformed> {
        let seconds = self.u64()?;
        let nanoseconds = self.u32()?;
        if nanoseconds < 1_000_000_000 { Ok(Duration::new(seconds, nanoseconds)) } else { Err(Malformed) }
    }

    fn lifetime(&mut self) -> Result<Option<Duration>, Malformed> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.duration().map(Some),
            _ => Err(Malformed),
        }
    }

    fn expiry(&mut self) -> Result<SessionExpiry, Malformed> {
        match self.byte()? {
            0 => Ok(SessionExpiry::WithConnection),
            1 => self.duration().map(SessionExpiry::After),
            2 => Ok(SessionExpiry::Never),
            _ => Err(Malformed),
        }
    }

    fn author(&mut self) -> Result<Author, Malformed> {
        self.u64().map(Author)
    }

    fn purpose(&mut self) -> Result<LetterPurpose, Malformed> {
        match self.byte()? {
            0 => Ok(LetterPurpose::Deliver),
            1 => self.author().map(LetterPurpose::Retain),
            2 => Ok(LetterPurpose::ToMember { client_id: (&*self.text()?).into(), share: self.share()? }),
            3 => Ok(LetterPurpose::FromMember { share: self.share()? }),
            _ => Err(Malformed),
        }
    }

    fn share(&mut self) -> Result<Arc<Share>, Malformed> {
        let group = self.text()?;
        Ok(Arc::new(Share { group: (&*group).into(), subscription: self.subscription()? }))
    }

    fn addresses(&mut self) -> Result<Vec<(ShardId, LetterNumber)>, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| Ok((self.shard()?, self.letter()?))).collect()
    }

    fn identifier(&mut self) -> Result<NonZeroU32, Malformed> {
        NonZeroU32::new(self.u32()?).ok_or(Malformed)
    }

    fn subscription(&mut self) -> Result<Subscription, Malformed> {
        let options = SubscriptionOptions::from_bits(Version::V5, self.byte()?).map_err(|_| Malformed)?;
        Ok(Subscription { options, identifier: NonZeroU32::new(self.u32()?) })
    }

    fn terms(&mut self) -> Result<Terms, Malformed> {
        let flags = self.byte()?;
        let qos = QoS::from_bits(flags & QOS_BITS).ok_or(Malformed)?;
        let retain = flags & RETAIN != 0;
        let identifiers = match flags & !(QOS_BITS | RETAIN) {
            0 => Identifiers::None,
            TERMS_ONE_IDENTIFIER => Identifiers::One(self.identifier()?),
            TERMS_SEVERAL_IDENTIFIERS => {
                let count = self.u32()?;
                // Grows with what is there, whatever the count says.
                let identifiers = (0..count).map(|_| self.identifier()).collect::<Result<Vec<_>, _>>()?;
                Identifiers::from(identifiers)
            }
            TERMS_SHARED => Identifiers::Shared(SharedTerms { share: self.share()?, standing: Standing::Logged }),
            _ => return Err(Malformed),
        };
        Ok(Terms { qos, retain, identifiers })
    }

    fn message_record(&mut self) -> Result<MessageRecord<'a>, Malformed> {
        let flags = self.byte()?;
        if flags & !(QOS_BITS | RETAIN | MESSAGE_EXPIRES) != 0 {
            return Err(Malformed);
        }
        let expires_at = if flags & MESSAGE_EXPIRES != 0 { Some(self.moment()?) } else { None };
        Ok(MessageRecord {
            topic: self.text()?,
            properties: self.bytes()?,
            payload: self.bytes()?,
            qos: QoS::from_bits(flags & QOS_BITS).ok_or(Malformed)?,
            retain: flags & RETAIN != 0,
            expires_at,
        })
    }

    fn session_record(&mut self) -> Result<SessionRecord<'a>, Malformed> {
        let session = self.session()?;
        let client_id = self.text()?;
        let expiry = self.expiry()?;
        let next_number = self.number()?;
        let sent_below = self.number()?;
        let flags = self.byte()?;
        if flags & !(SESSION_DISCONNECTED | SESSION_WILL | SESSION_REMOTE) != 0 {
            return Err(Malformed);
        }
        let disconnected_at = if flags & SESSION_DISCONNECTED != 0 { Some(self.moment()?) } else { None };
        let will = if flags & SESSION_WILL != 0 { Some(self.will_record()?) } else { None };
        let remote = if flags & SESSION_REMOTE != 0 { Some(self.remote_session()?) } else { None };
        Ok(SessionRecord { session, client_id, expiry, disconnected_at, next_number, sent_below, will, remote })
    }

    fn remote_session(&mut self) -> Result<RemoteSession, Malformed> {
        RemoteSession::from_mark(self.number()?).ok_or(Malformed)
    }

    fn will_record(&mut self) -> Result<WillRecord<'a>, Malformed> {
        Ok(WillRecord { body: self.message_record()?, expires_after: self.lifetime()?, delay: self.duration()? })
    }
}

#[cfg(test)]
mod tests;
