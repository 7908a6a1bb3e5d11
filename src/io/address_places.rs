//! The count of connections of each address, kept against `--max-connections-per-address`.
//!
//! An address has as many places for clients that are admitted, and as many again for those that are not yet: who finds no
//! place among the former is told so, who finds none among the latter is not even heard, or one address could occupy all
//! that the gate has. Who makes no room for itself, as a client that reconnects before its old connection is known to be
//! dead, needs a second place for a moment.
//!
//! The table has an entry for each address with a connection, and now and then as many more whose last connection has ended:
//! these are forgotten together when they have become half of it, so that a place can be given back from any thread without a
//! lock. An address of IPv6 stands for its /64, which is what one machine is given.
//!
//! The counts order nothing and publish nothing, so every access is relaxed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::auth::block_of;

/// Entries below which none is looked for that could be forgotten.
const SWEPT_ENTRIES_MIN: usize = 1024;

/// The places of all addresses.
#[derive(Debug)]
pub struct AddressPlaces {
    max: NonZeroU32,
    counts: HashMap<IpAddr, Arc<Counts>>,
    /// Entries from which on it is swept.
    swept_at: usize,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU32,
    admitted: AtomicU32,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub struct AddressPlace {
    counts: Arc<Counts>,
    max: NonZeroU32,
    is_admitted: bool,
}

impl AddressPlaces {
    /// So many places for each address.
    #[must_use]
    pub fn new(max: NonZeroU32) -> Self {
        Self { max, counts: HashMap::new(), swept_at: SWEPT_ENTRIES_MIN }
    }

    /// A place among those of this address that are not admitted yet; none if all are taken.
    pub fn arrive(&mut self, address: IpAddr) -> Option<AddressPlace> {
        self.sweep_if_due();
        let counts = Arc::clone(self.counts.entry(block_of(address)).or_default());
        take(&counts.waiting, self.max).then(|| AddressPlace { counts, max: self.max, is_admitted: false })
    }

    /// Forgets addresses without a connection. Each entry has paid for this when it was made, as half of them are new.
    fn sweep_if_due(&mut self) {
        if self.counts.len() < self.swept_at {
            return;
        }
        // A place holds its counts; only this thread gives out new ones.
        self.counts.retain(|_, counts| Arc::strong_count(counts) > 1);
        self.swept_at = (2 * self.counts.len()).max(SWEPT_ENTRIES_MIN);
    }
}

impl AddressPlace {
    /// Moves it among those that are admitted, if there is room; whether there is.
    pub fn admit(&mut self) -> bool {
        if !self.is_admitted && take(&self.counts.admitted, self.max) {
            give_back(&self.counts.waiting);
            self.is_admitted = true;
        }
        self.is_admitted
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Self { counts, max: _, is_admitted } = self;
        give_back(if *is_admitted { &counts.admitted } else { &counts.waiting });
    }
}

/// Counts one more, unless there are as many as there may be.
fn take(count: &AtomicU32, max: NonZeroU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < max.get()).then_some(taken + 1)).is_ok()
}

fn give_back(count: &AtomicU32) {
    let before = count.fetch_sub(1, Ordering::Relaxed);
    assert!(before > 0, "a place was given back that nobody had taken");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: u32) -> AddressPlaces {
        AddressPlaces::new(NonZeroU32::new(max).expect("some"))
    }

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0A00_0000 + number).into()
    }

    #[test]
    fn each_address_has_its_places_and_gets_them_back() {
        let mut places = places(2);
        let mut admitted: Vec<_> = (0..2).map(|_| places.arrive(address(1)).expect("a place")).collect();
        assert!(admitted.iter_mut().all(AddressPlace::admit));
        let mut waiting: Vec<_> = (0..2).map(|_| places.arrive(address(1)).expect("a place to wait")).collect();
        assert!(places.arrive(address(1)).is_none(), "not even that");
        assert!(!waiting[0].admit());
        assert!(places.arrive(address(2)).is_some_and(|mut place| place.admit()), "another address");
        admitted.pop();
        assert!(waiting[0].admit() && waiting[0].admit() && !waiting[1].admit());
        drop(waiting);
        assert!(places.arrive(address(1)).is_some_and(|mut place| place.admit()));
    }

    #[test]
    fn addresses_of_one_machine_are_one() {
        let mut places = places(1);
        let [one, other, far] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().expect("an address"));
        let _place = places.arrive(one).expect("a place");
        assert!(places.arrive(other).is_none() && places.arrive(far).is_some());
    }

    #[test]
    fn the_table_follows_what_is_connected() {
        let mut places = places(1);
        let count = u32::try_from(SWEPT_ENTRIES_MIN).expect("a small table");
        let mut connected: Vec<_> = (0..count).map(|number| places.arrive(address(number)).expect("a place")).collect();
        for number in count..20 * count {
            places.arrive(address(number)).expect("a place, given back at once");
            assert!(places.counts.len() <= 2 * SWEPT_ENTRIES_MIN);
        }
        assert!(connected.iter_mut().all(AddressPlace::admit));
        assert!((0..count).all(|number| places.arrive(address(number)).is_some_and(|mut place| !place.admit())));
        connected.clear();
        places.swept_at = 0;
        assert!(places.arrive(address(0)).is_some());
        assert_eq!(places.counts.len(), 1);
    }
}
