//! What a failed operation on a log means: in words for the operator, and as a kind for the shard.

use std::io;
use std::path::Path;

use tracing::error;

use crate::route::ShardId;
use crate::store::LogFailure;

/// Tells the operator that a log has failed, and the shard why.
pub(super) fn report(shard: ShardId, path: &Path, offset: u64, error: &io::Error) -> LogFailure {
    let failure = failure(error);
    let remedy = match failure {
        LogFailure::NoSpace => "free space on that file system (or raise the quota or the limit of file sizes)",
        LogFailure::Io => "check the disk and the kernel's log",
    };
    error!(
        "the log of shard {} failed in {} at offset {offset}: {error}; {remedy}, then restart the broker. Nothing that was \
         acknowledged is lost; until the restart this shard acknowledges nothing that has to be durable",
        shard.number(),
        path.display(),
    );
    failure
}

fn failure(error: &io::Error) -> LogFailure {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => LogFailure::NoSpace,
        Some(_) | None => LogFailure::Io,
    }
}
