//! What becomes of clients when the log of a shard has failed: nobody is promised what cannot be kept.
//!
//! Sessions that outlive the broker are out of service until it is restarted with a disk that works: their clients are sent
//! away, with the reason if they speak 5.0. What was acknowledged is in the log, and the next start finds it. Clients whose
//! sessions end with their connections go on; a message of theirs that somebody's durable session is subscribed to is refused.
//! The same message is refused while a log is full ([`log_limit`](super::log_limit)); then nobody has to go.

use crate::proto::{QoS, ReasonCode};
use crate::route::{Letter, Message, RouteStamp, ShardSet, TopicName};
use crate::store::LogFailure;

use super::Shard;
use super::clients::Clients;
use super::connection::ConnectionKey;
use super::ending::Will;
use super::links::Links;
use super::receiving::Violation;

/// Why a message cannot be accepted that has to be logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LogRefusal {
    Failed(LogFailure),
    /// The log is as long as it may be.
    AtLimit,
}

impl From<LogFailure> for Violation {
    fn from(failure: LogFailure) -> Self {
        match failure {
            LogFailure::NoSpace => {
                Violation { reason: ReasonCode::QuotaExceeded, text: "the disk of the broker's log is full" }
            }
            LogFailure::Io => {
                Violation { reason: ReasonCode::ImplementationSpecificError, text: "the broker's log has failed" }
            }
        }
    }
}

impl From<LogRefusal> for Violation {
    fn from(refusal: LogRefusal) -> Self {
        match refusal {
            LogRefusal::Failed(failure) => failure.into(),
            LogRefusal::AtLimit => {
                Violation { reason: ReasonCode::QuotaExceeded, text: "the broker's log is as long as it may be" }
            }
        }
    }
}

impl Clients {
    /// Whether some log has failed or is full, here or at another shard.
    pub(super) fn is_degraded(&self) -> bool {
        self.refusal().is_some() || self.links.refusal(ShardSet::ALL).is_some()
    }

    /// Why nothing new is taken into the log of this shard.
    fn refusal(&self) -> Option<LogRefusal> {
        let at_limit = self.is_log_at_limit.then_some(LogRefusal::AtLimit);
        self.log.failure().map(LogRefusal::Failed).or(at_limit)
    }
}

impl Links {
    /// Why nothing new is taken into the log of one of these shards.
    fn refusal(&self, shards: ShardSet) -> Option<LogRefusal> {
        let at_limit = self.full.meets(shards).then_some(LogRefusal::AtLimit);
        self.failure(shards).map(LogRefusal::Failed).or(at_limit)
    }
}

impl Shard {
    /// The log has failed: what waits for it will never leave.
    pub(super) fn fail_log(&mut self, failure: LogFailure) {
        let stable = self.clients.log.stable();
        let retained = &self.retained;
        let is_stable = |(stamp, message): &(RouteStamp, Message)| {
            TopicName::parse(message.topic_name()).is_ok_and(|topic| retained.is_stable(topic, *stamp, stable))
        };
        self.clients.outbox.discard_unstable(stable, |letter| {
            // A SUBSCRIBE of another shard waits for that.
            let Letter::RetainedFound { messages, .. } = letter else { return false };
            messages.retain(is_stable);
            true
        });
        self.tell_others(|| Letter::LogFailed(failure));
        let violation = Violation::from(failure);
        let dependent: Vec<ConnectionKey> = self.clients.connections_with_promises();
        for key in dependent {
            self.clients.discard_held_output(key);
            let connection = self.clients.connection(key);
            if !connection.is_open() {
                continue;
            }
            if connection.connack_after > stable {
                // CONNACK was among what is gone, and nothing may come before it [MQTT-3.2.0-1].
                self.detach(key, Will::Discard);
                self.refuse(key, violation);
            } else {
                self.end_for(key, violation);
            }
        }
        self.clients.resume_sources();
    }

    /// Why a message cannot be accepted, if somebody who gets it has a session whose log has failed or is full.
    pub(super) fn log_refusal_for(&mut self, qos: QoS, retain: bool, topic: TopicName<'_>) -> Option<LogRefusal> {
        if qos == QoS::AtMostOnce {
            return None;
        }
        self.subscriptions.matches(topic, &mut self.matches);
        let Some(refusal) = self.clients.refusal() else {
            return self.clients.links.refusal(self.matches.remote_durable);
        };
        let mut filters = self.matches.filters.iter();
        let needs_log = retain
            || !self.matches.remote_durable.is_empty()
            || filters.any(|filter| self.has_durable_subscriber(*filter));
        needs_log.then_some(refusal)
    }
}
