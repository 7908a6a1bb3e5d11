//! `chaos`: pairs of a publisher and a subscriber whose connections are dropped at every point of the handshakes, and
//! that come back to the same session each time.
//!
//! Client-side state is honest ([`party`]) and outlives the connections ([`session`]); where they break is decided by
//! [`cut`]. In the end drops stop, every exchange must complete, the ledger must balance, and all sessions are ended at
//! the broker, so that nothing of the run may be left there.

mod cut;
mod party;
mod session;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use oncemq::proto::QoS;
use serde::Serialize;

use crate::cli::ChaosArguments;
use crate::clock::Clock;
use crate::command::CommandError;
use crate::coordinator::{Coordinator, FleetError};
use crate::fleet::{self, Pace, Schedule, Seat};
use crate::ledger::{Balance, Ledger, Published};
use crate::message::MessageForm;
use crate::participant::joined;
use crate::random::Random;
use crate::report::{Accounts, print_json, verdict, version_name};
use crate::setup::Setup;

use cut::{Point, Role};
use party::{Publisher, Subscriber};
use session::{Mishaps, Terms, live};

/// Sockets of one client: its connection and the one that was taken over.
const SOCKETS_PER_CLIENT: u64 = 2;

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
        threads: setup.thread_cpus.len(),
    });
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
    coordinator.wait_for("dropping", arguments.duration);
    coordinator.enter_drain();
    coordinator.wait_for_messages("draining", 1, 0, arguments.drain_timeout);
    let drained = coordinator.wait_for_release(arguments.drain_timeout);
    let homecomings = coordinator.close(workers)?;

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
    let report = ChaosReport::new(arguments, seed, mishaps, accounts);
    match arguments.output.json {
        true => print_json(&report),
        false => report.print_text(),
    }
    Ok(report.ledger.are_good(arguments.qos))
}

struct Plan {
    arguments: ChaosArguments,
    seed: u64,
    client_id_prefix: String,
    topic_prefix: String,
    threads: usize,
}

impl Plan {
    /// The terms of one client of a pair.
    fn terms(&self, role: Role, pair: u32) -> Terms {
        let (letter, filters, number) = match role {
            Role::Publisher => ('p', Vec::new(), 2 * pair),
            Role::Subscriber => ('s', vec![self.topic(pair)], 2 * pair + 1),
        };
        let clients = f64::from(self.arguments.pairs) * 2.0;
        Terms {
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            client_id: format!("{}{letter}{pair}", self.client_id_prefix),
            filters,
            keep_alive_seconds: self.arguments.broker.keep_alive,
            lifetime_mean_ns: clients / self.arguments.drop_rate * 1e9,
            number,
        }
    }

    fn topic(&self, pair: u32) -> String {
        format!("{}/{pair}", self.topic_prefix)
    }

    fn publisher(&self, pair: u32) -> Publisher {
        let form = MessageForm {
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            topic: self.topic(pair),
            payload_bytes: self.arguments.payload_bytes as usize,
            publisher: pair,
        };
        Publisher::new(form, self.arguments.window)
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
    for number in (0..plan.arguments.pairs).skip(index).step_by(plan.threads) {
        pace.next().await;
        let subscriber = tokio_uring::spawn(live(
            Rc::clone(&seat),
            plan.terms(Role::Subscriber, number),
            Subscriber::new(broker.protocol, plan.arguments.qos, number),
            Random::new(plan.seed, 2 * u64::from(number) + 1),
            Rc::clone(&mishaps),
        ));
        pace.next().await;
        let publisher = tokio_uring::spawn(live(
            Rc::clone(&seat),
            plan.terms(Role::Publisher, number),
            plan.publisher(number),
            Random::new(plan.seed, 2 * u64::from(number)),
            Rc::clone(&mishaps),
        ));
        pairs.push((number, publisher, subscriber));
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

/// The report of `chaos`.
#[derive(Debug, Serialize)]
struct ChaosReport {
    command: &'static str,
    verdict: &'static str,
    seed: u64,
    pairs: u32,
    #[serde(skip)]
    quality: QoS,
    qos: u8,
    protocol: &'static str,
    duration_seconds: f64,
    drops: u64,
    drops_by_point: Vec<DropsAt>,
    /// Points of the handshakes at which no connection was dropped.
    points_missed: Vec<String>,
    takeovers: u64,
    resumes: u64,
    ledger: Accounts,
}

#[derive(Debug, Serialize)]
struct DropsAt {
    point: String,
    drops: u64,
}

impl ChaosReport {
    fn new(arguments: &ChaosArguments, seed: u64, mishaps: Mishaps, ledger: Accounts) -> Self {
        let points = [Role::Publisher, Role::Subscriber].into_iter().flat_map(|role| Point::all(role, arguments.qos));
        let points_missed =
            points.filter(|point| !mishaps.drops.contains_key(point)).map(|point| point.to_string()).collect();
        Self {
            command: "chaos",
            verdict: verdict(ledger.are_good(arguments.qos)),
            seed,
            pairs: arguments.pairs,
            quality: arguments.qos,
            qos: arguments.qos.bits(),
            protocol: version_name(arguments.broker.protocol),
            duration_seconds: arguments.duration.as_secs_f64(),
            drops: mishaps.drops.values().sum(),
            drops_by_point: mishaps
                .drops
                .iter()
                .map(|(point, &drops)| DropsAt { point: point.to_string(), drops })
                .collect(),
            points_missed,
            takeovers: mishaps.takeovers,
            resumes: mishaps.resumes,
            ledger,
        }
    }

    fn print_text(&self) {
        println!(
            "chaos        {} pairs  QoS {}  MQTT {}  {:.0} s  seed {}",
            self.pairs, self.qos, self.protocol, self.duration_seconds, self.seed
        );
        for at in &self.drops_by_point {
            println!("{:>8}     {}", at.drops, at.point);
        }
        for point in &self.points_missed {
            println!("{:>8}     {point}", 0);
        }
        println!("drops        {}  take-overs {}  resumes {}", self.drops, self.takeovers, self.resumes);
        self.ledger.print(self.quality);
    }
}
