//! From a message to its subscribers: on this shard at once, on the others by letter.

use hashbrown::HashMap;
use std::num::NonZeroU32;

use crate::proto::QoS;
use crate::route::{
    FilterKey, Identifiers, Letter, Message, Publisher, RouteStamp, ShardId, Subscriber, Terms, TopicName, WillMessage,
};

use super::Shard;
use super::clients::Post;
use super::congestion::Origin;
use super::connection::ConnectionKey;
use super::placement::shard_of;
use super::sessions::SessionKey;

/// A retained message at its home, and where and when it was published.
#[derive(Debug)]
pub(super) struct RetainedMessage {
    pub(super) message: Message,
    pub(super) stamp: RouteStamp,
}

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
    identifiers: Vec<NonZeroU32>,
}

/// The client that published a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) session: SessionKey,
    pub(super) connection: ConnectionKey,
    pub(super) publisher: Publisher,
}

impl Shard {
    /// Routes a message: to the sessions of this shard, to the other shards that have subscribers, and to its home if it is
    /// to be retained.
    pub(super) fn route(&mut self, source: Option<Source>, topic: TopicName<'_>, message: Message) {
        self.routed.0 += 1;
        let sequence = self.routed;
        let stamp = RouteStamp { shard: self.clients.id, sequence };
        self.subscriptions.matches(topic, &mut self.matches);
        let publisher = source.map(|source| source.publisher);
        for shard in self.matches.remote.iter() {
            if message.qos == QoS::AtMostOnce && self.clients.outbox.is_full(shard) {
                self.clients.counters.dropped_ring_full += 1;
                continue;
            }
            self.post_for(source, shard, Letter::Deliver { message: message.clone(), sequence, publisher });
        }
        let origin = publisher.map(|publisher| (self.clients.id, publisher));
        self.deliver_to_matches(source.map(|source| source.session), origin, stamp, &message);
        if message.retain {
            let home = shard_of(topic.as_str(), self.shards);
            if home == self.clients.id {
                self.retain(message, stamp);
            } else {
                self.post_for(source, home, Letter::Retain { message, sequence });
            }
        }
    }

    /// Publishes the will of a client whose connection ended.
    pub(super) fn route_will(&mut self, will: &WillMessage) {
        let message = will.publish(self.clients.now);
        let topic = message.topic_name().to_owned();
        self.route(None, TopicName::parse(&topic).expect("the will's topic was checked at CONNECT"), message);
    }

    /// Delivers a message that another shard routed.
    pub(super) fn deliver_here(&mut self, origin: Option<Origin>, stamp: RouteStamp, message: &Message) {
        let topic = TopicName::parse(message.topic_name()).expect("the other shard has parsed it");
        self.subscriptions.matches(topic, &mut self.matches);
        self.deliver_to_matches(None, origin, stamp, message);
    }

    /// Keeps a message for its topic, in place of the one before; an empty payload only removes that
    /// [MQTT-3.3.1-5..7].
    pub(super) fn retain(&mut self, message: Message, stamp: RouteStamp) {
        let topic = TopicName::parse(message.topic_name()).expect("parsed when it was routed");
        let previous = self.retained.remove(topic);
        if message.payload().is_empty() {
            return;
        }
        if previous.is_none() && self.retained.len() >= self.clients.limits.max_retained_messages as usize {
            self.clients.counters.dropped_retained_full += 1;
            return;
        }
        self.retained.set(topic, RetainedMessage { message: message.compacted(), stamp });
    }

    /// Posts a letter that a client's message causes; if the ring to that shard is full, the client is not read from until
    /// it drains.
    fn post_for(&mut self, source: Option<Source>, to: ShardId, letter: Letter) {
        self.clients.outbox.post(to, letter);
        if let Some(Source { connection, .. }) = source
            && self.clients.outbox.is_full(to)
            && !self.clients.connection(connection).paused_by_ring
        {
            self.clients.outbox.paused.push(connection);
            self.clients.set_pause(connection, |connection| connection.paused_by_ring = true);
        }
    }

    fn deliver_to_matches(
        &mut self,
        source: Option<SessionKey>,
        origin: Option<Origin>,
        stamp: RouteStamp,
        message: &Message,
    ) {
        match self.matches.filters[..] {
            [] => {}
            [filter] => self.deliver_to_filter(source, origin, stamp, message, filter),
            _ => self.deliver_to_overlapping(source, origin, stamp, message),
        }
    }

    fn deliver_to_filter(
        &mut self,
        source: Option<SessionKey>,
        origin: Option<Origin>,
        stamp: RouteStamp,
        message: &Message,
        filter: FilterKey,
    ) {
        let mut post = Post::new(message, origin, stamp);
        for Subscriber { subscriber, subscription } in self.subscriptions.subscribers(filter) {
            let options = subscription.options;
            // [MQTT-3.8.3-3]
            if options.no_local && source == Some(*subscriber) {
                continue;
            }
            let terms = Terms {
                // [MQTT-3.8.4-8]
                qos: message.qos.min(options.qos),
                // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                retain: message.retain && options.retain_as_published,
                identifiers: subscription.identifier.map_or(Identifiers::None, Identifiers::One),
            };
            self.clients.deliver(*subscriber, &mut post, terms);
        }
        self.clients.end_post(post);
    }

    /// One copy for each session, with the highest QoS of its matching subscriptions [MQTT-3.3.4-2] and the identifiers of
    /// all of them [MQTT-3.3.4-4].
    fn deliver_to_overlapping(
        &mut self,
        source: Option<SessionKey>,
        origin: Option<Origin>,
        stamp: RouteStamp,
        message: &Message,
    ) {
        let Overlapping { order, merged } = &mut self.overlapping;
        for filter in &self.matches.filters {
            for Subscriber { subscriber, subscription } in self.subscriptions.subscribers(*filter) {
                let options = subscription.options;
                if options.no_local && source == Some(*subscriber) {
                    continue;
                }
                let copy = merged.entry(*subscriber).or_insert_with(|| {
                    order.push(*subscriber);
                    Merged { qos: QoS::AtMostOnce, retain_as_published: false, identifiers: Vec::new() }
                });
                copy.qos = copy.qos.max(options.qos);
                copy.retain_as_published |= options.retain_as_published;
                copy.identifiers.extend(subscription.identifier);
            }
        }
        let mut post = Post::new(message, origin, stamp);
        for subscriber in order.drain(..) {
            let copy = merged.remove(&subscriber).expect("noted together");
            let terms = Terms {
                qos: message.qos.min(copy.qos),
                retain: message.retain && copy.retain_as_published,
                identifiers: Identifiers::from(copy.identifiers),
            };
            self.clients.deliver(subscriber, &mut post, terms);
        }
        self.clients.end_post(post);
    }
}
