//! What every command settles before it starts: the way to the broker and its process, CPUs and threads, names, file limit.

use thiserror::Error;

use crate::cli::{BrokerArguments, MachineArguments};
use crate::cpus::{self, CpuError, CpuSet};
use crate::process::{Process, ProcessError};
use crate::transport::{Route, RouteError};

/// Threads unless told otherwise.
const THREADS_DEFAULT: usize = 2;

/// Open files beyond one for each client: rings, pipes, standard streams, the log.
const OTHER_FILES: u64 = 64;

/// The settled surroundings of a command.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) route: Route,
    pub(crate) broker: Option<Process>,
    /// The CPU of each thread.
    pub(crate) thread_cpus: Vec<usize>,
    pub(crate) client_id_prefix: String,
    pub(crate) topic_prefix: String,
}

/// Why a command can't start.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error("{0}")]
    Flags(String),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("--broker-pid {pid}: {source}")]
    Broker { pid: u32, source: ProcessError },
    #[error(transparent)]
    Cpus(#[from] CpuError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{clients} clients need {needed} open files, but the limit is {limit}; raise it with `ulimit -n {needed}`")]
    OpenFiles { clients: u64, needed: u64, limit: u64 },
}

impl Setup {
    /// Settles everything for `clients` clients at a time.
    pub(crate) fn new(broker: &BrokerArguments, machine: &MachineArguments, clients: u64) -> Result<Self, SetupError> {
        let endpoint = broker.endpoint().map_err(SetupError::Flags)?;
        let this = Process::current();
        let needed = clients + OTHER_FILES;
        if let Some(limit) = this.open_files_limit()?
            && limit < needed
        {
            return Err(SetupError::OpenFiles { clients, needed, limit });
        }
        let watched = broker.broker_pid.map(watch).transpose()?;
        let chosen = cpus::choose(
            &this.allowed_cpus()?,
            machine.pin.as_ref(),
            machine.avoid_cpus.as_ref(),
            watched.as_ref().map(|(_, cpus)| cpus),
        )?;
        let threads = match machine.threads {
            Some(threads) => usize::from(threads),
            None => chosen.len().min(THREADS_DEFAULT),
        };
        let name = || format!("oncemq-loadgen-{}", std::process::id());
        Ok(Self {
            route: Route::new(&endpoint, "--url or --host and --port")?,
            broker: watched.map(|(process, _)| process),
            thread_cpus: thread_cpus(&chosen, threads),
            client_id_prefix: broker.client_id_prefix.clone().unwrap_or_else(name),
            topic_prefix: broker.topic_prefix.clone().unwrap_or_else(name),
        })
    }
}

fn watch(pid: u32) -> Result<(Process, CpuSet), SetupError> {
    let process = Process::of(pid);
    match process.allowed_cpus() {
        Ok(cpus) => Ok((process, cpus)),
        Err(source) => Err(SetupError::Broker { pid, source }),
    }
}

/// Threads take the CPUs in turn.
fn thread_cpus(chosen: &CpuSet, threads: usize) -> Vec<usize> {
    let cpus: Vec<usize> = chosen.iter().collect();
    (0..threads).map(|thread| cpus[thread % cpus.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_the_cpus_in_turn() {
        let chosen: CpuSet = "2,5".parse().expect("a list");
        assert_eq!(thread_cpus(&chosen, 1), [2]);
        assert_eq!(thread_cpus(&chosen, 3), [2, 5, 2]);
    }
}
