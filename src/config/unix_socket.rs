//! Where clients of this machine are served over Unix sockets.

use std::path::PathBuf;

/// What `oncemq serve` was told about Unix sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixSettings {
    /// The paths of the sockets; empty where there are none.
    pub listen: Vec<PathBuf>,
    /// Who may connect to them, as the permissions of a file: who may write.
    pub mode: u32,
}

/// The permissions of a Unix socket when nothing is said: the broker's user and group may connect.
pub const UNIX_MODE_DEFAULT: u32 = 0o660;

/// Bytes of a Unix socket's path, at most: what the kernel takes.
pub const UNIX_PATH_BYTES_MAX: usize = 107;
