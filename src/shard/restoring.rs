//! A shard that goes on where its log ended.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::fault::Fault;
use crate::link::{Receiver, Sender};
use crate::route::{Letter, Presence, RouteSequence, RouteStamp, ShardId, Share, TopicFilter, TopicName};
use crate::session::Reopened;
use crate::store::{DeliveryImage, Image, Log, LogEnd, LogPosition, OutgoingImage, Record, SessionImage};
use crate::time::Timestamp;

use super::delivering::Post;
use super::groups::{Member, Place};
use super::links::DurableLetter;
use super::messages::{Delivery, MessageKey};
use super::placement::shard_of;
use super::retained::RetainedMessage;
use super::sessions::SessionKey;
use super::{Shard, ShardConfig};

/// The messages restored so far, by where their bytes lie: what several sessions wait for is held once.
type Restored = HashMap<*const u8, MessageKey, foldhash::fast::FixedState>;

impl Shard {
    /// The shard that goes on where its log ended. `images` are those of all shards, this one's at its number.
    ///
    /// Clients that were connected count as gone from `now` on. Letters that were not acknowledged are posted again; what was
    /// held back for a session is delivered.
    ///
    /// # Panics
    /// If the configuration names no log.
    pub fn restore(config: ShardConfig, now: Timestamp, images: &[Image], end: LogEnd) -> Self {
        let log = Log::new(config.log.expect("a shard is restored from a log"), end);
        let own = config.id;
        let mut shard = Self::new(config);
        shard.clients.now = now;
        shard.clients.log = log;
        for (index, image) in images.iter().enumerate() {
            let of = ShardId::new(index as u16).expect("one image for each shard");
            for (id, session) in &image.sessions {
                shard.restore_interest(of, SessionKey::from_id(*id), session);
            }
        }
        shard.restore_image(&images[own.index()]);
        shard
    }

    /// What the subscriptions of a session mean to this shard, beside those that it has itself: who wants messages of a filter,
    /// and who belongs to the groups whose home it is.
    fn restore_interest(&mut self, of: ShardId, key: SessionKey, session: &SessionImage) {
        let mut client_id = None;
        for (text, subscription) in &session.subscriptions {
            let Ok(filter) = TopicFilter::parse(text) else { continue };
            if filter.share().is_none() {
                if of != self.clients.id {
                    self.subscriptions.add_remote(&filter, of, true);
                }
                continue;
            }
            let home = shard_of(text, self.shards);
            if home != self.clients.id {
                self.subscriptions.add_remote(&filter.unshared(), home, true);
                continue;
            }
            let place = if of == home { Place::Here(key) } else { Place::At(of) };
            let client_id = client_id.get_or_insert_with(|| Arc::from(&*session.client_id));
            let share = Arc::new(Share { group: text.clone(), subscription: *subscription });
            let open = session.deliveries.iter().flatten().filter(|delivery| is_of_group(delivery, text)).count();
            let member = Member::new(Arc::clone(client_id), share, place, true, Presence::Away).with_open(open);
            self.add_member(member, &filter.unshared());
        }
    }

    fn restore_image(&mut self, image: &Image) {
        let now = self.clients.now;
        for (topic, (message, author)) in &image.retained {
            if let Ok(topic) = TopicName::parse(topic) {
                let stamp = RouteStamp { shard: self.clients.id, sequence: RouteSequence::BEFORE_START };
                let retained =
                    RetainedMessage { message: message.clone(), author: *author, stamp, logged: LogPosition::NOTHING };
                self.retained.set(topic, retained);
            }
        }
        self.arm_sweep();
        self.clients.sessions.restore(image.sessions.iter(), now);
        let mut restored = Restored::default();
        for (id, session) in &image.sessions {
            let key = SessionKey::from_id(*id);
            self.restore_session(key, session, &mut restored);
        }
        self.restore_links(image);
        for (id, session) in &image.sessions {
            self.deliver_held_back(SessionKey::from_id(*id), session);
        }
        // Last, because wills are published here, and all else is older.
        for (id, session) in &image.sessions {
            self.wait_for_client(SessionKey::from_id(*id), session.disconnected_at.unwrap_or(now));
        }
    }

    fn restore_session(&mut self, key: SessionKey, session: &SessionImage, restored: &mut Restored) {
        for (filter, subscription) in &session.subscriptions {
            match TopicFilter::parse(filter) {
                Ok(parsed) if parsed.share().is_some() => {
                    let share = Share { group: filter.clone(), subscription: *subscription };
                    self.clients.sessions.get_mut(key).join(Arc::new(share));
                }
                Ok(parsed) => {
                    let subscribed = self.subscriptions.subscribe(&parsed, key.into(), *subscription);
                    self.clients.sessions.get_mut(key).subscriptions.push(subscribed.key);
                }
                Err(_) => {}
            }
        }
        if !session.received.is_empty() && !self.fault.is(Fault::ReceivedIdsLostAtRestart) {
            let inbound = self.clients.sessions.inbound(key);
            for id in &session.received {
                inbound.reopen(*id);
            }
        }
        if !session.deliveries.is_empty() || !session.logged.is_empty() {
            self.restore_deliveries(key, session, restored);
        }
    }

    /// Deliveries that may have been sent are in flight, the others wait in the queue, those last that the image has left in
    /// the log.
    fn restore_deliveries(&mut self, key: SessionKey, session: &SessionImage, restored: &mut Restored) {
        let SessionImage { deliveries, logged, .. } = session;
        let sent_below = session.in_flight_below().max(session.sent_below);
        let queued_from = logged.first().map_or(session.next_number, |(number, _)| number);
        let first = if deliveries.is_empty() { queued_from } else { session.first_number };
        let clients = &mut self.clients;
        clients.sessions.get_mut(key).next_number = first;
        let outbound = clients.sessions.outbound(key);
        outbound.set_sent_below(sent_below);
        for (number, delivery) in (first..).zip(deliveries) {
            let exchange = match delivery {
                Some(DeliveryImage::Open { message, terms }) => {
                    let stored = match restored.entry(message.body_address()) {
                        Entry::Occupied(known) => {
                            clients.messages.refer(*known.get());
                            *known.get()
                        }
                        Entry::Vacant(vacant) => *vacant.insert(clients.messages.insert_logged(message.clone())),
                    };
                    let delivery = Delivery { message: stored, bytes: message.bytes() as u32, terms: terms.clone() };
                    Reopened::Unacknowledged(delivery)
                }
                Some(DeliveryImage::Confirmed) => Reopened::AwaitingPubcomp,
                None => Reopened::Done,
            };
            match exchange {
                Reopened::Unacknowledged(delivery) if number >= sent_below => outbound.requeue(delivery),
                exchange => outbound.reopen(exchange),
            }
        }
        while outbound.next_number() < queued_from {
            outbound.reopen(Reopened::Done);
        }
        if !logged.is_empty() {
            assert!(outbound.next_number() == queued_from, "what an image leaves in the log waits behind all the rest");
            outbound.requeue_away(logged.count(), logged.bytes());
            clients.backlogs.restore(key, logged.clone());
        }
    }

    fn restore_links(&mut self, image: &Image) {
        for (shard, OutgoingImage { acknowledged, waiting }) in &image.outgoing {
            let Some(to) = ShardId::new(*shard) else { continue };
            let mut sender = Sender::new(*acknowledged);
            for (purpose, message) in waiting.values() {
                let (message, sequence) = (message.clone(), RouteSequence::BEFORE_START);
                sender.post(DurableLetter { purpose: purpose.clone(), message, sequence, publisher: None });
            }
            self.clients.links.senders[to.index()] = sender;
            self.clients.resend_letters(to, *acknowledged);
        }
        for (shard, applied) in &image.incoming {
            let Some(from) = ShardId::new(*shard) else { continue };
            self.clients.links.receivers[from.index()] = Receiver::new(*applied);
            self.clients.outbox.post(from, Letter::Acknowledged { through: *applied });
        }
    }

    /// Delivers what was held back for a SUBSCRIBE that nobody waits for any more.
    fn deliver_held_back(&mut self, key: SessionKey, session: &SessionImage) {
        for (message, terms) in &session.held_back {
            let stamp = RouteStamp { shard: self.clients.id, sequence: RouteSequence::BEFORE_START };
            let mut post = Post::of_the_past(message, stamp);
            self.clients.deliver(key, &mut post, terms.clone());
            self.clients.end_post(post);
        }
        if !session.held_back.is_empty() {
            self.clients.log.append(&Record::HeldReleased { session: key.id() });
        }
    }
}

fn is_of_group(delivery: &DeliveryImage, group: &str) -> bool {
    match delivery {
        DeliveryImage::Open { terms, .. } => terms.shared().is_some_and(|terms| *terms.share.group == *group),
        DeliveryImage::Confirmed => false,
    }
}
