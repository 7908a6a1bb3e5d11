//! The groups of shared subscriptions whose home this shard is, and the choice of who gets a message.
//!
//! A group lives on the shard that its name hashes to, and is there one recipient of its filter. Its members may live on any
//! shard. This is what the home knows of them: who is there, and how many messages each has been given that are not over.
//! The number is what members report, and so an estimate; nothing but fairness leans on it.
//!
//! A message goes to a member whose client is connected; if there is none, to one that is away and waits for messages
//! (QoS 1 and 2). What it does not decide: whether and how the message gets there ([`sharing`](super::sharing)).

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::config::SharedBalance;
use crate::proto::QoS;
use crate::route::{Presence, ShardId, Share};

use super::recipient::GroupKey;
use super::sessions::SessionKey;

/// How many members are looked at to find the one with the least to do, from a place that moves on with each message.
const COMPARED_MAX: usize = 32;

/// The groups of one shard.
#[derive(Debug)]
pub(super) struct Groups {
    arena: Slab<Group>,
    by_name: HashMap<Box<str>, GroupKey, FixedState>,
    balance: SharedBalance,
}

/// One group: never without a member.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Member>,
    /// Places of the members by their client ids.
    by_client: HashMap<Arc<str>, usize, FixedState>,
    /// Where to begin to look for the next member.
    next: usize,
    durable: usize,
    connected: usize,
}

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) client_id: Arc<str>,
    pub(super) share: Arc<Share>,
    pub(super) place: Place,
    /// Its session outlives the broker.
    pub(super) is_durable: bool,
    is_connected: bool,
    /// Messages given to it that are not over, as far as is known.
    open: u32,
}

/// Where a member lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Here(SessionKey),
    At(ShardId),
}

/// A member whose unsent messages others could have.
pub(super) type Recalled = (Arc<str>, Arc<Share>, Place);

/// What a message needs of the member that gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// It may wait for a client that is away: QoS 1 or 2.
    pub(super) may_wait: bool,
    /// It must not get into a log: it may come again.
    pub(super) stays_out_of_logs: bool,
}

/// What the leaving of a member has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// Nobody: the group is gone.
    Nobody(GroupKey),
    /// Members, none of whose sessions outlive the broker although that of the one who left did.
    NobodyDurable,
    /// Others.
    Others,
    /// It had not been a member.
    Unchanged,
}

impl Groups {
    /// The seed should be secret, for clients choose the names that are hashed.
    pub(super) fn new(seed: u64, balance: SharedBalance) -> Self {
        Self { arena: Slab::new(), by_name: HashMap::with_hasher(FixedState::with_seed(seed)), balance }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<GroupKey> {
        self.by_name.get(name).copied()
    }

    pub(super) fn is_durable(&self, key: GroupKey) -> bool {
        self.arena[key.index()].durable > 0
    }

    /// Adds a member, or replaces what is known of it.
    pub(super) fn join(&mut self, member: Member) -> GroupKey {
        let key = self.by_name.get(&member.share.group).copied().unwrap_or_else(|| {
            let hasher = self.by_name.hasher().clone();
            let key = GroupKey::from_index(self.arena.insert(Group::new(hasher)));
            self.by_name.insert(member.share.group.clone(), key);
            key
        });
        self.arena[key.index()].join(member);
        key
    }

    /// Takes a member out, and the group with the last one.
    pub(super) fn leave(&mut self, name: &str, client_id: &str) -> Left {
        let Some(key) = self.find(name) else { return Left::Unchanged };
        let group = &mut self.arena[key.index()];
        let Some(member) = group.leave(client_id) else { return Left::Unchanged };
        if group.members.is_empty() {
            self.arena.remove(key.index());
            self.by_name.remove(name);
            Left::Nobody(key)
        } else if member.is_durable && group.durable == 0 {
            Left::NobodyDurable
        } else {
            Left::Others
        }
    }

    /// Notes whether a member's client is connected. Returns those whose unsent messages others could have now.
    pub(super) fn set_connected(&mut self, name: &str, client_id: &str, is_connected: bool) -> Vec<Recalled> {
        let Some(group) = self.group_mut(name) else { return Vec::new() };
        let Some(&index) = group.by_client.get(client_id) else { return Vec::new() };
        let was_connected = std::mem::replace(&mut group.members[index].is_connected, is_connected);
        let others_before = group.connected - usize::from(was_connected);
        group.connected = others_before + usize::from(is_connected);
        match (was_connected, is_connected) {
            // The first one that comes gets what waits for all the others.
            (false, true) if others_before == 0 => {
                group.members.iter().filter(|member| member.is_waited_for()).collect()
            }
            (true, false) if others_before > 0 => vec![&group.members[index]],
            _ => Vec::new(),
        }
        .into_iter()
        .map(|member| (Arc::clone(&member.client_id), Arc::clone(&member.share), member.place))
        .collect()
    }

    /// Whether anybody but this client is there to take messages.
    pub(super) fn has_others_connected(&self, name: &str, client_id: &str) -> bool {
        let Some(key) = self.find(name) else { return false };
        let group = &self.arena[key.index()];
        let own = group.by_client.get(client_id).is_some_and(|index| group.members[*index].is_connected);
        group.connected > usize::from(own)
    }

    /// So many messages are over for a member.
    pub(super) fn complete(&mut self, name: &str, client_id: &str, messages: u32) {
        let Some(group) = self.group_mut(name) else { return };
        let Some(&index) = group.by_client.get(client_id) else { return };
        let open = &mut group.members[index].open;
        *open = open.saturating_sub(messages);
    }

    /// Who gets the next message, if there is anybody who can; of several, those first whose shard is `ready`.
    pub(super) fn choose(&mut self, key: GroupKey, need: Need, ready: impl Fn(Place) -> bool) -> Option<&Member> {
        let balance = self.balance;
        let group = &mut self.arena[key.index()];
        let index = group.choose(balance, |member| member.can_take(need) && member.is_connected && ready(member.place));
        let index = index.or_else(|| group.choose(balance, |member| member.can_take(need) && member.is_connected));
        let index = index.or_else(|| {
            group.choose(balance, |member| member.keeps(need) && member.can_take(need) && ready(member.place))
        });
        let index = index.or_else(|| group.choose(balance, |member| member.keeps(need) && member.can_take(need)))?;
        let member = &mut group.members[index];
        member.open += u32::from(member.keeps(need));
        Some(&group.members[index])
    }

    fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        let key = self.find(name)?;
        Some(&mut self.arena[key.index()])
    }
}

impl Group {
    fn new(hasher: FixedState) -> Self {
        Self { members: Vec::new(), by_client: HashMap::with_hasher(hasher), next: 0, durable: 0, connected: 0 }
    }

    fn join(&mut self, member: Member) {
        let previous = self.leave(&member.client_id);
        let open = previous.map_or(member.open, |previous| previous.open);
        self.durable += usize::from(member.is_durable);
        self.connected += usize::from(member.is_connected);
        self.by_client.insert(member.client_id.clone(), self.members.len());
        self.members.push(Member { open, ..member });
    }

    fn leave(&mut self, client_id: &str) -> Option<Member> {
        let index = self.by_client.remove(client_id)?;
        let member = self.members.swap_remove(index);
        if let Some(moved) = self.members.get(index) {
            self.by_client.insert(moved.client_id.clone(), index);
        }
        self.durable -= usize::from(member.is_durable);
        self.connected -= usize::from(member.is_connected);
        Some(member)
    }

    fn choose(&mut self, balance: SharedBalance, is_fit: impl Fn(&Member) -> bool) -> Option<usize> {
        let count = self.members.len();
        let places = (0..count).map(|step| (self.next + step) % count);
        let mut fit = places.filter(|index| is_fit(&self.members[*index]));
        match balance {
            SharedBalance::LeastInflight => {
                let chosen = fit.take(COMPARED_MAX).min_by_key(|index| self.members[*index].open)?;
                self.next = chosen + 1;
                Some(chosen)
            }
            SharedBalance::RoundRobin => {
                let chosen = fit.next()?;
                self.next = chosen + 1;
                Some(chosen)
            }
            SharedBalance::Sticky => {
                let chosen = fit.next()?;
                self.next = chosen;
                Some(chosen)
            }
        }
    }
}

impl Member {
    pub(super) fn new(
        client_id: Arc<str>,
        share: Arc<Share>,
        place: Place,
        is_durable: bool,
        presence: Presence,
    ) -> Self {
        Self { client_id, share, place, is_durable, is_connected: presence == Presence::Connected, open: 0 }
    }

    /// The member, with so many messages that it has been given and that are not over.
    pub(super) fn with_open(self, messages: usize) -> Self {
        Self { open: u32::try_from(messages).unwrap_or(u32::MAX), ..self }
    }

    fn can_take(&self, need: Need) -> bool {
        !(need.stays_out_of_logs && self.is_durable)
    }

    /// Whether the message is kept for it until it is over.
    fn keeps(&self, need: Need) -> bool {
        need.may_wait && self.share.subscription.options.qos > QoS::AtMostOnce
    }

    fn is_waited_for(&self) -> bool {
        !self.is_connected && self.open > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::proto::SubscriptionOptions;
    use crate::route::Subscription;

    const NAME: &str = "$share/g/f";
    const QUEUED: Need = Need { may_wait: true, stays_out_of_logs: false };
    const AT_MOST_ONCE: Need = Need { may_wait: false, stays_out_of_logs: false };

    fn member(client_id: &str, is_durable: bool, presence: Presence) -> Member {
        let options = SubscriptionOptions::from_qos(QoS::ExactlyOnce);
        let share = Share { group: NAME.into(), subscription: Subscription { options, identifier: None } };
        let place = Place::At(ShardId::new(1).expect("a small number"));
        Member::new(client_id.into(), Arc::new(share), place, is_durable, presence)
    }

    fn group(balance: SharedBalance, members: &[(&str, Presence)]) -> (Groups, GroupKey) {
        let mut groups = Groups::new(7, balance);
        for (client_id, presence) in members {
            groups.join(member(client_id, true, *presence));
        }
        let key = groups.find(NAME).expect("joined");
        (groups, key)
    }

    fn chosen(groups: &mut Groups, key: GroupKey, need: Need) -> Option<String> {
        groups.choose(key, need, |_| true).map(|member| member.client_id.to_string())
    }

    fn several(groups: &mut Groups, key: GroupKey, count: usize) -> String {
        (0..count).map(|_| chosen(groups, key, QUEUED).expect("somebody")).collect()
    }

    #[test]
    fn each_balance_chooses_in_its_way() {
        use Presence::{Away, Connected};
        let members = [("a", Connected), ("b", Connected), ("x", Away), ("c", Connected)];
        let (mut groups, key) = group(SharedBalance::RoundRobin, &members);
        assert_eq!(several(&mut groups, key, 7), "abcabca");
        let (mut groups, key) = group(SharedBalance::Sticky, &members);
        assert_eq!(several(&mut groups, key, 3), "aaa");
        groups.set_connected(NAME, "a", false);
        assert_eq!(several(&mut groups, key, 3), "bbb");
        groups.set_connected(NAME, "a", true);
        assert_eq!(several(&mut groups, key, 2), "bb", "who has come back does not take over");
        let (mut groups, key) = group(SharedBalance::LeastInflight, &members);
        assert_eq!(several(&mut groups, key, 6), "abcabc");
        groups.complete(NAME, "b", 2);
        assert_eq!(several(&mut groups, key, 3), "bbc", "b has done all of its messages, then all have two");
    }

    #[test]
    fn those_who_are_away_get_what_can_wait_when_nobody_is_there() {
        use Presence::{Away, Connected};
        let (mut groups, key) = group(SharedBalance::RoundRobin, &[("a", Away), ("b", Away)]);
        assert_eq!(chosen(&mut groups, key, AT_MOST_ONCE), None);
        assert_eq!(several(&mut groups, key, 3), "aba");
        groups.join(member("c", true, Connected));
        assert_eq!(several(&mut groups, key, 2), "cc");
        assert_eq!(chosen(&mut groups, key, AT_MOST_ONCE).as_deref(), Some("c"));
    }

    #[test]
    fn what_may_come_again_gets_into_no_log() {
        let need = Need { may_wait: true, stays_out_of_logs: true };
        let (mut groups, key) = group(SharedBalance::LeastInflight, &[("durable", Presence::Connected)]);
        assert_eq!(chosen(&mut groups, key, need), None);
        groups.join(member("transient", false, Presence::Connected));
        assert_eq!(chosen(&mut groups, key, need).as_deref(), Some("transient"));
    }

    #[test]
    fn a_shard_that_is_not_ready_is_passed_over_while_there_is_another() {
        let (mut groups, key) =
            group(SharedBalance::RoundRobin, &[("a", Presence::Connected), ("b", Presence::Connected)]);
        let here = Place::Here(SessionKey::from_id(5));
        groups.join(Member { place: here, ..member("b", true, Presence::Connected) });
        for _ in 0..3 {
            let member = groups.choose(key, QUEUED, |place| place == here).expect("b");
            assert_eq!(&*member.client_id, "b");
        }
        let member = groups.choose(key, QUEUED, |_| false).expect("anybody");
        assert_eq!(&*member.client_id, "a");
    }

    #[test]
    fn unsent_messages_are_called_back_when_others_could_have_them() {
        use Presence::{Away, Connected};
        let (mut groups, key) = group(SharedBalance::RoundRobin, &[("a", Connected), ("b", Connected), ("c", Away)]);
        let ids = |recalled: Vec<Recalled>| recalled.into_iter().map(|(id, _, _)| id.to_string()).collect::<String>();
        assert!(groups.has_others_connected(NAME, "a"));
        assert_eq!(ids(groups.set_connected(NAME, "a", false)), "a");
        assert!(!groups.has_others_connected(NAME, "b"));
        assert_eq!(ids(groups.set_connected(NAME, "b", false)), "", "nobody is there");
        assert_eq!(several(&mut groups, key, 3), "abc");
        assert_eq!(ids(groups.set_connected(NAME, "b", true)), "ac", "those who have something");
        assert_eq!(ids(groups.set_connected(NAME, "b", true)), "");
        assert_eq!(ids(groups.set_connected(NAME, "c", true)), "");
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let (mut groups, key) =
            group(SharedBalance::RoundRobin, &[("a", Presence::Connected), ("b", Presence::Connected)]);
        groups.join(member("c", false, Presence::Connected));
        assert_eq!(groups.leave(NAME, "x"), Left::Unchanged);
        assert_eq!(groups.leave(NAME, "a"), Left::Others);
        assert_eq!(several(&mut groups, key, 3).matches('a').count(), 0);
        assert!(groups.is_durable(key));
        assert_eq!(groups.leave(NAME, "b"), Left::NobodyDurable);
        assert!(!groups.is_durable(key));
        assert_eq!(groups.leave(NAME, "c"), Left::Nobody(key));
        assert_eq!(groups.leave(NAME, "c"), Left::Unchanged);
        assert_eq!(groups.find(NAME), None);
        assert_eq!(groups.len(), 0);
    }
}
