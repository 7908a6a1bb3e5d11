//! What the broker at the other end of a bridge keeps for the bridge's session.

use std::num::NonZeroU64;

/// The other broker keeps a session that belongs to ours: the packet ids in flight there mean the same exchanges as here.
///
/// A bridge that does not know this of its session must not resume what it finds at the other broker, for packet ids there
/// may be left over from somebody else; and one that knows it must not begin anew, or messages that wait there are lost.
/// Also says whether the subscriptions there are known to be the configured ones, so that they need not be made again: with
/// 3.1.1 every SUBSCRIBE brings all retained messages once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteSession(NonZeroU64);

impl RemoteSession {
    /// A session without a subscription that has been acknowledged.
    pub const FRESH: Self = Self(NonZeroU64::MIN);

    /// A session that has all subscriptions of which this is the digest.
    pub fn subscribed(digest: u64) -> Self {
        // The lowest value is taken.
        Self(NonZeroU64::new(digest.saturating_add(1).max(2)).expect("2 and more is not zero"))
    }

    /// The session that [`mark`](Self::mark) stands for.
    pub fn from_mark(mark: u64) -> Option<Self> {
        NonZeroU64::new(mark).map(Self)
    }

    /// A number that stands for it, never 0.
    pub fn mark(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_never_mistaken_for_no_subscription() {
        for digest in [0, 1, 7, u64::MAX - 1, u64::MAX] {
            let subscribed = RemoteSession::subscribed(digest);
            assert_ne!(subscribed, RemoteSession::FRESH);
            assert_eq!(RemoteSession::from_mark(subscribed.mark()), Some(subscribed));
        }
        assert_ne!(RemoteSession::subscribed(7), RemoteSession::subscribed(8));
        assert_eq!(RemoteSession::from_mark(0), None);
    }
}
