//! The keeper of the broker under test: starts it, kills it with SIGKILL at random moments, starts it again, and times how
//! long it takes until it answers.
//!
//! Between a kill and the answer the broker is *down*, and clients wait. Now and then the broker is killed again before it
//! has answered, in the middle of its recovery. A broker answers when it accepts a CONNECT: an open port alone may be a
//! backlog that nobody serves.
//!
//! The keeper works on a thread of its own, so that neither clients nor coordinator wait for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use oncemq::proto::Version;
use serde::Serialize;
use thiserror::Error;

use super::probe::probe;
use crate::opening::{Login, Session};
use crate::random::Random;
use crate::transport::Route;

/// One start in so many is ended by another kill before the broker has answered.
const KILL_IN_RECOVERY_ONE_IN: usize = 8;

/// Pause before a broker that ended instead of answering is started again.
const RETRY: Duration = Duration::from_millis(20);

/// How often the keeper looks at the broker, and tries its port.
const LOOK: Duration = Duration::from_millis(1);

/// The broker's life as clients see it. Without a keeper it is up for good.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Even while the broker is up; grows with each kill before it happens, and with each answer after it came.
    number: AtomicU64,
}

impl Life {
    /// Differs before and after a kill. A connection that began and failed in one life failed without a kill.
    pub(super) fn number(&self) -> u64 {
        // Acquire pairs with the release in `turn`: the kill that broke a connection was announced before.
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn is_up(&self) -> bool {
        self.number().is_multiple_of(2)
    }

    fn turn(&self) {
        self.number.fetch_add(1, Ordering::Release);
    }
}

/// What the keeper needs to know from the command line.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// For the shell; the broker takes the shell's place, so that the kill meets the broker.
    pub(super) command: String,
    pub(super) log: Option<PathBuf>,
    pub(super) route: Route,
    pub(super) version: Version,
    pub(super) client_id: String,
    /// How long the broker lives on average.
    pub(super) life_mean: Duration,
    /// It is left alone after so many kills.
    pub(super) kills_max: u64,
    pub(super) restart_timeout: Duration,
}

impl Orders {
    /// Of the keeper as a client.
    fn login(&self) -> Login {
        Login {
            version: self.version,
            client_id: self.client_id.clone(),
            session: Session::Transient,
            keep_alive_seconds: 0,
        }
    }
}

/// Why there is no broker.
#[derive(Debug, Error)]
pub(crate) enum KeeperError {
    #[error("cannot open --broker-log {path}: {source}")]
    Log { path: PathBuf, source: io::Error },
    #[error("cannot start --broker: {0}")]
    Start(io::Error),
    #[error("cannot watch the broker: {0}")]
    Watch(io::Error),
    #[error("the broker ended by itself, with {0}; its output tells more (see --broker-log)")]
    Ended(ExitStatus),
    #[error("the broker answered no CONNECT within {0:?} (see --restart-timeout); does --port name its port?")]
    Silent(Duration),
}

/// What the broker went through.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    pub(super) kills: u64,
    /// Of these, before the broker had answered.
    pub(super) kills_in_recovery: u64,
    /// Starts after which the broker ended by itself, such as one that finds its port in use.
    pub(super) failed_starts: u64,
    /// From each start to the answer, except the very first.
    recoveries: Vec<Duration>,
}

/// Times from start to answer, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Recoveries {
    pub(super) count: usize,
    pub(super) min_ms: f64,
    pub(super) median_ms: f64,
    pub(super) max_ms: f64,
}

impl Crashes {
    /// `None` when the broker was never started again.
    pub(super) fn recoveries(&self) -> Option<Recoveries> {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
        Some(Recoveries {
            count: sorted.len(),
            min_ms: sorted.first().map(milliseconds)?,
            median_ms: sorted.get(sorted.len() / 2).map(milliseconds)?,
            max_ms: sorted.last().map(milliseconds)?,
        })
    }
}

/// A broker that answers. Dropping it kills the broker for good.
#[derive(Debug)]
pub(super) struct Broker {
    orders: Orders,
    process: Process,
}

impl Broker {
    /// Starts the broker for the first time and waits until it answers.
    pub(super) fn start(orders: Orders) -> Result<Self, KeeperError> {
        let mut process = Process::start(&orders)?;
        process.wait_for_answer(&orders)?;
        Ok(Self { orders, process })
    }

    /// Begins to kill it and to start it again.
    pub(super) fn haunt(self, life: Arc<Life>, random: Random) -> io::Result<Keeper> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = move || haunt(self, &life, random, &stopped);
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(body)?;
        Ok(Keeper { stop, thread })
    }
}

/// A broker that is being killed and started again.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Haunted>,
}

/// What is left when the kills are over: the broker if it is up, or why not.
#[derive(Debug)]
pub(super) struct Haunted {
    pub(super) broker: Result<Broker, KeeperError>,
    pub(super) crashes: Crashes,
}

impl Keeper {
    /// Whether there are no more kills: there were enough, or the broker could not be brought back.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// No more kills. Returns once the broker is up.
    pub(super) fn stop(self) -> Haunted {
        // It stands for nothing else, so it needs no ordering.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the keeper does not panic")
    }
}

fn haunt(mut broker: Broker, life: &Life, mut random: Random, stop: &AtomicBool) -> Haunted {
    let mut crashes = Crashes::default();
    while crashes.kills < broker.orders.kills_max {
        let life_ns = random.below(2 * broker.orders.life_mean.as_nanos() as usize);
        let end = Instant::now() + Duration::from_nanos(life_ns as u64);
        let ended = broker.process.watch_until(end, stop);
        let restarted = ended.and_then(|ended| match ended {
            Watched::Stopped => Ok(false),
            Watched::Over => {
                life.turn();
                crashes.kills += 1;
                broker.restart(&mut random, &mut crashes)?;
                life.turn();
                Ok(true)
            }
        });
        match restarted {
            Ok(true) => {}
            Ok(false) => return Haunted { broker: Ok(broker), crashes },
            Err(error) => return Haunted { broker: Err(error), crashes },
        }
    }
    Haunted { broker: Ok(broker), crashes }
}

impl Broker {
    /// Kills the broker and brings it back, with more kills on the way.
    fn restart(&mut self, random: &mut Random, crashes: &mut Crashes) -> Result<(), KeeperError> {
        loop {
            self.process.kill()?;
            let started = Instant::now();
            self.process = Process::start(&self.orders)?;
            if let Some(usual) = crashes.recoveries.last()
                && crashes.kills < self.orders.kills_max
                && random.below(KILL_IN_RECOVERY_ONE_IN) == 0
            {
                thread::sleep(Duration::from_nanos(random.below(usual.as_nanos() as usize) as u64));
                crashes.kills += 1;
                crashes.kills_in_recovery += 1;
                continue;
            }
            self.recover(started, crashes)?;
            crashes.recoveries.push(started.elapsed());
            return Ok(());
        }
    }

    /// Waits for the answer; a broker that ends instead is started again, as a service manager does it.
    fn recover(&mut self, started: Instant, crashes: &mut Crashes) -> Result<(), KeeperError> {
        loop {
            match self.process.wait_for_answer(&self.orders) {
                Err(KeeperError::Ended(_)) if started.elapsed() < self.orders.restart_timeout => {
                    crashes.failed_starts += 1;
                    thread::sleep(RETRY);
                    self.process = Process::start(&self.orders)?;
                }
                answered_or_failed => return answered_or_failed,
            }
        }
    }
}

/// One process of the broker. Dropping it kills it.
#[derive(Debug)]
struct Process {
    child: Child,
    started: Instant,
}

enum Watched {
    Over,
    Stopped,
}

impl Process {
    fn start(orders: &Orders) -> Result<Self, KeeperError> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec {}", orders.command)).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(path) = &orders.log {
            let log = open_log(path)?;
            command.stderr(log.try_clone().map_err(|source| KeeperError::Log { path: path.clone(), source })?);
            command.stdout(log);
        }
        let started = Instant::now();
        let child = command.spawn().map_err(KeeperError::Start)?;
        Ok(Self { child, started })
    }

    fn kill(&mut self) -> Result<(), KeeperError> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(KeeperError::Watch)?;
        Ok(())
    }

    /// An error if the process ends by itself before then.
    fn watch_until(&mut self, end: Instant, stop: &AtomicBool) -> Result<Watched, KeeperError> {
        loop {
            self.check_alive()?;
            if stop.load(Ordering::Relaxed) {
                return Ok(Watched::Stopped);
            }
            if Instant::now() >= end {
                return Ok(Watched::Over);
            }
            thread::sleep(LOOK);
        }
    }

    fn wait_for_answer(&mut self, orders: &Orders) -> Result<(), KeeperError> {
        loop {
            match probe(&orders.route, &orders.login()) {
                Ok(()) => return Ok(()),
                // Not listening yet, or no longer.
                Err(_not_yet) => self.check_alive()?,
            }
            if self.started.elapsed() >= orders.restart_timeout {
                return Err(KeeperError::Silent(orders.restart_timeout));
            }
            thread::sleep(LOOK);
        }
    }

    fn check_alive(&mut self) -> Result<(), KeeperError> {
        match self.child.try_wait().map_err(KeeperError::Watch)? {
            None => Ok(()),
            Some(status) => Err(KeeperError::Ended(status)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whether it has ended already or ends now, it is gone.
        let _already_gone = self.kill();
    }
}

fn open_log(path: &Path) -> Result<File, KeeperError> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| KeeperError::Log { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::probe::testing::route;
    use std::net::{SocketAddr, TcpListener};

    fn orders(command: &str, address: SocketAddr) -> Orders {
        Orders {
            command: command.to_owned(),
            log: None,
            route: route(address),
            version: Version::V5,
            client_id: "probe".to_owned(),
            life_mean: Duration::from_millis(1),
            kills_max: 1,
            restart_timeout: Duration::from_millis(20),
        }
    }

    #[test]
    fn a_life_is_up_between_an_answer_and_a_kill() {
        let life = Life::default();
        assert!(life.is_up());
        let first = life.number();
        life.turn();
        assert!(!life.is_up());
        life.turn();
        assert!(life.is_up());
        assert_ne!(life.number(), first);
    }

    #[test]
    fn a_broker_that_ends_or_never_answers_is_named() {
        // A backlog that accepts connections, and nobody who answers.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let ended = Broker::start(orders("sh -c 'exit 3'", address)).expect_err("it ends");
        assert!(matches!(ended, KeeperError::Ended(status) if status.code() == Some(3)), "{ended}");
        let silent = Broker::start(orders("sleep 60", address)).expect_err("it is silent");
        assert!(matches!(silent, KeeperError::Silent(_)), "{silent}");
    }

    #[test]
    fn recoveries_have_a_median() {
        let mut crashes = Crashes::default();
        assert!(crashes.recoveries().is_none());
        crashes.recoveries = [5, 1, 3].map(Duration::from_millis).to_vec();
        let recoveries = crashes.recoveries().expect("three");
        assert_eq!((recoveries.min_ms, recoveries.median_ms, recoveries.max_ms), (1.0, 3.0, 5.0));
    }
}
