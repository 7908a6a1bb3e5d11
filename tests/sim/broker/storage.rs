//! The logs of the shards: their disks, and the broker's return from them.

use std::collections::BTreeMap;
use std::time::Duration;

use oncemq::config::Durability;
use oncemq::fault::PlantedFault;
use oncemq::store::{LogConfig, LogFailure};

use crate::disk::{Crash, Disk};
use crate::event::Event;
use crate::ledger::{Failure, fail};
use crate::random::Random;
use crate::scenario;
use crate::world::World;

use super::crash::Moment;
use super::{CrashPlan, Shard};

/// What outlives the broker.
pub(crate) struct Storage {
    durability: Durability,
    fault: PlantedFault,
    pub(super) segment_bytes: u64,
    commit_delay: Duration,
    pub(super) generation: u64,
    /// Another one at each start.
    salt: u64,
    /// By shard; none without a log.
    pub(super) disks: Vec<Disk>,
    visits: BTreeMap<&'static str, u64>,
}

/// What a run may see of its disks.
const TROUBLES: [&str; 9] = [
    "crash of the machine",
    "crash of the process",
    "failed write",
    "torn tail",
    "damage",
    "other number of shards",
    "removed segment",
    "comparison with the log",
    "read of a backlog",
];

impl Storage {
    pub(super) fn new(scenario: &scenario::Storage, shards: u16, fault: PlantedFault) -> Self {
        Self {
            fault,
            salt: 1,
            durability: scenario.durability,
            segment_bytes: scenario.segment_bytes,
            commit_delay: scenario.commit_delay,
            generation: 1,
            disks: match scenario.durability {
                Durability::Sync | Durability::Write => vec![Disk::default(); usize::from(shards)],
                Durability::None => Vec::new(),
            },
            visits: BTreeMap::new(),
        }
    }

    pub(super) fn log_config(&self, shard: u16) -> Option<LogConfig> {
        let is_synced = match self.durability {
            Durability::Sync => true,
            Durability::Write => false,
            Durability::None => return None,
        };
        Some(LogConfig {
            generation: self.generation,
            shard,
            salt: self.salt,
            segment_bytes: self.segment_bytes,
            commit_delay: self.commit_delay,
            is_synced,
            fault: self.fault,
        })
    }

    /// How often it came to what kind of trouble.
    pub(crate) fn visits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TROUBLES.into_iter().map(|trouble| (trouble, self.visits.get(trouble).copied().unwrap_or(0)))
    }

    pub(super) fn visit(&mut self, trouble: &'static str) {
        assert!(TROUBLES.contains(&trouble), "a trouble that is known to the test");
        *self.visits.entry(trouble).or_default() += 1;
    }

    pub(super) fn is_writing(&self) -> bool {
        self.disks.iter().any(Disk::has_write_in_flight)
    }

    pub(super) fn crash(&mut self, random: &mut Random, crash: Crash) {
        self.visit(match crash {
            Crash::Machine => "crash of the machine",
            Crash::Process => "crash of the process",
        });
        for disk in &mut self.disks {
            disk.crash(random, crash);
        }
    }
}

impl World {
    /// Gives the disk of a shard what there is to do for it.
    pub(super) fn drive_log(&mut self, shard: usize) -> Result<(), Failure> {
        let now = self.now();
        let seat = &mut self.broker.seats[shard].shard;
        let Some(disk) = self.broker.storage.disks.get_mut(shard) else { return Ok(()) };
        if !disk.has_write_in_flight()
            && let Some(write) = seat.poll_log_write(now)
        {
            let values = [shard as u64, write.segment.0, write.offset, write.bytes.len() as u64];
            self.trace.note(self.now, "log write", &values);
            self.trace.note_bytes(&write.bytes, String::new);
            disk.begin(&mut self.random, self.broker.storage.segment_bytes, write);
            self.schedule_soon(Event::Written(shard));
        }
        let seat = &mut self.broker.seats[shard].shard;
        if let Some(read) = seat.poll_log_read() {
            self.trace.note(self.now, "log read", &[shard as u64, read.segment.0, read.offset, read.bytes as u64]);
            self.broker.storage.visit("read of a backlog");
            self.broker.storage.disks[shard].begin_read(read);
            self.schedule_soon(Event::Read(shard));
        }
        let seat = &mut self.broker.seats[shard].shard;
        while let Some(segment) = seat.poll_obsolete_segment() {
            self.trace.note(self.now, "segment removed", &[shard as u64, segment.0]);
            self.broker.storage.visit("removed segment");
            self.broker.storage.disks[shard].remove(segment);
        }
        // A shard whose log has failed knows more than that.
        let is_comparable = self.broker.seats[shard].shard.is_log_idle() && !self.audit.log_has_failed;
        if is_comparable && self.random.percent(2) {
            self.compare_with_log(shard)?;
        }
        Ok(())
    }

    /// The disk of a shard is done with a write.
    pub(crate) fn written(&mut self, shard: usize) {
        let now = self.now();
        let disk = &mut self.broker.storage.disks[shard];
        let (write, result) = match self.crash_plan {
            CrashPlan::At(Moment::WhenWritten) => {
                disk.complete();
                return self.crash();
            }
            CrashPlan::At(Moment::AfterFailedWrite) => {
                self.crash_plan = CrashPlan::Never;
                self.audit.log_has_failed = true;
                self.broker.storage.visit("failed write");
                let failure = self.random.pick(&[LogFailure::NoSpace, LogFailure::Io]);
                self.schedule_soon(Event::Crash);
                (self.broker.storage.disks[shard].fail(&mut self.random), Err(failure))
            }
            CrashPlan::At(Moment::Any | Moment::WhileWriting) | CrashPlan::After(..) | CrashPlan::Never => {
                (disk.complete(), Ok(()))
            }
        };
        self.trace.note(self.now, "written", &[shard as u64, u64::from(result.is_ok())]);
        self.broker.seats[shard].shard.handle_log_written(now, write, result);
        self.schedule_turn(shard);
        self.end_half_closed(shard);
        self.end_sent_away(shard);
    }

    /// The disk of a shard is done with a read.
    pub(crate) fn log_read(&mut self, shard: usize) -> Result<(), Failure> {
        let now = self.now();
        let (read, bytes) = self.broker.storage.disks[shard].complete_read();
        if let Err(damage) = self.broker.seats[shard].shard.handle_log_read(now, &read, Ok(&bytes)) {
            fail!("shard {shard} reads what it has not written: {damage}");
        }
        self.schedule_turn(shard);
        self.end_half_closed(shard);
        self.end_sent_away(shard);
        Ok(())
    }

    /// The broker comes back.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        let storage = &self.scenario.storage;
        if self.random.percent(storage.other_shards_percent) {
            self.broker.shards = self.random.between(1, 4) as u16;
        }
        self.trace.note(self.now, "restart", &[u64::from(self.broker.shards)]);
        self.broker.storage.salt += 1;
        let shards = match self.broker.storage.durability {
            Durability::Sync | Durability::Write => self.recover()?,
            Durability::None => {
                let numbers = 0..self.broker.shards;
                numbers.map(|number| Shard::new(self.broker.config(number))).collect()
            }
        };
        let now = self.now();
        self.broker.seats = shards.into_iter().map(|shard| self.broker.seat(shard, now)).collect();
        self.change_bridge(self.broker.storage.durability == Durability::None);
        self.broker.keep_bridges(self.bridging.as_ref(), now);
        for shard in 0..self.broker.seats.len() {
            self.schedule_turn(shard);
        }
        // What has become due in the meantime is published with the start.
        for client in 0..self.clients.len() {
            self.audit.wills_pass(&mut self.ledger, self.now, client);
        }
        self.crash_plan = CrashPlan::new(&self.scenario, &mut self.random);
        Ok(())
    }
}
