//! The end of connections and sessions: who ends them, what is still said, and what becomes of the will.

use std::time::Duration;

use crate::proto::{QoS, ReasonCode};
use crate::route::{Author, Letter, Presence, Removed};
use crate::session::SessionExpiry;
use crate::store::Record;
use crate::time::Timestamp;
use crate::transport::Close;

use super::connection::{Connection, ConnectionKey, Phase};
use super::farewell::Farewell;
use super::publishing::Owner;
use super::receiving::Violation;
use super::role::BridgeNotice;
use super::sessions::SessionKey;
use super::{Command, Shard, TimerKey};

/// What becomes of the will of a connection that ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Will {
    /// The client took it back by a normal DISCONNECT.
    Discard,
    /// It is due [MQTT-3.1.2-8].
    Publish,
}

impl Shard {
    /// The client ended the connection, by DISCONNECT or by closing its side.
    pub(super) fn end_by_client(&mut self, key: ConnectionKey, will: Will) {
        self.detach(key, will);
        self.finish(key, true);
    }

    /// The client has shut its side. It still gets its answers, also those that other shards have a part in.
    pub(super) fn end_of_stream(&mut self, key: ConnectionKey) {
        self.clients.connection(key).stream_ended = true;
        self.end_if_over(key);
    }

    /// Ends a connection whose client has shut its side and waits for nothing more.
    pub(super) fn end_if_over(&mut self, key: ConnectionKey) {
        if self.clients.connection(key).stream_ended && !self.is_subscribing(key) {
            self.end_by_client(key, Will::Publish);
        }
    }

    /// The server ends the connection; a 5.0 client is told why.
    pub(super) fn end_by_server(&mut self, key: ConnectionKey, reason: ReasonCode) {
        self.end_with_disconnect(key, Farewell { reason, text: None, refers: false });
    }

    /// The client did what it may not do.
    pub(super) fn end_by_violation(&mut self, key: ConnectionKey, violation: Violation) {
        self.clients.counters.protocol_violations += 1;
        self.end_for(key, violation);
    }

    /// The server ends the connection; a 5.0 client is told the reason, and in words.
    pub(super) fn end_for(&mut self, key: ConnectionKey, violation: Violation) {
        let Violation { reason, text } = violation;
        self.end_with_disconnect(key, Farewell { reason, text: Some(text), refers: false });
    }

    fn end_with_disconnect(&mut self, key: ConnectionKey, farewell: Farewell) {
        self.detach(key, Will::Publish);
        let farewell = match self.clients.connection(key).role.link() {
            None => farewell,
            Some(link) => {
                let bridge = link.bridge.name.clone();
                self.notices.extend(farewell.text.map(|text| BridgeNotice::Ended { bridge, text }));
                Farewell { reason: as_client(farewell.reason), refers: false, ..farewell }
            }
        };
        self.send_disconnect(key, farewell);
        self.finish(key, false);
    }

    /// Parts a connection from its session. The session waits for its client or ends, as its expiry says.
    pub(super) fn detach(&mut self, key: ConnectionKey, will: Will) {
        let now = self.clients.now;
        let connection = self.clients.connection(key);
        connection.receipts.clear();
        let Some(session) = connection.session.take() else { return };
        self.clients.attached -= 1;
        self.clients.clear_congestion(session);
        let record = self.clients.sessions.get_mut(session);
        record.connection = None;
        record.disconnected_at = Some(now);
        if will == Will::Discard {
            record.will = None;
        }
        self.clients.judge_will(key, session);
        self.forget_subscriber(session);
        if let Some(outbound) = self.clients.sessions.outbound_if_any(session) {
            outbound.detach();
            outbound.set_sent_below(outbound.next_to_start());
        }
        if self.clients.sessions.get(session).expiry != SessionExpiry::WithConnection {
            self.clients.compact_unfinished(session);
            self.announce_presence(session, Presence::Away);
        }
        self.wait_for_client(session, now);
    }

    /// The client of a session went away at `since`: the session ends, or its expiry counts and its will is published or
    /// waits for its delay.
    pub(super) fn wait_for_client(&mut self, session: SessionKey, since: Timestamp) {
        if self.clients.sessions.get(session).expiry == SessionExpiry::WithConnection {
            return self.end_session(session);
        }
        let record = self.clients.sessions.get_mut(session);
        assert!(record.disconnected_at == Some(since), "who waits for a client knows since when");
        if let Some(deadline) = record.ends_at() {
            self.clients.timers.arm(deadline, TimerKey::Session(session));
        }
        let will_at = record.will.as_ref().map(|will| since + will.delay());
        // [MQTT-3.1.3-9]: a new connection in time takes the will back.
        let due = match will_at {
            Some(due) if due <= self.clients.now => record.will.take(),
            Some(due) => {
                self.clients.timers.arm(due, TimerKey::Will(session));
                None
            }
            None => None,
        };
        self.clients.sessions.release_idle_tables(session);
        self.clients.log_session(session);
        if let Some(will) = due {
            self.route_will(Owner::Session(session), &will);
        }
    }

    /// The delay of a session's will may be over.
    pub(super) fn will_timeout(&mut self, key: SessionKey, deadline: Timestamp) {
        let Some(session) = self.clients.sessions.get_if_alive(key) else { return };
        let Some(since) = session.disconnected_at else { return };
        if let Some(will) = session.will.take_if(|will| since + will.delay() == deadline) {
            self.clients.log_session(key);
            self.route_will(Owner::Session(key), &will);
        }
    }

    /// Ends a session that has no connection: subscriptions, exchanges and queue go with it; its will is due at the latest
    /// now [MQTT-3.1.2-8].
    pub(super) fn end_session(&mut self, key: SessionKey) {
        let (session, outbound) = self.clients.sessions.remove(key);
        assert!(session.connection.is_none(), "a session ends behind its connection");
        if session.is_durable {
            self.clients.log.append(&Record::SessionEnded { session: key.id() });
        }
        for key_of_filter in session.subscriptions.iter() {
            match self.subscriptions.remove(key_of_filter, key.into()) {
                Removed::OthersRemain if session.is_durable && !self.has_durable_subscriber(key_of_filter) => {
                    let filter = self.subscriptions.filter_of(key_of_filter);
                    self.tell_others(|| Letter::InterestLost { filter: filter[..].into(), durable_only: true });
                }
                Removed::OthersRemain => {}
                Removed::LastLocal { filter } => {
                    self.tell_others(|| Letter::InterestLost { filter: filter[..].into(), durable_only: false });
                }
            }
        }
        if let Some(memberships) = &session.memberships {
            self.leave_groups(&memberships.client_id, &memberships.shares);
        }
        self.clients.backlogs.remove(key);
        if let Some(mut outbound) = outbound {
            for (delivery, was_sent) in outbound.drain() {
                // A member of the group that is left gets it, but for a QoS 2 message that was sent [MQTT-4.8.2-5].
                let is_owed = !was_sent || delivery.terms.qos == QoS::AtLeastOnce;
                if is_owed && delivery.terms.shared().is_some() {
                    self.give_back(delivery);
                } else {
                    self.clients.messages.release(delivery.message);
                }
            }
        }
        self.forget_session(key, session.held.is_some());
        for delivery in session.held.into_iter().flat_map(|held| held.deliveries) {
            self.clients.messages.release(delivery.message);
        }
        let author = Author::of(&session.client_id);
        if session.is_durable {
            self.clients.ended.push_back((self.clients.log.appended(), session.client_id));
        }
        if let Some(will) = session.will {
            self.route_will(Owner::Ended(author), &will);
        }
    }

    /// No packet is exchanged any more: lets the rest go out, then ends the connection.
    pub(super) fn finish(&mut self, key: ConnectionKey, client_ended: bool) {
        let linger = self.clients.now + self.clients.limits.linger;
        let connection = self.clients.connection(key);
        assert!(connection.is_open(), "a connection is finished once");
        connection.transport.end(Close::NORMAL);
        let client_ended = (client_ended && connection.transport.ends_with_disconnect()) || connection.stream_ended;
        connection.timer_at = linger;
        connection.phase = Phase::Flushing { client_ended };
        let is_paused = connection.is_paused();
        self.clients.timers.arm(linger, TimerKey::Connection(key));
        if is_paused {
            // The end of the stream has to be seen.
            self.clients.set_pause(key, |connection| {
                connection.paused_by_output = false;
                connection.paused_by_backlog = false;
                connection.pace = None;
            });
        }
        if self.clients.connection(key).is_flushed() {
            self.flushed(key, client_ended);
        } else {
            // Only the transport may have something to say.
            self.clients.mark_dirty(key);
        }
    }

    /// All output of a connection that is being finished is written.
    pub(super) fn flushed(&mut self, key: ConnectionKey, client_ended: bool) {
        if client_ended {
            self.close(key);
        } else {
            self.clients.connection(key).phase = Phase::Finished;
            self.clients.commands.push_back(Command::FinishSending(key));
        }
    }

    /// Tells the driver to close, now.
    pub(super) fn close(&mut self, key: ConnectionKey) {
        let connection = self.clients.connection(key);
        assert!(connection.session.is_none(), "a connection is parted from its session before it closes");
        connection.phase = Phase::Closing;
        self.clients.discard_output(key);
        self.clients.commands.push_back(Command::Close(key));
    }

    /// Ends all connections because the broker stops. Sessions stay: they are for the next start to find.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.clients.now = now;
        let open: Vec<_> = self
            .clients
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_open())
            .map(|(index, _)| ConnectionKey::from_index(index))
            .collect();
        for key in open {
            let reason = ReasonCode::ServerShuttingDown;
            self.end_with_disconnect(key, Farewell { reason, text: None, refers: true });
        }
        self.end_overflowed();
    }

    pub(super) fn connection_timeout(&mut self, key: ConnectionKey, deadline: Timestamp) {
        let now = self.clients.now;
        let Some(connection) = self.clients.connections.get_mut(key.index()) else { return };
        if connection.timer_at != deadline {
            return;
        }
        match connection.phase {
            Phase::Open if connection.role.link().is_some() => self.bridge_timeout(key),
            // What it sends is not read, so its silence is ours.
            Phase::Open if connection.is_paused() => {
                connection.last_packet_at = now;
                self.arm_keep_alive(key);
            }
            Phase::Open if keep_alive_deadline(connection) <= now => {
                // [MQTT-3.1.2-22] [MQTT-4.13.1-1]
                self.end_by_server(key, ReasonCode::KeepAliveTimeout);
            }
            Phase::Open => {
                if let Some(session) = connection.session {
                    self.clients.sessions.release_idle_tables(session);
                }
                self.arm_keep_alive(key);
            }
            Phase::Flushing { .. } | Phase::Finished => self.close(key),
            Phase::Closing => {}
        }
    }

    pub(super) fn session_timeout(&mut self, key: SessionKey, deadline: Timestamp) {
        if self.clients.sessions.get_if_alive(key).is_some_and(|session| session.ends_at() == Some(deadline)) {
            self.clients.counters.sessions_expired += 1;
            self.end_session(key);
        }
    }
}

/// When a client that sends nothing more has broken its promise: after one and a half intervals [MQTT-3.1.2-22].
pub(super) fn keep_alive_deadline(connection: &Connection) -> Timestamp {
    connection.last_packet_at + keep_alive(connection) * 3 / 2
}

/// The keep-alive interval; zero if there is none.
pub(super) fn keep_alive(connection: &Connection) -> Duration {
    Duration::from_secs(connection.keep_alive_seconds.into())
}

/// What a client may say in place of what only a server says (5.0, table 3-10).
fn as_client(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::ServerShuttingDown | ReasonCode::SessionTakenOver | ReasonCode::AdministrativeAction => {
            ReasonCode::Success
        }
        ReasonCode::KeepAliveTimeout => ReasonCode::UnspecifiedError,
        reason => reason,
    }
}
