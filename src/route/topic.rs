//! Topic names and topic filters, parsed into types that cannot be wrong.
//!
//! A [`TopicName`] is what a message is published to, a [`TopicFilter`] what a client subscribes
//! to. Both borrow their text and cost no allocation. Levels are what stands between the separators
//! `/`; a level may be empty, and comparison is by code point, without normalization
//! [MQTT-4.7.3-4].
//!
//! The statements are cited by their numbers in MQTT 5.0. Those that MQTT 3.1.1 numbers
//! differently:
//!
//! | MQTT 5.0       | MQTT 3.1.1     | rule                                          |
//! |----------------|----------------|-----------------------------------------------|
//! | [MQTT-4.7.0-1] | [MQTT-4.7.1-1] | no wildcard in a topic name                   |
//! | [MQTT-4.7.1-1] | [MQTT-4.7.1-2] | `#` fills a level, and only the last one      |
//! | [MQTT-4.7.1-2] | [MQTT-4.7.1-3] | `+` fills a level                             |
//! | [MQTT-4.8.2-1] | none           | `$share/` is followed by a share name         |
//! | [MQTT-4.8.2-2] | none           | a share name has no wildcard; a filter follows|
//!
//! That the bytes are UTF-8 is the decoder's work.

use thiserror::Error;

/// The most levels that a topic name or filter may have, whatever a broker allows its clients. It bounds what one SUBSCRIBE
/// can make a [`SubscriptionTrie`](super::SubscriptionTrie) allocate, and the depth of every walk.
pub const MAX_TOPIC_LEVELS: usize = 1024;

/// The most bytes in an encoded string, and so in a topic [MQTT-4.7.3-3].
const MAX_TOPIC_BYTES: usize = u16::MAX as usize;

const SHARE_PREFIX: &str = "$share";

/// Why a text is not a topic name or a topic filter. The fault is the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TopicError {
    /// No character at all [MQTT-4.7.3-1].
    #[error("a topic must have at least one character")]
    Empty,
    /// More than 65,535 bytes [MQTT-4.7.3-3].
    #[error("a topic must not have more than 65535 bytes")]
    TooLong,
    /// The null character is among the characters [MQTT-4.7.3-2].
    #[error("a topic must not contain the null character")]
    NullCharacter,
    /// More levels than [`MAX_TOPIC_LEVELS`] or a lower limit that was asked for; the standard has none.
    #[error("a topic must not have so many levels")]
    TooManyLevels,
    /// `+` or `#` in a topic name [MQTT-4.7.0-1].
    #[error("a topic name must not contain a wildcard")]
    WildcardInName,
    /// `#` beside other characters or before the last level [MQTT-4.7.1-1].
    #[error("the wildcard '#' must be the whole last level of a topic filter")]
    MisplacedMultiLevelWildcard,
    /// `+` beside other characters in its level [MQTT-4.7.1-2].
    #[error("the wildcard '+' must be a whole level of a topic filter")]
    MisplacedSingleLevelWildcard,
    /// `$share/` without a share name, or with a wildcard in it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    #[error("a share name must have at least one character and no wildcard")]
    ShareName,
    /// A share name without a topic filter behind it [MQTT-4.8.2-2].
    #[error("a share name must be followed by a topic filter")]
    ShareWithoutFilter,
}

/// A valid topic name: 1 to 65,535 bytes, at most [`MAX_TOPIC_LEVELS`] levels, no wildcard, no null
/// character.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks the text of a PUBLISH or of a will.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        Self::parse_within(text, MAX_TOPIC_LEVELS)
    }

    /// As [`parse`](Self::parse), with a lower limit of levels.
    pub fn parse_within(text: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        // [MQTT-4.7.0-1]
        if check_characters(text, levels_max)?.has_wildcard {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }

    /// The text as it was given.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels, of which there is at least one.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        levels(self.0)
    }

    /// Whether the name begins with `$`, so that no filter that begins with a wildcard matches it
    /// [MQTT-4.7.2-1].
    pub fn is_dollar(self) -> bool {
        self.0.as_bytes()[0] == b'$'
    }
}

/// A valid topic filter, taken apart into the share name, if it begins with `$share/`, and the
/// filter proper.
///
/// The text is within the limits of a [`TopicName`]; `#` fills the last level, `+` fills its level,
/// and neither stands anywhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicFilter<'a> {
    share: Option<&'a str>,
    filter: &'a str,
}

impl<'a> TopicFilter<'a> {
    /// Checks a filter of a SUBSCRIBE or UNSUBSCRIBE.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        Self::parse_within(text, MAX_TOPIC_LEVELS)
    }

    /// As [`parse`](Self::parse), with a lower limit of levels; those of `$share/{name}` count, too.
    pub fn parse_within(text: &'a str, levels_max: usize) -> Result<Self, TopicError> {
        let characters = check_characters(text, levels_max)?;
        let (share, filter) = split_share(text)?;
        if characters.has_wildcard {
            check_wildcards(filter)?;
        }
        Ok(Self { share, filter })
    }

    /// A filter proper whose text was checked when it was kept.
    pub(super) const fn of_checked(text: &'a str) -> Self {
        Self { share: None, filter: text }
    }

    /// The name of the group that shares the subscription, from `$share/{name}/{filter}`.
    pub const fn share(&self) -> Option<&'a str> {
        self.share
    }

    /// The filter proper, as one of its own.
    pub const fn unshared(&self) -> Self {
        Self { share: None, filter: self.filter }
    }

    /// The filter without the share name: what topic names are compared with.
    pub const fn as_str(&self) -> &'a str {
        self.filter
    }

    /// The levels of [`as_str`](Self::as_str), of which there is at least one.
    pub fn levels(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        levels(self.filter)
    }

    /// Whether the filter has no wildcard, and so matches one topic name only.
    pub fn is_exact(&self) -> bool {
        !self.filter.contains(['+', '#'])
    }

    /// Whether the filter matches the topic name.
    ///
    /// This is the rule spelled out level by level; the trees of this module are tested against it.
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        // [MQTT-4.7.2-1]
        if topic.is_dollar() && self.filter.starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            if level == "#" {
                // No level left is a match too: `#` stands for the parent level and everything
                // below it.
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                Some(_) | None => return false,
            }
        }
        names.next().is_none()
    }
}

/// `text.split('/')`, whose search for a character is made for longer texts than levels are.
#[inline]
fn levels(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|byte| byte == b'/');
        let (level, behind) = end.map_or((text, None), |end| (&text[..end], Some(&text[end + 1..])));
        rest = behind;
        Some(level)
    })
}

/// What [`check_characters`] leaves for names and filters to judge.
struct Characters {
    has_wildcard: bool,
}

/// The rules that names and filters have in common, in one pass: every PUBLISH goes through here.
fn check_characters(text: &str, levels_max: usize) -> Result<Characters, TopicError> {
    // [MQTT-4.7.3-1]
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    // [MQTT-4.7.3-3]
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    let mut has_wildcard = false;
    let mut levels = 1;
    for byte in text.bytes() {
        // All that matters sorts up to the separator, and hardly any other character does.
        if byte > b'/' {
            continue;
        }
        match byte {
            b'/' => levels += 1,
            b'+' | b'#' => has_wildcard = true,
            // [MQTT-4.7.3-2]
            0 => return Err(TopicError::NullCharacter),
            _other => {}
        }
    }
    if levels > levels_max.min(MAX_TOPIC_LEVELS) {
        return Err(TopicError::TooManyLevels);
    }
    Ok(Characters { has_wildcard })
}

/// Takes `$share/{name}/` off a filter. `$share` alone is an incomplete shared filter; `$shared` is
/// an ordinary level.
fn split_share(text: &str) -> Result<(Option<&str>, &str), TopicError> {
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    if first != SHARE_PREFIX {
        return Ok((None, text));
    }
    let (name, filter) = rest.split_once('/').unwrap_or((rest, ""));
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(TopicError::ShareName);
    }
    if filter.is_empty() {
        return Err(TopicError::ShareWithoutFilter);
    }
    Ok((Some(name), filter))
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        // [MQTT-4.7.1-1]
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MisplacedMultiLevelWildcard);
        }
        // [MQTT-4.7.1-2]
        if level.contains('+') && level != "+" {
            return Err(TopicError::MisplacedSingleLevelWildcard);
        }
    }
    Ok(())
}

/// Random topics over an alphabet so small that they meet often, for the tests of this module's
/// trees.
#[cfg(test)]
pub(super) mod strategies {
    use proptest::{collection::vec, prelude::*, sample::select};

    /// A valid topic name with empty levels and levels that begin with `$`.
    pub(crate) fn name() -> impl Strategy<Value = String> {
        vec(select(vec!["", "a", "b", "$", "$a"]), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic has a character", |text| !text.is_empty())
    }

    /// A valid filter of such levels and wildcards.
    pub(crate) fn filter() -> impl Strategy<Value = String> {
        let levels = vec(select(vec!["", "a", "b", "$", "$a", "+", "+", "+"]), 0..5);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi_level)| {
                if multi_level {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).expect("a valid topic name")
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).expect("a valid topic filter")
    }

    #[test]
    fn topic_names_are_any_text_without_wildcards() {
        for text in ["a", "/", "//", " ", "a/b", "/a", "a/", "$SYS/x", "\u{feff}", "Größe/ü"] {
            assert_eq!(name(text).as_str(), text);
        }
        assert_eq!(name("/a//").levels().collect::<Vec<_>>(), ["", "a", "", ""]);
    }

    /// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
    #[test]
    fn malformed_topic_names_are_refused() {
        for (text, error) in [
            ("", TopicError::Empty),
            ("+", TopicError::WildcardInName),
            ("#", TopicError::WildcardInName),
            ("a/+/b", TopicError::WildcardInName),
            ("a+", TopicError::WildcardInName),
            ("a/#", TopicError::WildcardInName),
            ("a\0b", TopicError::NullCharacter),
        ] {
            assert_eq!(TopicName::parse(text), Err(error), "{text:?}");
        }
    }

    /// [MQTT-4.7.3-3]
    #[test]
    fn topics_have_up_to_65535_bytes() {
        let longest = "x".repeat(65_535);
        assert!(TopicName::parse(&longest).is_ok());
        assert!(TopicFilter::parse(&longest).is_ok());
        let longer = "x".repeat(65_536);
        assert_eq!(TopicName::parse(&longer), Err(TopicError::TooLong));
        assert_eq!(TopicFilter::parse(&longer), Err(TopicError::TooLong));
    }

    #[test]
    fn topics_have_a_limited_number_of_levels() {
        let deepest = "/".repeat(MAX_TOPIC_LEVELS - 1);
        assert_eq!(name(&deepest).levels().count(), MAX_TOPIC_LEVELS);
        assert_eq!(filter(&deepest).levels().count(), MAX_TOPIC_LEVELS);
        let deeper = "/".repeat(MAX_TOPIC_LEVELS);
        assert_eq!(TopicName::parse(&deeper), Err(TopicError::TooManyLevels));
        assert_eq!(TopicFilter::parse(&deeper), Err(TopicError::TooManyLevels));
        assert!(TopicName::parse_within("a/b", 2).is_ok() && TopicFilter::parse_within("a/#", 2).is_ok());
        assert_eq!(TopicName::parse_within("a/b/", 2), Err(TopicError::TooManyLevels));
        assert_eq!(TopicFilter::parse_within("a/+/#", 2), Err(TopicError::TooManyLevels));
    }

    #[test]
    fn wildcards_fill_their_level() {
        for text in ["#", "+", "/#", "+/+", "/+", "+/", "a/+/b", "a/#", "+/#", "a//#", "$SYS/#"] {
            assert_eq!(filter(text).as_str(), text);
            assert!(!filter(text).is_exact(), "{text}");
        }
        for text in ["a", "/", "a/b", "$SYS/x"] {
            assert!(filter(text).is_exact(), "{text}");
        }
    }

    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
    #[test]
    fn malformed_topic_filters_are_refused() {
        for (text, error) in [
            ("", TopicError::Empty),
            ("a/#/b", TopicError::MisplacedMultiLevelWildcard),
            ("a#", TopicError::MisplacedMultiLevelWildcard),
            ("#a", TopicError::MisplacedMultiLevelWildcard),
            ("#/", TopicError::MisplacedMultiLevelWildcard),
            ("##", TopicError::MisplacedMultiLevelWildcard),
            ("#/#", TopicError::MisplacedMultiLevelWildcard),
            ("a+", TopicError::MisplacedSingleLevelWildcard),
            ("+a/b", TopicError::MisplacedSingleLevelWildcard),
            ("++", TopicError::MisplacedSingleLevelWildcard),
            ("a/\0", TopicError::NullCharacter),
        ] {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn shared_filters_are_taken_apart() {
        for (text, share, rest) in [
            ("$share/g/f", Some("g"), "f"),
            ("$share/g//f", Some("g"), "/f"),
            ("$share/g//", Some("g"), "/"),
            ("$share/g/+/#", Some("g"), "+/#"),
            ("$share/$share/$share", Some("$share"), "$share"),
            ("$shared/g/f", None, "$shared/g/f"),
            ("/$share/g/f", None, "/$share/g/f"),
            ("$SHARE/g/f", None, "$SHARE/g/f"),
        ] {
            assert_eq!((filter(text).share(), filter(text).as_str()), (share, rest), "{text}");
        }
    }

    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    #[test]
    fn malformed_shared_filters_are_refused() {
        for (text, error) in [
            ("$share", TopicError::ShareName),
            ("$share/", TopicError::ShareName),
            ("$share//f", TopicError::ShareName),
            ("$share/+/f", TopicError::ShareName),
            ("$share/#", TopicError::ShareName),
            ("$share/g+/f", TopicError::ShareName),
            ("$share/g#/f", TopicError::ShareName),
            ("$share/g", TopicError::ShareWithoutFilter),
            ("$share/g/", TopicError::ShareWithoutFilter),
            ("$share/g/#/f", TopicError::MisplacedMultiLevelWildcard),
            ("$share/g/f+", TopicError::MisplacedSingleLevelWildcard),
        ] {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text:?}");
        }
    }

    /// The examples of section 4.7, and [MQTT-4.7.2-1].
    #[test]
    fn filters_match_as_the_standard_says() {
        for (text, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("sport/+/#", "sport", false),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/+/+", "//", true),
            ("a//b", "a/b", false),
            ("a/b", "a/b/", false),
            ("Accounts", "ACCOUNTS", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("+", "$SYS", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/#", "$SYS", true),
            ("$SYS/+", "$SYS/x", true),
            ("a/+", "a/$SYS", true),
            ("a/#", "a/$SYS", true),
        ] {
            assert_eq!(filter(text).matches(name(topic)), expected, "{text} {topic}");
        }
    }

    proptest! {
        /// Whatever is accepted has the shape that its type promises.
        #[test]
        fn parsing_accepts_only_what_the_types_promise(
            text in "[ab+#$/\0]{0,8}|[$]share[/a+#]{0,6}",
        ) {
            if let Ok(name) = TopicName::parse(&text) {
                prop_assert!(!text.is_empty() && !text.contains(['+', '#', '\0']));
                prop_assert_eq!(name.levels().collect::<Vec<_>>().join("/"), text.as_str());
            }
            if let Ok(filter) = TopicFilter::parse(&text) {
                let mut whole = String::new();
                if let Some(share) = filter.share() {
                    prop_assert!(!share.is_empty() && !share.contains(['+', '#', '/']));
                    whole = format!("$share/{share}/");
                }
                prop_assert_eq!(whole + filter.as_str(), text.as_str());
                let levels: Vec<_> = filter.levels().collect();
                let (last, others) = levels.split_last().expect("at least one level");
                prop_assert!(!last.contains('#') || *last == "#");
                prop_assert!(others.iter().all(|level| !level.contains('#')));
                prop_assert!(levels.iter().all(|level| !level.contains('+') || *level == "+"));
            }
        }
    }
}
