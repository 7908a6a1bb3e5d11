//! What has become of the lines so far, and the text that says it.

use std::fmt::Write;

use super::super::file::{check, is_repeatable, is_switch, keys, table};
use super::super::toml_text::{array, comment, one_line, value};
use super::{Conversion, Line};

/// What has become of the lines so far.
pub(super) struct Output {
    /// The rows of our flags, which say what can be a key and what its value may be.
    table: clap::Command,
    keys: Vec<Key>,
    remarks: Vec<String>,
    carried_over: usize,
    not_needed: Vec<(Line, String)>,
    left_out: Vec<(Line, String)>,
    about_security: usize,
}

struct Key {
    name: String,
    values: Vec<String>,
    /// Where what it says stood.
    places: Vec<String>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            table: table(),
            keys: Vec::new(),
            remarks: Vec::new(),
            carried_over: 0,
            not_needed: Vec::new(),
            left_out: Vec::new(),
            about_security: 0,
        }
    }

    /// Whether there is such a key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        keys(&self.table).any(|(name, _)| name == key)
    }

    /// A line whose content went where it belongs.
    pub(super) fn carried_over(&mut self) {
        self.carried_over += 1;
    }

    /// A line that has become a key with one value, in place of the one that it may have had.
    pub(super) fn set(&mut self, line: &Line, key: &str, value: &str) {
        self.carry_over(line, key, value, false);
    }

    /// A line that has become a further value of a key.
    pub(super) fn add(&mut self, line: &Line, key: &str, value: &str) {
        self.carry_over(line, key, value, true);
    }

    fn carry_over(&mut self, line: &Line, key: &str, value: &str, is_further: bool) {
        match self.try_value(key, value) {
            Ok(()) => {
                self.carried_over += 1;
                self.keep(Some(line), key, value, is_further);
            }
            Err(reason) => self.left_out(line, &reason),
        }
    }

    /// A key that follows from what no line says.
    pub(super) fn imply(&mut self, key: &str, value: &str) {
        self.keep(None, key, value, false);
    }

    /// A line that has no meaning here, and why.
    pub(super) fn not_needed(&mut self, line: &Line, reason: &str) {
        self.not_needed.push((line.clone(), reason.to_owned()));
    }

    /// A line that counts no more, because another one of its kind follows.
    pub(super) fn replaced(&mut self, line: Option<Line>) {
        if let Some(line) = line {
            self.not_needed(&line, "a later line takes its place");
        }
    }

    /// A line that could not be carried over, and why.
    pub(super) fn left_out(&mut self, line: &Line, reason: &str) {
        self.left_out.push((line.clone(), reason.to_owned()));
    }

    /// A line that could not be carried over and says who may do what, or hides it from others.
    pub(super) fn left_out_of_security(&mut self, line: &Line, reason: &str) {
        self.about_security += 1;
        self.left_out.push((line.clone(), format!("(security) {reason}")));
    }

    /// What the reader should know besides.
    pub(super) fn remark(&mut self, text: &str) {
        if self.remarks.iter().all(|other| other != text) {
            self.remarks.push(text.to_owned());
        }
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.keys.iter().any(|other| other.name == key)
    }

    /// Whether a key may have this value, by the row of its flag.
    pub(super) fn try_value(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Some(switch) = keys(&self.table).find(|(name, _)| *name == key).map(|(_, row)| is_switch(row)) else {
            return Err(format!("there is no key {key}"));
        };
        check(&mut self.table, key, switch, &[value]).map_err(|reason| format!("{key} = {value}: {reason}"))
    }

    fn keep(&mut self, line: Option<&Line>, name: &str, value: &str, is_further: bool) {
        let at = self.keys.iter().position(|key| key.name == name).unwrap_or_else(|| {
            self.keys.push(Key { name: name.to_owned(), values: Vec::new(), places: Vec::new() });
            self.keys.len() - 1
        });
        let key = &mut self.keys[at];
        if !is_further && key.values != [value] {
            key.values.clear();
            key.places.clear();
        }
        if is_further || key.values.is_empty() {
            key.values.push(value.to_owned());
        }
        key.places.extend(line.map(|line| line.place.clone()));
    }

    /// The text of all of it.
    pub(super) fn finish(mut self, name: &str) -> Conversion {
        let mut text = comment(&format!("Made from {name} by `oncemq config from-mosquitto`."));
        text.push('\n');
        // In the order of the reference; writing into a String cannot fail.
        for (key, row) in keys(&self.table) {
            let Some(key) = self.keys.iter().find(|other| other.name == key) else { continue };
            let value = if is_repeatable(row) { array(&key.values) } else { value(&key.values[0]) };
            let _ = write!(text, "{} = {value}", key.name);
            let _ = if key.places.is_empty() {
                writeln!(text)
            } else {
                writeln!(text, "  # {}", one_line(&key.places.join(", ")))
            };
        }
        for remark in &self.remarks {
            text.push('\n');
            text.push_str(&comment(remark));
        }
        for (title, notes) in [("Not carried over:", &mut self.left_out), ("Not needed:", &mut self.not_needed)] {
            notes.sort_by_key(|(line, _)| line.order);
            if !notes.is_empty() {
                let _ = writeln!(text, "\n# {title}");
            }
            for (line, reason) in notes {
                // What stands behind the word may be a password.
                let said = if is_secret(&line.word) { "..." } else { line.rest.as_str() };
                let said = format!("{} {said}", line.word);
                let _ = write!(text, "{}", comment(&format!("{}: {}: {reason}", line.place, said.trim_end())));
            }
        }
        Conversion {
            text,
            carried_over: self.carried_over,
            not_needed: self.not_needed.len(),
            left_out: self.left_out.len(),
            about_security: self.about_security,
        }
    }
}

/// Whether a line of this kind should not be repeated.
fn is_secret(word: &str) -> bool {
    ["password", "remote_password", "local_password", "bridge_psk", "tls_engine_kpass_sha1"].contains(&word)
        || word.starts_with("auth_opt_")
        || word.starts_with("plugin_opt_")
}
