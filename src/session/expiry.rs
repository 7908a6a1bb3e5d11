//! How long a session outlives its connection.

use std::time::Duration;

use crate::time::Timestamp;

/// The Session Expiry Interval [MQTT-3.1.2-23], and what 3.1.1's clean session flag means in its terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionExpiry {
    /// The session ends with the connection: 5.0 interval 0 or absent, 3.1.1 clean session 1.
    WithConnection,
    /// The session ends so long after the connection.
    After(Duration),
    /// The session never ends by time: 5.0 interval 0xFFFFFFFF, 3.1.1 clean session 0.
    Never,
}

impl SessionExpiry {
    /// From the 5.0 property, in seconds.
    pub fn from_interval(seconds: u32) -> Self {
        match seconds {
            0 => Self::WithConnection,
            u32::MAX => Self::Never,
            seconds => Self::After(Duration::from_secs(seconds.into())),
        }
    }

    /// From the 3.1.1 flag.
    pub fn from_clean_session(clean: bool) -> Self {
        if clean { Self::WithConnection } else { Self::Never }
    }

    /// When a session that lost its connection at `disconnected` ends; `None` is never.
    pub fn deadline(self, disconnected: Timestamp) -> Option<Timestamp> {
        match self {
            Self::WithConnection => Some(disconnected),
            Self::After(interval) => Some(disconnected + interval),
            Self::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trap 17.
    #[test]
    fn an_interval_counts_from_the_disconnect() {
        let now = Timestamp::from_nanos(5_000_000_000);
        assert_eq!(SessionExpiry::from_interval(0).deadline(now), Some(now));
        assert_eq!(SessionExpiry::from_interval(7).deadline(now), Some(Timestamp::from_nanos(12_000_000_000)));
        assert_eq!(SessionExpiry::from_interval(u32::MAX).deadline(now), None);
        assert_eq!(SessionExpiry::from_clean_session(true), SessionExpiry::WithConnection);
        assert_eq!(SessionExpiry::from_clean_session(false), SessionExpiry::Never);
    }
}
