//! The thread that leads the workers through the phases and watches their counters.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::clock::{Clock, nanoseconds};
use crate::fleet::{Control, Counters, Desk, Phase, Totals, all_have_seen};
use crate::progress::Progress;
use crate::rates::{Messages, Rates};
use crate::series::Series;
use crate::setup::Setup;

/// How often the counters are looked at.
const WATCH: Duration = Duration::from_millis(5);

/// A running fleet.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Control>,
    counters: Vec<Arc<Counters>>,
    progress: Progress,
    rates: Rates,
    connect_timeout: Duration,
}

/// Why a fleet never got to work, or came to a bad end of its own.
#[derive(Debug, Error)]
pub(crate) enum FleetError {
    #[error("cannot start a worker thread: {0}")]
    Thread(io::Error),
    #[error(
        "cannot create an io_uring: {0} (needs Linux 6.1 with io_uring enabled: sysctl kernel.io_uring_disabled, \
         or a container's seccomp profile)"
    )]
    Ring(io::Error),
    #[error("clients could not connect and subscribe:\n  {}", .0.join("\n  "))]
    Clients(Vec<String>),
    #[error("no client became ready for {timeout:?}; {ready} of {wanted} are (see --connect-timeout)")]
    Stalled { ready: u64, wanted: u64, timeout: Duration },
    #[error("a worker thread panicked")]
    Panicked,
}

/// What happened between two looks at the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) totals: Totals,
}

impl Coordinator {
    pub(crate) fn new(clock: Clock, setup: &Setup, quiet: bool, connect_timeout: Duration) -> Self {
        Self {
            clock,
            control: Arc::default(),
            counters: setup.thread_cpus.iter().map(|_| Arc::default()).collect(),
            progress: Progress::new(quiet),
            rates: Rates::new(),
            connect_timeout,
        }
    }

    /// What worker `index` needs.
    pub(crate) fn desk(&self, setup: &Setup, index: usize) -> Desk {
        Desk {
            clock: self.clock,
            route: setup.route.clone(),
            control: Arc::clone(&self.control),
            counters: Arc::clone(&self.counters[index]),
        }
    }

    pub(crate) fn look(&self) -> Look {
        Look { at: Instant::now(), totals: Totals::of(&self.counters) }
    }

    /// Waits until that many clients are ready. Any fault until then is final.
    pub(crate) fn wait_until_ready(&mut self, wanted: u64) -> Result<Look, FleetError> {
        let mut last = self.look();
        loop {
            let look = self.watch("connecting");
            if self.control.fault_count() > 0 {
                self.progress.finish();
                return Err(FleetError::Clients(self.control.faults()));
            }
            if look.totals.ready >= wanted {
                return Ok(look);
            }
            if look.totals.ready > last.totals.ready {
                last = look;
            } else if last.at.elapsed() > self.connect_timeout {
                self.progress.finish();
                return Err(FleetError::Stalled { ready: look.totals.ready, wanted, timeout: self.connect_timeout });
            }
        }
    }

    /// Watches for a while.
    pub(crate) fn wait_for(&mut self, stage: &str, time: Duration) -> Look {
        self.wait_until(stage, self.clock.now_ns() + nanoseconds(time))
    }

    /// Watches until the clock says `at_ns`.
    pub(crate) fn wait_until(&mut self, stage: &str, at_ns: u64) -> Look {
        let deadline = self.clock.instant(at_ns);
        while Instant::now() + WATCH < deadline {
            self.watch(stage);
        }
        thread::sleep(deadline.saturating_duration_since(Instant::now()));
        self.look()
    }

    /// Watches until every message was delivered `listeners` times and every publisher's exchange is complete, or until
    /// nothing has changed for `quiet`. The look is that of the last change.
    pub(crate) fn wait_for_messages(
        &mut self,
        stage: &str,
        listeners: u64,
        published_least: u64,
        quiet: Duration,
    ) -> Look {
        self.wait_while_moving(stage, quiet, |now| {
            now.published >= published_least
                && now.delivered >= now.published * listeners
                && now.completed == now.published
        })
    }

    /// Watches until so many messages were delivered, or until nothing has changed for `quiet`. The look is that of the
    /// last change.
    pub(crate) fn wait_for_deliveries(&mut self, stage: &str, delivered: u64, quiet: Duration) -> Look {
        self.wait_while_moving(stage, quiet, |now| now.delivered >= delivered)
    }

    fn wait_while_moving(&mut self, stage: &str, quiet: Duration, is_complete: impl Fn(&Totals) -> bool) -> Look {
        let mut last = self.look();
        loop {
            let look = self.watch(stage);
            let (now, before) = (look.totals, last.totals);
            if now.published != before.published
                || now.delivered != before.delivered
                || now.completed != before.completed
            {
                last = look;
            }
            if is_complete(&now) || last.at.elapsed() > quiet {
                return last;
            }
        }
    }

    /// Watches until subscribers hold no id any more, for `limit` at most.
    pub(crate) fn wait_for_release(&mut self, limit: Duration) -> Look {
        let start = Instant::now();
        loop {
            let look = self.watch("releasing");
            if look.totals.held == 0 || start.elapsed() > limit {
                return look;
            }
        }
    }

    /// Stops the publishers; returns when none of them starts another message.
    pub(crate) fn enter_drain(&mut self) {
        self.control.enter(Phase::Drain);
        while !all_have_seen(Phase::Drain, &self.counters) {
            self.watch("draining");
        }
    }

    /// Ends all clients and returns what their workers bring home.
    pub(crate) fn close<T>(&mut self, workers: Vec<JoinHandle<io::Result<T>>>) -> Result<Vec<T>, FleetError> {
        self.control.enter(Phase::Close);
        while !workers.iter().all(JoinHandle::is_finished) {
            self.watch("closing");
        }
        self.progress.finish();
        workers
            .into_iter()
            .map(|worker| match worker.join() {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(error)) => Err(FleetError::Ring(error)),
                Err(_panic) => Err(FleetError::Panicked),
            })
            .collect()
    }

    /// How many messages flowed when, from the first one until now.
    pub(crate) fn into_rates(self) -> Series<Messages> {
        let totals = self.look().totals;
        self.rates.finish(self.clock.now_ns(), totals)
    }

    fn watch(&mut self, stage: &str) -> Look {
        thread::sleep(WATCH);
        let look = self.look();
        self.rates.look(self.clock.now_ns(), look.totals);
        self.progress.tick(stage, look.totals, self.control.fault_count());
        look
    }
}
