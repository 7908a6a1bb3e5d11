//! The front door: accepts clients, reads their CONNECT under a deadline, refuses or hands them to the shard that owns
//! their client id, and forgets them.
//!
//! All that is slow, branchy or hostile before a client is admitted happens here, on a thread and a runtime of its own
//! (tokio-uring), so that a storm of reconnecting clients never delays a message.
//!
//! Of a client behind a proxy the proxy speaks first (`arriving`, `proxy_header`); nobody else does at such a listener.
//!
//! A client of MQTT over TLS does that handshake first (`wire`), with the operator's `certificates`. One of MQTT over WebSocket
//! asks for that, in a request of HTTP; no other request is served.
//!
//! Limits: a client has `connect_timeout` from being accepted to showing who it is, and memory grows only with bytes
//! that it really sent. There are at most `max_half_open` such clients; further ones wait in the listen backlog. Shards hold
//! at most as many clients as there are permits; a client beyond that is told so (5.0: 0x97, or 0x9C with the server that the
//! operator has named; 3.1.1: 3). Where the connections of an address are counted, who is beyond that hears 0x97 (3), too; and where
//! clients come faster than they may, all wait to be accepted.
//!
//! The same thread opens the connections of bridges to other brokers, and hands them over likewise.
//!
//! Who a client is, is found out here, too (`identifying`), by the rules of [`auth`](crate::auth). Passwords are checked on
//! threads of their own (`slow_threads`), handshakes computed on others, and who needs neither does not wait for those that do.
//!
//! It does not check topics or properties beyond what the codec refuses, keeps no session, and never talks to a client that
//! was handed over.

mod accepting;
mod arriving;
mod bridge;
mod certificates;
mod client;
mod conversation;
mod counters;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod greeting;
mod identifying;
mod pace;
mod packets;
mod proxy_header;
mod slow_threads;
mod socket;
mod throttle;
mod upgrade;
mod web_socket;
mod wire;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::Semaphore;
use tracing::info;

use crate::auth::{Access, Failures};
use crate::bridge::Bridge;
use crate::config::{ClientIdRule, GateLimits, HANDSHAKE_THREADS, Notice, PASSWORD_THREADS, ServeConfig};
use crate::error::StartError;
use crate::io::{AddressPlaces, Clock, ConnectionPermits, Doors, yield_to_others};

use accepting::Accepting;
use bridge::Route;
use counters::GateCounters;
use pace::Pace;
use slow_threads::SlowThreads;
use throttle::Throttle;

pub use accepting::{Entrance, Listener, ListeningSocket};
pub use certificates::{Credentials, read_credentials};
pub use counters::GateFigures;

/// Submission entries of the gate's ring: accepts, reads and writes of half-open clients per system call.
const RING_ENTRIES: u32 = 1024;

/// The gate, open until it is stopped.
pub struct Gate {
    listeners: Arc<[Listener]>,
    stopping: Arc<AtomicBool>,
    access: Current<Access>,
    credentials: Option<Current<Credentials>>,
    counters: Arc<GateCounters>,
}

/// What is good for who comes now; replaced as a whole when the operator changes it.
type Current<T> = Arc<Mutex<Arc<T>>>;

/// What every task of the gate shares.
struct Context {
    limits: GateLimits,
    server_reference: Option<Notice>,
    permits: ConnectionPermits,
    doors: Doors,
    half_open: Arc<Semaphore>,
    pace: Option<RefCell<Pace>>,
    address_places: Option<RefCell<AddressPlaces>>,
    full: Throttle,
    full_addresses: Throttle,
    untrusted_proxies: Throttle,
    bad_proxy_headers: Throttle,
    accept_failures: Throttle,
    accept_pauses: Throttle,
    access: Current<Access>,
    client_id_rule: ClientIdRule,
    credentials: Option<Current<Credentials>>,
    passwords: SlowThreads,
    handshakes: SlowThreads,
    failures: RefCell<Failures>,
    counters: Arc<GateCounters>,
    clock: Clock,
}

/// Starts accepting on `listeners` who may connect by `access`, and opening the bridges of `config`, on a thread of its own;
/// returns once clients are served.
///
/// # Panics
/// If there is a listener for TLS, and there are no credentials.
pub fn start(
    listeners: Vec<Listener>,
    config: &ServeConfig,
    access: Access,
    credentials: Option<Credentials>,
    permits: ConnectionPermits,
    doors: Doors,
) -> Result<Gate, StartError> {
    let is_tls = listeners.iter().any(|listener| listener.entrance.is_tls);
    assert!(credentials.is_some() || !is_tls, "TLS is served with credentials");
    let listeners: Arc<[Listener]> = listeners.into();
    let shard_limits = &config.limits;
    // Where there are no accounts, there may be some after SIGHUP.
    let passwords = SlowThreads::start("password", PASSWORD_THREADS)?;
    let handshakes = SlowThreads::start("handshake", if is_tls { HANDSHAKE_THREADS } else { 0 })?;
    let access = Arc::new(Mutex::new(Arc::new(access)));
    let credentials = credentials.map(|credentials| Arc::new(Mutex::new(Arc::new(credentials))));
    let counters = Arc::new(GateCounters::default());
    let stopping = Arc::new(AtomicBool::new(false));
    // Each listener has a place for the client that it waits for.
    let half_open = Arc::new(Semaphore::new((config.gate.max_half_open as usize).max(listeners.len())));
    let (report, started) = bounded(1);
    let route = |bridge: &Arc<Bridge>| Route {
        bridge: Arc::clone(bridge),
        receive_maximum: bridge.receive_maximum.unwrap_or(shard_limits.receive_maximum),
        max_packet_bytes: shard_limits.max_packet_bytes,
        doors: doors.clone(),
        stopping: Arc::clone(&stopping),
    };
    let routes: Vec<Route> = config.bridges.iter().map(route).collect();
    let thread = {
        let (listeners, stopping) = (Arc::clone(&listeners), Arc::clone(&stopping));
        let (access, credentials, counters) = (Arc::clone(&access), credentials.clone(), Arc::clone(&counters));
        let (limits, server_reference) = (config.gate, config.service.server_reference.clone());
        let client_id_rule = config.access.client_id_rule;
        move || {
            // Where it shares a CPU with a shard, who is connected goes before who wants to be.
            yield_to_others();
            let context = Context {
                limits,
                server_reference,
                permits,
                doors,
                half_open,
                pace: limits.max_connect_rate.map(|rate| RefCell::new(Pace::new(rate))),
                address_places: limits.max_connections_per_address.map(|max| RefCell::new(AddressPlaces::new(max))),
                full: Throttle::default(),
                full_addresses: Throttle::default(),
                untrusted_proxies: Throttle::default(),
                bad_proxy_headers: Throttle::default(),
                accept_failures: Throttle::default(),
                accept_pauses: Throttle::default(),
                access,
                client_id_rule,
                credentials,
                passwords,
                handshakes,
                failures: RefCell::default(),
                counters,
                clock: Clock::start(),
            };
            serve(&listeners, &stopping, context, routes, &report);
        }
    };
    let ring = |error| StartError::ring("creating the ring of the gate", error);
    thread::Builder::new()
        .name("gate".to_owned())
        .spawn(thread)
        .map_err(|source| StartError::Thread { name: "gate".to_owned(), source })?;
    started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map_err(ring)?;
    Ok(Gate { listeners, stopping, access, credentials, counters })
}

impl Gate {
    /// Accepts no further client. Those who are half open may still come through.
    pub fn stop(&self) {
        // Before the listeners are woken, so that who finds the failure finds the reason; the system call orders them.
        self.stopping.store(true, Ordering::Release); // pairs with the acquire in `accept_all`
        self.listeners.iter().for_each(Listener::stop);
    }

    /// From now on these may connect. Who is connected stays.
    pub fn replace_access(&self, access: Access) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// From now on handshakes are done with these. Who is connected stays.
    ///
    /// # Panics
    /// If there were none at the start.
    pub fn replace_credentials(&self, credentials: Credentials) {
        let current = self.credentials.as_ref().expect("TLS is served");
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    /// A look at what it counts.
    pub fn figures(&self) -> GateFigures {
        GateFigures(Arc::clone(&self.counters))
    }

    /// Writes the counters to the log.
    pub fn log_counters(&self) {
        info!("counters gate {}", self.counters);
    }

    /// The addresses that clients are accepted on, with the port that the kernel chose where none was given: those of
    /// WebSockets, of TLS and in the file system as clients name them.
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }
}

impl Context {
    /// Who may connect now.
    fn access(&self) -> Arc<Access> {
        // Whoever held the lock only replaced the whole.
        Arc::clone(&self.access.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What handshakes are done with now.
    fn credentials(&self) -> Arc<Credentials> {
        let current = self.credentials.as_ref().expect("TLS is served with credentials");
        Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The gate's thread.
fn serve(
    listeners: &[Listener],
    stopping: &Arc<AtomicBool>,
    context: Context,
    routes: Vec<Route>,
    report: &Sender<io::Result<()>>,
) {
    let runtime = match tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES)) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = report.send(Err(error)); // the starting thread waits for it
            return;
        }
    };
    let context = Rc::new(context);
    runtime.block_on(async {
        let listening: Vec<Accepting> = match listeners.iter().map(Accepting::new).collect() {
            Ok(listening) => listening,
            Err(error) => {
                let _ = report.send(Err(error)); // the starting thread waits for it
                return;
            }
        };
        for listener in listening {
            tokio_uring::spawn(listener.accept_all(Arc::clone(stopping), Rc::clone(&context)));
        }
        for route in routes {
            tokio_uring::spawn(route.keep_open());
        }
        let _ = report.send(Ok(())); // the starting thread waits for it
        // The tasks end with the process; there is nothing to come back for.
        std::future::pending::<()>().await;
    });
}
