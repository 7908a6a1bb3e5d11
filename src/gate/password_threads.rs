//! The threads that check passwords, which takes long on purpose: a few, at a low priority, so that a storm of logins delays
//! neither a message nor who is at the gate without a password.
//!
//! The queue to them has no bound of its own: there is one password for each client in the gate at most, and a client that
//! has run out of time is passed over.

use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

use crate::auth::{Denial, Identity, PasswordCheck};
use crate::error::StartError;
use crate::io;

/// Who is admitted, or why not.
type Outcome = Result<Box<Identity>, Denial>;

/// The threads, which end with this.
pub(super) struct PasswordThreads {
    queue: Sender<Job>,
}

struct Job {
    check: PasswordCheck,
    outcome: oneshot::Sender<Outcome>,
}

impl PasswordThreads {
    /// Starts so many threads.
    pub(super) fn start(count: usize) -> Result<Self, StartError> {
        let (queue, jobs) = unbounded();
        for number in 0..count {
            let (name, jobs) = (format!("password-{number}"), jobs.clone());
            let spawned = thread::Builder::new().name(name.clone()).spawn(move || work(&jobs));
            spawned.map_err(|source| StartError::Thread { name, source })?;
        }
        Ok(Self { queue })
    }

    /// Waits for a thread that is free, and for the outcome.
    pub(super) async fn run(&self, check: PasswordCheck) -> Outcome {
        let (outcome, awaited) = oneshot::channel();
        assert!(self.queue.send(Job { check, outcome }).is_ok(), "there are threads where there are passwords");
        awaited.await.expect("a thread that takes a password answers")
    }
}

fn work(jobs: &Receiver<Job>) {
    io::yield_to_others();
    for Job { check, outcome } in jobs {
        if !outcome.is_closed() {
            // The client may have run out of time meanwhile.
            let _ = outcome.send(check.run());
        }
    }
}
