//! What Linux says about processes in `/proc`: processor time, memory, affinity, limits.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::cpus::CpuSet;

/// Clock ticks per second in `/proc/PID/stat`; fixed at 100 in the interface of every architecture that Linux 6.1
/// and this program run on (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// A process that is watched from outside.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    directory: PathBuf,
    pid: String,
}

/// `/proc` could not be read, or not as expected.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} has no usable field {field}")]
    MissingField { path: PathBuf, field: &'static str },
}

impl Process {
    pub(crate) fn of(pid: u32) -> Self {
        Self::named(pid.to_string())
    }

    /// This very process.
    pub(crate) fn current() -> Self {
        Self::named("self".to_owned())
    }

    fn named(pid: String) -> Self {
        Self { directory: PathBuf::from("/proc").join(&pid), pid }
    }

    pub(crate) fn pid(&self) -> &str {
        &self.pid
    }

    /// User and system time of all threads since the process began; 10 ms resolution.
    pub(crate) fn cpu_time(&self) -> Result<Duration, ProcessError> {
        let (path, text) = self.read("stat")?;
        let ticks = cpu_ticks(&text).ok_or(ProcessError::MissingField { path, field: "utime and stime" })?;
        Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, ProcessError> {
        let (path, text) = self.read("status")?;
        let kibibytes =
            status_field(&text, "VmRSS").and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok());
        match kibibytes {
            Some(kibibytes) => Ok(kibibytes * 1024),
            None => Err(ProcessError::MissingField { path, field: "VmRSS" }),
        }
    }

    /// The CPUs on which the process may run.
    pub(crate) fn allowed_cpus(&self) -> Result<CpuSet, ProcessError> {
        let (path, text) = self.read("status")?;
        status_field(&text, "Cpus_allowed_list")
            .and_then(|list| list.parse().ok())
            .ok_or(ProcessError::MissingField { path, field: "Cpus_allowed_list" })
    }

    /// The soft limit on open files; `None` for unlimited.
    pub(crate) fn open_files_limit(&self) -> Result<Option<u64>, ProcessError> {
        let (path, text) = self.read("limits")?;
        let soft = text
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|values| values.split_whitespace().next());
        match soft {
            Some("unlimited") => Ok(None),
            Some(number) if number.parse::<u64>().is_ok() => Ok(number.parse().ok()),
            Some(_) | None => Err(ProcessError::MissingField { path, field: "Max open files" }),
        }
    }

    fn read(&self, name: &str) -> Result<(PathBuf, String), ProcessError> {
        let path = self.directory.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(source) => Err(ProcessError::Unreadable { path, source }),
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field, the name in parentheses, may itself hold spaces and
/// parentheses, so counting starts behind the last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_hostile_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("42 no name"), None);
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn status_fields_are_found_by_their_whole_name() {
        let status = "Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\nVmRSS:\t  12 kB\n";
        assert_eq!(status_field(status, "Cpus_allowed_list"), Some("0-1"));
        assert_eq!(status_field(status, "VmRSS"), Some("12 kB"));
        assert_eq!(status_field(status, "Vm"), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let process = Process::current();
        assert!(process.resident_bytes().expect("VmRSS") > 0);
        assert!(!process.allowed_cpus().expect("affinity").is_empty());
        process.cpu_time().expect("processor time");
        process.open_files_limit().expect("limit");
    }
}
