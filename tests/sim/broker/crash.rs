//! When the broker crashes, and what is left of it then: the disks, and nothing else.

use oncemq::config::Durability;

use crate::disk::Crash;
use crate::event::Event;
use crate::network::Stage;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::world::World;

/// The next crash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CrashPlan {
    Never,
    /// After so many events.
    After(u64, Moment),
    /// At the next such moment.
    At(Moment),
}

/// Moments at which a crash hurts in its own way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    Any,
    /// A write is in flight.
    WhileWriting,
    /// A write is done, and the shard has not been told.
    WhenWritten,
    /// A write has failed, some time ago.
    AfterFailedWrite,
}

impl CrashPlan {
    pub(crate) fn new(scenario: &Scenario, random: &mut Random) -> Self {
        let storage = &scenario.storage;
        if storage.crashes == 0 {
            return Self::Never;
        }
        let moment = match random.below(100) {
            _ if storage.durability == Durability::None => Moment::Any,
            chance if chance < storage.failed_write_percent => Moment::AfterFailedWrite,
            chance if chance < 40 => Moment::WhileWriting,
            chance if chance < 60 => Moment::WhenWritten,
            _ => Moment::Any,
        };
        Self::After(1 + random.up_to(storage.crash_steps_max), moment)
    }
}

impl World {
    /// One more event is about to happen.
    pub(crate) fn crash_perhaps(&mut self) {
        if self.broker.is_gone() {
            return;
        }
        match self.crash_plan {
            CrashPlan::After(0, moment) => self.crash_plan = CrashPlan::At(moment),
            CrashPlan::After(steps, moment) => self.crash_plan = CrashPlan::After(steps - 1, moment),
            CrashPlan::At(Moment::Any) => self.crash(),
            CrashPlan::At(Moment::WhileWriting) if self.broker.storage.is_writing() => self.crash(),
            CrashPlan::At(Moment::WhileWriting | Moment::WhenWritten | Moment::AfterFailedWrite) | CrashPlan::Never => {
            }
        }
    }

    /// The broker is gone.
    pub(crate) fn crash(&mut self) {
        let is_synced = self.scenario.storage.durability == Durability::Sync;
        let crash = if is_synced && self.random.percent(75) { Crash::Machine } else { Crash::Process };
        let returns_at = self.now + 1 + self.random.up_to(self.scenario.storage.absence_ns_max);
        self.trace.note(self.now, "crash", &[u64::from(crash == Crash::Machine), returns_at]);
        self.forget_events_of_broker();
        let forgets_all = self.scenario.storage.durability == Durability::None;
        self.audit.crash(&mut self.ledger, self.now, returns_at, forgets_all);
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.stage != Stage::Closed {
                connection.reset(&mut self.random);
                connection.sending = None;
                connection.stage = Stage::Closed;
                self.schedule_downstream(index, 0);
            }
        }
        let counters: Vec<_> = self.broker.counters().collect();
        self.broker.past.extend(counters);
        self.broker.seats.clear();
        self.broker.storage.crash(&mut self.random, crash);
        self.scenario.storage.crashes -= 1;
        self.schedule(returns_at, Event::Restart);
    }
}
