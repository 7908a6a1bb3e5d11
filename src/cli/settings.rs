//! What `serve` was told in the end, value by value, and by whom.
//!
//! Values are kept as they were written, not as what they mean: they are to be shown, compared, and said again.

use std::fmt::Write;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::file::{self, ConfigurationFile};
use super::toml_text;

/// The keys whose new values are used from SIGHUP on; all others take a restart.
const LIVE: [&str; 9] = [
    "allow-anonymous",
    "log-level",
    "password-file",
    "tls-certificate",
    "tls-client-ca",
    "tls-crl",
    "tls-identity",
    "tls-key",
    "tls-min-version",
];

/// What `serve` was told, by whomever.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    file: Option<PathBuf>,
    settings: Vec<Setting>,
}

/// What is used for one key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Setting {
    key: String,
    shape: Shape,
    /// None if nothing was said and there is no default.
    values: Vec<String>,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Switch,
    One,
    Several,
}

/// Who has said it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    Flag,
    /// The variable of this name.
    Environment(String),
    /// This line of the file.
    File(usize),
    /// Nobody.
    Default,
}

impl Settings {
    /// What all say together (`matches`), where flags and environment alone are `told`.
    pub(super) fn new(matches: &ArgMatches, told: &ArgMatches, file: Option<&ConfigurationFile>) -> Self {
        let table = file::table();
        let settings = file::keys(&table).map(|(key, row)| {
            let id = row.get_id().as_str();
            let raw = matches.get_raw(id).into_iter().flatten();
            let line = file.and_then(|file| file.line_of(key));
            let origin = match (told.value_source(id), row.get_env(), line) {
                (Some(ValueSource::CommandLine), _, _) => Origin::Flag,
                (Some(ValueSource::EnvVariable), Some(variable), _) => {
                    Origin::Environment(variable.to_string_lossy().into_owned())
                }
                (_, _, Some(line)) => Origin::File(line),
                (_, _, None) => Origin::Default,
            };
            let shape = match (file::is_switch(row), file::is_repeatable(row)) {
                (true, _) => Shape::Switch,
                (false, true) => Shape::Several,
                (false, false) => Shape::One,
            };
            let values = raw.map(|value| value.to_string_lossy().into_owned()).collect();
            Setting { key: key.to_owned(), shape, values, origin }
        });
        Self { file: file.map(|file| file.path().to_owned()), settings: settings.collect() }
    }

    /// Whether a configuration file is among those who said it.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// All of it as a configuration file.
    pub(super) fn to_toml(&self) -> String {
        let file = self.file_name();
        let mut text =
            "# What `oncemq serve` is told: flags win over the environment, that over the file, that over defaults.\n"
                .to_owned();
        for setting in &self.settings {
            let origin = match &setting.origin {
                Origin::Flag => format!("flag --{}", setting.key),
                Origin::Environment(variable) => format!("environment {variable}"),
                Origin::File(line) => format!("{file}:{line}"),
                Origin::Default => "default".to_owned(),
            };
            // Writing into a String cannot fail.
            let _ = match setting.value() {
                Some(value) => writeln!(text, "{} = {value}  # {}", setting.key, toml_text::one_line(&origin)),
                None => writeln!(text, "#{}  # not set", setting.key),
            };
        }
        text
    }

    /// All of it as flags.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        self.settings
            .iter()
            .flat_map(|setting| file::arguments(&setting.key, setting.shape == Shape::Switch, &setting.values))
    }

    /// What is to be used after these were `told` to a broker that runs, and in words what of them takes a restart.
    pub(super) fn changed_to(&self, told: Self) -> (Self, Vec<String>) {
        let mut waiting = Vec::new();
        let settings = self.settings.iter().zip(told.settings).map(|(running, told)| {
            if running.values == told.values || LIVE.contains(&told.key.as_str()) {
                return told;
            }
            let shown = |setting: &Setting| setting.value().unwrap_or_else(|| "nothing".to_owned());
            waiting.push(format!("{} = {} takes a restart; {} stays in use", told.key, shown(&told), shown(running)));
            running.clone()
        });
        (Self { settings: settings.collect(), file: told.file }, waiting)
    }

    /// A text about flags with the places of those in the file that it names.
    pub(super) fn with_places(&self, text: &str) -> String {
        let file = self.file_name();
        let places = self.settings.iter().filter_map(|setting| match setting.origin {
            Origin::File(line) if names_flag(text, &setting.key) => Some(format!("{file}:{line} has {}", setting.key)),
            Origin::File(_) | Origin::Flag | Origin::Environment(_) | Origin::Default => None,
        });
        let places: Vec<String> = places.collect();
        if places.is_empty() { text.to_owned() } else { format!("{text} ({})", places.join(", ")) }
    }

    fn file_name(&self) -> String {
        self.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

impl Setting {
    /// What would stand behind the key in a file.
    fn value(&self) -> Option<String> {
        match (self.shape, self.values.as_slice()) {
            (_, []) => None,
            (Shape::Several, values) => Some(toml_text::array(values)),
            (Shape::Switch | Shape::One, [value, ..]) => Some(toml_text::value(value)),
        }
    }
}

/// Whether a text names a flag, and not one whose name only begins like it.
fn names_flag(text: &str, key: &str) -> bool {
    let flag = format!("--{key}");
    text.match_indices(&flag).any(|(at, _)| {
        let next = text[at + flag.len()..].chars().next();
        next.is_none_or(|next| next != '-' && !next.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_live_are_keys() {
        let table = file::table();
        for key in LIVE {
            assert!(file::keys(&table).any(|(name, _)| name == key), "{key}");
        }
    }

    #[test]
    fn a_flag_is_not_found_in_a_longer_one() {
        for (text, expected) in [
            ("--tls-key is missing", true),
            ("give --tls-key", true),
            ("--tls-keys", false),
            ("--tls-key-x", false),
            ("tls-key", false),
        ] {
            assert_eq!(names_flag(text, "tls-key"), expected, "{text}");
        }
    }
}
