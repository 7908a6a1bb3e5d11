//! Who is at the other end of a connection, and what that changes.

use std::sync::Arc;

use crate::bridge::Bridge;
use crate::proto::{PacketId, QoS, ReasonCode};
use crate::session::Resending;
use crate::time::Timestamp;

/// Who is at the other end. Nearly all are ordinary clients, so the others are behind a pointer.
#[derive(Debug)]
pub(super) enum Role {
    /// A client of ours.
    Client,
    /// Another broker.
    Broker(Box<Broker>),
}

/// What another broker is to us.
#[derive(Debug)]
pub(super) enum Broker {
    /// A client that is a bridge of it, and has said so as bridges of 3.1.1 do.
    ForeignBridge,
    /// We are its client: a bridge of ours goes there.
    Bridge(Link),
}

/// A connection of a bridge of ours.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) bridge: Arc<Bridge>,
    pub(super) state: LinkState,
    /// How many messages may be in flight to the remote.
    pub(super) window: u16,
    /// Whether the remote takes messages with RETAIN.
    pub(super) retain_available: bool,
}

/// How far the beginning of a connection to a remote has come. Messages wait until all subscriptions are made, because
/// the packet id of SUBSCRIBE is one that the next message would get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    /// SUBACK is due.
    Subscribing {
        /// The packet id of SUBSCRIBE.
        packet_id: PacketId,
        /// When it was sent.
        since: Timestamp,
        /// What the messages that go out behind it are to the remote.
        resending: Resending,
    },
    /// Messages go both ways.
    Carrying,
}

impl Role {
    /// A client that is a bridge of another broker.
    pub(super) fn foreign_bridge() -> Self {
        Self::Broker(Box::new(Broker::ForeignBridge))
    }

    /// A broker whose client we are.
    pub(super) fn bridge(link: Link) -> Self {
        Self::Broker(Box::new(Broker::Bridge(link)))
    }

    /// Whether this is a client that is a bridge of another broker.
    pub(super) fn is_foreign_bridge(&self) -> bool {
        match self {
            Self::Client => false,
            Self::Broker(broker) => match **broker {
                Broker::ForeignBridge => true,
                Broker::Bridge(_) => false,
            },
        }
    }

    /// The link, if we are the client.
    #[inline]
    pub(super) fn link(&self) -> Option<&Link> {
        match self {
            Self::Client => None,
            Self::Broker(broker) => match &**broker {
                Broker::ForeignBridge => None,
                Broker::Bridge(link) => Some(link),
            },
        }
    }

    /// The link, if we are the client, to change.
    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match self {
            Self::Client => None,
            Self::Broker(broker) => match &mut **broker {
                Broker::ForeignBridge => None,
                Broker::Bridge(link) => Some(link),
            },
        }
    }
}

/// What an operator should know about a bridge.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BridgeNotice {
    /// A session is there of a bridge that is not configured.
    #[error("{session}: this bridge is no longer configured; its session is ended")]
    SessionEnded {
        /// The session.
        session: Box<str>,
    },
    /// The remote has lost the session.
    #[error(
        "bridge {bridge}: the remote has lost the session; {unacknowledged} messages are sent again that it may have \
         taken, {confirmed} that it had taken are done, and {received} that it was sending may come again"
    )]
    SessionLost {
        /// The bridge.
        bridge: Box<str>,
        /// Messages in flight that the remote has not acknowledged.
        unacknowledged: usize,
        /// Messages that it has, of which the handshake was not complete.
        confirmed: usize,
        /// Messages of the remote of which the handshake was not complete.
        received: usize,
    },
    /// The remote does not grant a subscription.
    #[error("bridge {bridge}: the remote refuses the subscription of {filter:?}: {}", reason.name())]
    SubscriptionRefused {
        /// The bridge.
        bridge: Box<str>,
        /// The filter.
        filter: Box<str>,
        /// Its reason.
        reason: ReasonCode,
    },
    /// The remote grants less than was asked for.
    #[error("bridge {bridge}: the remote grants the subscription of {filter:?} with QoS {} only", qos.bits())]
    SubscriptionLowered {
        /// The bridge.
        bridge: Box<str>,
        /// The filter.
        filter: Box<str>,
        /// What it grants.
        qos: QoS,
    },
    /// The remote has ended the connection, and said why.
    #[error("bridge {bridge}: the remote ends the connection: {}", reason.name())]
    EndedByRemote {
        /// The bridge.
        bridge: Box<str>,
        /// Its reason.
        reason: ReasonCode,
    },
    /// We have ended the connection.
    #[error("bridge {bridge}: the connection is ended: {text}")]
    Ended {
        /// The bridge.
        bridge: Box<str>,
        /// Why.
        text: &'static str,
    },
}
