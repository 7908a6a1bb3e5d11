//! The books of one client: what it asked for, what it got, and what that allows and demands.

use oncemq::proto::{QoS, RetainHandling, SubscriptionOptions};

use crate::scenario::matches;

use super::{Arrival, Failure, Live, Message, MessageNumber, Step, fail};

/// One filter of one SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) filter: String,
    pub(super) options: SubscriptionOptions,
    pub(super) identifier: Option<u32>,
    /// Whether there was certainly no subscription to the filter before.
    pub(super) is_new: bool,
    pub(super) acknowledged_at: Option<Step>,
    pub(super) unsubscribe_sent_at: Option<Step>,
    pub(super) unsubscribed_at: Option<Step>,
}

/// The books of one client, for its present session.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) requests: Vec<Request>,
    /// By message.
    pub(super) copies: Vec<Copies>,
    pub(super) latest: Vec<Latest>,
    pub(super) max_packet_bytes: Option<u32>,
    /// Groups that an earlier session was a member of, as long as the broker may not have heard of its end.
    pub(super) ending: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copies {
    pub(super) all: u32,
    pub(super) without_retain: u32,
    /// Of all, at QoS 0.
    at_most_once: u32,
    /// How many more there may be.
    repeats: u32,
}

/// The latest message that arrived of a publisher, topic and pair of QoS.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) topic: String,
    pub(super) publisher: usize,
    pub(super) qos: (QoS, QoS),
    pub(super) message: MessageNumber,
    /// The latest of those that were published with RETAIN.
    pub(super) retained: Option<MessageNumber>,
}
impl Request {
    fn wants_retained(&self) -> bool {
        self.options.retain_handling != RetainHandling::SendNever
    }
}

impl Account {
    pub(super) fn copies(&self, number: MessageNumber) -> Copies {
        self.copies.get(number as usize).copied().unwrap_or_default()
    }

    fn copies_mut(&mut self, number: MessageNumber) -> &mut Copies {
        let index = number as usize;
        if self.copies.len() <= index {
            self.copies.resize(index + 1, Copies::default());
        }
        &mut self.copies[index]
    }

    pub(super) fn may_come_again(&mut self, number: MessageNumber) {
        self.copies_mut(number).repeats += 1;
    }

    pub(super) fn requests_for<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Request> + Clone {
        self.requests.iter().filter(move |request| matches(&request.filter, topic))
    }

    /// The subscriptions that were in effect all the time in which the message could be routed; none if they changed.
    fn in_effect<'a>(&'a self, message: &'a Message) -> Option<Vec<&'a Request>> {
        let mut in_effect: Vec<&Request> = Vec::new();
        for request in self.requests_for(&message.topic) {
            if request.unsubscribed_at.is_some_and(|at| at < message.sent_at) {
                continue;
            }
            let is_stable =
                request.acknowledged_at.is_some_and(|at| at < message.sent_at) && request.unsubscribe_sent_at.is_none();
            if !is_stable {
                return None;
            }
            in_effect.retain(|earlier| earlier.filter != request.filter);
            in_effect.push(request);
        }
        Some(in_effect)
    }

    /// QoS, RETAIN, identifiers: whether the message may come like this.
    pub(super) fn check_terms(
        &self,
        client: usize,
        number: MessageNumber,
        message: &Message,
        arrival: &Arrival<'_>,
    ) -> Result<(), Failure> {
        let possible = self
            .requests_for(&message.topic)
            .filter(|request| request.unsubscribed_at.is_none_or(|at| at >= message.sent_at));
        let Some(highest) = possible.clone().map(|request| request.options.qos).max() else {
            fail!("client {client} got message {number} of {} without a subscription", message.topic);
        };
        // [MQTT-3.8.4-8]
        if arrival.qos > message.qos.min(highest) {
            fail!("client {client} got message {number} with {:?}, above the subscription's", arrival.qos);
        }
        // [MQTT-3.3.1-8] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        let may_retain =
            possible.clone().any(|request| request.wants_retained() || request.options.retain_as_published);
        if arrival.retain && !(message.retain && may_retain) {
            fail!("client {client} got message {number} with RETAIN");
        }
        // [MQTT-3.3.2-6]
        if arrival.expiry_seconds > message.expiry_seconds {
            fail!("client {client} got message {number} with an expiry of {:?} seconds", arrival.expiry_seconds);
        }
        // [MQTT-3.3.4-3]
        let asked = |identifier: &u32| possible.clone().any(|request| request.identifier == Some(*identifier));
        if !arrival.identifiers.iter().all(asked) {
            fail!("client {client} got message {number} with subscription identifiers {:?}", arrival.identifiers);
        }
        match self.in_effect(message) {
            Some(in_effect) if !arrival.retain => check_live_terms(client, number, message, arrival, &in_effect),
            Some(_) | None => Ok(()),
        }
    }

    /// Counts one more copy, if there may be one more and it is its turn.
    pub(super) fn count(
        &mut self,
        client: usize,
        number: MessageNumber,
        message: &Message,
        arrival: &Arrival<'_>,
        live: Live,
    ) -> Result<(), Failure> {
        let requests = self.requests_for(&message.topic).count() as u32;
        let lookups = self.requests_for(&message.topic).filter(|request| request.wants_retained()).count() as u32;
        let copies = self.copies_mut(number);
        let is_first = copies.all == 0;
        if arrival.qos == QoS::AtLeastOnce && arrival.dup && !is_first {
            return Ok(());
        }
        copies.all += 1;
        copies.without_retain += u32::from(!arrival.retain);
        copies.at_most_once += u32::from(arrival.qos == QoS::AtMostOnce);
        let after_crashes = live.crashes.min(copies.at_most_once);
        let live = live.copies + after_crashes + copies.repeats;
        if copies.without_retain > live {
            fail!("client {client} got message {number} {} times", copies.without_retain);
        }
        // With one request, a message is either live for it or retained before it. With more, one request may have it
        // live and each of the others find it retained.
        let allowed = if requests == 1 { live } else { live + lookups };
        if copies.all > allowed {
            fail!("client {client} got message {number} {} times, {allowed} allowed", copies.all);
        }
        // [MQTT-4.6.0-5] [MQTT-4.6.0-6]; what may come more than once has no order with itself.
        let is_in_order = is_first && (!arrival.retain || requests == 1);
        if is_in_order {
            self.check_order(client, number, message, arrival, live > 1)?;
        }
        Ok(())
    }

    fn check_order(
        &mut self,
        client: usize,
        number: MessageNumber,
        message: &Message,
        arrival: &Arrival<'_>,
        may_repeat: bool,
    ) -> Result<(), Failure> {
        let qos = (message.qos, arrival.qos);
        let same = |latest: &&mut Latest| {
            latest.publisher == message.publisher && latest.qos == qos && latest.topic == message.topic
        };
        let Some(latest) = self.latest.iter_mut().find(same) else {
            let Message { publisher, ref topic, .. } = *message;
            let retained = message.retain.then_some(number);
            self.latest.push(Latest { topic: topic.clone(), publisher, qos, message: number, retained });
            return Ok(());
        };
        // What is retained may be found behind live messages, but not behind one that has taken its place.
        let before = if arrival.retain { latest.retained } else { Some(latest.message) };
        if let Some(before) = before.filter(|before| number < *before && !may_repeat) {
            fail!("client {client} got message {number} of {} behind {before}", message.topic);
        }
        latest.message = latest.message.max(number);
        if message.retain {
            latest.retained = latest.retained.max(Some(number));
        }
        Ok(())
    }

    /// Whether some subscription of the client covers the message without doubt, above QoS 0.
    pub(super) fn must_get(&self, client: usize, message: &Message) -> bool {
        message.qos > QoS::AtMostOnce
            && self.takes(message)
            && self.requests_for(&message.topic).any(|request| {
                let is_stable = request.acknowledged_at.is_some_and(|at| at < message.sent_at)
                    && request.unsubscribe_sent_at.is_none();
                is_stable && self.is_reliable(client, message, request)
            })
    }

    /// Whether some subscription of the client was to bring it the retained message of the topic, or a live one.
    pub(super) fn must_see_retained(&self, client: usize, message: &Message) -> bool {
        message.qos > QoS::AtMostOnce
            && self.takes(message)
            && self.requests_for(&message.topic).any(|request| {
                let wants_retained = match request.options.retain_handling {
                    RetainHandling::SendAlways => true,
                    RetainHandling::SendIfNew => request.is_new,
                    RetainHandling::SendNever => false,
                };
                let is_stable = request.acknowledged_at.is_some() && request.unsubscribe_sent_at.is_none();
                is_stable && wants_retained && self.is_reliable(client, message, request)
            })
    }

    /// Whether the message is so small that its packet is not larger than the client allows [MQTT-3.1.2-24].
    pub(super) fn takes(&self, message: &Message) -> bool {
        const MOST_HEADER_BYTES: usize = 200;
        self.max_packet_bytes.is_none_or(|max| message.payload.len() + MOST_HEADER_BYTES < max as usize)
    }

    /// Whether neither the subscription nor what may have replaced it lets the message fall to QoS 0 or be left out.
    fn is_reliable(&self, client: usize, message: &Message, from: &Request) -> bool {
        let own = message.publisher == client;
        let mut is_later = false;
        self.requests.iter().filter(|request| request.filter == from.filter).all(|request| {
            is_later |= std::ptr::eq(request, from);
            !is_later || request.options.qos > QoS::AtMostOnce && !(own && request.options.no_local)
        })
    }
}

/// A live copy under subscriptions that did not change has exactly their terms.
fn check_live_terms(
    client: usize,
    number: MessageNumber,
    message: &Message,
    arrival: &Arrival<'_>,
    in_effect: &[&Request],
) -> Result<(), Failure> {
    let own = message.publisher == client;
    let giving: Vec<_> = in_effect.iter().filter(|request| !(own && request.options.no_local)).collect();
    // [MQTT-3.8.3-3]
    let Some(highest) = giving.iter().map(|request| request.options.qos).max() else {
        fail!("client {client} got its own message {number}, against no local");
    };
    let expected = message.qos.min(highest);
    if arrival.qos != expected {
        fail!("client {client} got message {number} with {:?} instead of {expected:?}", arrival.qos);
    }
    if message.retain && giving.iter().any(|request| request.options.retain_as_published) {
        fail!("client {client} got message {number} without RETAIN, against retain as published");
    }
    // [MQTT-3.3.4-4]
    let mut identifiers: Vec<u32> = giving.iter().filter_map(|request| request.identifier).collect();
    let mut arrived = arrival.identifiers.clone();
    identifiers.sort_unstable();
    arrived.sort_unstable();
    if arrived != identifiers {
        fail!("client {client} got message {number} with identifiers {arrived:?} instead of {identifiers:?}");
    }
    Ok(())
}
