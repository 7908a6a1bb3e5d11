//! Where a client comes from, as far as that is known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a client comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// From this address: that at the other end of its connection, or what a proxy there has said of it.
    Address(SocketAddr),
    /// From this machine, over a Unix socket.
    UnixSocket,
}

impl Origin {
    /// The address whose deeds it answers for. Who comes over a Unix socket shares it with all that is local.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Address(address) => address.ip(),
            Self::UnixSocket => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::UnixSocket => formatter.write_str("unix"),
        }
    }
}
