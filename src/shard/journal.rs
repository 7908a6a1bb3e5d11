//! What of the shard's state goes into its log. A session that ends with its connection leaves no trace there.
//!
//! Each function appends what one change of state is in the log's words. All of one event lie in one batch, for batches
//! are sealed between events.

use std::borrow::Cow;

use crate::proto::{PacketId, QoS};
use crate::route::Terms;
use crate::store::{Log, Record, SessionId, SessionRecord};

use super::clients::Clients;
use super::messages::{Delivery, MessageKey, Messages};
use super::sessions::{Held, SessionKey, Sessions};

impl Clients {
    /// Logs the head of a session, as it is now.
    pub(super) fn log_session(&mut self, key: SessionKey) {
        if self.sessions.get(key).is_durable {
            self.log.append(&Record::Session(self.sessions.head(key)));
        }
    }

    /// Logs that a QoS 2 message with this id came from the client.
    #[inline]
    pub(super) fn log_received(&mut self, key: SessionKey, id: PacketId) {
        if self.sessions.get(key).is_durable {
            self.log.append(&Record::Received { session: key.id(), id });
        }
    }

    /// Logs that the client has released the id.
    #[inline]
    pub(super) fn log_released(&mut self, key: SessionKey, id: PacketId) {
        if self.sessions.get(key).is_durable {
            self.log.append(&Record::Released { session: key.id(), id });
        }
    }

    /// Logs that the client has confirmed a delivery by PUBREC.
    #[inline]
    pub(super) fn log_confirmed(&mut self, key: SessionKey, number: u64) {
        if self.sessions.get(key).is_durable {
            self.log.append(&Record::Confirmed { session: key.id(), number });
        }
    }

    /// Logs that a delivery is over.
    #[inline]
    pub(super) fn log_completed(&mut self, key: SessionKey, number: u64) {
        log_completed(&mut self.log, self.sessions.get(key).is_durable, key, number);
    }
}

impl Sessions {
    /// The head of a session, in the log's words.
    pub(super) fn head(&self, key: SessionKey) -> SessionRecord<'_> {
        let session = self.get(key);
        let (next_number, sent_below) = match self.outbound_to_read(key) {
            Some(outbound) => (outbound.next_number(), outbound.sent_below()),
            None => (session.next_number, session.next_number),
        };
        SessionRecord {
            session: key.id(),
            client_id: Cow::Borrowed(&session.client_id),
            expiry: session.expiry,
            disconnected_at: session.disconnected_at,
            next_number,
            sent_below,
            will: session.will.as_deref().map(Into::into),
            remote: session.remote,
        }
    }
}

/// Logs a delivery, and its message if the log does not have it.
#[inline]
pub(super) fn log_delivered(
    log: &mut Log,
    messages: &mut Messages,
    session: SessionKey,
    number: u64,
    delivery: &Delivery,
) {
    let message = messages.log(log, delivery.message);
    log.append(&Record::Delivered { session: session.id(), number, message, terms: Cow::Borrowed(&delivery.terms) });
}

/// Logs a delivery that is not kept in memory, in one batch with its message.
pub(super) fn log_away(
    log: &mut Log,
    messages: &mut Messages,
    session: SessionKey,
    number: u64,
    message: MessageKey,
    terms: &Terms,
) {
    let message = messages.log_here(log, message);
    log.append(&Record::Delivered { session: session.id(), number, message, terms: Cow::Borrowed(terms) });
}

/// Logs a message that is held back, and the message itself if the log does not have it.
pub(super) fn log_held_back(
    log: &mut Log,
    messages: &mut Messages,
    session: SessionKey,
    message: MessageKey,
    terms: &Terms,
) {
    let message = messages.log(log, message);
    log.append(&Record::HeldBack { session: session.id(), message, terms: Cow::Borrowed(terms) });
}

/// Logs anew all that is held back for a session, in its order. Says whether that is anything.
pub(super) fn log_held(log: &mut Log, messages: &mut Messages, session: SessionKey, held: &Held) -> bool {
    if held.is_logged {
        log.append(&Record::HeldReleased { session: session.id() });
    }
    let mut logged = held.deliveries.iter().filter(|delivery| delivery.terms.qos > QoS::AtMostOnce).peekable();
    let is_any = logged.peek().is_some();
    for delivery in logged {
        log_held_back(log, messages, session, delivery.message, &delivery.terms);
    }
    is_any
}

/// Logs, if there is something new, up to where messages may have been sent.
#[inline]
pub(super) fn log_reserved(log: &mut Log, session: SessionKey, reserved: Option<u64>) {
    if let Some(number) = reserved {
        log.append(&Record::SentBelow { session: session.id(), number });
    }
}

/// Logs that a delivery is over.
#[inline]
pub(super) fn log_completed(log: &mut Log, is_durable: bool, session: SessionKey, number: u64) {
    if is_durable {
        log.append(&Record::Completed { session: session.id(), number });
    }
}

impl SessionKey {
    /// The session's name in the log.
    pub(super) fn id(self) -> SessionId {
        SessionId(self.index() as u32)
    }
}
