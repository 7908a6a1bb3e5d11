//! The ends of this shard's links to the others, and how they lean on its log.

use std::borrow::Cow;

use crate::fault::Fault;
use crate::link::{Arrival, Receiver, Sender};
use crate::route::{Letter, Message, Publisher, RouteSequence, ShardId, ShardSet};
use crate::store::{LetterNumber, LetterPurpose, LogFailure, LogPosition, Record};

use super::Shard;
use super::clients::Clients;

/// One link to and one from every other shard, by shard number.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) senders: Vec<Sender<DurableLetter>>,
    pub(super) receivers: Vec<Receiver>,
    /// Shards whose logs have failed, and with what.
    failed: ShardSet,
    failure: Option<LogFailure>,
    /// Shards whose logs are as long as they may be.
    pub(super) full: ShardSet,
    /// Scratch for the receivers of one message.
    numbered: Vec<(ShardId, LetterNumber)>,
}

/// A letter that is kept until it is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct DurableLetter {
    pub(super) purpose: LetterPurpose,
    pub(super) message: Message,
    pub(super) sequence: RouteSequence,
    pub(super) publisher: Option<Publisher>,
}

impl DurableLetter {
    fn numbered(&self, number: LetterNumber) -> Letter {
        let Self { purpose, message, sequence, publisher } = self.clone();
        let number = Some(number);
        match purpose {
            LetterPurpose::Deliver => Letter::Deliver { message, sequence, publisher, number },
            LetterPurpose::Retain(author) => Letter::Retain { message, author, sequence, number },
            LetterPurpose::ToMember { client_id, share } => {
                Letter::SharedDeliver { client_id, share, message, publisher: None, number }
            }
            LetterPurpose::FromMember { share } => Letter::SharedReturned { share, message, number },
        }
    }
}

impl Links {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            senders: (0..shards).map(|_| Sender::default()).collect(),
            receivers: (0..shards).map(|_| Receiver::default()).collect(),
            failed: ShardSet::EMPTY,
            failure: None,
            full: ShardSet::EMPTY,
            numbered: Vec::new(),
        }
    }

    /// Whether the log of that shard has failed.
    pub(super) fn has_failed(&self, shard: ShardId) -> bool {
        self.failed.contains(shard)
    }

    /// Why letters to one of these shards cannot become durable.
    pub(super) fn failure(&self, shards: ShardSet) -> Option<LogFailure> {
        self.failure.filter(|_| self.failed.meets(shards))
    }

    /// Whether letters have come of which the log says nothing yet. It will, in the batch that is being filled.
    pub(super) fn have_unlogged(&self) -> bool {
        self.receivers.iter().any(Receiver::has_unlogged)
    }

    /// Letters that have not been acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.senders.iter().map(Sender::len).sum()
    }
}

impl Clients {
    /// Numbers and logs a letter to several shards. What it waits for, and its numbers, by [`Self::number_at`].
    pub(super) fn log_letter(&mut self, to: impl Iterator<Item = ShardId>, letter: &DurableLetter) -> LogPosition {
        let Links { senders, numbered, .. } = &mut self.links;
        numbered.clear();
        numbered.extend(to.map(|shard| (shard, senders[shard.index()].post(letter.clone()))));
        let body = (&letter.message).into();
        self.log.append(&Record::LetterPosted { purpose: letter.purpose.clone(), to: Cow::Borrowed(numbered), body });
        self.log.wait_for_appended()
    }

    /// The number that the letter logged last has at a shard, if it goes there.
    pub(super) fn number_at(&self, shard: ShardId) -> Option<LetterNumber> {
        self.links.numbered.iter().find(|(to, _)| *to == shard).map(|(_, number)| *number)
    }

    /// The letter that was logged last has been posted.
    pub(super) fn end_letter(&mut self) {
        self.links.numbered.clear();
    }

    /// A batch of the log is about to be sealed: adds which letters have had the effects that it holds.
    pub(super) fn log_applied_letters(&mut self) {
        for (index, receiver) in self.links.receivers.iter_mut().enumerate() {
            if let Some(through) = receiver.take_unlogged() {
                let from = ShardId::new(index as u16).expect("one link for each shard");
                self.log.append(&Record::LettersApplied { from, through });
            }
        }
    }

    /// The batch that was sealed last is stable: its letters can be forgotten where they came from.
    pub(super) fn acknowledge_letters(&mut self) {
        for (index, receiver) in self.links.receivers.iter_mut().enumerate() {
            if let Some(through) = receiver.take_unacknowledged() {
                let from = ShardId::new(index as u16).expect("one link for each shard");
                self.outbox.post(from, Letter::Acknowledged { through });
            }
        }
    }

    /// Posts all letters that are not acknowledged, behind a number, once more.
    pub(super) fn resend_letters(&mut self, to: ShardId, behind: LetterNumber) {
        let after = self.log.wait_for_appended();
        for (number, letter) in self.links.senders[to.index()].waiting_behind(behind) {
            self.outbox.post_after(to, letter.numbered(number), after);
        }
    }
}

impl Shard {
    /// Whether a letter is to be applied: it has no number, or its turn has come.
    pub(super) fn is_due(&mut self, from: ShardId, number: Option<LetterNumber>) -> bool {
        let Some(number) = number else { return true };
        if self.clients.log.failure().is_some() {
            // It cannot be made durable here. Its sender keeps it.
            return false;
        }
        match self.clients.links.receivers[from.index()].receive(number) {
            Arrival::Next => true,
            Arrival::Repeated { stable } => {
                self.clients.outbox.post(from, Letter::Acknowledged { through: stable });
                false
            }
            Arrival::Ahead { ask_behind } => {
                if let Some(behind) = ask_behind {
                    self.clients.outbox.post(from, Letter::Missing { behind });
                }
                false
            }
        }
    }

    /// Another shard has made our letters its own.
    pub(super) fn handle_acknowledged(&mut self, by: ShardId, through: LetterNumber) {
        if self.clients.links.senders[by.index()].acknowledge(through) {
            // Nobody waits for it: if it is lost, the letters are sent again and ignored.
            self.clients.log.append(&Record::LettersAcknowledged { by, through });
        }
    }

    /// The log of another shard has failed.
    pub(super) fn handle_log_failed(&mut self, shard: ShardId, failure: LogFailure) {
        self.clients.links.failed.insert(shard);
        self.clients.links.failure = Some(failure);
    }

    /// Whether the fault is planted that logs late which letters were applied.
    pub(super) fn logs_letters_late(&self) -> bool {
        self.fault.is(Fault::LettersAppliedLoggedLate)
    }
}
