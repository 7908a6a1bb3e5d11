//! The configuration file: TOML whose keys are the flags of `serve`, read into what could as well have been said with flags.
//!
//! A key is a flag without the dashes in front; `_` counts as `-`. A table is a prefix: `certificate` in `[tls]` is `tls-certificate`.
//! What a value may be is decided by the row of the flag, which also yields the reason of a refusal; here it gets the place.
//! Nothing is known here of files, of other sources, and of what flags mean together.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args};
use toml::de::{DeTable, DeValue};

use super::{CONFIG, ServeArguments};

/// What a configuration file says, checked key by key.
#[derive(Debug)]
pub(super) struct ConfigurationFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// One key of a configuration file.
#[derive(Debug)]
struct Entry {
    /// The flag without dashes in front.
    key: String,
    /// The line that it stands in, from 1 on.
    line: usize,
    /// Its values as the flag takes them; more than one only where the flag may be repeated.
    values: Vec<String>,
    is_switch: bool,
}

/// The table of flags that can be keys.
pub(super) fn table() -> clap::Command {
    let plain = clap::Command::new("oncemq").disable_help_flag(true).disable_version_flag(true);
    ServeArguments::augment_args(plain)
}

/// The keys of that table, each with its row.
pub(super) fn keys(table: &clap::Command) -> impl Iterator<Item = (&str, &Arg)> {
    table.get_arguments().filter_map(|row| row.get_long().map(|key| (key, row))).filter(|(key, _)| *key != CONFIG)
}

/// Whether the flag is given without a value.
pub(super) fn is_switch(row: &Arg) -> bool {
    matches!(row.get_action(), ArgAction::SetTrue)
}

/// Whether the flag may be repeated.
pub(super) fn is_repeatable(row: &Arg) -> bool {
    matches!(row.get_action(), ArgAction::Append)
}

/// What is said on the command line for the values of a key.
pub(super) fn arguments<'a>(
    key: &'a str,
    is_switch: bool,
    values: &'a [impl AsRef<str>],
) -> impl Iterator<Item = String> + 'a {
    values.iter().filter_map(move |value| match (is_switch, value.as_ref()) {
        (true, "true") => Some(format!("--{key}")),
        (true, _) => None,
        (false, value) => Some(format!("--{key}={value}")),
    })
}

/// Why these values may not be said on the command line, by the row of the flag.
pub(super) fn check<T: AsRef<str>>(
    table: &mut clap::Command,
    key: &str,
    is_switch: bool,
    values: &[T],
) -> Result<(), String> {
    let words = ["oncemq".to_owned()].into_iter().chain(arguments(key, is_switch, values));
    match table.try_get_matches_from_mut(words) {
        Ok(_) => Ok(()),
        Err(error) => Err(reason(&error)),
    }
}

/// What is wrong with a value, without what the place says already.
fn reason(error: &clap::Error) -> String {
    let allowed = error.get(ContextKind::ValidValue);
    match (error.kind(), error.source(), allowed) {
        (ErrorKind::ValueValidation, Some(source), _) => source.to_string(),
        (ErrorKind::InvalidValue, _, Some(ContextValue::Strings(allowed))) if !allowed.is_empty() => {
            format!("allowed is {}", allowed.join(", "))
        }
        (ErrorKind::InvalidValue, _, _) => "allowed is a value that is not empty".to_owned(),
        _ => first_line(error),
    }
}

/// The first line of an error, without what clap puts in front of it.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl ConfigurationFile {
    /// Reads the text of a file of this name.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let at =
            |offset: usize| 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
        let place = |line: usize| format!("{}:{line}", path.display());
        let document = DeTable::parse(text).map_err(|error| {
            let line = at(error.span().map_or(0, |span| span.start));
            format!("{}: {}", place(line), error.message())
        })?;
        let mut found = Vec::new();
        flatten("", document.get_ref(), &mut found);
        found.sort_by_key(|(_, offset, _)| *offset);
        let mut table = table();
        let mut entries: Vec<Entry> = Vec::with_capacity(found.len());
        for (key, offset, value) in found {
            let line = at(offset);
            let entry = read_entry(&mut table, key, line, value).map_err(|text| format!("{}: {text}", place(line)))?;
            if let Some(other) = entries.iter().find(|other| other.key == entry.key) {
                return Err(format!("{}: {} stands in line {} already", place(line), entry.key, other.line));
            }
            entries.push(entry);
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The line in which a key stands.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.line)
    }

    /// What would have to be said on the command line for the keys that are wanted.
    pub(super) fn arguments(&self, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let wanted = self.entries.iter().filter(move |entry| is_wanted(&entry.key));
        wanted.flat_map(|entry| arguments(&entry.key, entry.is_switch, &entry.values))
    }
}

/// Collects the values of a table and of those in it, each with its key and where that stands.
fn flatten<'a>(prefix: &str, table: &'a DeTable<'_>, found: &mut Vec<(String, usize, &'a DeValue<'a>)>) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref().replace('_', "-"));
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&format!("{key}-"), inner, found),
            value => found.push((key, name.span().start, value)),
        }
    }
}

fn read_entry(table: &mut clap::Command, key: String, line: usize, value: &DeValue<'_>) -> Result<Entry, String> {
    let row = keys(table).find(|(name, _)| *name == key).map(|(_, row)| (is_switch(row), is_repeatable(row)));
    let Some((is_switch, is_repeatable)) = row else {
        let suggestion = match suggestion(table, &key) {
            Some(name) => format!("did you mean {name}?"),
            None => "`oncemq config defaults` lists all".to_owned(),
        };
        return Err(format!("there is no key {key}; {suggestion}"));
    };
    let refuse = |given: String, reason: &str| Err(format!("{key} = {given}: {reason}"));
    let values = match value {
        DeValue::Boolean(truth) if is_switch => vec![truth.to_string()],
        DeValue::Array(items) if is_repeatable && !items.is_empty() => {
            match items.iter().map(|item| scalar(item.get_ref())).collect() {
                Some(values) => values,
                None => return refuse("[...]".to_owned(), "allowed are strings, numbers and booleans in it"),
            }
        }
        DeValue::Array(_) if is_repeatable => return refuse("[]".to_owned(), "allowed is at least one value"),
        DeValue::Array(_) => return refuse("[...]".to_owned(), "allowed is one value"),
        other => match scalar(other) {
            Some(given) if is_switch => return refuse(given, "allowed is true or false"),
            Some(given) => vec![given],
            None => return refuse("...".to_owned(), "allowed is a string, a number or a boolean"),
        },
    };
    match check(table, &key, is_switch, &values) {
        Ok(()) => Ok(Entry { key, line, values, is_switch }),
        Err(reason) => refuse(values.join(", "), &reason),
    }
}

/// A value as a flag would be given it.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(number.to_string()),
            Err(_) => Some(number.to_string()),
        },
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The key that was probably meant, as clap would suggest a flag.
fn suggestion(table: &mut clap::Command, key: &str) -> Option<String> {
    let error = table.try_get_matches_from_mut(["oncemq".to_owned(), format!("--{key}=x")]).err()?;
    let suggested = match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => flag.trim_start_matches('-').split([' ', '=']).next()?.to_owned(),
        _ => return None,
    };
    (suggested != CONFIG).then_some(suggested)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, String> {
        ConfigurationFile::parse(Path::new("it.toml"), text).map(|file| file.arguments(|_| true).collect())
    }

    #[test]
    fn keys_are_flags_and_tables_are_prefixes() {
        for (text, expected) in [
            ("", &[][..]),
            ("# nothing\n[tls]\n", &[]),
            ("shards = 2", &["--shards=2"]),
            ("shards = \"2\"", &["--shards=2"]),
            ("max-packet-bytes = 0x10_00\nlinger = \"2s\"", &["--max-packet-bytes=4096", "--linger=2s"]),
            ("max_packet_bytes = 1_024", &["--max-packet-bytes=1024"]),
            ("huge-pages = true", &["--huge-pages"]),
            ("huge-pages = false", &[]),
            ("retain-available = false", &["--retain-available=false"]),
            ("listen = \"127.0.0.1:1,[::1]:2\"", &["--listen=127.0.0.1:1,[::1]:2"]),
            ("listen = [\"127.0.0.1:1\", \"[::1]:2\"]", &["--listen=127.0.0.1:1", "--listen=[::1]:2"]),
            ("tls.min_version = 1.3", &["--tls-min-version=1.3"]),
            (
                "[max]\nsessions = 1\n[websocket]\ntls.listen = [\"[::1]:2\"]",
                &["--max-sessions=1", "--websocket-tls-listen=[::1]:2"],
            ),
        ] {
            assert_eq!(
                parse(text).as_deref(),
                Ok(&expected.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_file_line_key_value_and_what_is_allowed() {
        for (text, parts) in [
            ("\n\nshards = 65", &["it.toml:3: shards = 65: allowed is a whole number from 1 to 64"][..]),
            (
                "[max]\n# packets\npacket-bytes = \"many\"",
                &["it.toml:3: max-packet-bytes = many: allowed is a size (B, KiB"],
            ),
            (
                "listen = [\"127.0.0.1:1\", \"localhost\"]",
                &["it.toml:1: listen = 127.0.0.1:1, localhost: allowed is an IP"],
            ),
            ("listen = []", &["listen = []: allowed is at least one value"]),
            ("listen = [[]]", &["listen = [...]: allowed are strings, numbers"]),
            ("shards = [1]", &["shards = [...]: allowed is one value"]),
            ("linger = 2026-01-01", &["linger = ...: allowed is a string, a number or a boolean"]),
            ("linger = 1.5", &["linger = 1.5: allowed is a duration"]),
            ("shards = 99999999999999999999", &["shards = 99999999999999999999: allowed is a whole number"]),
            ("spin-us = -1", &["spin-us = -1: allowed is a whole number"]),
            ("huge-pages = \"yes\"", &["huge-pages = yes: allowed is true or false"]),
            ("huge-pages = 1", &["huge-pages = 1: allowed is true or false"]),
            ("retain-available = \"maybe\"", &["retain-available = maybe: allowed is true, false"]),
            ("log-level = \"loud\"", &["log-level = loud: allowed is error, warn, info, debug, trace"]),
            ("data-dir = \"\"", &["data-dir = : allowed is a value that is not empty"]),
            ("shards = 1\nshard = 2", &["it.toml:2: there is no key shard; did you mean shards?"]),
            ("max_packet_byte = 2", &["there is no key max-packet-byte; did you mean max-packet-bytes?"]),
            ("zzz = 2", &["there is no key zzz; `oncemq config defaults` lists all"]),
            ("help = true", &["there is no key help"]),
            ("version = true", &["there is no key version"]),
            ("config = \"other.toml\"", &["there is no key config"]),
            ("[[bridge]]\nname = 1", &["it.toml:1: bridge = [...]: allowed are strings"]),
            ("tls-key = \"a\"\n[tls]\nkey = \"b\"", &["it.toml:3: tls-key stands in line 1 already"]),
            ("max_inflight = 1\nmax-inflight = 2", &["it.toml:2: max-inflight stands in line 1 already"]),
            ("shards = 1\nshards = 2", &["it.toml:2: duplicate key"]),
            ("shards = 1\n\nlisten 2", &["it.toml:3: "]),
        ] {
            let refused = parse(text).expect_err(text);
            for part in parts {
                assert!(refused.contains(part), "{text}: {refused}");
            }
        }
    }

    proptest::proptest! {
        /// Whatever stands in it, it is read or refused with its place.
        #[test]
        fn all_texts_are_read_or_refused(text in "([a-z_-]{1,6}|shards|tls|listen|[=\\[\\]{}\"'.,#\n ]|[0-9]{1,3}|true|\\PC){0,40}") {
            if let Err(refused) = parse(&text) {
                proptest::prop_assert!(refused.starts_with("it.toml:"), "{text}: {refused}");
            }
        }
    }
}
