//! The log: what makes exactly-once survive the broker.
//!
//! Each shard has a log of its own: what it promises to anybody rests on records that are stable first. Everything here is
//! pure: bytes to write come out of [`Log::poll_write`], bytes that were read go into [`recover`], and who moves them is
//! `io`'s affair.
//!
//! Everything that promises durability (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, CONNACK's session present, a letter)
//! carries the [`LogPosition`] it waits for, and leaves when the log is stable up to there. With `--durability none`
//! nothing is logged and every position is stable at once.
//!
//! | module         | what it is                                                          |
//! |----------------|---------------------------------------------------------------------|
//! | `record`       | what the log says: one record for each change of durable state      |
//! | `format`       | segments, batches and records as bytes                              |
//! | `record_codec` | the bodies of the records as bytes                                  |
//! | `log`          | the writing end: group commit, segments                             |
//! | `recovery`     | the reading end: torn tails, damage, salvage                        |
//! | `image`        | what the records add up to                                          |
//! | `logged`       | which deliveries only the log holds                                 |
//! | `places`       | where the batches lie                                               |
//! | `reading`      | batches that a running broker reads back                            |
//! | `recall`       | deliveries that a restart reads back                                |
//! | `inspect`      | the log for people: lines, JSON, sums                               |

mod format;
mod image;
mod inspect;
mod log;
mod logged;
mod places;
mod reading;
mod recall;
mod record;
mod record_codec;
mod recovery;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod sealing;

pub use format::Flaw;
pub use image::{DeliveryImage, Image, OutgoingImage, SessionImage};
pub use inspect::{Statistics, dump_record};
pub use log::{Log, LogConfig, LogEnd, LogFailure, LogPosition, LogWrite, SegmentNumber};
pub use logged::LoggedDeliveries;
pub use places::BatchPlaces;
pub use reading::{Batch, Batches, DamagedBatch, LogRead, LoggedDelivery};
pub use recall::{Recall, recall};
pub use record::{
    DeliveryNumber, LetterNumber, LetterPurpose, MessageId, MessageRecord, Record, SessionId, SessionRecord, WillRecord,
};
pub use recovery::{
    Expected, Loss, RecordLocation, Recovered, RecoveryError, RecoveryMode, Segments, TornTail, recover,
};

#[cfg(test)]
mod testing;
