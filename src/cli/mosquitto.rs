//! mosquitto's configuration, turned into ours.
//!
//! Every line of it ends in one of three ways: it is carried over into a key, it is not needed here, or it could not be carried
//! over; the last two are named in the result with file, line and reason. What can't be said is never made up for by something
//! more permissive: a listener whose policy differs from what one broker can have is left out, and where mosquitto lets
//! nobody in, nobody comes in here.
//!
//! Followed is mosquitto 2.0: what its defaults mean, and how it reads its lines. Pure: text in, text out; included directories
//! are read by the caller.

mod access;
mod bridges;
mod broker;
mod lines;
mod listeners;
mod output;

use std::io;
use std::path::Path;

use access::Access;
use bridges::Bridges;
use broker::Broker;
use lines::{Line, lines};
use listeners::Listeners;
use output::Output;

/// A file of mosquitto's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MosquittoFile {
    /// What to call it.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// What has become of a mosquitto.conf.
#[derive(Debug)]
pub struct Conversion {
    /// A configuration file, with all that is not carried over in comments.
    pub text: String,
    carried_over: usize,
    not_needed: usize,
    left_out: usize,
    about_security: usize,
}

impl Conversion {
    /// How many lines have become what.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { carried_over, not_needed, left_out, about_security, .. } = self;
        let security = match about_security {
            0 => String::new(),
            some => format!(", {some} of them about security"),
        };
        format!("{carried_over} lines carried over, {not_needed} not needed, {left_out} not carried over{security}")
    }

    /// Whether something of what could not be carried over says who may do what, or hides it from others.
    #[must_use]
    pub fn is_less_secure(&self) -> bool {
        self.about_security > 0
    }
}

/// Turns a mosquitto.conf into a configuration file; `include` reads the `*.conf` of a directory in their order.
pub fn convert(main: &MosquittoFile, include: impl Fn(&Path) -> io::Result<Vec<MosquittoFile>>) -> Conversion {
    let mut output = Output::new();
    let mut parts = Parts::default();
    for mut line in lines(main) {
        line.order = parts.taken;
        if line.word != "include_dir" {
            parts.take(line, &mut output);
            continue;
        }
        match include(Path::new(&line.rest)) {
            Ok(files) => {
                output.carried_over();
                files.iter().flat_map(lines).for_each(|line| parts.take(line, &mut output));
            }
            Err(error) => output.left_out_of_security(&line, &format!("it cannot be read: {error}")),
        }
    }
    let Parts { listeners, access, broker, bridges, taken: _ } = parts;
    broker.finish(&mut output);
    listeners.finish(access, &mut output);
    bridges.finish(&mut output);
    output.finish(&main.name)
}

/// What the lines are about.
#[derive(Default)]
struct Parts {
    taken: usize,
    listeners: Listeners,
    access: Access,
    broker: Broker,
    bridges: Bridges,
}

impl Parts {
    fn take(&mut self, mut line: Line, output: &mut Output) {
        line.order = self.taken;
        self.taken += 1;
        match line.word.as_str() {
            "listener" => self.listeners.open(line),
            "connection" => self.bridges.open(line),
            word if listeners::is_option(word) => self.listeners.add(line, output),
            word if access::is_option(word) => self.access.add(line, self.listeners.current(), output),
            word if bridges::is_option(word) => self.bridges.add(line, output),
            _ => self.broker.take(line, output),
        }
    }
}

#[cfg(test)]
mod tests;
