//! The books: what was published, who had subscribed to what, and what every client received.
//!
//! Entries are made by the clients as they send and receive; the broker is not asked. Times are steps of the run, which
//! give all entries one order. What a client forgot together with its session is out of its books; what a session
//! went through without interruption is owed in full.

mod groups;

use oncemq::proto::{QoS, RetainHandling, SubscriptionOptions};

use crate::scenario::{is_group_topic, matches};

use groups::Groups;

/// Why a run failed, in words.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// Ends a function with a [`Failure`].
macro_rules! fail {
    ($($argument:tt)*) => {
        return Err($crate::ledger::Failure(format!($($argument)*)))
    };
}
pub(crate) use fail;

/// A step of the run.
pub(crate) type Step = u64;

/// Names a message; the messages of a publisher are numbered in the order of their first sending.
pub(crate) type MessageNumber = u32;

/// How far a message has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Nobody may get it: a will that is not due.
    Withheld,
    /// Its publisher has sent it: it may arrive.
    Sent,
    /// The broker has acknowledged it: it has to arrive.
    Owed,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) publisher: usize,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) fate: Fate,
    /// When it expires, in seconds behind its publication.
    pub(crate) expiry_seconds: Option<u32>,
    /// When it was first sent; of a will, when it was due.
    sent_at: Step,
    /// How often its publisher sent it.
    pub(crate) sends: u32,
    is_will: bool,
    /// A will that is owed even if the broker crashes now.
    survives_crash: bool,
}

/// One filter of one SUBSCRIBE.
#[derive(Debug)]
struct Request {
    filter: String,
    options: SubscriptionOptions,
    identifier: Option<u32>,
    /// Whether there was certainly no subscription to the filter before.
    is_new: bool,
    acknowledged_at: Option<Step>,
    unsubscribe_sent_at: Option<Step>,
    unsubscribed_at: Option<Step>,
}

/// The books of one client, for its present session.
#[derive(Debug, Default)]
struct Account {
    requests: Vec<Request>,
    /// By message.
    copies: Vec<Copies>,
    latest: Vec<Latest>,
    max_packet_bytes: Option<u32>,
    /// Groups that an earlier session was a member of, as long as the broker may not have heard of its end.
    ending: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    all: u32,
    without_retain: u32,
}

/// The latest message that arrived of a publisher, topic and pair of QoS.
#[derive(Debug)]
struct Latest {
    topic: String,
    publisher: usize,
    qos: (QoS, QoS),
    message: MessageNumber,
    /// The latest of those that were published with RETAIN.
    retained: Option<MessageNumber>,
}

/// A PUBLISH as a client received it.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) identifiers: Vec<u32>,
    /// The client has this QoS 2 packet id open already, and does not hand the message on.
    pub(crate) is_repeated: bool,
}

/// The books of all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Now.
    pub(crate) step: Step,
    pub(crate) messages: Vec<Message>,
    accounts: Vec<Account>,
    groups: Groups,
    /// When the broker crashed.
    crashes: Vec<Step>,
    /// What was sent before may be lost: a broker without a log crashed then.
    lost_before: Step,
}

impl Message {
    /// What is delivered with this message must be exactly this.
    fn payload(number: MessageNumber, bytes: usize) -> Vec<u8> {
        let filling = (0..bytes as u32).map(|index| (number.wrapping_mul(31) + index) as u8);
        number.to_le_bytes().into_iter().chain(filling).collect()
    }
}

impl Request {
    fn wants_retained(&self) -> bool {
        self.options.retain_handling != RetainHandling::SendNever
    }
}

impl Ledger {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            step: 0,
            messages: Vec::new(),
            accounts: (0..clients).map(|_| Account::default()).collect(),
            groups: Groups::default(),
            crashes: Vec::new(),
            lost_before: 0,
        }
    }

    /// Enters a message that is about to be sent; `filling` is the size of its payload behind the number, none for an
    /// empty payload.
    pub(crate) fn publish(
        &mut self,
        publisher: usize,
        topic: String,
        qos: QoS,
        retain: bool,
        filling: Option<usize>,
        expiry_seconds: Option<u32>,
    ) -> MessageNumber {
        let number = self.messages.len() as MessageNumber;
        self.messages.push(Message {
            publisher,
            topic,
            qos,
            retain,
            payload: filling.map_or(Vec::new(), |bytes| Message::payload(number, bytes)),
            fate: Fate::Sent,
            expiry_seconds,
            sent_at: self.step,
            sends: 1,
            is_will: false,
            survives_crash: false,
        });
        number
    }

    /// Enters the will of a CONNECT. It must not arrive before it is due.
    pub(crate) fn leave_will(
        &mut self,
        publisher: usize,
        topic: String,
        qos: QoS,
        retain: bool,
        expiry_seconds: Option<u32>,
    ) -> MessageNumber {
        let number = self.publish(publisher, topic, qos, retain, Some(3), expiry_seconds);
        let will = self.message_mut(number);
        will.is_will = true;
        will.fate = Fate::Withheld;
        number
    }

    /// A will is published. With `survives_crash` it is owed also if the broker crashes before it could do so; one that may
    /// expire is not owed.
    pub(crate) fn will_is_due(&mut self, number: MessageNumber, survives_crash: bool) {
        self.will_may_come(number);
        let will = self.message_mut(number);
        will.survives_crash = survives_crash;
        if will.expiry_seconds.is_none() {
            will.fate = Fate::Owed;
        }
    }

    /// Whether a will is published is uncertain from now on.
    pub(crate) fn will_may_come(&mut self, number: MessageNumber) {
        let left_at = self.message(number).sent_at;
        // With a crash behind the CONNECT, newer wills may have been published before this one, and taken back.
        let crash = self.crashes.iter().copied().find(|crash| *crash >= left_at);
        let step = crash.unwrap_or(self.step);
        let will = self.message_mut(number);
        if will.fate == Fate::Withheld {
            will.sent_at = step;
        }
        will.fate = Fate::Sent;
    }

    /// Everything owed has been delivered or dropped.
    pub(crate) fn rest(&mut self) {
        for will in self.messages.iter_mut().filter(|message| message.is_will) {
            will.survives_crash = true;
        }
    }

    /// The broker crashed. Nobody was told that a will of a transient session is safe; with `forgets_all` the broker has
    /// no log, and nothing is owed any more.
    pub(crate) fn crash(&mut self, forgets_all: bool) {
        self.crashes.push(self.step);
        if forgets_all {
            self.lost_before = self.step;
        }
        for message in self.messages.iter_mut().filter(|message| message.fate == Fate::Owed) {
            if forgets_all || message.is_will && !message.survives_crash {
                message.fate = Fate::Sent;
            }
        }
    }

    /// How many live copies of a message a session may get at a QoS.
    fn live_copies(&self, message: &Message, qos: QoS) -> u32 {
        // [MQTT-4.3.3]: once; a QoS 1 publisher may cause one for each time it sent.
        let copies = if message.qos == QoS::AtLeastOnce { message.sends } else { 1 };
        // QoS 0 waits for no log, and what a crash takes back is done again.
        let crashes = self.crashes.iter().filter(|step| **step >= message.sent_at).count() as u32;
        if qos == QoS::AtMostOnce { copies + crashes } else { copies }
    }

    pub(crate) fn message(&self, number: MessageNumber) -> &Message {
        &self.messages[number as usize]
    }

    pub(crate) fn message_mut(&mut self, number: MessageNumber) -> &mut Message {
        &mut self.messages[number as usize]
    }

    /// The broker has acknowledged a message. One that may expire is still not owed.
    pub(crate) fn acknowledge(&mut self, number: MessageNumber) {
        let lost_before = self.lost_before;
        let message = self.message_mut(number);
        if message.expiry_seconds.is_none() && message.sent_at >= lost_before {
            message.fate = Fate::Owed;
        }
    }

    /// A client starts a new session: nothing of the old one is owed to it any more, and no packet larger than this.
    pub(crate) fn start_session(&mut self, client: usize, max_packet_bytes: Option<u32>) {
        let ending = self.ending_memberships(client);
        self.accounts[client] = Account { max_packet_bytes, ending, ..Account::default() };
    }

    /// Enters one filter of a SUBSCRIBE. The answer names it in [`Self::subscribed`].
    pub(crate) fn subscribe(
        &mut self,
        client: usize,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> usize {
        let requests = &mut self.accounts[client].requests;
        let is_new = requests.iter().all(|request| request.filter != filter || request.unsubscribed_at.is_some());
        requests.push(Request {
            filter: filter.to_owned(),
            options,
            identifier,
            is_new,
            acknowledged_at: None,
            unsubscribe_sent_at: None,
            unsubscribed_at: None,
        });
        requests.len() - 1
    }

    pub(crate) fn subscribed(&mut self, client: usize, request: usize) {
        self.accounts[client].requests[request].acknowledged_at = Some(self.step);
    }

    /// Enters one filter of an UNSUBSCRIBE. The step is to be given to [`Self::unsubscribed`].
    pub(crate) fn unsubscribe(&mut self, client: usize, filter: &str) -> Step {
        for request in &mut self.accounts[client].requests {
            if request.filter == filter && request.unsubscribe_sent_at.is_none() {
                request.unsubscribe_sent_at = Some(self.step);
            }
        }
        self.step
    }

    pub(crate) fn unsubscribed(&mut self, client: usize, filter: &str, sent_at: Step) {
        for request in &mut self.accounts[client].requests {
            // What an earlier UNSUBSCRIBE, unanswered, may have removed is removed now for certain.
            if request.filter == filter && request.unsubscribe_sent_at.is_some_and(|at| at <= sent_at) {
                request.unsubscribed_at.get_or_insert(self.step);
            }
        }
    }

    /// Filters that the client has asked for and not left.
    pub(crate) fn filters(&self, client: usize) -> Vec<String> {
        let requests = self.accounts[client].requests.iter();
        requests.filter(|request| request.unsubscribe_sent_at.is_none()).map(|request| request.filter.clone()).collect()
    }

    /// Enters what a client received, if it may receive that.
    pub(crate) fn arrive(&mut self, client: usize, arrival: &Arrival<'_>) -> Result<(), Failure> {
        let Some((number, message)) = identify(&self.messages, arrival)? else {
            if is_group_topic(arrival.topic) {
                return self.check_membership(client, arrival.topic);
            }
            let account = &self.accounts[client];
            if !account.requests.iter().any(|request| matches(&request.filter, arrival.topic)) {
                fail!("client {client} got a message of {} without a subscription", arrival.topic);
            }
            return Ok(());
        };
        if message.fate == Fate::Withheld {
            fail!("client {client} got will {number}, which is not due");
        }
        if is_group_topic(&message.topic) {
            return self.arrive_shared(client, number, arrival);
        }
        let live = self.live_copies(message, arrival.qos);
        let account = &mut self.accounts[client];
        account.check_terms(client, number, message, arrival)?;
        if arrival.is_repeated {
            return Ok(());
        }
        account.count(client, number, message, arrival, live)
    }

    /// What is owed to a client and has not arrived, now that everything has had the time to: messages that were
    /// published to its subscriptions, and the retained message of each topic, seen one way or the other.
    pub(crate) fn missing(&self, client: usize) -> Vec<MessageNumber> {
        let account = &self.accounts[client];
        let mut settled_topics: Vec<&str> = Vec::new();
        let mut missing = Vec::new();
        for (number, message) in self.messages.iter().enumerate().rev() {
            // Shared topics have no order, and so no last message.
            let has_order = message.topic.starts_with('p') && message.fate != Fate::Withheld;
            let is_last = message.retain && has_order && !settled_topics.contains(&&*message.topic);
            if is_last {
                settled_topics.push(&message.topic);
            }
            let is_last = is_last && !self.has_repeats(&message.topic);
            let number = number as MessageNumber;
            let is_absent =
                message.fate == Fate::Owed && !message.payload.is_empty() && account.copies(number).all == 0;
            let is_due = account.must_get(client, message) || is_last && account.must_see_retained(client, message);
            if is_absent && is_due {
                missing.push(number);
            }
        }
        missing
    }

    /// Whether a retained message of the topic was sent again at QoS 1, and so perhaps routed again behind later ones.
    fn has_repeats(&self, topic: &str) -> bool {
        let is_repeated = |message: &Message| message.qos == QoS::AtLeastOnce && message.sends > 1;
        self.messages.iter().any(|message| message.retain && message.topic == topic && is_repeated(message))
    }

    /// All that the books have on a message and a client, for a report.
    pub(crate) fn explain(&self, client: usize, number: MessageNumber) -> String {
        let message = self.message(number);
        let account = &self.accounts[client];
        let requests: Vec<_> =
            account.requests.iter().filter(|request| matches(&request.filter, &message.topic)).collect();
        format!(
            "message {number}: publisher {}, topic {}, {:?}, retain {}, sent {} times, first in step {}, {:?}; \
             client {client} has {:?} of it and asked: {requests:?}",
            message.publisher,
            message.topic,
            message.qos,
            message.retain,
            message.sends,
            message.sent_at,
            message.fate,
            account.copies(number),
        )
    }
}

impl Account {
    fn copies(&self, number: MessageNumber) -> Copies {
        self.copies.get(number as usize).copied().unwrap_or_default()
    }

    fn requests_for<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Request> + Clone {
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
    fn check_terms(
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
    fn count(
        &mut self,
        client: usize,
        number: MessageNumber,
        message: &Message,
        arrival: &Arrival<'_>,
        live: u32,
    ) -> Result<(), Failure> {
        let requests = self.requests_for(&message.topic).count() as u32;
        let lookups = self.requests_for(&message.topic).filter(|request| request.wants_retained()).count() as u32;
        let index = number as usize;
        if self.copies.len() <= index {
            self.copies.resize(index + 1, Copies::default());
        }
        let copies = &mut self.copies[index];
        let is_first = copies.all == 0;
        if arrival.qos == QoS::AtLeastOnce && arrival.dup && !is_first {
            return Ok(());
        }
        copies.all += 1;
        copies.without_retain += u32::from(!arrival.retain);
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
    fn must_get(&self, client: usize, message: &Message) -> bool {
        message.qos > QoS::AtMostOnce
            && self.takes(message)
            && self.requests_for(&message.topic).any(|request| {
                let is_stable = request.acknowledged_at.is_some_and(|at| at < message.sent_at)
                    && request.unsubscribe_sent_at.is_none();
                is_stable && self.is_reliable(client, message, request)
            })
    }

    /// Whether some subscription of the client was to bring it the retained message of the topic, or a live one.
    fn must_see_retained(&self, client: usize, message: &Message) -> bool {
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
    fn takes(&self, message: &Message) -> bool {
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

/// The message that arrived; none for an empty payload, which can't say which it is.
fn identify<'m>(
    messages: &'m [Message],
    arrival: &Arrival<'_>,
) -> Result<Option<(MessageNumber, &'m Message)>, Failure> {
    if arrival.payload.is_empty() {
        return Ok(None);
    }
    let number = arrival.payload.first_chunk().map(|bytes| MessageNumber::from_le_bytes(*bytes));
    let found = number.and_then(|number| Some((number, messages.get(number as usize)?)));
    match found {
        Some((_, message)) if message.payload == arrival.payload && message.topic == arrival.topic => Ok(found),
        Some(_) | None => fail!("a message of {} arrived that nobody sent: {:?}", arrival.topic, arrival.payload),
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
