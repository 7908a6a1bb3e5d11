//! The count of clients that the broker holds, over all shards, kept against `--max-connections`.
//!
//! The gate takes a permit before it hands a client over; the shard's driver drops it when the socket is closed. The
//! count orders nothing and publishes nothing, so every access is relaxed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

/// Hands out as many permits as there may be clients.
#[derive(Clone, Debug)]
pub struct ConnectionPermits {
    taken: Arc<AtomicU32>,
    max: u32,
}

/// The right to hold one connection, given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Right);

#[derive(Debug)]
enum Right {
    /// A client has a share of what there may be.
    Client(Arc<AtomicU32>),
    /// A bridge of ours needs none; whoever waits at the other end of the channel sees it dropped.
    Bridge { _held: oneshot::Sender<Infallible> },
}

/// Resolves when the permit that it came with is dropped.
pub type ConnectionEnded = oneshot::Receiver<Infallible>;

impl ConnectionPermits {
    /// Permits for `max` clients.
    pub fn new(max: u32) -> Self {
        Self { taken: Arc::new(AtomicU32::new(0)), max }
    }

    /// One permit, or none if the broker is full.
    pub fn take(&self) -> Option<ConnectionPermit> {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < self.max).then_some(taken + 1))
            .ok()?;
        Some(ConnectionPermit(Right::Client(Arc::clone(&self.taken))))
    }

    /// How many permits there are in all.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl ConnectionPermit {
    /// The right to hold the connection of a bridge, which counts for no client, and how to hear of its end.
    pub fn of_bridge() -> (Self, ConnectionEnded) {
        let (held, ended) = oneshot::channel();
        (Self(Right::Bridge { _held: held }), ended)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        match &self.0 {
            Right::Client(taken) => {
                let before = taken.fetch_sub(1, Ordering::Relaxed);
                assert!(before > 0, "a permit was given back that nobody had taken");
            }
            Right::Bridge { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn a_permit_comes_back_when_dropped() {
        let permits = ConnectionPermits::new(2);
        let first = permits.take().expect("the first of two");
        let _second = permits.take().expect("the second of two");
        assert!(permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
    }

    #[test]
    fn the_end_of_a_bridge_is_heard_of() {
        let (permit, mut ended) = ConnectionPermit::of_bridge();
        assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
        drop(permit);
        assert_eq!(ended.try_recv(), Err(TryRecvError::Closed));
    }
}
