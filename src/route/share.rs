//! Shared subscriptions: one group of sessions, each message for one of them.

use std::sync::Arc;

use super::subscribers::Subscription;

/// The shared subscription of one session: of which group it is a member, and on what terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// Names the group: the filter as the client gave it, with `$share` and the share name.
    pub group: Box<str>,
    /// What the member asked for.
    pub subscription: Subscription,
}

/// What a delivery to a member has to remember, for the case that it is given back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedTerms {
    /// The membership that it is due to.
    pub share: Arc<Share>,
    /// What logs know of the message.
    pub standing: Standing,
}

/// What logs know of a message that came to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The shard that it came from may lose in a crash that it has passed it on, and then does so again: it must not get into
    /// the log of this one, where it could outlive that.
    Unsettled,
    /// It does not come again after a crash.
    Settled,
    /// Settled, and the group outlives the broker: until the log knows which member has it, it may be given to another one
    /// after a crash. So nobody sees it before, not even a member whose session ends with its connection.
    Logged,
}

impl Standing {
    /// Whether it does not come again.
    pub fn is_settled(self) -> bool {
        match self {
            Standing::Unsettled => false,
            Standing::Settled | Standing::Logged => true,
        }
    }
}

/// Whether a member can be given messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Its client is connected.
    Connected,
    /// Its client is away, and its session waits.
    Away,
    /// It has left the group, or its session has ended.
    Gone,
}
