//! What happened in a run: always as a hash, and as the last lines of text if somebody asks for them.

use std::collections::VecDeque;
use std::fmt::Write;

use oncemq::proto::{Framer, Received, Version, decode};
use xxhash_rust::xxh3::Xxh3;

/// Lines kept for the report of a failure.
const LINES_KEPT: usize = 20_000;

/// The trace of one run.
pub(crate) struct Trace {
    hasher: Xxh3,
    /// The last lines; none if nobody asked for text.
    lines: Option<VecDeque<String>>,
}

impl Trace {
    pub(crate) fn new(with_text: bool) -> Self {
        Self { hasher: Xxh3::new(), lines: with_text.then(VecDeque::new) }
    }

    /// Notes an event with the numbers that tell it from others.
    pub(crate) fn note(&mut self, now: u64, event: &str, values: &[u64]) {
        self.hasher.update(event.as_bytes());
        self.hasher.update(&now.to_le_bytes());
        for value in values {
            self.hasher.update(&value.to_le_bytes());
        }
        if self.lines.is_some() {
            let mut line = format!("{:>12}.{:06} ms  {event}", now / 1_000_000, now % 1_000_000);
            for value in values {
                write!(line, " {value}").expect("a string takes all");
            }
            self.push(line);
        }
    }

    /// Notes bytes that went over a wire; `text` says what they are.
    pub(crate) fn note_bytes(&mut self, bytes: &[u8], text: impl FnOnce() -> String) {
        self.hasher.update(bytes);
        if self.lines.is_some() {
            let line = format!("{:>23}  {}", "", text());
            self.push(line);
        }
    }

    /// Notes packets that went over a wire.
    pub(crate) fn note_packets(&mut self, version: Version, bytes: &[u8]) {
        self.note_bytes(bytes, || describe(version, bytes));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.digest()
    }

    pub(crate) fn last_lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().map(String::as_str)
    }

    fn push(&mut self, line: String) {
        let lines = self.lines.as_mut().expect("asked for by the caller");
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// The packets in `bytes`, one behind the other.
fn describe(version: Version, bytes: &[u8]) -> String {
    let mut received = Received::new(bytes);
    let mut framer = Framer::default();
    let mut text = String::new();
    while let Ok(Some(frame)) = framer.next_frame(&mut received, u32::MAX) {
        let packet = format!("{:?}", decode(version, frame.bytes()));
        text.extend(packet.chars().take(3000));
        text.push_str(" | ");
    }
    text
}
