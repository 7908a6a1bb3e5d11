use proptest::prelude::*;

use super::*;
use crate::proto::{QoS, SubscriptionOptions};
use crate::store::testing::{any_record, message, session, terms};

fn image_of<'a, 'b: 'a>(records: impl IntoIterator<Item = &'a Record<'b>>) -> Image {
    let mut image = Image::default();
    for record in records {
        image.apply(record);
    }
    image
}

fn records_of(image: &Image) -> Vec<Record<'static>> {
    let mut records = Vec::new();
    image.records(&mut |record| records.push(owned(record)));
    records
}

/// The record with all its parts in memory of its own.
fn owned(record: &Record<'_>) -> Record<'static> {
    use crate::store::format::RECORD_HEADER_BYTES;
    use crate::store::record_codec;

    let mut bytes = Vec::new();
    record_codec::append(&mut bytes, 0, 0, record);
    let bytes: &'static [u8] = bytes.leak();
    record_codec::decode(bytes[RECORD_HEADER_BYTES - 1], &bytes[RECORD_HEADER_BYTES..]).expect("it is a record")
}

fn delivered(session: u32, number: DeliveryNumber, message: u32) -> Record<'static> {
    Record::Delivered { session: SessionId(session), number, message: MessageId(message), terms: Cow::Owned(terms()) }
}

fn named(id: u32, name: &str) -> Record<'static> {
    Record::Message { message: MessageId(id), body: message(name) }
}

#[test]
fn what_is_said_of_an_unknown_session_is_ignored() {
    let session = SessionId(1);
    let records = [
        named(1, "m"),
        delivered(1, 0, 1),
        Record::HeldBack { session, message: MessageId(1), terms: Cow::Owned(terms()) },
        Record::Received { session, id: PacketId::MIN },
        Record::Confirmed { session, number: 3 },
        Record::SessionEnded { session },
    ];
    assert_eq!(image_of(&records), Image::default());
}

#[test]
fn a_message_id_stands_for_the_last_message_of_that_name() {
    let image =
        image_of(&[session(1, "one"), named(7, "old"), delivered(1, 0, 7), named(7, "new"), delivered(1, 1, 7)]);
    let payloads: Vec<_> = image.sessions[&1]
        .deliveries
        .iter()
        .map(|delivery| match delivery {
            Some(DeliveryImage::Open { message, .. }) => message.payload().to_vec(),
            other => panic!("not open: {other:?}"),
        })
        .collect();
    assert_eq!(payloads, [b"old", b"new"]);
}

#[test]
fn a_checkpoint_repeats_old_deliveries_behind_new_ones() {
    let mut image = image_of(&[session(1, "one"), named(1, "m"), delivered(1, 9, 1)]);
    for record in [delivered(1, 5, 1), Record::Confirmed { session: SessionId(1), number: 3 }] {
        image.apply(&record);
    }
    let session = &image.sessions[&1];
    let open: Vec<_> = session.deliveries.iter().map(Option::is_some).collect();
    assert_eq!(open, [true, false, true, false, false, false, true]);
    assert_eq!((session.first_number, session.next_number), (3, 10));
}

#[test]
fn what_is_over_leaves_no_trace_at_either_end() {
    let mut image = image_of(&[session(1, "one"), named(1, "m")]);
    for number in 0..5 {
        image.apply(&delivered(1, number, 1));
    }
    let complete = |image: &mut Image, number| {
        image.apply(&Record::Completed { session: SessionId(1), number });
        let session = &image.sessions[&1];
        (session.first_number, session.deliveries.len())
    };
    assert_eq!(complete(&mut image, 1), (0, 5));
    assert_eq!(complete(&mut image, 0), (2, 3));
    assert_eq!(complete(&mut image, 0), (2, 3), "it is over already");
    assert_eq!(complete(&mut image, 4), (2, 2));
    assert_eq!(complete(&mut image, 9), (2, 2), "there is no such delivery");
    assert_eq!(complete(&mut image, 2), (3, 1));
    assert_eq!(complete(&mut image, 3), (5, 0));
    assert_eq!(image.sessions[&1].next_number, 5);
}

#[test]
fn acknowledged_letters_do_not_come_back() {
    let shard = ShardId::new(2).expect("below the maximum");
    let posted = |letter| Record::LetterPosted {
        purpose: LetterPurpose::Deliver,
        to: Cow::Owned(vec![(shard, LetterNumber(letter))]),
        body: message("m"),
    };
    let acknowledged = |through| Record::LettersAcknowledged { by: shard, through: LetterNumber(through) };
    let image = image_of(&[posted(1), posted(2), posted(3), acknowledged(2), posted(1), acknowledged(1)]);
    let outgoing = &image.outgoing[&2];
    assert_eq!(outgoing.acknowledged, LetterNumber(2));
    assert_eq!(outgoing.waiting.keys().collect::<Vec<_>>(), [&LetterNumber(3)]);
}

#[test]
fn deliveries_of_one_message_share_it_in_a_checkpoint() {
    let image = image_of(&[
        session(1, "one"),
        session(2, "two"),
        named(1, "shared"),
        delivered(1, 0, 1),
        delivered(2, 0, 1),
        delivered(2, 1, 1),
    ]);
    let records = records_of(&image);
    assert_eq!(records.iter().filter(|record| matches!(record, Record::Message { .. })).count(), 1);
    assert_eq!(image_of(&records), image);
}

#[test]
fn a_number_that_makes_no_sense_asks_for_no_memory() {
    let mut image = image_of(&[session(1, "one"), named(u32::MAX, "m"), delivered(1, 0, u32::MAX)]);
    for number in [u64::MAX, DELIVERY_SPAN_MAX * 2, u64::MAX - 1] {
        image.apply(&delivered(1, number, u32::MAX));
        image.apply(&Record::Confirmed { session: SessionId(1), number });
        image.apply(&Record::Completed { session: SessionId(1), number });
    }
    assert_eq!(image.sessions[&1].deliveries.len(), 1);
}

#[test]
fn an_open_delivery_has_a_known_cost() {
    assert_eq!(size_of::<Option<DeliveryImage>>(), 104);
    assert_eq!(size_of::<Option<Message>>(), 72);
}

proptest! {
    #[test]
    fn a_checkpoint_of_an_image_adds_up_to_it(records in prop::collection::vec(any_record(), 0..60)) {
        let image = image_of(&records);
        let checkpoint = records_of(&image);
        prop_assert_eq!(image_of(&checkpoint), image.clone());
        prop_assert_eq!(image_of(checkpoint.iter().chain(&checkpoint)), image, "it can be applied on top of itself");
    }

    /// The log is cut where the checkpoint begins; between the pieces of the checkpoint the shard goes on.
    #[test]
    fn a_log_that_begins_with_a_checkpoint_adds_up_to_the_same(
        before in prop::collection::vec(any::<[u8; 4]>(), 0..80),
        during in prop::collection::vec(prop::collection::vec(any::<[u8; 4]>(), 0..8), Writer::PIECES),
        after in prop::collection::vec(any::<[u8; 4]>(), 0..30),
    ) {
        let mut writer = Writer::default();
        for step in &before {
            writer.step(*step);
        }
        let cut = writer.log.len();
        for (piece, steps) in during.iter().enumerate() {
            writer.checkpoint(piece);
            for step in steps {
                writer.step(*step);
            }
        }
        for step in &after {
            writer.step(*step);
        }
        prop_assert_eq!(image_of(&writer.log), writer.image.clone(), "of the whole log");
        prop_assert_eq!(image_of(&writer.log[cut..]), writer.image, "of what a cleaning leaves");
    }
}

/// A shard reduced to what it logs: every record is one that its state allows.
#[derive(Default)]
struct Writer {
    log: Vec<Record<'static>>,
    image: Image,
    /// Messages named so far; no name is used twice here.
    names: u32,
    letters: [u64; 2],
}

impl Writer {
    const SESSIONS: u32 = 3;
    /// One for each session, one for what is retained, one for the letters.
    const PIECES: usize = Self::SESSIONS as usize + 2;

    fn write(&mut self, record: Record<'static>) {
        self.image.apply(&record);
        self.log.push(record);
    }

    fn name(&mut self) -> MessageId {
        self.names += 1;
        let message = MessageId(self.names);
        self.write(Record::Message { message, body: message_of(self.names) });
        message
    }

    fn step(&mut self, [kind, which, number, choice]: [u8; 4]) {
        let id = u32::from(which) % Self::SESSIONS;
        let session = SessionId(id);
        let shard = ShardId::new(u16::from(which) % 2).expect("below the maximum");
        let letter = usize::from(which) % 2;
        let topic = format!("t/{}", number % 3);
        match kind % 16 {
            0..2 => self.write_head(session, choice),
            2..9 if !self.image.sessions.contains_key(&id) => self.write_head(session, choice),
            2 if choice < 60 => self.write(Record::SessionEnded { session }),
            2 => self.write(Record::SentBelow { session, number: number.into() }),
            3 if choice < 128 => self.write(Record::Subscribed {
                session,
                filter: topic.into(),
                subscription: Subscription {
                    options: SubscriptionOptions::from_qos(QoS::ExactlyOnce),
                    identifier: std::num::NonZeroU32::new(choice.into()),
                },
            }),
            3 => self.write(Record::Unsubscribed { session, filter: topic.into() }),
            4 => {
                let id = PacketId::new(u16::from(number % 4) + 1).expect("not zero");
                let record =
                    if choice < 128 { Record::Received { session, id } } else { Record::Released { session, id } };
                self.write(record);
            }
            5 => {
                let message = self.name();
                let number = self.image.sessions[&id].next_number;
                self.write(Record::Delivered { session, number, message, terms: Cow::Owned(terms()) });
            }
            6 | 7 => {
                let image = &self.image.sessions[&id];
                let number = image.first_number + u64::from(number) % (image.deliveries.len() as u64 + 1);
                let is_open = number < image.next_number
                    && image.deliveries.get((number - image.first_number) as usize).is_some_and(Option::is_some);
                if is_open && choice < 128 {
                    self.write(Record::Confirmed { session, number });
                } else if is_open {
                    self.write(Record::Completed { session, number });
                }
            }
            8 if choice < 160 => {
                let message = self.name();
                self.write(Record::HeldBack { session, message, terms: Cow::Owned(terms()) });
            }
            8 => {
                let held = self.image.sessions[&id].held_back.len();
                self.write(Record::HeldReleased { session });
                for _ in 0..held {
                    self.step([5, which, 0, 0]);
                }
            }
            9 | 10 => self.write(Record::Retained {
                body: MessageRecord { topic: topic.into(), ..message("kept") },
                author: Author(choice.into()),
            }),
            11 => self.write(Record::RetainedRemoved { topic: topic.into() }),
            12 | 13 => {
                self.letters[letter] += 1;
                let to = vec![(shard, LetterNumber(self.letters[letter]))];
                self.write(Record::LetterPosted {
                    purpose: LetterPurpose::Deliver,
                    to: to.into(),
                    body: message("letter"),
                });
            }
            14 => {
                let through = LetterNumber(u64::from(number) % (self.letters[letter] + 1));
                self.write(Record::LettersAcknowledged { by: shard, through });
            }
            _ => {
                let known = self.image.incoming.get(&shard.number()).map_or(0, |letter| letter.0);
                self.write(Record::LettersApplied { from: shard, through: LetterNumber(known + 1) });
            }
        }
    }

    fn write_head(&mut self, session: SessionId, choice: u8) {
        let known = self.image.sessions.get(&session.0);
        let client_id = known.map_or_else(|| format!("client-{choice}"), |known| known.client_id.to_string());
        self.write(Record::Session(SessionRecord {
            session,
            client_id: client_id.into(),
            expiry: SessionExpiry::Never,
            disconnected_at: Some(Timestamp::from_nanos(choice.into())),
            next_number: known.map_or(0, |known| known.next_number),
            sent_below: choice.into(),
            will: None,
            remote: None,
        }));
    }

    /// Repeats a part of the state.
    fn checkpoint(&mut self, piece: usize) {
        let Image { sessions, retained, outgoing, incoming, reading: _ } = self.image.clone();
        let mut part = Image::default();
        match piece.checked_sub(Self::SESSIONS as usize) {
            None => part.sessions = sessions.into_iter().filter(|(id, _)| *id as usize == piece).collect(),
            Some(0) => part.retained = retained,
            Some(_) => (part.outgoing, part.incoming) = (outgoing, incoming),
        }
        // The names of the part are its own: they go behind those that were given.
        let given = self.names;
        for mut record in records_of(&part) {
            match &mut record {
                Record::Message { message, .. }
                | Record::Delivered { message, .. }
                | Record::HeldBack { message, .. } => {
                    message.0 += given + 1;
                    self.names = self.names.max(message.0);
                }
                _ => {}
            }
            self.write(record);
        }
    }
}

fn message_of(name: u32) -> MessageRecord<'static> {
    message(&name.to_string())
}
