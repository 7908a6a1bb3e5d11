//! Starts the shards: rings and buffers first, on the starting thread, where a failure can still be told; then one pinned
//! thread per shard.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, bounded, unbounded};
use tracing::{error, warn};

use crate::bridge::Bridge;
use crate::config::{Pinning, RingSizes, ServeConfig};
use crate::error::StartError;
use crate::fault::PlantedFault;
use crate::route::ShardId;
use crate::shard::{Shard, ShardConfig, shard_of};
use crate::store::{Image, LogConfig, LogEnd, SegmentNumber};

use super::answering::OpenQuestions;
use super::bell::Bell;
use super::buffers::ReceiveBuffers;
use super::clock::Clock;
use super::data_dir::DataDirectory;
use super::disk::LogDisk;
use super::door::{Door, Doors};
use super::doorbell::Doorbell;
use super::driver::{Driver, State};
use super::figures::TurnTimes;
use super::housekeeper;
use super::log_reader::LogReader;
use super::restoring::RestoredLogs;
use super::ring::Ring;
use super::routes;
use super::system;
use super::turns::Turns;

/// On which CPU each shard runs; `None` is wherever the kernel puts it. One element per shard.
pub type Placement = Vec<Option<usize>>;

/// The shards of a process, running.
pub struct Shards {
    doors: Doors,
    drained: Receiver<ShardId>,
}

/// Decides how many shards there are and where they run, on a process that may use the CPUs in `allowed`.
pub fn place(
    shards: Option<u16>,
    shards_max: u16,
    pinning: &Pinning,
    allowed: &[usize],
) -> Result<Placement, StartError> {
    let per_cpu = u16::try_from(allowed.len()).unwrap_or(shards_max);
    let shards = shards.unwrap_or(per_cpu).clamp(1, shards_max);
    let cpus = match pinning {
        Pinning::Off => return Ok(vec![None; usize::from(shards)]),
        Pinning::Auto => allowed,
        Pinning::Cpus(cpus) => {
            if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(StartError::UnknownCpu { cpu, allowed: ranges(allowed) });
            }
            cpus
        }
    };
    Ok((0..usize::from(shards)).map(|shard| cpus.get(shard % cpus.len().max(1)).copied()).collect())
}

/// Starts one thread per element of `placement`, and returns when every shard serves. With logs, each shard goes on where
/// its log ended.
pub fn start(
    placement: &Placement,
    config: &ServeConfig,
    data: Option<&DataDirectory>,
    logs: Option<RestoredLogs>,
    clock: Clock,
) -> Result<Shards, StartError> {
    let shards = routes::shard_count(placement.len());
    let rings = (0..shards).map(|_| ring(config.rings)).collect::<Result<Vec<_>, _>>()?;
    if let Some(data) = data {
        for (ring, _) in &rings {
            let kept = ring.keep_open(data.lock().as_fd());
            kept.map_err(|error| StartError::ring("keeping the data directory's lock", error))?;
        }
    }
    let bells: Vec<Arc<Bell>> = rings
        .iter()
        .map(|(ring, _)| Bell::new(ring.as_raw_fd()).map(Arc::new))
        .collect::<io::Result<_>>()
        .map_err(|error| StartError::ring("creating the bell", error))?;
    let bells: Arc<[Arc<Bell>]> = bells.into();
    let mut limits = config.limits.clone();
    if let (None, Some(data)) = (limits.max_log_bytes, data) {
        limits.max_log_bytes = room_for_logs(data)?;
    }
    let limits = limits.of_one_shard(shards);
    let logs = match logs {
        Some(logs) => begin_logs(logs, config, &bells)?,
        None => (0..shards).map(|_| None).collect(),
    };
    let routes = routes::mesh(placement.len(), config.rings.routing_batches as usize);
    let (report_drained, drained) = unbounded();
    let (report_ready, ready) = bounded(placement.len());
    let mut doors = Vec::with_capacity(placement.len());
    for (index, (((ring, buffers), routes), log)) in rings.into_iter().zip(routes).zip(logs).enumerate() {
        let (requests, requested) = unbounded();
        doors.push(Door::new(requests, Arc::clone(&bells[index])));
        let id = routes::shard_id(index);
        let shard_config = ShardConfig {
            id,
            shards,
            seed: getrandom::u64().map_err(StartError::Random)?,
            limits: limits.clone(),
            service: config.service.clone(),
            report_interval: config.report_interval,
            log: log.as_ref().map(|log| log.config),
            fault: PlantedFault::default(),
        };
        let (bells, report_drained, report_ready) = (Arc::clone(&bells), report_drained.clone(), report_ready.clone());
        let (cpu, spin) = (placement[index], config.spin);
        let is_here = |bridge: &&Arc<Bridge>| shard_of(&bridge.session_id(), shards) == id;
        let bridges: Vec<Arc<Bridge>> = config.bridges.iter().filter(is_here).cloned().collect();
        spawn(format!("shard-{index}"), move || {
            pin(cpu);
            let (mut shard, disk) = match log {
                Some(log) => {
                    let shard = Shard::restore(shard_config, clock.now(), &log.images, log.end);
                    (shard, Some(log.disk))
                }
                None => (Shard::new(shard_config), None),
            };
            shard.keep_bridges(clock.now(), &bridges);
            let mut driver = Driver {
                ring,
                turns: Turns::new(buffers.count()),
                buffers,
                id,
                shard,
                clock,
                spin,
                requests: requested,
                routes,
                bells,
                doorbell: Doorbell::new(),
                disk,
                drained: report_drained,
                questions: OpenQuestions::default(),
                turn_times: TurnTimes::default(),
                state: State::default(),
            };
            driver.ring.enable()?;
            // The starting thread waits for every shard, unless it has given up and ends the process.
            let _ = report_ready.send(());
            driver.run()
        })?;
    }
    for _ in 0..shards {
        // A shard that does not get so far takes the process with it.
        ready.recv().expect("this thread holds a sender itself");
    }
    Ok(Shards { doors: Doors::new(doors), drained })
}

/// What the logs may take of what their file system has for them now: not all of it, for a log that cannot be written any more has
/// failed until the next start.
fn room_for_logs(data: &DataDirectory) -> Result<Option<NonZeroU64>, StartError> {
    let Some(free) = system::free_bytes(data.path()) else { return Ok(None) };
    let taken = match data.generation()? {
        Some(logs) => (0..logs.shards).map(|shard| logs.files(shard).bytes()).sum::<Result<u64, _>>()?,
        None => 0,
    };
    Ok(NonZeroU64::new(free.saturating_add(taken) / 10 * 9))
}

/// A shard's ring with its receive buffers.
pub(super) fn ring(sizes: RingSizes) -> Result<(Ring, ReceiveBuffers), StartError> {
    // Room for one completion per receive buffer on top of what one submission can cause.
    let completions = (sizes.entries * 2).max(u32::from(sizes.recv_buffers) * 2).next_power_of_two();
    let ring = Ring::new(sizes.entries, completions).map_err(|error| StartError::ring("creating the ring", error))?;
    let buffers = ReceiveBuffers::register(&ring, sizes.recv_buffers, sizes.recv_buffer_bytes)
        .map_err(|error| StartError::ring("registering the receive buffers", error))?;
    Ok((ring, buffers))
}

/// What one shard goes on with.
struct ShardLog {
    config: LogConfig,
    /// Those of all shards; freed when the last one has read its own.
    images: Arc<[Image]>,
    end: LogEnd,
    disk: LogDisk,
}

/// The logs of all shards, with the thread that keeps their files.
fn begin_logs(
    logs: RestoredLogs,
    config: &ServeConfig,
    bells: &[Arc<Bell>],
) -> Result<Vec<Option<ShardLog>>, StartError> {
    let RestoredLogs { generation, shape, images, ends, spares } = logs;
    let files = (0..generation.shards).map(|shard| generation.files(shard));
    let customers = files.zip(spares).zip(bells).map(|((files, spares), bell)| (files, spares, Arc::clone(bell)));
    let segments = housekeeper::start(customers, shape)?;
    let images: Arc<[Image]> = images.into();
    let begin = |(index, (end, segments)): (usize, (LogEnd, _))| {
        let config = LogConfig {
            generation: generation.number,
            shard: routes::shard_id(index).number(),
            salt: getrandom::u64().map_err(StartError::Random)?,
            segment_bytes: shape.segment_bytes,
            commit_delay: config.log.commit_delay,
            is_synced: shape.mode.is_synced(),
            fault: PlantedFault::default(),
        };
        let first = SegmentNumber(end.segments.last().map_or(0, |(segment, _)| segment.0) + 1);
        let id = routes::shard_id(index);
        let reader = LogReader::new(id, generation.files(id.number()));
        let disk = LogDisk::new(id, shape, segments, reader, first)
            .map_err(|error| StartError::ring("mapping the log's buffer", error))?;
        Ok(Some(ShardLog { config, images: Arc::clone(&images), end, disk }))
    };
    ends.into_iter().zip(segments).enumerate().map(begin).collect()
}

impl Shards {
    /// The ways into the shards.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Ends all connections and waits until they are closed, but no longer than `patience`; says whether they are.
    ///
    /// The threads go on, with nothing to do, until the process ends: what is in flight may still name their memory.
    pub fn shut_down(&self, patience: Duration) -> bool {
        self.doors.shut_down();
        let deadline = Instant::now() + patience;
        (0..self.doors.shards()).all(|_| self.drained.recv_deadline(deadline).is_ok())
    }
}

/// Starts a shard's thread. A shard that cannot go on takes the process with it: the others would wait for its letters.
pub(super) fn spawn(name: String, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), StartError> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            if let Err(error) = run() {
                error!("the ring failed, and the broker ends with it: {error}");
                process::abort();
            }
        })
        .map(drop)
        .map_err(|source| StartError::Thread { name, source })
}

fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu
        && !core_affinity::set_for_current(CoreId { id })
    {
        // It was allowed a moment ago; the shard works without, only less evenly.
        warn!("the kernel would not pin this shard to CPU {id}");
    }
}

/// CPUs as people write them: `0-3,8`.
fn ranges(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let Some(&first) = rest.first() {
        let length = rest.iter().zip(first..).take_while(|&(&cpu, expected)| cpu == expected).count();
        let separator = if text.is_empty() { "" } else { "," };
        text += &match length {
            1 => format!("{separator}{first}"),
            _ => format!("{separator}{first}-{}", first + length - 1),
        };
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_go_round_the_allowed_cpus() {
        let allowed = [0, 2, 3];
        let place = |shards, pinning| place(shards, 64, &pinning, &allowed).expect("a placement");
        assert_eq!(place(None, Pinning::Auto), [Some(0), Some(2), Some(3)]);
        assert_eq!(place(Some(4), Pinning::Auto), [Some(0), Some(2), Some(3), Some(0)]);
        assert_eq!(place(Some(2), Pinning::Off), [None, None]);
        assert_eq!(place(Some(2), Pinning::Cpus(vec![3])), [Some(3), Some(3)]);
    }

    #[test]
    fn a_cpu_that_is_not_allowed_is_named() {
        let error = place(None, 64, &Pinning::Cpus(vec![1]), &[0, 2, 3]).expect_err("not allowed");
        assert_eq!(error.to_string(), "--pin: CPU 1 is not one that this process may use; allowed: 0,2-3");
    }

    #[test]
    fn a_machine_that_hides_its_cpus_still_gets_a_shard() {
        assert_eq!(place(None, 64, &Pinning::Auto, &[]).expect("one"), [None]);
    }
}
