//! What the broker is allowed to send: its side of every exchange, watched at its sockets.
//!
//! The audit sees both directions where the broker does: what it has been given to read, and what it gives to be
//! sent, whether or not the client ever gets that. From that alone it knows which sessions exist, which exchanges are open and
//! how far they are, and which acknowledgements are due in which order; each packet that the broker sends has to fit.
//!
//! A crash may take back what the broker has read, as long as it has not answered: what is known of a session afterwards
//! is what the answers promised, and until the broker shows what it still has, both is right. `crash` has that part.

mod crash;
mod links;
mod sending;
mod wills;

pub(crate) use wills::WillVisits;

use std::collections::{BTreeMap, VecDeque};

use oncemq::proto::{Framer, QoS, ReasonCode, Version};

use crate::aliases::Aliases;
use crate::client::{ConnectTerms, Meaning};
use crate::ledger::{Failure, Ledger, fail};

use links::Link;
use wills::Wills;

const SECOND: u64 = 1_000_000_000;

/// A shard's timers fire at most this long after their deadline.
pub(crate) const TIMER_SLACK_NS: u64 = SECOND / 10;

/// The broker's view of the connections and sessions, as the standard wants it.
#[derive(Debug)]
pub(crate) struct Audit {
    /// By client.
    sessions: Vec<Session>,
    /// By connection.
    connections: Vec<Connection>,
    /// How many illegal packets the broker has read, at least and at most.
    pub(crate) violations: (u64, u64),
    /// Messages that the broker read with their alias alone.
    pub(crate) aliases_read: u64,
    /// Messages that the broker sent with their alias alone.
    pub(crate) aliases_sent: u64,
    /// Connections that ended because their client was silent for too long.
    pub(crate) silences: u64,
    /// Sessions that ended because their time was over.
    pub(crate) expiries: u64,
    /// A write to a log failed: the broker may turn clients away.
    pub(crate) log_has_failed: bool,
    /// A log may be full: the broker may refuse messages.
    log_is_bounded: bool,
    /// The bridge may give messages in flight up.
    bridge_gives_up: bool,
    /// There are rules: what a client may not read is not sent again after a crash that makes it look as if it had been sent.
    has_rules: bool,
}

/// Whether a session is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Presence {
    #[default]
    Absent,
    /// Either is right.
    Unsure,
    Present,
}

#[derive(Debug, Default)]
struct Session {
    presence: Presence,
    /// Whether it will be there after a crash.
    after_crash: Presence,
    /// The connection that serves it, or did last.
    connection: Option<usize>,
    expiry_seconds: u32,
    /// Session expiry intervals that may hold after a crash, shortest and longest.
    expiry_after_crash: (u32, u32),
    /// When its time is over, from the first to the last moment that it may be at.
    ends_at: Option<(u64, u64)>,
    /// The same, if a crash takes back that it is served again.
    ends_after_crash: Option<(u64, u64)>,
    /// Open exchanges of the broker as sender.
    exchanges: BTreeMap<u16, Exchange>,
    /// Exchanges whose end a crash may take back.
    over: BTreeMap<u16, Exchange>,
    wills: Wills,
    /// Ordinal number of the next first sending.
    next_ordinal: u64,
    /// A connection ended with output that the driver had not taken: the broker may have sent more than was seen.
    has_unseen: bool,
}

#[derive(Debug)]
struct Exchange {
    qos: QoS,
    content: u64,
    stage: Stage,
    ordinal: u64,
    /// The connection on which it was sent last.
    sent_on: usize,
    /// The PUBLISH itself was sent there, so that it counts for the Receive Maximum.
    published_on: usize,
    /// PUBREL was sent: the broker never forgets that PUBREC came.
    is_released: bool,
    /// It was over before a crash, and may be so after it.
    may_be_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No PUBACK or PUBREC has been received.
    Published,
    /// PUBREC has been received.
    Received,
    /// PUBREC has been received, and a crash may have taken that back.
    PerhapsReceived,
}

/// What CONNACK said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Due,
    Accepted,
    Refused,
}

#[derive(Debug)]
struct Connection {
    client: usize,
    version: Version,
    terms: Option<ConnectTerms>,
    /// Packets that the broker reads count for it.
    is_open: bool,
    /// It has been ended because of a second connection or the keep-alive.
    ended_because: Option<ReasonCode>,
    expects_session: Presence,
    framer: Framer,
    connack: Answer,
    /// Topic aliases that the client was given.
    aliases: Aliases,
    has_sent_new: bool,
    last_packet_at: u64,
    /// The broker may count the client's silence only from here, for it did not listen before.
    not_heard_until: u64,
    last_resent: Option<u64>,
    /// Acknowledgements that are due, each kind in its order [MQTT-4.6.0-2..4].
    due_puback: VecDeque<u16>,
    due_pubrec: VecDeque<u16>,
    due_pubrel: VecDeque<u16>,
    due_pubcomp: VecDeque<u16>,
    due_subacks: u32,
    /// The client has shut its side; its SUBSCRIBEs are still answered, and then the connection ends.
    stream_ended: bool,
    /// It is one of the bridge.
    link: Option<Link>,
}

impl Audit {
    pub(crate) fn new(clients: usize, log_is_bounded: bool, bridge_gives_up: bool, has_rules: bool) -> Self {
        Self {
            aliases_read: 0,
            aliases_sent: 0,
            sessions: (0..clients).map(|_| Session::default()).collect(),
            connections: Vec::new(),
            violations: (0, 0),
            silences: 0,
            expiries: 0,
            log_has_failed: false,
            log_is_bounded,
            bridge_gives_up,
            has_rules,
        }
    }

    /// A client opens its next connection.
    pub(crate) fn open(&mut self, client: usize, version: Version) {
        self.connections.push(Connection {
            client,
            version,
            terms: None,
            is_open: false,
            ended_because: None,
            expects_session: Presence::Absent,
            framer: Framer::default(),
            connack: Answer::Due,
            aliases: Aliases::default(),
            has_sent_new: false,
            last_packet_at: 0,
            not_heard_until: 0,
            last_resent: None,
            due_puback: VecDeque::new(),
            due_pubrec: VecDeque::new(),
            due_pubrel: VecDeque::new(),
            due_pubcomp: VecDeque::new(),
            due_subacks: 0,
            stream_ended: false,
            link: None,
        });
    }

    /// The connection that a CONNECT of this client would take over, if it serves its session.
    pub(crate) fn served_by(&self, client: usize) -> Option<usize> {
        self.sessions[client].connection.filter(|connection| self.connections[*connection].is_open)
    }

    /// The client has shut its side of a connection.
    pub(crate) fn end_stream(&mut self, connection: usize) {
        self.connections[connection].stream_ended = true;
    }

    /// Connections whose clients have shut their side and that go on until their SUBSCRIBEs are answered.
    pub(crate) fn half_closed(&self) -> Vec<usize> {
        let is_half_closed = |record: &Connection| record.is_open && record.stream_ended;
        (0..self.connections.len()).filter(|index| is_half_closed(&self.connections[*index])).collect()
    }

    pub(crate) fn is_open(&self, connection: usize) -> bool {
        self.connections[connection].is_open
    }

    /// Whether the connection was admitted and found no session to resume.
    pub(crate) fn has_new_session(&self, connection: usize) -> bool {
        let connection = &self.connections[connection];
        connection.terms.is_some() && connection.expects_session != Presence::Present
    }

    /// A connection is admitted, after the one that it takes over has been [ended](Self::end).
    pub(crate) fn admit(&mut self, ledger: &mut Ledger, now: u64, connection: usize, terms: ConnectTerms) {
        let record = &mut self.connections[connection];
        let session = &mut self.sessions[record.client];
        let in_doubt = self.log_has_failed;
        if session.presence == Presence::Absent || terms.clean_start && !in_doubt {
            // [MQTT-3.1.2-4] [MQTT-3.1.2-8]
            session.wills.publish(ledger);
        } else {
            session.wills.resume(ledger, now, in_doubt);
        }
        if session.presence == Presence::Absent || terms.clean_start {
            *session = session.successor();
        } else {
            record.expects_session = session.presence;
        }
        session.is_admitted(connection, terms.expiry_seconds);
        record.terms = Some(terms);
        record.aliases = Aliases::new(terms.topic_alias_maximum);
        record.is_open = true;
        record.last_packet_at = now;
    }

    /// The broker reads a packet.
    pub(crate) fn read(
        &mut self,
        ledger: &mut Ledger,
        now: u64,
        connection: usize,
        meaning: &Meaning,
        has_unseen: bool,
    ) -> Result<(), Failure> {
        let record = &mut self.connections[connection];
        if !record.is_open {
            return Ok(());
        }
        record.last_packet_at = now;
        let session = &mut self.sessions[record.client];
        self.aliases_read += u64::from(matches!(meaning, Meaning::Publish { by_alias: true, .. }));
        match *meaning {
            Meaning::Publish { id: Some(id), qos: QoS::ExactlyOnce, .. } => record.due_pubrec.push_back(id),
            Meaning::Publish { id: Some(id), .. } => record.due_puback.push_back(id),
            Meaning::Publish { id: None, .. } | Meaning::Connect(_) | Meaning::Connack { .. } | Meaning::Other => {}
            Meaning::Suback => {
                if let Some(link) = &mut record.link {
                    link.awaits_suback = false;
                }
            }
            Meaning::Pubrel(id) => record.due_pubcomp.push_back(id),
            Meaning::Subscribe => record.due_subacks += 1,
            Meaning::Pubrec(id) => {
                record.due_pubrel.push_back(id);
                let Some(exchange) = session.exchanges.get_mut(&id) else {
                    fail!("client {} answers {id} with PUBREC, and no such exchange is open", record.client);
                };
                exchange.stage = Stage::Received;
            }
            Meaning::Puback(id) | Meaning::Pubcomp(id) => {
                if let Some(exchange) = session.exchanges.remove(&id) {
                    session.over.insert(id, exchange);
                }
            }
            Meaning::Violation(reason) => {
                // Nothing is read behind a CONNECT that is refused, or a message of a remote that can't be logged.
                let is_refusable = record.connack != Answer::Accepted || record.link.is_some();
                let may_be_refused = self.log_has_failed && is_refusable;
                self.violations.0 += u64::from(!may_be_refused);
                self.violations.1 += 1;
                record.ended_because = Some(reason);
                self.end_with(ledger, now, connection, true, has_unseen);
            }
            Meaning::Disconnect { with_will, expiry_seconds } => {
                if let Some(seconds) = expiry_seconds {
                    session.changes_expiry(seconds);
                }
                self.end_with(ledger, now, connection, with_will, has_unseen);
            }
        }
        Ok(())
    }

    /// A connection ends without a DISCONNECT by the client; `reason` is what the broker may say of it.
    pub(crate) fn end(
        &mut self,
        ledger: &mut Ledger,
        now: u64,
        connection: usize,
        reason: Option<ReasonCode>,
        has_unseen: bool,
    ) {
        if self.connections[connection].is_open {
            self.connections[connection].ended_because = reason;
            self.silences += u64::from(reason == Some(ReasonCode::KeepAliveTimeout));
            self.end_with(ledger, now, connection, true, has_unseen);
        }
    }

    fn end_with(&mut self, ledger: &mut Ledger, now: u64, connection: usize, with_will: bool, has_unseen: bool) {
        let record = &mut self.connections[connection];
        record.is_open = false;
        let session = &mut self.sessions[record.client];
        match record.terms.and_then(|terms| terms.will) {
            // [MQTT-3.1.2-8]
            Some(will) if with_will && record.connack != Answer::Refused => {
                let is_in_log = record.connack == Answer::Accepted && session.after_crash == Presence::Present;
                if will.delay_seconds > 0 && session.expiry_seconds > 0 {
                    session.wills.wait(now, will, session.expiry_seconds, is_in_log);
                } else {
                    ledger.will_is_due(will.number, is_in_log);
                }
            }
            Some(will) => session.wills.withdraw(will),
            None => {}
        }
        session.has_unseen |= has_unseen;
        match session.expiry_seconds {
            // [MQTT-3.1.2-23]
            0 => session.ends(),
            u32::MAX => {}
            seconds => {
                let ends_at = now + u64::from(seconds) * SECOND;
                session.ends_at = Some((ends_at, ends_at));
            }
        }
    }

    /// Deadlines of the keep-alive, of sessions and of wills, each from the first to the last moment that it may be at: `of_connection`
    /// and `of_client` say who belongs to the shard in question.
    pub(crate) fn deadlines(
        &self,
        of_connection: impl Fn(usize) -> bool,
        of_client: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (u64, u64)> {
        let sessions: Vec<&Session> =
            (0..).zip(&self.sessions).filter(|(client, _)| of_client(*client)).map(|(_, session)| session).collect();
        let wills = sessions.clone().into_iter().flat_map(|session| session.wills.deadlines());
        let connections = self.connections.iter().enumerate().filter(move |(connection, _)| of_connection(*connection));
        let is_there = |session: &&Session| session.is_there();
        wills
            // Where a crash has left a wide span, the session is allowed to go at any time in it.
            .chain(
                sessions
                    .into_iter()
                    .filter(is_there)
                    .filter_map(|session| session.ends_at.filter(|(first, last)| first == last)),
            )
            .chain(connections.filter_map(|(_, connection)| connection.keep_alive_deadline()))
    }

    /// Connections that the broker serves.
    pub(crate) fn open_connections(&self) -> Vec<usize> {
        (0..self.connections.len()).filter(|index| self.connections[*index].is_open).collect()
    }

    /// Connections whose keep-alive is over.
    pub(crate) fn overdue(&self, now: u64) -> Vec<usize> {
        let is_overdue =
            |connection: &Connection| connection.keep_alive_deadline().is_some_and(|(_, last)| last <= now);
        (0..self.connections.len()).filter(|index| is_overdue(&self.connections[*index])).collect()
    }

    /// The broker does not listen to a connection, or did not until now.
    pub(crate) fn does_not_hear(&mut self, now: u64, connection: usize) {
        self.connections[connection].not_heard_until = now;
    }

    /// Publishes the will of a client whose delay is over.
    pub(crate) fn wills_pass(&mut self, ledger: &mut Ledger, now: u64, client: usize) {
        self.sessions[client].wills.pass(ledger, now);
    }

    /// How often wills met with what fate.
    pub(crate) fn will_visits(&self) -> WillVisits {
        self.sessions.iter().fold(WillVisits::default(), |sum, session| sum.plus(session.wills.visits))
    }

    /// Ends the session of a client if its time is over.
    pub(crate) fn expire(&mut self, ledger: &mut Ledger, now: u64, client: usize) {
        let session = &mut self.sessions[client];
        let Some((first, last)) = session.ends_at.filter(|(first, _)| session.is_there() && *first <= now) else {
            return;
        };
        if first == last || last.saturating_add(TIMER_SLACK_NS) <= now {
            session.wills.publish(ledger);
            session.ends();
            self.expiries += 1;
        } else {
            session.presence = Presence::Unsure;
        }
    }

    /// All is delivered and acknowledged: what was not seen of earlier connections plays no part any more.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        for (client, session) in self.sessions.iter_mut().enumerate() {
            session.rests();
            if !session.exchanges.is_empty() {
                fail!("the broker has open exchanges with client {client}: {:?}", session.exchanges);
            }
        }
        for (index, connection) in self.connections.iter().enumerate().filter(|(_, connection)| connection.is_open) {
            let due = [&connection.due_puback, &connection.due_pubrec, &connection.due_pubrel, &connection.due_pubcomp];
            if due.iter().any(|due| !due.is_empty()) {
                fail!("the broker owes acknowledgements on connection {index}: {due:?}");
            }
        }
        Ok(())
    }
}

impl Connection {
    /// When the keep-alive is over, from the first to the last moment that it may be: after one and a half intervals
    /// [MQTT-3.1.2-22].
    fn keep_alive_deadline(&self) -> Option<(u64, u64)> {
        let interval = links::interval(&self.terms.filter(|_| self.is_open)?);
        if let Some(link) = &self.link {
            return Some(self.remote_deadline(link, interval));
        }
        let allowed = interval * 3 / 2;
        (interval > 0).then(|| (self.last_packet_at + allowed, self.last_packet_at.max(self.not_heard_until) + allowed))
    }
}
