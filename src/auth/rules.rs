//! Who may publish and subscribe what: the text of an ACL file, read. The file itself is `io`'s affair.
//!
//! The syntax is mosquitto's. A line is one of these; empty lines, and those that begin with `#`, say nothing:
//!
//! | line                      | whose rule it is                                                                    |
//! |---------------------------|-------------------------------------------------------------------------------------|
//! | `user NAME`               | none; the `topic` lines behind it are this user's                                   |
//! | `topic ACCESS FILTER`     | the user's; before the first `user` line, that of clients without a user name        |
//! | `pattern ACCESS FILTER`   | every client's; `%u` in it stands for the user name, `%c` for the client id          |
//!
//! `ACCESS` is `read`, `write`, `readwrite` or `deny`, and `readwrite` if it is left out. A filter may have spaces in it behind
//! an access, as mosquitto has it.
//!
//! Of a client's rules the first one counts that matches the topic and speaks of what is asked, in mosquitto's order: the
//! user's `topic` lines that deny, those that allow, the patterns that deny, and those that allow. Where none does, the
//! answer is no. A filter that begins with a wildcard says nothing about topics that begin with `$`.
//!
//! Names that clients choose are put into patterns, so some names are kept out of them. Like mosquitto: who has `+` or `#` in
//! his user name or client id has no rights by patterns, whatever they say. Unlike it: a name with `/` in it, or one with
//! `$` at the beginning of the pattern, is not put into one that allows, because it could reach what is another client's.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{ACL_PATTERNS_MAX, ACL_TOPICS_OF_USER_MAX};
use crate::route::{TopicError, TopicSet};

use super::accounts::BadLine;
use super::permissions::Permissions;

/// The rules of an ACL file.
#[derive(Debug)]
pub struct AccessRules {
    /// Of clients without a user name.
    anonymous: Arc<[Rule]>,
    users: BTreeMap<Box<str>, Arc<[Rule]>>,
    /// Those that deny first.
    patterns: Box<[Pattern]>,
}

/// What a client may do with some topics, or may not.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) grant: Grant,
    pub(super) topics: TopicSet,
}

/// A rule for every client, before it is that of one.
#[derive(Debug)]
struct Pattern {
    grant: Grant,
    text: Box<str>,
}

/// What a rule says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Grant {
    Deny,
    Read,
    Write,
    ReadWrite,
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// Get messages.
    Read,
    /// Publish.
    Write,
}

/// A line of the file.
enum Line<'a> {
    Nothing,
    User(&'a str),
    Topic(Rule),
    Pattern(Pattern),
}

impl AccessRules {
    /// Reads the text of an ACL file.
    ///
    /// # Errors
    /// If a line is not a rule.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut anonymous = Vec::new();
        let mut users: BTreeMap<Box<str>, Vec<Rule>> = BTreeMap::new();
        let mut patterns = Vec::new();
        let mut user = None;
        for (line, content) in (1..).zip(text.lines()) {
            let bad = |text| BadLine { line, text };
            match parse_line(content).map_err(bad)? {
                Line::Nothing => {}
                Line::User(name) => {
                    users.entry(name.into()).or_default();
                    user = Some(name);
                }
                Line::Topic(rule) => {
                    let rules = user.and_then(|name| users.get_mut(name)).unwrap_or(&mut anonymous);
                    if rules.len() == ACL_TOPICS_OF_USER_MAX {
                        return Err(bad("a user has at most 10000 topic lines"));
                    }
                    rules.push(rule);
                }
                Line::Pattern(_) if patterns.len() == ACL_PATTERNS_MAX => {
                    return Err(bad("there are at most 1000 patterns"));
                }
                Line::Pattern(pattern) => patterns.push(pattern),
            }
        }
        patterns.sort_by_key(|pattern| !pattern.grant.is_denial());
        let users = users.into_iter().map(|(name, rules)| (name, denials_first(rules)));
        Ok(Self { anonymous: denials_first(anonymous), users: users.collect(), patterns: patterns.into() })
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let topics: usize = self.users.values().map(|rules| rules.len()).sum();
        self.anonymous.len() + topics + self.patterns.len()
    }

    /// Whether there are none, so that nobody may do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a client may do by these rules; without a user name it is anonymous.
    #[must_use]
    pub fn permissions_of(self: &Arc<Self>, user_name: Option<&str>, client_id: &str) -> Permissions {
        let topics = match user_name {
            None => Some(&self.anonymous),
            Some(user_name) => self.users.get(user_name),
        };
        let is_wildcard = |name: &str| name.contains(['+', '#']);
        let patterns = if user_name.is_some_and(is_wildcard) || is_wildcard(client_id) {
            Box::default()
        } else {
            let patterns = self.patterns.iter().filter_map(|pattern| pattern.of(user_name, client_id).transpose());
            // With a name that no filter can have there is no telling what was denied.
            patterns.collect::<Result<_, _>>().unwrap_or_default()
        };
        Permissions::new(Arc::downgrade(self), topics.cloned().unwrap_or_default(), patterns)
    }
}

impl Grant {
    pub(super) fn is_denial(self) -> bool {
        match self {
            Self::Deny => true,
            Self::Read | Self::Write | Self::ReadWrite => false,
        }
    }

    /// What it says of a deed, if it speaks of that.
    pub(super) fn verdict(self, deed: Deed) -> Option<bool> {
        match (self, deed) {
            (Self::Deny, _) => Some(false),
            (Self::ReadWrite, _) | (Self::Read, Deed::Read) | (Self::Write, Deed::Write) => Some(true),
            (Self::Read, Deed::Write) | (Self::Write, Deed::Read) => None,
        }
    }
}

impl Pattern {
    /// The rule for one client, if it is one for it.
    fn of(&self, user_name: Option<&str>, client_id: &str) -> Result<Option<Rule>, TopicError> {
        let mut text = String::with_capacity(self.text.len() + client_id.len());
        let mut rest = &*self.text;
        while let Some(at) = rest.find('%') {
            let (before, behind) = rest.split_at(at);
            text += before;
            let name = match behind.as_bytes().get(1) {
                Some(b'u') => user_name,
                Some(b'c') => Some(client_id),
                Some(_) | None => {
                    text.push('%');
                    rest = &behind[1..];
                    continue;
                }
            };
            let Some(name) = name else { return Ok(None) };
            let reaches_further = name.contains('/') || (text.is_empty() && name.starts_with('$'));
            if reaches_further && !self.grant.is_denial() {
                return Ok(None);
            }
            text += name;
            rest = &behind[2..];
        }
        text += rest;
        Ok(TopicSet::parse(&text)?.map(|topics| Rule { grant: self.grant, topics }))
    }
}

/// The rules in the order in which they count.
fn denials_first(mut rules: Vec<Rule>) -> Arc<[Rule]> {
    rules.sort_by_key(|rule| !rule.grant.is_denial());
    rules.into()
}

fn parse_line(content: &str) -> Result<Line<'_>, &'static str> {
    let content = content.trim();
    if content.is_empty() || content.starts_with('#') {
        return Ok(Line::Nothing);
    }
    let (word, rest) = split_word(content);
    match word {
        "user" if rest.is_empty() => Err("behind user comes a name"),
        "user" => Ok(Line::User(rest)),
        "topic" => {
            let (grant, filter) = parse_rule(rest)?;
            Ok(Line::Topic(Rule { grant, topics: topics_of(filter)? }))
        }
        "pattern" => {
            let (grant, text) = parse_rule(rest)?;
            // Checked with names in it that can stand anywhere.
            topics_of(&text.replace("%u", "u").replace("%c", "c"))?;
            Ok(Line::Pattern(Pattern { grant, text: text.into() }))
        }
        _ => Err("a line begins with user, topic or pattern"),
    }
}

/// Access and filter.
fn parse_rule(rest: &str) -> Result<(Grant, &str), &'static str> {
    match split_word(rest) {
        ("", _) => Err("behind topic and pattern comes [read|write|readwrite|deny] and a topic filter"),
        (filter, "") => Ok((Grant::ReadWrite, filter)),
        ("read", filter) => Ok((Grant::Read, filter)),
        ("write", filter) => Ok((Grant::Write, filter)),
        ("readwrite", filter) => Ok((Grant::ReadWrite, filter)),
        ("deny", filter) => Ok((Grant::Deny, filter)),
        _ => Err("the access is read, write, readwrite or deny; it can't be left out of a topic with spaces"),
    }
}

fn topics_of(filter: &str) -> Result<TopicSet, &'static str> {
    let topics = TopicSet::parse(filter).map_err(|error| match error {
        TopicError::Empty => "the topic filter is empty",
        TopicError::TooLong => "a topic filter has at most 65535 bytes",
        TopicError::NullCharacter => "a topic filter has no null character in it",
        TopicError::TooManyLevels => "a topic filter has at most 1024 levels",
        TopicError::WildcardInName
        | TopicError::MisplacedMultiLevelWildcard
        | TopicError::MisplacedSingleLevelWildcard => "+ is a whole level of a topic filter, and # the last one",
        TopicError::ShareName | TopicError::ShareWithoutFilter => SHARED,
    })?;
    topics.ok_or(SHARED)
}

const SHARED: &str = "a rule is about topics: leave out $share and the name of the group";

/// The first word, and what comes behind it.
fn split_word(text: &str) -> (&str, &str) {
    text.split_once([' ', '\t']).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Arc<AccessRules> {
        Arc::new(AccessRules::parse(text).expect("rules"))
    }

    /// What a client may do with a topic: `r`, `w`, both or nothing.
    fn rights(rules: &Arc<AccessRules>, user_name: Option<&str>, client_id: &str, topic: &str) -> String {
        let mut permissions = rules.permissions_of(user_name, client_id);
        let mut rights = String::new();
        rights.extend(permissions.may_read(topic).then_some('r'));
        rights.extend(permissions.may_write(topic).then_some('w'));
        rights
    }

    /// The example of mosquitto's own file, and what its manual adds to it.
    #[test]
    fn a_file_of_mosquitto_is_read_as_it_is() {
        let rules = rules(
            "# This affects access control for clients with no username.\r\ntopic read $SYS/#\r\n\n\
             # This only affects clients with username \"roger\".\nuser roger\ntopic foo/bar\n\n\
             # This affects all clients.\npattern write $SYS/broker/connection/%c/state\n\
             user  ann bell \n  topic  read  rooms/first floor/+\ntopic write # \ntopic\tdeny\trooms/vault/#\nuser roger\ntopic read news\n",
        );
        assert_eq!(rules.len(), 7);
        for (user_name, topic, expected) in [
            (None, "$SYS/broker/uptime", "r"),
            (None, "$SYS/broker/connection/c/state", "rw"),
            (None, "foo/bar", ""),
            (Some("roger"), "foo/bar", "rw"),
            (Some("roger"), "news", "r"),
            (Some("roger"), "$SYS/broker/uptime", ""),
            (Some("roger"), "$SYS/broker/connection/c/state", "w"),
            (Some("roger"), "$SYS/broker/connection/d/state", ""),
            (Some("ann bell"), "rooms/first floor/door", "rw"),
            (Some("ann bell"), "rooms/vault/door", ""),
            (Some("ann bell"), "anything", "w"),
            (Some("ann bell"), "$SYS/anything", ""),
            (Some("stranger"), "foo/bar", ""),
            (Some("stranger"), "$SYS/broker/connection/c/state", "w"),
        ] {
            assert_eq!(rights(&rules, user_name, "c", topic), expected, "{user_name:?} {topic}");
        }
    }

    /// A pattern that denies comes behind a topic that allows, as in mosquitto.
    #[test]
    fn what_counts_first_is_what_counts_first_in_mosquitto() {
        let rules =
            rules("pattern read #\npattern deny secret/#\nuser a\ntopic read secret/a\ntopic deny secret/a/b\n");
        for (topic, expected) in
            [("secret/a", "r"), ("secret/a/b", ""), ("secret/b", ""), ("open", "r"), ("$SYS/x", "")]
        {
            assert_eq!(rights(&rules, Some("a"), "c", topic), expected, "{topic}");
        }
    }

    #[test]
    fn names_in_patterns_reach_nothing_of_others() {
        let rules =
            rules("pattern sensors/%c/#\npattern read %u/in-%c\npattern deny sensors/%c/secret\npattern read 100%\n");
        for (user_name, client_id, topic, expected) in [
            (None, "c", "sensors/c/x", "rw"),
            (None, "c", "sensors/d/x", ""),
            (None, "c", "sensors/c/secret", ""),
            (None, "c", "100%", "r"),
            (Some("u"), "c", "u/in-c", "r"),
            (None, "c", "u/in-c", ""),
            (None, "%u", "sensors/%u/x", "rw"),
            // Not another client's, not everybody's, and not the broker's.
            (None, "c/x", "sensors/c/x/y", ""),
            (None, "c/x", "100%", "r"),
            (None, "+", "sensors/c/x", ""),
            (None, "#", "100%", ""),
            (Some("#"), "c", "100%", ""),
            (Some("$SYS"), "c", "$SYS/in-c", ""),
        ] {
            assert_eq!(rights(&rules, user_name, client_id, topic), expected, "{user_name:?} {client_id} {topic}");
        }
        let denied = self::rules("pattern read #\npattern deny a/%c\n");
        assert_eq!(rights(&denied, None, "c/d", "a/c/d"), "", "what is denied stays so");
        assert_eq!(rights(&denied, None, &"c".repeat(65_535), "b"), "", "and what can't be told is");
    }

    #[test]
    fn each_bad_line_is_told_by_its_number() {
        let deep = format!("topic {}", "/".repeat(2000));
        for (line, part) in [
            ("user", "comes a name"),
            ("topic", "[read|write|readwrite|deny]"),
            ("pattern ", "[read|write|readwrite|deny]"),
            ("topic first floor", "left out of a topic with spaces"),
            ("topic subscribe a", "read, write, readwrite or deny"),
            ("topic read a/#/b", "the last one"),
            ("topic read a+", "a whole level"),
            ("pattern read %c#", "the last one"),
            ("topic read $share/g/a", "leave out $share"),
            ("topic read $share", "leave out $share"),
            ("topic read a\0b", "null character"),
            (&deep, "1024 levels"),
            ("users roger", "user, topic or pattern"),
        ] {
            let told = AccessRules::parse(&format!("topic a\n\n{line}\n")).expect_err("refused");
            assert!(told.line == 3 && told.text.contains(part), "{line}: {told}");
        }
    }

    #[test]
    fn there_are_bounds() {
        let topics = |lines| "topic a\n".repeat(lines);
        assert_eq!(rules(&topics(ACL_TOPICS_OF_USER_MAX)).len(), ACL_TOPICS_OF_USER_MAX);
        let told = AccessRules::parse(&topics(ACL_TOPICS_OF_USER_MAX + 1)).expect_err("too many");
        assert!(told.to_string().contains(&ACL_TOPICS_OF_USER_MAX.to_string()), "{told}");
        let told = AccessRules::parse(&"pattern a\n".repeat(ACL_PATTERNS_MAX + 1)).expect_err("too many");
        assert!(told.to_string().contains(&ACL_PATTERNS_MAX.to_string()), "{told}");
        assert!(rules("# nobody may do anything\n").is_empty());
    }

    proptest! {
        /// Text of a disk, some of it near to what it should be; and what it is read as, asked with any names.
        #[test]
        fn no_text_panics(
            text in ".{0,80}",
            line in "(user|topic|pattern) (read |deny |write )?[a%cu+#/$ ]{0,12}",
            name in "[a%cu+#/$]{0,6}",
            topic in "[a%cu/$]{1,12}",
        ) {
            for text in [text, line] {
                if let Ok(rules) = AccessRules::parse(&text) {
                    rights(&Arc::new(rules), Some(&name), &name, &topic);
                }
            }
        }
    }
}
