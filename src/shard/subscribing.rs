//! SUBSCRIBE and UNSUBSCRIBE, and the interest of other shards.
//!
//! With several shards a SUBSCRIBE is answered when every shard has applied it, and the retained messages come from their
//! homes; [`Letter`] explains the protocol. What becomes of it until then is the matter of [`feeding`](super::feeding).

use std::borrow::Cow;
use std::num::NonZeroU32;

use crate::proto::{
    Packet, PacketId, Properties, Property, PropertyWriter, QoS, ReasonCode, RetainHandling, Suback, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, suback_size,
};
use crate::route::{Author, FilterKey, Letter, PageLimit, PageRequest, ShardId, Subscription, Ticket, TopicFilter};
use crate::store::{LogPosition, Record};

use super::Shard;
use super::connection::ConnectionKey;
use super::feeding::{Granted, Pending};
use super::placement::shard_of;
use super::receiving::Violation;
use super::recipient::RecipientKind;
use super::sessions::SessionKey;

const ANSWER_TOO_LARGE: Violation = Violation {
    reason: ReasonCode::PacketTooLarge,
    text: "the answer is larger than the client's Maximum Packet Size",
};

impl Shard {
    /// Subscribes a session to a filter without a SUBSCRIBE.
    pub(super) fn subscribe_session(
        &mut self,
        session: SessionKey,
        filter: &TopicFilter<'_>,
        options: SubscriptionOptions,
    ) {
        let serial = self.subscribing.next_serial();
        let ticket = Ticket { serial, filter: 0 };
        let mut pending = Pending::new(session, None, PacketId::MIN);
        pending.filters.push(Granted { filter: None, qos: options.qos, identifier: None });
        // Nobody is there to ask for a second page.
        let limit = PageLimit { messages: u32::MAX, bytes: u64::MAX };
        self.subscribe_to(session, filter, Subscription { options, identifier: None }, ticket, limit, &mut pending);
        self.begin_subscribe(serial, pending);
        self.work_lookups();
    }

    pub(super) fn handle_subscribe(
        &mut self,
        key: ConnectionKey,
        session: SessionKey,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Violation> {
        let connection = self.clients.connection(key);
        let version = connection.version;
        let is_bridge = connection.role.is_foreign_bridge();
        self.check_subscribe(version, subscribe)?;
        self.check_answer_fits(key, || subscribe.filters().count())?;
        let identifier = subscribe.properties.subscription_identifier().and_then(NonZeroU32::new);
        let serial = self.subscribing.next_serial();
        let limit = self.first_page(session, subscribe.filters().count() * usize::from(self.shards));
        let is_full = self.subscribing.is_full(session);
        let mut pending = Pending::new(session, Some(key), subscribe.packet_id);
        for (index, (text, options)) in subscribe.filters().enumerate() {
            pending.filters.push(Granted { filter: None, qos: options.qos, identifier });
            let code = match self.filter_if_accepted(key, session, text) {
                Err(refusal) => {
                    pending.refusal.get_or_insert(refusal.text);
                    refusal.reason
                }
                Ok(_) if is_full => {
                    self.clients.counters.refused_waiting_subscribes += 1;
                    pending.refusal.get_or_insert("too many SUBSCRIBEs wait for retained messages to be taken");
                    ReasonCode::QuotaExceeded
                }
                Ok(filter) => {
                    let ticket = Ticket { serial, filter: index as u32 };
                    let options = if is_bridge { as_for_bridge(options) } else { options };
                    let subscription = Subscription { options, identifier };
                    if filter.share().is_some() {
                        pending.missing += self.subscribe_shared(session, text, &filter, subscription, ticket);
                    } else {
                        self.subscribe_to(session, &filter, subscription, ticket, limit, &mut pending);
                    }
                    // [MQTT-3.8.4-7]
                    granted(options.qos)
                }
            };
            pending.codes.push(suback_code(version, code));
        }
        self.begin_subscribe(serial, pending);
        self.work_lookups();
        Ok(())
    }

    fn subscribe_to(
        &mut self,
        session: SessionKey,
        filter: &TopicFilter<'_>,
        subscription: Subscription,
        ticket: Ticket,
        limit: PageLimit,
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
        let is_new = self.subscribing.take_unfinished(session, subscribed.key) || !subscribed.replaced;
        // [MQTT-3.3.1-9..11]
        let wants_retained = self.clients.service.retain
            && match subscription.options.retain_handling {
                RetainHandling::SendAlways => true,
                RetainHandling::SendIfNew => is_new,
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
            let client_id = &self.clients.sessions.get(session).client_id;
            let without = subscription.options.no_local.then(|| Author::of(client_id));
            let request = PageRequest { filter: Some(filter.as_str().into()), without, limit };
            self.mark(self.clients.id, ticket, filter, Some(&request));
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
        if bytes <= max.get() as usize { Ok(()) } else { Err(ANSWER_TOO_LARGE) }
    }

    /// The reason string of a SUBACK or UNSUBACK, if something was refused and the client wants to know why [MQTT-3.1.2-29].
    pub(super) fn words_for(&mut self, key: ConnectionKey, refusal: Option<&str>) -> PropertyWriter {
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
    pub(super) fn answer(&mut self, key: ConnectionKey, in_words: &Packet<'_>, plain: &Packet<'_>, after: LogPosition) {
        if !self.clients.send_if_accepted(key, in_words, after) {
            self.clients.send(key, plain, after);
        }
    }

    /// Messages of this subscription that are queued or in flight are still delivered [MQTT-3.10.4-3].
    pub(super) fn unsubscribe_from(&mut self, session: SessionKey, filter: &TopicFilter<'_>) -> ReasonCode {
        let Some(unsubscribed) = self.subscriptions.unsubscribe(filter, session.into()) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        let is_known = self.clients.sessions.get_mut(session).subscriptions.remove(unsubscribed.key);
        assert!(is_known, "a session knows its subscriptions");
        self.forget_filter(session, unsubscribed.key);
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
            self.work_lookups();
        }
    }

    pub(super) fn apply_interest_lost(&mut self, from: ShardId, filter: &str, durable_only: bool) {
        let filter = TopicFilter::parse(filter).expect("the other shard has parsed it");
        self.subscriptions.remove_remote(&filter, from, durable_only);
    }

    /// Marks the moment at which this shard applied an interest, at all homes of the filter's retained messages. If the
    /// subscriber is its own, it says what it wants of them.
    fn mark(&mut self, subscriber: ShardId, ticket: Ticket, filter: &TopicFilter<'_>, request: Option<&PageRequest>) {
        let routed = self.routed;
        for home in self.homes_of(filter) {
            let request = request.cloned();
            if home == self.clients.id {
                self.note_mark(home, (subscriber, ticket), routed, request);
            } else {
                self.clients.outbox.post(home, Letter::RetainedMark { subscriber, ticket, routed, request });
            }
        }
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
