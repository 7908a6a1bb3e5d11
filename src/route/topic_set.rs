//! Filters as sets of topics: which topics two of them have in common, and whether one has all of the other.
//!
//! Who judges topics by filters ([`auth`](crate::auth)) can so judge a subscription before there is a message. Shared
//! subscriptions count as the filter behind their share name.

use super::topic::{TopicError, TopicFilter, TopicName};

/// A filter that is kept: checked once, like [`TopicFilter`], and never one of a shared subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSet(Box<str>);

impl TopicSet {
    /// The topics that this filter matches; `None` for a shared subscription.
    ///
    /// # Errors
    /// If it is not a valid topic filter.
    pub fn parse(text: &str) -> Result<Option<Self>, TopicError> {
        let filter = TopicFilter::parse(text)?;
        Ok(filter.share().is_none().then(|| Self(text.into())))
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has this topic.
    #[must_use]
    pub fn contains(&self, topic: TopicName<'_>) -> bool {
        self.filter().matches(topic)
    }

    /// Whether there is a topic that it has in common with this filter.
    #[must_use]
    pub fn meets(&self, other: &TopicFilter<'_>) -> bool {
        let own = self.filter();
        // [MQTT-4.7.2-1]
        if excludes_dollar(&own) && is_dollar(other) || excludes_dollar(other) && is_dollar(&own) {
            return false;
        }
        // All that they have in common is the empty name, which is no topic.
        if matches!((own.as_str(), other.as_str()), ("+", "/#") | ("/#", "+")) {
            return false;
        }
        let (mut mine, mut others) = (own.levels(), other.levels());
        loop {
            match (mine.next(), others.next()) {
                // What the other one still asks for is the beginning of some topic.
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(one), Some(another)) if one == another || one == "+" || another == "+" => {}
                (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether it has every topic that this filter matches.
    #[must_use]
    pub fn covers(&self, other: &TopicFilter<'_>) -> bool {
        let own = self.filter();
        if excludes_dollar(&own) && is_dollar(other) {
            return false;
        }
        let (mut mine, mut others) = (own.levels(), other.levels());
        loop {
            match (mine.next(), others.next()) {
                (Some("#"), _) | (None, None) => return true,
                // Every topic has a first level, and one that begins with an empty level has a second one, for no topic is empty.
                (Some("+"), Some("#")) if matches!(other.as_str(), "#" | "/#") => return mine.next() == Some("#"),
                (_, Some("#")) => return false,
                (Some(one), Some(another)) if one == another || one == "+" => {}
                (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether it has every topic of another set.
    #[must_use]
    pub fn covers_set(&self, other: &Self) -> bool {
        self.covers(&other.filter())
    }

    fn filter(&self) -> TopicFilter<'_> {
        TopicFilter::of_checked(&self.0)
    }
}

/// Whether it matches no topic that begins with `$`, because it begins with a wildcard.
fn excludes_dollar(filter: &TopicFilter<'_>) -> bool {
    filter.as_str().starts_with(['+', '#'])
}

/// Whether it matches only topics that begin with `$`.
fn is_dollar(filter: &TopicFilter<'_>) -> bool {
    filter.as_str().starts_with('$')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::strategies;
    use super::*;

    fn set(text: &str) -> TopicSet {
        TopicSet::parse(text).expect("a valid filter").expect("not a shared one")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid filter")
    }

    #[test]
    fn a_shared_subscription_is_no_set_of_topics() {
        assert_eq!(TopicSet::parse("$share/group/a"), Ok(None));
        assert_eq!(TopicSet::parse("a/#/b"), Err(TopicError::MisplacedMultiLevelWildcard));
        assert!(set("a/#").covers(&filter("$share/group/a/b")) && set("a/b").meets(&filter("$share/group/a/+")));
    }

    #[test]
    fn sets_are_compared_by_their_topics() {
        for (one, another, meets, covers) in [
            ("#", "a/b", true, true),
            ("#", "$SYS/#", false, false),
            ("$SYS/#", "#", false, false),
            ("$SYS/#", "$SYS", true, true),
            ("+/b", "$a/b", false, false),
            ("a/#", "a", true, true),
            ("a/+", "a", false, false),
            ("a/+", "a/#", true, false),
            ("a/#", "a/+/c", true, true),
            ("+/#", "#", true, true),
            ("+/+/#", "#", true, false),
            ("/+/#", "/#", true, true),
            ("+/+/#", "/#", true, true),
            ("/+", "/#", true, false),
            ("+", "/#", false, false),
            ("/#", "+", false, false),
            ("a/+/#", "a/#", true, false),
            ("a/b", "a/b/#", true, false),
            ("a/b", "+/+", true, false),
            ("a/b", "a/c", false, false),
        ] {
            let found = (set(one).meets(&filter(another)), set(one).covers(&filter(another)));
            assert_eq!(found, (meets, covers), "{one} {another}");
        }
    }

    /// All topics of up to five levels of those that random filters are made of, and of one more.
    fn all_topics() -> Vec<String> {
        let levels = ["", "a", "b", "$", "$a", "other"];
        let mut topics: Vec<String> = Vec::new();
        let mut longest = vec![Vec::new()];
        for _ in 0..5 {
            longest = longest.iter().flat_map(|topic| levels.map(|level| [&topic[..], &[level]].concat())).collect();
            topics.extend(longest.iter().map(|topic| topic.join("/")).filter(|topic| !topic.is_empty()));
        }
        topics
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sets_are_compared_as_their_topics_say(one in strategies::filter(), another in strategies::filter()) {
            let (own, other) = (set(&one), filter(&another));
            let topics = all_topics();
            let names = || topics.iter().map(|topic| TopicName::parse(topic).expect("a topic"));
            prop_assert_eq!(own.meets(&other), names().any(|topic| own.contains(topic) && other.matches(topic)));
            prop_assert_eq!(own.covers(&other), names().all(|topic| own.contains(topic) || !other.matches(topic)));
        }
    }
}
