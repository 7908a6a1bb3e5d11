//! The simulator: the production shards on virtual time, with a hostile network and honest clients.
//!
//! One seed decides everything that happens in a run, so a run can be repeated; nothing here reads a clock, opens a socket
//! or starts a thread. What must hold is written down in two places that know nothing of the broker's inside:
//! `ledger` (what clients publish and receive) and `audit` (what the broker reads and sends).
//!
//! | variable                 | meaning                                                       |
//! |--------------------------|---------------------------------------------------------------|
//! | `ONCEMQ_SIM_SEEDS=n`     | how many seeds `seeds_hold` runs, 2,000 if not set            |
//! | `ONCEMQ_SIM_SEED=n`      | `seeds_hold` runs this seed only                              |
//! | `ONCEMQ_SIM_TRACE=1`     | a failure prints the last events of its run                   |

mod audit;
mod broker;
mod client;
mod ledger;
mod network;
mod random;
mod scenario;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use oncemq::fault::{Fault, PlantedFault};

use ledger::Failure;
use world::World;

const SEEDS: u64 = 2_000;

/// Every planted fault has to be found within so many seeds.
const SEEDS_TO_FIND_A_FAULT: u64 = 300;

/// Runs a seed: the hash of its trace, or what went wrong.
fn run(seed: u64, fault: PlantedFault, with_text: bool) -> Result<u64, Failure> {
    let mut world = World::new(seed, fault, with_text);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match result {
        Ok(Ok(())) => return Ok(world.trace.hash()),
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
        None => 0..number_from_environment("ONCEMQ_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let with_text = number_from_environment("ONCEMQ_SIM_TRACE").is_some();
    for seed in seeds {
        if let Err(Failure(reason)) = run(seed, PlantedFault::default(), with_text) {
            panic!("seed {seed}: {reason}\nto run it again: ONCEMQ_SIM_SEED={seed} ONCEMQ_SIM_TRACE=1");
        }
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| run(seed, PlantedFault::default(), false).expect("the seed holds"));
        assert_eq!(first, second, "seed {seed}");
    }
    let hash = |seed| run(seed, PlantedFault::default(), false).expect("the seed holds");
    assert_ne!(hash(0), hash(1));
}

fn assert_found(fault: Fault) {
    let find = |seed| run(seed, PlantedFault::plant(fault), false).err().map(|failure| (seed, failure));
    match (0..SEEDS_TO_FIND_A_FAULT).find_map(find) {
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
