//! The sessions of a shard, in arenas: one record each, and exchange tables only for those that exchange something.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use slab::Slab;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::fault::PlantedFault;
use crate::route::{RouteSequence, RouteStamp, ShardId, Share, Terms, WillMessage};
use crate::session::{Inbound, Outbound, RemoteSession, Resending, SessionExpiry};
use crate::store::SessionImage;
use crate::time::Timestamp;

use super::census::Exchanges;
use super::congestion::Congestion;
use super::connection::ConnectionKey;
use super::filter_keys::FilterKeys;
use super::messages::{Delivery, MessageKey, Messages};

/// Names a session of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct SessionKey(u32);

impl SessionKey {
    /// The session with this number in the log.
    pub(super) fn from_id(id: u32) -> Self {
        Self(id)
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What outlives a connection. There is one for every client, so what only some have is behind a pointer.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Box<str>,
    pub(super) connection: Option<ConnectionKey>,
    pub(super) expiry: SessionExpiry,
    /// Outlives the broker: all that is to be remembered of it is logged. Decided when the session begins.
    pub(super) is_durable: bool,
    /// When its client went away; none while it is connected.
    pub(super) disconnected_at: Option<Timestamp>,
    /// The number of its next delivery, while it has no sender that knows better.
    pub(super) next_number: u64,
    /// How many messages may be in flight to the client of the present connection; none yet if 0.
    pub(super) window: u16,
    pub(super) will: Option<Box<WillMessage>>,
    /// What the broker at the other end keeps for it, if the session is a bridge's and that is known.
    pub(super) remote: Option<RemoteSession>,
    pub(super) subscriptions: FilterKeys,
    /// Shared subscriptions; none before there is one.
    pub(super) memberships: Option<Box<Memberships>>,
    /// Deliveries that wait behind retained messages which other shards are still looking up.
    pub(super) held: Option<Box<Held>>,
    /// While the queue is long and the client connected.
    pub(super) congestion: Option<Box<Congestion>>,
    inbound: Option<TableKey>,
    outbound: Option<TableKey>,
}

/// Names an exchange table of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TableKey(NonZeroU32);

impl TableKey {
    fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("a shard has fewer than 2^32 sessions"))
    }

    #[inline]
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The groups that a session is a member of.
#[derive(Debug)]
pub(super) struct Memberships {
    /// As letters about it name the session.
    pub(super) client_id: Arc<str>,
    /// At least one, each for another group.
    pub(super) shares: Vec<Arc<Share>>,
}

impl Session {
    /// When it ends, while its client is away; the deadline of the timer that counts.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.expiry.deadline(self.disconnected_at?)
    }

    /// How many subscriptions it has, of both kinds.
    pub(super) fn subscription_count(&self) -> usize {
        self.subscriptions.len() + self.memberships.as_ref().map_or(0, |memberships| memberships.shares.len())
    }

    /// Its shared subscription in a group.
    pub(super) fn membership(&self, group: &str) -> Option<&Arc<Share>> {
        self.memberships.as_ref()?.shares.iter().find(|share| *share.group == *group)
    }

    /// Adds a shared subscription, in place of the one for the same group. The client id as letters have it.
    pub(super) fn join(&mut self, share: Arc<Share>) -> Arc<str> {
        let client_id = &self.client_id;
        let memberships = self
            .memberships
            .get_or_insert_with(|| Box::new(Memberships { client_id: (&**client_id).into(), shares: Vec::new() }));
        match memberships.shares.iter_mut().find(|known| known.group == share.group) {
            Some(known) => *known = share,
            None => memberships.shares.push(share),
        }
        Arc::clone(&memberships.client_id)
    }

    /// Takes the shared subscription in a group out.
    pub(super) fn leave(&mut self, group: &str) -> Option<(Arc<str>, Arc<Share>)> {
        let memberships = self.memberships.as_mut()?;
        let index = memberships.shares.iter().position(|share| *share.group == *group)?;
        let left = (Arc::clone(&memberships.client_id), memberships.shares.swap_remove(index));
        if memberships.shares.is_empty() {
            self.memberships = None;
        }
        Some(left)
    }
}

/// Deliveries held back until retained messages are found, so that these come in their place and only once.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// SUBSCRIBEs of the session that wait for other shards.
    pub(super) pending_subscribes: u32,
    pub(super) deliveries: VecDeque<HeldDelivery>,
    /// Some of them are in the log.
    pub(super) is_logged: bool,
}

#[derive(Debug)]
pub(super) struct HeldDelivery {
    pub(super) message: MessageKey,
    pub(super) terms: Terms,
    pub(super) stamp: RouteStamp,
    /// A live message, not a retained one that was looked up.
    pub(super) is_live: bool,
}

impl Held {
    /// Puts retained messages where they belong among what is held: each behind the older and before the newer messages
    /// of its shard, those from before a restart before all but what they have replaced. One that is there live comes only
    /// once, on the better terms; those left over are handed back.
    pub(super) fn merge(&mut self, retained: Vec<HeldDelivery>, messages: &Messages) -> Vec<HeldDelivery> {
        let mut superfluous = Vec::new();
        let (oldest, mut retained): (Vec<_>, Vec<_>) =
            retained.into_iter().partition(|delivery| delivery.stamp.sequence == RouteSequence::BEFORE_START);
        for delivery in oldest {
            // A restart has lost the stamps: the same message is known by what it says.
            let is_same = |held: &&mut HeldDelivery| {
                held.is_live
                    && held.stamp.sequence == RouteSequence::BEFORE_START
                    && messages.get(held.message) == messages.get(delivery.message)
            };
            match self.deliveries.iter_mut().find(is_same) {
                Some(held) => {
                    held.terms.absorb(&delivery.terms);
                    superfluous.push(delivery);
                }
                None => self.deliveries.insert(self.place_of_old(&delivery, messages), delivery),
            }
        }
        // Newest first, so that the oldest of each shard is popped first.
        retained.sort_by_key(|delivery| std::cmp::Reverse(delivery.stamp.sequence));
        let mut by_shard: Vec<(ShardId, Vec<HeldDelivery>)> = Vec::new();
        for delivery in retained {
            match by_shard.iter_mut().find(|(shard, _)| *shard == delivery.stamp.shard) {
                Some((_, deliveries)) => deliveries.push(delivery),
                None => by_shard.push((delivery.stamp.shard, vec![delivery])),
            }
        }
        for mut held in std::mem::take(&mut self.deliveries) {
            if let Some((_, retained)) = by_shard.iter_mut().find(|(shard, _)| *shard == held.stamp.shard) {
                while let Some(delivery) = retained.pop_if(|next| next.stamp.sequence <= held.stamp.sequence) {
                    if delivery.stamp == held.stamp && held.is_live {
                        held.terms.absorb(&delivery.terms);
                        superfluous.push(delivery);
                    } else {
                        self.deliveries.push_back(delivery);
                    }
                }
            }
            self.deliveries.push_back(held);
        }
        for (_, retained) in by_shard {
            self.deliveries.extend(retained.into_iter().rev());
        }
        superfluous
    }

    /// Where a retained message belongs whose stamp a restart has lost, and that is not there live: in front of all.
    ///
    /// Unless an older one for its topic is held. Then it came live, too, and was dropped because the hold was full, and so was
    /// all that came behind it: it goes behind everything on its topic.
    fn place_of_old(&self, delivery: &HeldDelivery, messages: &Messages) -> usize {
        let topic = messages.get(delivery.message).topic_name();
        let is_on_topic = |held: &HeldDelivery| {
            held.is_live && held.stamp == delivery.stamp && messages.get(held.message).topic_name() == topic
        };
        let replaced = self.deliveries.iter().any(|held| is_on_topic(held) && messages.get(held.message).retain);
        let last = self.deliveries.iter().rposition(is_on_topic).filter(|_| replaced);
        last.map_or(0, |last| last + 1)
    }
}

/// All sessions of a shard.
#[derive(Debug)]
pub(super) struct Sessions {
    arena: Slab<Session>,
    by_client_id: HashTable<SessionKey>,
    inbound: Slab<Inbound>,
    outbound: Slab<Outbound<Delivery>>,
    hashing: FixedState,
    fault: PlantedFault,
}

impl Sessions {
    /// The seed should be secret, for clients choose the ids that are hashed.
    pub(super) fn new(seed: u64, fault: PlantedFault) -> Self {
        Self {
            arena: Slab::new(),
            by_client_id: HashTable::new(),
            inbound: Slab::new(),
            outbound: Slab::new(),
            hashing: FixedState::with_seed(seed),
            fault,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn find(&self, client_id: &str) -> Option<SessionKey> {
        let is_it = |key: &SessionKey| &*self.arena[key.index()].client_id == client_id;
        self.by_client_id.find(self.hashing.hash_one(client_id), is_it).copied()
    }

    /// Starts a session; there must be none for this client id.
    pub(super) fn insert(&mut self, client_id: Box<str>, expiry: SessionExpiry, is_durable: bool) -> SessionKey {
        let entry = self.by_client_id.entry(
            self.hashing.hash_one(&*client_id),
            |key| self.arena[key.index()].client_id == client_id,
            |key| self.hashing.hash_one(&*self.arena[key.index()].client_id),
        );
        let Entry::Vacant(vacant) = entry else { panic!("a client id has one session") };
        let index = self.arena.insert(Session {
            client_id,
            connection: None,
            expiry,
            is_durable,
            disconnected_at: None,
            next_number: 0,
            window: 0,
            will: None,
            remote: None,
            subscriptions: FilterKeys::default(),
            memberships: None,
            held: None,
            congestion: None,
            inbound: None,
            outbound: None,
        });
        let key = SessionKey(u32::try_from(index).expect("a shard has fewer than 2^32 sessions"));
        vacant.insert(key);
        key
    }

    /// Puts sessions back that were saved, under the keys that they had; there must be none yet. What they exchanged and
    /// subscribed is put back by the caller.
    pub(super) fn restore<'a>(&mut self, saved: impl Iterator<Item = (&'a u32, &'a SessionImage)>, now: Timestamp) {
        assert!(self.arena.is_empty(), "sessions are restored before any begins");
        let session = |saved: &SessionImage| Session {
            client_id: saved.client_id.clone(),
            connection: None,
            expiry: saved.expiry,
            is_durable: true,
            disconnected_at: Some(saved.disconnected_at.unwrap_or(now)),
            next_number: saved.next_number,
            window: 0,
            will: saved.will.clone().map(Box::new),
            remote: saved.remote,
            subscriptions: FilterKeys::default(),
            memberships: None,
            held: None,
            congestion: None,
            inbound: None,
            outbound: None,
        };
        self.arena = saved.map(|(id, saved)| (*id as usize, session(saved))).collect();
        let hash = |session: &Session| self.hashing.hash_one(&*session.client_id);
        for (index, session) in &self.arena {
            let key = SessionKey(index as u32);
            let _ = self.by_client_id.insert_unique(hash(session), key, |key| hash(&self.arena[key.index()]));
        }
    }

    /// The first session at or behind a place in the arena.
    pub(super) fn at_or_behind(&self, place: usize) -> Option<SessionKey> {
        let index = (place..self.arena.capacity()).find(|index| self.arena.contains(*index))?;
        Some(SessionKey(index as u32))
    }

    /// Takes a session out, with its tables.
    pub(super) fn remove(&mut self, key: SessionKey) -> (Session, Option<Outbound<Delivery>>) {
        let session = self.arena.remove(key.index());
        let entry = self
            .by_client_id
            .find_entry(self.hashing.hash_one(&*session.client_id), |found| *found == key)
            .unwrap_or_else(|_| panic!("every session is found by its client id"));
        entry.remove();
        if let Some(table) = session.inbound {
            self.inbound.remove(table.index());
        }
        let outbound = session.outbound.map(|table| self.outbound.remove(table.index()));
        (session, outbound)
    }

    #[inline]
    pub(super) fn get(&self, key: SessionKey) -> &Session {
        &self.arena[key.index()]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: SessionKey) -> &mut Session {
        &mut self.arena[key.index()]
    }

    /// The session, if it has not ended since the key was noted by someone who can't be told.
    pub(super) fn get_if_alive(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.arena.get_mut(key.index())
    }

    /// The receiver of the session, made when first needed.
    #[inline]
    pub(super) fn inbound(&mut self, key: SessionKey) -> &mut Inbound {
        let session = &mut self.arena[key.index()];
        let inbound = &mut self.inbound;
        let new = || TableKey::from_index(inbound.insert(Inbound::default()));
        let table = *session.inbound.get_or_insert_with(new);
        &mut self.inbound[table.index()]
    }

    /// The receiver, if it was ever needed.
    pub(super) fn inbound_if_any(&mut self, key: SessionKey) -> Option<&mut Inbound> {
        let table = self.arena[key.index()].inbound?;
        Some(&mut self.inbound[table.index()])
    }

    /// The sender of the session, made when first needed and then attached as the session is.
    #[inline]
    pub(super) fn outbound(&mut self, key: SessionKey) -> &mut Outbound<Delivery> {
        let session = &mut self.arena[key.index()];
        let table = *session.outbound.get_or_insert_with(|| {
            let mut outbound = Outbound::new(session.next_number, self.fault);
            // A bridge sends nothing before it has subscribed at the other end: until then it has no window.
            if session.connection.is_some() && session.window > 0 {
                outbound
                    .attach(session.window, Resending::Again, |_| unreachable!("a new sender has nothing to resend"));
            }
            TableKey::from_index(self.outbound.insert(outbound))
        });
        &mut self.outbound[table.index()]
    }

    /// The sender, if it was ever needed.
    #[inline]
    pub(super) fn outbound_if_any(&mut self, key: SessionKey) -> Option<&mut Outbound<Delivery>> {
        let table = self.arena[key.index()].outbound?;
        Some(&mut self.outbound[table.index()])
    }

    /// The sender, if it was ever needed, to look at.
    pub(super) fn outbound_to_read(&self, key: SessionKey) -> Option<&Outbound<Delivery>> {
        let table = self.arena[key.index()].outbound?;
        Some(&self.outbound[table.index()])
    }

    /// The receiver, if it was ever needed, to look at.
    pub(super) fn inbound_to_read(&self, key: SessionKey) -> Option<&Inbound> {
        let table = self.arena[key.index()].inbound?;
        Some(&self.inbound[table.index()])
    }

    /// Gives back the tables in which nothing is open: a client that is away or silent costs only its record.
    pub(super) fn release_idle_tables(&mut self, key: SessionKey) {
        let session = &mut self.arena[key.index()];
        if let Some(table) = session.inbound.filter(|table| self.inbound[table.index()].is_empty()) {
            self.inbound.remove(table.index());
            session.inbound = None;
        }
        if let Some(table) = session.outbound.filter(|table| self.outbound[table.index()].is_empty()) {
            session.next_number = self.outbound.remove(table.index()).next_number();
            session.outbound = None;
        }
    }

    /// Subscriptions of all sessions.
    pub(super) fn subscriptions(&self) -> usize {
        self.arena.iter().map(|(_, session)| session.subscription_count()).sum()
    }

    /// What lies at a place among all exchange tables; none behind the last one.
    pub(super) fn table_at(&self, place: usize) -> Option<Option<Table<'_>>> {
        let receivers = self.inbound.capacity();
        if place < receivers {
            Some(self.inbound.get(place).map(Table::Receiver))
        } else if place - receivers < self.outbound.capacity() {
            Some(self.outbound.get(place - receivers).map(Table::Sender))
        } else {
            None
        }
    }

    /// How many places there are in the arena, empty ones included.
    pub(super) fn places(&self) -> usize {
        self.arena.capacity()
    }

    /// The session at a place in the arena.
    pub(super) fn at(&self, place: usize) -> Option<SessionKey> {
        self.arena.contains(place).then_some(SessionKey(place as u32))
    }
}

/// An exchange table of some session, to look at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table<'a> {
    Receiver(&'a Inbound),
    Sender(&'a Outbound<Delivery>),
}

impl Table<'_> {
    /// Adds what it holds; says how many exchanges had to be visited for it.
    pub(super) fn count_into(self, sum: &mut Exchanges) -> usize {
        match self {
            Self::Receiver(inbound) => {
                sum.awaiting_pubrel += inbound.len() as u64;
                0
            }
            Self::Sender(outbound) => {
                let awaited = outbound.awaited();
                sum.awaiting_puback += awaited.puback;
                sum.awaiting_pubrec += awaited.pubrec;
                sum.awaiting_pubcomp += awaited.pubcomp;
                sum.queued += outbound.queued() as u64;
                sum.queued_bytes += outbound.queued_bytes();
                outbound.inflight()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::QoS;
    use crate::route::{Identifiers, Message};

    /// What every client costs is a decision: tuning.md, "Memory", tells what it is made of.
    #[test]
    fn a_session_is_two_cache_lines() {
        assert_eq!(size_of::<Session>(), 128);
        assert_eq!(size_of::<Option<Session>>(), 128, "a place in the slab costs no more");
    }

    #[test]
    fn retained_messages_are_merged_by_the_order_of_their_shard() {
        let mut messages = Messages::default();
        let delivery = |messages: &mut Messages, (shard, sequence): (u16, u64), is_live: bool| HeldDelivery {
            message: messages.insert(Message::new("t", &[], b"", QoS::AtMostOnce, true, None)),
            terms: Terms {
                qos: if is_live { QoS::AtMostOnce } else { QoS::ExactlyOnce },
                retain: !is_live,
                identifiers: if is_live { Identifiers::None } else { Identifiers::One(NonZeroU32::MIN) },
            },
            stamp: RouteStamp {
                shard: ShardId::new(shard).expect("a small number"),
                sequence: RouteSequence(sequence),
            },
            is_live,
        };
        let live = [(0, 2), (1, 7), (0, 4)].map(|stamp| delivery(&mut messages, stamp, true));
        let mut held = Held { pending_subscribes: 1, deliveries: live.into(), is_logged: false };
        let retained = [(1, 8), (0, 4), (0, 3), (2, 1), (0, 1)].map(|stamp| delivery(&mut messages, stamp, false));
        let superfluous = held.merge(retained.into(), &messages);
        let stamps = |deliveries: &mut dyn Iterator<Item = &HeldDelivery>| -> Vec<(u16, u64, bool)> {
            deliveries.map(|held| (held.stamp.shard.number(), held.stamp.sequence.0, held.is_live)).collect()
        };
        assert_eq!(stamps(&mut superfluous.iter()), [(0, 4, false)]);
        assert_eq!(
            stamps(&mut held.deliveries.iter()),
            [(0, 1, false), (0, 2, true), (1, 7, true), (0, 3, false), (0, 4, true), (1, 8, false), (2, 1, false)]
        );
        let both = &held.deliveries[4].terms;
        assert_eq!((both.qos, both.retain), (QoS::ExactlyOnce, false));
        assert_eq!(both.identifiers, Identifiers::One(NonZeroU32::MIN));
        // The same message retained for two filters comes for each of them.
        let again = vec![delivery(&mut messages, (2, 1), false)];
        assert_eq!(held.merge(again, &messages).len(), 0);
        assert_eq!(held.deliveries.len(), 8);
        // What was retained before a restart is older than all that is live.
        let old = vec![delivery(&mut messages, (1, 0), false)];
        assert_eq!(held.merge(old, &messages).len(), 0);
        assert_eq!(stamps(&mut held.deliveries.iter().take(1)), [(1, 0, false)]);
    }

    /// Behind a restart, with a hold that was full before the newest of the messages came (seed 42861 of the simulator).
    #[test]
    fn a_message_without_stamp_comes_behind_the_one_it_replaced() {
        let mut messages = Messages::default();
        let mut delivery = |topic, payload: &str, retain, is_live| HeldDelivery {
            message: messages.insert(Message::new(topic, &[], payload.as_bytes(), QoS::AtLeastOnce, retain, None)),
            terms: Terms { qos: QoS::AtLeastOnce, retain, identifiers: Identifiers::None },
            stamp: RouteStamp { shard: ShardId::FIRST, sequence: RouteSequence::BEFORE_START },
            is_live,
        };
        let live = [("t", "1", true), ("t", "2", false), ("u", "1", false)];
        let live = live.map(|(topic, payload, retain)| delivery(topic, payload, retain, true));
        let retained = [("t", "3"), ("u", "0")].map(|(topic, payload)| delivery(topic, payload, true, false));
        let mut held = Held { pending_subscribes: 1, deliveries: live.into(), is_logged: false };
        assert_eq!(held.merge(retained.into(), &messages).len(), 0);
        let order = held.deliveries.iter().map(|held| messages.get(held.message));
        let order: Vec<_> = order.map(|message| (message.topic_name(), message.payload()[0])).collect();
        assert_eq!(order, [("u", b'0'), ("t", b'1'), ("t", b'2'), ("t", b'3'), ("u", b'1')]);
    }
}
