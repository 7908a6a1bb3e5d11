//! The world of one run: virtual time, the clients' lives, and what happens when.
//!
//! Everything that happens is an event in one queue. A run has rounds of activity; after each, the world is kind until
//! everything has come to rest, and the books have to balance. At last all clients end their sessions, and the broker
//! must be empty.

mod lives;
mod remote;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use oncemq::fault::PlantedFault;
use oncemq::shard::Counters;
use oncemq::time::Timestamp;

use crate::audit::Audit;
use crate::bridging::Bridging;
use crate::broker::{Broker, CrashPlan};
use crate::client::{Client, Outgoing, Surroundings};
use crate::event::Event;
use crate::ledger::{Failure, Ledger, fail};
use crate::network::{Connection, Stage};
use crate::random::Random;
use crate::rules::Rules;
use crate::scenario::{MILLISECOND, Scenario};
use crate::trace::Trace;

/// Events that a run never needs: one that takes more does not come to rest.
const STEPS_MAX: u64 = 2_000_000;

/// What clients are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    /// So many more actions.
    Active(u32),
    /// Reconnect, and let everything arrive.
    Settling,
    /// End all sessions.
    Ending,
    /// See the broker go.
    Watching,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Events in the queue that are no timers.
    busy: usize,
    mood: Mood,
    pub(crate) clients: Vec<Client>,
    /// Clients that have ended their last session.
    has_ended: Vec<bool>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) broker: Broker,
    pub(crate) bridging: Option<Bridging>,
    pub(crate) crash_plan: CrashPlan,
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
}

impl World {
    pub(crate) fn new(seed: u64, fault: PlantedFault, with_text: bool) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random);
        let rules = Rules::of_run(seed, &scenario.clients);
        let has_rules = rules.are_in_force();
        let access_rules = rules.for_broker(&scenario.clients).map(Arc::new);
        let clients: Vec<_> =
            scenario.clients.iter().cloned().enumerate().map(|(index, profile)| Client::new(index, profile)).collect();
        let now = 1_700_000_000_000 * MILLISECOND;
        let bridging = scenario.bridge.clone().map(|plan| Bridging::new(plan, &mut random));
        let bridge_gives_up = bridging.as_ref().is_some_and(|bridging| bridging.plan.gives_up());
        Self {
            broker: Broker::new(
                &scenario,
                access_rules,
                bridging.as_ref(),
                Timestamp::from_nanos(now),
                random.next(),
                fault,
            ),
            bridging,
            crash_plan: CrashPlan::new(&scenario, &mut random),
            ledger: Ledger::new(clients.len(), rules),
            audit: Audit::new(clients.len(), scenario.limits.max_log_bytes.is_some(), bridge_gives_up, has_rules),
            has_ended: clients.iter().map(Client::is_remote).collect(),
            random,
            trace: Trace::new(with_text),
            scenario,
            now,
            queue: BinaryHeap::new(),
            busy: 0,
            mood: Mood::Settling,
            clients,
            connections: Vec::new(),
        }
    }

    /// Lets everything happen.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        self.begin_bridge();
        for _ in 0..self.scenario.rounds {
            self.mood = Mood::Active(self.scenario.actions_per_round);
            self.wake_all();
            while self.mood != Mood::Active(0) {
                self.step()?;
            }
            self.mood = Mood::Settling;
            self.relieve_memory();
            self.mend_bridge();
            self.wake_all();
            while self.is_busy() || !self.broker.has_logged_all() {
                self.step()?;
            }
            self.check_rest()?;
        }
        if self.scenario.ends_by_shutdown {
            self.mood = Mood::Watching;
            self.crash_plan = CrashPlan::Never;
            self.shut_down();
        } else {
            self.mood = Mood::Ending;
            self.wake_all();
        }
        while self.busy > 0 || self.is_any_client_connected() || !self.broker.has_logged_all() {
            self.step()?;
        }
        self.end_bridge();
        let is_open = |connection: &Connection| connection.stage != Stage::Closed;
        while self.busy > 0 || self.connections.iter().any(is_open) || !self.broker.is_drained() {
            self.step()?;
        }
        self.check_end()
    }

    /// Whether something will happen without a client. Who publishes faster than he may is read again when his time has come.
    fn is_busy(&self) -> bool {
        let waits = |connection: &Connection| {
            let has_more = !connection.up.is_empty() || connection.up_end.is_some();
            connection.is_paused && matches!(connection.stage, Stage::Serving(_)) && has_more
        };
        self.busy > 0 || self.scenario.limits.paces_publishers() && self.connections.iter().any(waits)
    }

    fn is_any_client_connected(&self) -> bool {
        let is_of_client = |connection: &Connection| !self.clients[connection.client].is_remote();
        self.connections.iter().any(|connection| connection.stage != Stage::Closed && is_of_client(connection))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        self.busy += usize::from(!event.is_timer());
        let tie = self.random.next();
        self.queue.push(Reverse((at, tie, event)));
    }

    /// Schedules an event after the usual kind of delay.
    pub(crate) fn schedule_soon(&mut self, event: Event) {
        let longest = match event {
            Event::Ring(..) => self.scenario.ring_delay_ns_max,
            Event::Written(_) | Event::Read(_) => self.scenario.storage.write_ns_max,
            Event::Restart => self.scenario.storage.absence_ns_max,
            Event::Reach => self.scenario.bridge.as_ref().map_or(0, |plan| plan.pause_ns_max),
            Event::Act(_)
            | Event::Answer(_)
            | Event::Ping(_)
            | Event::Upstream(_)
            | Event::Downstream(_)
            | Event::Write(_)
            | Event::Admit(_)
            | Event::Close(_)
            | Event::Turn(_)
            | Event::Timeout(_)
            | Event::Crash => self.scenario.delay_ns_max,
        };
        let delay = 1 + self.random.up_to(if self.is_kind() { longest.min(MILLISECOND) } else { longest });
        let delay = if self.random.percent(3) { delay * 20 } else { delay };
        self.schedule(self.now + delay, event);
    }

    /// How many of the bytes that are there arrive together.
    pub(crate) fn piece(&mut self, bytes: usize, at_least_up_to: u64) -> usize {
        let longest = if self.is_kind() { u64::MAX >> 1 } else { self.scenario.piece_bytes_max.max(at_least_up_to) };
        (bytes as u64).min(self.random.between(1, longest)) as usize
    }

    /// Whether the network behaves, so that everything can come to rest.
    fn is_kind(&self) -> bool {
        !matches!(self.mood, Mood::Active(_))
    }

    fn step(&mut self) -> Result<(), Failure> {
        self.crash_perhaps();
        let Some(Reverse((at, _, event))) = self.queue.pop() else {
            fail!("nothing happens any more, and not everything has ended");
        };
        self.busy -= usize::from(!event.is_timer());
        self.now = self.now.max(at);
        self.ledger.step += 1;
        if self.ledger.step > STEPS_MAX {
            fail!("the world does not come to rest");
        }
        match event {
            Event::Act(client) => self.act(client),
            Event::Answer(connection) => self.answer(connection),
            Event::Ping(connection) => self.ping(connection),
            Event::Upstream(connection) => self.upstream(connection)?,
            Event::Downstream(connection) => self.downstream(connection)?,
            Event::Write(connection) => self.write(connection)?,
            Event::Admit(connection) => self.admit(connection)?,
            Event::Reach => self.reach(),
            Event::Close(connection) => self.close(connection),
            Event::Turn(shard) => self.turn(shard)?,
            Event::Timeout(shard) => self.timeout(shard)?,
            Event::Ring(from, to) => self.ring(from, to),
            Event::Written(shard) => self.written(shard),
            Event::Read(shard) => self.log_read(shard)?,
            Event::Crash => self.crash(),
            Event::Restart => {
                self.restart()?;
                if self.mood == Mood::Settling || self.mood == Mood::Ending {
                    self.wake_all();
                }
            }
        }
        Ok(())
    }

    /// Nothing goes on inside the broker any more.
    pub(crate) fn forget_events_of_broker(&mut self) {
        self.queue.retain(|Reverse((_, _, event))| !event.is_of_broker());
        self.busy = self.queue.iter().filter(|Reverse((_, _, event))| !event.is_timer()).count();
    }

    fn wake_all(&mut self) {
        for client in 0..self.clients.len() {
            self.schedule_soon(Event::Act(client));
        }
    }

    /// Lets a client do something and puts what it writes on its way.
    fn with_client<R>(&mut self, client: usize, act: impl FnOnce(&mut Client, &mut Surroundings<'_>) -> R) -> R {
        let connection = self.clients[client].link.as_ref().map(|link| link.connection);
        let mut written: Vec<Outgoing> = Vec::new();
        let mut around = Surroundings {
            random: &mut self.random,
            ledger: &mut self.ledger,
            scenario: &self.scenario,
            bridging: self.bridging.as_ref(),
            written: &mut written,
        };
        let result = act(&mut self.clients[client], &mut around);
        if !written.is_empty() {
            let index = self.clients[client].link.as_ref().map(|link| link.connection).or(connection);
            let index = index.expect("a client writes to its connection");
            for packet in written {
                self.trace.note(self.now, "written", &[index as u64]);
                self.trace.note_packets(self.clients[client].version(), &packet.bytes);
                self.connections[index].write(packet);
            }
            self.schedule_upstream(index);
        }
        result
    }

    pub(crate) fn schedule_downstream(&mut self, connection: usize, delay: u64) {
        if !std::mem::replace(&mut self.connections[connection].down_is_scheduled, true) {
            self.schedule(self.now + delay + 1, Event::Downstream(connection));
        }
    }

    /// Bytes arrive at the client, or the end of the connection does.
    fn downstream(&mut self, index: usize) -> Result<(), Failure> {
        let is_linked = self.is_linked(index);
        let connection = &mut self.connections[index];
        connection.down_is_scheduled = false;
        if connection.is_black_hole {
            return Ok(());
        }
        let client = connection.client;
        if connection.down.is_empty() {
            if connection.down_end.is_some() {
                self.trace.note(self.now, "end at client", &[index as u64]);
                connection.finish();
                self.schedule_upstream(index);
                if is_linked {
                    self.clients[client].lose_connection();
                    if self.mood == Mood::Settling || self.mood == Mood::Ending {
                        self.schedule_soon(Event::Act(client));
                    }
                }
            }
            return Ok(());
        }
        let waiting = connection.down.len();
        let piece = self.piece(waiting, 20);
        let connection = &mut self.connections[index];
        let bytes: Vec<u8> = connection.down.drain(..piece).collect();
        self.go_on_writing(index);
        if is_linked {
            self.trace.note(self.now, "arrived", &[index as u64, piece as u64]);
            let had_answers = self.clients[client].has_answers();
            self.with_client(client, |client, around| client.receive(around, &bytes))?;
            if !had_answers {
                self.schedule_answer(index);
            }
            if self.mood == Mood::Ending && !self.has_ended[client] {
                self.schedule_soon(Event::Act(client));
            }
        }
        let delay = self.random.up_to(self.clients[client].profile.read_delay_ns_max);
        self.schedule_downstream(index, delay);
        Ok(())
    }

    /// Everything has had the time to arrive: the books have to balance.
    fn check_rest(&mut self) -> Result<(), Failure> {
        self.trace.note(self.now, "rest", &[]);
        for (index, client) in self.clients.iter().enumerate() {
            let is_away = client.is_remote() && !self.is_bridged();
            if let Some(what) = client.waits_for().filter(|_| !is_away) {
                fail!("client {index} waits for {what}");
            }
        }
        self.audit.settle()?;
        self.ledger.rest();
        self.broker.check_rest(self.audit.violations)?;
        let (dropped, mut missing) = (self.broker.dropped(), 0);
        if dropped > 0 && !self.scenario.has_tiny_queues {
            fail!("{dropped} messages were dropped though the queues are large");
        }
        for client in 0..self.clients.len() {
            for number in self.ledger.missing(client) {
                missing += 1;
                if missing > dropped {
                    fail!("lost: {}", self.ledger.explain(client, number));
                }
            }
        }
        for (number, group) in self.ledger.missing_of_groups() {
            missing += 1;
            if missing > dropped {
                fail!("lost for {group}: {}", self.ledger.explain_group(number));
            }
        }
        Ok(())
    }

    /// How often it came to what kind of trouble.
    pub(crate) fn visits(&self) -> Vec<(&'static str, u64)> {
        let sum = |count: fn(Counters) -> u64| self.broker.history().map(count).sum();
        let wills = self.audit.will_visits();
        let bridge = self.bridging.as_ref().map(|bridging| bridging.visits).unwrap_or_default();
        let visits = [
            ("take-over", sum(|counters| counters.takeovers)),
            ("repeat by a publisher", sum(|counters| counters.duplicates_suppressed)),
            ("repeat by the broker", sum(|counters| counters.publishes_resent)),
            ("held publisher", sum(|counters| counters.held_publishers)),
            ("paced publisher", sum(|counters| counters.paced_publishers)),
            ("message dropped for want of memory", sum(|counters| counters.dropped_memory)),
            ("stalled subscriber", sum(|counters| counters.stalled_subscribers)),
            ("full queue", sum(|counters| counters.dropped_queue_full)),
            ("full log", sum(|counters| counters.refused_log_full)),
            ("client sent away", sum(|counters| counters.disconnected_queue_full)),
            ("full ring", sum(|counters| counters.dropped_ring_full)),
            ("slow reader", sum(|counters| counters.dropped_slow_subscriber)),
            ("message too large", sum(|counters| counters.dropped_too_large)),
            ("message expired", sum(|counters| counters.dropped_expired)),
            ("further page of retained messages", sum(|counters| counters.further_pages)),
            ("illegal packet", sum(|counters| counters.protocol_violations)),
            ("refused payload", sum(|counters| counters.refused_payload_format)),
            ("message that its publisher may not write", sum(|counters| counters.refused_acl_publish)),
            ("message that a subscriber may not read", sum(|counters| counters.dropped_acl)),
            ("subscription to what may not be read", sum(|counters| counters.refused_acl_subscribe)),
            ("silent client", self.audit.silences),
            ("topic alias by a publisher", self.audit.aliases_read),
            ("topic alias by the broker", self.audit.aliases_sent),
            ("session expired", self.audit.expiries),
            ("will published after its delay", wills.delayed),
            ("will published before its delay with its session", wills.hastened),
            ("will taken back in time", wills.resumed),
            ("will that waits in a crash", wills.crashed),
            ("message of a group", self.ledger.shared()),
            ("bridge connected again", bridge.resumed),
            ("bridge whose remote has lost the session", bridge.lost),
            ("message in flight to a remote that loses the session", bridge.in_flight_at_loss),
            ("bridge to a remote that knows none", bridge.fallbacks),
            ("other patterns of a bridge", bridge.changed),
            ("bridge removed", bridge.removed),
            ("message that a bridge does not carry", sum(|counters| counters.dropped_not_bridged)),
            ("message given back to a group", sum(|counters| counters.shared_returned)),
        ];
        visits.into_iter().chain(self.broker.storage.visits()).collect()
    }

    /// All sessions have ended: nothing may be left.
    fn check_end(&mut self) -> Result<(), Failure> {
        self.trace.note(self.now, "end", &[]);
        let bridges = self.bridging.iter().filter(|bridging| bridging.is_configured());
        let of_bridge = bridges.map(|bridging| 1 + bridging.local_filters().len() as u64).sum();
        self.broker.check_end(self.audit.violations, !self.scenario.ends_by_shutdown, of_bridge)
    }
}
