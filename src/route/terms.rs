//! How one session gets a message.

use std::num::NonZeroU32;

use crate::proto::QoS;

use super::share::{SharedTerms, Standing};

/// What the subscriptions of one session make of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The lower of the message's and the subscription's.
    pub qos: QoS,
    /// Whether it goes out with RETAIN.
    pub retain: bool,
    /// The identifiers of the subscriptions that it matches.
    pub identifiers: Identifiers,
}

/// The subscription identifiers that go with a delivery [MQTT-3.3.4-3..5].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Identifiers {
    /// None of the subscriptions has one.
    #[default]
    None,
    /// The usual case, without an allocation.
    One(NonZeroU32),
    /// At least two.
    Several(Box<[NonZeroU32]>),
    /// That of the one shared subscription which the delivery is due to, if it has one.
    Shared(SharedTerms),
}

impl Terms {
    /// The group that the delivery came through, if it did.
    pub fn shared(&self) -> Option<&SharedTerms> {
        match &self.identifiers {
            Identifiers::Shared(terms) => Some(terms),
            Identifiers::None | Identifiers::One(_) | Identifiers::Several(_) => None,
        }
    }

    /// Whether the client may see the message only when the log knows that it is to have it.
    pub fn waits_for_log(&self) -> bool {
        self.shared().is_some_and(|terms| terms.standing == Standing::Logged)
    }

    /// Lets one copy stand for two: with the higher QoS, and the identifiers of both.
    pub fn absorb(&mut self, other: &Terms) {
        self.qos = self.qos.max(other.qos);
        let mut identifiers: Vec<_> = self.identifiers.iter().collect();
        identifiers.extend(other.identifiers.iter().filter(|other| self.identifiers.iter().all(|own| own != *other)));
        self.identifiers = Identifiers::from(identifiers);
    }
}

impl Identifiers {
    /// Adds that of another subscription of the session; the second one and those behind it cost an allocation each.
    pub fn add(&mut self, identifier: NonZeroU32) {
        *self = match self {
            Identifiers::None => Identifiers::One(identifier),
            Identifiers::One(_) | Identifiers::Several(_) => {
                Identifiers::Several(self.iter().chain(Some(identifier)).collect())
            }
            Identifiers::Shared(_) => unreachable!("a delivery of a group is due to one subscription"),
        };
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = NonZeroU32> {
        match self {
            Identifiers::None => &[],
            Identifiers::One(identifier) => std::slice::from_ref(identifier),
            Identifiers::Several(identifiers) => identifiers,
            Identifiers::Shared(terms) => terms.share.subscription.identifier.as_slice(),
        }
        .iter()
        .copied()
    }
}

impl From<Vec<NonZeroU32>> for Identifiers {
    fn from(identifiers: Vec<NonZeroU32>) -> Self {
        match identifiers[..] {
            [] => Identifiers::None,
            [identifier] => Identifiers::One(identifier),
            _ => Identifiers::Several(identifiers.into()),
        }
    }
}
