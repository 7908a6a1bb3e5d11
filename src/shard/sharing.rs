//! Shared subscriptions: from a group to one of its members, and back if that one can't have the message any more.
//!
//! The group's home ([`groups`](super::groups)) is a subscriber of the group's filter like any other; so messages come to
//! it as they come to every subscriber, once. It hands each to one member, by letter if that lives on another shard:
//! numbered and logged, if the group outlives the broker, in the batch that says that the message has come. From there on
//! the message is a delivery of the member's session, and all that holds for those holds for it: QoS 2 of a shared
//! subscription is exactly-once because it is an ordinary exchange.
//!
//! | what waits for a member       | its client goes away                | it unsubscribes | its session ends  | statement    |
//! |-------------------------------|-------------------------------------|-----------------|-------------------|--------------|
//! | not sent                      | given back if another one is there  | the same        | given back        | –            |
//! | QoS 1, sent, no PUBACK        | stays, and is sent again            | stays           | given back        | 5.0 4.8.2    |
//! | QoS 2, sent                   | stays, and is completed             | stays           | forgotten         | MQTT-4.8.2-4, MQTT-4.8.2-5 |
//! | refused by the client         | –                                   | –               | –  (forgotten)    | MQTT-4.8.2-6 |
//! | moved out of memory into the log | stays                            | stays           | forgotten         | –            |
//!
//! When nobody of a group is there, messages wait for members that are away. The first one who comes gets them all: the
//! home calls back what waits for the others. What is given back moves from one log to the other in one batch, by a
//! numbered letter, as everything does.

use std::iter;
use std::sync::Arc;

use crate::proto::QoS;
use crate::route::{
    Identifiers, Letter, Message, Presence, Publisher, RouteSequence, RouteStamp, ShardId, Share, SharedTerms,
    Standing, Subscription, Terms, Ticket, TopicFilter,
};
use crate::store::{LetterNumber, LetterPurpose, LogPosition, Record};

use super::Shard;
use super::clients::Clients;
use super::connection::ConnectionKey;
use super::delivering::Post;
use super::groups::{Groups, Left, Member, Need, Place};
use super::links::DurableLetter;
use super::messages::Delivery;
use super::placement::shard_of;
use super::publishing::Provenance;
use super::recipient::{GroupKey, Recipient};
use super::sessions::SessionKey;

/// Messages that are over for members, until their groups' homes are told.
#[derive(Debug, Default)]
pub(super) struct Completed {
    counts: Vec<(Arc<str>, Arc<Share>, u32)>,
}

impl Completed {
    fn add(&mut self, client_id: &Arc<str>, share: &Arc<Share>) {
        let known = self.counts.iter_mut().find(|(_, known, _)| Arc::ptr_eq(known, share));
        match known {
            Some((_, _, messages)) => *messages += 1,
            None => self.counts.push((Arc::clone(client_id), Arc::clone(share), 1)),
        }
    }
}

impl Clients {
    /// A delivery is over: its message is given back, and its group's home is told.
    #[inline]
    pub(super) fn end_delivery(&mut self, session: SessionKey, delivery: &Delivery) {
        self.messages.release(delivery.message);
        self.note_completed(session, &delivery.terms);
    }

    /// A message that was meant for a session on these terms is over for it.
    #[inline]
    pub(super) fn note_completed(&mut self, session: SessionKey, terms: &Terms) {
        if let Some(SharedTerms { share, .. }) = terms.shared()
            && let Some(memberships) = &self.sessions.get(session).memberships
        {
            self.completed.add(&memberships.client_id, share);
        }
    }

    fn home_of(&self, share: &Share) -> ShardId {
        shard_of(&share.group, self.outbox.shards() as u16)
    }

    /// Logs a letter about a message of a group, if it is to outlive the broker; its number, and what it waits for.
    fn log_shared(
        &mut self,
        to: ShardId,
        is_durable: bool,
        message: &Message,
        purpose: impl FnOnce() -> LetterPurpose,
    ) -> (Option<LetterNumber>, LogPosition) {
        if !is_durable || !self.log.is_on() {
            return (None, LogPosition::NOTHING);
        }
        let sequence = RouteSequence::BEFORE_START;
        let letter = DurableLetter { purpose: purpose(), message: message.clone(), sequence, publisher: None };
        let after = self.log_letter(iter::once(to), &letter);
        let number = self.number_at(to);
        self.end_letter();
        (number, after)
    }
}

/// Gives a message to one member of a group.
pub(super) fn deliver_to_group(groups: &mut Groups, clients: &mut Clients, group: GroupKey, post: &mut Post<'_>) {
    note_completed_here(groups, clients);
    let message = post.message();
    let Provenance { origin, may_come_again, .. } = post.provenance();
    let standing = match (may_come_again, groups.is_durable(group)) {
        (true, _) => Standing::Unsettled,
        (false, false) => Standing::Settled,
        (false, true) => Standing::Logged,
    };
    let may_wait = message.qos > QoS::AtMostOnce;
    let need = Need { may_wait, stays_out_of_logs: may_wait && may_come_again };
    let is_ready = |place| match place {
        Place::Here(_) => true,
        Place::At(shard) => !clients.outbox.is_full(shard) && !clients.links.has_failed(shard),
    };
    let Some(member) = groups.choose(group, need, is_ready) else {
        clients.counters.dropped_no_member += 1;
        return;
    };
    let Member { client_id, share, place, .. } = member;
    let terms = terms_of(share, message, standing);
    match *place {
        Place::Here(session) => clients.deliver(session, post, terms),
        Place::At(shard) => {
            if terms.qos == QoS::AtMostOnce && clients.outbox.is_full(shard) {
                clients.counters.dropped_ring_full += 1;
                return;
            }
            // Also if this member gets no more than QoS 0: it may have left, and then another one is owed the message.
            let is_durable = standing == Standing::Logged && message.qos > QoS::AtMostOnce;
            let (number, after) = clients.log_shared(shard, is_durable, message, || LetterPurpose::ToMember {
                client_id: Arc::clone(client_id),
                share: Arc::clone(share),
            });
            let (client_id, share) = (Arc::clone(client_id), Arc::clone(share));
            let message = message.clone();
            let letter = Letter::SharedDeliver { client_id, share, message, publisher: origin, number };
            clients.outbox.post_after(shard, letter, after);
            if let Some((from, publisher)) = origin
                && from == clients.id
                && clients.outbox.is_full(shard)
            {
                clients.pause_source(ConnectionKey::from_index(publisher.connection as usize));
            }
        }
    }
}

/// What topics are compared with for a group.
fn filter_of(share: &Share) -> TopicFilter<'_> {
    TopicFilter::parse(&share.group).expect("parsed when it was subscribed").unshared()
}

/// How a member gets a message.
fn terms_of(share: &Arc<Share>, message: &Message, standing: Standing) -> Terms {
    let options = share.subscription.options;
    Terms {
        // [MQTT-4.8.2-3]
        qos: message.qos.min(options.qos),
        retain: message.retain && options.retain_as_published,
        identifiers: Identifiers::Shared(SharedTerms { share: Arc::clone(share), standing }),
    }
}

/// Lets the groups of this shard know what is over for their members here.
fn note_completed_here(groups: &mut Groups, clients: &mut Clients) {
    let (id, shards) = (clients.id, clients.outbox.shards() as u16);
    clients.completed.counts.retain(|(client_id, share, messages)| {
        let is_here = shard_of(&share.group, shards) == id;
        if is_here {
            groups.complete(&share.group, client_id, *messages);
        }
        !is_here
    });
}

impl Shard {
    /// A session subscribes as a member of a group: there are no retained messages for it. How many answers its SUBACK waits
    /// for.
    pub(super) fn subscribe_shared(
        &mut self,
        session: SessionKey,
        group: &str,
        filter: &TopicFilter<'_>,
        subscription: Subscription,
        ticket: Ticket,
    ) -> usize {
        let share = Arc::new(Share { group: group.into(), subscription });
        let record = self.clients.sessions.get_mut(session);
        let is_durable = record.is_durable;
        let client_id = record.join(Arc::clone(&share));
        if is_durable {
            self.clients.log.append(&Record::Subscribed { session: session.id(), filter: group.into(), subscription });
        }
        let home = self.clients.home_of(&share);
        if home != self.clients.id {
            self.clients.outbox.post(home, Letter::SharedJoined { client_id, share, is_durable, ticket });
            return 1;
        }
        let filter = filter.unshared();
        self.add_member(Member::new(client_id, share, Place::Here(session), is_durable, Presence::Connected), &filter);
        self.tell_of_group(&filter, is_durable, ticket);
        usize::from(self.shards) - 1
    }

    /// A session of another shard joins a group of this one.
    pub(super) fn handle_shared_joined(
        &mut self,
        from: ShardId,
        client_id: Arc<str>,
        share: Arc<Share>,
        is_durable: bool,
        ticket: Ticket,
    ) {
        let group = Arc::clone(&share);
        let filter = filter_of(&group);
        self.add_member(Member::new(client_id, share, Place::At(from), is_durable, Presence::Connected), &filter);
        let ticket = self.subscribing.begin_joining(from, ticket, usize::from(self.shards) - 1);
        self.tell_of_group(&filter, is_durable, ticket);
    }

    /// Also if the group is known already: the others may not have heard of it yet.
    fn tell_of_group(&mut self, filter: &TopicFilter<'_>, is_durable: bool, ticket: Ticket) {
        self.tell_others(|| Letter::InterestGained {
            filter: filter.as_str().into(),
            ticket,
            wants_retained: false,
            is_durable,
        });
    }

    /// Adds a member to a group whose home this is, and the group to the subscribers of its filter.
    pub(super) fn add_member(&mut self, member: Member, filter: &TopicFilter<'_>) {
        let subscription = member.share.subscription;
        let group = self.groups.join(member);
        self.subscriptions.subscribe(filter, Recipient::from(group), subscription);
    }

    /// A session unsubscribes from a group. What was sent to it goes on as it is; the rest is called back by the home if
    /// another member is there. Whether it had subscribed.
    pub(super) fn unsubscribe_shared(&mut self, session: SessionKey, group: &str) -> bool {
        let record = self.clients.sessions.get_mut(session);
        let is_durable = record.is_durable;
        let Some((client_id, share)) = record.leave(group) else { return false };
        if is_durable {
            self.clients.log.append(&Record::Unsubscribed { session: session.id(), filter: group.into() });
        }
        let (home, presence) = (self.clients.home_of(&share), Presence::Gone);
        if home != self.clients.id {
            self.clients.outbox.post(home, Letter::SharedChanged { client_id, share, presence });
        } else if self.remove_member(&share, &client_id) {
            self.give_back_unsent(session, &share.group);
        }
        true
    }

    /// Tells the homes of a session's groups that its client has come or gone away.
    pub(super) fn announce_presence(&mut self, session: SessionKey, presence: Presence) {
        let Some(memberships) = &self.clients.sessions.get(session).memberships else { return };
        let (client_id, shares) = (Arc::clone(&memberships.client_id), memberships.shares.clone());
        for share in shares {
            self.tell_home(Arc::clone(&client_id), share, presence);
        }
    }

    /// A session has ended: leaves its groups, before what waited for it is given back to them.
    pub(super) fn leave_groups(&mut self, client_id: &Arc<str>, shares: &[Arc<Share>]) {
        for share in shares {
            self.tell_home(Arc::clone(client_id), Arc::clone(share), Presence::Gone);
        }
    }

    fn tell_home(&mut self, client_id: Arc<str>, share: Arc<Share>, presence: Presence) {
        let home = self.clients.home_of(&share);
        if home == self.clients.id {
            self.note_presence(&client_id, &share, presence);
        } else {
            self.clients.outbox.post(home, Letter::SharedChanged { client_id, share, presence });
        }
    }

    /// A member on another shard has come, gone away or left.
    pub(super) fn handle_shared_changed(
        &mut self,
        from: ShardId,
        client_id: Arc<str>,
        share: Arc<Share>,
        presence: Presence,
    ) {
        if self.note_presence(&client_id, &share, presence) {
            self.clients.outbox.post(from, Letter::SharedRecalled { client_id, share });
        }
    }

    /// Notes what has become of a member. Whether it has left, and there is somebody who can have what waits for it.
    fn note_presence(&mut self, client_id: &Arc<str>, share: &Arc<Share>, presence: Presence) -> bool {
        if presence == Presence::Gone {
            return self.remove_member(share, client_id);
        }
        note_completed_here(&mut self.groups, &mut self.clients);
        let recalled = self.groups.set_connected(&share.group, client_id, presence == Presence::Connected);
        for (client_id, share, place) in recalled {
            match place {
                Place::Here(session) => self.give_back_unsent(session, &share.group),
                Place::At(shard) => self.clients.outbox.post(shard, Letter::SharedRecalled { client_id, share }),
            }
        }
        false
    }

    /// Takes a member out of a group whose home this is. Whether others of the group are there.
    fn remove_member(&mut self, share: &Share, client_id: &str) -> bool {
        let filter = filter_of(share);
        match self.groups.leave(&share.group, client_id) {
            Left::Nobody(group) => {
                let unsubscribed = self.subscriptions.unsubscribe(&filter, Recipient::from(group));
                let unsubscribed = unsubscribed.expect("a group subscribes as long as it has members");
                if unsubscribed.last_local {
                    self.tell_others(|| Letter::InterestLost { filter: filter.as_str().into(), durable_only: false });
                } else if !self.has_durable_subscriber(unsubscribed.key) {
                    self.tell_others(|| Letter::InterestLost { filter: filter.as_str().into(), durable_only: true });
                }
                false
            }
            Left::NobodyDurable => {
                let key = self.subscriptions.find(&filter).expect("a group subscribes as long as it has members");
                if !self.has_durable_subscriber(key) {
                    self.tell_others(|| Letter::InterestLost { filter: filter.as_str().into(), durable_only: true });
                }
                self.groups.has_others_connected(&share.group, client_id)
            }
            Left::Others => self.groups.has_others_connected(&share.group, client_id),
            Left::Unchanged => false,
        }
    }

    /// The home of its group has chosen a session of this shard.
    pub(super) fn handle_shared_deliver(
        &mut self,
        from: ShardId,
        client_id: &str,
        share: Arc<Share>,
        message: Message,
        publisher: Option<(ShardId, Publisher)>,
        number: Option<LetterNumber>,
    ) {
        if !self.is_due(from, number) {
            return;
        }
        let standing = if number.is_some() { Standing::Logged } else { Standing::Unsettled };
        let sessions = &self.clients.sessions;
        let member = sessions.find(client_id).and_then(|key| {
            let session = sessions.get(key);
            let terms = terms_of(session.membership(&share.group)?, &message, standing);
            let would_be_logged = session.is_durable && terms.qos > QoS::AtMostOnce;
            (standing.is_settled() || !would_be_logged).then_some((key, terms))
        });
        let Some((session, terms)) = member else {
            // It has left, or has come back as one that outlives the broker, and its home did not know yet.
            return self.return_to_group(share, message, standing);
        };
        let mut post = Post::new(&message, self.provenance_of_shared(publisher, standing));
        self.clients.deliver(session, &mut post, terms);
        self.clients.end_post(post);
    }

    /// The home wants back what waits unsent for a session of this shard.
    pub(super) fn handle_shared_recalled(&mut self, client_id: &str, share: &Share) {
        let Some(session) = self.clients.sessions.find(client_id) else { return };
        let record = self.clients.sessions.get(session);
        let has_come_back = record.connection.is_some() && record.membership(&share.group).is_some();
        if !has_come_back {
            self.give_back_unsent(session, &share.group);
        }
    }

    /// Gives back what waits for a session as a member of a group and was never sent.
    fn give_back_unsent(&mut self, session: SessionKey, group: &str) {
        let Some(outbound) = self.clients.sessions.outbound_if_any(session) else { return };
        let is_of_group =
            |delivery: &Delivery| delivery.terms.shared().is_some_and(|terms| *terms.share.group == *group);
        for (number, delivery) in outbound.withdraw(is_of_group) {
            self.clients.log_completed(session, number);
            self.clients.note_completed(session, &delivery.terms);
            self.give_back(delivery);
        }
        self.clients.pump(session);
    }

    /// Gives a delivery back to its group.
    pub(super) fn give_back(&mut self, delivery: Delivery) {
        let message = self.clients.messages.get(delivery.message).clone();
        self.clients.messages.release(delivery.message);
        let Identifiers::Shared(SharedTerms { share, standing }) = delivery.terms.identifiers else {
            unreachable!("only what came through a group is given back to it")
        };
        self.return_to_group(share, message, standing);
    }

    fn return_to_group(&mut self, share: Arc<Share>, message: Message, standing: Standing) {
        let home = self.clients.home_of(&share);
        if home == self.clients.id {
            return self.redistribute(&share, &message, standing);
        }
        let is_durable = standing.is_settled() && message.qos > QoS::AtMostOnce;
        let (number, after) = self
            .clients
            .log_shared(home, is_durable, &message, || LetterPurpose::FromMember { share: Arc::clone(&share) });
        self.clients.outbox.post_after(home, Letter::SharedReturned { share, message, number }, after);
    }

    /// A member on another shard gives a message back.
    pub(super) fn handle_shared_returned(
        &mut self,
        from: ShardId,
        share: &Share,
        message: &Message,
        number: Option<LetterNumber>,
    ) {
        if self.is_due(from, number) {
            let standing = if number.is_some() { Standing::Settled } else { Standing::Unsettled };
            self.redistribute(share, message, standing);
        }
    }

    /// Gives a message that a member has given back to another one, if the group still has any.
    fn redistribute(&mut self, share: &Share, message: &Message, standing: Standing) {
        self.clients.counters.shared_returned += 1;
        let Some(group) = self.groups.find(&share.group) else {
            self.clients.counters.dropped_no_member += 1;
            return;
        };
        let mut post = Post::new(message, self.provenance_of_shared(None, standing));
        deliver_to_group(&mut self.groups, &mut self.clients, group, &mut post);
        self.clients.end_post(post);
    }

    fn provenance_of_shared(&self, origin: Option<(ShardId, Publisher)>, standing: Standing) -> Provenance {
        // What came through a group is not put in order with retained messages, which it never has.
        let stamp = RouteStamp { shard: self.clients.id, sequence: RouteSequence::BEFORE_START };
        Provenance { session: None, origin, stamp, may_come_again: !standing.is_settled() }
    }

    /// So many messages are over for a member on another shard.
    pub(super) fn handle_shared_completed(&mut self, client_id: &str, share: &Share, messages: u32) {
        self.groups.complete(&share.group, client_id, messages);
    }

    /// Posts what is over for members whose groups' home is that shard.
    pub(super) fn post_completed(&mut self, to: ShardId) {
        let shards = self.shards;
        let completed = &mut self.clients.completed.counts;
        for (client_id, share, messages) in
            completed.extract_if(.., |(_, share, _)| shard_of(&share.group, shards) == to)
        {
            self.clients.outbox.post(to, Letter::SharedCompleted { client_id, share, messages });
        }
    }
}
