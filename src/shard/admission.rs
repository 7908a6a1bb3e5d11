//! The beginning of a connection: CONNECT, take-over, resume.

use std::num::NonZeroU32;

use bytes::Bytes;

use crate::auth::Identity;
use crate::fault::Fault;
use crate::proto::{
    Connack, Connect, Packet, PacketType, PropertyWriter, ReasonCode, Version, connects_as_bridge, decode_connect,
};
use crate::route::{Presence, WillMessage};
use crate::session::{Resending, SessionExpiry};
use crate::store::LogPosition;
use crate::time::Timestamp;
use crate::transport::Transport;

use super::aliases::OutboundAliases;
use super::connection::{Connection, ConnectionKey};
use super::ending;
use super::farewell::Farewell;
use super::permitting::Principal;
use super::receiving::{Violation, check_properties};
use super::role::Role;
use super::sessions::SessionKey;
use super::{Shard, TimerKey};

/// A client that the gate has let in, on its way to the shard that owns its id.
#[derive(Debug)]
pub struct Admission {
    /// The CONNECT packet, whole; the gate has decoded it and found it acceptable.
    pub connect_frame: Bytes,
    /// The client's id; assigned by the gate when the client gave none.
    pub client_id: Box<str>,
    /// Whether the gate assigned the id, which a 5.0 client has to be told [MQTT-3.1.3-7].
    pub client_id_assigned: bool,
    /// Who the client is; none if it did not have to say.
    pub identity: Option<Box<Identity>>,
    /// The last message of the exchange that has shown it, for CONNACK.
    pub authentication_data: Option<Box<str>>,
    /// What the client sent behind CONNECT without waiting for CONNACK, as it came from the socket.
    pub early_bytes: Bytes,
    /// What these and all further bytes pass through.
    pub transport: Transport,
}

/// What a client leaves with the broker, and what it is told, when nothing speaks against serving it.
struct Acceptable {
    will: Option<WillMessage>,
    connack: PropertyWriter,
}

/// What a new session would need.
#[derive(Clone, Copy, Debug)]
enum Lack {
    /// `--max-sessions` is reached.
    Sessions,
    /// Memory is short.
    Memory,
}

impl Shard {
    /// Takes a client in and answers with CONNACK, before anything else. A key is given also to a client that is refused:
    /// its CONNACK and the command to close come out.
    pub fn handle_admission(&mut self, now: Timestamp, mut admission: Admission) -> ConnectionKey {
        self.clients.now = now;
        let connect = decode_connect(&admission.connect_frame).expect("the gate has decoded the same bytes");
        let entry = self.clients.connections.vacant_entry();
        let key = ConnectionKey::from_index(entry.key());
        self.admitted = self.admitted.wrapping_add(1);
        let mut connection =
            Connection::new(connect.version, std::mem::take(&mut admission.transport), self.admitted, now);
        connection.principal = admission.identity.take().map(|identity| Box::new(Principal::from(*identity)));
        connection.max_packet_bytes = connect.properties.maximum_packet_size().and_then(NonZeroU32::new);
        connection.wants_problem_information = connect.properties.request_problem_information().unwrap_or(true);
        let received = admission.connect_frame.len() + admission.early_bytes.len();
        self.clients.counters.connects += 1;
        self.clients.received.count_type(PacketType::Connect);
        self.clients.counters.bytes_received += received as u64;
        entry.insert(connection);
        match self.lack_of_room().filter(|_| self.clients.sessions.find(&admission.client_id).is_none()) {
            Some(lack) => self.turn_away(key, lack),
            None => match self.acceptable(key, &connect, &admission) {
                Ok(acceptable) => self.admit(key, &connect, acceptable, &admission),
                Err(violation) => self.refuse(key, violation),
            },
        }
        // Also of a client that is refused: its transport has to know what has come.
        self.receive_bytes(key, &admission.early_bytes);
        self.end_overflowed();
        key
    }

    /// What has to be known of the client to serve it, if it can be served.
    fn acceptable(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        admission: &Admission,
    ) -> Result<Acceptable, Violation> {
        let client_id = &admission.client_id;
        if let Some(failure) = self.clients.log.failure() {
            let existing = self.clients.sessions.find(client_id);
            let was_durable = existing.is_some_and(|session| self.clients.sessions.get(session).is_durable)
                || self.clients.ended.iter().any(|(_, ended)| ended == client_id);
            if was_durable || expiry_of(connect) != SessionExpiry::WithConnection {
                return Err(failure.into());
            }
        }
        let will = self.will_of(key, connect, client_id)?;
        let connack = self.clients.connack_properties(connect, admission)?;
        Ok(Acceptable { will, connack })
    }

    /// Why there is no room for another session. One that a client has already is resumed, or makes way for the one that begins.
    fn lack_of_room(&self) -> Option<Lack> {
        let max = self.clients.limits.max_sessions;
        if max.is_some_and(|max| self.clients.sessions.len() >= max.get() as usize) {
            return Some(Lack::Sessions);
        }
        self.clients.memory.refuses_newcomers().then_some(Lack::Memory)
    }

    fn will_of(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        client_id: &str,
    ) -> Result<Option<WillMessage>, Violation> {
        let Some(will) = &connect.will else { return Ok(None) };
        let topic = self.clients.topic_to_publish(will.topic)?;
        check_properties(will.properties)?;
        self.check_will(will, topic)?;
        self.check_will_is_permitted(key, client_id, topic)?;
        Ok(Some(WillMessage::new(will)))
    }

    fn admit(&mut self, key: ConnectionKey, connect: &Connect<'_>, acceptable: Acceptable, admission: &Admission) {
        let Acceptable { will, connack } = acceptable;
        let (session, session_present) = self.take_over(connect, &admission.client_id);
        let limits = &self.clients.limits;
        let window = connect.properties.receive_maximum().unwrap_or(u16::MAX).min(limits.max_inflight);
        let topic_alias_maximum = connect.properties.topic_alias_maximum().unwrap_or(0);
        let outbound_aliases = OutboundAliases::new(topic_alias_maximum, limits.max_outbound_topic_aliases);
        self.clients.attached += 1;
        let record = self.clients.sessions.get_mut(session);
        record.connection = Some(key);
        record.expiry = expiry_of(connect);
        record.disconnected_at = None;
        record.window = window;
        record.will = will.map(Box::new);
        let server_keep_alive = self.clients.server_keep_alive(connect);
        let connection = self.clients.connection(key);
        connection.session = Some(session);
        if connects_as_bridge(&admission.connect_frame) {
            connection.role = Role::foreign_bridge();
        }
        // [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
        connection.keep_alive_seconds = server_keep_alive.unwrap_or(connect.keep_alive_seconds);
        connection.outbound_aliases = outbound_aliases.map(Box::new);
        self.clients.log_session(session);
        // Also for a session that leaves no trace: the end of the one before it must not be taken back by a crash.
        // With the log failed nothing becomes stable any more; only who needs none of it comes so far.
        let after = match self.clients.log.failure() {
            None => self.clients.log.wait_for_appended(),
            Some(_) => LogPosition::NOTHING,
        };
        self.clients.connection(key).connack_after = after;
        let connack = Connack { session_present, reason: ReasonCode::Success, properties: connack.properties() };
        self.clients.send(key, &Packet::Connack(connack), after);
        self.clients.resume(session, Resending::Again);
        self.announce_presence(session, Presence::Connected);
        self.arm_keep_alive(key);
    }

    /// The session for this client: an existing one is taken from the connection that has it [MQTT-3.1.4-3], and either
    /// resumed or, for a clean start, ended.
    fn take_over(&mut self, connect: &Connect<'_>, client_id: &str) -> (SessionKey, bool) {
        if let Some(previous) = self.clients.sessions.find(client_id)
            && let Some(connection) = self.clients.sessions.get(previous).connection
        {
            self.clients.counters.takeovers += 1;
            self.end_by_server(connection, ReasonCode::SessionTakenOver);
        }
        // A session that was to end with its connection is gone by now.
        match self.clients.sessions.find(client_id) {
            Some(session) if connect.clean_start => {
                // [MQTT-3.1.2-4]
                self.end_session(session);
                (self.start_session(connect, client_id), false)
            }
            Some(session) => {
                if self.fault.is(Fault::ReceivedIdsForgottenOnResume) {
                    *self.clients.sessions.inbound(session) = Default::default();
                }
                (session, true)
            }
            None => (self.start_session(connect, client_id), false),
        }
    }

    fn start_session(&mut self, connect: &Connect<'_>, client_id: &str) -> SessionKey {
        let expiry = expiry_of(connect);
        let is_durable = self.clients.log.is_on() && expiry != SessionExpiry::WithConnection;
        self.clients.sessions.insert(client_id.into(), expiry, is_durable)
    }

    /// Refuses a client for which there is no room.
    fn turn_away(&mut self, key: ConnectionKey, lack: Lack) {
        let counters = &mut self.clients.counters;
        let (count, reason, text) = match lack {
            Lack::Sessions => {
                let text = "the broker has as many sessions as it may";
                (&mut counters.refused_max_sessions, ReasonCode::QuotaExceeded, text)
            }
            Lack::Memory => (&mut counters.refused_memory, ReasonCode::ServerBusy, "the broker is short of memory"),
        };
        *count += 1;
        self.send_refusal(key, Farewell { reason, text: Some(text), refers: true });
        self.finish(key, false);
    }

    pub(super) fn refuse(&mut self, key: ConnectionKey, violation: Violation) {
        let Violation { reason, text } = violation;
        let is_our_fault = matches!(reason, ReasonCode::QuotaExceeded | ReasonCode::ImplementationSpecificError);
        self.send_refusal(key, Farewell { reason, text: Some(text), refers: false });
        self.clients.counters.protocol_violations += u64::from(!is_our_fault);
        self.finish(key, false);
    }

    /// Arms the timer of one and a half keep-alive intervals [MQTT-3.1.2-22].
    pub(super) fn arm_keep_alive(&mut self, key: ConnectionKey) {
        let connection = self.clients.connection(key);
        if connection.keep_alive_seconds > 0 {
            let deadline = ending::keep_alive_deadline(connection);
            connection.timer_at = deadline;
            self.clients.timers.arm(deadline, TimerKey::Connection(key));
        }
    }
}

fn expiry_of(connect: &Connect<'_>) -> SessionExpiry {
    match connect.version {
        Version::V311 => SessionExpiry::from_clean_session(connect.clean_start),
        Version::V5 => SessionExpiry::from_interval(connect.properties.session_expiry_interval().unwrap_or(0)),
    }
}
