//! Live progress on standard error: one line that is rewritten on a terminal, one line a second otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::fleet::Totals;

const EVERY: Duration = Duration::from_secs(1);

/// Prints what changed since the last line, once a second.
#[derive(Debug)]
pub(crate) struct Progress {
    enabled: bool,
    terminal: bool,
    start: Instant,
    last: Instant,
    last_totals: Totals,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            enabled: !quiet,
            terminal: io::stderr().is_terminal(),
            start: now,
            last: now,
            last_totals: Totals::default(),
        }
    }

    /// Prints a line when one is due.
    pub(crate) fn tick(&mut self, stage: &str, totals: Totals, errors: u64) {
        let elapsed = self.last.elapsed();
        if !self.enabled || elapsed < EVERY {
            return;
        }
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let before = self.last_totals;
        self.print(&format!(
            "{:>5.0} s  {stage:<10} clients {:>6}  published {:>9.0}/s  completed {:>9.0}/s  delivered {:>9.0}/s  \
             inflight {:>7}  errors {errors}",
            self.start.elapsed().as_secs_f64(),
            totals.ready,
            per_second(totals.published, before.published),
            per_second(totals.completed, before.completed),
            per_second(totals.delivered, before.delivered),
            totals.inflight(),
        ));
        self.last = Instant::now();
        self.last_totals = totals;
    }

    /// Leaves the rewritten line.
    pub(crate) fn finish(&mut self) {
        if self.enabled && self.terminal {
            self.print("");
        }
        self.enabled = false;
    }

    /// Progress that can't be shown is no reason to fail.
    fn print(&self, line: &str) {
        let mut stderr = io::stderr().lock();
        let _unseen = if self.terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _unflushed = stderr.flush();
    }
}
