//! `connect`: many clients that open, subscribe to one filter each, and stay idle.
//!
//! Connects per second count the time in which clients were being opened, not the pauses. Memory per client is the slope
//! of the broker's resident memory between the first and the last count at which it was measured, so that what the
//! broker needs without clients doesn't matter. Processor time per client is what the broker used from the first connect
//! until all were open, pauses included, in which it has nothing to do.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oncemq::proto::{Packet, QoS, Version};
use serde::Serialize;

use crate::cli::ConnectArguments;
use crate::clock::Clock;
use crate::command::CommandError;
use crate::connection::{Client, Fault, Flow};
use crate::coordinator::{Coordinator, FleetError};
use crate::fleet::{self, Pace, Phase, Seat};
use crate::opening::{Login, Opening, Session};
use crate::participant::{Participant, attend, joined};
use crate::process::Process;
use crate::report::{print_json, version_name};
use crate::setup::Setup;
use crate::transport::TransportReport;

/// How often a worker looks whether it may open more clients.
const GATE_POLL: Duration = Duration::from_millis(5);

/// Runs the command; whether every client stayed connected.
pub(crate) fn run(arguments: &ConnectArguments) -> Result<bool, CommandError> {
    check_counts(arguments)?;
    let setup = Setup::new(&arguments.broker, &arguments.machine, u64::from(arguments.clients))?;
    let mut coordinator =
        Coordinator::new(Clock::start(), &setup, arguments.output.quiet, arguments.broker.connect_timeout);
    let plan = Arc::new(Plan {
        arguments: arguments.clone(),
        client_id_prefix: setup.client_id_prefix.clone(),
        topic_prefix: setup.topic_prefix.clone(),
        threads: setup.thread_cpus.len(),
        admitted: AtomicU32::new(0),
    });
    let mut workers = Vec::new();
    for (index, &cpu) in setup.thread_cpus.iter().enumerate() {
        let desk = coordinator.desk(&setup, index);
        let plan = Arc::clone(&plan);
        let body = move |seat| work(seat, plan, index);
        let worker = fleet::spawn(format!("worker-{index}"), cpu, desk, body);
        workers.push(worker.map_err(FleetError::Thread)?);
    }
    let mut report = ConnectReport {
        command: "connect",
        protocol: version_name(arguments.broker.protocol),
        transport: setup.route.report(),
        clients: arguments.clients,
        subscribed: arguments.subscribe,
        connects_per_second: 0.0,
        memory: Vec::new(),
        bytes_per_client: None,
        broker_cpu_us_per_client: None,
        errors: 0,
        error_examples: Vec::new(),
    };
    let mut opening = Duration::ZERO;
    let cpu_before = setup.broker.as_ref().map(Process::cpu_time).transpose()?;
    for (count, measures) in stages(arguments) {
        let start = Instant::now();
        plan.admitted.store(count, Ordering::Release);
        let ready = coordinator.wait_until_ready(u64::from(count))?;
        opening += ready.at - start;
        if let (true, Some(broker)) = (measures, &setup.broker) {
            coordinator.wait_for("settling", arguments.settle);
            let resident_bytes = broker.resident_bytes()?;
            report.memory.push(MemoryAt { clients: count, resident_bytes });
        }
    }
    report.connects_per_second = f64::from(arguments.clients) / opening.as_secs_f64();
    report.bytes_per_client = slope(&report.memory);
    let cpu_after = setup.broker.as_ref().map(Process::cpu_time).transpose()?;
    report.broker_cpu_us_per_client = cpu_before
        .zip(cpu_after)
        .map(|(before, after)| (after - before).as_secs_f64() * 1e6 / f64::from(arguments.clients));
    coordinator.wait_for("holding", arguments.hold);
    let dropped = coordinator.control.fault_count();
    coordinator.close(workers)?;
    report.errors = dropped;
    // What TLS has agreed upon is known by now.
    report.transport = setup.route.report();
    report.error_examples = coordinator.control.faults();
    report.print(arguments.output.json);
    Ok(dropped == 0)
}

struct Plan {
    arguments: ConnectArguments,
    client_id_prefix: String,
    topic_prefix: String,
    threads: usize,
    /// Clients with a number below this may open.
    admitted: AtomicU32,
}

/// A client that subscribes and then has nothing to say.
struct Idler {
    participant: Participant,
}

impl Client for Idler {
    fn version(&self) -> Version {
        self.participant.version()
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, _now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        let _no_limit_concerns_it = self.participant.handle_packet(packet, out)?;
        Ok(Flow::Continue)
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Result<Flow, Fault> {
        Ok(self.participant.poll(now_ns, out))
    }
}

/// One worker: opens every client of which the number leaves `index` when divided by the number of threads.
async fn work(seat: Rc<Seat>, plan: Arc<Plan>, index: usize) {
    let broker = plan.arguments.broker.clone();
    let supervised = Rc::clone(&seat);
    let supervisor = tokio_uring::spawn(async move {
        supervised.supervise(broker.keep_alive, drop).await;
    });
    let mut pace = Pace::new(broker.connect_rate / plan.threads as f64);
    let mut clients = Vec::new();
    'opening: for number in (0..plan.arguments.clients).skip(index).step_by(plan.threads) {
        while number >= plan.admitted.load(Ordering::Acquire) {
            if seat.phase() == Phase::Close {
                break 'opening;
            }
            tokio::time::sleep(GATE_POLL).await;
            pace.restart();
        }
        pace.next().await;
        let filters = match plan.arguments.subscribe {
            true => vec![format!("{}/{number}", plan.topic_prefix)],
            false => Vec::new(),
        };
        let login = Login {
            version: broker.protocol,
            client_id: format!("{}i{number}", plan.client_id_prefix),
            session: Session::Transient,
            keep_alive_seconds: broker.keep_alive,
        };
        let opening = Opening::new(login.clone(), filters, QoS::ExactlyOnce);
        let permit = seat.admission().await;
        let participant = Participant::new(Rc::clone(&seat), broker.protocol, broker.keep_alive, opening, permit);
        let client = Idler { participant };
        let attending = attend(Rc::clone(&seat), login, number, seat.new_kick(), client);
        clients.push(tokio_uring::spawn(attending));
    }
    for client in clients {
        joined(client.await);
    }
    joined(supervisor.await);
}

/// The counts at which opening pauses, and whether memory is measured there.
fn stages(arguments: &ConnectArguments) -> Vec<(u32, bool)> {
    let mut stages: Vec<_> = arguments.measure_at.iter().map(|&count| (count, true)).collect();
    if arguments.measure_at.last() != Some(&arguments.clients) {
        stages.push((arguments.clients, false));
    }
    stages
}

fn check_counts(arguments: &ConnectArguments) -> Result<(), CommandError> {
    let counts = &arguments.measure_at;
    let ascending = counts.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || counts.last().is_some_and(|&last| last > arguments.clients) {
        return Err(CommandError::Usage(format!(
            "--measure-at {} must ascend and not exceed --clients {}",
            counts.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            arguments.clients
        )));
    }
    Ok(())
}

/// The broker's memory with so many clients.
#[derive(Clone, Copy, Debug, Serialize)]
struct MemoryAt {
    clients: u32,
    resident_bytes: u64,
}

/// Bytes per client between the first and the last measurement.
fn slope(memory: &[MemoryAt]) -> Option<f64> {
    let (first, last) = (memory.first()?, memory.last()?);
    let clients = last.clients - first.clients;
    let bytes = last.resident_bytes as f64 - first.resident_bytes as f64;
    (clients > 0).then(|| bytes / f64::from(clients))
}

/// The report of `connect`.
#[derive(Debug, Serialize)]
struct ConnectReport {
    command: &'static str,
    protocol: &'static str,
    #[serde(flatten)]
    transport: TransportReport,
    clients: u32,
    subscribed: bool,
    connects_per_second: f64,
    memory: Vec<MemoryAt>,
    bytes_per_client: Option<f64>,
    broker_cpu_us_per_client: Option<f64>,
    errors: u64,
    error_examples: Vec<String>,
}

impl ConnectReport {
    fn print(&self, json: bool) {
        if json {
            print_json(self);
            return;
        }
        println!(
            "connect      {} clients  MQTT {} over {}  {}",
            self.clients,
            self.protocol,
            self.transport,
            match self.subscribed {
                true => "one subscription each",
                false => "no subscriptions",
            }
        );
        println!(
            "opened       {:.0} connects/s (including SUBACK, bounded by --connect-rate)",
            self.connects_per_second
        );
        for at in &self.memory {
            println!("memory       {:>8} clients  {:>12} bytes resident", at.clients, at.resident_bytes);
        }
        if let Some(bytes) = self.bytes_per_client {
            println!("per client   {bytes:.0} bytes");
        }
        if let Some(microseconds) = self.broker_cpu_us_per_client {
            println!("broker       {microseconds:.1} us CPU per client");
        }
        println!("errors       {}", self.errors);
        for example in &self.error_examples {
            println!("             {example}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser as _;

    fn arguments(line: &str) -> ConnectArguments {
        match Arguments::parse_from(line.split_whitespace()).command {
            Command::Connect(arguments) => arguments,
            Command::Run(_) | Command::Chaos(_) | Command::Fill(_) | Command::Collect(_) | Command::Compare(_) => {
                panic!("not connect")
            }
        }
    }

    #[test]
    fn opening_pauses_where_memory_is_measured() {
        let some = arguments("l connect --clients 30 --broker-pid 1 --measure-at 10,20");
        assert_eq!(stages(&some), [(10, true), (20, true), (30, false)]);
        let all = arguments("l connect --clients 20 --broker-pid 1 --measure-at 10,20");
        assert_eq!(stages(&all), [(10, true), (20, true)]);
        assert_eq!(stages(&arguments("l connect --clients 5")), [(5, false)]);
    }

    #[test]
    fn counts_must_ascend_within_the_clients() {
        for (counts, fits) in [("5,10", true), ("10,5", false), ("5,5", false), ("5,11", false)] {
            let line = format!("l connect --clients 10 --broker-pid 1 --measure-at {counts}");
            assert_eq!(check_counts(&arguments(&line)).is_ok(), fits, "{counts}");
        }
    }

    #[test]
    fn memory_per_client_is_a_slope() {
        let at = |clients, resident_bytes| MemoryAt { clients, resident_bytes };
        assert_eq!(slope(&[at(100, 5_000), at(300, 9_000)]), Some(20.0));
        assert_eq!(slope(&[at(100, 5_000)]), None);
        assert_eq!(slope(&[]), None);
    }
}
