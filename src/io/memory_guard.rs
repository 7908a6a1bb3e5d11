//! The thread that looks at how much memory the process takes, and tells the shards when it gets short.

use std::fs;
use std::num::NonZeroU64;
use std::thread;

use tracing::{info, warn};

use crate::config::MEMORY_INTERVAL;
use crate::error::StartError;
use crate::shard::MemoryStage;

use super::door::Doors;

/// Starts the thread, for a broker that may take so much.
///
/// # Errors
/// If there is no thread to be had, or if the kernel does not say what the process takes.
pub fn guard_memory(max_bytes: NonZeroU64, doors: Doors) -> Result<(), StartError> {
    if resident_bytes().is_none() {
        return Err(StartError::UnknownMemory);
    }
    let name = "memory-guard";
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || guard(max_bytes, &doors))
        .map(drop)
        .map_err(|source| StartError::Thread { name: name.to_owned(), source })
}

/// Memory of this process that is in RAM, if the kernel says so.
pub fn resident_bytes() -> Option<u64> {
    resident_bytes_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn guard(max_bytes: NonZeroU64, doors: &Doors) {
    let mut stage = MemoryStage::default();
    loop {
        if let Some(taken) = resident_bytes() {
            let next = stage.next(taken, max_bytes.get());
            if next != stage {
                doors.tell_memory(next);
                tell(stage, next, taken, max_bytes);
                stage = next;
            }
        }
        thread::sleep(MEMORY_INTERVAL);
    }
}

fn tell(before: MemoryStage, now: MemoryStage, taken: u64, max_bytes: NonZeroU64) {
    let mebibytes = |bytes| bytes >> 20;
    let (taken, max, consequence) = (mebibytes(taken), mebibytes(max_bytes.get()), now.consequence());
    if now > before {
        warn!("memory: {taken} MiB of --max-memory {max} MiB are taken: {consequence}");
    } else {
        info!("memory: {taken} MiB of --max-memory {max} MiB are taken: {consequence}");
    }
}

fn resident_bytes_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes_of("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes_of("VmRSS: many\n"), None);
    }
}
