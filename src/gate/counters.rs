//! What the gate counts, for its operator.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that any thread may look at. It orders nothing, so every access is relaxed.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

/// What has happened at the gate since the start.
#[derive(Debug, Default)]
pub(super) struct GateCounters {
    /// Clients that have shown who they are.
    pub(super) identified: Count,
    /// Clients refused because they do not say who they are.
    pub(super) refused_anonymous: Count,
    /// Clients refused because user name, password or proof is wrong.
    pub(super) refused_credentials: Count,
    /// Clients refused because they want an authentication method that there is not.
    pub(super) refused_method: Count,
    /// Clients refused unheard because their address has failed too often.
    pub(super) refused_busy: Count,
    /// Clients refused because their certificate does not name them.
    pub(super) refused_nameless: Count,
    /// Clients refused because their client id is not one that their user may have.
    pub(super) refused_client_id: Count,
    /// Handshakes of TLS that came to their end.
    pub(super) tls_handshakes: Count,
    /// Handshakes of TLS that were begun and did not.
    pub(super) tls_handshakes_failed: Count,
}

impl Count {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// `name=value` pairs on one line.
impl fmt::Display for GateCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            identified,
            refused_anonymous,
            refused_credentials,
            refused_method,
            refused_busy,
            refused_nameless,
            refused_client_id,
            tls_handshakes,
            tls_handshakes_failed,
        } = self;
        let value = |count: &Count| count.0.load(Ordering::Relaxed);
        write!(
            formatter,
            "identified={} refused_anonymous={} refused_credentials={} refused_method={} refused_busy={} \
             refused_nameless={} refused_client_id={} tls_handshakes={} tls_handshakes_failed={}",
            value(identified),
            value(refused_anonymous),
            value(refused_credentials),
            value(refused_method),
            value(refused_busy),
            value(refused_nameless),
            value(refused_client_id),
            value(tls_handshakes),
            value(tls_handshakes_failed)
        )
    }
}
