//! Connections of the broker's bridge, on which it is the client.
//!
//! Its session is there whether the remote has one or not, and never ends by time. What a session of the remote means for the
//! exchanges is decided by CONNACK, which the broker reads here; everything behind that is as on any connection.

use oncemq::proto::{QoS, ReasonCode, Version};

use crate::aliases::Aliases;
use crate::client::ConnectTerms;

use super::{Answer, Audit, Connection, SECOND, Session};

/// What is particular about a connection of the bridge.
#[derive(Debug)]
pub(super) struct Link {
    since: u64,
    /// Nothing that needs a packet id is published before all subscriptions are made.
    pub(super) awaits_suback: bool,
}

/// A message that was in flight to a remote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) id: u16,
    pub(crate) payload_hash: u64,
}

impl Audit {
    /// The broker takes a connection of the bridge over, with the terms of its CONNACK. If the remote has no session: what was
    /// in flight there and may go there again.
    pub(crate) fn link(
        &mut self,
        now: u64,
        connection: usize,
        terms: ConnectTerms,
        session_present: bool,
    ) -> Vec<InFlight> {
        let record = &mut self.connections[connection];
        record.aliases = Aliases::new(terms.topic_alias_maximum);
        record.terms = Some(terms);
        record.connack = Answer::Accepted;
        record.is_open = true;
        record.last_packet_at = now;
        record.link = Some(Link { since: now, awaits_suback: false });
        let session = &mut self.sessions[record.client];
        // What was released is not published any more, whatever becomes of the remote.
        let unreleased = session.exchanges.iter().chain(&session.over).filter(|(_, exchange)| !exchange.is_released);
        let in_flight = unreleased.map(|(id, exchange)| InFlight { id: *id, payload_hash: exchange.content }).collect();
        session.is_admitted(connection, terms.expiry_seconds);
        session.is_confirmed(session_present);
        if session_present { Vec::new() } else { in_flight }
    }

    /// The bridge carries other topics from now on: what is in flight and is not among them ends unseen at QoS 1, and with a
    /// PUBREL at QoS 2.
    pub(crate) fn carries_other_topics(&mut self, client: usize) {
        for exchange in self.sessions[client].exchanges.values_mut().filter(|exchange| exchange.qos == QoS::AtLeastOnce)
        {
            exchange.may_be_over = true;
        }
    }

    /// The bridge is not configured any more, or begins anew: its session is gone with everything in it. Where there is a log, the
    /// next crash may come before that is in it, and the bridge then goes on with what it had.
    pub(crate) fn forget_session(&mut self, client: usize, forgets_all: bool) {
        self.sessions[client] = Session { has_unseen: !forgets_all, ..Session::default() };
    }
}

impl Connection {
    /// What the broker may say at the end: to a remote what a client may say.
    pub(super) fn last_word(&self) -> Option<ReasonCode> {
        match self.ended_because {
            // DISCONNECT has no reasons there.
            Some(_) if self.link.is_some() && self.version == Version::V311 => Some(ReasonCode::Success),
            Some(ReasonCode::ServerShuttingDown | ReasonCode::SessionTakenOver) if self.link.is_some() => {
                Some(ReasonCode::Success)
            }
            Some(ReasonCode::KeepAliveTimeout) if self.link.is_some() => Some(ReasonCode::UnspecifiedError),
            reason => reason,
        }
    }

    /// When a remote is given up: it has been silent for one and a half intervals or has not answered SUBSCRIBE in that time,
    /// which is seen when the next PINGREQ is due, half an interval later at the latest.
    pub(super) fn remote_deadline(&self, link: &Link, interval: u64) -> (u64, u64) {
        let (patience, ping) = (interval * 3 / 2, interval / 2);
        let first = self.last_packet_at + patience;
        let last = self.last_packet_at.max(self.not_heard_until) + patience + ping;
        let suback = link.since + patience;
        if link.awaits_suback { (first.min(suback), last.min(suback + ping)) } else { (first, last) }
    }
}

/// The interval of a keep-alive in nanoseconds.
pub(super) fn interval(terms: &ConnectTerms) -> u64 {
    u64::from(terms.keep_alive_seconds) * SECOND
}
