//! The Unix sockets that clients of this machine connect to: made with their permissions, told from what a broker has left that
//! was killed, and removed at the end.
#![allow(unsafe_code, reason = "calls of the C library")]

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crate::config::UNIX_PATH_BYTES_MAX;
use crate::error::StartError;

use super::system::{BACKLOG, END_OF_PROCESS_MAX, END_OF_PROCESS_POLL};

/// A Unix socket that is listened on; its file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The device and the number of the file.
    file: (u64, u64),
}

/// What is found where a socket is to be.
enum Found {
    Nothing,
    /// Somebody listens there.
    Live,
    /// Nobody does.
    Stale,
    /// It is something else.
    Foreign,
}

/// Listens at this path, for whom the mode lets. Waits a moment for a socket that somebody listens on: he may just have been
/// killed.
pub fn listen_unix(path: &Path, mode: u32) -> Result<UnixSocket, StartError> {
    let failed = |source| StartError::UnixSocket { path: path.to_owned(), source };
    let deadline = Instant::now() + END_OF_PROCESS_MAX;
    let socket = loop {
        match bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => match look_at(path).map_err(failed)? {
                Found::Nothing => {}
                Found::Stale => remove(path).map_err(failed)?,
                Found::Live if Instant::now() < deadline => thread::sleep(END_OF_PROCESS_POLL),
                Found::Live => return Err(StartError::UnixSocketInUse { path: path.to_owned() }),
                Found::Foreign => return Err(StartError::NoUnixSocket { path: path.to_owned() }),
            },
            bound => break bound.map_err(failed)?,
        }
    };
    // Nobody can connect before it is listened on, so that nobody slips in who may not.
    let is_open = fs::set_permissions(path, Permissions::from_mode(mode)).and_then(|()| listen(&socket));
    let metadata = is_open.and_then(|()| fs::symlink_metadata(path)).map_err(|error| {
        let _ = remove(path); // what has failed is told
        failed(error)
    })?;
    let file = (metadata.dev(), metadata.ino());
    Ok(UnixSocket { listener: UnixListener::from(socket), path: path.to_owned(), file })
}

impl UnixSocket {
    /// The socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes its file, unless it has been removed and somebody else has put his own there.
    pub fn remove_file(&self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_own {
            // The next broker finds it stale if it cannot be removed.
            let _ = remove(&self.path);
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.remove_file();
    }
}

/// Removes a file that may have gone meanwhile.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn look_at(path: &Path) -> io::Result<Found> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(Found::Foreign),
        Ok(_) => {}
    }
    // A connection that the listener has no room for is none that has to be waited for.
    match connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Found::Stale),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Ok(()) | Err(_) => Ok(Found::Live),
    }
}

/// A socket with this name, which nobody can connect to yet.
fn bind(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(0)?;
    let (address, length) = address_of(path)?;
    // SAFETY: reads an address of this length, which lives here.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })
}

fn connect(path: &Path) -> io::Result<()> {
    let socket = new_socket(libc::SOCK_NONBLOCK)?;
    let (address, length) = address_of(path)?;
    // SAFETY: reads an address of this length, which lives here.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

fn new_socket(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// The address that stands for a path, and its length.
fn address_of(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let path = path.as_os_str().as_bytes();
    if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains(&0) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    for (place, byte) in address.sun_path.iter_mut().zip(path) {
        *place = *byte as libc::c_char;
    }
    // With the zero behind the path.
    let length = offset_of!(libc::sockaddr_un, sun_path) + path.len() + 1;
    Ok((address, length as libc::socklen_t))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::io::scratch::Scratch;

    #[test]
    fn a_socket_is_made_for_whom_the_mode_lets_and_removed() {
        let directory = Scratch::new("unix-mode");
        let path = directory.path().join("socket");
        for mode in [0o660, 0o600, 0o777] {
            let socket = listen_unix(&path, mode).expect("a new socket");
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            assert!(metadata.file_type().is_socket());
            assert_eq!(metadata.permissions().mode() & 0o7777, mode);
            UnixStream::connect(&path).expect("somebody listens");
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_dead_broker_has_left_is_replaced_and_what_is_no_socket_is_not() {
        let directory = Scratch::new("unix-stale");
        let path = directory.path().join("socket");
        // The listener is closed and its file stays, as after a crash.
        drop(UnixListener::bind(&path).expect("a socket"));
        let first = listen_unix(&path, 0o660).expect("nobody listens there");
        // Whoever has taken the name meanwhile keeps it.
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "").expect("a file");
        drop(first);
        assert!(path.exists());
        let refused = listen_unix(&path, 0o660).expect_err("it is a file");
        assert!(refused.to_string().contains("something else"), "{refused}");
    }

    #[test]
    fn a_path_that_is_too_long_or_nowhere_is_told() {
        for path in [format!("/tmp/{}", "x".repeat(UNIX_PATH_BYTES_MAX)), "/no such directory/socket".to_owned()] {
            let refused = listen_unix(Path::new(&path), 0o660).expect_err("refused");
            assert!(refused.to_string().contains(&path), "{refused}");
        }
    }
}
