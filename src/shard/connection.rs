//! One connection as its shard sees it.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use crate::proto::{AcknowledgementKind, Framer, PacketId, ReasonCode, Version};
use crate::store::LogPosition;
use crate::time::Timestamp;
use crate::transport::Transport;

use super::aliases::{InboundAliases, OutboundAliases};
use super::output::Output;
use super::pacing::Pace;
use super::permitting::Principal;
use super::role::Role;
use super::sessions::SessionKey;

/// Names a connection of a shard. It is a dense index, and not given out again before the driver has said that the
/// connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionKey(NonZeroU32);

impl ConnectionKey {
    pub(super) fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("a shard has fewer than 2^32 connections"))
    }

    /// The index, for tables that a driver keeps beside the shard's.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// How far the life of a connection has come.
///
/// | phase     | event                              | becomes   | command       |
/// |-----------|------------------------------------|-----------|---------------|
/// | open      | server ends it, output waits       | flushing  | –             |
/// | open      | server ends it, no output waits    | finished  | FinishSending |
/// | open      | client ends it, a SUBSCRIBE waits for other shards | open | –  |
/// | open      | client ends it, output waits       | flushing  | –             |
/// | open      | client ends it, no output waits    | closing   | Close         |
/// | flushing  | all is sent, client had not ended  | finished  | FinishSending |
/// | flushing  | all is sent, client had ended      | closing   | Close         |
/// | finished  | the client ends it                 | closing   | Close         |
/// | flushing, finished | the linger time is over   | closing   | Close         |
/// | any but closing | the connection fails         | closing   | Close         |
/// | closing   | the driver has closed the socket   | (removed) | –             |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Packets are exchanged.
    Open,
    /// The last bytes are on their way; what is received is ignored.
    Flushing {
        /// Whether the client has ended its side (FIN or DISCONNECT; on a WebSocket its close frame), so that nobody waits for
        /// ours.
        client_ended: bool,
    },
    /// All is sent and our side is shut: the client should read it and end its side.
    Finished,
    /// The driver was told to close.
    Closing,
}

/// An acknowledgement on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    pub(super) kind: AcknowledgementKind,
    pub(super) id: PacketId,
    pub(super) reason: ReasonCode,
    /// Why, for a client that wants to know.
    pub(super) text: Option<&'static str>,
}

/// PUBACKs and PUBRECs in the order of their PUBLISHes [MQTT-4.6.0-2] [MQTT-4.6.0-3] that a subscriber holds up, with the log
/// positions they wait for. A word when there is none.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    held: Option<Box<HeldReceipts>>,
}

#[derive(Debug, Default)]
struct HeldReceipts {
    queue: VecDeque<(Acknowledgement, LogPosition)>,
}

impl Receipts {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.queue.len())
    }

    pub(super) fn push_back(&mut self, receipt: Acknowledgement, after: LogPosition) {
        self.held.get_or_insert_default().queue.push_back((receipt, after));
    }

    pub(super) fn pop_front(&mut self) -> Option<(Acknowledgement, LogPosition)> {
        let held = self.held.as_mut()?;
        let first = held.queue.pop_front();
        if held.queue.is_empty() {
            self.held = None;
        }
        first
    }

    pub(super) fn clear(&mut self) {
        self.held = None;
    }
}

/// One connection. There is one for every client however idle, so what only some have is behind a pointer.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// The session it serves; none once that was given up or taken over.
    pub(super) session: Option<SessionKey>,
    pub(super) version: Version,
    /// Who is at the other end.
    pub(super) role: Role,
    /// Who a client is, and what it may do; none if neither was ever asked.
    pub(super) principal: Option<Box<Principal>>,
    pub(super) transport: Transport,
    pub(super) framer: Framer,
    pub(super) output: Output,
    pub(super) receipts: Receipts,
    /// What CONNACK waits for.
    pub(super) connack_after: LogPosition,
    /// How many congested sessions hold this publisher up.
    pub(super) held_by: u32,
    /// Tells this connection from earlier ones with the same key.
    pub(super) serial: u32,
    /// When the last whole packet was received.
    pub(super) last_packet_at: Timestamp,
    /// The deadline of the one timer that counts for this connection.
    pub(super) timer_at: Timestamp,
    /// The client's Maximum Packet Size in bytes; none if it gave no limit. There is room for any CONNACK, and so for every
    /// packet without properties that has no list in it.
    pub(super) max_packet_bytes: Option<NonZeroU32>,
    /// Whether acknowledgements may say in words why something was refused.
    pub(super) wants_problem_information: bool,
    /// What the client's topic aliases stand for; none before it uses one.
    pub(super) inbound_aliases: Option<Box<InboundAliases>>,
    /// The topic aliases that the client gets; none if it accepts none.
    pub(super) outbound_aliases: Option<Box<OutboundAliases>>,
    /// What it has used of its allowances; none before it publishes, and where there are none.
    pub(super) pace: Option<Box<Pace>>,
    /// Seconds without a packet that the client promised not to exceed; 0 is no promise.
    pub(super) keep_alive_seconds: u16,
    /// The client has shut its side while a SUBSCRIBE of it waits for other shards; it ends when that is answered.
    pub(super) stream_ended: bool,
    /// Listed as having output.
    pub(super) is_dirty: bool,
    /// Listed as having output that waits for the log.
    pub(super) is_awaiting_log: bool,
    /// Not read from, because the client does not read what it gets.
    pub(super) paused_by_output: bool,
    /// Not read from, because a ring to another shard is full or too much waits for the log.
    pub(super) paused_by_backlog: bool,
    /// Its output may have samples of how long messages take.
    pub(super) has_samples: bool,
}

impl Connection {
    pub(super) fn new(version: Version, transport: Transport, serial: u32, now: Timestamp) -> Self {
        Self {
            phase: Phase::Open,
            session: None,
            version,
            role: Role::Client,
            principal: None,
            transport,
            framer: Framer::default(),
            output: Output::default(),
            receipts: Receipts::default(),
            connack_after: LogPosition::NOTHING,
            held_by: 0,
            serial,
            last_packet_at: now,
            timer_at: Timestamp::default(),
            max_packet_bytes: None,
            wants_problem_information: false,
            inbound_aliases: None,
            outbound_aliases: None,
            pace: None,
            keep_alive_seconds: 0,
            stream_ended: false,
            is_dirty: false,
            is_awaiting_log: false,
            paused_by_output: false,
            paused_by_backlog: false,
            has_samples: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether everything has been written, also what the transport has to say.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_flushed() && !self.transport.has_frames(true)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused_by_output || self.paused_by_backlog || self.pace.as_ref().is_some_and(|pace| pace.waits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every idle client costs is a decision: tuning.md, "Memory", tells what it is made of. Two and a half cache lines,
    /// and the words for who the client is, for its transport and for its pace: behind the role's pointer each packet would have to look there.
    #[test]
    fn a_connection_is_two_and_a_half_cache_lines_and_three_words() {
        assert_eq!(size_of::<Connection>(), 184);
        assert_eq!(size_of::<Option<Connection>>(), 184, "a place in the slab costs no more");
        assert_eq!(size_of::<Option<ConnectionKey>>(), 4);
    }

    #[test]
    fn receipts_leave_in_order_and_no_memory_behind() {
        let receipt = |id| Acknowledgement {
            kind: AcknowledgementKind::Pubrec,
            id: PacketId::new(id).expect("not 0"),
            reason: ReasonCode::Success,
            text: None,
        };
        let mut receipts = Receipts::default();
        assert!(receipts.pop_front().is_none());
        for id in 1..=3 {
            receipts.push_back(receipt(id), LogPosition::NOTHING);
        }
        assert_eq!(receipts.len(), 3);
        let left = std::iter::from_fn(|| receipts.pop_front()).map(|(receipt, _)| receipt.id.get());
        assert_eq!(left.collect::<Vec<_>>(), [1, 2, 3]);
        assert!(receipts.is_empty() && receipts.held.is_none());
    }
}
