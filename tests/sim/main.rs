//! The simulator: the production shards on virtual time, with a hostile network, disks that crash, and honest clients;
//! one of them plays the remote of a bridge in some runs.
//!
//! One seed decides everything that happens in a run, so a run can be repeated; nothing here reads a clock, opens a socket
//! or starts a thread. What must hold is written down in two places that know nothing of the broker's inside:
//! `ledger` (what clients publish and receive) and `audit` (what the broker reads and sends).
//!
//! | variable                 | meaning                                                       |
//! |--------------------------|---------------------------------------------------------------|
//! | `ONCEMQ_SIM_SEEDS=n`     | how many seeds `seeds_hold` runs, 5,000 if not set            |
//! | `ONCEMQ_SIM_FIRST=n`     | the first of them, 0 if not set                               |
//! | `ONCEMQ_SIM_SEED=n`      | `seeds_hold` runs this seed only                              |
//! | `ONCEMQ_SIM_TRACE=1`     | a failure prints the last events of its run                   |

mod aliases;
mod audit;
mod bridging;
mod broker;
mod client;
mod disk;
mod event;
mod ledger;
mod network;
mod random;
mod rules;
mod scenario;
mod trace;
mod web_socket;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oncemq::fault::{Fault, PlantedFault};

use ledger::Failure;
use world::World;

const SEEDS: u64 = 5_000;

/// All kinds of trouble have to happen within so many seeds.
const SEEDS_TO_SEE_ALL: u64 = 2_000;

/// Every planted fault has to be found within so many seeds.
const SEEDS_TO_FIND_A_FAULT: u64 = 1_500;

/// Runs a seed: the world at its end, or what went wrong.
fn run(seed: u64, fault: PlantedFault, with_text: bool) -> Result<World, Failure> {
    let mut world = World::new(seed, fault, with_text);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match result {
        Ok(Ok(())) => return Ok(world),
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Failure(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without words")))
        }
    };
    for line in world.trace.last_lines() {
        println!("{line}");
    }
    Err(failure)
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number, not {value}")))
}

#[test]
fn seeds_hold() {
    let seeds = match number_from_environment("ONCEMQ_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number_from_environment("ONCEMQ_SIM_FIRST").unwrap_or(0);
            first..first + number_from_environment("ONCEMQ_SIM_SEEDS").unwrap_or(SEEDS)
        }
    };
    let with_text = number_from_environment("ONCEMQ_SIM_TRACE").is_some();
    let failed = in_parallel(seeds, |seed| run(seed, PlantedFault::default(), with_text).err());
    if let Some((seed, Failure(reason))) = failed {
        panic!("seed {seed}: {reason}\nto run it again: ONCEMQ_SIM_SEED={seed} ONCEMQ_SIM_TRACE=1");
    }
}

/// Tries seeds on all cores until one gives a result: the lowest of those that do.
fn in_parallel<R: Send>(seeds: Range<u64>, attempt: impl Fn(u64) -> Option<R> + Sync) -> Option<(u64, R)> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return None;
            }
            if let Some(result) = attempt(seed) {
                // Lower seeds are under way already.
                next.store(seeds.end, Relaxed);
                return Some((seed, result));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let found = workers.into_iter().filter_map(|worker| worker.join().expect("failures are results"));
        found.min_by_key(|(seed, _)| *seed)
    })
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(hold(seed).trace.hash(), hold(seed).trace.hash(), "seed {seed}");
    }
    assert_ne!(hold(0).trace.hash(), hold(1).trace.hash());
}

/// A simulator that never gets into trouble proves nothing: what it is made for has to happen.
#[test]
fn seeds_visit_all_kinds_of_trouble() {
    let visits: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let failed = in_parallel(0..SEEDS_TO_SEE_ALL, |seed| {
        let world = match run(seed, PlantedFault::default(), false) {
            Ok(world) => world,
            Err(failure) => return Some(failure),
        };
        let mut visits = visits.lock().expect("nobody panics with it");
        for (trouble, count) in world.visits() {
            *visits.entry(trouble).or_default() += count;
        }
        None
    });
    if let Some((seed, Failure(reason))) = failed {
        panic!("seed {seed}: {reason}");
    }
    let visits = visits.into_inner().expect("nobody panicked with it");
    println!("{visits:?}");
    assert!(visits.values().all(|count| *count > 0), "{visits:?}");
}

fn hold(seed: u64) -> World {
    run(seed, PlantedFault::default(), false).unwrap_or_else(|Failure(reason)| panic!("seed {seed}: {reason}"))
}

fn assert_found(fault: Fault) {
    let find = |seed| {
        let failure = run(seed, PlantedFault::plant(fault), false).err()?;
        // It is the fault that was found, and not something else.
        run(seed, PlantedFault::default(), false).is_ok().then_some(failure)
    };
    match in_parallel(0..SEEDS_TO_FIND_A_FAULT, find) {
        Some((seed, Failure(reason))) => println!("{fault:?} was found with seed {seed}: {reason}"),
        None => panic!("{fault:?} was not found"),
    }
}

#[test]
fn finds_received_ids_forgotten_on_resume() {
    assert_found(Fault::ReceivedIdsForgottenOnResume);
}

#[test]
fn finds_a_publish_resent_after_its_pubrec() {
    assert_found(Fault::PublishResentAfterPubrec);
}

#[test]
fn finds_a_dropped_letter() {
    assert_found(Fault::LetterDropped);
}

#[test]
fn finds_an_id_reused_before_its_pubcomp() {
    assert_found(Fault::IdReusedBeforePubcomp);
}

#[test]
fn finds_an_acknowledgement_before_its_sync() {
    assert_found(Fault::LogAcknowledgedBeforeSync);
}

#[test]
fn finds_a_high_water_mark_logged_behind_its_effects() {
    assert_found(Fault::LettersAppliedLoggedLate);
}

#[test]
fn finds_a_tail_believed_against_its_checksum() {
    assert_found(Fault::LogTailChecksumIgnored);
}

#[test]
fn finds_received_ids_lost_at_a_restart() {
    assert_found(Fault::ReceivedIdsLostAtRestart);
}

#[test]
fn finds_received_ids_forgotten_by_a_bridge() {
    assert_found(Fault::ReceivedIdsForgottenByBridge);
}

#[test]
fn finds_a_segment_removed_too_early() {
    assert_found(Fault::SegmentRemovedTooEarly);
}
