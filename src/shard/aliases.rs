//! Topic aliases (5.0, section 3.3.2.3.4): numbers that stand for topic names on one connection, in each direction apart.
//!
//! # Invariants
//! - An alias ends with its connection [MQTT-3.3.2-7]: the tables are the connection's, and nothing of them is in the session,
//!   the log or a letter. A message has its full topic wherever else it goes.
//! - The client gets an alias only behind the PUBLISH that introduces it: a topic is entered here when that packet is in the
//!   output, of which nothing is overtaken, and not before.
//! - No alias is above the maximum of who has to remember it, so each table is bounded by that and the length of its topics.
//! - A client that uses none and accepts none costs nothing.
//!
//! Outbound aliases go to topics in the order of their first use, until the client's maximum or ours is reached, and are never
//! given to another topic: what comes later leaves with its full name.

use hashbrown::HashTable;

use crate::proto::ReasonCode;
use crate::route::Hashing;

use super::receiving::Violation;

/// What the alias property takes in a PUBLISH, in bytes: a topic must be longer to be worth one.
const PROPERTY_BYTES: usize = 3;

/// What the client's aliases stand for.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    /// At the index `alias - 1`; as long as the highest alias in use.
    topics: Vec<Option<Box<str>>>,
}

impl InboundAliases {
    /// The topic of a PUBLISH with this alias: its own, for which the alias stands from now on, or if that is empty the
    /// one for which the alias stands.
    ///
    /// `maximum` is what CONNACK announced, the same on every call. The topic has not been checked.
    pub(super) fn resolve<'a>(&'a mut self, alias: u16, topic: &'a str, maximum: u16) -> Result<&'a str, Violation> {
        // [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18], trap 30
        if alias == 0 || alias > maximum {
            return Err(Violation {
                reason: ReasonCode::TopicAliasInvalid,
                text: "a topic alias of 0 or above the Topic Alias Maximum of CONNACK",
            });
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.topics.get(index).and_then(Option::as_deref);
            return known.ok_or(Violation::protocol_error("a topic alias that stands for no topic yet"));
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        let entry = &mut self.topics[index];
        if entry.as_deref() != Some(topic) {
            *entry = Some(topic.into());
        }
        Ok(topic)
    }
}

/// The aliases that the client has been given.
#[derive(Debug)]
pub(super) struct OutboundAliases {
    /// The highest that may be given, never 0.
    maximum: u16,
    introduced: HashTable<Introduced>,
}

#[derive(Debug)]
struct Introduced {
    topic: Box<[u8]>,
    alias: u16,
}

/// How a PUBLISH to the client may name its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// By the topic alone.
    Topic,
    /// By the topic, for which the alias stands from then on; whoever sends that says so to [`OutboundAliases::introduce`].
    Introduction(u16),
    /// By the alias alone.
    Alias(u16),
}

impl OutboundAliases {
    /// For a client that accepts aliases up to `client_maximum`; none if it gets none.
    pub(super) fn new(client_maximum: u16, own_maximum: u16) -> Option<Self> {
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
        let maximum = client_maximum.min(own_maximum);
        (maximum > 0).then(|| Self { maximum, introduced: HashTable::new() })
    }

    /// How the next PUBLISH of this topic may name it.
    #[inline]
    pub(super) fn naming(&self, topic: &[u8], hashing: &Hashing) -> Naming {
        if topic.len() <= PROPERTY_BYTES {
            return Naming::Topic;
        }
        match self.introduced.find(hashing.of(&topic), |introduced| *introduced.topic == *topic) {
            Some(introduced) => Naming::Alias(introduced.alias),
            None if self.introduced.len() < usize::from(self.maximum) => Naming::Introduction(self.next_alias()),
            None => Naming::Topic,
        }
    }

    /// The PUBLISH that introduces the topic by the next alias is on its way.
    #[cold]
    pub(super) fn introduce(&mut self, topic: &[u8], hashing: &Hashing) {
        assert!(self.introduced.len() < usize::from(self.maximum), "an alias is given while there are some");
        let introduced = Introduced { topic: topic.into(), alias: self.next_alias() };
        self.introduced.insert_unique(hashing.of(&topic), introduced, |other| hashing.of(&other.topic));
    }

    /// The lowest that has not been given.
    fn next_alias(&self) -> u16 {
        self.introduced.len() as u16 + 1
    }
}
