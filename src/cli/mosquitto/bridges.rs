//! mosquitto's bridges, as far as ours can be told the same.
//!
//! One that would have been encrypted is left out: it is not made up for by one that is not.

use std::collections::BTreeMap;

use super::Line;
use super::output::Output;

const OPTIONS: [&str; 37] = [
    "address",
    "addresses",
    "bridge_alpn",
    "bridge_attempt_unsubscribe",
    "bridge_bind_address",
    "bridge_cafile",
    "bridge_capath",
    "bridge_certfile",
    "bridge_identity",
    "bridge_insecure",
    "bridge_keyfile",
    "bridge_max_packet_size",
    "bridge_max_topic_alias",
    "bridge_outgoing_retain",
    "bridge_protocol_version",
    "bridge_psk",
    "bridge_reload_type",
    "bridge_require_ocsp",
    "bridge_tcp_keepalive",
    "bridge_tls_version",
    "cleansession",
    "clientid",
    "idle_timeout",
    "keepalive_interval",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "remote_clientid",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "try_private",
];

/// Options that go by two names.
const CREDENTIALS: [&str; 5] = ["password", "remote_password", "remote_username", "username", "topic"];

/// What says that a bridge speaks TLS.
const TLS: [&str; 5] = ["bridge_cafile", "bridge_capath", "bridge_certfile", "bridge_identity", "bridge_psk"];

/// Whether this is about a bridge.
pub(super) fn is_option(word: &str) -> bool {
    OPTIONS.contains(&word) || CREDENTIALS.contains(&word)
}

/// The bridges in their order.
#[derive(Default)]
pub(super) struct Bridges {
    bridges: Vec<Bridge>,
}

struct Bridge {
    connection: Line,
    options: BTreeMap<String, Line>,
    topics: Vec<Line>,
}

impl Bridges {
    pub(super) fn open(&mut self, connection: Line) {
        self.bridges.push(Bridge { connection, options: BTreeMap::new(), topics: Vec::new() });
    }

    pub(super) fn add(&mut self, line: Line, output: &mut Output) {
        match self.bridges.last_mut() {
            None => output.left_out(&line, "it stands in front of all connections"),
            Some(bridge) if line.word == "topic" => bridge.topics.push(line),
            Some(bridge) => output.replaced(bridge.options.insert(line.word.clone(), line)),
        }
    }

    pub(super) fn finish(self, output: &mut Output) {
        self.bridges.iter().for_each(|bridge| bridge.finish(output));
    }
}

impl Bridge {
    fn finish(&self, output: &mut Output) {
        if let Some(line) = TLS.iter().find_map(|option| self.options.get(*option)) {
            output.left_out_of_security(
                &self.connection,
                &format!("bridges do not speak TLS, which {} asks for", line.word),
            );
            return self.leave_out(output);
        }
        let name = name(&self.connection.rest);
        let value = self.value(&name).and_then(|value| output.try_value("bridge", &value).map(|()| value));
        let topics: Vec<(&Line, Result<String, String>)> =
            self.topics.iter().map(|line| (line, topic(&name, line))).collect();
        let value = match value {
            Ok(value) if topics.iter().any(|(_, topic)| topic.is_ok()) => value,
            Ok(_) => {
                output.left_out(&self.connection, "none of its topics can be carried over");
                return self.leave_out(output);
            }
            Err(reason) => {
                output.left_out(&self.connection, &reason);
                return self.leave_out(output);
            }
        };
        output.add(&self.connection, "bridge", &value);
        for (line, topic) in topics {
            match topic {
                Ok(topic) => output.add(line, "bridge-topic", &topic),
                Err(reason) => output.left_out(line, &reason),
            }
        }
        self.options.values().for_each(|line| self.say(line, output));
    }

    fn leave_out(&self, output: &mut Output) {
        for line in self.options.values().chain(&self.topics) {
            output.left_out(line, "its connection is not carried over");
        }
    }

    /// What `--bridge` takes for it.
    fn value(&self, name: &str) -> Result<String, String> {
        let addresses = self.options.get("address").or(self.options.get("addresses"));
        let address = addresses.ok_or("it has no address")?.value();
        let mut value = format!("{name}={}", host_and_port(address));
        let version = self.options.get("bridge_protocol_version").map_or("mqttv311", |line| line.value());
        value += if version == "mqttv50" { ",protocol=5.0" } else { ",protocol=3.1.1" };
        let own_words = [("remote_clientid", "clientid", "client-id"), ("remote_username", "username", "user")];
        for (option, short, word) in own_words {
            if let Some(line) = self.options.get(option).or(self.options.get(short)) {
                if line.rest.contains([',', ';']) {
                    return Err(format!("{}: neither comma nor semicolon can stand in it", line.word));
                }
                value += &format!(",{word}={}", line.rest);
            }
        }
        if let Some(seconds) = self.options.get("keepalive_interval") {
            value += &format!(",keep-alive={}", seconds.value());
        }
        Ok(value)
    }

    /// Says what has become of one of its options, when it is carried over.
    fn say(&self, line: &Line, output: &mut Output) {
        let others = "one address of the remote is tried";
        match (line.word.as_str(), line.truth()) {
            ("address" | "addresses", _) if line.rest.split(' ').nth(1).is_some() => output.left_out(line, others),
            (
                "address" | "addresses" | "bridge_protocol_version" | "clientid" | "remote_clientid" | "username"
                | "remote_username" | "keepalive_interval",
                _,
            ) => output.carried_over(),
            ("password" | "remote_password", _) => output.left_out(
                line,
                "passwords stand in files of their own: make one for it, and add password-file=FILE to the bridge behind user=",
            ),
            ("cleansession" | "local_cleansession", Some(false)) => output.carried_over(),
            ("cleansession" | "local_cleansession", _) => {
                output.left_out(line, "the session of a bridge is kept, so that what it missed comes when it is back");
            }
            ("try_private", Some(true)) => output.carried_over(),
            ("try_private", _) => output.left_out(line, "a bridge always asks not to get back what it has sent"),
            ("notifications", Some(false)) => output.carried_over(),
            ("notifications" | "notifications_local_only" | "notification_topic", _) => {
                output.left_out(line, "a bridge does not publish whether it is connected");
            }
            ("start_type", _) if line.value() == "automatic" => output.carried_over(),
            ("start_type" | "idle_timeout" | "threshold", _) => output.left_out(line, "a bridge is connected always"),
            ("restart_timeout", _) => output.not_needed(line, "it tries again after up to 1 s, then twice as long, up to 60 s"),
            ("round_robin", Some(false)) => output.carried_over(),
            ("round_robin", _) => output.left_out(line, others),
            ("local_clientid" | "local_username" | "local_password", _) => {
                output.not_needed(line, "a bridge is part of the broker and needs no account in it");
            }
            ("bridge_attempt_unsubscribe" | "bridge_tcp_keepalive", _) => {
                output.not_needed(line, "what it no longer brings in is dropped, and a silent remote is noticed by the keep-alive");
            }
            ("bridge_insecure" | "bridge_require_ocsp" | "bridge_alpn" | "bridge_tls_version" | "bridge_keyfile", _) => {
                output.not_needed(line, "the bridge does not speak TLS");
            }
            ("bridge_outgoing_retain", Some(true)) => output.carried_over(),
            ("bridge_max_topic_alias" | "bridge_reload_type", _) => output.not_needed(line, "there is nothing to set here"),
            _ => output.left_out(line, "bridges cannot be told this"),
        }
    }
}

/// The name of a connection with what our names may have of it.
fn name(text: &str) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    text.chars().map(|character| if allowed(character) { character } else { '-' }).collect()
}

/// An address of mosquitto's, whose port stands behind the last colon.
fn host_and_port(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(_) | None => address.to_owned(),
    }
}

/// What `--bridge-topic` takes for `topic PATTERN [[[out|in|both] QOS] LOCAL-PREFIX REMOTE-PREFIX]`.
fn topic(name: &str, line: &Line) -> Result<String, String> {
    if line.rest.contains([',', ';']) {
        return Err("neither comma nor semicolon can stand in it".to_owned());
    }
    let unquoted = |word: &'static str, text: Option<&str>| match text {
        None | Some("\"\"") => String::new(),
        Some(text) => format!("{word}{text}"),
    };
    let mut words = line.rest.split(' ').filter(|word| !word.is_empty());
    let pattern = unquoted("", words.next());
    let direction = words.next().unwrap_or("out");
    let qos = words.next().unwrap_or("0");
    let local = unquoted(",local=", words.next());
    let remote = unquoted(",remote=", words.next());
    let value = format!("{name}={pattern},{direction},qos={qos}{local}{remote}");
    super::super::bridges::topic(&value).map(|_| value)
}
