use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;
use crate::cli::reference;

/// What is done with these arguments, where there are these files.
fn run(arguments: &[&str], files: &[(&str, &str)]) -> Result<Action, String> {
    let arguments: Vec<OsString> = ["oncemq"].iter().chain(arguments).map(OsString::from).collect();
    action(&arguments, files_of(files)).map_err(|error| error.to_string())
}

fn files_of(files: &[(&str, &str)]) -> impl Fn(&Path) -> io::Result<String> {
    let files: HashMap<PathBuf, String> =
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    move |path| files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn serve(arguments: &[&str], text: &str) -> Result<(ServeConfig, Settings), String> {
    let arguments = [&["--config=it.toml"], arguments].concat();
    match run(&arguments, &[("it.toml", text)])? {
        Action::Serve { config, settings, .. } => Ok((*config, settings)),
        other => panic!("it serves: {other:?}"),
    }
}

fn print(arguments: &[&str], text: &str) -> String {
    let arguments = [&["config", "print", "--config", "it.toml"], arguments].concat();
    match run(&arguments, &[("it.toml", text)]) {
        Ok(Action::Print(text)) => text,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// What is in effect, in a form that can be compared.
fn shown(config: &ServeConfig) -> String {
    format!("{config:?}")
}

#[test]
fn a_flag_wins_over_the_file_and_that_over_the_default() {
    let text = "max-inflight = 5\nmax-sessions = 6\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nhuge-pages = true\n";
    let (config, _) = serve(&["--max-inflight=7"], text).expect("both are good");
    assert_eq!(config.limits.max_inflight, 7);
    assert_eq!(config.limits.max_sessions.map(u32::from), Some(6));
    assert_eq!(config.listen.len(), 2);
    assert!(config.huge_pages);
    let (config, _) = serve(&["--listen=127.0.0.1:3"], text).expect("both are good");
    assert_eq!(config.listen, ["127.0.0.1:3".parse::<SocketAddr>().expect("an address")], "all of them are replaced");
}

#[test]
fn the_file_is_found_wherever_serve_has_its_flags() {
    let files = &[("it.toml", "shards = 2\n")];
    for arguments in [
        &["--config", "it.toml"][..],
        &["serve", "--config=it.toml"],
        &["--spin-us=1", "--config", "it.toml"],
        &["--config=it.toml", "--"],
    ] {
        match run(arguments, files) {
            Ok(Action::Serve { config, .. }) => assert_eq!(config.shards.map(u16::from), Some(2), "{arguments:?}"),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
    assert!(matches!(run(&["config", "check", "--config=it.toml"], files), Ok(Action::CheckConfig { .. })));
    let missing = run(&["--config=other.toml"], files).expect_err("it is not there");
    assert!(missing.contains("--config other.toml: "), "{missing}");
}

#[test]
fn every_key_may_be_in_the_file() {
    let table = file::table();
    let (nothing, _) = serve(&[], "").expect("an empty file");
    for (key, row) in file::keys(&table) {
        let defaults: Vec<String> =
            row.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if defaults.is_empty() {
            continue;
        }
        let value = if file::is_repeatable(row) {
            super::super::toml_text::array(&defaults)
        } else {
            super::super::toml_text::value(&defaults[0])
        };
        let (config, settings) = serve(&[], &format!("{key} = {value}")).expect(key);
        assert_eq!(shown(&config), shown(&nothing), "{key}");
        assert!(settings.to_toml().contains("# it.toml:1"), "{key}");
    }
}

/// No flag requires or excludes another one in its row: then it could not come from elsewhere than that.
#[test]
fn no_flag_hangs_on_another_one_before_all_are_known() {
    let mut table = file::table();
    let flags: Vec<(String, bool)> =
        file::keys(&table).map(|(key, row)| (key.to_owned(), file::is_switch(row))).collect();
    for (key, is_switch) in flags {
        let flag = if is_switch { format!("--{key}") } else { format!("--{key}=1") };
        if let Err(error) = table.try_get_matches_from_mut(["oncemq", &flag]) {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::ValueValidation | ErrorKind::InvalidValue), "{flag}: {error}");
        }
    }
}

#[test]
fn what_does_not_fit_together_names_the_lines_of_the_file() {
    let open = "# Everybody\nlisten = \"0.0.0.0:1883\"\n";
    let refused = serve(&[], open).expect_err("nobody said so");
    assert!(
        refused.contains("--listen 0.0.0.0:1883: anyone who reaches this address")
            && refused.contains("(it.toml:2 has listen)"),
        "{refused}"
    );
    assert!(serve(&["--allow-anonymous"], open).is_ok());
    let refused =
        serve(&["--tls-listen=127.0.0.1:1", "--tls-crl=c"], "[tls]\ncertificate = \"a\"\n").expect_err("no key");
    assert!(refused.contains("--tls-key is missing") && refused.contains("it.toml:2 has tls-certificate"), "{refused}");
    let refused = serve(&["--tls-listen=127.0.0.1:1"], "[tls]\ncertificate = \"a\"\nkey = \"b\"\ncrl = \"c\"\n")
        .expect_err("no authority");
    assert!(refused.contains("--tls-client-ca") && refused.contains("it.toml:4 has tls-crl"), "{refused}");
    assert!(
        serve(
            &["--tls-client-ca=d", "--tls-listen=127.0.0.1:1"],
            "[tls]\ncertificate = \"a\"\nkey = \"b\"\ncrl = \"c\"\n"
        )
        .is_ok()
    );
    let refused = serve(&[], "\nshards = 0").expect_err("none");
    assert!(refused.contains("it.toml:2: shards = 0: allowed is a whole number from 1 to 64"), "{refused}");
}

#[test]
fn what_is_in_effect_is_printed_with_its_origin_and_reads_back_the_same() {
    let text = "max-inflight = 5\n[websocket]\norigin = [\"https://panel.example\"]\nlisten = \"127.0.0.1:8083\"\n";
    let arguments = &["--max-sessions=6", "--huge-pages"];
    let printed = print(arguments, text);
    for line in [
        "listen = [\"127.0.0.1:1883\"]  # default",
        "max-inflight = 5  # it.toml:1",
        "max-sessions = 6  # flag --max-sessions",
        "huge-pages = true  # flag --huge-pages",
        "allow-anonymous = false  # default",
        "websocket-listen = [\"127.0.0.1:8083\"]  # it.toml:4",
        "max-packet-bytes = \"1MiB\"  # default",
        "#shards  # not set",
    ] {
        assert!(printed.lines().any(|other| other == line), "{line}: {printed}");
    }
    let (config, settings) = serve(arguments, text).expect("good");
    let (again, _) = serve(&[], &printed).expect("what was printed");
    assert_eq!(shown(&again), shown(&config));
    assert!(settings.has_file());
}

#[test]
fn the_reference_has_every_key_and_its_default() {
    let text = reference::defaults();
    let (nothing, _) = serve(&[], "").expect("an empty file");
    let (config, _) = serve(&[], &text).expect("the reference");
    assert_eq!(shown(&config), shown(&nothing));
    let table = file::table();
    for (key, row) in file::keys(&table) {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("#{key} = ")))
            .unwrap_or_else(|| panic!("{key}: {text}"));
        if !row.get_default_values().is_empty() {
            let (config, _) = serve(&[], &line[1..]).expect(line);
            assert_eq!(shown(&config), shown(&nothing), "{line}");
        }
    }
    assert!(text.contains("\n# Largest packet accepted [1KiB..=128MiB]\n# BYTES; ONCEMQ_MAX_PACKET_BYTES\n#max-packet-bytes = \"1MiB\"\n"), "{text}");
}

/// A broker that was started with one text and finds another one.
fn reload_from(arguments: &[&str], one: &str, other: &str) -> Result<Reload, String> {
    let (_, running) = serve(arguments, one).expect("it was started");
    let arguments: Vec<OsString> = ["oncemq", "--config=it.toml"].iter().chain(arguments).map(OsString::from).collect();
    reload(&arguments, files_of(&[("it.toml", other)]), &running)
}

#[test]
fn what_can_change_changes_and_the_rest_is_named() {
    let one = "log-level = \"info\"\nmax-inflight = 5\nshards = 2\n";
    let other = "log-level = \"debug\"\nmax-inflight = 6\npassword-file = \"people\"\nspin-us = 0\n";
    let Reload { config, log_level, settings, waiting } =
        reload_from(&["--max-sessions=3"], one, other).expect("both are good");
    assert_eq!((log_level, config.limits.max_inflight, config.shards.map(u16::from)), (LogLevel::Debug, 5, Some(2)));
    assert_eq!(config.access.password_file, Some("people".into()));
    assert_eq!(config.limits.max_sessions.map(u32::from), Some(3));
    assert_eq!(
        waiting,
        ["shards = nothing takes a restart; 2 stays in use", "max-inflight = 6 takes a restart; 5 stays in use"]
    );
    let arguments = ["oncemq", "--config=it.toml", "--max-sessions=3"].map(OsString::from);
    let again = reload(&arguments, files_of(&[("it.toml", one)]), &settings).expect("back again");
    assert_eq!((again.waiting.len(), again.log_level, again.config.access.password_file), (0, LogLevel::Info, None));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    for (one, other, part) in [
        ("", "shards = 0", "it.toml:1: shards = 0: allowed"),
        ("", "shards = 1\nshards = 2", "duplicate key"),
        ("", "listen = \"0.0.0.0:1\"", "--listen 0.0.0.0:1: anyone"),
        // It would be good for a start, but opens the listener that is there.
        (
            "listen = \"0.0.0.0:1\"\npassword-file = \"people\"",
            "listen = \"127.0.0.1:1\"",
            "with what takes a restart, --listen 0.0.0.0:1: anyone",
        ),
    ] {
        let refused = reload_from(&[], one, other).expect_err(other);
        assert!(refused.contains(part), "{other}: {refused}");
    }
}
