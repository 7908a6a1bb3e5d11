//! What an operator looks up and does through the broker's API: clients and their sessions, the end of either, a message.
//!
//! A look at many clients walks a bounded number of places and says where to go on: places keep their sessions, so who turns the
//! pages sees each session that stays once. Nothing here is on the way of a message.

use crate::proto::{QoS, ReasonCode, Version};
use crate::route::{Message, Subscription, TopicName};
use crate::store::LogPosition;
use crate::time::Timestamp;

use crate::bridge::SESSION_PREFIX;

use super::Shard;
use super::connection::ConnectionKey;
use super::publishing::Owner;
use super::receiving::Violation;
use super::refusing::RESERVED_TOPIC;
use super::sessions::SessionKey;
use super::topics;

/// Places that one page walks over at most.
const PLACES_PER_PAGE: usize = 2048;

/// A client's session, and its connection if there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientReport {
    /// The client's id.
    pub client_id: Box<str>,
    /// The connection; none while the client is away.
    pub connection: Option<ConnectedClient>,
    /// When the client went away; none while it is connected.
    pub disconnected_at: Option<Timestamp>,
    /// Whether the session outlives the broker.
    pub is_durable: bool,
    /// Its subscriptions, shared ones included.
    pub subscriptions: u64,
    /// Messages that wait for it.
    pub queued: u64,
    /// Payload bytes of these.
    pub queued_bytes: u64,
    /// QoS 2 messages of it that await PUBREL.
    pub inflight_in: u64,
    /// QoS 1 and 2 messages to it that it has not acknowledged to the end.
    pub inflight_out: u64,
}

/// The connection of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectedClient {
    /// Names it to the driver.
    pub key: ConnectionKey,
    /// The protocol that it speaks.
    pub version: Version,
    /// The account of the client, if it has shown who it is.
    pub user_name: Option<Box<str>>,
    /// Seconds without a packet that the client promised not to exceed; 0 is no promise.
    pub keep_alive_seconds: u16,
    /// The name of the bridge, if the session is one of ours.
    pub bridge: Option<Box<str>>,
}

/// A subscription of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionReport {
    /// Its filter, with `$share` and the name of the group if it is shared.
    pub filter: Box<str>,
    /// What the client asked for.
    pub subscription: Subscription,
}

/// Why something was not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRemoved {
    /// It is not there.
    NothingThere,
    /// The client of the session is connected.
    Connected,
    /// It is the broker's own, and would come again.
    OfTheBroker,
    /// It is removed, but the log has failed: the next start may find it again.
    LogFailed,
}

/// Some of a shard's clients.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientPage {
    /// Those that were asked for.
    pub clients: Vec<ClientReport>,
    /// The place to go on from; none if there are no more.
    pub next: Option<u32>,
}

impl Shard {
    /// Clients whose ids contain a text, from a place on, and at most so many; the first place is 0.
    pub fn clients(&self, from: u32, max: usize, id_contains: &str) -> ClientPage {
        let sessions = &self.clients.sessions;
        let end = sessions.places();
        let mut page = ClientPage::default();
        let from = from as usize;
        for place in from..end {
            if page.clients.len() >= max || place - from >= PLACES_PER_PAGE {
                page.next = u32::try_from(place).ok();
                break;
            }
            if let Some(session) = sessions.at(place)
                && sessions.get(session).client_id.contains(id_contains)
            {
                page.clients.push(self.client_report(session));
            }
        }
        page
    }

    /// The client with this id.
    pub fn client(&self, client_id: &str) -> Option<ClientReport> {
        Some(self.client_report(self.clients.sessions.find(client_id)?))
    }

    /// The subscriptions of a client, at most so many, in no particular order.
    pub fn subscriptions_of(&self, client_id: &str, max: usize) -> Option<Vec<SubscriptionReport>> {
        let key = self.clients.sessions.find(client_id)?;
        let session = self.clients.sessions.get(key);
        let own = session.subscriptions.iter().filter_map(|filter| {
            let subscription = self.subscriptions.subscription_of(filter, key.into())?;
            Some(SubscriptionReport { filter: self.subscriptions.filter_of(filter).into(), subscription })
        });
        let shares = session.memberships.iter().flat_map(|memberships| &memberships.shares);
        let shared =
            shares.map(|share| SubscriptionReport { filter: share.group.clone(), subscription: share.subscription });
        Some(own.chain(shared).take(max).collect())
    }

    /// Ends the session of a client that is away, because the operator wants it, as if its time were over. It is gone for good when
    /// the log is stable as far as is said here.
    ///
    /// # Errors
    /// Why it stays.
    pub fn handle_session_removal(&mut self, now: Timestamp, client_id: &str) -> Result<LogPosition, NotRemoved> {
        self.clients.now = now;
        // It belongs to what is configured, connected or not.
        if client_id.starts_with(SESSION_PREFIX) {
            return Err(NotRemoved::OfTheBroker);
        }
        let key = self.clients.sessions.find(client_id).ok_or(NotRemoved::NothingThere)?;
        if self.clients.sessions.get(key).connection.is_some() {
            return Err(NotRemoved::Connected);
        }
        self.end_session(key);
        self.end_overflowed();
        Ok(self.clients.log.wait_for_appended())
    }

    /// Ends the connection of a client, because the operator wants it; 5.0 clients are told. Whether there was one. The session
    /// stays as if the connection had failed, and a will is due.
    pub fn handle_dismissal(&mut self, now: Timestamp, client_id: &str) -> bool {
        self.clients.now = now;
        let sessions = &self.clients.sessions;
        let Some(key) = sessions.find(client_id).and_then(|session| sessions.get(session).connection) else {
            return false;
        };
        self.end_by_server(key, ReasonCode::AdministrativeAction);
        self.end_overflowed();
        true
    }

    /// Routes a message of the operator's, as the broker's own. It is safe when the log is stable as far as is said here.
    ///
    /// # Errors
    /// Why it is not accepted; nothing has happened then.
    pub fn handle_announcement(
        &mut self,
        now: Timestamp,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<LogPosition, &'static str> {
        self.clients.now = now;
        let topic = self.announced_topic(topic, qos, retain).map_err(|violation| violation.text)?;
        let records = self.clients.log.records();
        let message = Message::new(topic.as_str(), &[], payload, qos, retain, None);
        self.route(Owner::Broker, None, topic, message);
        self.end_overflowed();
        if self.clients.log.records() == records {
            return Ok(LogPosition::NOTHING);
        }
        Ok(self.clients.log.wait_for_appended())
    }

    /// The topic of a message that a client might publish, too.
    fn announced_topic<'a>(&mut self, topic: &'a str, qos: QoS, retain: bool) -> Result<TopicName<'a>, Violation> {
        self.check_served(qos, retain)?;
        let topic = self.clients.topic_to_publish(topic)?;
        if topics::is_reserved(topic) {
            return Err(RESERVED_TOPIC);
        }
        if self.clients.is_degraded()
            && let Some(refusal) = self.log_refusal_for(qos, retain, topic)
        {
            return Err(refusal.into());
        }
        Ok(topic)
    }

    fn client_report(&self, key: SessionKey) -> ClientReport {
        let sessions = &self.clients.sessions;
        let session = sessions.get(key);
        let outbound = sessions.outbound_to_read(key);
        ClientReport {
            client_id: session.client_id.clone(),
            connection: session.connection.map(|key| self.connected_client(key)),
            disconnected_at: session.disconnected_at,
            is_durable: session.is_durable,
            subscriptions: session.subscription_count() as u64,
            queued: outbound.map_or(0, |outbound| outbound.queued() as u64),
            queued_bytes: outbound.map_or(0, |outbound| outbound.queued_bytes()),
            inflight_in: sessions.inbound_to_read(key).map_or(0, |inbound| inbound.len() as u64),
            inflight_out: outbound.map_or(0, |outbound| outbound.inflight() as u64),
        }
    }

    fn connected_client(&self, key: ConnectionKey) -> ConnectedClient {
        let connection = &self.clients.connections[key.index()];
        ConnectedClient {
            key,
            version: connection.version,
            user_name: connection
                .principal
                .as_ref()
                .and_then(|principal| Some(principal.identity.as_ref()?.user_name.clone())),
            keep_alive_seconds: connection.keep_alive_seconds,
            bridge: connection.role.link().map(|link| link.bridge.name.clone()),
        }
    }
}
