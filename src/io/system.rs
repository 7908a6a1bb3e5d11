//! What else is asked of the kernel: listeners, descriptors, limits, CPUs.
#![allow(unsafe_code, reason = "calls of the C library")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::StartError;

use super::origin::Origin;

/// The oldest kernel that has what the ring needs: `DEFER_TASKRUN`, with multishot receive and buffer rings before it.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Clients that may wait in the kernel to be accepted; the kernel lowers it to `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Refuses a kernel that is too old.
pub fn check_kernel() -> Result<(), StartError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    // A release that cannot be read or understood is given the benefit of the doubt: the ring's set-up will tell.
    match kernel_version(release) {
        Some(version) if version < KERNEL_MIN => Err(StartError::KernelTooOld { release: release.to_owned() }),
        Some(_) | None => Ok(()),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Makes what was created, renamed or removed in a directory stable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The CPUs that this process may use, in ascending order.
pub fn allowed_cpus() -> Vec<usize> {
    let mut cpus: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// Whether the kernel may put memory of this process into huge pages from now on, where the system or the allocator asks for
/// them: many records then share a place in the processor's tables, and a byte in use holds 2 MiB.
pub fn allow_huge_pages(is_allowed: bool) {
    // A kernel or a container that refuses it costs memory and nothing else.
    // SAFETY: the call takes numbers and touches no memory of ours.
    let _ = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!is_allowed), 0, 0, 0) };
}

/// Raises the soft limit of open files to the hard one, and answers how many files may be open now.
pub fn raise_open_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit into one that lives here.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return u64::MAX;
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one rlimit that lives here.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 { limit.rlim_max } else { soft }
}

/// How long this process has been on CPUs, in user and kernel mode.
pub fn processor_time() -> Option<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: writes one rusage into one that lives here.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).ok()?;
        Some(Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).ok()?))
    };
    Some(duration(usage.ru_utime)? + duration(usage.ru_stime)?)
}

/// How long what a killed process held may still be held: the kernel closes the sockets and files of its rings only when
/// nothing is in flight on them any more.
pub(super) const END_OF_PROCESS_MAX: Duration = Duration::from_secs(3);
/// How often to look meanwhile.
pub(super) const END_OF_PROCESS_POLL: Duration = Duration::from_millis(20);

/// A listener, for which `flag` asks, with a backlog for a storm of reconnecting clients. Waits a moment for a port that is in
/// use: its holder may just have been killed.
pub fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let deadline = Instant::now() + END_OF_PROCESS_MAX;
    let listener = loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(END_OF_PROCESS_POLL);
            }
            bound => break bound.map_err(|error| StartError::listen(flag, address, error))?,
        }
    };
    // SAFETY: no memory is involved. A second listen on a listening socket sets the backlog anew.
    if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } != 0 {
        return Err(StartError::listen(flag, address, io::Error::last_os_error()));
    }
    Ok(listener)
}

/// Makes a listener refuse clients from here on and wakes who waits in an accept on it.
pub fn stop_listening(listener: &impl AsFd) {
    shut_down(listener.as_fd(), libc::SHUT_RDWR);
}

/// A descriptor of one's own for a socket that something else is about to close.
///
/// The runtime of the gate keeps its descriptors to itself, so what leaves it leaves as a duplicate.
pub fn take_descriptor(socket: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller holds the socket, so its descriptor is open for the duration of this call.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }.try_clone_to_owned()
}

/// Who is at the other end of a socket; none if it is not connected any more.
pub(super) fn peer_of(socket: BorrowedFd<'_>) -> Option<Origin> {
    // SAFETY: the descriptor is open while it is borrowed, and this second owner of it is never dropped.
    let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket.as_raw_fd()) });
    match stream.peer_addr() {
        Ok(address) => Some(Origin::Address(address)),
        // What the kernel has said, and what is no address of IP.
        Err(error) if error.raw_os_error().is_some() => None,
        Err(_) => Some(Origin::UnixSocket),
    }
}

/// Says that nothing more will be sent, and lets the peer read what was.
pub(super) fn finish_sending(socket: BorrowedFd<'_>) {
    shut_down(socket, libc::SHUT_WR);
}

/// Ends both directions, which completes every operation in flight on the socket.
pub(super) fn end_operations(socket: BorrowedFd<'_>) {
    shut_down(socket, libc::SHUT_RDWR);
}

fn shut_down(socket: BorrowedFd<'_>, how: i32) {
    // SAFETY: no memory is involved. The only failure of an open socket, not being connected any more, is what was wanted.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

/// A new eventfd with nothing in it.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether a process lives: it is there, and has not ended with only its parent not having asked how.
pub(super) fn is_running(process: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // The name stands in parentheses and may hold any character; the state is the first letter behind it.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

/// Takes the lock of a file for this process, until the file is closed; says whether nobody else has it.
pub(super) fn try_lock(file: &File, lock: Lock) -> io::Result<bool> {
    let operation = match lock {
        Lock::Shared => libc::LOCK_SH,
        Lock::Exclusive => libc::LOCK_EX,
    };
    // SAFETY: no memory is involved.
    if unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        error => Err(error),
    }
}

/// How a file is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lock {
    /// Others may share it.
    Shared,
    /// Nobody else may have it.
    Exclusive,
}

/// Gives a new file its space on the disk. A file system that cannot do so leaves it to the first write.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: no memory is involved.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        error => Err(error),
    }
}

/// Bytes that the file system of a directory has left for this process; none if it does not say.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: reads a path that ends in a zero byte, and writes one statvfs into one that lives here.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call has filled it.
    let found = unsafe { found.assume_init() };
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes a write beyond the limit of a file's size fail, where it would end the process otherwise.
pub fn outlive_file_size_limit() {
    // SAFETY: to ignore a signal runs no code of ours in its place.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Gives this thread less of the CPU than others get, where they want all of it: about a tenth of what one of them has.
pub fn yield_to_others() {
    const NICE: i32 = 10;
    // SAFETY: no memory is involved. 0 is this thread; to be less important is allowed to all.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read_and_compared() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(kernel_version("10.0"), Some((10, 0)));
        assert_eq!(kernel_version("unknown"), None);
        assert!(kernel_version("5.15.0") < Some(KERNEL_MIN));
        assert!(kernel_version("6.1") >= Some(KERNEL_MIN));
    }

    #[test]
    fn a_file_system_says_what_it_has_left() {
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/no such directory")), None);
    }

    #[test]
    fn this_process_may_use_a_cpu() {
        assert!(!allowed_cpus().is_empty());
    }

    #[test]
    fn huge_pages_are_forbidden_and_allowed() {
        let is_allowed = || {
            let status = fs::read_to_string("/proc/self/status").expect("it is always there");
            let line = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
            line.map(|value| value.trim() == "1")
        };
        if is_allowed() != Some(true) {
            return; // a system without them
        }
        allow_huge_pages(false);
        assert_eq!(is_allowed(), Some(false));
        allow_huge_pages(true);
        assert_eq!(is_allowed(), Some(true));
    }

    #[test]
    fn the_other_end_of_a_socket_is_told_apart() {
        let listener = listen("--listen", "127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("it listens");
        let (accepted, address) = listener.accept().expect("a client");
        assert_eq!(peer_of(accepted.as_fd()), Some(Origin::Address(address)));
        assert_eq!(peer_of(listener.as_fd()), None, "it is connected to nobody");
        drop(client);
        let (local, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        assert_eq!(peer_of(local.as_fd()), Some(Origin::UnixSocket));
    }

    #[test]
    fn a_stopped_listener_refuses() {
        let listener = listen("--listen", "127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("its address");
        stop_listening(&listener);
        assert!(listener.accept().is_err());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
