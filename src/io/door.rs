//! The way into a shard for everybody who is not a shard: the gate hands clients over, the main thread asks for counters
//! and for the end, the admin thread for what its clients want to know.
//!
//! The queue behind a door has no bound of its own: a client in it holds a [`ConnectionPermit`], so there are never more
//! than `--max-connections`, a bridge asks for one thing at a time, questions of the admin thread have so many places
//! (`question`), and requests of the main thread are a handful in a process's life.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use crate::auth::AccessRules;
use crate::bridge::Bridge;
use crate::route::ShardId;
use crate::shard::{Admission, MemoryStage, NotRemoved, OpenedBridge, RetainedPage, SubscriptionReport};
use crate::store::LogFailure;

use super::bell::Bell;
use super::figures::ShardFigures;
use super::permit::ConnectionPermit;
use super::question::{
    Announcement, Answer, ClientDetails, ClientDetailsPage, ClientQuery, Question, QuestionPlaces, RetainedDetails,
    RetainedQuery,
};

/// A connection that the gate hands over.
pub struct Arrival {
    /// Its socket, on which no operation is in flight.
    pub socket: OwnedFd,
    /// Whose it is, and what the gate learned about it.
    pub peer: Peer,
    /// Its share of `--max-connections`.
    pub permit: ConnectionPermit,
}

/// Who is at the other end of a connection that the gate hands over.
pub enum Peer {
    /// A client that has come.
    Client(Admission),
    /// The remote of a bridge, to which we went.
    Remote(OpenedBridge),
}

/// What a shard may be asked.
pub(super) enum Request {
    /// Take a connection over.
    Admit(Arrival),
    /// Say whether the remote of a bridge keeps a session that belongs to the one here.
    AskBridge(Arc<Bridge>, oneshot::Sender<bool>),
    /// Judge what clients do by these rules from now on.
    ReplaceAccessRules(Arc<AccessRules>),
    /// Memory is this short now.
    Memory(MemoryStage),
    /// Write the counters to the log.
    LogCounters,
    /// Answer the admin thread.
    Question(Question),
    /// End every connection, then say so.
    ShutDown,
}

/// The answer to come; none if so many questions wait already that this one is not asked.
pub type Asked<T> = Option<oneshot::Receiver<T>>;

/// The doors of all shards.
#[derive(Clone)]
pub struct Doors {
    doors: Arc<[Door]>,
}

pub(super) struct Door {
    requests: Sender<Request>,
    bell: Arc<Bell>,
    places: QuestionPlaces,
}

impl Doors {
    pub(super) fn new(doors: Vec<Door>) -> Self {
        Self { doors: doors.into() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("no more shards than SHARDS_MAX")
    }

    /// Whether the remote of a bridge keeps a session that belongs to the one here, which a shard owns.
    pub fn is_bridge_shared(&self, shard: ShardId, bridge: &Arc<Bridge>) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        self.doors[shard.index()].request(Request::AskBridge(Arc::clone(bridge), answer));
        answered
    }

    /// Hands a connection to the shard that owns it.
    pub fn admit(&self, shard: ShardId, arrival: Arrival) {
        self.doors[shard.index()].request(Request::Admit(arrival));
    }

    /// From now on clients may do what these rules permit, those who are connected, too, and those who are admitted behind
    /// this in any case.
    pub fn replace_access_rules(&self, rules: &Arc<AccessRules>) {
        for door in self.doors.iter() {
            door.request(Request::ReplaceAccessRules(Arc::clone(rules)));
        }
    }

    /// Tells every shard how short memory is.
    pub(super) fn tell_memory(&self, stage: MemoryStage) {
        for door in self.doors.iter() {
            door.request(Request::Memory(stage));
        }
    }

    /// Asks every shard to write its counters to the log.
    pub fn log_counters(&self) {
        for door in self.doors.iter() {
            door.request(Request::LogCounters);
        }
    }

    /// Asks a shard why its log takes no more, if so.
    pub fn log_failure(&self, shard: ShardId) -> Asked<Option<LogFailure>> {
        self.ask(shard, Question::LogFailure)
    }

    /// Asks a shard for its figures.
    pub fn figures(&self, shard: ShardId) -> Asked<ShardFigures> {
        self.ask(shard, Question::Figures)
    }

    /// Asks a shard for some of its clients.
    pub fn clients(&self, shard: ShardId, query: ClientQuery) -> Asked<ClientDetailsPage> {
        self.ask(shard, |answer| Question::Clients(query, answer))
    }

    /// Asks a shard for a client, which it owns if it is there.
    pub fn client(&self, shard: ShardId, client_id: &str) -> Asked<Option<ClientDetails>> {
        self.ask(shard, |answer| Question::Client(client_id.into(), answer))
    }

    /// Asks a shard to disconnect a client, which it owns if it is there; whether it was connected.
    pub fn dismiss(&self, shard: ShardId, client_id: &str) -> Asked<bool> {
        self.ask(shard, |answer| Question::Dismiss(client_id.into(), answer))
    }

    /// Asks a shard for the subscriptions of a client that it owns if it is there, at most so many.
    pub fn subscriptions(&self, shard: ShardId, client_id: &str, max: usize) -> Asked<Option<Vec<SubscriptionReport>>> {
        self.ask(shard, |answer| Question::Subscriptions(client_id.into(), max, answer))
    }

    /// Asks a shard to end the session of a client that is away; the answer comes when it is gone for good.
    pub fn end_session(&self, shard: ShardId, client_id: &str) -> Asked<Result<(), NotRemoved>> {
        self.ask(shard, |answer| Question::EndSession(client_id.into(), answer))
    }

    /// Asks a shard for some of the messages that it retains.
    pub fn retained_messages(&self, shard: ShardId, query: RetainedQuery) -> Asked<RetainedPage> {
        self.ask(shard, |answer| Question::RetainedMessages(query, answer))
    }

    /// Asks the home of a topic for what is retained for it.
    pub fn retained_message(&self, shard: ShardId, topic: &str) -> Asked<Option<RetainedDetails>> {
        self.ask(shard, |answer| Question::RetainedMessage(topic.into(), answer))
    }

    /// Asks the home of a topic to forget what is retained for it; the answer comes when it is gone for good.
    pub fn remove_retained(&self, shard: ShardId, topic: &str) -> Asked<Result<(), NotRemoved>> {
        self.ask(shard, |answer| Question::RemoveRetained(topic.into(), answer))
    }

    /// Asks a shard to publish a message; the answer comes when it is safe.
    pub fn announce(&self, shard: ShardId, announcement: Announcement) -> Asked<Result<(), &'static str>> {
        self.ask(shard, |answer| Question::Announce(announcement, answer))
    }

    fn ask<T>(&self, shard: ShardId, question: impl FnOnce(Answer<T>) -> Question) -> Asked<T> {
        let door = &self.doors[shard.index()];
        let (answer, answered) = door.places.take()?;
        door.request(Request::Question(question(answer)));
        Some(answered)
    }

    /// Asks every shard to end its connections.
    pub fn shut_down(&self) {
        for door in self.doors.iter() {
            door.request(Request::ShutDown);
        }
    }
}

impl Door {
    pub(super) fn new(requests: Sender<Request>, bell: Arc<Bell>) -> Self {
        Self { requests, bell, places: QuestionPlaces::new() }
    }

    fn request(&self, request: Request) {
        // Only a shard whose thread has ended does not listen, and such a thread takes the process with it.
        if self.requests.send(request).is_ok() {
            self.bell.ring_if_sleeping();
        }
    }
}
