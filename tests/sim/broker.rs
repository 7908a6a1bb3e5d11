//! The broker of a run: its shards, the rings between them, and their drivers.
//!
//! A driver here does what the real one does, only slower, later and in less convenient pieces, and it checks that the shards
//! keep their side of the contract.

mod crash;
mod linking;
mod recovery;
mod sockets;
mod storage;

pub(crate) use crash::CrashPlan;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use oncemq::auth::AccessRules;
use oncemq::config::{Limits, Service};
use oncemq::fault::PlantedFault;
use oncemq::proto::ReasonCode;
use oncemq::route::{Letter, ShardId};
use oncemq::shard::{ConnectionKey, Counters, MemoryStage, Shard, ShardConfig, shard_of};
use oncemq::store::{Image, LogEnd};
use oncemq::time::Timestamp;

use crate::audit::TIMER_SLACK_NS;
use crate::bridging::{Bridging, SESSION};
use crate::event::Event;
use crate::ledger::{Failure, fail};
use crate::network::Stage;
use crate::scenario::{MILLISECOND, Scenario};
use crate::world::World;

use storage::Storage;

/// All shards with their drivers.
pub(crate) struct Broker {
    /// None while the broker is gone.
    seats: Vec<Seat>,
    shards: u16,
    seed: u64,
    fault: PlantedFault,
    limits: Limits,
    report_interval: Option<Duration>,
    access_rules: Option<Arc<AccessRules>>,
    pub(crate) storage: Storage,
    /// Counters of those that are gone.
    past: Vec<Counters>,
}

/// One shard and what its driver keeps beside it.
struct Seat {
    shard: Shard,
    /// By the index of the key.
    connections: Vec<Option<usize>>,
    turn_is_scheduled: bool,
    /// The timeout that the shard asked for, and when the driver will see to it.
    timeout: Option<(u64, u64)>,
    /// Rings to the other shards.
    rings: Vec<Ring>,
    /// How short memory is.
    memory: MemoryStage,
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Vec<Letter>>,
    is_scheduled: bool,
}

impl Broker {
    pub(crate) fn new(
        scenario: &Scenario,
        access_rules: Option<Arc<AccessRules>>,
        bridging: Option<&Bridging>,
        now: Timestamp,
        seed: u64,
        fault: PlantedFault,
    ) -> Self {
        let shards = scenario.shards;
        let mut broker = Self {
            seats: Vec::new(),
            shards,
            seed,
            fault,
            limits: scenario.limits.clone(),
            report_interval: scenario.report_interval,
            access_rules,
            storage: Storage::new(&scenario.storage, shards, fault),
            past: Vec::new(),
        };
        let nothing = vec![Image::default(); usize::from(shards)];
        let started = (0..shards).map(|number| match broker.config(number) {
            config @ ShardConfig { log: Some(_), .. } => Shard::restore(config, now, &nothing, LogEnd::default()),
            config => Shard::new(config),
        });
        broker.seats = started.map(|shard| broker.seat(shard, now)).collect();
        broker.keep_bridges(bridging, now);
        broker
    }

    /// Tells every shard which of its bridges are configured.
    fn keep_bridges(&mut self, bridging: Option<&Bridging>, now: Timestamp) {
        let bridge = bridging.and_then(Bridging::bridge);
        let home = self.shard_of(SESSION);
        for (shard, seat) in self.seats.iter_mut().enumerate() {
            let here = bridge.clone().filter(|_| shard == home);
            seat.shard.keep_bridges(now, here.as_slice());
        }
    }

    fn config(&self, number: u16) -> ShardConfig {
        ShardConfig {
            id: shard_id(usize::from(number)),
            shards: self.shards,
            seed: self.seed,
            limits: self.limits.clone(),
            service: Service { validates_payload_format: true, ..Service::default() },
            report_interval: self.report_interval,
            log: self.storage.log_config(number),
            fault: self.fault,
        }
    }

    fn seat(&self, mut shard: Shard, now: Timestamp) -> Seat {
        self.access_rules.iter().for_each(|rules| shard.handle_access_rules(now, Arc::clone(rules)));
        Seat {
            shard,
            connections: Vec::new(),
            turn_is_scheduled: false,
            timeout: None,
            rings: (0..self.shards).map(|_| Ring::default()).collect(),
            memory: MemoryStage::Enough,
        }
    }

    /// Whether it has crashed and is not back.
    pub(crate) fn is_gone(&self) -> bool {
        self.seats.is_empty()
    }

    pub(crate) fn shard_of(&self, client_id: &str) -> usize {
        shard_of(client_id, self.shards).index()
    }

    /// QoS 1 and 2 messages that were dropped because a queue was full; retained ones likewise.
    pub(crate) fn dropped(&self) -> u64 {
        self.history().map(|counters| counters.dropped_queue_full + counters.dropped_retained_full).sum()
    }

    /// What all shards have counted, those that are gone too.
    pub(crate) fn history(&self) -> impl Iterator<Item = Counters> {
        self.past.iter().copied().chain(self.counters())
    }

    fn counters(&self) -> impl Iterator<Item = Counters> {
        self.seats.iter().map(|seat| seat.shard.counters())
    }

    /// Whether no log has anything to write.
    pub(crate) fn has_logged_all(&self) -> bool {
        self.seats.iter().all(|seat| seat.shard.is_log_idle())
    }

    /// Whether every shard has ended its connections and written its log.
    pub(crate) fn is_drained(&self) -> bool {
        self.seats.iter().all(|seat| seat.shard.is_drained())
    }

    /// Every client is there and has everything: nothing may be under way.
    pub(crate) fn check_rest(&self, violations: (u64, u64)) -> Result<(), Failure> {
        let counted: u64 = self.history().map(|counters| counters.protocol_violations).sum();
        let (min, max) = violations;
        if !(min..=max).contains(&counted) {
            fail!("{counted} violations of {min} to {max} were found");
        }
        for (shard, counters) in self.counters().enumerate() {
            let under_way = counters.messages
                + counters.inbound_inflight
                + counters.outbound_inflight
                + counters.queued
                + counters.pending_subscribes
                + counters.lookups
                + counters.waiting_letters
                + counters.unacknowledged_letters;
            if under_way > 0 {
                fail!("shard {shard} is not at rest: {counters}");
            }
        }
        Ok(())
    }

    /// Every connection has ended: nothing may be left but retained messages, what belongs to the bridge, its session and
    /// so many subscriptions together, and, if they have not ended, other sessions.
    pub(crate) fn check_end(
        &self,
        violations: (u64, u64),
        sessions_have_ended: bool,
        of_bridge: u64,
    ) -> Result<(), Failure> {
        if sessions_have_ended {
            self.check_rest(violations)?;
        }
        for (shard, counters) in self.counters().enumerate() {
            let of_bridge = if shard == self.shard_of(SESSION) { of_bridge } else { 0 };
            let sessions = if sessions_have_ended {
                counters.sessions + counters.subscriptions + counters.shared_groups
            } else {
                of_bridge
            };
            if counters.connections > 0 || sessions != of_bridge {
                fail!("not everything has ended: {counters}");
            }
        }
        Ok(())
    }
}

/// The drivers at work.
impl World {
    /// Memory gets short for a shard, or there is enough again.
    pub(crate) fn change_memory(&mut self) {
        if !self.broker.is_gone() {
            let shard = self.random.below(self.broker.seats.len() as u64) as usize;
            let stage = self.random.pick(&[MemoryStage::Enough, MemoryStage::Short, MemoryStage::Exhausted]);
            self.tell_memory(shard, stage);
        }
    }

    /// There is enough memory.
    pub(crate) fn relieve_memory(&mut self) {
        for shard in 0..self.broker.seats.len() {
            self.tell_memory(shard, MemoryStage::Enough);
        }
    }

    fn tell_memory(&mut self, shard: usize, stage: MemoryStage) {
        self.trace.note(self.now, "memory", &[shard as u64, stage as u64]);
        let now = self.now();
        let seat = &mut self.broker.seats[shard];
        seat.memory = stage;
        seat.shard.handle_memory(now, stage);
        self.schedule_turn(shard);
    }

    fn schedule_turn(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.broker.seats[shard].turn_is_scheduled, true) {
            let delay = 1 + self.random.up_to(self.scenario.delay_ns_max / 4);
            self.schedule(self.now + delay, Event::Turn(shard));
        }
    }

    /// Stops the broker: every shard ends its connections.
    pub(crate) fn shut_down(&mut self) {
        self.trace.note(self.now, "shutdown", &[]);
        for index in self.audit.open_connections() {
            let has_unseen = self.has_unseen(index);
            self.audit.end(&mut self.ledger, self.now, index, Some(ReasonCode::ServerShuttingDown), has_unseen);
        }
        let now = self.now();
        for shard in 0..self.broker.seats.len() {
            self.broker.seats[shard].shard.handle_shutdown(now);
            self.schedule_turn(shard);
        }
    }

    /// Tells the audit of the packets that the broker has read to their end.
    fn audit_read(&mut self, index: usize) -> Result<(), Failure> {
        let mut has_unseen = self.has_unseen(index);
        while let Some(meaning) = self.connections[index].take_meaning() {
            self.audit.read(&mut self.ledger, self.now, index, &meaning, has_unseen)?;
            // What the packet causes is not taken before those behind it are read.
            has_unseen = true;
        }
        Ok(())
    }

    /// Whether the shard may hold output of the connection that its driver has not taken, or that waits for the log.
    fn has_unseen(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        let seat = &self.broker.seats[connection.shard];
        connection.sending.is_some() || seat.turn_is_scheduled || !seat.shard.is_log_idle()
    }

    /// Mostly drains a shard before something decisive, so that the audit sees as much as possible.
    fn take_turn_perhaps(&mut self, shard: usize) -> Result<(), Failure> {
        if self.random.percent(70) { self.turn(shard) } else { Ok(()) }
    }

    /// Drains the outputs of a shard, in the order that its contract asks for.
    pub(crate) fn turn(&mut self, shard: usize) -> Result<(), Failure> {
        let now = self.now();
        let goes_on = self.broker.seats[shard].shard.poll_lookups(now);
        // What it has answered is output that the audit has not seen.
        self.broker.seats[shard].turn_is_scheduled = true;
        self.end_half_closed(shard);
        self.end_sent_away(shard);
        self.broker.seats[shard].turn_is_scheduled = false;
        if goes_on {
            self.schedule_turn(shard);
        }
        self.post_letters(shard);
        while let Some((key, transmit)) = self.broker.seats[shard].shard.poll_transmit() {
            self.begin_sending(shard, key, transmit)?;
        }
        while let Some(command) = self.broker.seats[shard].shard.poll_command() {
            self.obey(shard, command)?;
        }
        self.drive_log(shard)?;
        self.schedule_timeout(shard);
        self.note_heard(shard);
        Ok(())
    }

    fn post_letters(&mut self, shard: usize) {
        for to in (0..self.broker.seats.len()).filter(|to| *to != shard) {
            loop {
                let seat = &mut self.broker.seats[shard];
                let letters: usize = seat.rings[to].batches.iter().map(Vec::len).sum();
                let room = self.scenario.ring_letters.saturating_sub(letters);
                if room == 0 {
                    break;
                }
                let max = self.random.between(1, room as u64) as usize;
                let Some(batch) = seat.shard.poll_letters(shard_id(to), max) else { break };
                let ring = &mut seat.rings[to];
                self.trace.note(self.now, "letters", &[shard as u64, to as u64, batch.len() as u64]);
                ring.batches.push_back(batch);
                if !std::mem::replace(&mut ring.is_scheduled, true) {
                    self.schedule_soon(Event::Ring(shard, to));
                }
            }
        }
    }

    /// Notes which connections have ended because their clients have shut their sides and wait for nothing more.
    fn end_half_closed(&mut self, shard: usize) {
        // One may be sent away before it has all its answers.
        let reason = self.scenario.may_disconnect().then_some(ReasonCode::QuotaExceeded);
        for index in self.audit.half_closed() {
            let connection = &self.connections[index];
            if connection.shard == shard
                && let Stage::Serving(key) = connection.stage
                && !self.broker.seats[shard].shard.is_open(key)
            {
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, reason, has_unseen);
            }
        }
    }

    /// Notes which connections a shard has ended because their clients do not keep up with what they get.
    fn end_sent_away(&mut self, shard: usize) {
        if !self.scenario.may_disconnect() {
            return;
        }
        for index in self.audit.open_connections() {
            let connection = &self.connections[index];
            if connection.shard == shard
                && let Stage::Serving(key) = connection.stage
                && !self.broker.seats[shard].shard.is_open(key)
            {
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, Some(ReasonCode::QuotaExceeded), has_unseen);
            }
        }
    }

    /// The oldest batch of a ring arrives.
    pub(crate) fn ring(&mut self, from: usize, to: usize) {
        let now = self.now();
        let ring = &mut self.broker.seats[from].rings[to];
        ring.is_scheduled = false;
        let mut batch = ring.batches.pop_front().expect("scheduled because of a batch");
        if !ring.batches.is_empty() {
            ring.is_scheduled = true;
            self.schedule_soon(Event::Ring(from, to));
        }
        self.trace.note(self.now, "ring", &[from as u64, to as u64, batch.len() as u64]);
        for letter in batch.drain(..) {
            self.trace.note_bytes(&[], || format!("{letter:?}"));
            self.broker.seats[to].shard.handle_letter(now, shard_id(from), letter);
        }
        self.broker.seats[from].shard.recycle_letters(batch);
        self.schedule_turn(from);
        // Before the audit hears of connections that have ended: the letters have caused output that it has not seen.
        self.schedule_turn(to);
        self.end_half_closed(to);
        self.end_sent_away(to);
    }

    fn schedule_timeout(&mut self, shard: usize) {
        let Some(next) = self.broker.seats[shard].shard.next_timeout() else { return };
        let next = next.as_nanos();
        if self.broker.seats[shard].timeout.is_some_and(|(asked, _)| asked == next) {
            return;
        }
        let at = next.max(self.now) + self.random.up_to(20 * MILLISECOND);
        self.broker.seats[shard].timeout = Some((next, at));
        self.schedule(at, Event::Timeout(shard));
    }

    pub(crate) fn timeout(&mut self, shard: usize) -> Result<(), Failure> {
        let Some((asked, at)) = self.broker.seats[shard].timeout.filter(|(_, at)| *at <= self.now) else {
            return Ok(());
        };
        // A deadline just reached may fire now or a tick later; the driver comes late enough for it to be certain.
        let is_uncertain = |(first, last): (u64, u64)| (first..=last + TIMER_SLACK_NS).contains(&self.now);
        let of_connection = |connection: usize| self.connections[connection].shard == shard;
        let of_client = |client: usize| self.broker.shard_of(&self.clients[client].profile.name) == shard;
        if self.audit.deadlines(of_connection, of_client).any(is_uncertain) {
            let at = at.max(self.now) + TIMER_SLACK_NS;
            self.broker.seats[shard].timeout = Some((asked, at));
            self.schedule(at, Event::Timeout(shard));
            return Ok(());
        }
        // So that shard and driver agree on who is paused.
        self.turn(shard)?;
        self.trace.note(self.now, "timeout", &[shard as u64]);
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.shard == shard && connection.is_paused {
                self.audit.does_not_hear(self.now, index);
            }
        }
        for index in self.audit.overdue(self.now) {
            if self.connections[index].shard == shard {
                let reason = Some(ReasonCode::KeepAliveTimeout);
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, reason, has_unseen);
            }
        }
        for client in 0..self.clients.len() {
            if self.broker.shard_of(&self.clients[client].profile.name) == shard {
                self.audit.expire(&mut self.ledger, self.now, client);
                self.audit.wills_pass(&mut self.ledger, self.now, client);
            }
        }
        let now = self.now();
        let seat = &mut self.broker.seats[shard];
        seat.timeout = None;
        seat.shard.handle_timeout(now);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        Ok(())
    }

    fn connection_of(&self, shard: usize, key: ConnectionKey) -> Result<usize, Failure> {
        match self.broker.seats[shard].connections.get(key.index()) {
            Some(Some(index)) => Ok(*index),
            Some(None) | None => fail!("shard {shard} names {key:?}, which is closed"),
        }
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId::new(index as u16).expect("a run has few shards")
}
