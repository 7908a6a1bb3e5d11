//! What the gate counts, for its operator.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that any thread may look at. It orders nothing, so every access is relaxed.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

macro_rules! gate_counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What has happened at the gate since the start.
        #[derive(Debug, Default)]
        pub(super) struct GateCounters {
            $($(#[doc = $doc])+ pub(super) $name: Count,)+
        }

        impl GateCounters {
            /// Each with its name and what it is.
            fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name.value())),+].into_iter()
            }
        }
    };
}

gate_counters! {
    /// Clients that have shown who they are.
    identified,
    /// Clients refused because they do not say who they are.
    refused_anonymous,
    /// Clients refused because user name, password or proof is wrong.
    refused_credentials,
    /// Clients refused because they want an authentication method that there is not.
    refused_method,
    /// Clients refused unheard because their address has failed too often.
    refused_busy,
    /// Clients refused because their certificate does not name them.
    refused_nameless,
    /// Clients refused because their client id is not one that their user may have.
    refused_client_id,
    /// Handshakes of TLS that came to their end.
    tls_handshakes,
    /// Handshakes of TLS that were begun and did not.
    tls_handshakes_failed,
    /// Clients refused because the broker holds as many as it may.
    refused_full,
    /// Clients refused because as many of their address are connected, or not admitted yet, as may be.
    refused_address_full,
    /// Connections to a listener behind a proxy, ended because they do not come from one that is trusted.
    refused_untrusted_proxy,
    /// Connections of proxies, ended because of their headers.
    refused_proxy_header,
    /// Connections of which a proxy has said who is at their other end.
    proxied,
    /// Connections accepted.
    accepted,
    /// Clients handed to their shards.
    admitted,
    /// Clients refused, for whatever reason, and told so.
    refused,
    /// Connections that ended before there was a CONNECT to answer: by themselves, for what they said, or for where they came from.
    broken_off,
    /// Connections on which what the client had to say did not come in time.
    timed_out,
    /// Accepts that have failed.
    accepts_failed,
    /// Pauses before the next client is accepted, because they come faster than they may.
    accepts_paused,
}

impl Count {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// `name=value` pairs on one line.
impl fmt::Display for GateCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, _, value) in self.rows() {
            write!(formatter, "{separator}{name}={value}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// A look at what the gate counts, from any thread.
#[derive(Clone, Debug, Default)]
pub struct GateFigures(pub(super) Arc<GateCounters>);

impl GateFigures {
    /// Each count with its name and what it is.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
        self.0.rows()
    }

    /// Connections that are neither handed over nor ended. Read while they move, so that it may be off by those that do.
    pub fn half_open(&self) -> u64 {
        let GateCounters { admitted, refused, broken_off, timed_out, .. } = &*self.0;
        let ended: u64 = [admitted, refused, broken_off, timed_out].into_iter().map(Count::value).sum();
        self.0.accepted.value().saturating_sub(ended)
    }
}
