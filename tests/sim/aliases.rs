//! Topic aliases once more, in the plainest words, to check the broker's: what they stand for on one connection, in one
//! direction.

use std::collections::BTreeMap;

use oncemq::proto::Publish;

use crate::ledger::{Failure, MessageNumber, fail};

#[derive(Debug, Default)]
pub(crate) struct Aliases {
    maximum: u16,
    topics: BTreeMap<u16, String>,
}

impl Aliases {
    /// None yet, and none ever above this.
    pub(crate) fn new(maximum: u16) -> Self {
        Self { maximum, topics: BTreeMap::new() }
    }

    /// The full topic of a PUBLISH that is received.
    pub(crate) fn topic(&mut self, publish: &Publish<'_>) -> Result<String, Failure> {
        let Some(alias) = publish.properties.topic_alias() else {
            if publish.topic.is_empty() {
                fail!("{publish:?} has neither a topic nor an alias");
            }
            return Ok(publish.topic.to_owned());
        };
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
        if alias > self.maximum {
            fail!("{publish:?} has an alias above {}", self.maximum);
        }
        if !publish.topic.is_empty() {
            self.topics.insert(alias, publish.topic.to_owned());
        }
        match self.topics.get(&alias) {
            Some(topic) => Ok(topic.clone()),
            None => fail!("{publish:?} has an alias that stands for nothing"),
        }
    }

    /// How a PUBLISH that is sent names its topic. The number of the message decides whether by an alias that is known, by one
    /// that stands for another topic so far, or by none.
    pub(crate) fn name<'t>(&mut self, topic: &'t str, number: MessageNumber) -> (&'t str, Option<u16>) {
        let alias = (number % (u32::from(self.maximum) + 4)) as u16;
        if !(1..=self.maximum).contains(&alias) {
            return (topic, None);
        }
        match self.topics.iter().find(|(_, known)| **known == topic) {
            Some((known, _)) if !number.is_multiple_of(5) => ("", Some(*known)),
            Some(_) | None => {
                self.topics.insert(alias, topic.to_owned());
                (topic, Some(alias))
            }
        }
    }
}
