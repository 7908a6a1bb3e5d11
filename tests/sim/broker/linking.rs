//! The gate's part with the bridge: it opens the connection with the broker's own opening machine, hands it to the shard that
//! has the bridge's session, and opens it again when it has ended.

use bytes::Bytes;
use oncemq::bridge::{Dialect, Opening, Progress};
use oncemq::proto::{Disconnect, Packet, Properties, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version};
use oncemq::shard::OpenedBridge;
use oncemq::transport::Transport;

use crate::bridging::SESSION;
use crate::client::Meaning;
use crate::event::Event;
use crate::ledger::{Failure, fail};
use crate::network::{Connection, End, Stage};
use crate::world::World;

/// What the bridge subscribes to in its own broker has these options.
fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, no_local: true, retain_as_published: true, retain_handling: RetainHandling::SendIfNew }
}

impl World {
    /// Whether a connection is the bridge's.
    pub(crate) fn is_of_bridge(&self, connection: usize) -> bool {
        self.clients[self.connections[connection].client].is_remote()
    }

    /// The broker runs for the first time.
    pub(crate) fn begin_bridge(&mut self) {
        if let Some(bridging) = &self.bridging {
            let (remote, filters) = (bridging.plan.remote, bridging.local_filters());
            self.ledger.start_session(remote, self.clients[remote].max_packet_bytes());
            self.enter_subscriptions(filters);
            self.schedule_soon(Event::Reach);
        }
    }

    /// Perhaps changes what is configured while the broker is gone, and enters that in the books. With `forgets_all` the
    /// broker has no log.
    pub(super) fn change_bridge(&mut self, forgets_all: bool) {
        let Some(bridging) = &mut self.bridging else { return };
        let remote = bridging.plan.remote;
        bridging.opening = None;
        bridging.connection = None;
        let before = bridging.local_filters();
        let was_configured = bridging.is_configured();
        bridging.change_perhaps(&mut self.random, self.ledger.step);
        self.ledger.release(remote);
        let unheard = std::mem::take(&mut bridging.unheard);
        let after = bridging.local_filters();
        let is_new = bridging.is_configured() && (forgets_all || !was_configured);
        if is_new || !bridging.is_configured() {
            self.audit.forget_session(remote, forgets_all);
        }
        let added = if is_new {
            let client = &mut self.clients[remote];
            client.lose_connection();
            client.take_lost();
            self.ledger.start_session(remote, client.max_packet_bytes());
            after
        } else {
            self.audit.carries_other_topics(remote);
            for (filter, _) in before.iter().filter(|filter| !after.contains(filter)) {
                let step = self.ledger.unsubscribe(remote, filter);
                self.ledger.unsubscribed(remote, filter, step);
            }
            // A subscription that was in the log is not made again, so what is retained may be missed for ever.
            let is_unheard = |filter: &String| unheard.iter().any(|entry| self.ledger.filter(remote, *entry) == filter);
            after.into_iter().filter(|filter| !before.contains(filter) || is_unheard(&filter.0)).collect()
        };
        self.enter_subscriptions(added);
        self.schedule_soon(Event::Reach);
    }

    fn enter_subscriptions(&mut self, filters: Vec<(String, QoS)>) {
        let bridging = self.bridging.as_mut().expect("asked for by the caller");
        for (filter, qos) in filters {
            let entry = self.ledger.subscribe(bridging.plan.remote, &filter, options(qos), None);
            bridging.unheard.push(entry);
        }
    }

    /// Notes that all shards have heard of the bridge's subscriptions, and no crash makes them forget that.
    pub(super) fn note_heard(&mut self, shard: usize) {
        let Some(bridging) = self.bridging.as_mut().filter(|bridging| !bridging.unheard.is_empty()) else { return };
        let seat = &self.broker.seats[shard].shard;
        let is_logged = seat.is_log_idle() && !self.audit.log_has_failed;
        let is_heard = is_logged && seat.counters().pending_subscribes == 0;
        if is_heard && self.broker.shard_of(SESSION) == shard {
            for entry in std::mem::take(&mut bridging.unheard) {
                self.ledger.subscribed(bridging.plan.remote, entry);
            }
        }
    }

    /// The gate tries to reach the remote.
    pub(crate) fn reach(&mut self) {
        let Some(bridging) = self.bridging.as_mut().filter(|bridging| !bridging.is_stopped) else { return };
        let Some(bridge) = bridging.bridge() else { return };
        let plan = &bridging.plan;
        let (remote, shard) = (plan.remote, self.broker.shard_of(SESSION));
        let is_shared = self.broker.seats[shard].shard.is_bridge_shared(&bridge);
        let opening = *bridging.opening.get_or_insert_with(|| Opening::new(Dialect::first(plan.version), is_shared));
        let index = self.connections.len();
        bridging.connection = Some(index);
        self.trace.note(self.now, "reach", &[index as u64, u64::from(is_shared)]);
        self.connections.push(Connection::new(remote, shard));
        let version = opening.dialect().version();
        self.audit.open(remote, version);
        self.clients[remote].accept(index, version, bridging.patterns());
        let connect = opening.connect_frame(&bridge, plan.receive_maximum, self.scenario.limits.max_packet_bytes);
        self.trace.note_bytes(&connect, || format!("{opening:?}"));
        self.connections[index].down.extend(connect);
        self.schedule_downstream(index, self.scenario.delay_ns_max);
    }

    /// Collects what a remote answers to CONNECT.
    pub(super) fn collect_connack(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.up.is_empty() {
            if connection.up_end.is_some() {
                self.give_opening_up(index);
            }
            return Ok(());
        }
        let waiting = connection.up.len();
        let piece = self.piece(waiting, 1);
        let connection = &mut self.connections[index];
        let bytes = connection.read(piece);
        connection.gate.extend(bytes);
        let bridging = self.bridging.as_mut().expect("the connection is its");
        let bridge = bridging.bridge().expect("the connection is its");
        let opening = bridging.opening.expect("it is being opened");
        match opening.progress(&bridge, &connection.gate) {
            Progress::Incomplete => self.schedule_upstream(index),
            Progress::Opened { .. } => {
                connection.stage = Stage::Admitting;
                self.schedule_soon(Event::Admit(index));
            }
            Progress::Cleared(next) => {
                bridging.opening = Some(next);
                let mut disconnect = Vec::new();
                let normal = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
                Packet::Disconnect(normal).encode(Version::V311, &mut disconnect);
                connection.down.extend(disconnect);
                self.close_at_gate(index, End::Finished);
                self.reach();
            }
            Progress::Refused(refusal) => {
                let Some(dialect) = opening.dialect().fallback(&refusal) else {
                    fail!("the bridge does not get on with an honest remote: {refusal}");
                };
                let shard = connection.shard;
                let is_shared = self.broker.seats[shard].shard.is_bridge_shared(&bridge);
                bridging.opening = Some(Opening::new(dialect, is_shared));
                bridging.visits.fallbacks += 1;
                self.close_at_gate(index, End::Finished);
                self.reach();
            }
        }
        Ok(())
    }

    /// The opening has failed.
    pub(crate) fn give_opening_up(&mut self, index: usize) {
        self.trace.note(self.now, "opening given up", &[index as u64]);
        self.close_at_gate(index, End::Finished);
        self.note_bridge_closed(index);
    }

    fn close_at_gate(&mut self, index: usize, end: End) {
        let connection = &mut self.connections[index];
        connection.stage = Stage::Closed;
        connection.down_end.get_or_insert(end);
        self.schedule_downstream(index, 0);
    }

    /// A connection of the bridge has ended: it is opened again after a pause.
    pub(super) fn note_bridge_closed(&mut self, index: usize) {
        let Some(bridging) = self.bridging.as_mut().filter(|bridging| bridging.connection == Some(index)) else {
            return;
        };
        bridging.connection = None;
        bridging.opening = None;
        if !bridging.is_stopped {
            self.schedule_soon(Event::Reach);
        }
    }

    /// A shard takes the connection over.
    pub(super) fn admit_bridge(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let shard = connection.shard;
        let gate = Bytes::from(std::mem::take(&mut connection.gate));
        self.take_turn_perhaps(shard)?;
        self.trace.note(self.now, "admit bridge", &[index as u64, shard as u64]);
        let bridging = self.bridging.as_mut().expect("the connection is its");
        let bridge = bridging.bridge().expect("the connection is its");
        let opening = bridging.opening.take().expect("it is being opened");
        let Progress::Opened { total } = opening.progress(&bridge, &gate) else {
            unreachable!("it was opened a moment ago")
        };
        let Some(Meaning::Connack { terms, session_present }) = self.connections[index].take_meaning() else {
            unreachable!("a remote begins with CONNACK")
        };
        let in_flight = self.audit.link(self.now, index, terms, session_present);
        // The remote may have lost a session after it has said that it has it.
        let lost = if session_present { Vec::new() } else { self.clients[bridging.plan.remote].take_lost() };
        for (id, handed_on) in lost {
            if in_flight.iter().any(|other| (other.id, other.payload_hash) == (id, handed_on.payload_hash)) {
                self.ledger.may_come_again(bridging.plan.remote, handed_on.number);
                bridging.visits.in_flight_at_loss += 1;
            }
        }
        bridging.visits.opened += 1;
        bridging.visits.resumed += u64::from(session_present);
        // From here on there is output.
        self.schedule_turn(shard);
        self.audit_read(index)?;
        let opened = OpenedBridge {
            bridge,
            version: opening.dialect().version(),
            connack_frame: gate.slice(..total),
            early_bytes: gate.slice(total..),
            transport: Transport::Plain,
        };
        let now = self.now();
        let key = self.broker.seats[shard].shard.handle_bridge(now, opened);
        self.seat_connection(shard, key, index)?;
        self.end_sent_away(shard);
        Ok(())
    }
}
