//! Who stands behind a filter: a session, or a group of a shared subscription.

use super::sessions::SessionKey;

/// Names a group of a shard that is its home.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct GroupKey(u32);

impl GroupKey {
    pub(super) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a shard has fewer than 2^32 groups"))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A subscriber in the trie: a key of either kind, in 32 bits, because there may be millions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Recipient(u32);

/// What kind of recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecipientKind {
    Session(SessionKey),
    Group(GroupKey),
}

/// Set for a group.
const GROUP: u32 = 1 << 31;

impl Recipient {
    #[inline]
    pub(super) fn kind(self) -> RecipientKind {
        if self.0 & GROUP == 0 {
            RecipientKind::Session(SessionKey::from_id(self.0))
        } else {
            RecipientKind::Group(GroupKey(self.0 & !GROUP))
        }
    }
}

impl From<SessionKey> for Recipient {
    fn from(session: SessionKey) -> Self {
        let index = session.id().0;
        assert!(index & GROUP == 0, "a shard has fewer than 2^31 sessions");
        Self(index)
    }
}

impl From<GroupKey> for Recipient {
    fn from(group: GroupKey) -> Self {
        assert!(group.0 & GROUP == 0, "a shard has fewer than 2^31 groups");
        Self(group.0 | GROUP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_of_one_kind() {
        let (session, group) = (SessionKey::from_id(7), GroupKey::from_index(7));
        assert_eq!(Recipient::from(session).kind(), RecipientKind::Session(session));
        assert_eq!(Recipient::from(group).kind(), RecipientKind::Group(group));
        assert_ne!(Recipient::from(session), Recipient::from(group));
    }
}
