//! The books of shared subscriptions: each message for one member of each group, once.
//!
//! What a group got is counted over all its members and for the whole run. A message that was in flight to a member whose
//! session has ended may be lost with it [MQTT-4.8.2-5]; so what was published before such an end is not owed. In a crash such
//! sessions end unseen: what they got of a message that its publisher has to send again counts for nothing.

use std::collections::BTreeMap;

use oncemq::proto::QoS;

use crate::scenario::{group_filter, matches};

use super::{Account, Arrival, Failure, Fate, Ledger, Message, MessageNumber, Request, Step, fail};

/// What became of messages to the topics of groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    copies: BTreeMap<MessageNumber, Copies>,
    /// When a session with a membership ended last, by group.
    ended_at: BTreeMap<String, Step>,
}

/// How often all members together have handed a message on.
#[derive(Debug, Default)]
struct Copies {
    /// At QoS 2.
    exactly_once: u32,
    /// Of these, those that sessions got which end with their connections.
    transient: u32,
    all: u32,
}

impl Account {
    fn memberships<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Request> + Clone {
        let is_of_group =
            |request: &&Request| group_filter(&request.filter).is_some_and(|filter| matches(filter, topic));
        self.requests.iter().filter(is_of_group)
    }
}

impl Ledger {
    /// Messages that members of groups have handed on.
    pub(crate) fn shared(&self) -> u64 {
        self.groups.copies.values().map(|copies| u64::from(copies.all)).sum()
    }

    /// The broker crashed: whoever has no acknowledgement for a message sends it again.
    pub(super) fn forget_transient(&mut self) {
        for (number, copies) in &mut self.groups.copies {
            if self.messages[*number as usize].fate != Fate::Owed {
                copies.exactly_once -= std::mem::take(&mut copies.transient);
            }
        }
    }

    /// The groups of a session that the client has thrown away: until the broker does so, too, it may give it messages.
    pub(super) fn ending_memberships(&mut self, client: usize) -> Vec<String> {
        let account = &mut self.accounts[client];
        let mut ending = std::mem::take(&mut account.ending);
        let groups = account.requests.iter().filter(|request| group_filter(&request.filter).is_some());
        ending.extend(groups.map(|request| request.filter.clone()));
        ending
    }

    /// The broker has told a client which session it has: what was in flight to an earlier one is gone with it.
    pub(crate) fn session_is_told(&mut self, client: usize) {
        for group in std::mem::take(&mut self.accounts[client].ending) {
            self.groups.ended_at.insert(group, self.step);
        }
    }

    /// Whether the client may get messages of a topic that belongs to groups.
    pub(super) fn check_membership(&self, client: usize, topic: &str) -> Result<(), Failure> {
        if self.accounts[client].memberships(topic).next().is_none() {
            fail!("client {client} got a message of {topic} without a shared subscription");
        }
        Ok(())
    }

    /// Enters a message that a client received as a member of a group, if it may receive that.
    pub(super) fn arrive_shared(
        &mut self,
        client: usize,
        number: MessageNumber,
        arrival: &Arrival<'_>,
    ) -> Result<(), Failure> {
        self.check_membership(client, arrival.topic)?;
        let message = &self.messages[number as usize];
        let memberships = self.accounts[client].memberships(arrival.topic);
        let highest = memberships.clone().map(|request| request.options.qos).max().expect("checked above");
        // [MQTT-4.8.2-3]
        if arrival.qos > message.qos.min(highest) {
            fail!("client {client} got message {number} with {:?}, above the subscription's", arrival.qos);
        }
        let may_retain = message.retain && memberships.clone().any(|request| request.options.retain_as_published);
        if arrival.retain && !may_retain {
            fail!("client {client} got message {number} of a group with RETAIN");
        }
        if arrival.expiry_seconds > message.expiry_seconds {
            fail!("client {client} got message {number} with an expiry of {:?} seconds", arrival.expiry_seconds);
        }
        let asked = |identifier: &u32| memberships.clone().any(|request| request.identifier == Some(*identifier));
        if arrival.identifiers.len() > 1 || !arrival.identifiers.iter().all(asked) {
            fail!("client {client} got message {number} with subscription identifiers {:?}", arrival.identifiers);
        }
        if arrival.is_repeated {
            return Ok(());
        }
        let allowed = self.groups_of(message).len() as u32;
        let copies = self.groups.copies.entry(number).or_default();
        copies.all += 1;
        if arrival.qos == QoS::ExactlyOnce {
            copies.exactly_once += 1;
            copies.transient += u32::from(arrival.is_transient);
        }
        if copies.exactly_once > allowed {
            fail!("the groups of message {number} got it {} times, {allowed} allowed", copies.exactly_once);
        }
        Ok(())
    }

    /// What is owed to a group and no member of it has got, now that everything has had the time to.
    pub(crate) fn missing_of_groups(&self) -> Vec<(MessageNumber, String)> {
        let mut missing = Vec::new();
        for (number, message) in (0..).zip(&self.messages) {
            let is_owed = message.fate == Fate::Owed && message.qos > QoS::AtMostOnce && !message.payload.is_empty();
            if !is_owed || message.expiry_seconds.is_some() {
                continue;
            }
            let owed: Vec<String> =
                self.groups_of(message).into_iter().filter(|group| self.is_owed(message, group)).collect();
            let got = self.groups.copies.get(&number).map_or(0, |copies| copies.all);
            if (got as usize) < owed.len() {
                missing.push((number, owed.join(" and ")));
            }
        }
        missing
    }

    /// Whether a group has had a member without interruption since before the message, none of its members has lost its
    /// session since, and none may leave the message out.
    fn is_owed(&self, message: &Message, group: &str) -> bool {
        let requests = || {
            let of_group =
                |account: &'_ Account| account.requests.iter().filter(|request| request.filter == group).count();
            self.accounts.iter().filter(move |account| of_group(account) > 0)
        };
        let has_member = requests().any(|account| {
            account.requests.iter().any(|request| {
                request.filter == group
                    && request.acknowledged_at.is_some_and(|at| at < message.sent_at)
                    && request.unsubscribe_sent_at.is_none()
            })
        });
        let takes_all = requests().all(|account| {
            let mut of_group = account.requests.iter().filter(|request| request.filter == group);
            account.takes(message) && of_group.all(|request| request.options.qos > QoS::AtMostOnce)
        });
        let is_ending = self.accounts.iter().any(|account| account.ending.iter().any(|ending| ending == group));
        let is_whole = !is_ending && self.groups.ended_at.get(group).is_none_or(|at| *at < message.sent_at);
        has_member && takes_all && is_whole
    }

    /// All groups that anybody has ever joined and that match the message.
    fn groups_of(&self, message: &Message) -> Vec<String> {
        let asked = self.accounts.iter().flat_map(|account| account.memberships(&message.topic));
        let ending = self.accounts.iter().flat_map(|account| &account.ending);
        let ended = self
            .groups
            .ended_at
            .keys()
            .chain(ending)
            .filter(|filter| group_filter(filter).is_some_and(|filter| matches(filter, &message.topic)));
        let mut groups: Vec<String> = asked.map(|request| request.filter.clone()).chain(ended.cloned()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// All that the books have on a message of groups, for a report.
    pub(crate) fn explain_group(&self, number: MessageNumber) -> String {
        let message = self.message(number);
        let requests: Vec<_> = (0..)
            .zip(&self.accounts)
            .flat_map(|(client, account)| account.memberships(&message.topic).map(move |request| (client, request)))
            .collect::<Vec<(usize, _)>>();
        format!(
            "message {number}: {message:?}; {:?} of it arrived; asked: {requests:?}",
            self.groups.copies.get(&number)
        )
    }
}
