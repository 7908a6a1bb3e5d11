//! What a client may publish, subscribe to and get, where there are rules for that ([`AccessRules`]); without them everything.
//!
//! | where                     | who may not                       | hears                                                      |
//! |---------------------------|-----------------------------------|------------------------------------------------------------|
//! | CONNECT, with a will      | is refused                        | CONNACK 0x87 (3.1.1: 0x05)                                 |
//! | PUBLISH                   | is not heard: it is not routed    | PUBACK, PUBREC 0x87 (3.1.1: as if it were; QoS 0: nothing) |
//! | SUBSCRIBE                 | gets no subscription              | SUBACK 0x87 (3.1.1: 0x80)                                  |
//! | a message on its way to it | does not get it                  | nothing: it is dropped as if it had been sent              |
//! | the end of a connection   | leaves no will                    | nothing                                                    |
//!
//! A subscription is granted if the client may read some topic that its filter matches; each message is judged on its own, when
//! it goes to the client. So a client that subscribes to `#` gets what it may read, as from mosquitto. An exchange that has
//! begun is completed; but its message is not sent again to who may not read it (any more, or having taken the session of somebody
//! else over): PUBREL alone ends what the client may have of it. Of a shared subscription the member is chosen first, whatever it may read.
//!
//! # Invariants
//! - New rules hold from the next packet and the next message on, for clients that are connected, too: each has its permissions
//!   compiled again when they are needed next. Subscriptions stay, and wills are judged again when the connection ends.
//! - Bridges of ours are the operator's, and not judged.
//! - A client whose subscriptions were all found readable as a whole is not asked about each message.

use std::sync::Arc;

use crate::auth::{AccessRules, Identity, Permissions};
use crate::route::{Message, TopicFilter, TopicName};
use crate::time::Timestamp;

use super::Shard;
use super::clients::Clients;
use super::connection::{Connection, ConnectionKey};
use super::sessions::SessionKey;

/// Who a client is, and what it may do; there is none for who did not have to say, as long as nobody asks what it may do.
#[derive(Debug, Default)]
pub(super) struct Principal {
    /// The account; none if it did not have to say who it is.
    pub(super) identity: Option<Identity>,
    permit: Option<Box<Permit>>,
}

/// What a client may do, as long as it is connected and the rules are the same.
#[derive(Debug)]
struct Permit {
    permissions: Permissions,
    /// Messages may come that it may not read.
    is_read_checked: bool,
}

impl From<Identity> for Principal {
    fn from(identity: Identity) -> Self {
        Self { identity: Some(identity), permit: None }
    }
}

impl Shard {
    /// From now on these are the rules.
    pub fn handle_access_rules(&mut self, now: Timestamp, rules: Arc<AccessRules>) {
        self.clients.now = now;
        self.clients.access_rules = Some(rules);
    }
}

impl Connection {
    /// Whether a message may be routed that the client publishes, as its permissions say.
    fn may_write(&mut self, topic: &str) -> bool {
        self.permit().is_none_or(|permit| permit.permissions.may_write(topic))
    }

    /// Whether a message may go to the client, as its permissions say.
    pub(super) fn may_read(&mut self, message: &Message) -> bool {
        self.permit().is_none_or(|permit| !permit.is_read_checked || permit.permissions.may_read(message.topic_name()))
    }

    fn permit(&mut self) -> Option<&mut Permit> {
        self.principal.as_mut()?.permit.as_deref_mut()
    }
}

impl Clients {
    /// Whether the client may leave this will, before it has a session of its own.
    pub(super) fn may_leave_will(&mut self, key: ConnectionKey, client_id: &str, topic: TopicName<'_>) -> bool {
        let existing = self.sessions.find(client_id);
        self.compile_permit(key, existing.is_some(), client_id);
        self.connections[key.index()].may_write(topic.as_str())
    }

    /// Whether the client may publish to this topic.
    #[inline]
    pub(super) fn may_publish(&mut self, key: ConnectionKey, session: SessionKey, topic: &str) -> bool {
        if self.access_rules.is_none() {
            return true;
        }
        self.update_permit(key, session);
        self.connections[key.index()].may_write(topic)
    }

    /// Whether the client may subscribe to this filter. If so, it is going to.
    pub(super) fn may_subscribe(&mut self, key: ConnectionKey, session: SessionKey, filter: &TopicFilter<'_>) -> bool {
        self.update_permit(key, session);
        let Some(permit) = self.connections[key.index()].permit() else { return true };
        let may_subscribe = permit.permissions.may_subscribe(filter);
        permit.is_read_checked |= may_subscribe && !permit.permissions.reads_all(filter);
        may_subscribe
    }

    /// Whether a session may have a message now. For one whose client is away that is asked when it comes back.
    #[inline]
    pub(super) fn may_have(&mut self, session: SessionKey, message: &Message) -> bool {
        self.access_rules.is_none() || self.may_get(session, message)
    }

    fn may_get(&mut self, session: SessionKey, message: &Message) -> bool {
        let Some(key) = self.sessions.get(session).connection else { return true };
        self.update_permit(key, session);
        self.connections[key.index()].may_read(message)
    }

    /// Forgets the will of a connection that ends, if the client may not leave it any more.
    pub(super) fn judge_will(&mut self, key: ConnectionKey, session: SessionKey) {
        if self.sessions.get(session).will.is_none() {
            return;
        }
        self.update_permit(key, session);
        let Some(will) = &self.sessions.get(session).will else { return };
        if !self.connections[key.index()].may_write(will.topic_name()) {
            self.sessions.get_mut(session).will = None;
            self.counters.refused_acl_will += 1;
        }
    }

    /// Sees to it that the client's permissions are those of the rules as they are now.
    #[inline]
    pub(super) fn update_permit(&mut self, key: ConnectionKey, session: SessionKey) {
        let Some(rules) = &self.access_rules else { return };
        let permit = self.connections[key.index()].permit();
        if permit.is_none_or(|permit| !permit.permissions.are_by(rules)) {
            let record = self.sessions.get(session);
            // What was subscribed by other rules, or on another connection, was not judged by these.
            let has_history = record.subscription_count() > 0 || self.sessions.outbound_to_read(session).is_some();
            let client_id = record.client_id.clone();
            self.compile_permit(key, has_history, &client_id);
        }
    }

    #[cold]
    fn compile_permit(&mut self, key: ConnectionKey, is_read_checked: bool, client_id: &str) {
        let connection = &mut self.connections[key.index()];
        let Some(rules) = self.access_rules.as_ref().filter(|_| connection.role.link().is_none()) else { return };
        let principal = connection.principal.get_or_insert_default();
        let user_name = principal.identity.as_ref().map(|identity| &*identity.user_name);
        let permissions = rules.permissions_of(user_name, client_id);
        principal.permit = Some(Box::new(Permit { permissions, is_read_checked }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each client with an account: tuning.md, "Memory", tells what it costs.
    #[test]
    fn a_principal_is_half_a_cache_line() {
        assert_eq!(size_of::<Principal>(), 32);
    }
}
