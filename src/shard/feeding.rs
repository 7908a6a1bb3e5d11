//! SUBSCRIBEs that are not answered yet: they wait for other shards, and for their clients to take the retained messages.
//!
//! Retained messages come in pages ([`Letter`] explains how). While a page is on its way, what is delivered to the session is
//! held, so that the retained messages can be put in their places; between two pages the session is a session like any other.
//! The next page is asked for when the client has taken most of the one before, so that none of it is dropped and what waits
//! for the client stays bounded. SUBACK goes with the last page.
//!
//! | a SUBSCRIBE is | event                                     | becomes                              |
//! |----------------|-------------------------------------------|--------------------------------------|
//! | –              | received                                  | in a round, for the interest         |
//! | in a round     | all answers are there, and there is more  | waiting                              |
//! | in a round     | all answers are there, or nobody is left who waits for SUBACK | answered, over   |
//! | waiting        | its client has drained                    | in a round, for the next page        |
//! | waiting        | its filters are unsubscribed              | answered, over                       |
//! | waiting        | its connection or its session ends        | over                                 |
//! | in a round     | its session ends                          | over                                 |
//!
//! A client that loses its connection before SUBACK was promised nothing: the rest is forgotten, and it subscribes again. One
//! that has only shut its side goes on for as long as it need not acknowledge anything.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::config::WAITING_SUBSCRIBES_MAX;
use crate::proto::{Packet, PacketId, Properties, QoS, Suback};
use crate::route::{
    FilterKey, Identifiers, Letter, Message, PageLimit, PageRequest, RouteSequence, RouteStamp, ShardId, Terms, Ticket,
};

use super::Shard;
use super::connection::ConnectionKey;
use super::sessions::{Held, HeldDelivery, SessionKey};

/// Sessions that are fed at most in one turn: each costs a letter to every shard.
const FED_PER_TURN: usize = 32;

/// SUBSCRIBEs that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Subscribing {
    serial: u64,
    /// By serial.
    pending: HashMap<u64, Pending, FixedState>,
    /// Sessions of other shards that join groups of this one, by serial.
    joining: HashMap<u64, Joining, FixedState>,
    /// Those that wait for their clients to drain, by session.
    waiting: HashMap<SessionKey, Waiting, FixedState>,
    /// Sessions with one that need wait no longer.
    ready: VecDeque<SessionKey>,
    /// Subscriptions of which the rest was forgotten: to a SUBSCRIBE that asks whether they are new, they are.
    unfinished: HashMap<SessionKey, Vec<FilterKey>, FixedState>,
}

/// One SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Pending {
    session: SessionKey,
    /// Where its SUBACK goes; none once that connection is gone, for another one does not know the packet id.
    connection: Option<ConnectionKey>,
    packet_id: PacketId,
    pub(super) codes: Vec<u8>,
    /// Why the first of the filters was refused that was.
    pub(super) refusal: Option<&'static str>,
    pub(super) filters: Vec<Granted>,
    /// Answers still to come in this round; none while it waits for its client.
    pub(super) missing: usize,
    found: Vec<(u32, Vec<(RouteStamp, Message)>)>,
    /// Filters, by index, of which a home has more.
    rest: VecDeque<(u32, ShardId)>,
    /// What came live during the first round and may be found on a later page; none before that is over.
    seen: Option<Seen>,
}

/// What is to be known of a granted filter when its retained messages arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    /// The subscription; none once it is unsubscribed, or if it never came to be.
    pub(super) filter: Option<FilterKey>,
    pub(super) qos: QoS,
    pub(super) identifier: Option<NonZeroU32>,
}

/// A group of this shard gets a member on another shard, which waits for all shards to know of the group.
#[derive(Debug)]
struct Joining {
    /// Whom to tell, under which ticket.
    of: (ShardId, Ticket),
    missing: usize,
}

/// SUBSCRIBEs of one session that wait for its client.
#[derive(Debug, Default)]
struct Waiting {
    serials: VecDeque<u64>,
    is_ready: bool,
}

/// Messages that a session had live from shards that had not applied its interest yet, and with which QoS: they may be retained
/// as well.
#[derive(Debug)]
struct Seen {
    stamps: Vec<(RouteStamp, QoS)>,
    /// A restart has lost their stamps: they are known by what they say.
    old: Vec<(Message, QoS)>,
}

impl Pending {
    pub(super) fn new(session: SessionKey, connection: Option<ConnectionKey>, packet_id: PacketId) -> Self {
        Self {
            session,
            connection,
            packet_id,
            codes: Vec::new(),
            refusal: None,
            filters: Vec::new(),
            missing: 0,
            found: Vec::new(),
            rest: VecDeque::new(),
            seen: None,
        }
    }
}

impl Seen {
    fn of<'m>(held: &Held, message: impl Fn(&HeldDelivery) -> &'m Message) -> Self {
        let mut seen = Self { stamps: Vec::new(), old: Vec::new() };
        for delivery in held.deliveries.iter().filter(|delivery| delivery.is_live) {
            let message = message(delivery);
            match delivery.stamp.sequence {
                _ if !message.retain => {}
                RouteSequence::BEFORE_START => seen.old.push((message.clone(), delivery.terms.qos)),
                _ => seen.stamps.push((delivery.stamp, delivery.terms.qos)),
            }
        }
        seen.stamps.sort_unstable();
        seen
    }

    /// Whether the message was there live, and as sure to arrive as it would be with this QoS: what another subscription had
    /// at QoS 0 may never come.
    fn stands_for(&self, stamp: RouteStamp, message: &Message, qos: QoS) -> bool {
        let live = if stamp.sequence == RouteSequence::BEFORE_START {
            self.old.iter().find(|(live, _)| live == message).map(|(_, qos)| *qos)
        } else {
            let index = self.stamps.binary_search_by_key(&stamp, |(live, _)| *live);
            index.ok().map(|index| self.stamps[index].1)
        };
        live.is_some_and(|live| live >= qos.min(QoS::AtLeastOnce))
    }
}

impl Subscribing {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Waits for `missing` shards on behalf of another one; the ticket that they answer.
    pub(super) fn begin_joining(&mut self, from: ShardId, ticket: Ticket, missing: usize) -> Ticket {
        let serial = self.next_serial();
        self.joining.insert(serial, Joining { of: (from, ticket), missing });
        Ticket { serial, filter: 0 }
    }

    /// A serial for the next SUBSCRIBE.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Whether so many SUBSCRIBEs of the session wait that it may have no further one.
    pub(super) fn is_full(&self, session: SessionKey) -> bool {
        self.waiting.get(&session).is_some_and(|waiting| waiting.serials.len() >= WAITING_SUBSCRIBES_MAX)
    }

    /// Whether a SUBSCRIBE of this connection is in a round.
    fn is_in_round(&self, connection: ConnectionKey) -> bool {
        self.pending.values().any(|pending| pending.connection == Some(connection) && pending.missing > 0)
    }

    /// A subscription of the session is made again, or ends: whether the rest of its retained messages was forgotten before.
    pub(super) fn take_unfinished(&mut self, session: SessionKey, filter: FilterKey) -> bool {
        let Some(unfinished) = self.unfinished.get_mut(&session) else { return false };
        let before = unfinished.len();
        unfinished.retain(|other| *other != filter);
        let was_there = unfinished.len() < before;
        if unfinished.is_empty() {
            self.unfinished.remove(&session);
        }
        was_there
    }

    /// A SUBSCRIBE of the session need wait no longer.
    fn make_ready(&mut self, session: SessionKey) {
        if let Some(waiting) = self.waiting.get_mut(&session)
            && !std::mem::replace(&mut waiting.is_ready, true)
        {
            self.ready.push_back(session);
        }
    }

    /// The SUBSCRIBE of a session that has waited longest.
    fn longest_waiting(&self, session: SessionKey) -> Option<u64> {
        self.waiting.get(&session)?.serials.front().copied()
    }

    /// The same, which waits no longer.
    fn take_waiting(&mut self, session: SessionKey) -> Option<u64> {
        let waiting = self.waiting.get_mut(&session)?;
        let serial = waiting.serials.pop_front();
        if waiting.serials.is_empty() {
            self.waiting.remove(&session);
        }
        serial
    }
}

/// What happens to a session that is subscribing.
impl Shard {
    /// The session has unsubscribed: retained messages on their way are not for it any more [MQTT-3.10.4-2].
    pub(super) fn forget_filter(&mut self, session: SessionKey, filter: FilterKey) {
        self.subscribing.take_unfinished(session, filter);
        let is_waiting = self.subscribing.waiting.contains_key(&session);
        if !is_waiting && self.clients.sessions.get(session).held.is_none() {
            return;
        }
        let pending = self.subscribing.pending.values_mut().filter(|pending| pending.session == session);
        for granted in pending.flat_map(|pending| &mut pending.filters).filter(|granted| granted.filter == Some(filter))
        {
            granted.filter = None;
        }
        self.subscribing.make_ready(session);
    }

    /// The session has lost its connection: nobody waits for SUBACK any more, nor has a right to what is still to come.
    pub(super) fn forget_subscriber(&mut self, session: SessionKey) {
        while let Some(serial) = self.subscribing.take_waiting(session) {
            if let Some(pending) = self.subscribing.pending.remove(&serial) {
                self.note_unfinished(session, &pending.filters, &pending.rest);
                self.forget_rests(serial, pending.rest);
            }
        }
        if self.clients.sessions.get(session).held.is_some() {
            for pending in self.subscribing.pending.values_mut().filter(|pending| pending.session == session) {
                pending.connection = None;
            }
        }
    }

    /// The session has ended, behind its connection: answers on their way are for nobody. `is_in_round` says whether there may
    /// be any.
    pub(super) fn forget_session(&mut self, session: SessionKey, is_in_round: bool) {
        self.subscribing.unfinished.remove(&session);
        if !is_in_round {
            return;
        }
        let is_of_session = |_: &u64, pending: &mut Pending| pending.session == session;
        let gone: Vec<_> = self.subscribing.pending.extract_if(is_of_session).collect();
        for (serial, pending) in gone {
            self.forget_rests(serial, pending.rest);
        }
    }

    /// The rest is forgotten of filters to which the session stays subscribed.
    fn note_unfinished(&mut self, session: SessionKey, filters: &[Granted], rest: &VecDeque<(u32, ShardId)>) {
        for filter in rest.iter().filter_map(|(filter, _)| filters[*filter as usize].filter) {
            self.subscribing.unfinished.entry(session).or_default().push(filter);
        }
    }

    fn forget_rests(&mut self, serial: u64, rest: VecDeque<(u32, ShardId)>) {
        for (filter, home) in rest {
            self.forget_rest_at(home, Ticket { serial, filter });
        }
    }

    fn forget_rest_at(&mut self, home: ShardId, ticket: Ticket) {
        if home == self.clients.id {
            self.forget_rest(home, ticket);
        } else {
            self.clients.outbox.post(home, Letter::RestForgotten { ticket });
        }
    }
}

/// Rounds.
impl Shard {
    /// How large a page may be that the session gets now, if `lookups` share it and so do the SUBSCRIBEs that it has under way:
    /// so small that its queue and its output have room for it.
    pub(super) fn first_page(&self, session: SessionKey, lookups: usize) -> PageLimit {
        let under_way = self.clients.sessions.get(session).held.as_ref().map_or(0, |held| held.pending_subscribes);
        let sharing = (lookups as u64).saturating_mul(u64::from(under_way) + 1).max(1);
        let PageLimit { messages, bytes } = self.page();
        let messages = u32::try_from(u64::from(messages) / sharing).expect("no more than what is divided");
        PageLimit { messages: messages.max(1), bytes: bytes / sharing }
    }

    fn page(&self) -> PageLimit {
        let limits = &self.clients.limits;
        PageLimit {
            messages: limits.retained_page.min(limits.max_queued_messages / 2).max(1),
            bytes: limits.max_queued_bytes.min(limits.max_output_bytes.into()) / 2,
        }
    }

    /// A SUBSCRIBE begins its first round, for which everything is asked.
    pub(super) fn begin_subscribe(&mut self, serial: u64, pending: Pending) {
        let session = pending.session;
        self.clients.sessions.get_mut(session).held.get_or_insert_default().pending_subscribes += 1;
        let is_answered = pending.missing == 0;
        self.subscribing.pending.insert(serial, pending);
        if is_answered {
            self.end_round(serial);
        }
    }

    /// Another shard has applied the interest of a SUBSCRIBE, or of a group.
    pub(super) fn handle_applied(&mut self, ticket: Ticket) {
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
        if pending.missing == 0 {
            self.end_round(ticket.serial);
        }
    }

    /// The answer of a home to a lookup.
    pub(super) fn handle_found(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        messages: Vec<(RouteStamp, Message)>,
        has_more: bool,
    ) {
        let Some(pending) = self.subscribing.pending.get_mut(&ticket.serial) else {
            if has_more {
                self.forget_rest_at(from, ticket);
            }
            return;
        };
        if !messages.is_empty() {
            pending.found.push((ticket.filter, messages));
        }
        if has_more {
            // One after the other is done with.
            pending.rest.push_front((ticket.filter, from));
        }
        self.handle_applied(ticket);
    }

    /// All answers of a round are there.
    fn end_round(&mut self, serial: u64) {
        let pending = self.subscribing.pending.get_mut(&serial).expect("its round has just ended");
        let session = pending.session;
        let held = self.clients.sessions.get_mut(session).held.as_mut().expect("a round holds deliveries");
        held.pending_subscribes -= 1;
        self.drop_unwanted(serial);
        if self.subscribing.pending[&serial].rest.is_empty() {
            return self.complete_subscribe(serial);
        }
        self.hold_found(serial);
        self.note_seen(serial);
        self.clients.release_held(session);
        self.subscribing.waiting.entry(session).or_default().serials.push_back(serial);
        self.feed_if_drained(session);
        if let Some(connection) = self.clients.sessions.get(session).connection {
            self.end_if_over(connection);
        }
    }

    /// Behind the first round: notes what a later page may bring that has come live.
    fn note_seen(&mut self, serial: u64) {
        let pending = self.subscribing.pending.get_mut(&serial).expect("asked for by the caller");
        let held = &self.clients.sessions.get(pending.session).held;
        if let (None, Some(held)) = (&pending.seen, held) {
            let messages = &self.clients.messages;
            pending.seen = Some(Seen::of(held, |delivery| messages.get(delivery.message)));
        }
    }

    /// Forgets what is left for filters that were unsubscribed, or all if nobody waits for SUBACK any more.
    fn drop_unwanted(&mut self, serial: u64) {
        let pending = self.subscribing.pending.get_mut(&serial).expect("asked for by the caller");
        let Pending { connection, filters, rest, .. } = pending;
        let is_wanted =
            |(filter, _): &(u32, ShardId)| connection.is_some() && filters[*filter as usize].filter.is_some();
        let (wanted, unwanted): (_, VecDeque<_>) = std::mem::take(rest).into_iter().partition(is_wanted);
        *rest = wanted;
        if !unwanted.is_empty() {
            let (session, filters) = (pending.session, pending.filters.clone());
            self.note_unfinished(session, &filters, &unwanted);
            self.forget_rests(serial, unwanted);
        }
    }

    /// SUBACK, and then the last page, or the only one.
    fn complete_subscribe(&mut self, serial: u64) {
        // They are logged before SUBACK is promised: who has it, has a right to them.
        self.hold_found(serial);
        let pending = self.subscribing.pending.remove(&serial).expect("it is completed once");
        let Pending { session, connection, packet_id, codes, refusal, .. } = pending;
        if let Some(connection) = connection {
            let after = self.clients.logged_for(session);
            let words = self.words_for(connection, refusal);
            let suback = |properties| Packet::Suback(Suback { packet_id, properties, codes: &codes });
            self.answer(connection, &suback(words.properties()), &suback(Properties::EMPTY), after);
        }
        self.clients.release_held(session);
        // Another SUBSCRIBE of the session may have waited for this round to end.
        self.feed_if_drained(session);
        if let Some(connection) = connection {
            self.end_if_over(connection);
        }
    }

    /// Puts what was found for a SUBSCRIBE in its places among what is held for its session.
    fn hold_found(&mut self, serial: u64) {
        let pending = self.subscribing.pending.get_mut(&serial).expect("asked for by the caller");
        let mut retained = Vec::new();
        for (index, messages) in std::mem::take(&mut pending.found) {
            let Granted { filter: Some(_), qos, identifier } = pending.filters[index as usize] else { continue };
            for (stamp, message) in messages {
                let qos = message.qos.min(qos);
                if pending.seen.as_ref().is_some_and(|seen| seen.stands_for(stamp, &message, qos)) {
                    continue;
                }
                let terms = Terms {
                    qos,
                    // [MQTT-3.3.1-8]
                    retain: true,
                    identifiers: identifier.map_or(Identifiers::None, Identifiers::One),
                };
                let message = self.clients.messages.insert(message);
                retained.push(HeldDelivery { message, terms, stamp, is_live: false });
            }
        }
        self.clients.hold_retained(pending.session, retained);
    }
}

/// Further pages.
impl Shard {
    /// Sees to it that a SUBSCRIBE of the session goes on, if one waits and the client has drained.
    #[inline]
    pub(super) fn feed_if_drained(&mut self, session: SessionKey) {
        if !self.subscribing.waiting.is_empty() && self.has_drained(session) {
            self.subscribing.make_ready(session);
        }
    }

    /// Whether a client that says nothing more still gets answers to its SUBSCRIBEs: not if these wait until it acknowledges
    /// messages.
    pub(super) fn is_subscribing(&self, key: ConnectionKey) -> bool {
        let connection = &self.clients.connections[key.index()];
        let waits = connection.session.is_some_and(|session| {
            let is_waiting = self.subscribing.waiting.contains_key(&session);
            is_waiting && (!connection.output.is_flushed() || self.has_drained(session))
        });
        waits || self.subscribing.is_in_round(key)
    }

    /// Whether the client has taken so much that another page has room.
    fn has_drained(&self, session: SessionKey) -> bool {
        let clients = &self.clients;
        let record = clients.sessions.get(session);
        let Some(connection) = record.connection.filter(|_| record.held.is_none()) else { return false };
        let waiting_bytes = clients.connections[connection.index()].output.waiting_bytes();
        let queued = clients
            .sessions
            .outbound_to_read(session)
            .map_or((0, 0), |outbound| (outbound.queued() as u64, outbound.queued_bytes()));
        let page = self.page();
        waiting_bytes <= clients.limits.max_output_bytes as usize / 2
            && queued.0 <= u64::from(page.messages).min(u64::from(clients.limits.max_queued_messages) / 2)
            && queued.1 <= clients.limits.max_queued_bytes / 2
    }

    pub(super) fn has_sessions_to_feed(&self) -> bool {
        !self.subscribing.ready.is_empty()
    }

    /// Asks for the next pages of sessions that are ready, as many as this turn bears.
    pub(super) fn feed_sessions(&mut self) {
        for _ in 0..FED_PER_TURN {
            let Some(session) = self.subscribing.ready.pop_front() else { return };
            // It may have gone since.
            let Some(waiting) = self.subscribing.waiting.get_mut(&session) else { continue };
            waiting.is_ready = false;
            self.feed(session);
        }
    }

    /// Takes the SUBSCRIBE of the session that has waited longest one round on.
    fn feed(&mut self, session: SessionKey) {
        if self.clients.sessions.get(session).held.is_some() {
            // At the end of that round it is asked again.
            return;
        }
        let Some(serial) = self.subscribing.longest_waiting(session) else { return };
        self.drop_unwanted(serial);
        let next = self.subscribing.pending[&serial].rest.front().copied();
        match next {
            None => {
                self.subscribing.take_waiting(session);
                self.complete_subscribe(serial);
            }
            Some((filter, home)) if self.has_drained(session) => {
                self.subscribing.take_waiting(session);
                self.ask_for_page(home, Ticket { serial, filter });
            }
            Some(_) => {
                // Other messages have come meanwhile: a client that says nothing more never drains.
                if let Some(connection) = self.clients.sessions.get(session).connection {
                    self.end_if_over(connection);
                }
            }
        }
    }

    /// Begins a round for the next page that a home has.
    fn ask_for_page(&mut self, home: ShardId, ticket: Ticket) {
        let request = Some(PageRequest { filter: None, without: None, limit: self.page() });
        self.clients.counters.further_pages += 1;
        let pending = self.subscribing.pending.get_mut(&ticket.serial).expect("it waits");
        pending.rest.pop_front();
        pending.missing = 1;
        self.clients.sessions.get_mut(pending.session).held.get_or_insert_default().pending_subscribes += 1;
        let (subscriber, routed) = (self.clients.id, self.routed);
        if home == subscriber {
            self.note_mark(subscriber, (subscriber, ticket), routed, request.clone());
        }
        for shard in (0..self.shards).filter_map(ShardId::new).filter(|shard| *shard != subscriber) {
            let letter = if shard == home {
                Letter::RetainedMark { subscriber, ticket, routed, request: request.clone() }
            } else {
                Letter::MarkWanted { home, ticket }
            };
            self.clients.outbox.post(shard, letter);
        }
    }

    /// A subscriber's shard is going to ask a home for more: what was routed here before has been sent there.
    pub(super) fn mark_again(&mut self, subscriber: ShardId, home: ShardId, ticket: Ticket) {
        let mark = Letter::RetainedMark { subscriber, ticket, routed: self.routed, request: None };
        self.clients.outbox.post(home, mark);
    }
}
