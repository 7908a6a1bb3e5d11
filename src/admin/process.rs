//! What the kernel says of this process.

use std::fs;
use std::time::Duration;

use crate::io::{processor_time, resident_bytes};

/// What the process takes of the machine; none of what the kernel does not say.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct ProcessFigures {
    /// Time on CPUs, in user and kernel mode.
    pub(super) processor_time: Option<Duration>,
    /// Memory that is in RAM.
    pub(super) resident_bytes: Option<u64>,
    /// Files, sockets and the like that are open.
    pub(super) open_files: Option<u64>,
    /// How many may be.
    pub(super) open_files_max: Option<u64>,
}

impl ProcessFigures {
    /// What it takes now.
    pub(super) fn now() -> Self {
        Self {
            processor_time: processor_time(),
            resident_bytes: resident_bytes(),
            // To list them would take a million steps where there are a million clients. Kernels before 6.2 say 0.
            open_files: fs::metadata("/proc/self/fd").ok().map(|directory| directory.len()).filter(|files| *files > 0),
            open_files_max: fs::read_to_string("/proc/self/limits").ok().and_then(|limits| open_files_max(&limits)),
        }
    }
}

fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let figures = ProcessFigures::now();
        assert!(figures.processor_time.is_some() && figures.open_files_max.is_some());
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{figures:?}");
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        assert_eq!(open_files_max(limits), Some(1024));
    }
}
