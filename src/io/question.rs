//! What the admin thread asks of a shard, and how the answer comes back.
//!
//! At most [`ADMIN_QUESTIONS_MAX`] questions wait at a shard's door, however long it does not answer: each holds its place until it
//! is answered, whether who has asked still waits or not.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::ADMIN_QUESTIONS_MAX;
use crate::proto::QoS;
use crate::shard::{ClientReport, NotRemoved, RetainedPage, RetainedReport, SubscriptionReport};
use crate::store::LogFailure;

use super::figures::ShardFigures;
use super::origin::Origin;

/// A question, with the way back.
pub(super) enum Question {
    /// Why does your log take no more, if so?
    LogFailure(Answer<Option<LogFailure>>),
    /// What do you count?
    Figures(Answer<ShardFigures>),
    /// Which clients do you have?
    Clients(ClientQuery, Answer<ClientDetailsPage>),
    /// Do you have this client?
    Client(Box<str>, Answer<Option<ClientDetails>>),
    /// Disconnect this client; was it connected?
    Dismiss(Box<str>, Answer<bool>),
    /// Which subscriptions does this client have, at most so many?
    Subscriptions(Box<str>, usize, Answer<Option<Vec<SubscriptionReport>>>),
    /// End the session of this client; the answer comes when it is gone for good.
    EndSession(Box<str>, Answer<Result<(), NotRemoved>>),
    /// Which messages do you retain?
    RetainedMessages(RetainedQuery, Answer<RetainedPage>),
    /// What do you retain for this topic?
    RetainedMessage(Box<str>, Answer<Option<RetainedDetails>>),
    /// Forget what you retain for this topic; the answer comes when it is gone for good.
    RemoveRetained(Box<str>, Answer<Result<(), NotRemoved>>),
    /// Publish this; the answer comes when it is safe.
    Announce(Announcement, Answer<Result<(), &'static str>>),
}

/// Which clients are asked for.
#[derive(Clone, Debug)]
pub struct ClientQuery {
    /// The place to begin at; the first one is 0.
    pub from: u32,
    /// How many at most.
    pub max: usize,
    /// What their ids contain.
    pub id_contains: Box<str>,
}

/// Which retained messages are asked for.
#[derive(Clone, Debug)]
pub struct RetainedQuery {
    /// The place to begin at; the first one is 0.
    pub from: u32,
    /// How many at most.
    pub max: usize,
    /// What matches their topics.
    pub filter: Box<str>,
}

/// A retained message, and its payload if that is not too long to be shown.
pub type RetainedDetails = (RetainedReport, Option<Box<[u8]>>);

/// A client, with what only the driver knows.
#[derive(Clone, Debug)]
pub struct ClientDetails {
    /// What the shard knows.
    pub report: ClientReport,
    /// Where it comes from; none while it is away.
    pub origin: Option<Origin>,
    /// Since when it is connected, in seconds since the Unix epoch; none while it is away.
    pub connected_at_seconds: Option<u32>,
}

/// Some of a shard's clients.
#[derive(Clone, Debug)]
pub struct ClientDetailsPage {
    /// Those that were asked for.
    pub clients: Vec<ClientDetails>,
    /// The place to go on from; none if there are no more.
    pub next: Option<u32>,
}

/// A message of the operator's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Its topic, not checked yet.
    pub topic: Box<str>,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is kept for its topic.
    pub retain: bool,
}

/// The way back of an answer.
pub(super) struct Answer<T> {
    to: oneshot::Sender<T>,
    _place: OwnedSemaphorePermit,
}

/// The places for questions at one door.
#[derive(Clone)]
pub(super) struct QuestionPlaces(Arc<Semaphore>);

impl<T> Answer<T> {
    /// Gives the answer.
    pub(super) fn give(self, answer: T) {
        // Who has asked may have given up.
        drop(self.to.send(answer));
    }

    /// Whether somebody still waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.to.is_closed()
    }
}

impl QuestionPlaces {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ADMIN_QUESTIONS_MAX)))
    }

    /// A place for a question; none if all are taken.
    pub(super) fn take<T>(&self) -> Option<(Answer<T>, oneshot::Receiver<T>)> {
        let place = Arc::clone(&self.0).try_acquire_owned().ok()?;
        let (to, answered) = oneshot::channel();
        Some((Answer { to, _place: place }, answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_take_places_until_they_are_answered() {
        let places = QuestionPlaces::new();
        let mut asked: Vec<_> = std::iter::from_fn(|| places.take::<u8>()).collect();
        assert_eq!(asked.len(), ADMIN_QUESTIONS_MAX);
        let (answer, mut answered) = asked.pop().expect("there are some");
        answer.give(7);
        assert_eq!(answered.try_recv(), Ok(7));
        // Nobody waits for the next one any more, and yet it has its place until the shard has seen it.
        let (answer, answered) = places.take::<u8>().expect("one place is free");
        drop(answered);
        assert!(!answer.is_awaited());
        assert!(places.take::<u8>().is_none());
        drop(answer);
        assert!(places.take::<u8>().is_some());
    }
}
