//! The log for people: records as lines of text or JSON, and sums.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::route::Terms;
use crate::session::SessionExpiry;

use super::image::{DeliveryImage, Image};
use super::record::{LetterPurpose, MessageRecord, Record, SessionRecord};
use super::record_codec::{Kind, kind_of};
use super::recovery::{RecordLocation, Recovered};

/// Bytes of a payload that a line shows.
const PREVIEW_BYTES: usize = 24;

/// One line about a record: where it lies, its kind, and what it says. Of a payload it has the length and the beginning.
pub fn dump_record(record: &Record<'_>, location: RecordLocation, json: bool) -> String {
    let fields = fields_of(record);
    if json {
        let mut line = Map::new();
        line.insert("segment".into(), location.segment.0.into());
        line.insert("offset".into(), location.batch_offset.into());
        line.insert("batch".into(), location.batch.0.into());
        line.insert("sealed_at_ns".into(), location.sealed_at.as_nanos().into());
        line.insert("sequence".into(), location.sequence.into());
        line.insert("bytes".into(), location.bytes.into());
        line.insert("kind".into(), format!("{:?}", kind_of(record)).into());
        line.extend(fields);
        return Value::Object(line).to_string();
    }
    let mut line = format!(
        "{}:{} batch {} record {} {:?}",
        location.segment.0,
        location.batch_offset,
        location.batch.0,
        location.sequence,
        kind_of(record)
    );
    for (name, value) in fields {
        line.push_str(&format!(" {name}={value}"));
    }
    line
}

/// Sums over the records of a log, or of several.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    kinds: [Sum; Kind::ALL.len()],
    batches: u64,
    records: u64,
    /// Of batches with headers and padding.
    batch_bytes: u64,
    record_bytes: u64,
    alive: Alive,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
}

/// What the records add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Alive {
    sessions: u64,
    subscriptions: u64,
    deliveries: u64,
    retained: u64,
    letters: u64,
    /// Of messages, each delivery counted.
    message_bytes: u64,
}

impl Statistics {
    /// Counts one record.
    pub fn record(&mut self, record: &Record<'_>, location: RecordLocation) {
        let sum = &mut self.kinds[kind_of(record) as usize - 1];
        sum.records += 1;
        sum.bytes += location.bytes as u64;
    }

    /// Counts what a whole log has, and what its records have added up to.
    pub fn log(&mut self, recovered: &Recovered, image: &Image) {
        self.batches += recovered.batches;
        self.records += recovered.records;
        self.batch_bytes += recovered.bytes;
        self.record_bytes += recovered.record_bytes;
        let alive = &mut self.alive;
        alive.sessions += image.sessions.len() as u64;
        for session in image.sessions.values() {
            alive.subscriptions += session.subscriptions.len() as u64;
            for delivery in session.deliveries.iter().flatten() {
                alive.deliveries += 1;
                if let DeliveryImage::Open { message, .. } = delivery {
                    alive.message_bytes += message.bytes() as u64;
                }
            }
        }
        alive.retained += image.retained.len() as u64;
        alive.message_bytes += image.retained.values().map(|(message, _)| message.bytes() as u64).sum::<u64>();
        alive.letters += image.outgoing.values().map(|outgoing| outgoing.waiting.len() as u64).sum::<u64>();
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        writeln!(formatter, "{:<20} {:>12} {:>15}", "records of kind", "count", "bytes")?;
        for (kind, Sum { records, bytes }) in Kind::ALL.iter().zip(self.kinds) {
            writeln!(formatter, "{:<20} {records:>12} {bytes:>15}", format!("{kind:?}"))?;
        }
        let Self { batches, records, batch_bytes, record_bytes, .. } = *self;
        let padding = batch_bytes.saturating_sub(record_bytes);
        writeln!(formatter, "{:<20} {records:>12} {record_bytes:>15}", "all")?;
        writeln!(formatter, "batches: {batches}, {:.1} records each", mean(records, batches))?;
        writeln!(
            formatter,
            "bytes of batches: {batch_bytes}, of these headers and padding: {padding} ({:.1} %)",
            100.0 * mean(padding, batch_bytes)
        )?;
        let Alive { sessions, subscriptions, deliveries, retained, letters, message_bytes } = self.alive;
        writeln!(
            formatter,
            "alive: {sessions} sessions, {subscriptions} subscriptions, {deliveries} open deliveries, {retained} retained \
             messages, {letters} letters, {message_bytes} bytes of messages"
        )
    }
}

/// What a record says, by name.
fn fields_of(record: &Record<'_>) -> Map<String, Value> {
    let fields = match record {
        Record::Session(session) => return session_fields(session),
        Record::SessionEnded { session } | Record::HeldReleased { session } => json!({ "session": session.0 }),
        Record::Subscribed { session, filter, subscription } => json!({
            "session": session.0,
            "filter": filter,
            "qos": subscription.options.qos.bits(),
            "identifier": subscription.identifier,
        }),
        Record::Unsubscribed { session, filter } => json!({ "session": session.0, "filter": filter }),
        Record::Received { session, id } | Record::Released { session, id } => {
            json!({ "session": session.0, "packet_id": id.get() })
        }
        Record::Message { message, body } => {
            return with_message(json!({ "message": message.0 }), body);
        }
        Record::Delivered { session, number, message, terms } => {
            with_terms(json!({ "session": session.0, "number": number, "message": message.0 }), terms)
        }
        Record::SentBelow { session, number }
        | Record::Confirmed { session, number }
        | Record::Completed { session, number } => json!({ "session": session.0, "number": number }),
        Record::HeldBack { session, message, terms } => {
            with_terms(json!({ "session": session.0, "message": message.0 }), terms)
        }
        Record::Retained { body, author } => return with_message(json!({ "author": author.0 }), body),
        Record::RetainedRemoved { topic } => json!({ "topic": topic }),
        Record::LetterPosted { purpose, to, body } => {
            let purpose = match purpose {
                LetterPurpose::Deliver => json!("deliver"),
                LetterPurpose::Retain(_) => json!("retain"),
                LetterPurpose::ToMember { client_id, share } => json!({ "to": &**client_id, "group": share.group }),
                LetterPurpose::FromMember { share } => json!({ "back_to": share.group }),
            };
            let to: Vec<_> = to.iter().map(|(shard, letter)| json!([shard.number(), letter.0])).collect();
            return with_message(json!({ "purpose": purpose, "to": to }), body);
        }
        Record::LettersAcknowledged { by: shard, through } | Record::LettersApplied { from: shard, through } => {
            json!({ "shard": shard.number(), "through": through.0 })
        }
    };
    object(fields)
}

fn session_fields(session: &SessionRecord<'_>) -> Map<String, Value> {
    let expiry = match session.expiry {
        SessionExpiry::WithConnection => json!("with the connection"),
        SessionExpiry::After(duration) => json!(duration.as_secs()),
        SessionExpiry::Never => json!("never"),
    };
    let will = session.will.as_ref().map(|will| {
        let delay =
            json!({ "delay_s": will.delay.as_secs(), "expires_after_s": will.expires_after.map(|it| it.as_secs()) });
        with_message(delay, &will.body)
    });
    object(json!({
        "session": session.session.0,
        "client_id": session.client_id,
        "expiry_s": expiry,
        "disconnected_at_ns": session.disconnected_at.map(|moment| moment.as_nanos()),
        "next_number": session.next_number,
        "sent_below": session.sent_below,
        "will": will,
        "remote_knows": session.remote.is_some(),
    }))
}

fn with_terms(mut fields: Value, terms: &Terms) -> Value {
    fields["qos"] = terms.qos.bits().into();
    fields["retain"] = terms.retain.into();
    fields["identifiers"] = terms.identifiers.iter().map(u32::from).collect();
    if let Some(shared) = terms.shared() {
        fields["group"] = (&*shared.share.group).into();
    }
    fields
}

fn with_message(mut fields: Value, message: &MessageRecord<'_>) -> Map<String, Value> {
    fields["topic"] = message.topic.as_ref().into();
    fields["qos"] = message.qos.bits().into();
    fields["retain"] = message.retain.into();
    fields["expires_at_ns"] = message.expires_at.map(|moment| moment.as_nanos()).into();
    fields["properties_bytes"] = message.properties.len().into();
    fields["payload_bytes"] = message.payload.len().into();
    fields["payload"] = preview(&message.payload).into();
    object(fields)
}

/// The beginning of a payload: as text if that is what it is, else in hexadecimal behind `0x`.
fn preview(payload: &[u8]) -> String {
    let shown = &payload[..payload.len().min(PREVIEW_BYTES)];
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() && shown.len() < payload.len() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) if !text.contains(char::is_control) => text.to_owned(),
        Some(_) | None => shown.iter().fold(String::from("0x"), |hexadecimal, byte| format!("{hexadecimal}{byte:02x}")),
    }
}

fn object(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        other => unreachable!("fields have names: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Author;
    use crate::store::record::SessionId;
    use crate::store::testing::{Disk, config, expected, message, session};
    use crate::store::{Log, LogEnd, LogPosition, RecoveryMode, SegmentNumber, recover};
    use crate::time::Timestamp;

    fn location() -> RecordLocation {
        RecordLocation {
            segment: SegmentNumber(3),
            batch_offset: 8192,
            batch: LogPosition(17),
            sealed_at: Timestamp::from_nanos(5),
            index: 0,
            sequence: 99,
            bytes: 40,
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let record = Record::Completed { session: SessionId(7), number: 12 };
        assert_eq!(dump_record(&record, location(), false), "3:8192 batch 17 record 99 Completed number=12 session=7");
        let json: Value = serde_json::from_str(&dump_record(&record, location(), true)).expect("it is JSON");
        assert_eq!(
            json,
            json!({
                "segment": 3, "offset": 8192, "batch": 17, "sealed_at_ns": 5, "sequence": 99, "bytes": 40,
                "kind": "Completed", "session": 7, "number": 12,
            })
        );
    }

    #[test]
    fn a_payload_is_shown_in_part() {
        let long = "é".repeat(20);
        for (payload, shown) in [
            ("22.5".as_bytes(), "22.5"),
            (b"", ""),
            (&[0xFF, 0x00, 0x10], "0xff0010"),
            (b"two\nlines", "0x74776f0a6c696e6573"),
            (long.as_bytes(), &long[..24]),
            (&long.as_bytes()[1..], "0xa9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3"),
        ] {
            assert_eq!(preview(payload), shown);
        }
        let cut = format!("x{long}");
        assert_eq!(preview(cut.as_bytes()), cut[..23]);
    }

    #[test]
    fn sums_are_those_of_the_log() {
        let mut log = Log::new(config(1 << 20), LogEnd::default());
        let mut disk = Disk::default();
        disk.append(
            &mut log,
            &[session(1, "one"), Record::Retained { body: message("22.5"), author: Author::of("one") }],
        );
        disk.append(&mut log, &[session(2, "two")]);
        let mut statistics = Statistics::default();
        let mut image = Image::default();
        let mut apply = |record: &Record<'_>, location: RecordLocation| {
            statistics.record(record, location);
            image.apply(record);
        };
        let recovered = recover(&mut disk, expected(), RecoveryMode::Strict, &mut |_| {}, &mut apply);
        statistics.log(&recovered.expect("it is sound"), &image);
        let text = statistics.to_string();
        assert!(text.contains("Session                         2 "), "{text}");
        assert!(text.contains("batches: 2, 1.5 records each"), "{text}");
        assert!(text.contains("alive: 2 sessions, 0 subscriptions, 0 open deliveries, 1 retained messages"), "{text}");
    }
}
