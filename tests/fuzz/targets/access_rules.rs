//! An ACL file, asked about a client, a topic and a filter. What is said about one topic, about a subscription and about all
//! topics of a filter agrees, and a question that is repeated gets the same answer.
//!
//! The input is a user name, a client id, a topic and a filter, a line each, and then the file.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use oncemq::auth::AccessRules;
use oncemq::route::{TopicFilter, TopicName};
use oncemq_fuzz::text;

fuzz_target!(|input: &[u8]| {
    let Some(text) = text(input) else { return };
    let mut parts = text.splitn(5, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (user_name, client_id, topic, filter, file) = (part(), part(), part(), part(), part());
    let rules = match AccessRules::parse(file) {
        Ok(rules) => Arc::new(rules),
        Err(bad) => return assert!((1..=file.lines().count()).contains(&bad.line)),
    };
    let user_name = (!user_name.is_empty()).then_some(user_name);
    let mut permissions = rules.permissions_of(user_name, client_id);
    let (may_read, may_write) = (permissions.may_read(topic), permissions.may_write(topic));
    assert_eq!((permissions.may_read(topic), permissions.may_write(topic)), (may_read, may_write));
    if rules.is_empty() {
        assert!(!may_read && !may_write);
    }
    let Ok(name) = TopicName::parse(topic) else { return assert!(!may_read && !may_write) };
    let Ok(filter) = TopicFilter::parse(filter) else { return };
    let filter = filter.unshared();
    if filter.matches(name) {
        assert!(!permissions.reads_all(&filter) || may_read, "who reads all reads this");
        assert!(permissions.may_subscribe(&filter) || !may_read, "who reads one may subscribe");
    }
    assert!(permissions.may_subscribe(&filter) || !permissions.reads_all(&filter), "who reads all may subscribe");
});
