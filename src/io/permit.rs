//! The count of clients that the broker holds, over all shards, kept against `--max-connections`.
//!
//! The gate takes a permit before it hands a client over; the shard's driver drops it when the socket is closed. The
//! count orders nothing and publishes nothing, so every access is relaxed.
//!
//! With the permit travels what has to last as long, and what few clients have: where a client behind a proxy comes from, and its
//! place among the connections of its address. It costs no room in the others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

use super::address_places::AddressPlace;

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
    Client(Share),
    /// The same, with what its socket does not tell. Boxed, as a permit is two words.
    Noted(Box<Noted>),
    /// A bridge of ours needs none; whoever waits at the other end of the channel sees it dropped.
    Bridge { _held: oneshot::Sender<Infallible> },
}

/// One of the clients that there may be.
#[derive(Debug)]
struct Share(Arc<AtomicU32>);

#[derive(Debug)]
struct Noted {
    _share: Share,
    address: Option<SocketAddr>,
    _place: Option<AddressPlace>,
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
        Some(ConnectionPermit(Right::Client(Share(Arc::clone(&self.taken)))))
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

    /// The same with the address that a proxy names, if it is one's, and with a place among the connections of an address, if
    /// these are counted.
    #[must_use]
    pub fn with(self, address: Option<SocketAddr>, place: Option<AddressPlace>) -> Self {
        match self.0 {
            Right::Client(share) if address.is_some() || place.is_some() => {
                Self(Right::Noted(Box::new(Noted { _share: share, address, _place: place })))
            }
            right @ (Right::Client(_) | Right::Noted(_) | Right::Bridge { .. }) => Self(right),
        }
    }

    /// The address that a proxy has named as its client's.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Right::Noted(noted) => noted.address,
            Right::Client(_) | Right::Bridge { .. } => None,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a permit was given back that nobody had taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::AddressPlaces;
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
    fn what_is_noted_lasts_as_long_as_the_permit() {
        let (permits, max) = (ConnectionPermits::new(1), std::num::NonZeroU32::MIN);
        let address: SocketAddr = "203.0.113.9:51234".parse().expect("an address");
        let mut places = AddressPlaces::new(max);
        let mut place = places.arrive(address.ip()).expect("a place");
        assert!(place.admit());
        let permit = permits.take().expect("the only one").with(Some(address), Some(place));
        assert_eq!(permit.address(), Some(address));
        assert!(permits.take().is_none());
        assert!(places.arrive(address.ip()).is_some_and(|mut other| !other.admit()));
        drop(permit);
        assert!(places.arrive(address.ip()).is_some_and(|mut other| other.admit()));
        assert_eq!(permits.take().expect("it is free again").with(None, None).address(), None);
    }

    #[test]
    fn the_end_of_a_bridge_is_heard_of() {
        let (permit, mut ended) = ConnectionPermit::of_bridge();
        assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
        drop(permit);
        assert_eq!(ended.try_recv(), Err(TryRecvError::Closed));
    }
}
