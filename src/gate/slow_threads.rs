//! The threads for what takes long: passwords, on purpose, and the private-key operations of handshakes. A few for each, at a
//! low priority, so that a storm of logins delays neither a message nor who is at the gate without a need for them.
//!
//! The queue to them has no bound of its own: there is one job for each client in the gate at most, and one whose client has
//! run out of time is passed over.

use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

use crate::error::StartError;
use crate::io;

/// Threads for one kind of work, which end with this.
pub(super) struct SlowThreads {
    queue: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl SlowThreads {
    /// Starts so many threads for work of this name.
    pub(super) fn start(kind: &str, count: usize) -> Result<Self, StartError> {
        let (queue, jobs) = unbounded();
        for number in 0..count {
            let (name, jobs) = (format!("{kind}-{number}"), jobs.clone());
            let spawned = thread::Builder::new().name(name.clone()).spawn(move || work(&jobs));
            spawned.map_err(|source| StartError::Thread { name, source })?;
        }
        Ok(Self { queue })
    }

    /// Waits for a thread that is free, and for the outcome.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (outcome, awaited) = oneshot::channel();
        let job = Box::new(move || {
            if !outcome.is_closed() {
                // The client may have run out of time meanwhile.
                let _ = outcome.send(work());
            }
        });
        assert!(self.queue.send(job).is_ok(), "there are threads where there is work for them");
        awaited.await.expect("a thread that takes a job answers")
    }
}

fn work(jobs: &Receiver<Job>) {
    io::yield_to_others();
    jobs.iter().for_each(|job| job());
}
