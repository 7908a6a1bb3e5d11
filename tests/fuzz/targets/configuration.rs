//! A configuration file: it is refused with its place, or read; and what `config print` makes of it means the same.
#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use oncemq::cli::{Action, action};
use oncemq::config::ServeConfig;
use oncemq_fuzz::text;

fuzz_target!(|input: &[u8]| {
    let Some(text) = text(input) else { return };
    let Some(config) = read(text) else { return };
    let printed = match told("print", text) {
        Ok(Action::Print(printed)) => printed,
        other => panic!("what can be served can be printed: {other:?}"),
    };
    let again = read(&printed).expect("what was printed is read");
    assert_eq!(format!("{config:?}"), format!("{again:?}"), "{printed}");
});

fn read(text: &str) -> Option<Box<ServeConfig>> {
    match told("check", text) {
        Ok(Action::CheckConfig { config }) => Some(config),
        Ok(other) => panic!("it is checked: {other:?}"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn told(command: &str, text: &str) -> Result<Action, Box<dyn std::error::Error>> {
    let arguments = ["oncemq", "config", command, "--config=it.toml"].map(OsString::from);
    Ok(action(&arguments, |_| Ok(text.to_owned()))?)
}
