//! A disk double and random records, for the tests of the log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::fault::PlantedFault;
use crate::proto::{PacketId, QoS, SubscriptionOptions, Version};
use crate::route::{Author, Identifiers, MAX_SHARDS, ShardId, Share, SharedTerms, Standing, Subscription, Terms};
use crate::session::{RemoteSession, SessionExpiry};
use crate::time::Timestamp;

use super::log::{Log, LogConfig, LogEnd, LogWrite, SegmentNumber};
use super::record::{
    LetterNumber, LetterPurpose, MessageId, MessageRecord, Record, SessionId, SessionRecord, WillRecord,
};
use super::recovery::{Expected, Recovered, RecoveryError, RecoveryMode, Segments, recover};
use super::{Image, RecordLocation};

/// Late enough for every batch to go.
pub(super) const LATER: Timestamp = Timestamp::from_nanos(u64::MAX / 2);

/// The configuration of a log with segments of this length.
pub(super) fn config(segment_bytes: u64) -> LogConfig {
    LogConfig {
        generation: 3,
        shard: 5,
        salt: 0x5A17_5A17_5A17_5A17,
        segment_bytes,
        commit_delay: Duration::ZERO,
        is_synced: true,
        fault: PlantedFault::default(),
    }
}

/// The log that [`config`] is of.
pub(super) fn expected() -> Expected {
    Expected { generation: 3, shard: 5, fault: PlantedFault::default() }
}

/// Segments in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Disk {
    pub(super) segments: BTreeMap<SegmentNumber, Vec<u8>>,
}

impl Disk {
    /// Writes over what is there.
    pub(super) fn write(&mut self, write: &LogWrite) {
        let segment = self.segments.entry(write.segment).or_default();
        let start = write.offset as usize;
        let end = start + write.bytes.len();
        if segment.len() < end {
            segment.resize(end, 0);
        }
        segment[start..end].copy_from_slice(&write.bytes);
    }

    /// Writes all that waits.
    pub(super) fn commit(&mut self, log: &mut Log) {
        log.wait_for_appended();
        for now in [Timestamp::default(), LATER] {
            while let Some(write) = log.poll_write(now) {
                self.write(&write);
                log.handle_written(write, Ok(()));
            }
        }
    }

    /// Appends records as one batch.
    pub(super) fn append(&mut self, log: &mut Log, records: &[Record<'_>]) {
        for record in records {
            log.append(record);
        }
        self.commit(log);
    }

    /// Reads the log.
    pub(super) fn recover(&mut self, mode: RecoveryMode) -> Result<(Image, Recovered), RecoveryError> {
        let mut image = Image::default();
        let mut apply = |record: &Record<'_>, _: RecordLocation| image.apply(record);
        let recovered = recover(self, expected(), mode, &mut |_| {}, &mut apply)?;
        Ok((image, recovered))
    }

    /// Cuts every segment to what counts, as a driver does before the log goes on.
    pub(super) fn truncate(&mut self, end: &LogEnd) {
        for (segment, length) in &end.segments {
            self.segments.get_mut(segment).expect("it was read").truncate(*length as usize);
        }
    }
}

impl Segments for Disk {
    fn numbers(&self) -> Vec<SegmentNumber> {
        self.segments.keys().copied().collect()
    }

    fn read(&mut self, segment: SegmentNumber) -> io::Result<Vec<u8>> {
        self.segments.get(&segment).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A message, with its name in the payload.
pub(super) fn message(name: &str) -> MessageRecord<'static> {
    MessageRecord {
        topic: Cow::Borrowed("sensors/temperature"),
        properties: Cow::Borrowed(&[]),
        payload: Cow::Owned(name.as_bytes().to_vec()),
        qos: QoS::ExactlyOnce,
        retain: false,
        expires_at: None,
    }
}

/// The head of a session.
pub(super) fn session(id: u32, client_id: &str) -> Record<'static> {
    Record::Session(SessionRecord {
        session: SessionId(id),
        client_id: Cow::Owned(client_id.to_owned()),
        expiry: SessionExpiry::Never,
        disconnected_at: None,
        next_number: 0,
        sent_below: 0,
        will: None,
        remote: None,
    })
}

/// Terms without identifiers.
pub(super) fn terms() -> Terms {
    Terms { qos: QoS::ExactlyOnce, retain: false, identifiers: Identifiers::None }
}

/// Any record of any kind.
pub(super) fn any_record() -> impl Strategy<Value = Record<'static>> {
    let session = || any_small().prop_map(SessionId);
    let message = || any_small().prop_map(MessageId);
    let number = || prop_oneof![0..100_u64, any::<u64>()];
    let letter = || prop_oneof![0..100_u64, any::<u64>()].prop_map(LetterNumber);
    let id = || (1..=u16::MAX).prop_map(|id| PacketId::new(id).expect("from 1 on"));
    let terms = || any_terms().prop_map(Cow::Owned);
    prop_oneof![
        any_session().prop_map(Record::Session),
        session().prop_map(|session| Record::SessionEnded { session }),
        (session(), any_text(), any_subscription()).prop_map(|(session, filter, subscription)| Record::Subscribed {
            session,
            filter,
            subscription
        }),
        (session(), any_text()).prop_map(|(session, filter)| Record::Unsubscribed { session, filter }),
        (session(), id()).prop_map(|(session, id)| Record::Received { session, id }),
        (session(), id()).prop_map(|(session, id)| Record::Released { session, id }),
        (message(), any_message()).prop_map(|(message, body)| Record::Message { message, body }),
        (session(), number(), message(), terms()).prop_map(|(session, number, message, terms)| Record::Delivered {
            session,
            number,
            message,
            terms
        }),
        (session(), number()).prop_map(|(session, number)| Record::SentBelow { session, number }),
        (session(), number()).prop_map(|(session, number)| Record::Confirmed { session, number }),
        (session(), number()).prop_map(|(session, number)| Record::Completed { session, number }),
        (session(), message(), terms()).prop_map(|(session, message, terms)| Record::HeldBack {
            session,
            message,
            terms
        }),
        session().prop_map(|session| Record::HeldReleased { session }),
        (any_message(), any_author()).prop_map(|(body, author)| Record::Retained { body, author }),
        any_text().prop_map(|topic| Record::RetainedRemoved { topic }),
        (any_purpose(), prop::collection::vec((any_shard(), letter()), 0..5), any_message())
            .prop_map(|(purpose, to, body)| Record::LetterPosted { purpose, to: Cow::Owned(to), body }),
        (any_shard(), letter()).prop_map(|(by, through)| Record::LettersAcknowledged { by, through }),
        (any_shard(), letter()).prop_map(|(from, through)| Record::LettersApplied { from, through }),
    ]
}

fn any_small() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..4_u32, 1 => any::<u32>()]
}

fn any_text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof!["[a-c/]{0,4}", "\\PC{0,300}"].prop_map(Cow::Owned)
}

fn any_bytes() -> impl Strategy<Value = Cow<'static, [u8]>> {
    prop::collection::vec(any::<u8>(), 0..600).prop_map(Cow::Owned)
}

fn any_moment() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn any_duration() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds))
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn any_shard() -> impl Strategy<Value = ShardId> {
    (0..MAX_SHARDS as u16).prop_map(|number| ShardId::new(number).expect("below the maximum"))
}

fn any_purpose() -> impl Strategy<Value = LetterPurpose> {
    prop_oneof![
        Just(LetterPurpose::Deliver),
        any_author().prop_map(LetterPurpose::Retain),
        (any_text(), any_share())
            .prop_map(|(client_id, share)| LetterPurpose::ToMember { client_id: (&*client_id).into(), share }),
        any_share().prop_map(|share| LetterPurpose::FromMember { share }),
    ]
}

fn any_author() -> impl Strategy<Value = Author> {
    any::<u64>().prop_map(Author)
}

fn any_share() -> impl Strategy<Value = Arc<Share>> {
    (any_text(), any_subscription())
        .prop_map(|(group, subscription)| Arc::new(Share { group: (&*group).into(), subscription }))
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let several = prop::collection::vec((1..=u32::MAX).prop_map(|id| NonZeroU32::new(id).expect("from 1 on")), 0..4);
    let identifiers = prop_oneof![
        several.prop_map(Identifiers::from),
        any_share().prop_map(|share| Identifiers::Shared(SharedTerms { share, standing: Standing::Logged })),
    ];
    (any_qos(), any::<bool>(), identifiers).prop_map(|(qos, retain, identifiers)| Terms { qos, retain, identifiers })
}

fn any_subscription() -> impl Strategy<Value = Subscription> {
    let options = any::<u8>()
        .prop_filter_map("legal options", |bits| SubscriptionOptions::from_bits(Version::V5, bits & 0b11_1111).ok());
    (options, any::<u32>())
        .prop_map(|(options, identifier)| Subscription { options, identifier: NonZeroU32::new(identifier) })
}

fn any_message() -> impl Strategy<Value = MessageRecord<'static>> {
    (any_text(), any_bytes(), any_bytes(), any_qos(), any::<bool>(), prop::option::of(any_moment())).prop_map(
        |(topic, properties, payload, qos, retain, expires_at)| MessageRecord {
            topic,
            properties,
            payload,
            qos,
            retain,
            expires_at,
        },
    )
}

fn any_session() -> impl Strategy<Value = SessionRecord<'static>> {
    let expiry = prop_oneof![
        Just(SessionExpiry::WithConnection),
        any_duration().prop_map(SessionExpiry::After),
        Just(SessionExpiry::Never)
    ];
    let will = (any_message(), prop::option::of(any_duration()), any_duration())
        .prop_map(|(body, expires_after, delay)| WillRecord { body, expires_after, delay });
    let numbers = (prop_oneof![0..100_u64, any::<u64>()], prop_oneof![0..100_u64, any::<u64>()]);
    let ends = (prop::option::of(will), prop_oneof![Just(0_u64), any::<u64>()].prop_map(RemoteSession::from_mark));
    (any_small(), any_text(), expiry, prop::option::of(any_moment()), numbers, ends).prop_map(
        |(session, client_id, expiry, disconnected_at, (next_number, sent_below), (will, remote))| SessionRecord {
            session: SessionId(session),
            client_id,
            expiry,
            disconnected_at,
            next_number,
            sent_below,
            will,
            remote,
        },
    )
}
