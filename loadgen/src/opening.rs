//! What every client does first: CONNECT, wait for CONNACK, subscribe, wait for SUBACK. And what it does while it has
//! nothing to say: PINGREQ.

use oncemq::proto::{
    Connack, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyWriter, QoS, ReasonCode,
    SubscriptionOptions, Version, encode_subscribe,
};

use crate::connection::Fault;

/// Topic filters in one SUBSCRIBE.
const FILTERS_PER_SUBSCRIBE: usize = 64;

/// Who connects, and to what kind of session.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) session: Session,
    pub(crate) keep_alive_seconds: u16,
}

/// The session that a connection begins or goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// A new one, that ends with the connection.
    Transient,
    /// The one that the broker has, or a new one; it outlives the connection.
    Persistent(Presence),
}

/// Whether the broker has the session already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It can't have it; one that it claims to have is a fault.
    Absent,
    /// It must have it, with all its subscriptions. If it does not, the session is lost and begins anew.
    Due,
    /// It died before it said so, with or without the subscriptions.
    Unknown,
}

/// What the broker's CONNACK permits; 3.1.1 has no such limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerLimits {
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: QoS,
    pub(crate) maximum_packet_bytes: u32,
}

/// A persistent 5.0 session never expires (section 3.1.2.11.2), like one of 3.1.1 without clean session.
const SESSION_EXPIRY_SECONDS: u32 = u32::MAX;

/// The opening of one connection.
///
/// | state            | event                          | next             | sends            |
/// |------------------|--------------------------------|------------------|------------------|
/// | idle             | `poll`                         | awaiting CONNACK | CONNECT          |
/// | awaiting CONNACK | CONNACK, success, with filters | awaiting SUBACK  | SUBSCRIBEs       |
/// | awaiting CONNACK | CONNACK, success, no filters or the session has them | open |        |
/// | awaiting SUBACK  | last SUBACK                    | open             |                  |
/// | anything else    |                                | fault            |                  |
#[derive(Debug)]
pub(crate) struct Opening {
    login: Login,
    filters: Vec<String>,
    qos: QoS,
    state: State,
    session_lost: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    AwaitingConnack,
    AwaitingSubacks { left: usize, limits: BrokerLimits },
    Open,
}

impl Opening {
    /// Connects, then subscribes to `filters` at `qos`, unless there are none.
    pub(crate) fn new(login: Login, filters: Vec<String>, qos: QoS) -> Self {
        Self { login, filters, qos, state: State::Idle, session_lost: false }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the broker may send messages: of a session that it has, it may do so before it answers SUBSCRIBE.
    pub(crate) fn is_connected(&self) -> bool {
        match self.state {
            State::Idle | State::AwaitingConnack => false,
            State::AwaitingSubacks { .. } | State::Open => true,
        }
    }

    /// Whether the broker no longer had the session that was due; true once for each loss.
    pub(crate) fn take_session_lost(&mut self) -> bool {
        std::mem::take(&mut self.session_lost)
    }

    pub(crate) fn poll(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Idle => {
                self.login.encode(out);
                self.state = State::AwaitingConnack;
            }
            State::AwaitingConnack | State::AwaitingSubacks { .. } | State::Open => {}
        }
    }

    /// Takes a packet; the broker's limits once the opening is complete.
    pub(crate) fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<BrokerLimits>, Fault> {
        match (self.state, packet) {
            (State::AwaitingConnack, Packet::Connack(connack)) => {
                let limits = self.accept(connack)?;
                let left = match self.login.session {
                    Session::Persistent(Presence::Due) if connack.session_present => 0,
                    Session::Persistent(Presence::Due | Presence::Absent | Presence::Unknown) | Session::Transient => {
                        self.subscribe(out)
                    }
                };
                if left > 0 {
                    self.state = State::AwaitingSubacks { left, limits };
                    return Ok(None);
                }
                self.state = State::Open;
                Ok(Some(limits))
            }
            (State::AwaitingSubacks { left, limits }, Packet::Suback(suback)) => {
                self.check_granted(suback.packet_id, suback.codes)?;
                if left > 1 {
                    let left = left - 1;
                    self.state = State::AwaitingSubacks { left, limits };
                    return Ok(None);
                }
                self.state = State::Open;
                Ok(Some(limits))
            }
            (State::Idle | State::AwaitingConnack | State::AwaitingSubacks { .. } | State::Open, packet) => {
                Err(unexpected(packet))
            }
        }
    }

    fn accept(&mut self, connack: &Connack<'_>) -> Result<BrokerLimits, Fault> {
        if connack.reason != ReasonCode::Success {
            return Err(Fault::Refused(connack.reason));
        }
        match (self.login.session, connack.session_present) {
            // [MQTT-3.2.2-2]
            (Session::Transient | Session::Persistent(Presence::Absent), true) => {
                return Err(Fault::Unexpected(format!(
                    "the broker says session present 1 to {}, which should be 0",
                    self.login.client_id,
                )));
            }
            // [MQTT-3.2.2-3]
            (Session::Persistent(Presence::Due), false) => self.session_lost = true,
            (Session::Transient | Session::Persistent(Presence::Absent), false)
            | (Session::Persistent(Presence::Due), true)
            | (Session::Persistent(Presence::Unknown), _) => {}
        }
        let limits = BrokerLimits::of(connack.properties);
        if self.qos > limits.maximum_qos {
            return Err(Fault::Limited {
                limit: format!("messages to QoS {}", limits.maximum_qos.bits()),
                remedy: "choose a lower --qos",
            });
        }
        Ok(limits)
    }

    /// Sends the subscriptions; says how many SUBACKs are due.
    fn subscribe(&self, out: &mut Vec<u8>) -> usize {
        let options = SubscriptionOptions::from_qos(self.qos);
        let ids = (1..=u16::MAX).filter_map(PacketId::new);
        let batches = self.filters.chunks(FILTERS_PER_SUBSCRIBE);
        let count = batches.len();
        for (packet_id, batch) in ids.zip(batches) {
            let filters = batch.iter().map(|filter| (filter.as_str(), options));
            encode_subscribe(out, self.login.version, packet_id, Properties::EMPTY, filters);
        }
        count
    }

    fn check_granted(&self, packet_id: PacketId, codes: &[u8]) -> Result<(), Fault> {
        let batch =
            self.filters.chunks(FILTERS_PER_SUBSCRIBE).nth(usize::from(packet_id.get()) - 1).unwrap_or_default();
        // [MQTT-3.9.3-1]: one code for each filter, in order.
        if batch.len() != codes.len() {
            return Err(Fault::Unexpected(format!(
                "the broker answered {} filters with {} codes in SUBACK",
                batch.len(),
                codes.len()
            )));
        }
        for (filter, &code) in batch.iter().zip(codes) {
            if code != self.qos.bits() {
                return Err(Fault::SubscriptionRefused {
                    filter: filter.clone(),
                    reason: format!("asked for QoS {}, answered {code:#04x}", self.qos.bits()),
                });
            }
        }
        Ok(())
    }
}

impl Login {
    /// Appends CONNECT.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut properties = PropertyWriter::new();
        let clean_start = match self.session {
            Session::Transient => true,
            Session::Persistent(_) => {
                if self.version == Version::V5 {
                    properties.push(Property::SessionExpiryInterval(SESSION_EXPIRY_SECONDS));
                }
                false
            }
        };
        let connect = Packet::Connect(Connect {
            version: self.version,
            clean_start,
            keep_alive_seconds: self.keep_alive_seconds,
            client_id: &self.client_id,
            will: None,
            username: None,
            password: None,
            properties: properties.properties(),
        });
        connect.encode(self.version, out);
    }
}

impl BrokerLimits {
    fn of(properties: Properties<'_>) -> Self {
        Self {
            receive_maximum: properties.receive_maximum().unwrap_or(u16::MAX),
            maximum_qos: properties.maximum_qos().unwrap_or(QoS::ExactlyOnce),
            maximum_packet_bytes: properties.maximum_packet_size().unwrap_or(u32::MAX),
        }
    }
}

/// Sends PINGREQ when nothing else was sent for half of the keep-alive [MQTT-3.1.2-20].
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// `None` without keep-alive.
    idle_ns_max: Option<u64>,
    sent_ns: u64,
}

impl KeepAlive {
    pub(crate) fn new(seconds: u16) -> Self {
        Self { idle_ns_max: (seconds > 0).then_some(u64::from(seconds) * 1_000_000_000 / 2), sent_ns: 0 }
    }

    /// Call last, with everything that this turn sends in `out`.
    pub(crate) fn poll(&mut self, version: Version, now_ns: u64, out: &mut Vec<u8>) {
        let Some(idle_ns_max) = self.idle_ns_max else {
            return;
        };
        if out.is_empty() {
            if now_ns.saturating_sub(self.sent_ns) < idle_ns_max {
                return;
            }
            Packet::Pingreq.encode(version, out);
        }
        self.sent_ns = now_ns;
    }
}

/// Appends the DISCONNECT of a client that leaves normally.
pub(crate) fn encode_disconnect(version: Version, out: &mut Vec<u8>) {
    let disconnect = Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY });
    disconnect.encode(version, out);
}

/// The fault of a packet that has no place where it came.
pub(crate) fn unexpected(packet: &Packet<'_>) -> Fault {
    match packet {
        Packet::Disconnect(disconnect) => Fault::Disconnected(disconnect.reason),
        other => Fault::Unexpected(format!("the broker sent {:?} where it has no place", other.packet_type())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login =
        Login { version: Version::V5, client_id: String::new(), session: Session::Transient, keep_alive_seconds: 0 };

    fn connack(session_present: bool) -> Packet<'static> {
        let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
        Packet::Connack(Connack { session_present, reason, properties })
    }

    /// What CONNACK does to an opening with one filter.
    #[derive(Debug, PartialEq, Eq)]
    enum Outcome {
        Open,
        Subscribes,
        SubscribesAfterLoss,
        Fault,
    }

    fn outcome(session: Session, session_present: bool) -> Outcome {
        let mut opening = Opening::new(Login { session, ..LOGIN }, vec!["t".to_owned()], QoS::ExactlyOnce);
        opening.poll(&mut Vec::new());
        let mut out = Vec::new();
        match opening.handle_packet(&connack(session_present), &mut out) {
            Err(_) => Outcome::Fault,
            Ok(limits) => {
                assert_eq!((limits.is_some(), opening.is_open()), (out.is_empty(), out.is_empty()));
                assert!(opening.is_connected());
                let lost = opening.take_session_lost();
                assert!(!opening.take_session_lost());
                match (out.is_empty(), lost) {
                    (true, false) => Outcome::Open,
                    (false, false) => Outcome::Subscribes,
                    (false, true) => Outcome::SubscribesAfterLoss,
                    (true, true) => panic!("a lost session has no subscriptions"),
                }
            }
        }
    }

    // [MQTT-3.2.2-2], [MQTT-3.2.2-3]: every expectation against both answers.
    #[test]
    fn session_present_is_held_against_what_is_expected() {
        for (session, when_absent, when_present) in [
            (Session::Transient, Outcome::Subscribes, Outcome::Fault),
            (Session::Persistent(Presence::Absent), Outcome::Subscribes, Outcome::Fault),
            (Session::Persistent(Presence::Due), Outcome::SubscribesAfterLoss, Outcome::Open),
            (Session::Persistent(Presence::Unknown), Outcome::Subscribes, Outcome::Subscribes),
        ] {
            assert_eq!(outcome(session, false), when_absent, "{session:?}");
            assert_eq!(outcome(session, true), when_present, "{session:?}");
        }
    }
}
