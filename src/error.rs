//! Why the broker did not start: each error names the cause and what the operator can do about it.
//!
//! Errors of clients are not here: they are reason codes (`proto`) and end one connection, never the process.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::auth::BadLine;
use crate::config::ADMIN_TOKEN_CHARACTERS;

/// A reason why the broker did not start. Its text is one line: the cause, then the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel is older than 6.1.
    #[error("Linux {release} is too old: oncemq needs 6.1 or newer; boot a newer kernel")]
    KernelTooOld {
        /// The release that the kernel names.
        release: String,
    },

    /// The kernel has no io_uring, or something between us and it hides the system call.
    #[error(
        "io_uring is not available ({source}): the kernel was built without it, or a container's seccomp profile hides \
         it; allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
    )]
    RingMissing {
        /// What io_uring_setup answered.
        source: io::Error,
    },

    /// io_uring is there, but forbidden to this process.
    #[error(
        "io_uring is forbidden to this process ({source}): set it free with `sysctl kernel.io_uring_disabled=0`, and in a \
         container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile"
    )]
    RingForbidden {
        /// What io_uring_setup answered.
        source: io::Error,
    },

    /// There is no memory for the rings or the receive buffers.
    #[error(
        "no memory for the rings of a shard ({source}): raise the locked-memory limit (`ulimit -l`, or LimitMEMLOCK= in \
         the unit), or lower --ring-entries, --recv-buffers or --recv-buffer-bytes"
    )]
    RingMemory {
        /// What the kernel answered.
        source: io::Error,
    },

    /// There are no file descriptors left.
    #[error(
        "no file descriptors left ({source}): raise the open-file limit (`ulimit -Hn`, or LimitNOFILE= in the unit), or \
         lower --shards"
    )]
    OpenFiles {
        /// What the kernel answered.
        source: io::Error,
    },

    /// A ring could not be set up for another reason.
    #[error("a shard's ring could not be set up while {doing}: {source}")]
    Ring {
        /// What was being done.
        doing: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },

    /// An address to listen on is taken.
    #[error("{flag} {address}: the port is in use; stop the process that holds it (`ss -ltnp`) or choose another port")]
    PortInUse {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },

    /// An address to listen on cannot be used.
    #[error("{flag} {address}: {source}; choose an address of this machine and a port that this user may bind")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },

    /// Somebody listens on a Unix socket that is to be made.
    #[error("--unix-listen {}: somebody listens there already; stop that process, or choose another path", .path.display())]
    UnixSocketInUse {
        /// The path.
        path: PathBuf,
    },

    /// A file that is no socket lies where one is to be made.
    #[error("--unix-listen {}: something else than a socket is there; move it away, or choose another path", .path.display())]
    NoUnixSocket {
        /// The path.
        path: PathBuf,
    },

    /// A Unix socket cannot be made.
    #[error("--unix-listen {}: {source}; choose a path of at most 107 bytes in a directory that the broker may write to", .path.display())]
    UnixSocket {
        /// The path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A CPU in `--pin` that the process may not use.
    #[error("--pin: CPU {cpu} is not one that this process may use; allowed: {allowed}")]
    UnknownCpu {
        /// The CPU that was asked for.
        cpu: usize,
        /// The CPUs that the process may use, as a list with ranges.
        allowed: String,
    },

    /// A thread could not be started.
    #[error("the thread {name} could not be started: {source}; raise the process limit (`ulimit -u`)")]
    Thread {
        /// Its name.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// Nobody says how much memory the process takes.
    #[error(
        "--max-memory needs VmRSS in /proc/self/status, which cannot be read here; mount /proc, or leave the flag out"
    )]
    UnknownMemory,

    /// The kernel gave no random bytes to seed the hash tables with.
    #[error("no random bytes for the hash tables' seeds: {0}; allow getrandom in the container's seccomp profile")]
    Random(getrandom::Error),

    /// The signals that end the broker could not be caught.
    #[error("signals could not be caught: {source}")]
    Signals {
        /// What the kernel answered.
        source: io::Error,
    },

    /// The data directory, or a log in it, cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The password file cannot be used.
    #[error("--password-file {0}")]
    Passwords(#[source] LineFileError),

    /// The ACL file cannot be used.
    #[error("--acl-file {0}")]
    Rules(#[source] LineFileError),

    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),

    /// The token for the admin listener cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Why requests to the admin listener cannot be held against the token in a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error("--admin-token-file {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel answered, or that it is not text.
        source: io::Error,
    },

    /// It does not hold what it should.
    #[error(
        "--admin-token-file {}: it should hold one line of {} to {} printable ASCII characters without spaces, such as \
         `openssl rand -hex 32` makes",
        .path.display(), ADMIN_TOKEN_CHARACTERS.start(), ADMIN_TOKEN_CHARACTERS.end()
    )]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
}

/// Why TLS cannot be served with the files that the flags name.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{flag} {}: {source}", .path.display())]
    Unreadable {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A file has not in it what it should.
    #[error("{flag} {}: {reason}", .path.display())]
    Unfit {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The kernel gave no random bytes for the key of tickets.
    #[error("no random bytes for the key of session tickets; allow getrandom in the container's seccomp profile")]
    Random,
}

impl TlsError {
    /// The error for a file whose content is wrong.
    pub(crate) fn unfit(flag: &'static str, path: &Path, reason: String) -> Self {
        Self::Unfit { flag, path: path.to_owned(), reason }
    }
}

/// Why a file whose lines say who may connect, or what clients may do, cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LineFileError {
    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel answered, or that it is not text.
        source: io::Error,
    },

    /// A line is not what it should be.
    #[error("{}: {bad}", .path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        bad: BadLine,
    },
}

/// Why a password file cannot be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PasswordFileError {
    /// It cannot be used as it is.
    #[error(transparent)]
    File(#[from] LineFileError),

    /// It cannot be written.
    #[error("{}: {source}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// Somebody else changes it, or was stopped while he did.
    #[error("{} exists: another change is being made; remove the file if that is not so", .path.display())]
    Draft {
        /// The file that changes are written to.
        path: PathBuf,
    },

    /// The user to delete is not there.
    #[error("{}: there is no user {user}", .path.display())]
    NoUser {
        /// The file.
        path: PathBuf,
        /// The user.
        user: Box<str>,
    },

    /// SCRAM writes this user name in another way.
    #[error(
        "{user:?}: SCRAM does not take this user name, or writes it in another way (SASLprep, RFC 4013); choose another"
    )]
    NotPrepared {
        /// The user.
        user: Box<str>,
    },

    /// There was no way to ask for the password.
    #[error("the password could not be read: {source}")]
    Unasked {
        /// What the kernel answered.
        source: io::Error,
    },

    /// The password was not typed twice in the same way.
    #[error("these were two different passwords; nothing is changed")]
    Mistyped,

    /// The password is empty or too long.
    #[error("a password has 1 to 65535 bytes; nothing is changed")]
    PasswordLength,

    /// The kernel gave no random bytes for a salt.
    #[error("no random bytes for the salt: {0}; allow getrandom in the container's seccomp profile")]
    Random(getrandom::Error),
}

/// Why a data directory, or a log in it, cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// Another process has the data directory.
    #[error(
        "the data directory {} is held by {holder}; stop that process, or choose another directory with --data-dir",
        .directory.display()
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },

    /// The data directory cannot be written to.
    #[error(
        "the data directory {} is not writable ({source}); give it to the user that the broker runs as, choose another one \
         with --data-dir, or keep nothing with --durability none",
        .directory.display()
    )]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// There is no log to look into.
    #[error("{} is not the data directory of a broker: there is no complete log-GGGGGG in it", .directory.display())]
    NoLog {
        /// The directory.
        directory: PathBuf,
    },

    /// Something in the data directory is not as a broker leaves it.
    #[error("{}: {reason}; restore it from a copy, or move it out of the data directory to start without it", .path.display())]
    Unexpected {
        /// What.
        path: PathBuf,
        /// Why it cannot be.
        reason: String,
    },

    /// A log is damaged before its end.
    #[error(
        "{} is damaged at offset {offset}: {reason}; restore the data directory from a copy, or start once with \
         --recover salvage to go on with what is intact",
        .file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },

    /// A log was written by a newer broker.
    #[error("{} has format {version}, which only a newer version of oncemq understands; start that version", .file.display())]
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// The version of its format.
        version: u16,
    },

    /// The operating system refused.
    #[error("{doing} {} failed: {source}; check the disk and the permissions", .path.display())]
    Io {
        /// What was being done, as in "reading".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl DataError {
    /// The error for a failure of the kernel, for [`Result::map_err`].
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl StartError {
    /// The error for a failure of the kernel while a ring was set up.
    pub(crate) fn ring(doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSYS) => Self::RingMissing { source },
            Some(libc::EPERM | libc::EACCES) => Self::RingForbidden { source },
            Some(libc::ENOMEM) => Self::RingMemory { source },
            Some(libc::EMFILE | libc::ENFILE) => Self::OpenFiles { source },
            Some(_) | None => Self::Ring { doing, source },
        }
    }

    /// The error for a failure of the kernel while the listener that a flag asks for was set up.
    pub(crate) fn listen(flag: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { flag, address },
            _ => Self::Listen { flag, address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_kernel_names_its_remedy() {
        for (errno, remedy) in [
            (libc::ENOSYS, "seccomp"),
            (libc::EPERM, "kernel.io_uring_disabled=0"),
            (libc::ENOMEM, "--recv-buffers"),
            (libc::EMFILE, "LimitNOFILE"),
            (libc::EINVAL, "while testing"),
        ] {
            let text = StartError::ring("testing", io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn a_taken_port_is_told_apart() {
        let address = "127.0.0.1:1883".parse().expect("an address");
        let taken = StartError::listen("--listen", address, io::Error::from_raw_os_error(libc::EADDRINUSE)).to_string();
        assert!(taken.contains("127.0.0.1:1883") && taken.contains("in use"), "{taken}");
        let denied = StartError::listen("--listen", address, io::Error::from_raw_os_error(libc::EACCES)).to_string();
        assert!(denied.contains("Permission denied"), "{denied}");
    }
}
