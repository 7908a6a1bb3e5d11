//! `fill` and `collect`: messages for subscribers that are away, and the return of these subscribers, maybe to a broker that
//! has died in between.
//!
//! `fill` lets every subscriber connect with a persistent session, subscribe and leave; then every publisher sends its count
//! of messages and completes all exchanges. `collect` is another process at another time: it knows from the same flags what
//! was published, returns to each session, which must be there, takes what waits, and ends the sessions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use oncemq::proto::QoS;
use serde::Serialize;

use crate::cli::BacklogArguments;
use crate::clock::Clock;
use crate::command::CommandError;
use crate::coordinator::{Coordinator, FleetError};
use crate::fleet::{self, Pace, Schedule, Seat};
use crate::ledger::{Balance, Ledger, Published};
use crate::message::MessageForm;
use crate::opening::{Login, Opening, Presence, Session};
use crate::pacer::Timing;
use crate::participant::{Participant, attend, joined};
use crate::report::{Accounts, print_json, verdict, version_name};
use crate::run::{Publisher, Subscriber, close_ledgers};
use crate::setup::Setup;
use crate::shape::Shape;
use crate::transport::{Route, TransportReport};
use crate::visit::visit;

/// Client ids and topics begin with this unless told otherwise: the same in both commands.
const PREFIX_DEFAULT: &str = "oncemq-loadgen-backlog";

/// Clients that leave while others connect, on all threads.
const PASSING_MAX: u64 = 1024;

/// Runs `fill`; whether the broker took every message.
pub(crate) fn fill(arguments: &BacklogArguments) -> Result<bool, CommandError> {
    let (plan, setup) = Plan::new(arguments)?;
    let mut coordinator =
        Coordinator::new(Clock::start(), &setup, arguments.output.quiet, arguments.broker.connect_timeout);
    let mut workers = Vec::new();
    for (index, &cpu) in setup.thread_cpus.iter().enumerate() {
        let desk = coordinator.desk(&setup, index);
        let share = Share { plan: Arc::clone(&plan), index, of: setup.thread_cpus.len() };
        let body = move |seat| leave_messages(seat, share);
        let worker = fleet::spawn(format!("worker-{index}"), cpu, desk, body);
        workers.push(worker.map_err(FleetError::Thread)?);
    }
    coordinator.wait_until_ready(plan.clients())?;
    let start_ns = coordinator.clock.now_ns();
    coordinator.control.publish(Schedule {
        publish_start_ns: start_ns,
        measure_start_ns: start_ns,
        measure_end_ns: u64::MAX,
    });
    let start = Instant::now();
    let last = coordinator.wait_for_messages("filling", 0, plan.published_in_all(), arguments.drain_timeout);
    let seconds = (last.at - start).as_secs_f64();
    let resident_bytes = setup.broker.as_ref().map(|broker| broker.resident_bytes()).transpose()?;
    let refused = coordinator.close(workers)?.into_iter().sum();
    let accounts = Accounts {
        balance: Balance::new(),
        refused,
        unfinished_exchanges: plan.published_in_all() - last.totals.completed,
        unreleased: 0,
        must_release: false,
        errors: coordinator.control.fault_count(),
        error_examples: coordinator.control.faults(),
    };
    let report = BacklogReport::new(Stage::Fill, &plan, last.totals.published, seconds, resident_bytes, accounts);
    report.print(arguments.output.json);
    Ok(report.is_good())
}

/// Runs `collect`; whether everything arrived as its quality of service promises.
pub(crate) fn collect(arguments: &BacklogArguments) -> Result<bool, CommandError> {
    let (plan, setup) = Plan::new(arguments)?;
    let mut coordinator =
        Coordinator::new(Clock::start(), &setup, arguments.output.quiet, arguments.broker.connect_timeout);
    let start = Instant::now();
    let mut workers = Vec::new();
    for (index, &cpu) in setup.thread_cpus.iter().enumerate() {
        let desk = coordinator.desk(&setup, index);
        let share = Share { plan: Arc::clone(&plan), index, of: setup.thread_cpus.len() };
        let body = move |seat| take_messages(seat, share);
        let worker = fleet::spawn(format!("worker-{index}"), cpu, desk, body);
        workers.push(worker.map_err(FleetError::Thread)?);
    }
    coordinator.wait_until_ready(u64::from(plan.shape.subscribers()))?;
    let expected = plan.published_in_all() * u64::from(plan.shape.listeners());
    let last = coordinator.wait_for_deliveries("collecting", expected, arguments.drain_timeout);
    let seconds = (last.at - start).as_secs_f64();
    let released = coordinator.wait_for_release(arguments.drain_timeout);
    let resident_bytes = setup.broker.as_ref().map(|broker| broker.resident_bytes()).transpose()?;
    let ledgers: Vec<_> = coordinator.close(workers)?.into_iter().flatten().collect();
    let published = vec![Published { total: arguments.count, undecided: Vec::new() }; arguments.publishers as usize];
    let accounts = Accounts {
        balance: close_ledgers(&plan.shape, &published, &ledgers),
        refused: 0,
        unfinished_exchanges: 0,
        unreleased: released.totals.held,
        must_release: true,
        errors: coordinator.control.fault_count(),
        error_examples: coordinator.control.faults(),
    };
    let report = BacklogReport::new(Stage::Collect, &plan, last.totals.delivered, seconds, resident_bytes, accounts);
    report.print(arguments.output.json);
    Ok(report.is_good())
}

struct Plan {
    arguments: BacklogArguments,
    shape: Shape,
    client_id_prefix: String,
    route: Route,
}

impl Plan {
    fn new(arguments: &BacklogArguments) -> Result<(Arc<Self>, Setup), CommandError> {
        let mut broker = arguments.broker.clone();
        broker.client_id_prefix.get_or_insert_with(|| PREFIX_DEFAULT.to_owned());
        broker.topic_prefix.get_or_insert_with(|| PREFIX_DEFAULT.to_owned());
        // The one kind is away before the other comes, but for those that are just coming and going.
        let clients = u64::from(arguments.publishers.max(arguments.subscribers)) + PASSING_MAX;
        let setup = Setup::new(&broker, &arguments.machine, clients)?;
        let shape =
            Shape::new(arguments.shape, arguments.publishers, arguments.subscribers, setup.topic_prefix.clone())?;
        let (client_id_prefix, route) = (setup.client_id_prefix.clone(), setup.route.clone());
        Ok((Arc::new(Self { arguments: arguments.clone(), shape, client_id_prefix, route }), setup))
    }

    fn clients(&self) -> u64 {
        u64::from(self.shape.publishers()) + u64::from(self.shape.subscribers())
    }

    fn published_in_all(&self) -> u64 {
        self.arguments.count.saturating_mul(u64::from(self.shape.publishers()))
    }

    fn login(&self, role: char, number: u32, session: Session) -> Login {
        Login {
            version: self.arguments.broker.protocol,
            client_id: format!("{}{role}{number}", self.client_id_prefix),
            session,
            keep_alive_seconds: self.arguments.broker.keep_alive,
        }
    }

    fn publisher(&self, participant: Participant, number: u32) -> Publisher {
        let form = MessageForm {
            version: self.arguments.broker.protocol,
            qos: self.arguments.qos,
            topic: self.shape.topic(number),
            payload_bytes: self.arguments.payload_bytes as usize,
            publisher: number,
        };
        Publisher::new(participant, form, Timing::Closed, self.arguments.count, self.arguments.window)
    }
}

/// The clients of one worker: those of which the number leaves `index` when divided by `of`.
struct Share {
    plan: Arc<Plan>,
    index: usize,
    of: usize,
}

impl Share {
    fn of(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        (0..count).skip(self.index).step_by(self.of)
    }

    fn pace(&self) -> Pace {
        Pace::new(self.plan.arguments.broker.connect_rate / self.of as f64)
    }

    async fn participant(&self, seat: &Rc<Seat>, login: &Login) -> Participant {
        let broker = &self.plan.arguments.broker;
        let opening = Opening::new(login.clone(), Vec::new(), self.plan.arguments.qos);
        let permit = seat.admission().await;
        Participant::new(Rc::clone(seat), broker.protocol, broker.keep_alive, opening, permit)
    }
}

/// One worker of `fill`. Returns how many messages the broker refused.
async fn leave_messages(seat: Rc<Seat>, share: Share) -> u64 {
    let plan = &share.plan;
    let keep_alive = plan.arguments.broker.keep_alive;
    let supervised = Rc::clone(&seat);
    let supervisor = tokio_uring::spawn(async move { supervised.supervise(keep_alive, drop).await });
    let mut pace = share.pace();

    let mut absentees = Vec::new();
    for number in share.of(plan.shape.subscribers()) {
        pace.next().await;
        let permit = seat.admission().await;
        let (seat, plan) = (Rc::clone(&seat), Arc::clone(plan));
        absentees.push(tokio_uring::spawn(async move {
            let login = plan.login('s', number, Session::Persistent(Presence::Absent));
            let client_id = login.client_id.clone();
            match visit(&seat, login, plan.shape.filters(number), plan.arguments.qos, number).await {
                Ok(()) => seat.counters.ready.add(1),
                Err(fault) => seat.control.report(&client_id, &fault),
            }
            drop(permit);
        }));
    }
    for absentee in absentees {
        joined(absentee.await);
    }
    let mut publishers = Vec::new();
    for number in share.of(plan.shape.publishers()) {
        pace.next().await;
        let login = plan.login('p', number, Session::Transient);
        let client = plan.publisher(share.participant(&seat, &login).await, number);
        let attending = attend(Rc::clone(&seat), login, number, seat.new_kick(), client);
        publishers.push(tokio_uring::spawn(attending));
    }
    let mut refused_in_all = 0;
    for publisher in publishers {
        let (_published, refused) = joined(publisher.await).into_published();
        refused_in_all += refused;
    }
    joined(supervisor.await);
    refused_in_all
}

/// One worker of `collect`. Returns of each subscriber its number, its ledger, and how many messages nobody sent it.
async fn take_messages(seat: Rc<Seat>, share: Share) -> Vec<(u32, Ledger, u64)> {
    let plan = &share.plan;
    let keep_alive = plan.arguments.broker.keep_alive;
    let supervised = Rc::clone(&seat);
    let supervisor = tokio_uring::spawn(async move { supervised.supervise(keep_alive, drop).await });
    let shape = Rc::new(plan.shape.clone());
    let mut pace = share.pace();
    let mut subscribers = Vec::new();
    for number in share.of(shape.subscribers()) {
        pace.next().await;
        let login = plan.login('s', number, Session::Persistent(Presence::Due));
        let participant = share.participant(&seat, &login).await;
        let client = Subscriber::new(participant, plan.arguments.qos, Rc::clone(&shape), number);
        let attending = attend(Rc::clone(&seat), login, number, seat.new_kick(), client);
        subscribers.push((number, tokio_uring::spawn(attending)));
    }
    let mut ledgers = Vec::new();
    for (number, subscriber) in subscribers {
        let (ledger, foreign) = joined(subscriber.await).into_ledger();
        ledgers.push((number, ledger, foreign));
    }
    joined(supervisor.await);
    ledgers
}

/// Which of the two commands.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Fill,
    Collect,
}

/// The report of both commands.
#[derive(Debug, Serialize)]
struct BacklogReport {
    command: Stage,
    verdict: &'static str,
    shape: &'static str,
    publishers: u32,
    subscribers: u32,
    #[serde(skip)]
    quality: QoS,
    qos: u8,
    protocol: &'static str,
    #[serde(flatten)]
    transport: TransportReport,
    payload_bytes: u32,
    /// Messages published by `fill`, delivered to `collect`.
    messages: u64,
    /// `fill`: from the first message to the end of the last exchange; `collect`: from the first connection to the last
    /// message.
    seconds: f64,
    messages_per_second: f64,
    /// Of the broker, when all that is done; needs --broker-pid.
    broker_resident_bytes: Option<u64>,
    ledger: Accounts,
}

impl BacklogReport {
    fn new(
        command: Stage,
        plan: &Plan,
        messages: u64,
        seconds: f64,
        broker_resident_bytes: Option<u64>,
        ledger: Accounts,
    ) -> Self {
        let arguments = &plan.arguments;
        Self {
            command,
            verdict: verdict(ledger.are_good(arguments.qos)),
            shape: arguments.shape.name(),
            publishers: arguments.publishers,
            subscribers: arguments.subscribers,
            quality: arguments.qos,
            qos: arguments.qos.bits(),
            protocol: version_name(arguments.broker.protocol),
            transport: plan.route.report(),
            payload_bytes: arguments.payload_bytes,
            messages,
            seconds,
            messages_per_second: messages as f64 / seconds,
            broker_resident_bytes,
            ledger,
        }
    }

    fn is_good(&self) -> bool {
        self.ledger.are_good(self.quality)
    }

    fn print(&self, json: bool) {
        if json {
            print_json(self);
            return;
        }
        println!(
            "{:<12} {} {}x{}  QoS {}  MQTT {} over {}  payload {} B",
            match self.command {
                Stage::Fill => "fill",
                Stage::Collect => "collect",
            },
            self.shape,
            self.publishers,
            self.subscribers,
            self.qos,
            self.protocol,
            self.transport,
            self.payload_bytes
        );
        println!("messages     {}  in {:.2} s  {:.0}/s", self.messages, self.seconds, self.messages_per_second);
        if let Some(bytes) = self.broker_resident_bytes {
            println!("broker       {:.1} MiB resident", bytes as f64 / 1_048_576.0);
        }
        match self.command {
            Stage::Fill => {
                self.ledger.print_exchanges(self.is_good());
                println!(
                    "verdict      {}",
                    if self.is_good() { "TAKEN: the broker has every message" } else { "VOID" }
                );
            }
            Stage::Collect => self.ledger.print(self.quality),
        }
    }
}
