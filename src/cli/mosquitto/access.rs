//! Who may connect to mosquitto: for all listeners together, or for each by itself (`per_listener_settings true`).

use std::collections::BTreeMap;

use super::Line;
use super::output::Output;

/// A file without accounts: nobody who needs one comes in.
const NO_ACCOUNTS: &str = "/dev/null";

/// Whether this is about who may connect.
pub(super) fn is_option(word: &str) -> bool {
    matches!(word, "per_listener_settings" | "allow_anonymous" | "password_file" | "acl_file" | "psk_file")
        || is_plugin(word)
}

fn is_plugin(word: &str) -> bool {
    matches!(
        word,
        "plugin" | "auth_plugin" | "global_plugin" | "plugin_load" | "plugin_use" | "auth_plugin_deny_special_chars"
    ) || word.starts_with("auth_opt_")
        || word.starts_with("plugin_opt_")
}

/// The lines about who may connect, each with the number of the listener behind which it stands.
#[derive(Default)]
pub(super) struct Access {
    lines: Vec<(usize, Line)>,
    each_listener: Option<Line>,
}

/// What is to be known about the listeners to say who may connect.
pub(super) struct Entrances {
    /// The numbers of those that are carried over.
    pub(super) numbers: Vec<usize>,
    /// Whether mosquitto was told of none, and serves its own machine.
    pub(super) is_local_only: bool,
    /// Whether clients come in by their certificates everywhere.
    pub(super) is_by_certificate: bool,
}

impl Access {
    pub(super) fn add(&mut self, line: Line, listener: usize, output: &mut Output) {
        if line.word == "per_listener_settings" {
            output.replaced(self.each_listener.replace(line));
        } else {
            self.lines.push((listener, line));
        }
    }

    /// Whether mosquitto has a listener that was never opened because of what stands in front of all.
    pub(super) fn makes_default_listener(&self) -> bool {
        let makes = |line: &Line| line.word != "allow_anonymous" && line.word != "acl_file";
        self.is_each_listener() && self.lines.iter().any(|(listener, line)| *listener == 0 && makes(line))
    }

    /// Whether two listeners let the same clients in.
    pub(super) fn is_same(&self, one: usize, other: usize) -> bool {
        let policy = |of: usize| {
            let own = self.lines.iter().filter(move |(listener, _)| *listener == of);
            own.map(|(_, line)| (line.word.as_str(), line.rest.as_str())).collect::<BTreeMap<_, _>>()
        };
        !self.is_each_listener() || policy(one) == policy(other)
    }

    fn is_each_listener(&self) -> bool {
        self.each_listener.as_ref().is_some_and(|line| line.truth() == Some(true))
    }

    /// Says who may connect, which is the same at all listeners that are carried over.
    pub(super) fn finish(self, entrances: &Entrances, output: &mut Output) {
        let is_each_listener = self.is_each_listener();
        if let Some(line) = &self.each_listener {
            output.not_needed(line, "the listeners that are carried over agree on who may connect");
        }
        let mut said: BTreeMap<&str, &Line> = BTreeMap::new();
        for (listener, line) in &self.lines {
            if is_each_listener && !entrances.numbers.contains(listener) {
                output.left_out(line, "its listener is not carried over");
            } else if is_plugin(&line.word) {
                output.left_out_of_security(line, "there are no plugins here");
            } else if line.word == "psk_file" {
                output.left_out_of_security(line, "TLS with pre-shared keys is not spoken");
            } else {
                output.replaced(said.insert(&line.word, line).cloned());
            }
        }
        let anonymous = said.get("allow_anonymous");
        let is_open = anonymous.and_then(|line| line.truth()).unwrap_or(entrances.is_local_only);
        if let Some(line) = said.get("password_file") {
            output.set(line, "password-file", &line.rest);
        }
        let is_closed = !is_open && !entrances.is_by_certificate;
        if is_closed && !output.is_set("password-file") {
            output.remark(
                "mosquitto lets nobody in without a password_file and without allow_anonymous true, not even from its own \
                 machine. The password file here is one without accounts, for the same effect.",
            );
            output.imply("password-file", NO_ACCOUNTS);
        }
        match anonymous {
            Some(line) if is_open => output.set(line, "allow-anonymous", "true"),
            Some(_) => output.carried_over(),
            None if is_open && output.is_set("password-file") => output.imply("allow-anonymous", "true"),
            None => {}
        }
        match said.get("acl_file") {
            Some(line) if output.has_key("acl-file") => output.set(line, "acl-file", &line.rest),
            Some(line) => {
                output.left_out_of_security(
                    line,
                    "there are no rules here yet: who may connect may publish and subscribe to all",
                );
            }
            None => {}
        }
    }
}
