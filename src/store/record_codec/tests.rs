use proptest::prelude::*;

use super::*;
use crate::store::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Owner, RECORD_HEADER_BYTES};
use crate::store::log::SegmentNumber;
use crate::store::testing::{any_record, message, terms};

/// The bytes of one record, with the seed 0 and the sequence number 7.
fn bytes_of(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, 0, 7, record);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_was(record in any_record()) {
        let bytes = bytes_of(&record);
        prop_assert_eq!(decode(bytes[RECORD_HEADER_BYTES - 1], &bytes[RECORD_HEADER_BYTES..]), Ok(record));
    }

    #[test]
    fn a_record_that_is_cut_or_longer_says_nothing(record in any_record(), more in any::<u8>()) {
        let mut bytes = bytes_of(&record);
        let kind = bytes[RECORD_HEADER_BYTES - 1];
        for end in RECORD_HEADER_BYTES..bytes.len() {
            prop_assert_eq!(decode(kind, &bytes[RECORD_HEADER_BYTES..end]), Err(Malformed));
        }
        bytes.push(more);
        prop_assert_eq!(decode(kind, &bytes[RECORD_HEADER_BYTES..]), Err(Malformed));
    }

    #[test]
    fn arbitrary_bytes_are_a_record_or_none(kind in 0..20_u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = decode(kind, &body) {
            let bytes = bytes_of(&record);
            prop_assert_eq!(decode(kind, &bytes[RECORD_HEADER_BYTES..]), Ok(record));
        }
    }

    #[test]
    fn the_records_of_a_batch_come_back_in_order(records in prop::collection::vec(any_record(), 1..20)) {
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        let owner = Owner { generation: 1, shard: 0, segment: SegmentNumber(1), salt: 99 };
        let seed = crate::store::format::record_seed(owner.salt, 12);
        for (sequence, record) in (u64::from(u32::MAX)..).zip(&records) {
            append(&mut bytes, seed, sequence, record);
        }
        let header = BatchHeader {
            owner,
            batch: 12,
            synced_through: 11,
            first_sequence: u32::MAX.into(),
            sealed_at: Timestamp::default(),
            length: bytes.len() as u32,
            records: records.len() as u32,
        };
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut read = Vec::new();
        for frame in header.records(&bytes).expect("all of it is there") {
            let frame = frame.expect("it is whole");
            prop_assert!(frame.is_sound());
            prop_assert_eq!(frame.sequence, u64::from(u32::MAX) + u64::from(frame.index));
            read.push(decode(frame.kind, frame.body).expect("it is a record"));
        }
        prop_assert_eq!(read, records);
    }
}

#[test]
fn a_count_allocates_no_more_than_is_there() {
    let mut body = Vec::new();
    put(&mut body, [0; 16]);
    put(&mut body, [TERMS_SEVERAL_IDENTIFIERS]);
    put(&mut body, u32::MAX.to_le_bytes());
    assert_eq!(decode(Kind::Delivered as u8, &body), Err(Malformed));
    let mut body = vec![0];
    put(&mut body, u16::MAX.to_le_bytes());
    assert_eq!(decode(Kind::LetterPosted as u8, &body), Err(Malformed));
}

/// Whoever changes one of these must raise the version of the format.
#[test]
fn the_bytes_of_every_kind_are_pinned() {
    let session = SessionId(0x0102_0304);
    let number = 0x1112_1314_1516_1718;
    let message_id = MessageId(0x2122_2324);
    let id = PacketId::new(0x3132).expect("not zero");
    let shard = ShardId::new(0x21).expect("below the maximum");
    let letter = LetterNumber(0x4142_4344_4546_4748);
    let identifier = |value| NonZeroU32::new(value).expect("not zero");
    let body = || MessageRecord {
        topic: "t/é".into(),
        properties: Cow::Borrowed(&[1, 1]),
        retain: true,
        expires_at: Some(Timestamp::from_nanos(0x5152_5354_5556_5758)),
        ..message("22.5")
    };
    let several = Identifiers::from(vec![identifier(1), identifier(0x6162_6364)]);
    let pinned = [
        (
            Record::Session(SessionRecord {
                session,
                client_id: "c1".into(),
                expiry: SessionExpiry::After(Duration::new(60, 5)),
                disconnected_at: Some(Timestamp::from_nanos(9)),
                next_number: number,
                sent_below: 3,
                will: Some(WillRecord {
                    body: message("gone"),
                    expires_after: Some(Duration::from_secs(7)),
                    delay: Duration::from_secs(8),
                }),
                remote: None,
            }),
            "66810cae7600000007000000010403020102006331013c00000000000000050000001817161514131211030000000000\
             000003090000000000000002130073656e736f72732f74656d70657261747572650000000004000000676f6e65010700\
             00000000000000000000080000000000000000000000",
        ),
        (Record::SessionEnded { session }, "edd3fe7c11000000070000000204030201"),
        (
            Record::Subscribed {
                session,
                filter: "a/+".into(),
                subscription: Subscription {
                    options: SubscriptionOptions::from_qos(QoS::AtLeastOnce),
                    identifier: Some(identifier(300)),
                },
            },
            "9a27903b1b0000000700000003040302010300612f2b012c010000",
        ),
        (Record::Unsubscribed { session, filter: "a/+".into() }, "44a87e46160000000700000004040302010300612f2b"),
        (Record::Received { session, id }, "cb5efafd130000000700000005040302013231"),
        (Record::Released { session, id }, "932bff45130000000700000006040302013231"),
        (
            Record::Message { message: message_id, body: body() },
            "f3c7abc42e0000000700000007242322210e58575655545352510400742fc3a90200000001010400000032322e35",
        ),
        (
            Record::Delivered { session, number, message: message_id, terms: Cow::Owned(terms()) },
            "859dd52c1e00000007000000080403020118171615141312112423222102",
        ),
        (Record::SentBelow { session, number }, "a5431107190000000700000009040302011817161514131211"),
        (Record::Confirmed { session, number }, "0a0b675619000000070000000a040302011817161514131211"),
        (Record::Completed { session, number }, "6f33b56619000000070000000b040302011817161514131211"),
        (
            Record::HeldBack {
                session,
                message: message_id,
                terms: Cow::Owned(Terms { retain: true, identifiers: several, ..terms() }),
            },
            "0fa5ee2f22000000070000000c040302012423222116020000000100000064636261",
        ),
        (Record::HeldReleased { session }, "38d6ef1111000000070000000d04030201"),
        (
            Record::Retained { body: body(), author: Author(5) },
            "4f71b9a232000000070000000e05000000000000000e58575655545352510400742fc3a902000000010104000000323\
             22e35",
        ),
        (Record::RetainedRemoved { topic: "t".into() }, "0ae2173410000000070000000f010074"),
        (
            Record::LetterPosted {
                purpose: LetterPurpose::Retain(Author(6)),
                to: Cow::Owned(vec![(shard, letter), (shard, LetterNumber(2))]),
                body: message("x"),
            },
            "05f2ee544b00000007000000100106000000000000000200210048474645444342412100020000000000000002130073\
             656e736f72732f74656d7065726174757265000000000100000078",
        ),
        (Record::LettersAcknowledged { by: shard, through: letter }, "3fd70c2b17000000070000001121004847464544434241"),
        (Record::LettersApplied { from: shard, through: letter }, "8db9729717000000070000001221004847464544434241"),
    ];
    for (index, (record, bytes)) in pinned.iter().enumerate() {
        assert_eq!(kind_of(record) as usize, index + 1, "there is one of each kind");
        assert_eq!(hex(&bytes_of(record)), *bytes, "{record:?}");
    }
}
