//! What one client may do, by the rules of an ACL file.
//!
//! What was decided of late is remembered, so that who uses the same few topics again and again is not judged by the rules
//! each time: that costs a comparison, and allocates nothing.

use std::sync::{Arc, Weak};

use crate::config::{ACL_VERDICT_TOPIC_BYTES_MAX, ACL_VERDICTS_KEPT};
use crate::route::{TopicFilter, TopicName};

use super::rules::{AccessRules, Deed, Rule};

/// The rules of one client, and what they have said.
#[derive(Debug)]
pub struct Permissions {
    /// Where they come from. A client that is idle when there are others does not keep them.
    source: Weak<AccessRules>,
    /// Its user's, and behind them its own, each in the order in which they count.
    topics: Arc<[Rule]>,
    patterns: Box<[Rule]>,
    verdicts: Verdicts,
}

/// What was decided of late.
#[derive(Debug, Default)]
struct Verdicts {
    /// The memory of one that is forgotten is used again.
    kept: Vec<Verdict>,
    /// The one that is to be forgotten next.
    next: usize,
}

#[derive(Debug)]
struct Verdict {
    deed: Deed,
    topic: String,
    is_allowed: bool,
}

impl Permissions {
    pub(super) fn new(source: Weak<AccessRules>, topics: Arc<[Rule]>, patterns: Box<[Rule]>) -> Self {
        Self { source, topics, patterns, verdicts: Verdicts::default() }
    }

    /// Whether they come from these rules.
    #[must_use]
    pub fn are_by(&self, rules: &Arc<AccessRules>) -> bool {
        std::ptr::eq(self.source.as_ptr(), Arc::as_ptr(rules))
    }

    /// Whether the client may publish to this topic.
    #[must_use]
    pub fn may_write(&mut self, topic: &str) -> bool {
        self.may(Deed::Write, topic)
    }

    /// Whether the client may get messages of this topic.
    #[must_use]
    pub fn may_read(&mut self, topic: &str) -> bool {
        self.may(Deed::Read, topic)
    }

    /// Whether a subscription to this filter makes sense: there may be a topic that it matches and that the client may read.
    #[must_use]
    pub fn may_subscribe(&self, filter: &TopicFilter<'_>) -> bool {
        for (index, rule) in self.rules().enumerate() {
            match rule.grant.verdict(Deed::Read) {
                None => {}
                Some(false) if rule.topics.covers(filter) => return false,
                Some(false) => {}
                Some(true) if rule.topics.meets(filter) => {
                    let mut before = self.rules().take(index).filter(|before| before.grant.is_denial());
                    if !before.any(|denial| denial.topics.covers_set(&rule.topics)) {
                        return true;
                    }
                }
                Some(true) => {}
            }
        }
        false
    }

    /// Whether the client may read each topic that this filter matches, as one rule says.
    #[must_use]
    pub fn reads_all(&self, filter: &TopicFilter<'_>) -> bool {
        for rule in self.rules() {
            match rule.grant.verdict(Deed::Read) {
                Some(false) if rule.topics.meets(filter) => return false,
                Some(true) if rule.topics.covers(filter) => return true,
                Some(_) | None => {}
            }
        }
        false
    }

    #[inline]
    fn may(&mut self, deed: Deed, topic: &str) -> bool {
        match self.verdicts.of(deed, topic) {
            Some(is_allowed) => is_allowed,
            None => self.decide(deed, topic),
        }
    }

    fn decide(&mut self, deed: Deed, topic: &str) -> bool {
        let Ok(name) = TopicName::parse(topic) else { return false };
        let verdict = |rule: &Rule| rule.grant.verdict(deed).filter(|_| rule.topics.contains(name));
        let is_allowed = self.rules().find_map(verdict).unwrap_or(false);
        self.verdicts.keep(deed, topic, is_allowed);
        is_allowed
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.topics.iter().chain(&self.patterns)
    }
}

impl Verdicts {
    #[inline]
    fn of(&self, deed: Deed, topic: &str) -> Option<bool> {
        let known = self.kept.iter().find(|verdict| verdict.topic == topic && verdict.deed == deed)?;
        Some(known.is_allowed)
    }

    fn keep(&mut self, deed: Deed, topic: &str, is_allowed: bool) {
        if topic.len() > ACL_VERDICT_TOPIC_BYTES_MAX {
            return;
        }
        if self.kept.len() < ACL_VERDICTS_KEPT {
            self.kept.push(Verdict { deed, topic: topic.into(), is_allowed });
            return;
        }
        let verdict = &mut self.kept[self.next];
        self.next = (self.next + 1) % ACL_VERDICTS_KEPT;
        verdict.deed = deed;
        verdict.topic.clear();
        verdict.topic.push_str(topic);
        verdict.is_allowed = is_allowed;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::{collection::vec, sample::select};

    use super::*;

    /// A line of a file as the tests understand it: whose it is, what it says, and the levels of its filter.
    type Line = (bool, &'static str, Vec<&'static str>);

    fn filter() -> impl Strategy<Value = Vec<&'static str>> {
        let levels = vec(select(vec!["a", "b", "%c", "$a", "+", "+"]), 1..4);
        (levels, any::<bool>()).prop_map(|(mut levels, has_rest)| {
            levels.extend(has_rest.then_some("#"));
            levels
        })
    }

    fn line() -> impl Strategy<Value = Line> {
        (any::<bool>(), select(vec!["read", "write", "readwrite", "deny"]), filter())
    }

    fn text_of(lines: &[Line]) -> String {
        let text = |(is_pattern, access, filter): &Line| {
            format!("{} {access} {}\n", if *is_pattern { "pattern" } else { "topic" }, filter.join("/"))
        };
        format!("user u\n{}", lines.iter().map(text).collect::<String>())
    }

    /// As mosquitto's manual says it, for the client `b`.
    fn may(lines: &[Line], deed: &str, topic: &[&str]) -> bool {
        for (of_patterns, denies) in [(false, true), (false, false), (true, true), (true, false)] {
            let mut its_turn = lines
                .iter()
                .filter(|(is_pattern, access, _)| *is_pattern == of_patterns && (*access == "deny") == denies);
            let own = |level: &&'static str| if of_patterns && *level == "%c" { "b" } else { *level };
            let speaks = |access: &str| denies || access == "readwrite" || access == deed;
            if its_turn.any(|(_, access, filter)| {
                speaks(access) && matches(&filter.iter().map(own).collect::<Vec<_>>(), topic, true)
            }) {
                return !denies;
            }
        }
        false
    }

    fn matches(filter: &[&str], topic: &[&str], is_first: bool) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], []) => true,
            (["#" | "+", ..], [first, ..]) if is_first && first.starts_with('$') => false,
            (["#"], _) => true,
            ([level, filter @ ..], [name, topic @ ..]) => {
                (*level == "+" || level == name) && matches(filter, topic, false)
            }
            _ => false,
        }
    }

    fn all_topics() -> Vec<Vec<&'static str>> {
        let levels = ["a", "b", "%c", "$a", "other"];
        let mut topics: Vec<Vec<&str>> = vec![Vec::new()];
        let mut longest = topics.clone();
        for _ in 0..4 {
            longest = longest.iter().flat_map(|topic| levels.map(|level| [&topic[..], &[level]].concat())).collect();
            topics.extend_from_slice(&longest);
        }
        topics.remove(0);
        topics
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// What is said of a topic is what the manual says, however often it is asked; and what is said of a subscription
        /// holds for every topic.
        #[test]
        fn a_client_may_do_what_the_manual_says(lines in vec(line(), 0..6), subscription in filter()) {
            let rules = Arc::new(AccessRules::parse(&text_of(&lines)).expect("rules"));
            let mut permissions = rules.permissions_of(Some("u"), "b");
            let joined = subscription.join("/");
            let filter = TopicFilter::parse(&joined).expect("a filter");
            let (may_subscribe, reads_all) = (permissions.may_subscribe(&filter), permissions.reads_all(&filter));
            for topic in all_topics() {
                let text = topic.join("/");
                let reads = may(&lines, "read", &topic);
                for _ in 0..2 {
                    prop_assert_eq!(permissions.may_read(&text), reads, "read {}", &text);
                    prop_assert_eq!(permissions.may_write(&text), may(&lines, "write", &topic), "write {}", &text);
                }
                if matches(&subscription, &topic, true) {
                    prop_assert!(may_subscribe || !reads, "{} is refused, and {} may be read", &joined, &text);
                    prop_assert!(!reads_all || reads, "{} is not checked, and {} may not be read", &joined, &text);
                }
            }
        }
    }

    #[test]
    fn a_subscription_is_judged_before_there_is_a_message() {
        let text =
            "user u\ntopic read sensors/#\ntopic deny sensors/secret/#\ntopic write out/#\ntopic read $SYS/broker/+\n";
        let rules = Arc::new(AccessRules::parse(text).expect("rules"));
        let permissions = rules.permissions_of(Some("u"), "c");
        for (filter, may_subscribe, reads_all) in [
            ("sensors/kitchen/+", true, true),
            ("$share/group/sensors/kitchen", true, true),
            ("sensors/#", true, false),
            ("#", true, false),
            ("sensors/secret", false, false),
            ("sensors/secret/#", false, false),
            ("sensors/+/door", true, false),
            ("out/#", false, false),
            ("$SYS/#", true, false),
            ("$SYS/broker/uptime", true, true),
            ("other", false, false),
        ] {
            let filter = TopicFilter::parse(filter).expect("a filter");
            let found = (permissions.may_subscribe(&filter), permissions.reads_all(&filter));
            assert_eq!(found, (may_subscribe, reads_all), "{filter:?}");
        }
        // What is denied as a whole is no reason to subscribe, however wide the filter is.
        let rules = Arc::new(AccessRules::parse("topic read a/b\ntopic deny a/#\n").expect("rules"));
        assert!(!rules.permissions_of(None, "c").may_subscribe(&TopicFilter::parse("#").expect("a filter")));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let rules = Arc::new(AccessRules::parse("pattern write even/#\n").expect("rules"));
        let mut permissions = rules.permissions_of(None, "c");
        for round in 0..3 {
            for number in 0..100 {
                let topic = format!("{}/{number}", ["even", "odd"][number % 2]);
                assert_eq!(permissions.may_write(&topic), number % 2 == 0, "{round}: {topic}");
                assert!(!permissions.may_read(&topic));
            }
        }
        assert!(permissions.may_write(&format!("even/{}", "x".repeat(ACL_VERDICT_TOPIC_BYTES_MAX))));
        assert_eq!(permissions.verdicts.kept.len(), ACL_VERDICTS_KEPT);
        let lengths = permissions.verdicts.kept.iter().map(|verdict| verdict.topic.len());
        assert!(lengths.max() <= Some(ACL_VERDICT_TOPIC_BYTES_MAX));
        assert!(permissions.are_by(&rules) && !permissions.are_by(&Arc::new(AccessRules::parse("").expect("none"))));
    }
}
