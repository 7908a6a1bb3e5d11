//! Reading back what a running broker has logged: deliveries that are not held in memory.
//!
//! What is read is known to be whole and stable, so whatever is wrong with it is damage. It needs no salt to tell it from
//! the leavings of an older use of the file: those lie behind the tail, or have other numbers.

use std::fmt;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::route::Terms;

use super::format::{BatchHeader, Flaw, Frame};
use super::log::{LogPosition, SegmentNumber};
use super::record::{DeliveryNumber, MessageId, MessageRecord, Record, SessionId};
use super::record_codec::{self, Kind};

/// A part of the log to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRead {
    /// From which segment.
    pub segment: SegmentNumber,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes; a multiple of the block size.
    pub bytes: usize,
    /// The batch that lies there.
    pub(super) first: LogPosition,
}

/// A batch that was on stable storage and is not there any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamagedBatch {
    /// In which segment.
    pub segment: SegmentNumber,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: Flaw,
}

/// Whole batches, one behind the other; the last one may go beyond the end of the bytes and is then left out.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    generation: u64,
    shard: u16,
    segment: SegmentNumber,
    /// Of the first byte of `rest` in the segment.
    offset: u64,
    rest: &'a [u8],
    next: LogPosition,
}

/// A batch whose records are what was written.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Its number.
    pub number: LogPosition,
    place: DamagedBatch,
    header: BatchHeader,
    bytes: &'a [u8],
    /// Sessions that end in it, with the indexes of the records that say so.
    ended: Vec<(SessionId, u32)>,
}

/// A delivery together with its message.
#[derive(Clone, PartialEq, Debug)]
pub struct LoggedDelivery<'a> {
    /// The subscriber's session.
    pub session: SessionId,
    /// Its number in the session.
    pub number: DeliveryNumber,
    /// How the session gets the message.
    pub terms: &'a Terms,
    /// The message.
    pub body: &'a MessageRecord<'a>,
    /// Index of the message's record in the batch: equal for deliveries of the same message.
    pub body_index: u32,
}

impl LogRead {
    /// The batches in the bytes that were read.
    pub(super) fn batches<'a>(&self, bytes: &'a [u8], generation: u64, shard: u16) -> Batches<'a> {
        let &LogRead { segment, offset, bytes: _, first } = self;
        Batches { generation, shard, segment, offset, rest: bytes, next: first }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, DamagedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let place = |reason| DamagedBatch { segment: self.segment, offset: self.offset, reason };
        let header = match BatchHeader::decode(self.rest) {
            Ok(header) => header,
            Err(reason) => return Some(Err(place(reason))),
        };
        let owner = &header.owner;
        if owner.generation != self.generation || owner.shard != self.shard || owner.segment != self.segment {
            return Some(Err(place(Flaw::NotOurs)));
        }
        if header.batch != self.next.0 {
            return Some(Err(place(Flaw::BatchNumber { found: header.batch, expected: self.next.0 })));
        }
        let (bytes, rest) = self.rest.split_at_checked(header.padded_bytes())?;
        let batch = Batch::check(place(Flaw::RecordNumber), header, bytes);
        self.rest = rest;
        self.offset += bytes.len() as u64;
        self.next = LogPosition(self.next.0 + 1);
        Some(batch)
    }
}

impl<'a> Batch<'a> {
    fn check(place: DamagedBatch, header: BatchHeader, bytes: &'a [u8]) -> Result<Self, DamagedBatch> {
        let damaged = |reason| DamagedBatch { reason, ..place };
        let mut ended = Vec::new();
        for frame in header.records(bytes).map_err(damaged)? {
            let frame = frame.map_err(damaged)?;
            if !frame.is_sound() {
                return Err(damaged(Flaw::RecordChecksum { record: frame.index }));
            }
            if frame.kind == Kind::SessionEnded as u8
                && let Record::SessionEnded { session } = decoded(&frame).map_err(damaged)?
            {
                ended.push((session, frame.index));
            }
        }
        Ok(Self { number: LogPosition(header.batch), place, header, bytes, ended })
    }

    /// The complaint that a delivery should lie here, or before, and does not.
    pub fn without_delivery(&self) -> DamagedBatch {
        DamagedBatch { reason: Flaw::MissingDelivery, ..self.place }
    }

    /// Gives out the deliveries that lie here together with their messages, but for those of sessions that end behind them.
    ///
    /// # Errors
    /// A record that says nothing sensible.
    pub fn deliveries(&self, each: &mut dyn FnMut(LoggedDelivery<'_>)) -> Result<(), DamagedBatch> {
        let damaged = |reason| DamagedBatch { reason, ..self.place };
        let mut messages: HashMap<MessageId, (u32, MessageRecord<'_>), FixedState> = HashMap::default();
        for frame in self.header.records(self.bytes).map_err(damaged)? {
            let frame = frame.map_err(damaged)?;
            if frame.kind == Kind::Message as u8
                && let Record::Message { message, body } = decoded(&frame).map_err(damaged)?
            {
                messages.insert(message, (frame.index, body));
            } else if frame.kind == Kind::Delivered as u8
                && let Record::Delivered { session, number, message, terms } = decoded(&frame).map_err(damaged)?
                && let Some((body_index, body)) = messages.get(&message)
                && !self.ended.iter().any(|(ended, at)| *ended == session && *at > frame.index)
            {
                each(LoggedDelivery { session, number, terms: &terms, body, body_index: *body_index });
            }
        }
        Ok(())
    }
}

fn decoded<'a>(frame: &Frame<'a>) -> Result<Record<'a>, Flaw> {
    record_codec::decode(frame.kind, frame.body).map_err(|_| Flaw::RecordBody { record: frame.index })
}

impl fmt::Display for DamagedBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "segment {} is damaged at offset {}: {}", self.segment.0, self.offset, self.reason)
    }
}
