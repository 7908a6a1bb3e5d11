//! mosquitto's listeners. Each of its own has settings of TLS and limits, and maybe accounts; here, all of one kind share them.
//!
//! So the first listener that can be carried over sets the policy, the first one with TLS that of TLS, and those that differ are
//! left out: that none of the clients of another listener comes in by a policy that was not meant for it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Line;
use super::access::{Access, Entrances};
use super::output::Output;

const OPTIONS: [&str; 27] = [
    "bind_address",
    "bind_interface",
    "cafile",
    "capath",
    "certfile",
    "ciphers",
    "ciphers_tls1.3",
    "crlfile",
    "dhparamfile",
    "http_dir",
    "keyfile",
    "max_connections",
    "max_qos",
    "max_topic_alias",
    "mount_point",
    "port",
    "protocol",
    "psk_hint",
    "require_certificate",
    "socket_domain",
    "tls_engine",
    "tls_engine_kpass_sha1",
    "tls_keyform",
    "tls_version",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
];

/// What in front of all listeners does not make one more, on mosquitto's port.
const NO_LISTENER: [&str; 4] = ["max_topic_alias", "tls_version", "dhparamfile", "http_dir"];

/// The port of MQTT, and mosquitto's.
const PORT: u16 = 1883;

/// Whether this is about one listener.
pub(super) fn is_option(word: &str) -> bool {
    OPTIONS.contains(&word)
}

/// The listeners in their order. That with number 0 is the one that mosquitto has for what stands in front of all others.
pub(super) struct Listeners {
    listeners: Vec<Listener>,
}

#[derive(Default)]
struct Listener {
    opening: Option<Line>,
    options: BTreeMap<String, Line>,
}

/// Where a listener listens.
enum Place<'a> {
    Network(SocketAddr),
    UnixSocket(&'a str),
}

/// Why a listener is left out.
struct Unfit {
    reason: String,
    is_security: bool,
}

impl Unfit {
    fn plain(reason: &str) -> Self {
        Self { reason: reason.to_owned(), is_security: false }
    }

    fn security(reason: &str) -> Self {
        Self { reason: reason.to_owned(), is_security: true }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self { listeners: vec![Listener::default()] }
    }
}

impl Listeners {
    pub(super) fn open(&mut self, line: Line) {
        self.listeners.push(Listener { opening: Some(line), options: BTreeMap::new() });
    }

    pub(super) fn add(&mut self, line: Line, output: &mut Output) {
        let listener = match line.word.as_str() {
            "port" | "bind_address" => 0, // wherever they stand
            _ => self.current(),
        };
        output.replaced(self.listeners[listener].options.insert(line.word.clone(), line));
    }

    /// The number of the listener that lines are about at this point.
    pub(super) fn current(&self) -> usize {
        self.listeners.len() - 1
    }

    /// Says where clients are accepted and how, and who may connect there.
    pub(super) fn finish(self, access: Access, output: &mut Output) {
        let first = &self.listeners[0];
        let has_default = access.makes_default_listener() || first.options.values().any(makes_listener);
        if !has_default {
            for line in first.options.values() {
                output.not_needed(line, "it stands in front of all listeners, and says nothing of them to mosquitto");
            }
        }
        let is_local_only = !has_default && self.listeners.len() == 1;
        let mut kept: Vec<(usize, &Listener)> = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate().skip(usize::from(!has_default)) {
            let fit = listener.place().and_then(|place| {
                listener.check_against(&kept, number, &access)?;
                Ok(place)
            });
            match fit {
                Ok(place) => {
                    listener.say_where(&place, output);
                    kept.push((number, listener));
                }
                Err(unfit) => listener.leave_out(&unfit, output),
            }
        }
        for (_, listener) in &kept {
            listener.say_how(output);
        }
        say_limits(&kept, output);
        if !is_local_only && !output.is_set("listen") {
            output.imply("listen", "none");
        }
        let by_certificate = |listener: &Listener| listener.is_tls() && listener.is_true("use_identity_as_username");
        let entrances = Entrances {
            numbers: kept.iter().map(|(number, _)| *number).collect(),
            is_local_only,
            is_by_certificate: !kept.is_empty() && kept.iter().all(|(_, listener)| by_certificate(listener)),
        };
        access.finish(&entrances, output);
    }
}

impl Listener {
    fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(|line| line.rest.as_str())
    }

    fn is_true(&self, option: &str) -> bool {
        self.options.get(option).is_some_and(|line| line.truth() == Some(true))
    }

    fn is_tls(&self) -> bool {
        self.options.contains_key("certfile") || self.options.contains_key("keyfile")
    }

    fn is_web_socket(&self) -> bool {
        self.text("protocol") == Some("websockets")
    }

    /// What of its settings of TLS reaches a client.
    fn tls(&self) -> Vec<Option<&str>> {
        let asks = self.is_true("require_certificate");
        let of_clients = |option| self.text(option).filter(|_| asks);
        let identity = of_clients("use_identity_as_username").filter(|_| self.is_true("use_identity_as_username"));
        let version = self.options.get("tls_version").map(Line::value);
        vec![
            self.text("certfile"),
            self.text("keyfile"),
            of_clients("cafile"),
            of_clients("crlfile"),
            identity,
            version,
        ]
    }

    /// Where it listens, in our words.
    fn place(&self) -> Result<Place<'_>, Unfit> {
        let (port, host) = match &self.opening {
            Some(line) => {
                let (port, host) = line.rest.split_once(' ').unwrap_or((&line.rest, ""));
                (port.to_owned(), Some(host.trim()).filter(|host| !host.is_empty()))
            }
            None => (self.text("port").map_or_else(|| PORT.to_string(), str::to_owned), self.text("bind_address")),
        };
        if let Some(path) = host.filter(|host| host.starts_with('/')) {
            let is_plain = !self.is_tls() && !self.is_web_socket();
            return match is_plain {
                true => Ok(Place::UnixSocket(path)),
                false => Err(Unfit::plain("at Unix sockets only plain MQTT is served")),
            };
        }
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| Unfit::plain("this is no port"))?;
        let ip = match host {
            None if self.text("socket_domain") == Some("ipv4") => Ipv4Addr::UNSPECIFIED.into(),
            None => Ipv6Addr::UNSPECIFIED.into(),
            Some("localhost") => Ipv4Addr::LOCALHOST.into(),
            Some(host) => {
                host.parse::<IpAddr>().map_err(|_| Unfit::plain("an IP address has to be named, not a host"))?
            }
        };
        Ok(Place::Network(SocketAddr::new(ip, port)))
    }

    /// Whether one broker of ours can have it beside these, by the same policy.
    fn check_against(&self, kept: &[(usize, &Self)], number: usize, access: &Access) -> Result<(), Unfit> {
        let has = |option: &str| self.options.contains_key(option);
        match self.text("protocol") {
            None | Some("mqtt" | "websockets") => {}
            Some(_) => return Err(Unfit::plain("this protocol is not spoken")),
        }
        if has("bind_interface") {
            return Err(Unfit::security("it cannot be bound to an interface: name the address of that"));
        }
        if has("mount_point") {
            return Err(Unfit::security("topics cannot be mounted: its clients would see those of all others"));
        }
        if has("psk_hint") {
            return Err(Unfit::security("TLS with pre-shared keys is not spoken"));
        }
        if self.is_tls() {
            if !has("certfile") || !has("keyfile") {
                return Err(Unfit::security("TLS wants both certfile and keyfile"));
            }
            if has("tls_engine") || self.text("tls_keyform").is_some_and(|form| form != "pem") {
                return Err(Unfit::security("keys are read from files, not from engines"));
            }
            if self.is_true("require_certificate") && !has("cafile") {
                return Err(Unfit::security(
                    "the authorities of clients' certificates have to stand in one file (cafile)",
                ));
            }
            let (identity, subject) =
                (self.is_true("use_identity_as_username"), self.is_true("use_subject_as_username"));
            if subject && !identity {
                return Err(Unfit::security(
                    "the whole subject of a certificate cannot be the user name, only its common name",
                ));
            }
            if identity && !self.is_true("require_certificate") {
                return Err(Unfit::security(
                    "use_identity_as_username without require_certificate keeps all clients out",
                ));
            }
            if let Some((_, other)) = kept.iter().find(|(_, other)| other.is_tls())
                && other.tls() != self.tls()
            {
                return Err(Unfit::security(
                    "its settings of TLS differ from those of the first listener with TLS, and there is \
                                            one set of them",
                ));
            }
        }
        match kept.first() {
            Some((first, _)) if !access.is_same(*first, number) => Err(Unfit::security(
                "who may connect differs from the first listener (per_listener_settings), and there is one set of accounts",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The line that stands for it.
    fn line(&self) -> Option<&Line> {
        let named = self.options.get("port").or(self.options.get("bind_address"));
        self.opening.as_ref().or(named).or(self.options.values().next())
    }

    fn leave_out(&self, unfit: &Unfit, output: &mut Output) {
        let line = self.line();
        match line {
            Some(line) if unfit.is_security => output.left_out_of_security(line, &unfit.reason),
            Some(line) => output.left_out(line, &unfit.reason),
            None => {
                output.remark(&format!("Not carried over is mosquitto's listener on port {PORT}: {}", unfit.reason))
            }
        }
        for option in self.options.values().filter(|option| Some(*option) != line) {
            output.left_out(option, "its listener is not carried over");
        }
    }

    fn say_where(&self, place: &Place<'_>, output: &mut Output) {
        let address = match place {
            Place::Network(address) => address,
            Place::UnixSocket(path) => {
                output.remark(
                    "mosquitto leaves the permissions of a Unix socket to its umask; here unix-mode says who may connect.",
                );
                match &self.opening {
                    Some(line) => output.add(line, "unix-listen", path),
                    None => output.imply("unix-listen", path),
                }
                return;
            }
        };
        let key = match (self.is_tls(), self.is_web_socket()) {
            (false, false) => "listen",
            (false, true) => "websocket-listen",
            (true, false) => "tls-listen",
            (true, true) => "websocket-tls-listen",
        };
        if self.is_web_socket() {
            output.remark(
                "mosquitto serves WebSockets at every path, oncemq at one: websocket-path, which is /mqtt unless set.",
            );
        }
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            output.remark("[::] takes IPv4, too; where the machine has no IPv6, write 0.0.0.0 in its place.");
        }
        match self.line() {
            Some(line) if self.opening.is_some() || matches!(line.word.as_str(), "port" | "bind_address") => {
                output.add(line, key, &address.to_string());
            }
            Some(_) | None => output.imply(key, &address.to_string()),
        }
    }

    /// Carries over what it says of itself beyond its address.
    fn say_how(&self, output: &mut Output) {
        let asks = self.is_tls() && self.is_true("require_certificate");
        let tls =
            |asked: bool| if asked { "there is no TLS at this listener" } else { "no certificates are asked for" };
        for (option, line) in &self.options {
            match option.as_str() {
                "certfile" => output.set(line, "tls-certificate", &line.rest),
                "keyfile" => output.set(line, "tls-key", &line.rest),
                "cafile" if asks => output.set(line, "tls-client-ca", &line.rest),
                "crlfile" if asks => output.set(line, "tls-crl", &line.rest),
                "cafile" | "capath" | "crlfile" if !asks => output.not_needed(line, tls(!self.is_tls())),
                "capath" => output.not_needed(line, "the authorities stand in cafile"),
                "require_certificate" | "use_identity_as_username" | "use_subject_as_username" if !self.is_tls() => {
                    output.not_needed(line, tls(true));
                }
                "require_certificate" | "protocol" | "tls_keyform" => output.carried_over(),
                "use_identity_as_username" if line.truth() == Some(true) => output.set(line, "tls-identity", "cn"),
                "use_identity_as_username" => output.carried_over(),
                "use_subject_as_username" => output.not_needed(line, "use_identity_as_username has priority, or it is off"),
                "tls_version" if !self.is_tls() => output.not_needed(line, tls(true)),
                "tls_version" => match line.value() {
                    "tlsv1.3" => output.set(line, "tls-min-version", "1.3"),
                    "tlsv1.2" => output.set(line, "tls-min-version", "1.2"),
                    _ => output.left_out(line, "versions of TLS before 1.2 are not spoken"),
                },
                "ciphers" | "ciphers_tls1.3" if self.is_tls() => output.left_out(
                    line,
                    "cipher suites cannot be chosen; all that are spoken have forward secrecy and authenticated encryption",
                ),
                "ciphers" | "ciphers_tls1.3" => output.not_needed(line, tls(true)),
                "dhparamfile" => output.not_needed(line, "keys are exchanged by elliptic curves"),
                "tls_engine" | "tls_engine_kpass_sha1" => output.not_needed(line, tls(true)),
                "socket_domain" if line.value() == "ipv6" => output.left_out(line, "an address of IPv6 takes IPv4, too"),
                "socket_domain" => output.carried_over(),
                "http_dir" => output.left_out(line, "no files are served"),
                "use_username_as_clientid" if line.truth() == Some(true) => {
                    output.left_out_of_security(line, "a client has the id that it names, whatever its user name is");
                }
                "use_username_as_clientid" => output.carried_over(),
                "port" | "bind_address" => {
                    if self.line() != Some(line) {
                        output.carried_over();
                    }
                }
                "max_connections" | "max_qos" | "max_topic_alias" => {} // those of all listeners, in `say_limits`
                other => unreachable!("{other} is a reason to leave the listener out"),
            }
        }
    }
}

/// Whether a line in front of all listeners makes mosquitto open one more: not if it says what holds anyway.
fn makes_listener(line: &Line) -> bool {
    let is_default = match line.word.as_str() {
        "max_connections" => line.number() == Some(-1),
        "max_qos" => line.number() == Some(2),
        "protocol" => line.value() == "mqtt",
        "require_certificate" | "use_identity_as_username" | "use_subject_as_username" | "use_username_as_clientid" => {
            line.truth() == Some(false)
        }
        _ => false,
    };
    !is_default && !NO_LISTENER.contains(&line.word.as_str())
}

/// Limits that mosquitto has for each listener, and we for all together.
fn say_limits(kept: &[(usize, &Listener)], output: &mut Output) {
    for (option, key, without) in [
        ("max_connections", "max-connections", -1),
        ("max_qos", "max-qos", 2),
        ("max_topic_alias", "topic-alias-max", 10),
    ] {
        let line_of = |listener: &&Listener| listener.options.get(option).cloned();
        let lines: Vec<Line> = kept.iter().filter_map(|(_, listener)| line_of(listener)).collect();
        let numbers =
            kept.iter().map(|(_, listener)| line_of(listener).and_then(|line| line.number()).unwrap_or(without));
        let numbers: Vec<i64> = numbers.collect();
        let is_unlimited = numbers.iter().any(|number| *number < 0);
        let together = match option {
            "max_connections" => numbers.iter().sum(),
            _ => numbers.iter().copied().max().unwrap_or(without),
        };
        for line in &lines {
            if is_unlimited && line.number().is_some_and(|number| number >= 0) {
                output.left_out(line, "the limit is for all listeners together, and another one here has none");
            } else if is_unlimited {
                output.not_needed(line, "there is no limit but that of open files");
            } else {
                output.set(line, key, &together.to_string());
            }
        }
        if !lines.is_empty() && !is_unlimited && numbers.iter().any(|number| *number != together) {
            output.remark(&format!(
                "{option} is said for each listener, {key} holds for all of them together: {together}."
            ));
        }
    }
}
