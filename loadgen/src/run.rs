//! `run`: publishers and subscribers in a shape, measured, with the ledger of every message.
//!
//! The phases: all subscribers, then all publishers connect; publish for the warm-up and the measured span (or a count
//! of messages); stop; drain until every message has arrived and every exchange has ended, or nothing moves any more;
//! disconnect; close the ledgers.
//!
//! Rates are counted between the edges of the measured span. Latencies are those of messages that were due within it.

mod publisher;
mod subscriber;

use std::fs;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use crate::cli::RunArguments;
use crate::clock::{Clock, nanoseconds};
use crate::command::CommandError;
use crate::coordinator::{Coordinator, FleetError};
use crate::crossing::Crossing;
use crate::fleet::{self, Pace, Schedule, Seat};
use crate::latency::{self, Interval, Latencies, Recorder};
use crate::ledger::{Balance, Ledger, Published};
use crate::message::MessageForm;
use crate::opening::{Login, Opening, Presence, Session};
use crate::pacer::{Pacer, Timing};
use crate::participant::{Participant, attend, joined};
use crate::process::Process;
use crate::report::{Accounts, BrokerUse, History, RunReport};
use crate::setup::Setup;
use crate::shape::Shape;

pub(crate) use publisher::Publisher;
pub(crate) use subscriber::Subscriber;

/// Time between the order to publish and the first message that is due, for every worker to see the order.
const LEAD: Duration = Duration::from_millis(50);

/// How long publishers go on behind the measured span, so that what was due at its very end is sent, too.
const OVERRUN: Duration = Duration::from_millis(20);

/// Runs the command; whether the run is good.
pub(crate) fn run(arguments: &RunArguments) -> Result<bool, CommandError> {
    let clients = u64::from(arguments.publishers) + u64::from(arguments.subscribers);
    let setup = Setup::new(&arguments.broker, &arguments.machine, clients)?;
    let plan = Arc::new(Plan::new(arguments, &setup)?);
    let mut coordinator =
        Coordinator::new(Clock::start(), &setup, arguments.output.quiet, arguments.broker.connect_timeout);
    let (ship, recorder) = Recorder::start().map_err(FleetError::Thread)?;
    let mut workers = Vec::new();
    for (index, &cpu) in setup.thread_cpus.iter().enumerate() {
        let desk = coordinator.desk(&setup, index);
        let (plan, ship) = (Arc::clone(&plan), ship.clone());
        let share = Share { index, of: setup.thread_cpus.len() };
        let body = move |seat| work(seat, plan, share, ship);
        let worker = fleet::spawn(format!("worker-{index}"), cpu, desk, body);
        workers.push(worker.map_err(FleetError::Thread)?);
    }
    drop(ship);
    coordinator.wait_until_ready(clients)?;
    let (measured, schedule) = measure(&mut coordinator, &plan, setup.broker.as_ref())?;
    let homecoming = coordinator.close(workers)?;

    let series = recorder.finish().ok_or(FleetError::Panicked)?;
    if let Some(path) = &arguments.hdr {
        let started = SystemTime::now() - Duration::from_nanos(coordinator.clock.now_ns() - schedule.measure_start_ns);
        latency::write_log(path, started, schedule.measure_start_ns, &series)
            .map_err(|source| CommandError::file("--hdr", path, source))?;
    }
    let latencies = Latencies::of(&series);
    let overdue = homecoming.iter().filter_map(|of_worker| of_worker.overdue).reduce(|sum, more| sum + more);
    let (balance, refused) = balance(&plan.shape, homecoming);
    let accounts = Accounts {
        balance,
        refused,
        unfinished_exchanges: measured.unfinished,
        unreleased: measured.unreleased,
        // Every message has arrived by then; a broker that is slow to forget its exchanges loses nothing by it.
        must_release: false,
        errors: coordinator.control.fault_count(),
        error_examples: coordinator.control.faults(),
    };
    let report = RunReport::new(arguments, &setup, &measured, &latencies, overdue, accounts);
    report.print(arguments.output.json);
    if let Some(path) = &arguments.html {
        let rates = coordinator.into_rates();
        let history = History { measure_start_ns: schedule.measure_start_ns, rates, latencies: series };
        fs::write(path, report.page(history)).map_err(|source| CommandError::file("--html", path, source))?;
    }
    Ok(report.is_good())
}

/// What the workers need to know of the command line.
struct Plan {
    arguments: RunArguments,
    shape: Shape,
    client_id_prefix: String,
}

/// Which clients a worker runs: those of which the number leaves `index` when divided by `of`.
#[derive(Clone, Copy)]
struct Share {
    index: usize,
    of: usize,
}

/// What was measured between the edges of the span.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) completed: u64,
    pub(crate) delivered: u64,
    pub(crate) broker: Option<BrokerUse>,
    /// Processor time of this process.
    pub(crate) own_cpu_seconds: f64,
    /// Exchanges of publishers that were open when the drain ended.
    pub(crate) unfinished: u64,
    /// Ids for which subscribers awaited PUBREL when the drain ended.
    pub(crate) unreleased: u64,
}

/// What a worker brings home: for each client its number, its account, and its refused or foreign messages.
#[derive(Debug, Default)]
struct Homecoming {
    publishers: Vec<(u32, Published, u64)>,
    subscribers: Vec<(u32, Ledger, u64)>,
    /// The sum of [`Publisher::overdue`].
    overdue: Option<u64>,
}

impl Plan {
    fn new(arguments: &RunArguments, setup: &Setup) -> Result<Self, CommandError> {
        let shape =
            Shape::new(arguments.shape, arguments.publishers, arguments.subscribers, setup.topic_prefix.clone())?;
        Ok(Self { arguments: arguments.clone(), shape, client_id_prefix: setup.client_id_prefix.clone() })
    }

    fn login_of_subscriber(&self, number: u32) -> Login {
        let plain = format!("{}s{number}", self.client_id_prefix);
        self.login(match self.crossing() {
            Some(crossing) => crossing.subscriber_id(&self.shape, number, &plain),
            None => plain,
        })
    }

    fn login_of_publisher(&self, number: u32) -> Login {
        let plain = format!("{}p{number}", self.client_id_prefix);
        self.login(match self.crossing() {
            Some(crossing) => crossing.publisher_id(&self.shape, number, &plain),
            None => plain,
        })
    }

    fn crossing(&self) -> Option<Crossing> {
        let (percent, shards) = self.arguments.crossing.zip(self.arguments.broker_shards)?;
        Some(Crossing { shards, percent })
    }

    fn login(&self, client_id: String) -> Login {
        Login {
            version: self.arguments.broker.protocol,
            client_id,
            session: match self.arguments.persistent {
                true => Session::Persistent(Presence::Absent),
                false => Session::Transient,
            },
            keep_alive_seconds: self.arguments.broker.keep_alive,
        }
    }

    fn form(&self, publisher: u32) -> MessageForm {
        MessageForm {
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            topic: self.shape.topic(publisher),
            payload_bytes: self.arguments.payload_bytes as usize,
            publisher,
        }
    }
}

impl Share {
    fn of(self, count: u32) -> impl Iterator<Item = u32> {
        (0..count).skip(self.index).step_by(self.of)
    }
}

/// One worker: connects its share of the clients at its share of the rate, and sees them home.
async fn work(seat: Rc<Seat>, plan: Arc<Plan>, share: Share, ship: mpsc::Sender<Interval>) -> Homecoming {
    let keep_alive = plan.arguments.broker.keep_alive;
    let supervised = Rc::clone(&seat);
    let supervisor = tokio_uring::spawn(async move {
        // Nobody listens any more only when the command has failed already.
        let ship = |interval| drop(ship.send(interval));
        supervised.supervise(keep_alive, ship).await;
    });
    let mut recruits = Recruits {
        pace: Pace::new(plan.arguments.broker.connect_rate / share.of as f64),
        seat: Rc::clone(&seat),
        plan: Arc::clone(&plan),
    };
    let shape = Rc::new(plan.shape.clone());

    let mut subscribers = Vec::new();
    for index in share.of(shape.subscribers()) {
        let login = plan.login_of_subscriber(index);
        let participant = recruits.next(&login, shape.filters(index)).await;
        let client = Subscriber::new(participant, plan.arguments.qos, Rc::clone(&shape), index);
        let attending = attend(Rc::clone(&seat), login, index, seat.new_kick(), client);
        subscribers.push((index, tokio_uring::spawn(attending)));
    }
    let mut publishers = Vec::new();
    let mut paced = Vec::new();
    for index in share.of(shape.publishers()) {
        let login = plan.login_of_publisher(index);
        let participant = recruits.next(&login, Vec::new()).await;
        let (timing, window) = (Timing::of(plan.arguments.rate, index, shape.publishers()), plan.arguments.window);
        let count_max = plan.arguments.count.unwrap_or(u64::MAX);
        let client = Publisher::new(participant, plan.form(index), timing, count_max, window);
        let kick = seat.new_kick();
        paced.push((Rc::clone(&kick), timing));
        let number = shape.subscribers() + index;
        let attending = attend(Rc::clone(&seat), login, number, kick, client);
        publishers.push((index, tokio_uring::spawn(attending)));
    }
    if let Err(error) = Pacer::new(paced).run(&seat).await {
        seat.control.report("pacer", &error);
    }

    let mut homecoming = Homecoming::default();
    for (index, publisher) in publishers {
        let publisher = joined(publisher.await);
        if let Some(overdue) = publisher.overdue() {
            *homecoming.overdue.get_or_insert(0) += overdue;
        }
        let (published, refused) = publisher.into_published();
        homecoming.publishers.push((index, published, refused));
    }
    for (index, subscriber) in subscribers {
        let (ledger, foreign) = joined(subscriber.await).into_ledger();
        homecoming.subscribers.push((index, ledger, foreign));
    }
    joined(supervisor.await);
    homecoming
}

/// Prepares a worker's clients one by one, at its share of the connect rate.
struct Recruits {
    pace: Pace,
    seat: Rc<Seat>,
    plan: Arc<Plan>,
}

impl Recruits {
    async fn next(&mut self, login: &Login, filters: Vec<String>) -> Participant {
        self.pace.next().await;
        let permit = self.seat.admission().await;
        let opening = Opening::new(login.clone(), filters, self.plan.arguments.qos);
        let broker = &self.plan.arguments.broker;
        let seat = Rc::clone(&self.seat);
        Participant::new(seat, broker.protocol, broker.keep_alive, opening, permit)
    }
}

/// Leads the fleet from the first message to the end of the drain.
fn measure(
    coordinator: &mut Coordinator,
    plan: &Plan,
    broker: Option<&Process>,
) -> Result<(Measured, Schedule), CommandError> {
    let arguments = &plan.arguments;
    let start_ns = match arguments.start_at {
        Some(time) => await_start(coordinator, time)?,
        None => coordinator.clock.now_ns() + nanoseconds(LEAD),
    };
    let schedule = match arguments.count {
        Some(_) => Schedule { publish_start_ns: start_ns, measure_start_ns: start_ns, measure_end_ns: u64::MAX },
        None => {
            let measure_start_ns = start_ns + nanoseconds(arguments.warm_up);
            Schedule {
                publish_start_ns: start_ns,
                measure_start_ns,
                measure_end_ns: measure_start_ns + nanoseconds(arguments.duration),
            }
        }
    };
    let listeners = u64::from(plan.shape.listeners());
    coordinator.control.publish(schedule);
    let first = coordinator.wait_until("warm-up", schedule.measure_start_ns);
    let before = Usage::now(broker)?;
    let last = match arguments.count {
        Some(count) => {
            let total = count * u64::from(plan.shape.publishers());
            coordinator.wait_for_messages("measuring", listeners, total, arguments.drain_timeout)
        }
        None => coordinator.wait_until("measuring", schedule.measure_end_ns),
    };
    let after = Usage::now(broker)?;
    coordinator.wait_for("measuring", OVERRUN);
    coordinator.enter_drain();
    let drained = coordinator.wait_for_messages("draining", listeners, 0, arguments.drain_timeout);
    let delivered = last.totals.delivered - first.totals.delivered;
    let measured = Measured {
        seconds: (last.at - first.at).as_secs_f64(),
        published: last.totals.published - first.totals.published,
        completed: last.totals.completed - first.totals.completed,
        delivered,
        broker: after.broker_use(&before, delivered),
        own_cpu_seconds: (after.own_cpu - before.own_cpu).as_secs_f64(),
        unfinished: drained.totals.inflight(),
        unreleased: drained.totals.held,
    };
    Ok((measured, schedule))
}

/// Waits until shortly before a time that other generators wait for, too; that time on our clock.
fn await_start(coordinator: &mut Coordinator, time: SystemTime) -> Result<u64, CommandError> {
    let left = time.duration_since(SystemTime::now()).map_err(|late| {
        CommandError::Usage(format!("--start-at was over {:?} before all clients were connected", late.duration()))
    })?;
    let start_ns = coordinator.clock.now_ns() + nanoseconds(left);
    coordinator.wait_until("waiting for --start-at", start_ns.saturating_sub(nanoseconds(LEAD)));
    Ok(start_ns)
}

/// Processor time and memory at one edge of the measured span.
struct Usage {
    own_cpu: Duration,
    broker: Option<BrokerUsage>,
}

struct BrokerUsage {
    pid: String,
    at: Instant,
    cpu: Duration,
    resident_bytes: u64,
}

impl Usage {
    fn now(broker: Option<&Process>) -> Result<Self, CommandError> {
        let broker = match broker {
            None => None,
            Some(process) => Some(BrokerUsage {
                pid: process.pid().to_owned(),
                at: Instant::now(),
                cpu: process.cpu_time()?,
                resident_bytes: process.resident_bytes()?,
            }),
        };
        Ok(Self { own_cpu: Process::current().cpu_time()?, broker })
    }

    fn broker_use(&self, before: &Self, delivered: u64) -> Option<BrokerUse> {
        let (before, after) = (before.broker.as_ref()?, self.broker.as_ref()?);
        let cpu_seconds = (after.cpu - before.cpu).as_secs_f64();
        Some(BrokerUse {
            pid: after.pid.clone(),
            cpu_seconds,
            cpus_used: cpu_seconds / (after.at - before.at).as_secs_f64(),
            cpu_us_per_delivered: (delivered > 0).then(|| cpu_seconds * 1e6 / delivered as f64),
            resident_bytes: after.resident_bytes,
        })
    }
}

/// Closes all ledgers; the sum, and how many messages the broker refused.
fn balance(shape: &Shape, homecomings: Vec<Homecoming>) -> (Balance, u64) {
    let mut published = vec![Published::default(); shape.publishers() as usize];
    let mut refused_in_all = 0;
    let mut ledgers = Vec::new();
    for homecoming in homecomings {
        for (index, said, refused) in homecoming.publishers {
            published[index as usize] = said;
            refused_in_all += refused;
        }
        ledgers.extend(homecoming.subscribers);
    }
    (close_ledgers(shape, &published, &ledgers), refused_in_all)
}

/// The sum of the ledgers of these subscribers, each with the messages that no publisher sent it. `published` is indexed by
/// publisher.
pub(crate) fn close_ledgers(shape: &Shape, published: &[Published], ledgers: &[(u32, Ledger, u64)]) -> Balance {
    let mut balance = Balance::new();
    for (subscriber, ledger, foreign) in ledgers {
        balance.foreign += foreign;
        ledger.close(
            &mut balance,
            |slot| &published[shape.source(*subscriber, slot) as usize],
            |slot| {
                let publisher = shape.source(*subscriber, slot);
                format!("publisher {publisher} to subscriber {subscriber}")
            },
        );
    }
    balance
}
