//! The operator's window: metrics, health, an API and a page over HTTP, on a listener and a thread of their own.
//!
//! An ordinary tokio runtime, for nothing here is hot. It holds no state of clients and shares none with the shards: what it shows
//! it asks them for, over their doors, and a shard that does not answer in time is shown as down.
//!
//! | path                    | method | what it is                                                           |
//! |-------------------------|--------|----------------------------------------------------------------------|
//! | `/metrics`              | GET    | everything that is counted, in the text format of Prometheus         |
//! | `/healthz`              | GET    | 200 if every shard answers, also while the logs are read; else 503   |
//! | `/readyz`               | GET    | 200 if clients are served and every log takes what is written; else 503 |
//! | `/api/v1/clients`       | GET    | sessions, by pages: `limit`, `after`, `q` (a part of the client id)   |
//! | `/api/v1/clients/{id}`  | GET    | one session                                                          |
//! | `/api/v1/clients/{id}`  | DELETE | disconnects the client, 5.0 with 0x98; its session stays             |
//! | `/api/v1/sessions`      | GET    | the same                                                             |
//! | `/api/v1/sessions/{id}` | GET    | one session, with its subscriptions                                  |
//! | `/api/v1/sessions/{id}` | DELETE | ends the session of a client that is away                            |
//! | `/api/v1/retained`      | GET    | retained messages, by pages: `limit`, `after`, `filter`              |
//! | `/api/v1/retained/{topic}` | GET | one retained message                                                 |
//! | `/api/v1/retained/{topic}` | DELETE | forgets it                                                        |
//! | `/api/v1/publish`       | POST   | publishes a message, and answers when it is safe                     |
//! | `/api/v1/live`          | GET    | figures every second, as events that the server sends                |
//! | `/api/v1/openapi.json`  | GET    | all of this, for programs                                            |
//! | `/`                     | GET    | a page that shows the figures, for people                            |
//! | `/dashboard/{file}`     | GET    | what the page is made of                                             |
//!
//! What a service manager is told stands in `supervision`.
//!
//! The thread starts before the logs are read, so that a long recovery is seen for what it is.
//!
//! # Invariants
//! - Without a token, the command line has made sure that only this machine reaches the listener; then a request has to name it by
//!   address or as `localhost`, so that no web page can have a browser ask in its place. With a token, all but health
//!   wants it, and the page, which has no figures in it.
//! - Each connection serves one request and ends ([`ADMIN_REQUEST_TIMEOUT`]), whoever is slow. There are at most
//!   [`ADMIN_CONNECTIONS_MAX`], and the oldest makes way: health is answered also to whom others crowd out. So a watcher of what
//!   is live may have to come again.
//! - Heads and bodies have a limit, and so have the questions that wait for a shard and what one of them costs it.
//!
//! It encrypts nothing: over a network that others read, a proxy in front of it has to.

mod api;
mod asking;
mod dashboard;
mod exposition;
mod health;
mod interval;
mod live;
mod metrics;
mod process;
mod server;
mod supervision;
mod token;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tracing::error;

use crate::error::StartError;
use crate::gate::GateFigures;
use crate::io::{ConnectionPermits, Doors};

#[cfg(doc)]
use crate::config::{ADMIN_CONNECTIONS_MAX, ADMIN_REQUEST_TIMEOUT};

pub use supervision::{feed_watchdog, tell_ready, tell_reloading, tell_stopping};
pub use token::Token;

/// The window, open until the process ends.
pub struct Admin {
    address: SocketAddr,
    context: Arc<Context>,
}

/// A broker that serves clients.
#[derive(Clone)]
pub struct Broker {
    /// The ways into its shards.
    pub doors: Doors,
    /// What its gate counts.
    pub gate: GateFigures,
    /// The clients that it may hold.
    pub permits: ConnectionPermits,
}

/// What all requests share.
struct Context {
    stage: Mutex<Stage>,
    token: Mutex<Option<Arc<Token>>>,
    started: SystemTime,
    /// One request at a time walks over clients.
    walking: Semaphore,
    /// Who wants to know every second.
    watchers: live::Watchers,
}

/// How far the broker has come.
#[derive(Clone)]
enum Stage {
    /// The logs are read; there are no shards yet.
    Recovering,
    /// Clients are served.
    Serving(Arc<Broker>),
    /// Clients are sent away.
    Draining(Arc<Broker>),
}

/// Opens the window of a broker that is still to recover, for whoever has the token; for anyone if there is none.
pub fn start(listener: TcpListener, token: Option<Token>) -> Result<Admin, StartError> {
    let failed = |source| StartError::Thread { name: THREAD.to_owned(), source };
    let address = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let context = Arc::new(Context {
        stage: Mutex::new(Stage::Recovering),
        token: Mutex::new(token.map(Arc::new)),
        started: SystemTime::now(),
        walking: Semaphore::new(1),
        watchers: live::Watchers::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let shared = Arc::clone(&context);
    let serve = move || {
        if let Err(error) = runtime.block_on(server::serve(listener, shared)) {
            error!("the admin listener is out of order: {error}");
        }
    };
    thread::Builder::new().name(THREAD.to_owned()).spawn(serve).map_err(failed)?;
    Ok(Admin { address, context })
}

/// The name of the thread.
const THREAD: &str = "admin";

impl Admin {
    /// Where it is, with the port that the kernel chose where none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Clients are served from now on.
    pub fn serve(&self, broker: Broker) {
        *self.context.lock_stage() = Stage::Serving(Arc::new(broker));
    }

    /// Clients are sent away from now on.
    pub fn drain(&self) {
        let mut stage = self.context.lock_stage();
        if let Stage::Serving(broker) = &*stage {
            let broker = Arc::clone(broker);
            *stage = Stage::Draining(broker);
        }
    }

    /// From now on this token is good, and no other.
    pub fn replace_token(&self, token: Token) {
        *self.context.lock_token() = Some(Arc::new(token));
    }
}

impl Context {
    fn stage(&self) -> Stage {
        self.lock_stage().clone()
    }

    /// The broker, if there is one yet.
    fn broker(&self) -> Option<Arc<Broker>> {
        match self.stage() {
            Stage::Recovering => None,
            Stage::Serving(broker) | Stage::Draining(broker) => Some(broker),
        }
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.lock_token().clone()
    }

    // Whoever held a lock only replaced the whole.

    fn lock_stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_token(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
