//! The configuration file that says everything there is to say: each key with what it means, its unit, bounds and default.
//!
//! It is made of the table of flags, so that it can't say anything else than `--help`. All keys are commented out: who keeps the
//! file gets the defaults of later versions.

use std::fmt::Write;

use super::file::{is_repeatable, keys, table};
use super::toml_text::{array, comment, value};

const INTRODUCTION: &str = "Every key of a configuration file of oncemq, with its default. Each is also a flag (--KEY) and an \
    environment variable: flags win over the environment, that over the file. Sizes take B, KiB, MiB or GiB, durations ms, s or m; a \
    bare number is bytes or seconds. A table is a prefix: `certificate` in [tls] is tls-certificate.";

/// The text of that file.
pub(super) fn defaults() -> String {
    let mut text = comment(INTRODUCTION);
    let table = table();
    for (key, row) in keys(&table) {
        let help = row.get_long_help().or(row.get_help()).map(ToString::to_string).unwrap_or_default();
        let names = row.get_value_names().unwrap_or_default();
        let unit =
            if row.get_action().takes_values() { names.first().map_or("", |name| name.as_str()) } else { "true|false" };
        let variable = row.get_env().map(|name| name.to_string_lossy()).unwrap_or_default();
        let defaults: Vec<_> = row.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let example = match (defaults.is_empty(), is_repeatable(row)) {
            (true, true) => array(&[unit]),
            (true, false) => value(unit),
            (false, true) => array(&defaults),
            (false, false) => value(&defaults[0]),
        };
        let set = if defaults.is_empty() { " (not set)" } else { "" };
        // Writing into a String cannot fail.
        let _ =
            write!(text, "\n{}{}#{key} = {example}\n", comment(&help), comment(&format!("{unit}; {variable}{set}")));
    }
    text
}
