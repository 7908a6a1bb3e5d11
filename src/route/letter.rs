//! What shards write to each other.
//!
//! Letters between an ordered pair of shards arrive in the order in which they were sent; between different pairs
//! nothing is promised. That is enough for two guarantees:
//!
//! * **Per-publisher order.** All messages of a publisher leave its shard in order and travel on one ring.
//! * **A subscriber that has its SUBACK misses nothing published afterwards, and gets what was retained before, once and
//!   in order.** SUBACK waits until every shard has applied the new interest and said so. For the retained messages, every
//!   shard also marks the moment of applying it on its ring to the shard that keeps the topic (its *home*): behind that
//!   mark come only messages that the subscriber gets live. The home answers when all marks are there, and leaves out what
//!   was published behind its publisher's mark. What was published before it may also come live, if the subscriber's
//!   shard was interested already: it is there before its publisher's shard has answered, and recognised by its stamp.
//!
//! Retained messages come in pages. The first page goes with the interest, as above. The home keeps its walk over the topics,
//! and the marks that came for the first page; each further page is one more round, asked for by the subscriber's shard when
//! its client has taken the one before:
//!
//! * The subscriber's shard asks every shard to mark once more ([`Letter::MarkWanted`]), and holds what is delivered to the
//!   session until the page is there. Behind the marks the home knows all that was published before the round; so what it
//!   finds is the last retained message of its topic, and no newer one has been delivered before.
//! * What was published behind its publisher's *first* mark has come live, or will, and is left out of all pages.
//! * SUBACK waits for the last page, and a subscriber that goes away before has no claim to the rest.
//!
//! Between two pages the session gets live messages. So a retained message may come behind a live one that was published after
//! it without RETAIN, but never behind one that has taken its place.

use std::sync::Arc;

use crate::route::{Author, Message, Presence, ShardId, Share};
use crate::store::{LetterNumber, LogFailure};
use crate::system_topics::Tally;

/// Identifies one filter of one SUBSCRIBE at the shard that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Counts the SUBSCRIBE packets of that shard.
    pub serial: u64,
    /// Index of the filter in the packet.
    pub filter: u32,
}

/// How many messages a shard had routed at some moment; message n is the one that made it n.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RouteSequence(pub u64);

impl RouteSequence {
    /// Of messages that were routed before the broker started.
    pub const BEFORE_START: Self = Self(0);
}

/// Names a message among all, and gives those of one publisher their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RouteStamp {
    /// The shard of its publisher.
    pub shard: ShardId,
    /// Its number there.
    pub sequence: RouteSequence,
}

/// Names the connection of a publisher to the shard that it lives on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Publisher {
    /// The connection's index.
    pub connection: u32,
    /// Tells it from earlier connections with the same index.
    pub serial: u32,
}

/// What a subscriber's shard wants to know of the retained messages at a home.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// The filter; none for the next page of a lookup.
    pub filter: Option<Box<str>>,
    /// Whose messages are left out; nobody's if the subscriber did not ask for no local. Not said again for the next page.
    pub without: Option<Author>,
    /// How much of it at once.
    pub limit: PageLimit,
}

/// Where a page of retained messages ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimit {
    /// Messages, at most; at least 1.
    pub messages: u32,
    /// Bytes at which no message is added to those that are there.
    pub bytes: u64,
}

/// A letter from one shard to another.
#[derive(Debug)]
pub enum Letter {
    /// A message for the subscribers of the receiving shard.
    Deliver {
        /// The message.
        message: Message,
        /// Its number at the sending shard.
        sequence: RouteSequence,
        /// Whom to hold up if a subscriber falls behind; nobody for a will.
        publisher: Option<Publisher>,
        /// Its number on the link if it must not be lost; none if nobody would notice after a crash.
        number: Option<LetterNumber>,
    },
    /// A subscriber of the sending shard has fallen behind this publisher of the receiving one.
    HoldPublisher(Publisher),
    /// It has caught up, or does not count any more.
    LetPublisherGo(Publisher),
    /// Keep this message for its topic, or forget the topic if the payload is empty; the receiving shard is its home.
    Retain {
        /// The message.
        message: Message,
        /// Whose message it is.
        author: Author,
        /// Its number at the sending shard.
        sequence: RouteSequence,
        /// As for [`Letter::Deliver`].
        number: Option<LetterNumber>,
    },
    /// The numbered letters of the receiving shard up to this one have had their effect, for good.
    Acknowledged {
        /// The last of them.
        through: LetterNumber,
    },
    /// The numbered letters of the receiving shard behind this one are missing: it is to send them again.
    Missing {
        /// The last that has come.
        behind: LetterNumber,
    },
    /// The sending shard's log has failed: it takes no more numbered letters.
    LogFailed(LogFailure),
    /// The sending shard's log has become full, or has room again. Numbered letters are taken all the same.
    LogAtLimit {
        /// Which of the two.
        is_full: bool,
    },
    /// The sending shard has a subscriber for the filter.
    InterestGained {
        /// The filter, without `$share`.
        filter: Box<str>,
        /// Whom to tell once it is applied.
        ticket: Ticket,
        /// Whether to mark the moment also at the homes of the filter's retained messages.
        wants_retained: bool,
        /// Whether the subscriber outlives the broker, so that messages for it have to as well.
        is_durable: bool,
    },
    /// Answer to [`Letter::InterestGained`]: it is applied, and what was routed before has been sent.
    InterestApplied {
        /// As asked.
        ticket: Ticket,
    },
    /// The receiving shard is to say what it has counted.
    TallyAsked {
        /// Numbers the questions.
        round: u64,
    },
    /// Answer to [`Letter::TallyAsked`].
    Tallied {
        /// As asked.
        round: u64,
        /// What the sending shard has counted.
        tally: Box<Tally>,
    },
    /// The last subscriber of the sending shard for the filter is gone.
    InterestLost {
        /// The filter.
        filter: Box<str>,
        /// Only the last one that outlives the broker is gone; others remain.
        durable_only: bool,
    },
    /// The sending shard has applied the interest behind `ticket`, or was asked to mark once more, and routed so many messages
    /// before.
    RetainedMark {
        /// The shard of the subscriber.
        subscriber: ShardId,
        /// The subscriber's ticket.
        ticket: Ticket,
        /// What the sending shard had routed before.
        routed: RouteSequence,
        /// What is to be looked up: said by the shard of the subscriber with its own mark.
        request: Option<PageRequest>,
    },
    /// A session of the sending shard joins a group whose home the receiving shard is; answered by
    /// [`Letter::InterestApplied`] once every shard knows that the group wants the filter's messages.
    SharedJoined {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription.
        share: Arc<Share>,
        /// Whether its session outlives the broker.
        is_durable: bool,
        /// Whom to tell.
        ticket: Ticket,
    },
    /// A member of the sending shard has come, gone away or left; the receiving shard is the group's home.
    SharedChanged {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription.
        share: Arc<Share>,
        /// What it is now.
        presence: Presence,
    },
    /// A message for one session of the receiving shard, which the home of its group has chosen.
    SharedDeliver {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription, as the home knows it.
        share: Arc<Share>,
        /// The message.
        message: Message,
        /// Whom to hold up if the member falls behind.
        publisher: Option<(ShardId, Publisher)>,
        /// As for [`Letter::Deliver`]. Without a number it must not get into the log of the receiving shard, where it could
        /// outlive that the sending shard knows whom it has chosen.
        number: Option<LetterNumber>,
    },
    /// What waits unsent for a member is to be given back to its group, because others could have it now.
    SharedRecalled {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription.
        share: Arc<Share>,
    },
    /// A member gives a message back to its group, whose home the receiving shard is.
    SharedReturned {
        /// The subscription of the member that had it.
        share: Arc<Share>,
        /// The message.
        message: Message,
        /// As for [`Letter::SharedDeliver`].
        number: Option<LetterNumber>,
    },
    /// So many messages of its group are over for a member of the sending shard, since it was last told.
    SharedCompleted {
        /// The member's client id.
        client_id: Arc<str>,
        /// Its subscription.
        share: Arc<Share>,
        /// How many.
        messages: u32,
    },
    /// Answer to the [`Letter::RetainedMark`]s of all shards: these messages are retained for the filter at the sender.
    RetainedFound {
        /// The subscriber's ticket.
        ticket: Ticket,
        /// Retained messages.
        messages: Vec<(RouteStamp, Message)>,
        /// There may be more: the sender keeps its place for the next page.
        has_more: bool,
    },
    /// The sending shard is going to ask `home` for the next page: the receiving one is to mark the moment there.
    MarkWanted {
        /// The shard that has more.
        home: ShardId,
        /// The subscriber's ticket.
        ticket: Ticket,
    },
    /// Nobody wants the rest of what the receiving shard has for this ticket of the sending one.
    RestForgotten {
        /// The subscriber's ticket.
        ticket: Ticket,
    },
}
