//! The configuration file of the real process: who wins over whom, what `oncemq config` says, and what SIGHUP changes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::CONNACK_V311;
use crate::broker::{Broker, DataDirectory, connect, read_exactly, refused_start};

/// A configuration file, removed with its directory.
struct Configuration {
    directory: DataDirectory,
}

impl Configuration {
    fn new(text: &str) -> Self {
        let directory = DataDirectory::new();
        fs::create_dir(directory.path()).expect("a new directory");
        let configuration = Self { directory };
        configuration.write(text);
        configuration
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("oncemq.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("written");
    }

    /// Another file beside it.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("a readable name").to_owned()
    }
}

fn oncemq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncemq"));
    command.env_remove("ONCEMQ_CONFIG");
    command
}

fn text_of(output: &Output) -> (String, String) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
    let file = Configuration::new(
        "shards = 2\nspin-us = 2\nmax-inflight = 2\nhuge-pages = true\n[websocket]\npath = \"/file\"\n",
    );
    let path = file.path();
    let name = path.display();
    let print = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = oncemq();
        command.args(["config", "print"]).args(flags).envs(variables.iter().copied());
        text_of(&command.output().expect("it can be started")).0
    };
    let variables =
        [("ONCEMQ_SHARDS", "3"), ("ONCEMQ_SPIN_US", "3"), ("ONCEMQ_LINGER", "3s"), ("ONCEMQ_HUGE_PAGES", "false")];
    let flags = ["--shards=4", "--linger=4s", "--max-inflight=4"];
    let config = path.to_str().expect("a readable name");
    // By flag or by variable: it is the same file.
    for all in [
        print(&[&["--config", config], &flags[..]].concat(), &variables),
        print(&flags, &[&[("ONCEMQ_CONFIG", config)], &variables[..]].concat()),
    ] {
        for line in [
            "shards = 4  # flag --shards".to_owned(),               // over all others
            "linger = \"4s\"  # flag --linger".to_owned(),          // over the environment
            "max-inflight = 4  # flag --max-inflight".to_owned(),   // over the file
            "spin-us = 3  # environment ONCEMQ_SPIN_US".to_owned(), // over the file
            "huge-pages = false  # environment ONCEMQ_HUGE_PAGES".to_owned(),
            format!("websocket-path = \"/file\"  # {name}:6"), // over the default
            "receive-maximum = 1000  # default".to_owned(),
        ] {
            assert!(all.lines().any(|other| other == line), "{line}: {all}");
        }
    }
}

#[test]
fn the_reference_and_what_is_in_effect_pass_the_check() {
    let file = Configuration::new("max-inflight = 2\n");
    for words in
        [&["config", "defaults"][..], &["config", "print", "--config", file.path().to_str().expect("a readable name")]]
    {
        let (text, _) = text_of(&oncemq().args(words).output().expect("it can be started"));
        let printed = Configuration::new(&text);
        let output =
            oncemq().args(["config", "check", "--config"]).arg(printed.path()).output().expect("it can be started");
        assert_eq!(text_of(&output), ("ok\n".to_owned(), String::new()));
    }
}

#[test]
fn the_check_looks_into_the_files_that_are_named() {
    let file = Configuration::new("");
    let people = file.file("people", "alice\n");
    for (text, part) in [
        (format!("password-file = {people:?}"), "people: line 1"),
        (
            "[tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"/nowhere\"\nkey = \"/nowhere\"".to_owned(),
            "--tls-certificate /nowhere",
        ),
        ("listen = \"192.0.2.1:1883\"".to_owned(), "oncemq.toml:1 has listen"),
        ("\nmax-inflihgt = 3".to_owned(), "oncemq.toml:2: there is no key max-inflihgt; did you mean max-inflight?"),
    ] {
        file.write(&text);
        let path = file.path();
        let (code, said) = refused_start(&["config", "check", "--config", path.to_str().expect("a readable name")]);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(part), "{text}: {said}");
    }
}

#[test]
fn what_can_change_changes_on_request() {
    let data = DataDirectory::new();
    let file = Configuration::new(
        "log-level = \"info\"\nmax-inflight = 5\nlisten = \"127.0.0.1:0\"\nsegment-bytes = \"1MiB\"\n",
    );
    let mut command = oncemq();
    command.arg("--config").arg(file.path()).args(["--data-dir", data.as_str()]);
    let broker = Broker::run(command);
    let mut client = broker.connect();
    client.write_all(&connect(4, "sensor")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut client), CONNACK_V311);

    let people = file.file("people", "");
    let text = format!(
        "log-level = \"debug\"\nmax-inflight = 6\nlisten = \"127.0.0.1:0\"\nsegment-bytes = \"1MiB\"\npassword-file = {people:?}\n"
    );
    file.write(&text);
    broker.signal("HUP");
    broker.wait_for_line("log level: debug");
    broker.wait_for_line("max-inflight = 6 takes a restart; 5 stays in use");
    broker.wait_for_line("access: 0 accounts of ");
    // Nobody has an account now, and the log tells of each that is sent away.
    let mut refused = broker.connect();
    refused.write_all(&connect(4, "other")).expect("sent");
    assert_eq!(read_exactly::<4>(&mut refused), [0x20, 2, 0, 5]);
    broker.wait_for_line("is refused");

    file.write("log-level = \"loud\"");
    broker.signal("HUP");
    let line = broker.wait_for_line("nothing is changed");
    assert!(line.contains("oncemq.toml:1: log-level = loud: allowed is error, warn, info, debug, trace"), "{line}");
    file.write(&text.replace(&people, "/nowhere").replace("debug", "error"));
    broker.signal("HUP");
    let line = broker.wait_for_line("nothing is changed");
    assert!(line.contains("--password-file /nowhere: "), "{line}");
    client.write_all(&[0xC0, 0]).expect("sent");
    assert_eq!(read_exactly::<2>(&mut client), [0xD0, 0], "who was there is still served");

    file.write(&text.replace("debug", "error"));
    broker.signal("HUP");
    broker.signal("USR1");
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("counters"), "they are of a level that is not logged: {log}");
}

#[test]
fn a_mosquitto_conf_is_converted_with_what_it_includes() {
    let file = Configuration::new("");
    fs::create_dir(file.directory.path().join("conf.d")).expect("a new directory");
    file.file("conf.d/a.conf", "allow_anonymous true\nsys_interval 7\n");
    let include = file.directory.path().join("conf.d");
    let text = format!("listener 1883 127.0.0.1\npid_file /x\ninclude_dir {}\n", include.display());
    let main = file.file("mosquitto.conf", &text);
    let (converted, said) =
        text_of(&oncemq().args(["config", "from-mosquitto", &main]).output().expect("it can be started"));
    assert_eq!(said, "oncemq: 4 lines carried over, 1 not needed, 0 not carried over\n");
    file.write(&converted);
    let checked = oncemq().args(["config", "print", "--config"]).arg(file.path()).output().expect("it can be started");
    assert!(text_of(&checked).0.contains("sys-interval = 7  # "), "{converted}");

    let weaker = file.file("weaker.conf", &format!("{text}psk_file /x\n"));
    let (code, said) = refused_start(&["config", "from-mosquitto", &weaker]);
    assert_eq!(code, Some(1));
    assert!(said.contains("1 of them about security"), "{said}");
}
