//! What is wrong with received bytes, and the reason code that says so to the peer.

use super::reason::ReasonCode;
use super::types::Version;

/// Why a frame was refused. The connection it came from must be closed: in 5.0 after a DISCONNECT (or CONNACK) with
/// `reason`, in 3.1.1 without a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {text}")]
pub struct DecodeError {
    /// The reason code for the peer.
    pub reason: ReasonCode,
    /// What exactly was wrong, for the log and for the Reason String.
    pub text: &'static str,
}

impl DecodeError {
    #[inline]
    pub(super) const fn new(reason: ReasonCode, text: &'static str) -> Self {
        Self { reason, text }
    }

    /// The bytes cannot be parsed by the standard (0x81).
    #[inline]
    pub(super) const fn malformed(text: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, text)
    }

    /// The bytes can be parsed, but hold what the standard does not allow (0x82).
    #[inline]
    pub(super) const fn protocol(text: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, text)
    }
}

/// Why a CONNECT was refused, and whether a CONNACK is due before the connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {text}")]
pub struct ConnectError {
    /// The version in which to send CONNACK with `reason`; `None` when the connection is closed without one, because the
    /// version is not known or 3.1.1 has no return code for it.
    pub version_to_answer: Option<Version>,
    /// The reason code for the CONNACK and the log.
    pub reason: ReasonCode,
    /// What exactly was wrong.
    pub text: &'static str,
}

impl ConnectError {
    /// A refusal whose CONNACK, where one is due, goes out in `version`.
    pub(super) fn answered(version: Version, error: DecodeError) -> Self {
        let due = match version {
            Version::V311 => error.reason.connack_return_code().is_some(),
            Version::V5 => true,
        };
        Self { version_to_answer: due.then_some(version), reason: error.reason, text: error.text }
    }

    /// A refusal of a peer whose version is not known.
    pub(super) fn silent(error: DecodeError) -> Self {
        Self { version_to_answer: None, reason: error.reason, text: error.text }
    }
}

impl From<ConnectError> for DecodeError {
    fn from(error: ConnectError) -> Self {
        Self::new(error.reason, error.text)
    }
}
