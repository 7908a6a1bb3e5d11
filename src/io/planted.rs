//! Trouble with the disk, planted on purpose, so that a test of the real process can see what it does.
//!
//! Without the feature `planted-faults` there is none, and nothing of this is in the binary.

use crate::route::ShardId;

/// A disk whose writes fail from a certain commit on; normally none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlantedDiskFault {
    #[cfg(feature = "planted-faults")]
    fault: Option<WritesFail>,
}

#[cfg(feature = "planted-faults")]
#[derive(Clone, Copy, Debug)]
struct WritesFail {
    commits_before: u64,
    errno: i32,
}

impl PlantedDiskFault {
    /// The fault that `ONCEMQ_PLANTED_DISK_FAULT=SHARD:COMMITS:ERRNO` plants: the writes of that shard's log fail with that
    /// error after that many commits.
    #[cfg(feature = "planted-faults")]
    pub(super) fn from_environment(shard: ShardId) -> Self {
        let planted = std::env::var("ONCEMQ_PLANTED_DISK_FAULT").ok();
        let fault = planted.as_deref().and_then(|text| {
            let (here, rest) = text.split_once(':')?;
            let (commits_before, errno) = rest.split_once(':')?;
            let fault = WritesFail { commits_before: commits_before.parse().ok()?, errno: errno.parse().ok()? };
            (here.parse() == Ok(shard.number())).then_some(fault)
        });
        Self { fault }
    }

    /// None.
    #[cfg(not(feature = "planted-faults"))]
    pub(super) fn from_environment(_: ShardId) -> Self {
        Self::default()
    }

    /// What a write that completes after so many commits has for its result.
    pub(super) fn applied(self, result: i32, commits: u64) -> i32 {
        #[cfg(feature = "planted-faults")]
        if let Some(fault) = self.fault.filter(|fault| commits >= fault.commits_before) {
            return -fault.errno;
        }
        let _ = commits;
        result
    }
}
