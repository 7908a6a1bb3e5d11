//! `chaos`: pairs of a publisher and a subscriber whose connections are dropped at every point of the handshakes, whose
//! broker may be killed and started again, and that come back to the same session each time.
//!
//! Client-side state is honest ([`party`]) and outlives the connections ([`session`]); where they break is decided by
//! [`cut`], when the broker dies by [`keeper`]. The subscribers may be clients of another broker, which a bridge joins to that
//! of the publishers. In the end drops and kills stop, every exchange must complete, the ledger
//! must balance, and all sessions are ended at the broker, so that nothing of the run may be left there.

mod cut;
mod keeper;
mod party;
mod probe;
mod report;
mod session;

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::cli::ChaosArguments;
use crate::clock::Clock;
use crate::command::CommandError;
use crate::coordinator::{Coordinator, FleetError};
use crate::fleet::{self, Pace, Schedule, Seat};
use crate::ledger::{Balance, Ledger, Published};
use crate::message::MessageForm;
use crate::pacer::{Pacer, Timing};
use crate::participant::joined;
use crate::random::Random;
use crate::report::Accounts;
use crate::setup::{Setup, SetupError};
use crate::transport::Route;

use cut::Role;
use keeper::{Broker, Crashes, Life, Orders};
use party::{Publisher, Subscriber};
use report::ChaosReport;
use session::{Mishaps, Terms, live};

pub(crate) use keeper::KeeperError;

/// Sockets of one client: its connection and the one that was taken over.
const SOCKETS_PER_CLIENT: u64 = 2;

/// Parts into which the time of drops and kills is cut, to look whether the broker still comes back.
const WATCH: Duration = Duration::from_millis(50);

/// The random stream of the kills; those of the clients are counted from 0.
const KEEPER_STREAM: u64 = u64::MAX;

/// Runs the command; whether the ledger balances and every session was resumed.
pub(crate) fn run(arguments: &ChaosArguments) -> Result<bool, CommandError> {
    let clients = 2 * u64::from(arguments.pairs);
    let setup = Setup::new(&arguments.broker, &arguments.machine, clients * SOCKETS_PER_CLIENT)?;
    let seed = arguments.seed.unwrap_or_else(seed_from_clock);
    if !arguments.output.quiet {
        eprintln!("seed {seed}");
    }
    let plan = Arc::new(Plan {
        arguments: arguments.clone(),
        seed,
        client_id_prefix: setup.client_id_prefix.clone(),
        topic_prefix: setup.topic_prefix.clone(),
        publish_route: setup.route.clone(),
        subscribe_route: subscribe_route(arguments)?.unwrap_or_else(|| setup.route.clone()),
        threads: setup.thread_cpus.len(),
        life: Arc::default(),
    });
    let broker = orders(arguments, &setup).map(Broker::start).transpose()?;
    let mut coordinator =
        Coordinator::new(Clock::start(), &setup, arguments.output.quiet, arguments.broker.connect_timeout);
    let mut workers = Vec::new();
    for (index, &cpu) in setup.thread_cpus.iter().enumerate() {
        let desk = coordinator.desk(&setup, index);
        let plan = Arc::clone(&plan);
        let body = move |seat| work(seat, plan, index);
        let worker = fleet::spawn(format!("worker-{index}"), cpu, desk, body);
        workers.push(worker.map_err(FleetError::Thread)?);
    }
    coordinator.wait_until_ready(clients)?;
    let start_ns = coordinator.clock.now_ns();
    coordinator.control.publish(Schedule {
        publish_start_ns: start_ns,
        measure_start_ns: start_ns,
        measure_end_ns: u64::MAX,
    });
    let haunted = haunt(&mut coordinator, &plan, broker)?;
    coordinator.enter_drain();
    coordinator.wait_for_messages("draining", 1, 0, arguments.drain_timeout);
    let drained = coordinator.wait_for_release(arguments.drain_timeout);
    let homecomings = coordinator.close(workers)?;
    drop(haunted.broker);

    let (balance, refused, mishaps) = gather(homecomings);
    let accounts = Accounts {
        balance,
        refused,
        unfinished_exchanges: drained.totals.inflight(),
        unreleased: drained.totals.held,
        must_release: true,
        errors: coordinator.control.fault_count(),
        error_examples: coordinator.control.faults(),
    };
    let report = ChaosReport::new(arguments, setup.route.report(), seed, mishaps, haunted.crashes, accounts);
    report.print(arguments.output.json);
    if let Some(path) = &arguments.html {
        let page = report.page(coordinator.into_rates(), start_ns);
        fs::write(path, page).map_err(|source| CommandError::file("--html", path, source))?;
    }
    Ok(report.is_good())
}

/// Where the subscribers go, if not where the publishers do.
fn subscribe_route(arguments: &ChaosArguments) -> Result<Option<Route>, SetupError> {
    let ChaosArguments { broker, subscribe_host, subscribe_port, .. } = arguments;
    if subscribe_host.is_none() && subscribe_port.is_none() {
        return Ok(None);
    }
    let mut there = broker.endpoint().map_err(SetupError::Flags)?;
    if let Some(host) = subscribe_host {
        there.host.clone_from(host);
    }
    if let Some(port) = subscribe_port {
        there.port = *port;
    }
    Ok(Some(Route::new(&there, "--subscribe-host and --subscribe-port")?))
}

/// How to keep the broker, if that is wanted.
fn orders(arguments: &ChaosArguments, setup: &Setup) -> Option<Orders> {
    Some(Orders {
        command: arguments.broker_command.clone()?,
        log: arguments.broker_log.clone(),
        route: setup.route.clone(),
        version: arguments.broker.protocol,
        client_id: format!("{}k", setup.client_id_prefix),
        life_mean: arguments.kill_every?,
        kills_max: arguments.kills.unwrap_or(u64::MAX),
        restart_timeout: arguments.restart_timeout,
    })
}

/// What is left when drops and kills are over.
struct Haunted {
    /// Alive until this is dropped.
    broker: Option<Broker>,
    crashes: Option<Crashes>,
}

/// The time of drops and kills. It ends early when the broker does not come back, which voids the run.
fn haunt(coordinator: &mut Coordinator, plan: &Plan, broker: Option<Broker>) -> Result<Haunted, CommandError> {
    let Some(broker) = broker else {
        coordinator.wait_for("dropping", plan.arguments.duration);
        return Ok(Haunted { broker: None, crashes: None });
    };
    let random = Random::new(plan.seed, KEEPER_STREAM);
    let keeper = broker.haunt(Arc::clone(&plan.life), random).map_err(FleetError::Thread)?;
    let start = Instant::now();
    let is_over = || plan.arguments.kills.is_none() && start.elapsed() >= plan.arguments.duration;
    while !is_over() && !keeper.has_ended() {
        coordinator.wait_for("killing", WATCH);
    }
    let haunted = keeper.stop();
    let broker = haunted.broker.map_err(|error| coordinator.control.report("keeper", &error)).ok();
    Ok(Haunted { broker, crashes: Some(haunted.crashes) })
}

struct Plan {
    arguments: ChaosArguments,
    seed: u64,
    client_id_prefix: String,
    topic_prefix: String,
    publish_route: Route,
    subscribe_route: Route,
    threads: usize,
    life: Arc<Life>,
}

impl Plan {
    /// The terms of one client of a pair.
    fn terms(&self, role: Role, pair: u32) -> Terms {
        let (letter, filters, number, route) = match role {
            Role::Publisher => ('p', Vec::new(), 2 * pair, &self.publish_route),
            Role::Subscriber => ('s', vec![self.topic(pair)], 2 * pair + 1, &self.subscribe_route),
        };
        let clients = f64::from(self.arguments.pairs) * 2.0;
        let drop_rate = self.arguments.drop_rate;
        Terms {
            route: route.clone().with_tickets(),
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            client_id: format!("{}{letter}{pair}", self.client_id_prefix),
            filters,
            keep_alive_seconds: self.arguments.broker.keep_alive,
            lifetime_mean_ns: (drop_rate > 0.0).then(|| clients / drop_rate * 1e9),
            number,
        }
    }

    fn topic(&self, pair: u32) -> String {
        format!("{}/{pair}", self.topic_prefix)
    }

    fn timing(&self, pair: u32) -> Timing {
        Timing::of(self.arguments.rate, pair, self.arguments.pairs)
    }

    fn publisher(&self, pair: u32) -> Publisher {
        let form = MessageForm {
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            topic: self.topic(pair),
            payload_bytes: self.arguments.payload_bytes as usize,
            publisher: pair,
        };
        Publisher::new(form, self.timing(pair), self.arguments.window)
    }
}

/// What a worker brings home: the accounts of its pairs, and what happened to them.
struct Homecoming {
    pairs: Vec<Pair>,
    mishaps: Mishaps,
}

struct Pair {
    number: u32,
    published: Published,
    refused: u64,
    ledger: Ledger,
    foreign: u64,
}

/// One worker: lives the lives of every pair of which the number leaves `index` when divided by the number of threads.
async fn work(seat: Rc<Seat>, plan: Arc<Plan>, index: usize) -> Homecoming {
    let broker = plan.arguments.broker.clone();
    let supervised = Rc::clone(&seat);
    let supervisor = tokio_uring::spawn(async move {
        supervised.supervise(broker.keep_alive, drop).await;
    });
    let mishaps = Rc::new(RefCell::new(Mishaps::default()));
    let mut pace = Pace::new(broker.connect_rate / plan.threads as f64);
    let mut pairs = Vec::new();
    let mut paced = Vec::new();
    for number in (0..plan.arguments.pairs).skip(index).step_by(plan.threads) {
        pace.next().await;
        let subscriber = tokio_uring::spawn(live(
            Rc::clone(&seat),
            seat.new_kick(),
            plan.terms(Role::Subscriber, number),
            Subscriber::new(broker.protocol, plan.arguments.qos, number),
            Random::new(plan.seed, 2 * u64::from(number) + 1),
            Rc::clone(&mishaps),
            Arc::clone(&plan.life),
        ));
        pace.next().await;
        let kick = seat.new_kick();
        paced.push((Rc::clone(&kick), plan.timing(number)));
        let publisher = tokio_uring::spawn(live(
            Rc::clone(&seat),
            kick,
            plan.terms(Role::Publisher, number),
            plan.publisher(number),
            Random::new(plan.seed, 2 * u64::from(number)),
            Rc::clone(&mishaps),
            Arc::clone(&plan.life),
        ));
        pairs.push((number, publisher, subscriber));
    }
    if let Err(error) = Pacer::new(paced).run(&seat).await {
        seat.control.report("pacer", &error);
    }
    let mut homecoming = Homecoming { pairs: Vec::new(), mishaps: Mishaps::default() };
    for (number, publisher, subscriber) in pairs {
        let (published, refused) = joined(publisher.await).into_published();
        let (ledger, foreign) = joined(subscriber.await).into_ledger();
        homecoming.pairs.push(Pair { number, published, refused, ledger, foreign });
    }
    joined(supervisor.await);
    homecoming.mishaps = mishaps.take();
    homecoming
}

/// The sum of all ledgers, the refused messages, and all mishaps.
fn gather(homecomings: Vec<Homecoming>) -> (Balance, u64, Mishaps) {
    let mut balance = Balance::new();
    let mut refused = 0;
    let mut mishaps = Mishaps::default();
    for homecoming in homecomings {
        mishaps.add(&homecoming.mishaps);
        for pair in &homecoming.pairs {
            refused += pair.refused;
            balance.foreign += pair.foreign;
            pair.ledger.close(&mut balance, |_slot| &pair.published, |_slot| format!("pair {}", pair.number));
        }
    }
    (balance, refused, mishaps)
}

fn seed_from_clock() -> u64 {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    crate::clock::nanoseconds(since_epoch)
}
