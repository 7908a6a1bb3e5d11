//! What is configured of one bridge.

use std::fmt;

use crate::proto::Version;

use super::topics::Topics;

/// What the ids of the sessions of bridges begin with; no client may call itself so.
pub const SESSION_PREFIX: &str = "$bridge/";

/// One bridge to another broker. Its `Debug` output withholds the password.
#[derive(Clone)]
pub struct Bridge {
    /// Its name here: of ASCII letters, digits, `-`, `_` and `.`.
    pub name: Box<str>,
    /// Where the remote is: a name or an address.
    pub host: Box<str>,
    /// The port there.
    pub port: u16,
    /// The protocol that is spoken.
    pub version: Version,
    /// As whom it connects there.
    pub client_id: Box<str>,
    /// Keep-alive in seconds, never 0.
    pub keep_alive_seconds: u16,
    /// The user there.
    pub username: Option<Box<str>>,
    /// The password there; only with a user.
    pub password: Option<Box<[u8]>>,
    /// QoS 1 and 2 messages that a 5.0 remote may have unacknowledged; none is as many as other publishers may.
    pub receive_maximum: Option<u16>,
    /// Messages that may be in flight to the remote; a 5.0 remote may allow fewer.
    pub max_inflight: u16,
    /// What it carries.
    pub topics: Topics,
}

impl Bridge {
    /// The id of its session in this broker.
    pub fn session_id(&self) -> String {
        format!("{SESSION_PREFIX}{}", self.name)
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bridge")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "withheld"))
            .field("receive_maximum", &self.receive_maximum)
            .field("max_inflight", &self.max_inflight)
            .field("topics", &self.topics)
            .finish()
    }
}
