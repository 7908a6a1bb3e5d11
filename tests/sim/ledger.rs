//! The books: what was published, who had subscribed to what, and what every client received.
//!
//! Entries are made by the clients as they send and receive; the broker is not asked. Times are steps of the run, which
//! give all entries one order. What a client forgot together with its session is out of its books; what a session
//! went through without interruption is owed in full.

mod account;
mod groups;

use oncemq::proto::{QoS, SubscriptionOptions};

use crate::rules::Rules;
use crate::scenario::{is_group_topic, matches};

use account::{Account, Request};
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
    /// Nobody may get it: a will that is not due, what a remote sends and its bridge does not carry, or what its publisher may not
    /// publish.
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
    /// The session ends with its connection.
    pub(crate) is_transient: bool,
}

/// How many live copies of a message a session may get.
#[derive(Clone, Copy, Debug)]
struct Live {
    copies: u32,
    /// So many more at QoS 0, which waits for no log: what a crash takes back is done again.
    crashes: u32,
}

/// The books of all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Now.
    pub(crate) step: Step,
    pub(crate) messages: Vec<Message>,
    accounts: Vec<Account>,
    groups: Groups,
    pub(crate) rules: Rules,
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

impl Ledger {
    pub(crate) fn new(clients: usize, rules: Rules) -> Self {
        Self {
            step: 0,
            messages: Vec::new(),
            accounts: (0..clients).map(|_| Account::default()).collect(),
            groups: Groups::default(),
            rules,
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
        self.forget_transient();
        for message in self.messages.iter_mut().filter(|message| message.fate == Fate::Owed) {
            if forgets_all || message.is_will && !message.survives_crash {
                message.fate = Fate::Sent;
            }
        }
    }

    /// How many live copies of a message a session may get.
    fn live_copies(&self, message: &Message) -> Live {
        Live {
            // [MQTT-4.3.3]: once; a QoS 1 publisher may cause one for each time it sent.
            copies: if message.qos == QoS::AtLeastOnce { message.sends } else { 1 },
            crashes: self.crashes.iter().filter(|step| **step >= message.sent_at).count() as u32,
        }
    }

    pub(crate) fn message(&self, number: MessageNumber) -> &Message {
        &self.messages[number as usize]
    }

    pub(crate) fn message_mut(&mut self, number: MessageNumber) -> &mut Message {
        &mut self.messages[number as usize]
    }

    /// Nobody may get a message that was not sent yet.
    pub(crate) fn withhold(&mut self, number: MessageNumber) {
        self.message_mut(number).fate = Fate::Withheld;
    }

    /// What a remote has sent may be carried from now on.
    pub(crate) fn release(&mut self, remote: usize) {
        let of_remote = |message: &&mut Message| message.publisher == remote && message.fate == Fate::Withheld;
        self.messages.iter_mut().filter(of_remote).for_each(|message| message.fate = Fate::Sent);
    }

    /// When a message was first sent.
    pub(crate) fn sent_at(&self, number: MessageNumber) -> Step {
        self.message(number).sent_at
    }

    /// The peer that a message had been sent to has lost its session: it may come once more.
    pub(crate) fn may_come_again(&mut self, client: usize, number: MessageNumber) {
        self.accounts[client].may_come_again(number);
    }

    /// The broker has acknowledged a message. One that may expire is still not owed.
    pub(crate) fn acknowledge(&mut self, number: MessageNumber) {
        let lost_before = self.lost_before;
        let message = self.message_mut(number);
        if message.expiry_seconds.is_none() && message.sent_at >= lost_before && message.fate != Fate::Withheld {
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

    /// The filter of an entry.
    pub(crate) fn filter(&self, client: usize, request: usize) -> &str {
        &self.accounts[client].requests[request].filter
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
            fail!(
                "client {client} got message {number}, a will that is not due, or what no bridge carries or no rule permits"
            );
        }
        if !self.rules.permit(client, &message.topic) {
            fail!("client {client} got message {number} of {}, which it may not read", message.topic);
        }
        if is_group_topic(&message.topic) {
            return self.arrive_shared(client, number, arrival);
        }
        let live = self.live_copies(message);
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
            if is_absent && is_due && self.rules.permit(client, &message.topic) {
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
