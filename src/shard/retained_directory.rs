//! What an operator looks up and removes of the retained messages whose home this shard is.
//!
//! As with clients, a look at many walks a bounded number of places and says where to go on. A message is removed as if it had
//! expired: subscribers hear nothing of it, and the log does.

use std::borrow::Cow;
use std::time::Duration;

use crate::proto::QoS;
use crate::route::{TopicFilter, TopicName};
use crate::store::{LogPosition, Record};
use crate::time::Timestamp;

use super::Shard;
use super::directory::NotRemoved;
use super::retained::RetainedMessage;
use super::topics;

/// Places that one page walks over at most.
const PLACES_PER_PAGE: usize = 2048;

/// Payload bytes that are handed out.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// A retained message, without its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetainedReport {
    /// Its topic.
    pub topic: Box<str>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The length of its payload.
    pub payload_bytes: u64,
    /// How long it is still worth delivering; none if for ever.
    pub expires_in: Option<Duration>,
}

/// Some of a shard's retained messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RetainedPage {
    /// Those that were asked for.
    pub messages: Vec<RetainedReport>,
    /// The place to go on from; none if there are no more.
    pub next: Option<u32>,
}

impl Shard {
    /// Retained messages whose topics a filter matches, from a place on, and at most so many; the first place is 0. The filter of a
    /// shared subscription counts without its share name, and one that is no filter matches nothing.
    pub fn retained_messages(&self, now: Timestamp, from: u32, max: usize, filter: &str) -> RetainedPage {
        let mut page = RetainedPage::default();
        let Ok(filter) = TopicFilter::parse(filter) else { return page };
        let from = from as usize;
        for place in from..self.retained.places() {
            if page.messages.len() >= max || place - from >= PLACES_PER_PAGE {
                page.next = u32::try_from(place).ok();
                break;
            }
            if let Some(retained) = self.retained.at_place(place)
                && !retained.message.is_expired(now)
                && TopicName::parse(retained.message.topic_name()).is_ok_and(|topic| filter.matches(topic))
            {
                page.messages.push(report(now, retained));
            }
        }
        page
    }

    /// The message that is retained for a topic, and its payload if that is not too long to be shown.
    pub fn retained_message(&self, now: Timestamp, topic: &str) -> Option<(RetainedReport, Option<Box<[u8]>>)> {
        let retained = self.retained.of_topic(TopicName::parse(topic).ok()?)?;
        let payload = retained.message.payload();
        let shown = (payload.len() <= PAYLOAD_BYTES_MAX).then(|| payload.into());
        (!retained.message.is_expired(now)).then(|| (report(now, retained), shown))
    }

    /// Forgets the message of a topic, because the operator wants it. It is gone for good when the log is stable as far as is said
    /// here.
    ///
    /// # Errors
    /// Why it stays.
    pub fn handle_retained_removal(&mut self, now: Timestamp, topic: &str) -> Result<LogPosition, NotRemoved> {
        self.clients.now = now;
        let topic = TopicName::parse(topic).map_err(|_| NotRemoved::NothingThere)?;
        if topics::is_reserved(topic) {
            return Err(NotRemoved::OfTheBroker);
        }
        if !self.retained.remove(topic) {
            return Err(NotRemoved::NothingThere);
        }
        self.clients.log.append(&Record::RetainedRemoved { topic: Cow::Borrowed(topic.as_str()) });
        Ok(self.clients.log.wait_for_appended())
    }
}

fn report(now: Timestamp, retained: &RetainedMessage) -> RetainedReport {
    let message = &retained.message;
    RetainedReport {
        topic: message.topic_name().into(),
        qos: message.qos,
        payload_bytes: message.payload().len() as u64,
        expires_in: message.expires_at.map(|deadline| deadline.since(now)),
    }
}
