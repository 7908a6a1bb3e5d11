//! The log: what makes exactly-once survive the broker.
//!
//! Each shard has a log of its own: what it promises to anybody rests on records that are stable first. Everything here is
//! pure: bytes to write come out of [`Log::poll_write`], bytes that were read go into recovery, and who moves them is
//! `io`'s affair.
//!
//! Everything that promises durability (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, CONNACK's session present, a letter)
//! carries the [`LogPosition`] it waits for, and leaves when the log is stable up to there. With `--durability none`
//! nothing is logged and every position is stable at once.

mod image;
mod log;
mod record;

pub use image::{DeliveryImage, Image, OutgoingImage, SessionImage};
pub use log::{Log, LogConfig, LogEnd, LogFailure, LogPosition, LogWrite, SegmentNumber};
pub use record::{
    DeliveryNumber, LetterNumber, LetterPurpose, MessageId, MessageRecord, Record, SessionId, SessionRecord, WillRecord,
};
