//! Putting together what flags, environment and configuration file say.
//!
//! The arguments are read twice. The first time tells which flags were given, there or by the environment, and where the file
//! is. For every other key of the file its flag is added to the arguments, and these are read again: whatever holds for a flag
//! thus holds for the key.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use super::file::{self, ConfigurationFile};
use super::{Action, CONFIG, Cli, LogLevel, Settings};
use crate::config::ServeConfig;

/// What is to be done after the sources were read again by a broker that runs.
#[derive(Debug)]
pub struct Reload {
    /// How to serve, with all that can't change as it was.
    pub config: Box<ServeConfig>,
    /// How much to tell about it.
    pub log_level: LogLevel,
    /// The same as it was told.
    pub settings: Settings,
    /// What was told and takes a restart, key by key, in words.
    pub waiting: Vec<String>,
}

/// What the process was started for, as these arguments (with its name in front), its environment and the configuration file
/// say, which `read` reads.
///
/// # Errors
/// If something of that is wrong, or does not fit together.
pub fn action(arguments: &[OsString], read: impl Fn(&Path) -> io::Result<String>) -> Result<Action, clap::Error> {
    load(arguments, read)?.into_action()
}

/// Reads again what a broker was told that runs with these settings.
///
/// # Errors
/// If something of that is wrong, does not fit together, or does not fit to what can't change.
pub fn reload(
    arguments: &[OsString],
    read: impl Fn(&Path) -> io::Result<String>,
    running: &Settings,
) -> Result<Reload, String> {
    let text = |error: clap::Error| file::first_line(&error);
    let told = load(arguments, read).map_err(text)?;
    let (settings, waiting) = running.changed_to(told.settings.clone());
    told.into_action().map_err(text)?;
    let words = ["oncemq".to_owned()].into_iter().chain(settings.arguments());
    let merged = Cli::try_parse_from(words).and_then(Cli::into_action);
    match merged.map_err(|error| format!("with what takes a restart, {}", text(error)))? {
        Action::Serve { config, log_level, .. } => Ok(Reload { config, log_level, settings, waiting }),
        other => unreachable!("flags without a command serve: {other:?}"),
    }
}

fn load(arguments: &[OsString], read: impl Fn(&Path) -> io::Result<String>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let told = command.try_get_matches_from_mut(arguments)?;
    let mut cli = Cli::from_arg_matches(&told).map_err(|error| error.format(&mut command))?;
    let Some(serve) = cli.serve_arguments() else { return Ok(cli) };
    let (depth, told) = innermost(&told);
    let Some(path) = &serve.config else {
        cli.settings = Settings::new(told, told, None);
        return Ok(cli);
    };
    let text = read(path).map_err(|error| format!("--{CONFIG} {}: {error}", path.display()));
    let file = text.and_then(|text| ConfigurationFile::parse(path, &text));
    let file = file.map_err(|text| command.error(ErrorKind::ValueValidation, text))?;
    let table = file::table();
    let is_told = |key: &str| {
        let row = file::keys(&table).find(|(name, _)| *name == key);
        let source = row.and_then(|(_, row)| told.value_source(row.get_id().as_str()));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let added: Vec<OsString> = file.arguments(|key| !is_told(key)).map(OsString::from).collect();
    // Behind the name of the process and the command, before the flags.
    let (front, flags) = arguments.split_at(arguments.len().min(1 + depth));
    let all = command.try_get_matches_from_mut([front, &added, flags].concat())?;
    cli = Cli::from_arg_matches(&all).map_err(|error| error.format(&mut command))?;
    cli.settings = Settings::new(innermost(&all).1, told, Some(&file));
    Ok(cli)
}

/// What was matched for the innermost command, and how deep that is.
fn innermost(matches: &ArgMatches) -> (usize, &ArgMatches) {
    match matches.subcommand() {
        None => (0, matches),
        Some((_, inner)) => {
            let (depth, innermost) = innermost(inner);
            (depth + 1, innermost)
        }
    }
}

#[cfg(test)]
mod tests;
