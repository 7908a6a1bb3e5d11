//! Many clients on a few threads: the worker threads, the phases that the coordinator leads them through, and the
//! counters that it watches.
//!
//! Each worker has its own tokio-uring runtime on its own CPU and shares nothing with the others but its [`Counters`],
//! of which it is the only writer, and the [`Control`], of which it is a reader. A phase reaches the clients of a worker
//! through its *supervisor* task, which polls the control every [`SUPERVISION`], notes the phase in the worker's
//! [`Seat`], kicks every client, and only then reports the phase as seen: once all workers report `Drain`, no client
//! starts another message.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::connection::Kick;
use crate::latency::{Interval, Latencies};
use crate::series::INTERVAL_NS;
use crate::transport::Route;

/// How often a supervisor looks at the control.
const SUPERVISION: Duration = Duration::from_millis(5);

/// Entries of a worker's submission and completion rings.
const SUBMISSION_ENTRIES: u32 = 4096;
const COMPLETION_ENTRIES: u32 = 32_768;

/// Clients of one worker that may be between connect and readiness.
const OPENING_MAX: usize = 128;

/// Fault texts that are kept.
const FAULTS_KEPT: usize = 8;

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connect and subscribe.
    Open,
    /// Publish.
    Publish,
    /// Start no message; finish those that are on their way.
    Drain,
    /// Disconnect.
    Close,
}

/// When publishing starts, and the messages of which intended send times are measured; in nanoseconds of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) publish_start_ns: u64,
    pub(crate) measure_start_ns: u64,
    /// Exclusive.
    pub(crate) measure_end_ns: u64,
}

impl Schedule {
    /// Whether a message that was due at this time is measured.
    pub(crate) fn measures(&self, intended_ns: u64) -> bool {
        (self.measure_start_ns..self.measure_end_ns).contains(&intended_ns)
    }
}

/// What the coordinator tells all workers, and the faults that they tell it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    phase: AtomicU8,
    schedule: OnceLock<Schedule>,
    fault_count: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Control {
    /// Starts publishing; only the first call counts.
    pub(crate) fn publish(&self, schedule: Schedule) {
        self.schedule.get_or_init(|| schedule);
        self.enter(Phase::Publish);
    }

    /// Enters a phase; phases only go forward.
    pub(crate) fn enter(&self, phase: Phase) {
        // Release pairs with the acquire in `phase`: who sees the phase sees the schedule.
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        phase_of(self.phase.load(Ordering::Acquire))
    }

    pub(crate) fn report(&self, who: &str, fault: &impl Display) {
        self.fault_count.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < FAULTS_KEPT {
            faults.push(format!("{who}: {fault}"));
        }
    }

    pub(crate) fn fault_count(&self) -> u64 {
        self.fault_count.load(Ordering::Relaxed)
    }

    /// The first few faults.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What one worker has done so far. Written by its thread alone, read by the coordinator at any time; so each value is
/// right, but two of them need not be of the same instant.
#[derive(Debug, Default)]
#[repr(align(128))] // its own cache lines, so that workers don't slow each other down
pub(crate) struct Counters {
    pub(crate) ready: Counter,
    pub(crate) published: Counter,
    /// Exchanges that ended; at QoS 0, messages handed to the socket.
    pub(crate) completed: Counter,
    /// Distinct messages that arrived at a subscriber.
    pub(crate) delivered: Counter,
    /// Ids that subscribers hold until PUBREL: taken, and released.
    pub(crate) taken: Counter,
    pub(crate) released: Counter,
    seen_phase: AtomicU8,
}

/// A count with a single writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        // Not a read-modify-write: this thread is the only writer.
        let sum = self.0.load(Ordering::Relaxed) + more;
        self.0.store(sum, Ordering::Release);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The counters of all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) ready: u64,
    pub(crate) published: u64,
    pub(crate) completed: u64,
    pub(crate) delivered: u64,
    /// Ids that subscribers hold at the moment.
    pub(crate) held: u64,
}

impl Totals {
    pub(crate) fn of(counters: &[Arc<Counters>]) -> Self {
        let mut totals = Self::default();
        for worker in counters {
            // What follows is read before what it follows from, so that no difference is ever negative.
            let released = worker.released.value();
            totals.delivered += worker.delivered.value();
            totals.completed += worker.completed.value();
            totals.held += worker.taken.value() - released;
            totals.published += worker.published.value();
            totals.ready += worker.ready.value();
        }
        totals
    }
}

impl Totals {
    /// Exchanges of publishers that have begun and not ended.
    pub(crate) fn inflight(&self) -> u64 {
        self.published.saturating_sub(self.completed)
    }
}

/// Whether every worker has told its clients about `phase`.
pub(crate) fn all_have_seen(phase: Phase, counters: &[Arc<Counters>]) -> bool {
    counters.iter().all(|worker| phase_of(worker.seen_phase.load(Ordering::Acquire)) >= phase)
}

/// What the clients of one worker share.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) clock: Clock,
    pub(crate) route: Route,
    pub(crate) control: Arc<Control>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) latencies: RefCell<Latencies>,
    phase: Cell<Phase>,
    schedule: Cell<Option<Schedule>>,
    kicks: RefCell<Vec<Rc<Kick>>>,
    opening: Arc<Semaphore>,
}

impl Seat {
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Known from [`Phase::Publish`] on.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        self.schedule.get()
    }

    /// A kick for a new client, which the supervisor will use too.
    pub(crate) fn new_kick(&self) -> Rc<Kick> {
        let kick = Kick::new();
        self.kicks.borrow_mut().push(Rc::clone(&kick));
        kick
    }

    /// Waits for the turn to connect; the permit is given back when the client is ready.
    pub(crate) async fn admission(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.opening).acquire_owned().await.ok()
    }

    fn kick_all(&self) {
        for kick in &*self.kicks.borrow() {
            kick.kick();
        }
    }

    /// Brings every change of phase to the clients, until [`Phase::Close`]; kicks them all often enough for their
    /// keep-alive, and ships the latencies of each interval.
    pub(crate) async fn supervise(&self, keep_alive_seconds: u16, ship: impl Fn(Interval)) {
        let kick_every_ns = u64::from(keep_alive_seconds.max(4)) * 1_000_000_000 / 4;
        let mut kicked_ns = self.clock.now_ns();
        let mut interval = 0;
        loop {
            let phase = self.control.phase();
            if phase != self.phase.get() {
                self.schedule.set(self.control.schedule.get().copied());
                if let Some(schedule) = self.schedule.get() {
                    // Nothing is published before its time: what is measured begins there.
                    let start = self.clock.instant(schedule.publish_start_ns);
                    tokio::time::sleep_until(start.into()).await;
                }
                self.phase.set(phase);
                self.kick_all();
                self.counters.seen_phase.store(phase as u8, Ordering::Release);
            }
            if phase == Phase::Close {
                break;
            }
            let now_ns = self.clock.now_ns();
            if now_ns - kicked_ns >= kick_every_ns {
                kicked_ns = now_ns;
                self.kick_all();
            }
            self.ship_intervals(&mut interval, now_ns, &ship);
            tokio::time::sleep(SUPERVISION).await;
        }
        self.ship_intervals(&mut interval, u64::MAX, &ship);
    }

    /// Ships what was recorded since the last interval that has ended. All workers cut at the same times.
    fn ship_intervals(&self, interval: &mut u64, now_ns: u64, ship: &impl Fn(Interval)) {
        let Some(schedule) = self.schedule.get() else {
            return;
        };
        let start_ns = schedule.measure_start_ns + *interval * INTERVAL_NS;
        if now_ns < start_ns.saturating_add(INTERVAL_NS) {
            return;
        }
        let mut latencies = self.latencies.borrow_mut();
        if !latencies.is_empty() {
            ship(Interval { start_ns, end_ns: start_ns + INTERVAL_NS, value: latencies.take() });
        }
        *interval += 1;
    }
}

/// Starts a worker thread on `cpu` and runs `body` on its runtime.
pub(crate) fn spawn<T, B, F>(name: String, cpu: usize, desk: Desk, body: B) -> io::Result<JoinHandle<io::Result<T>>>
where
    T: Send + 'static,
    B: FnOnce(Rc<Seat>) -> F + Send + 'static,
    F: Future<Output = T>,
{
    thread::Builder::new().name(name).spawn(move || {
        // A refusal leaves the thread where the scheduler puts it, which is right, only less steady.
        let _pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        let mut ring = tokio_uring::uring_builder();
        // Without coop_taskrun every packet that arrives interrupts this thread, and the interrupt is charged to the sender:
        // the broker that is to be measured.
        ring.setup_cqsize(COMPLETION_ENTRIES).setup_coop_taskrun();
        let mut builder = tokio_uring::builder();
        builder.entries(SUBMISSION_ENTRIES).uring_builder(&ring);
        let runtime = tokio_uring::Runtime::new(&builder)?;
        Ok(runtime.block_on(async { body(Rc::new(desk.into_seat())).await }))
    })
}

/// What a worker is given to make its [`Seat`] of.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) clock: Clock,
    pub(crate) route: Route,
    pub(crate) control: Arc<Control>,
    pub(crate) counters: Arc<Counters>,
}

impl Desk {
    fn into_seat(self) -> Seat {
        Seat {
            clock: self.clock,
            route: self.route,
            control: self.control,
            counters: self.counters,
            latencies: RefCell::new(Latencies::new()),
            phase: Cell::new(Phase::Open),
            schedule: Cell::new(None),
            kicks: RefCell::default(),
            opening: Arc::new(Semaphore::new(OPENING_MAX)),
        }
    }
}

/// Spreads the starts of many clients over time.
#[derive(Debug)]
pub(crate) struct Pace {
    start: tokio::time::Instant,
    per_second: f64,
    started: u64,
}

impl Pace {
    pub(crate) fn new(per_second: f64) -> Self {
        Self { start: tokio::time::Instant::now(), per_second, started: 0 }
    }

    /// Forgets what is overdue: the next one is due now.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.per_second);
    }

    /// Waits until the next one is due.
    pub(crate) async fn next(&mut self) {
        let due = Duration::try_from_secs_f64(self.started as f64 / self.per_second).unwrap_or(Duration::MAX);
        self.started += 1;
        if let Some(wait) = due.checked_sub(self.start.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }
}

fn phase_of(number: u8) -> Phase {
    [Phase::Open, Phase::Publish, Phase::Drain].into_iter().find(|&phase| phase as u8 == number).unwrap_or(Phase::Close)
}
