//! Retained messages at their home: looking up, a page at a time, what new subscriptions want of them.
//!
//! A lookup begins when every shard has marked it, as [`Letter`] explains. It fills one page, answers, and keeps its place in a
//! walk over the topics if there may be more; the subscriber's shard asks for the next page with the same ticket, or says that
//! nobody wants it. Lookups wait in a queue and are worked off in the order in which they came. All lookups of a turn
//! together visit at most so many topics, so that a subscription to millions of them is many short pieces of work between
//! those of others.
//!
//! | a lookup is    | event                                          | becomes        |
//! |----------------|------------------------------------------------|----------------|
//! | –              | a shard marks it                               | marked in part |
//! | marked in part | the last shard marks it                        | in the queue   |
//! | in the queue   | its page is full                               | between pages  |
//! | in the queue   | every topic was visited                        | over           |
//! | between pages  | a shard marks it                               | marked in part |
//! | between pages, in the queue | nobody wants the rest             | over           |

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::config::Limits;
use crate::route::{
    Author, Letter, Message, PageLimit, PageRequest, RouteSequence, RouteStamp, ShardId, Ticket, TopicFilter, Visit,
    WalkKey,
};
use crate::store::LogPosition;
use crate::time::Timestamp;

use super::Shard;
use super::retained::RetainedMessage;

/// Topics visited in one turn, in proportion to a page.
const PAGES_PER_TURN: u32 = 2;

/// Names a lookup: who wants it, and for what.
pub(super) type LookupKey = (ShardId, Ticket);

/// Lookups of which this shard is the home.
#[derive(Debug)]
pub(super) struct Lookups {
    /// Those that not every shard has marked.
    marked: HashMap<LookupKey, Marked, FixedState>,
    /// Those that have begun and are not over.
    begun: HashMap<LookupKey, Lookup, FixedState>,
    /// Those whose page is to be filled.
    queue: VecDeque<LookupKey>,
    /// Topics that may still be visited in this turn.
    visits_left: u32,
}

#[derive(Debug)]
struct Marked {
    /// What each shard had routed.
    routed: Vec<Option<RouteSequence>>,
    request: Option<PageRequest>,
}

/// A lookup that every shard has marked.
#[derive(Debug)]
struct Lookup {
    walk: WalkKey,
    /// What each shard had routed before it applied the interest: newer messages come live.
    routed: Vec<RouteSequence>,
    without: Option<Author>,
    limit: PageLimit,
    /// What the page has so far: places, and what was there.
    page: Vec<(usize, RouteStamp)>,
    page_bytes: u64,
}

impl Lookups {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            marked: HashMap::default(),
            begun: HashMap::default(),
            queue: VecDeque::new(),
            visits_left: visits_per_turn(limits),
        }
    }

    /// How many there are, whatever they wait for.
    pub(super) fn len(&self) -> usize {
        self.marked.keys().filter(|key| !self.begun.contains_key(*key)).count() + self.begun.len()
    }
}

impl Lookup {
    fn is_page_full(&self) -> bool {
        let messages = self.page.len();
        messages >= self.limit.messages as usize || messages > 0 && self.page_bytes >= self.limit.bytes
    }

    /// Whether the message is for the subscriber, and does not come live.
    fn is_due(&self, retained: &RetainedMessage) -> bool {
        // [MQTT-3.8.3-3]
        self.without != Some(retained.author) && retained.stamp.sequence <= self.routed[retained.stamp.shard.index()]
    }
}

impl Shard {
    /// Does a piece of what would take too long at once: feeds sessions that are subscribing, and looks up retained messages.
    /// Whether there is more to do in the next turn, which then should not wait for an event.
    pub fn poll_lookups(&mut self, now: Timestamp) -> bool {
        self.clients.now = now;
        // Once in a turn, and here, for the letters about it are polled next.
        self.note_log_fill();
        self.lookups.visits_left = visits_per_turn(&self.clients.limits);
        self.feed_sessions();
        self.work_lookups();
        self.end_overflowed();
        !self.lookups.queue.is_empty() || self.has_sessions_to_feed()
    }

    /// A shard has marked a lookup, and sent everything that it routed before.
    pub(super) fn handle_mark(
        &mut self,
        from: ShardId,
        subscriber: ShardId,
        ticket: Ticket,
        routed: RouteSequence,
        request: Option<PageRequest>,
    ) {
        let key = (subscriber, ticket);
        // Nobody asks this shard itself to mark another page: who wants one asks for it.
        let marks_too = request.as_ref().is_some_and(|request| request.filter.is_none());
        self.note_mark(from, key, routed, request);
        if marks_too {
            self.note_mark(self.clients.id, key, self.routed, None);
        }
        self.work_lookups();
    }

    /// Notes a mark. The lookup is in the queue with the last one.
    pub(super) fn note_mark(
        &mut self,
        from: ShardId,
        key: LookupKey,
        routed: RouteSequence,
        request: Option<PageRequest>,
    ) {
        let shards = usize::from(self.shards);
        let Lookups { marked, begun, queue, .. } = &mut self.lookups;
        let lookup = marked.entry(key).or_insert_with(|| Marked { routed: vec![None; shards], request: None });
        let previous = lookup.routed[from.index()].replace(routed);
        assert!(previous.is_none(), "a shard marks a page once");
        if request.is_some() {
            lookup.request = request;
        }
        if lookup.routed.iter().any(Option::is_none) {
            return;
        }
        let Marked { routed, request } = marked.remove(&key).expect("noted above");
        let PageRequest { filter, without, limit } = request.expect("the shard of the subscriber says what it wants");
        match filter {
            Some(filter) => {
                let filter = TopicFilter::parse(&filter).expect("the other shard has parsed it");
                let routed = routed.into_iter().flatten().collect();
                let walk = self.retained.begin_walk(&filter);
                begun.insert(key, Lookup { walk, routed, without, limit, page: Vec::new(), page_bytes: 0 });
            }
            None => begun.get_mut(&key).expect("there is a rest where one was promised").limit = limit,
        }
        queue.push_back(key);
    }

    /// Fills pages, one after the other, as far as this turn goes.
    pub(super) fn work_lookups(&mut self) {
        while let Some(key) = self.lookups.queue.front().copied() {
            if !self.fill_page(key) {
                return;
            }
            self.lookups.queue.pop_front();
            self.send_page(key);
        }
    }

    /// Fills the page of a lookup; false if this turn ends before.
    fn fill_page(&mut self, key: LookupKey) -> bool {
        let Lookups { begun, visits_left, .. } = &mut self.lookups;
        let Some(lookup) = begun.get_mut(&key) else { return true };
        while !lookup.is_page_full() {
            let Some(left) = visits_left.checked_sub(1) else { return false };
            *visits_left = left;
            match self.retained.visit_next(lookup.walk) {
                Visit::Match((place, retained)) => {
                    if lookup.is_due(retained) {
                        lookup.page.push((place, retained.stamp));
                        lookup.page_bytes += retained.message.bytes() as u64;
                    }
                }
                Visit::Nothing => {}
                Visit::End => return true,
            }
        }
        true
    }

    /// Answers a lookup with its page, if somebody still wants it.
    fn send_page(&mut self, key: LookupKey) {
        let Some(lookup) = self.lookups.begun.get_mut(&key) else { return };
        let (walk, page) = (lookup.walk, std::mem::take(&mut lookup.page));
        lookup.page_bytes = 0;
        let has_more = !self.retained.is_through(walk);
        if !has_more {
            self.end_lookup(key);
        }
        let (messages, logged) = self.messages_at(&page);
        let (subscriber, ticket) = key;
        if subscriber == self.clients.id {
            return self.handle_found(subscriber, ticket, messages, has_more);
        }
        // The subscriber's log may outlive what this one does not know yet, and which then is published again.
        let log = &mut self.clients.log;
        let after = if log.is_stable(logged) { LogPosition::NOTHING } else { log.wait_for_appended() };
        self.clients.outbox.post_after(subscriber, Letter::RetainedFound { ticket, messages, has_more }, after);
    }

    /// What is still there of a page, and from where on the log knows all of it. What was replaced since it was visited comes
    /// live. If the log has failed, what it will never know is left out.
    fn messages_at(&self, page: &[(usize, RouteStamp)]) -> (Vec<(RouteStamp, Message)>, LogPosition) {
        let log = &self.clients.log;
        let mut logged = LogPosition::NOTHING;
        let messages = page
            .iter()
            .filter_map(|(place, stamp)| self.retained.at(*place, *stamp))
            .filter(|retained| !retained.message.is_expired(self.clients.now))
            .filter(|retained| log.failure().is_none() || log.is_stable(retained.logged))
            .inspect(|retained| logged = logged.max(retained.logged))
            .map(|retained| (retained.stamp, retained.message.clone()))
            .collect();
        (messages, logged)
    }

    /// Nobody wants the rest of what was found for a subscriber.
    pub(super) fn forget_rest(&mut self, subscriber: ShardId, ticket: Ticket) {
        self.end_lookup((subscriber, ticket));
    }

    fn end_lookup(&mut self, key: LookupKey) {
        if let Some(lookup) = self.lookups.begun.remove(&key) {
            self.retained.end_walk(lookup.walk);
        }
    }
}

fn visits_per_turn(limits: &Limits) -> u32 {
    limits.retained_page.saturating_mul(PAGES_PER_TURN)
}
