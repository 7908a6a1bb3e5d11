//! The OnceMQ load generator: loads any MQTT broker and proves what it delivered.
//!
//! Clients are plain state machines (`participant`, `visit`, `run`, `chaos`, `connect`, `backlog`, on `opening` and `exchange`); one driver
//! (`connection`) brings them to a socket on tokio-uring, through what lies between it and MQTT (`transport`); a coordinator thread leads them through their phases
//! (`coordinator`, `fleet`) and in the end the `ledger` says whether every message arrived as its quality of service
//! promises.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod backlog;
mod chaos;
mod cli;
mod clock;
mod command;
mod compare;
mod connect;
mod connection;
mod coordinator;
mod cpus;
mod crossing;
mod dial;
mod exchange;
mod fleet;
mod latency;
mod ledger;
mod message;
mod opening;
mod pacer;
mod page;
mod participant;
mod payload;
mod process;
mod progress;
mod random;
mod rates;
mod report;
mod run;
mod series;
mod setup;
mod shape;
mod transport;
mod visit;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Arguments, Command};

/// The ledger does not balance, or the run failed.
const EXIT_VOID: u8 = 1;

/// The command line is wrong, or the clients could not connect; clap uses it too.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Connect(arguments) => connect::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Fill(arguments) => backlog::fill(&arguments),
        Command::Collect(arguments) => backlog::collect(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_VOID),
        Err(error) => {
            eprintln!("oncemq-loadgen: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
