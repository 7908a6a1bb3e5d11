//! Which topics a bridge carries, in which direction, and what they are called at either end.
//!
//! As in the `topic` lines of mosquitto, a pattern stands behind a prefix at each end: a message whose topic matches local
//! prefix and pattern goes out under the remote prefix and the rest of its topic, and the other way round. If several
//! patterns match, the first one counts.

use crate::proto::QoS;
use crate::route::{TopicError, TopicFilter, TopicName};

/// Which way a topic is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From here to the remote.
    Out,
    /// From the remote to here.
    In,
    /// Both ways.
    Both,
}

/// A pattern that a bridge carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgedTopic {
    direction: Direction,
    qos: QoS,
    local: End,
    remote: End,
}

/// What the topics of a pattern are called at one end.
#[derive(Clone, PartialEq, Eq, Debug)]
struct End {
    /// The filter: the prefix and the pattern.
    filter: Box<str>,
    prefix_bytes: usize,
}

/// Why a pattern can't be carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopicFault {
    /// A prefix with a wildcard, which no topic could begin with.
    #[error("a prefix has a wildcard")]
    WildcardInPrefix,
    /// Prefix and pattern together are no filter.
    #[error("prefix and pattern are no topic filter ({0})")]
    NoFilter(TopicError),
    /// It names a group of subscribers.
    #[error("a shared subscription cannot be bridged")]
    Shared,
}

impl BridgedTopic {
    /// A pattern with its prefixes, carried with at most this QoS.
    ///
    /// # Errors
    /// If it is no filter at one of the ends.
    pub fn new(
        pattern: &str,
        direction: Direction,
        qos: QoS,
        local_prefix: &str,
        remote_prefix: &str,
    ) -> Result<Self, TopicFault> {
        let (local, remote) = (End::new(local_prefix, pattern)?, End::new(remote_prefix, pattern)?);
        Ok(Self { direction, qos, local, remote })
    }

    /// The highest QoS that it is carried with.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    fn is_out(&self) -> bool {
        match self.direction {
            Direction::Out | Direction::Both => true,
            Direction::In => false,
        }
    }

    fn is_in(&self) -> bool {
        match self.direction {
            Direction::In | Direction::Both => true,
            Direction::Out => false,
        }
    }
}

impl End {
    fn new(prefix: &str, pattern: &str) -> Result<Self, TopicFault> {
        if prefix.contains(['+', '#']) {
            return Err(TopicFault::WildcardInPrefix);
        }
        let filter = format!("{prefix}{pattern}").into_boxed_str();
        match TopicFilter::parse(&filter) {
            Ok(parsed) if parsed.share().is_some() => return Err(TopicFault::Shared),
            Ok(_) => {}
            Err(error) => return Err(TopicFault::NoFilter(error)),
        }
        Ok(Self { filter, prefix_bytes: prefix.len() })
    }

    /// What of the topic stands behind the prefix, if the topic is one of the pattern's here.
    fn rest<'a>(&self, topic: TopicName<'a>) -> Option<&'a str> {
        let filter = TopicFilter::parse(&self.filter).expect("parsed when it was made");
        if !filter.matches(topic) {
            return None;
        }
        // Not there where `prefix/#` matches the parent level.
        topic.as_str().strip_prefix(self.prefix())
    }

    fn prefix(&self) -> &str {
        &self.filter[..self.prefix_bytes]
    }
}

/// All patterns of a bridge, in the order in which they were given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topics {
    topics: Vec<BridgedTopic>,
}

impl From<Vec<BridgedTopic>> for Topics {
    fn from(topics: Vec<BridgedTopic>) -> Self {
        Self { topics }
    }
}

impl Topics {
    /// Whether nothing is carried.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The filters to subscribe to here, each once, with the highest QoS that is asked for.
    pub fn local_filters(&self) -> Vec<(&str, QoS)> {
        merged(self.topics.iter().filter(|topic| topic.is_out()).map(|topic| (&*topic.local.filter, topic.qos)))
    }

    /// The filters to subscribe to at the remote, likewise.
    pub fn remote_filters(&self) -> Vec<(&str, QoS)> {
        merged(self.topics.iter().filter(|topic| topic.is_in()).map(|topic| (&*topic.remote.filter, topic.qos)))
    }

    /// The highest QoS with which messages go out; none if none do.
    pub fn highest_qos_out(&self) -> Option<QoS> {
        self.topics.iter().filter(|topic| topic.is_out()).map(|topic| topic.qos).max()
    }

    /// Writes what a topic of ours is called at the remote; false if it does not go there.
    pub fn to_remote(&self, local: &str, remote: &mut Vec<u8>) -> bool {
        let Ok(local) = TopicName::parse(local) else { return false };
        let mut outgoing = self.topics.iter().filter(|topic| topic.is_out());
        let Some((topic, rest)) = outgoing.find_map(|topic| Some((topic, topic.local.rest(local)?))) else {
            return false;
        };
        remote.clear();
        remote.extend_from_slice(topic.remote.prefix().as_bytes());
        remote.extend_from_slice(rest.as_bytes());
        std::str::from_utf8(remote).is_ok_and(|remote| TopicName::parse(remote).is_ok())
    }

    /// What a topic of the remote is called here; none if it does not come here.
    pub fn to_local(&self, remote: &str) -> Option<String> {
        let remote = TopicName::parse(remote).ok()?;
        let mut incoming = self.topics.iter().filter(|topic| topic.is_in());
        let (topic, rest) = incoming.find_map(|topic| Some((topic, topic.remote.rest(remote)?)))?;
        let local = format!("{}{rest}", topic.local.prefix());
        TopicName::parse(&local).is_ok().then_some(local)
    }
}

/// Each filter once, in the order of the first mention, with the highest QoS of all.
fn merged<'a>(filters: impl Iterator<Item = (&'a str, QoS)>) -> Vec<(&'a str, QoS)> {
    let mut merged: Vec<(&str, QoS)> = Vec::new();
    for (filter, qos) in filters {
        match merged.iter_mut().find(|(known, _)| *known == filter) {
            Some((_, highest)) => *highest = qos.max(*highest),
            None => merged.push((filter, qos)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Both, In, Out};

    fn topics(rows: &[(&str, Direction, &str, &str)]) -> Topics {
        let topic = |&(pattern, direction, local, remote): &(&str, Direction, &str, &str)| {
            BridgedTopic::new(pattern, direction, QoS::ExactlyOnce, local, remote).expect("a good pattern")
        };
        rows.iter().map(topic).collect::<Vec<_>>().into()
    }

    #[test]
    fn topics_are_mapped_by_prefix_and_pattern() {
        let topics = topics(&[
            ("#", Out, "up/", "edge/1/"),
            ("cmd/+", In, "", "edge/1/"),
            ("", Both, "state", "edge/1/state"),
            ("both/#", Both, "", ""),
            ("$SYS/#", In, "remote/", ""),
        ]);
        for (local, remote) in [
            ("up/a/b", Some("edge/1/a/b")),
            ("up/", Some("edge/1/")),
            ("up", None), // `up/#` matches the parent level, which does not begin with the prefix
            ("upper/a", None),
            ("cmd/x", None),
            ("state", Some("edge/1/state")),
            ("state/x", None),
            ("both", Some("both")),
            ("both/x", Some("both/x")),
            ("$SYS/x", None),
        ] {
            let mut mapped = b"left over".to_vec();
            let found = topics.to_remote(local, &mut mapped).then(|| String::from_utf8(mapped).expect("text"));
            assert_eq!(found.as_deref(), remote, "{local}");
        }
        for (remote, local) in [
            ("edge/1/cmd/x", Some("cmd/x")),
            ("edge/1/cmd/x/y", None),
            ("edge/1/a", None),
            ("edge/1/state", Some("state")),
            ("both/x", Some("both/x")),
            ("$SYS/broker/uptime", Some("remote/$SYS/broker/uptime")),
            ("x", None),
        ] {
            assert_eq!(topics.to_local(remote).as_deref(), local, "{remote}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let topics = topics(&[("a/b", Out, "", "first/"), ("a/#", Out, "", "second/"), ("#", In, "", "")]);
        let mut mapped = Vec::new();
        assert!(topics.to_remote("a/b", &mut mapped));
        assert_eq!(mapped, b"first/a/b");
        assert!(topics.to_remote("a/c", &mut mapped));
        assert_eq!(mapped, b"second/a/c");
        assert!(!topics.to_remote("b", &mut mapped), "it only comes in");
    }

    #[test]
    fn a_topic_that_would_be_too_long_or_empty_does_not_go() {
        let long = topics(&[("#", Both, "", "prefix/"), ("+", Both, "x/", "")]);
        let mut mapped = Vec::new();
        assert!(!long.to_remote(&"t".repeat(65_530), &mut mapped));
        let empty = topics(&[("#", Both, "x/", "")]);
        assert!(!empty.to_remote("x/", &mut mapped));
    }

    #[test]
    fn filters_are_subscribed_to_once() {
        let new = |pattern, direction, qos| BridgedTopic::new(pattern, direction, qos, "l/", "r/").expect("good");
        let topics = Topics::from(vec![
            new("a", Out, QoS::AtMostOnce),
            new("a", Both, QoS::AtLeastOnce),
            new("b", In, QoS::ExactlyOnce),
        ]);
        assert_eq!(topics.local_filters(), [("l/a", QoS::AtLeastOnce)]);
        assert_eq!(topics.remote_filters(), [("r/a", QoS::AtLeastOnce), ("r/b", QoS::ExactlyOnce)]);
        assert_eq!(topics.highest_qos_out(), Some(QoS::AtLeastOnce));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (pattern, local, remote, expected) in [
            ("", "", "r", TopicFault::NoFilter(TopicError::Empty)),
            ("a", "l/", "+/", TopicFault::WildcardInPrefix),
            ("a#", "", "", TopicFault::NoFilter(TopicError::MisplacedMultiLevelWildcard)),
            ("#", "l", "r/", TopicFault::NoFilter(TopicError::MisplacedMultiLevelWildcard)),
            ("$share/g/a", "", "", TopicFault::Shared),
        ] {
            let refused = BridgedTopic::new(pattern, Both, QoS::AtMostOnce, local, remote);
            assert_eq!(refused, Err(expected), "{local} {remote} {pattern}");
        }
    }
}
