//! Which topics a client may publish and subscribe to, beyond what makes them valid: those with no more levels than the limit,
//! and to publish, those that are not the broker's own.
//!
//! It keeps nobody from a topic because of who he is (`permitting` does). What was accepted before a limit was lowered stays: topics from the log
//! and from other shards are not judged again.

use crate::proto::ReasonCode;
use crate::route::{TopicError, TopicFilter, TopicName};

use super::clients::Clients;
use super::receiving::Violation;

const NESTED_SHARE: Violation =
    Violation { reason: ReasonCode::TopicFilterInvalid, text: "a shared subscription of a shared subscription" };

impl Clients {
    /// The topic of a message or will that a client publishes.
    #[inline]
    pub(super) fn topic_to_publish<'a>(&mut self, text: &'a str) -> Result<TopicName<'a>, Violation> {
        TopicName::parse_within(text, usize::from(self.limits.max_topic_levels)).map_err(|error| {
            self.count_levels(error);
            let text = fault(error, "a topic name with more levels than the broker allows", "not a valid topic name");
            Violation { reason: ReasonCode::TopicNameInvalid, text }
        })
    }

    /// A filter that a client subscribes to.
    pub(super) fn filter_to_subscribe<'a>(&mut self, text: &'a str) -> Result<TopicFilter<'a>, Violation> {
        let filter = TopicFilter::parse_within(text, usize::from(self.limits.max_topic_levels)).map_err(|error| {
            self.count_levels(error);
            let text =
                fault(error, "a topic filter with more levels than the broker allows", "not a valid topic filter");
            Violation { reason: ReasonCode::TopicFilterInvalid, text }
        })?;
        // No topic could match it, for nobody may publish there.
        let is_nested = filter.share().is_some() && filter.levels().next() == Some("$share");
        if is_nested { Err(NESTED_SHARE) } else { Ok(filter) }
    }

    fn count_levels(&mut self, error: TopicError) {
        self.counters.refused_max_topic_levels += u64::from(error == TopicError::TooManyLevels);
    }
}

/// Whether a topic is the broker's own to publish to: `$SYS`, where clients look for what the broker says, and `$share`, whose
/// filters mean something else. From `$SYS` the state of a bridge's connection is excepted, because the bridges in use publish
/// it at both ends, as their will among others. Other topics that begin with `$` are as good as any [MQTT-4.7.2-1].
#[inline]
pub(super) fn is_reserved(topic: TopicName<'_>) -> bool {
    topic.is_dollar() && is_reserved_dollar(topic)
}

fn is_reserved_dollar(topic: TopicName<'_>) -> bool {
    let mut levels = topic.levels();
    match levels.next() {
        Some("$SYS") => {
            let rest = [levels.next(), levels.next(), levels.next(), levels.next(), levels.next()];
            !matches!(rest, [Some("broker"), Some("connection"), Some(_), Some("state"), None])
        }
        Some("$share") => true,
        Some(_) | None => false,
    }
}

fn fault(error: TopicError, too_many_levels: &'static str, invalid: &'static str) -> &'static str {
    match error {
        TopicError::TooManyLevels => too_many_levels,
        TopicError::Empty
        | TopicError::TooLong
        | TopicError::NullCharacter
        | TopicError::WildcardInName
        | TopicError::MisplacedMultiLevelWildcard
        | TopicError::MisplacedSingleLevelWildcard
        | TopicError::ShareName
        | TopicError::ShareWithoutFilter => invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_the_broker_are_known() {
        for (topic, expected) in [
            ("$SYS", true),
            ("$SYS/", true),
            ("$SYS/broker/uptime", true),
            ("$SYS/broker/connection/edge", true),
            ("$SYS/broker/connection/edge/state", false),
            ("$SYS/broker/connection/edge/state/x", true),
            ("$share", true),
            ("$share/group/topic", true),
            ("$SYSTEM/x", false),
            ("$shared/x", false),
            ("$own/x", false),
            ("a/$SYS/x", false),
        ] {
            assert_eq!(is_reserved(TopicName::parse(topic).expect("a topic")), expected, "{topic}");
        }
    }
}
