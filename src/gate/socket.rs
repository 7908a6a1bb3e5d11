//! A client's connection as the gate has it: a stream of bytes, over TCP or a Unix socket.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};

use tokio_uring::BufResult;
use tokio_uring::buf::{BoundedBuf, BoundedBufMut};
use tokio_uring::net::{TcpStream, UnixStream};

/// A client's connection.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) async fn read<B: BoundedBufMut>(&self, into: B) -> BufResult<usize, B> {
        match self {
            Self::Tcp(stream) => stream.read(into).await,
            Self::Unix(stream) => stream.read(into).await,
        }
    }

    pub(super) async fn write_all<B: BoundedBuf>(&self, bytes: B) -> BufResult<(), B> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    /// What is written leaves at once, as it always does on this machine.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}
