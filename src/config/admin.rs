//! Where the operator looks in, and the bounds of what that may cost.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What `oncemq serve` was told about the admin listener; there is none where nobody looks in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The file with the token that requests have to carry; never `None` for an address that others than this machine can reach.
    pub token_file: Option<PathBuf>,
}

/// Connections to the admin listener that are served at a time; the oldest makes way for a further one.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Time that a connection has for its request and its answer, whoever is slow.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's head, and of what is read at once, at most.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a request's body, at most.
pub const ADMIN_BODY_BYTES_MAX: usize = 256 * 1024;

/// Time that a shard has to answer.
pub const ADMIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Questions that wait for one shard, at most: one for each connection.
pub const ADMIN_QUESTIONS_MAX: usize = ADMIN_CONNECTIONS_MAX;

/// Clients, or retained messages, in one answer of the API.
pub const ADMIN_PAGE: RangeInclusive<usize> = 1..=1000;

/// As many when nothing is said.
pub const ADMIN_PAGE_DEFAULT: usize = 100;

/// Clients or retained messages that a shard is asked for at once; what it walks over for them has a bound of its own.
pub const ADMIN_CLIENTS_PER_QUESTION: usize = 128;

/// Subscriptions in an answer about one session.
pub const ADMIN_SUBSCRIPTIONS_MAX: usize = 1000;

/// Questions to shards that one request for a page may cause; what is left then is for the next page.
pub const ADMIN_QUESTIONS_PER_PAGE: usize = 256;

/// Who watches the broker live, at most; one more is refused.
pub const ADMIN_WATCHERS_MAX: usize = 16;

/// Between two events that watchers get.
pub const ADMIN_LIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Events that wait for one watcher to take them, at most; who falls behind further is dropped.
pub const ADMIN_EVENTS_WAITING_MAX: usize = 4;

/// Characters of a token. Fewer can be guessed.
pub const ADMIN_TOKEN_CHARACTERS: RangeInclusive<usize> = 16..=1024;

const _: () = {
    assert!(*ADMIN_PAGE.start() <= ADMIN_PAGE_DEFAULT && ADMIN_PAGE_DEFAULT <= *ADMIN_PAGE.end());
    assert!(ADMIN_CLIENTS_PER_QUESTION * ADMIN_QUESTIONS_PER_PAGE >= *ADMIN_PAGE.end());
    assert!(ADMIN_ANSWER_TIMEOUT.as_millis() < ADMIN_REQUEST_TIMEOUT.as_millis());
    // Who watches leaves room for who asks, and gets events often enough not to be taken for slow.
    assert!(ADMIN_WATCHERS_MAX < ADMIN_CONNECTIONS_MAX);
    assert!(ADMIN_LIVE_INTERVAL.as_millis() + ADMIN_ANSWER_TIMEOUT.as_millis() < ADMIN_REQUEST_TIMEOUT.as_millis());
};
