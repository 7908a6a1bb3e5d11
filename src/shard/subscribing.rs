//! SUBSCRIBE and UNSUBSCRIBE, the interest of other shards, and retained messages for new subscriptions.
//!
//! With several shards a SUBSCRIBE is answered when every shard has applied it, and the retained messages come from their
//! homes; [`Letter`] explains the protocol. Until then what is delivered to the session is held, so that retained
//! messages can be put in their places. With one shard all of it happens within the call.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::borrow::Cow;
use std::num::NonZeroU32;

use crate::proto::{
    Packet, PacketId, Properties, Property, PropertyWriter, QoS, ReasonCode, RetainHandling, Suback, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, suback_size,
};
use crate::route::{
    FilterKey, Identifiers, Letter, Message, RouteSequence, RouteStamp, ShardId, Subscription, Terms, Ticket,
    TopicFilter,
};
use crate::store::{LogPosition, Record};

use super::Shard;
use super::connection::ConnectionKey;
use super::placement::shard_of;
use super::receiving::Violation;
use super::recipient::RecipientKind;
use super::sessions::{HeldDelivery, SessionKey};

const ANSWER_TOO_LARGE: Violation = Violation {
    reason: ReasonCode::PacketTooLarge,
    text: "the answer is larger than the client's Maximum Packet Size",
};

/// SUBSCRIBEs and lookups that wait for other shards.
#[derive(Debug, Default)]
pub(super) struct Subscribing {
    serial: u64,
    /// SUBSCRIBEs of this shard's clients, by serial.
    pending: HashMap<u64, Pending, foldhash::fast::FixedState>,
    /// Sessions of other shards that join groups of this one, by serial.
    joining: HashMap<u64, Joining, foldhash::fast::FixedState>,
    /// Lookups of retained messages of which this shard is the home, until every shard's mark is there.
    lookups: HashMap<(ShardId, Ticket), Lookup, foldhash::fast::FixedState>,
}

/// One SUBSCRIBE that waits for other shards.
#[derive(Debug)]
struct Pending {
    session: SessionKey,
    /// Where its SUBACK goes; none once that connection is gone, for another one does not know the packet id.
    connection: Option<ConnectionKey>,
    packet_id: PacketId,
    codes: Vec<u8>,
    /// Why the first of the filters was refused that was.
    refusal: Option<&'static str>,
    filters: Vec<Granted>,
    /// Answers still to come.
    missing: usize,
    found: Vec<(u32, Vec<(RouteStamp, Message)>)>,
}

/// What is to be known of a granted filter when its retained messages arrive.
#[derive(Clone, Copy, Debug)]
struct Granted {
    /// The subscription; none once it is unsubscribed, or if it never came to be.
    filter: Option<FilterKey>,
    qos: QoS,
    identifier: Option<NonZeroU32>,
}

/// A group of this shard gets a member on another shard, which waits for all shards to know of the group.
#[derive(Debug)]
struct Joining {
    /// Whom to tell, under which ticket.
    of: (ShardId, Ticket),
    missing: usize,
}

#[derive(Debug)]
struct Lookup {
    /// What each shard had routed when it applied the interest.
    routed: Vec<Option<RouteSequence>>,
    missing: usize,
}

impl Subscribing {
    /// Waits for `missing` shards on behalf of another one; the ticket that they answer.
    pub(super) fn begin_joining(&mut self, from: ShardId, ticket: Ticket, missing: usize) -> Ticket {
        self.serial += 1;
        self.joining.insert(self.serial, Joining { of: (from, ticket), missing });
        Ticket { serial: self.serial, filter: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The session has unsubscribed: retained messages on their way are not for it any more [MQTT-3.10.4-2].
    fn forget_filter(&mut self, session: SessionKey, filter: FilterKey) {
        let pending = self.pending.values_mut().filter(|pending| pending.session == session);
        for granted in pending.flat_map(|pending| &mut pending.filters).filter(|granted| granted.filter == Some(filter))
        {
            granted.filter = None;
        }
    }

    /// Whether a SUBSCRIBE of this connection waits for other shards.
    pub(super) fn waits_for(&self, connection: ConnectionKey) -> bool {
        self.pending.values().any(|pending| pending.connection == Some(connection))
    }

    /// The session has lost its connection: nobody waits for SUBACK any more.
    pub(super) fn forget_connection(&mut self, session: SessionKey) {
        for pending in self.pending.values_mut().filter(|pending| pending.session == session) {
            pending.connection = None;
        }
    }

    /// The session is gone: its answers are not waited for.
    pub(super) fn forget(&mut self, session: SessionKey) {
        self.pending.retain(|_, pending| pending.session != session);
    }
}

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Violation> {
        let connection = self.clients.connection(key);
        let (version, is_bridge) = (connection.version, connection.is_bridge);
        self.check_subscribe(version, subscribe)?;
        self.check_answer_fits(key, || subscribe.filters().count())?;
        let identifier = subscribe.properties.subscription_identifier().and_then(NonZeroU32::new);
        self.subscribing.serial += 1;
        let serial = self.subscribing.serial;
        let mut pending = Pending {
            session,
            connection: Some(key),
            packet_id: subscribe.packet_id,
            codes: Vec::new(),
            refusal: None,
            filters: Vec::new(),
            missing: 0,
            found: Vec::new(),
        };
        for (index, (text, options)) in subscribe.filters().enumerate() {
            pending.filters.push(Granted { filter: None, qos: options.qos, identifier });
            let code = match self.filter_if_accepted(session, text) {
                Err(refusal) => {
                    pending.refusal.get_or_insert(refusal.text);
                    refusal.reason
                }
                Ok(filter) => {
                    let ticket = Ticket { serial, filter: index as u32 };
                    let options = if is_bridge { as_for_bridge(options) } else { options };
                    let subscription = Subscription { options, identifier };
                    if filter.share().is_some() {
                        pending.missing += self.subscribe_shared(session, text, &filter, subscription, ticket);
                    } else {
                        self.subscribe_to(session, &filter, subscription, ticket, &mut pending);
                    }
                    // [MQTT-3.8.4-7]
                    granted(options.qos)
                }
            };
            pending.codes.push(suback_code(version, code));
        }
        if pending.missing == 0 {
            self.complete_subscribe(pending);
        } else {
            self.clients.sessions.get_mut(session).held.get_or_insert_default().pending_subscribes += 1;
            self.subscribing.pending.insert(serial, pending);
        }
        Ok(())
    }

    fn subscribe_to(
        &mut self,
        session: SessionKey,
        filter: &TopicFilter<'_>,
        subscription: Subscription,
        ticket: Ticket,
        pending: &mut Pending,
    ) {
        let subscribed = self.subscriptions.subscribe(filter, session.into(), subscription);
        let record = self.clients.sessions.get_mut(session);
        let is_durable = record.is_durable;
        if !subscribed.replaced {
            record.subscriptions.push(subscribed.key);
        }
        if is_durable {
            let filter = Cow::Borrowed(filter.as_str());
            self.clients.log.append(&Record::Subscribed { session: session.id(), filter, subscription });
        }
        pending.filters[ticket.filter as usize].filter = Some(subscribed.key);
        // [MQTT-3.3.1-9..11]
        let wants_retained = self.clients.service.retain
            && match subscription.options.retain_handling {
                RetainHandling::SendAlways => true,
                RetainHandling::SendIfNew => !subscribed.replaced,
                RetainHandling::SendNever => false,
            };
        // Also if the filter has other subscribers here: the others may not have heard of these yet.
        self.tell_others(|| Letter::InterestGained {
            filter: filter.as_str().into(),
            ticket,
            wants_retained,
            is_durable,
        });
        pending.missing += usize::from(self.shards) - 1;
        if wants_retained {
            pending.missing += self.homes_of(filter).count();
            // Its own lookups are the last marks of this shard: with one shard they answer at once.
            self.mark(self.clients.id, ticket, filter, Some(pending));
        }
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<(), Violation> {
        self.check_answer_fits(key, || unsubscribe.filters().count())?;
        let mut codes = Vec::new();
        let mut refusal = None;
        for text in unsubscribe.filters() {
            // [MQTT-3.11.3-1] [MQTT-3.11.3-2]
            let code = match TopicFilter::parse(text) {
                Err(_) => {
                    refusal = Some("not a valid topic filter");
                    ReasonCode::TopicFilterInvalid
                }
                Ok(filter) if filter.share().is_some() => match self.unsubscribe_shared(session, text) {
                    true => ReasonCode::Success,
                    false => ReasonCode::NoSubscriptionExisted,
                },
                Ok(filter) => self.unsubscribe_from(session, &filter),
            };
            codes.push(code.value());
        }
        let after = self.clients.logged_for(session);
        let words = self.words_for(key, refusal);
        let packet_id = unsubscribe.packet_id;
        let unsuback = |properties| Packet::Unsuback(Suback { packet_id, properties, codes: &codes });
        self.answer(key, &unsuback(words.properties()), &unsuback(Properties::EMPTY), after);
        Ok(())
    }

    /// Whether the client accepts a SUBACK or UNSUBACK with so many reason codes [MQTT-3.1.2-24]. Asked before anything is done
    /// that could not be told.
    fn check_answer_fits(&mut self, key: ConnectionKey, codes: impl FnOnce() -> usize) -> Result<(), Violation> {
        let connection = self.clients.connection(key);
        let Some(max) = connection.max_packet_bytes else { return Ok(()) };
        let bytes = suback_size(connection.version, Properties::EMPTY, codes());
        if bytes <= max as usize { Ok(()) } else { Err(ANSWER_TOO_LARGE) }
    }

    /// The reason string of a SUBACK or UNSUBACK, if something was refused and the client wants to know why [MQTT-3.1.2-29].
    fn words_for(&mut self, key: ConnectionKey, refusal: Option<&str>) -> PropertyWriter {
        let mut words = PropertyWriter::new();
        if let Some(text) = refusal
            && self.clients.connection(key).wants_problem_information
        {
            words.push(Property::ReasonString(text));
        }
        words
    }

    /// Sends a SUBACK or UNSUBACK with its reason string if there is room for that [MQTT-3.9.2-1] [MQTT-3.11.2-1], and as there
    /// is room for it in any case if not.
    fn answer(&mut self, key: ConnectionKey, in_words: &Packet<'_>, plain: &Packet<'_>, after: LogPosition) {
        if !self.clients.send_if_accepted(key, in_words, after) {
            self.clients.send(key, plain, after);
        }
    }

    /// Messages of this subscription that are queued or in flight are still delivered [MQTT-3.10.4-3].
    fn unsubscribe_from(&mut self, session: SessionKey, filter: &TopicFilter<'_>) -> ReasonCode {
        let Some(unsubscribed) = self.subscriptions.unsubscribe(filter, session.into()) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        let subscriptions = &mut self.clients.sessions.get_mut(session).subscriptions;
        let index = subscriptions.iter().position(|key| *key == unsubscribed.key);
        subscriptions.swap_remove(index.expect("a session knows its subscriptions"));
        if self.clients.sessions.get(session).held.is_some() {
            self.subscribing.forget_filter(session, unsubscribed.key);
        }
        let is_durable = self.clients.sessions.get(session).is_durable;
        if is_durable {
            let filter = Cow::Borrowed(filter.as_str());
            self.clients.log.append(&Record::Unsubscribed { session: session.id(), filter });
        }
        if unsubscribed.last_local {
            self.tell_others(|| Letter::InterestLost { filter: filter.as_str().into(), durable_only: false });
        } else if is_durable && !self.has_durable_subscriber(unsubscribed.key) {
            self.tell_others(|| Letter::InterestLost { filter: filter.as_str().into(), durable_only: true });
        }
        ReasonCode::Success
    }

    /// Whether one of the filter's subscribers outlives the broker.
    pub(super) fn has_durable_subscriber(&self, filter: FilterKey) -> bool {
        let mut subscribers = self.subscriptions.subscribers(filter).iter();
        subscribers.any(|subscriber| match subscriber.subscriber.kind() {
            RecipientKind::Session(session) => self.clients.sessions.get(session).is_durable,
            RecipientKind::Group(group) => self.groups.is_durable(group),
        })
    }

    /// Another shard has a new subscriber of a filter.
    pub(super) fn apply_interest(
        &mut self,
        from: ShardId,
        filter: &str,
        ticket: Ticket,
        wants_retained: bool,
        is_durable: bool,
    ) {
        let filter = TopicFilter::parse(filter).expect("the other shard has parsed it");
        self.subscriptions.add_remote(&filter, from, is_durable);
        self.clients.outbox.post(from, Letter::InterestApplied { ticket });
        if wants_retained {
            self.mark(from, ticket, &filter, None);
        }
    }

    pub(super) fn apply_interest_lost(&mut self, from: ShardId, filter: &str, durable_only: bool) {
        let filter = TopicFilter::parse(filter).expect("the other shard has parsed it");
        self.subscriptions.remove_remote(&filter, from, durable_only);
    }

    /// Marks the moment at which this shard applied an interest, at all homes of the filter's retained messages. `pending`
    /// is the SUBSCRIBE if it is this shard's own and not noted yet.
    fn mark(&mut self, subscriber: ShardId, ticket: Ticket, filter: &TopicFilter<'_>, pending: Option<&mut Pending>) {
        let routed = self.routed;
        let mut is_home = false;
        for home in self.homes_of(filter) {
            if home == self.clients.id {
                is_home = true;
            } else {
                let filter = filter.as_str().into();
                self.clients.outbox.post(home, Letter::RetainedMark { subscriber, ticket, filter, routed });
            }
        }
        if is_home {
            self.note_mark(self.clients.id, subscriber, ticket, filter, routed, pending);
        }
    }

    /// Another shard has applied an interest and sent everything that it routed before.
    pub(super) fn handle_mark(
        &mut self,
        from: ShardId,
        subscriber: ShardId,
        ticket: Ticket,
        filter: &str,
        routed: RouteSequence,
    ) {
        let filter = TopicFilter::parse(filter).expect("the other shard has parsed it");
        self.note_mark(from, subscriber, ticket, &filter, routed, None);
    }

    fn note_mark(
        &mut self,
        from: ShardId,
        subscriber: ShardId,
        ticket: Ticket,
        filter: &TopicFilter<'_>,
        routed: RouteSequence,
        pending: Option<&mut Pending>,
    ) {
        let shards = usize::from(self.shards);
        let lookups = &mut self.subscribing.lookups;
        let lookup = lookups
            .entry((subscriber, ticket))
            .or_insert_with(|| Lookup { routed: vec![None; shards], missing: shards });
        let previous = lookup.routed[from.index()].replace(routed);
        assert!(previous.is_none(), "a shard marks an interest once");
        lookup.missing -= 1;
        if lookup.missing > 0 {
            return;
        }
        let lookup = lookups.remove(&(subscriber, ticket)).expect("noted above");
        let (messages, logged) = self.find_retained(filter, &lookup);
        match pending {
            Some(pending) => {
                pending.missing -= 1;
                pending.found.push((ticket.filter, messages));
            }
            None if subscriber == self.clients.id => self.handle_applied(ticket, messages),
            None => {
                // The subscriber's log may outlive what this one does not know yet, and which then is published again.
                let log = &mut self.clients.log;
                let after = if log.is_stable(logged) { LogPosition::NOTHING } else { log.wait_for_appended() };
                self.clients.outbox.post_after(subscriber, Letter::RetainedFound { ticket, messages }, after);
            }
        }
    }

    /// The retained messages of a filter, without those that the subscriber gets live, and from where on the log knows all of
    /// them. If it has failed, those that it will never know are left out.
    fn find_retained(&self, filter: &TopicFilter<'_>, lookup: &Lookup) -> (Vec<(RouteStamp, Message)>, LogPosition) {
        let log = &self.clients.log;
        let mut logged = LogPosition::NOTHING;
        let messages = self
            .retained
            .find(filter)
            .filter(|retained| Some(retained.stamp.sequence) <= lookup.routed[retained.stamp.shard.index()])
            .filter(|retained| !retained.message.is_expired(self.clients.now))
            .filter(|retained| log.failure().is_none() || log.is_stable(retained.logged))
            .inspect(|retained| logged = logged.max(retained.logged))
            .map(|retained| (retained.stamp, retained.message.clone()))
            .collect();
        (messages, logged)
    }

    /// One of the answers that a SUBSCRIBE waits for.
    pub(super) fn handle_applied(&mut self, ticket: Ticket, messages: Vec<(RouteStamp, Message)>) {
        if let Entry::Occupied(mut joining) = self.subscribing.joining.entry(ticket.serial) {
            joining.get_mut().missing -= 1;
            if joining.get().missing == 0 {
                let (shard, ticket) = joining.remove().of;
                self.clients.outbox.post(shard, Letter::InterestApplied { ticket });
            }
            return;
        }
        // Its session may have ended meanwhile.
        let Some(pending) = self.subscribing.pending.get_mut(&ticket.serial) else { return };
        pending.missing -= 1;
        if !messages.is_empty() {
            pending.found.push((ticket.filter, messages));
        }
        if pending.missing > 0 {
            return;
        }
        let pending = self.subscribing.pending.remove(&ticket.serial).expect("found above");
        let (session, connection) = (pending.session, pending.connection);
        let held = self.clients.sessions.get_mut(session).held.as_mut().expect("a pending SUBSCRIBE holds deliveries");
        held.pending_subscribes -= 1;
        self.complete_subscribe(pending);
        if let Some(key) = connection {
            self.end_if_over(key);
        }
    }

    /// Every shard has applied the subscription: SUBACK, then the retained messages, in their places among what is held.
    fn complete_subscribe(&mut self, pending: Pending) {
        let Pending { session, connection, packet_id, codes, refusal, filters, found, .. } = pending;
        let mut retained = Vec::new();
        for (index, messages) in found {
            let Granted { filter: Some(_), qos, identifier } = filters[index as usize] else { continue };
            for (stamp, message) in messages {
                let terms = Terms {
                    qos: message.qos.min(qos),
                    // [MQTT-3.3.1-8]
                    retain: true,
                    identifiers: identifier.map_or(Identifiers::None, Identifiers::One),
                };
                let message = self.clients.messages.insert(message);
                retained.push(HeldDelivery { message, terms, stamp, is_live: false });
            }
        }
        // They are logged before SUBACK is promised: who has it, has a right to them.
        self.clients.hold_retained(session, retained);
        if let Some(connection) = connection {
            let after = self.clients.logged_for(session);
            let words = self.words_for(connection, refusal);
            let suback = |properties| Packet::Suback(Suback { packet_id, properties, codes: &codes });
            self.answer(connection, &suback(words.properties()), &suback(Properties::EMPTY), after);
        }
        self.clients.release_held(session);
    }

    /// The shards that keep retained messages for a filter: one for a topic, all for a wildcard.
    fn homes_of(&self, filter: &TopicFilter<'_>) -> impl Iterator<Item = ShardId> + use<> {
        let homes = if filter.is_exact() {
            let home = shard_of(filter.as_str(), self.shards).number();
            home..home + 1
        } else {
            0..self.shards
        };
        homes.map(|number| ShardId::new(number).expect("a broker has at most MAX_SHARDS shards"))
    }

    pub(super) fn tell_others(&mut self, letter: impl Fn() -> Letter) {
        for number in (0..self.shards).filter(|number| *number != self.clients.id.number()) {
            self.clients.outbox.post(ShardId::new(number).expect("a broker has at most MAX_SHARDS shards"), letter());
        }
    }
}

/// [MQTT-3.8.4-7]
fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQos1,
        QoS::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

/// What a bridge of 3.1.1 gets with each subscription: not what it published itself, and RETAIN as it was set.
fn as_for_bridge(options: SubscriptionOptions) -> SubscriptionOptions {
    SubscriptionOptions { no_local: true, retain_as_published: true, ..options }
}

/// 3.1.1 knows one code for every failure. 3.1 knows none, and gets the same: its clients take it for what it is, or for a
/// QoS that they did not ask for, but never for the one that they did.
fn suback_code(version: Version, reason: ReasonCode) -> u8 {
    match version {
        Version::V311 if reason.is_error() => ReasonCode::UnspecifiedError.value(),
        Version::V311 | Version::V5 => reason.value(),
    }
}
