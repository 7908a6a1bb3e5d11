//! The count of clients that the broker holds, over all shards, kept against `--max-connections`.
//!
//! The gate takes a permit before it hands a client over; the shard's driver drops it when the socket is closed. The
//! count orders nothing and publishes nothing, so every access is relaxed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Hands out as many permits as there may be clients.
#[derive(Clone, Debug)]
pub struct ConnectionPermits {
    taken: Arc<AtomicU32>,
    max: u32,
}

/// The right to hold one client, given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    taken: Arc<AtomicU32>,
}

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
        Some(ConnectionPermit { taken: Arc::clone(&self.taken) })
    }

    /// How many permits there are in all.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let before = self.taken.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a permit was given back that nobody had taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_comes_back_when_dropped() {
        let permits = ConnectionPermits::new(2);
        let first = permits.take().expect("the first of two");
        let _second = permits.take().expect("the second of two");
        assert!(permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
    }
}
