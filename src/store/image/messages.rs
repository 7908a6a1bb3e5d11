//! What the ids of messages stand for, while a log is read.

use hashbrown::HashMap;

use crate::route::Message;
use crate::store::log::LogPosition;
use crate::store::record::MessageId;

const PAGE_BITS: u32 = 8;
const PAGE_MESSAGES: usize = 1 << PAGE_BITS;

/// Messages by id. The ids are keys of an arena and so lie close together: pages cost less than a hash table of messages,
/// and an id that makes no sense costs no more than one page.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageTable {
    pages: HashMap<u32, Box<[Option<NamedMessage>]>, foldhash::fast::FixedState>,
}

/// A message, and the batch that says what it is.
#[derive(Clone, Debug)]
pub(super) struct NamedMessage {
    pub(super) message: Message,
    pub(super) batch: LogPosition,
}

impl MessageTable {
    /// From now on the id stands for this message.
    pub(super) fn insert(&mut self, id: MessageId, message: NamedMessage) {
        let page = self.pages.entry(id.0 >> PAGE_BITS).or_insert_with(|| vec![None; PAGE_MESSAGES].into());
        page[id.0 as usize % PAGE_MESSAGES] = Some(message);
    }

    /// The message that the id stands for.
    pub(super) fn find(&self, id: MessageId) -> Option<&NamedMessage> {
        self.pages.get(&(id.0 >> PAGE_BITS))?[id.0 as usize % PAGE_MESSAGES].as_ref()
    }
}
