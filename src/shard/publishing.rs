//! From a message to its subscribers: on this shard at once, on the others by letter.

use hashbrown::HashMap;
use std::borrow::Cow;

use crate::proto::QoS;
use crate::route::{
    Author, FilterKey, Identifiers, Letter, Message, Publisher, RouteSequence, RouteStamp, ShardId, Subscriber, Terms,
    TopicName, WillMessage,
};
use crate::store::{LetterPurpose, LogPosition, Record};

use super::Shard;
use super::congestion::Origin;
use super::connection::ConnectionKey;
use super::delivering::Post;
use super::links::DurableLetter;
use super::placement::shard_of;
use super::recipient::RecipientKind;
use super::retained::RetainedMessage;
use super::sessions::SessionKey;
use super::sharing::deliver_to_group;
use super::topics;

/// What sessions with several matching subscriptions get: one copy each, merged from all of them.
#[derive(Debug, Default)]
pub(super) struct Overlapping {
    order: Vec<SessionKey>,
    merged: HashMap<SessionKey, Merged, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Merged {
    qos: QoS,
    retain_as_published: bool,
    identifiers: Identifiers,
}

/// The connection that published a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) connection: ConnectionKey,
    pub(super) publisher: Publisher,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// The broker's own.
    Broker,
    /// It has this session.
    Session(SessionKey),
    /// Its session has ended with this message, its will.
    Ended(Author),
}

/// Where a message comes from, as those who get it have to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Provenance {
    /// The session of its publisher, if that is of this shard.
    pub(super) session: Option<SessionKey>,
    /// Whom to hold up if a subscriber falls behind.
    pub(super) origin: Option<Origin>,
    pub(super) stamp: RouteStamp,
    /// The shard of its publisher may lose in a crash that it has routed the message, and then routes it again.
    pub(super) may_come_again: bool,
}

impl Shard {
    /// Routes a message: to the sessions of this shard, to the other shards that have subscribers, and to its home if it is
    /// to be retained. A will has no connection any more that it could come from.
    pub(super) fn route(&mut self, owner: Owner, source: Option<Source>, topic: TopicName<'_>, message: Message) {
        self.routed.0 += 1;
        let sequence = self.routed;
        let stamp = RouteStamp { shard: self.clients.id, sequence };
        self.match_cache.matches(&self.subscriptions, topic, &mut self.matches);
        let publisher = source.map(|source| source.publisher);
        if !self.matches.remote.is_empty() {
            self.post_deliveries(source, &message, sequence);
        }
        let session = match owner {
            Owner::Session(session) => Some(session),
            Owner::Broker | Owner::Ended(_) => None,
        };
        let provenance = Provenance {
            session,
            origin: publisher.map(|publisher| (self.clients.id, publisher)),
            stamp,
            // That it was routed is in one batch of the log with what comes of it here.
            may_come_again: false,
        };
        self.deliver_to_matches(provenance, &message);
        if message.retain {
            let author = match owner {
                Owner::Session(session) => Author::of(&self.clients.sessions.get(session).client_id),
                // No client has an empty id.
                Owner::Broker => Author::of(""),
                Owner::Ended(author) => author,
            };
            let home = shard_of(topic.as_str(), self.shards);
            if home == self.clients.id {
                self.retain(message, author, stamp);
            } else {
                self.post_retain(source, home, message, author, sequence);
            }
        }
    }

    /// Posts a message to the other shards that match; to those where it has to outlive the broker, numbered and logged.
    fn post_deliveries(&mut self, source: Option<Source>, message: &Message, sequence: RouteSequence) {
        let publisher = source.map(|source| source.publisher);
        let (remote, remote_durable) = (self.matches.remote, self.matches.remote_durable);
        let is_durable = message.qos > QoS::AtMostOnce && self.clients.log.is_on() && !remote_durable.is_empty();
        let logged = if is_durable {
            let purpose = LetterPurpose::Deliver;
            let letter = DurableLetter { purpose, message: message.clone(), sequence, publisher };
            self.clients.log_letter(remote_durable.iter(), &letter)
        } else {
            LogPosition::NOTHING
        };
        for shard in remote.iter() {
            if message.qos == QoS::AtMostOnce && self.clients.outbox.is_full(shard) {
                self.clients.counters.dropped_ring_full += 1;
                continue;
            }
            let number = self.clients.number_at(shard);
            let after = if number.is_some() { logged } else { LogPosition::NOTHING };
            self.post_for(
                source,
                shard,
                Letter::Deliver { message: message.clone(), sequence, publisher, number },
                after,
            );
        }
        self.clients.end_letter();
    }

    /// Posts a message to the shard that keeps it for its topic.
    fn post_retain(
        &mut self,
        source: Option<Source>,
        home: ShardId,
        message: Message,
        author: Author,
        sequence: RouteSequence,
    ) {
        let is_durable = message.qos > QoS::AtMostOnce && self.clients.log.is_on();
        let (mut number, mut after) = (None, LogPosition::NOTHING);
        if is_durable {
            let purpose = LetterPurpose::Retain(author);
            let letter = DurableLetter { purpose, message: message.clone(), sequence, publisher: None };
            after = self.clients.log_letter(std::iter::once(home), &letter);
            number = self.clients.number_at(home);
            self.clients.end_letter();
        }
        self.post_for(source, home, Letter::Retain { message, author, sequence, number }, after);
    }

    /// Publishes the will of a client whose connection ended, and whose session may go on.
    pub(super) fn route_will(&mut self, owner: Owner, will: &WillMessage) {
        let message = will.publish(self.clients.now);
        let topic = message.topic_name().to_owned();
        let topic = TopicName::parse(&topic).expect("the will's topic was checked at CONNECT");
        self.route(owner, None, topic, message);
    }

    /// Delivers a message that another shard routed.
    pub(super) fn deliver_here(&mut self, provenance: Provenance, message: &Message) {
        let topic = TopicName::parse(message.topic_name()).expect("the other shard has parsed it");
        self.match_cache.matches(&self.subscriptions, topic, &mut self.matches);
        self.deliver_to_matches(provenance, message);
    }

    /// Keeps a message for its topic, in place of the one before; an empty payload only removes that
    /// [MQTT-3.3.1-5..7]. What the broker says of itself is not logged, and no limit refuses it.
    pub(super) fn retain(&mut self, message: Message, author: Author, stamp: RouteStamp) {
        let topic = TopicName::parse(message.topic_name()).expect("parsed when it was routed");
        if topics::is_reserved(topic) {
            let logged = LogPosition::NOTHING;
            let retained = RetainedMessage { message: message.compacted(), author, stamp, logged };
            self.retained.set(topic, retained);
            return;
        }
        if message.payload().is_empty() {
            if self.retained.remove(topic) {
                self.clients.log.append(&Record::RetainedRemoved { topic: Cow::Borrowed(topic.as_str()) });
            }
            return;
        }
        if !self.retained.contains(topic)
            && self.retained.of_clients() >= self.clients.limits.max_retained_messages as usize
        {
            self.clients.counters.dropped_retained_full += 1;
            return;
        }
        self.clients.log.append(&Record::Retained { body: (&message).into(), author });
        let logged = self.clients.log.appended();
        self.retained.set(topic, RetainedMessage { message: message.compacted(), author, stamp, logged });
        self.arm_sweep();
    }

    /// Posts a letter that a client's message causes; if the ring to that shard is full, the client is not read from until
    /// it drains.
    fn post_for(&mut self, source: Option<Source>, to: ShardId, letter: Letter, after: LogPosition) {
        self.clients.outbox.post_after(to, letter, after);
        if let Some(Source { connection, .. }) = source
            && self.clients.outbox.is_full(to)
        {
            self.clients.pause_source(connection);
        }
    }

    fn deliver_to_matches(&mut self, provenance: Provenance, message: &Message) {
        match self.matches.filters[..] {
            [] => {}
            [filter] => self.deliver_to_filter(provenance, message, filter),
            _ => self.deliver_to_overlapping(provenance, message),
        }
    }

    fn deliver_to_filter(&mut self, provenance: Provenance, message: &Message, filter: FilterKey) {
        let mut post = Post::new(message, provenance);
        for Subscriber { subscriber, subscription } in self.subscriptions.subscribers(filter) {
            let session = match subscriber.kind() {
                RecipientKind::Session(session) => session,
                RecipientKind::Group(group) => {
                    deliver_to_group(&mut self.groups, &mut self.clients, group, &mut post);
                    continue;
                }
            };
            let options = subscription.options;
            // [MQTT-3.8.3-3]
            if options.no_local && provenance.session == Some(session) {
                continue;
            }
            let terms = Terms {
                // [MQTT-3.8.4-8]
                qos: message.qos.min(options.qos),
                // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                retain: message.retain && options.retain_as_published,
                identifiers: subscription.identifier.map_or(Identifiers::None, Identifiers::One),
            };
            self.clients.deliver(session, &mut post, terms);
        }
        self.clients.end_post(post);
    }

    /// One copy for each session, with the highest QoS of its matching subscriptions [MQTT-3.3.4-2] and the identifiers of
    /// all of them [MQTT-3.3.4-4]; and one for each group.
    fn deliver_to_overlapping(&mut self, provenance: Provenance, message: &Message) {
        let Overlapping { order, merged } = &mut self.overlapping;
        let mut post = Post::new(message, provenance);
        for filter in &self.matches.filters {
            for Subscriber { subscriber, subscription } in self.subscriptions.subscribers(*filter) {
                let session = match subscriber.kind() {
                    RecipientKind::Session(session) => session,
                    RecipientKind::Group(group) => {
                        deliver_to_group(&mut self.groups, &mut self.clients, group, &mut post);
                        continue;
                    }
                };
                let options = subscription.options;
                if options.no_local && provenance.session == Some(session) {
                    continue;
                }
                let copy = merged.entry(session).or_insert_with(|| {
                    order.push(session);
                    Merged { qos: QoS::AtMostOnce, retain_as_published: false, identifiers: Identifiers::None }
                });
                copy.qos = copy.qos.max(options.qos);
                copy.retain_as_published |= options.retain_as_published;
                if let Some(identifier) = subscription.identifier {
                    copy.identifiers.add(identifier);
                }
            }
        }
        for subscriber in order.drain(..) {
            let copy = merged.remove(&subscriber).expect("noted together");
            let terms = Terms {
                qos: message.qos.min(copy.qos),
                retain: message.retain && copy.retain_as_published,
                identifiers: copy.identifiers,
            };
            self.clients.deliver(subscriber, &mut post, terms);
        }
        self.clients.end_post(post);
    }
}
