//! The lines of a mosquitto.conf: a word, and what stands behind it.

use super::MosquittoFile;

/// A line that says something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// How many lines were read before it, in all files together.
    pub(super) order: usize,
    /// File and number of the line.
    pub(super) place: String,
    /// What it is about.
    pub(super) word: String,
    /// What it says about that.
    pub(super) rest: String,
}

/// All lines of a file that say something.
pub(super) fn lines(file: &MosquittoFile) -> impl Iterator<Item = Line> {
    (1..).zip(file.text.lines()).filter_map(|(number, text)| {
        let text = text.trim_end().trim_start_matches(' ');
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let place = format!("{}:{number}", file.name);
        Some(Line { order: 0, place, word: word.to_owned(), rest: rest.trim_start_matches(' ').to_owned() })
    })
}

impl Line {
    /// The first word of what it says; mosquitto overlooks what stands behind a number or a truth.
    pub(super) fn value(&self) -> &str {
        self.rest.split(' ').next().unwrap_or_default()
    }

    pub(super) fn number(&self) -> Option<i64> {
        self.value().parse().ok()
    }

    pub(super) fn truth(&self) -> Option<bool> {
        match self.value() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}
