//! The broker of a run: its shards, the rings between them, and their drivers.
//!
//! A driver here does what the real one does, only slower, later and in less convenient pieces, and it checks that the shards
//! keep their side of the contract.

mod crash;
mod recovery;
mod storage;

pub(crate) use crash::CrashPlan;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use oncemq::config::{Limits, Service};
use oncemq::fault::PlantedFault;
use oncemq::proto::{ReasonCode, decode_connect, frame_length};
use oncemq::route::{Letter, ShardId};
use oncemq::shard::{Admission, Command, ConnectionKey, Counters, Shard, ShardConfig, Transmit, shard_of};
use oncemq::store::{Image, LogEnd};
use oncemq::time::Timestamp;
use oncemq::transport::Transport;

use crate::audit::TIMER_SLACK_NS;
use crate::client::Meaning;
use crate::ledger::{Failure, fail};
use crate::network::{End, Sending, Stage};
use crate::scenario::{MILLISECOND, Scenario};
use crate::world::{Event, World};

use storage::Storage;

/// All shards with their drivers.
pub(crate) struct Broker {
    /// None while the broker is gone.
    seats: Vec<Seat>,
    shards: u16,
    seed: u64,
    fault: PlantedFault,
    limits: Limits,
    report_interval: Option<Duration>,
    pub(crate) storage: Storage,
    /// Counters of those that are gone.
    past: Vec<Counters>,
}

/// One shard and what its driver keeps beside it.
struct Seat {
    shard: Shard,
    /// By the index of the key.
    connections: Vec<Option<usize>>,
    turn_is_scheduled: bool,
    /// The timeout that the shard asked for, and when the driver will see to it.
    timeout: Option<(u64, u64)>,
    /// Rings to the other shards.
    rings: Vec<Ring>,
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Vec<Letter>>,
    is_scheduled: bool,
}

impl Broker {
    pub(crate) fn new(scenario: &Scenario, now: Timestamp, seed: u64, fault: PlantedFault) -> Self {
        let shards = scenario.shards;
        let mut broker = Self {
            seats: Vec::new(),
            shards,
            seed,
            fault,
            limits: scenario.limits.clone(),
            report_interval: scenario.report_interval,
            storage: Storage::new(&scenario.storage, shards, fault),
            past: Vec::new(),
        };
        let nothing = vec![Image::default(); usize::from(shards)];
        let started = (0..shards).map(|number| match broker.config(number) {
            config @ ShardConfig { log: Some(_), .. } => Shard::restore(config, now, &nothing, LogEnd::default()),
            config => Shard::new(config),
        });
        broker.seats = started.map(|shard| broker.seat(shard)).collect();
        broker
    }

    fn config(&self, number: u16) -> ShardConfig {
        ShardConfig {
            id: shard_id(usize::from(number)),
            shards: self.shards,
            seed: self.seed,
            limits: self.limits.clone(),
            service: Service { validates_payload_format: true, ..Service::default() },
            report_interval: self.report_interval,
            log: self.storage.log_config(number),
            fault: self.fault,
        }
    }

    fn seat(&self, shard: Shard) -> Seat {
        Seat {
            shard,
            connections: Vec::new(),
            turn_is_scheduled: false,
            timeout: None,
            rings: (0..self.shards).map(|_| Ring::default()).collect(),
        }
    }

    /// Whether it has crashed and is not back.
    pub(crate) fn is_gone(&self) -> bool {
        self.seats.is_empty()
    }

    pub(crate) fn shard_of(&self, client_id: &str) -> usize {
        shard_of(client_id, self.shards).index()
    }

    /// QoS 1 and 2 messages that were dropped because a queue was full; retained ones likewise.
    pub(crate) fn dropped(&self) -> u64 {
        self.history().map(|counters| counters.dropped_queue_full + counters.dropped_retained_full).sum()
    }

    /// What all shards have counted, those that are gone too.
    pub(crate) fn history(&self) -> impl Iterator<Item = Counters> {
        self.past.iter().copied().chain(self.counters())
    }

    fn counters(&self) -> impl Iterator<Item = Counters> {
        self.seats.iter().map(|seat| seat.shard.counters())
    }

    /// Whether no log has anything to write.
    pub(crate) fn has_logged_all(&self) -> bool {
        self.seats.iter().all(|seat| seat.shard.is_log_idle())
    }

    /// Whether every shard has ended its connections and written its log.
    pub(crate) fn is_drained(&self) -> bool {
        self.seats.iter().all(|seat| seat.shard.is_drained())
    }

    /// Every client is there and has everything: nothing may be under way.
    pub(crate) fn check_rest(&self, violations: (u64, u64)) -> Result<(), Failure> {
        let counted: u64 = self.history().map(|counters| counters.protocol_violations).sum();
        let (min, max) = violations;
        if !(min..=max).contains(&counted) {
            fail!("{counted} violations of {min} to {max} were found");
        }
        for (shard, counters) in self.counters().enumerate() {
            let under_way = counters.messages
                + counters.inbound_inflight
                + counters.outbound_inflight
                + counters.queued
                + counters.pending_subscribes
                + counters.lookups
                + counters.waiting_letters
                + counters.unacknowledged_letters;
            if under_way > 0 {
                fail!("shard {shard} is not at rest: {counters}");
            }
        }
        Ok(())
    }

    /// Every connection has ended: nothing may be left but retained messages and, if they have not ended, sessions.
    pub(crate) fn check_end(&self, violations: (u64, u64), sessions_have_ended: bool) -> Result<(), Failure> {
        if sessions_have_ended {
            self.check_rest(violations)?;
        }
        for counters in self.counters() {
            let sessions = if sessions_have_ended {
                counters.sessions + counters.subscriptions + counters.shared_groups
            } else {
                0
            };
            if counters.connections + sessions > 0 {
                fail!("not everything has ended: {counters}");
            }
        }
        Ok(())
    }
}

/// The drivers at work.
impl World {
    pub(crate) fn schedule_upstream(&mut self, connection: usize) {
        if !std::mem::replace(&mut self.connections[connection].up_is_scheduled, true) {
            self.schedule_soon(Event::Upstream(connection));
        }
    }

    fn schedule_turn(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.broker.seats[shard].turn_is_scheduled, true) {
            let delay = 1 + self.random.up_to(self.scenario.delay_ns_max / 4);
            self.schedule(self.now + delay, Event::Turn(shard));
        }
    }

    /// Bytes arrive at the broker, or the end of a connection does.
    pub(crate) fn upstream(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.up_is_scheduled = false;
        if connection.is_black_hole {
            return Ok(());
        }
        match connection.stage {
            Stage::Gate => self.collect_connect(index),
            // Nobody reads while the socket is handed over.
            Stage::Admitting => {}
            // A completion that the command to pause crossed is still handed over.
            Stage::Serving(_) if connection.is_paused && !self.random.percent(20) => {}
            Stage::Serving(key) => self.receive(index, key)?,
            Stage::Closing(key) => {
                if !connection.up.is_empty() && self.random.percent(50) {
                    let bytes = connection.read(connection.up.len());
                    let (shard, now) = (connection.shard, self.now());
                    self.broker.seats[shard].shard.handle_received(now, key, &bytes);
                }
            }
            Stage::Closed => connection.up.clear(),
        }
        Ok(())
    }

    fn collect_connect(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.up.is_empty() {
            if connection.up_end.is_some() {
                connection.stage = Stage::Closed;
                connection.down_end.get_or_insert(End::Finished);
                self.schedule_downstream(index, 0);
            }
            return;
        }
        let waiting = connection.up.len();
        let piece = self.piece(waiting, 1);
        let connection = &mut self.connections[index];
        let bytes = connection.read(piece);
        connection.gate.extend(bytes);
        let length = frame_length(&connection.gate, u32::MAX).expect("an honest client begins with CONNECT");
        if length.is_some_and(|length| length <= connection.gate.len()) {
            connection.stage = Stage::Admitting;
            self.schedule_soon(Event::Admit(index));
        } else {
            self.schedule_upstream(index);
        }
    }

    pub(crate) fn admit(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.stage != Stage::Admitting {
            return Ok(());
        }
        let (client, shard) = (connection.client, connection.shard);
        let gate = Bytes::from(std::mem::take(&mut connection.gate));
        self.take_turn_perhaps(shard)?;
        self.trace.note(self.now, "admit", &[index as u64, shard as u64]);
        if let Some(previous) = self.audit.served_by(client) {
            let has_unseen = self.has_unseen(previous);
            let reason = Some(ReasonCode::SessionTakenOver);
            self.audit.end(&mut self.ledger, self.now, previous, reason, has_unseen);
        }
        match self.connections[index].take_meaning() {
            Some(Meaning::Connect(terms)) => self.audit.admit(&mut self.ledger, self.now, index, terms),
            other => unreachable!("an honest client begins with CONNECT, not {other:?}"),
        }
        // From here on there is output: CONNACK at least.
        self.schedule_turn(shard);
        self.audit_read(index)?;
        let length = frame_length(&gate, u32::MAX).ok().flatten().expect("the CONNECT is whole");
        let connect_frame = gate.slice(..length);
        let client_id = decode_connect(&connect_frame).expect("an honest client's CONNECT").client_id.into();
        let admission = Admission {
            connect_frame,
            client_id,
            client_id_assigned: false,
            early_bytes: gate.slice(length..),
            transport: Transport::Plain,
        };
        let now = self.now();
        let seat = &mut self.broker.seats[shard];
        let key = seat.shard.handle_admission(now, admission);
        if seat.connections.len() <= key.index() {
            seat.connections.resize(key.index() + 1, None);
        }
        if seat.connections[key.index()].replace(index).is_some() {
            fail!("{key:?} of shard {shard} was given out twice");
        }
        self.connections[index].stage = Stage::Serving(key);
        self.schedule_upstream(index);
        self.end_sent_away(shard);
        Ok(())
    }

    fn receive(&mut self, index: usize, key: ConnectionKey) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let shard = connection.shard;
        if connection.up.is_empty() {
            return match connection.up_end {
                Some(End::Finished) if !connection.up_end_is_known => {
                    connection.up_end_is_known = true;
                    self.take_turn_perhaps(shard)?;
                    self.end_of_stream(index)
                }
                Some(End::Reset) if !connection.up_end_is_known => {
                    self.take_turn_perhaps(shard)?;
                    self.connection_failed(index)
                }
                Some(_) | None => Ok(()),
            };
        }
        let waiting = connection.up.len();
        let piece = self.piece(waiting, 1);
        let bytes = self.connections[index].read(piece);
        self.trace.note(self.now, "received", &[index as u64, piece as u64]);
        self.audit_read(index)?;
        let now = self.now();
        self.broker.seats[shard].shard.handle_received(now, key, &bytes);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        self.schedule_upstream(index);
        Ok(())
    }

    /// Stops the broker: every shard ends its connections.
    pub(crate) fn shut_down(&mut self) {
        self.trace.note(self.now, "shutdown", &[]);
        for index in self.audit.open_connections() {
            let has_unseen = self.has_unseen(index);
            self.audit.end(&mut self.ledger, self.now, index, Some(ReasonCode::ServerShuttingDown), has_unseen);
        }
        let now = self.now();
        for shard in 0..self.broker.seats.len() {
            self.broker.seats[shard].shard.handle_shutdown(now);
            self.schedule_turn(shard);
        }
    }

    fn end_of_stream(&mut self, index: usize) -> Result<(), Failure> {
        // The turn before may have told the driver to close.
        let Stage::Serving(key) = self.connections[index].stage else { return Ok(()) };
        self.trace.note(self.now, "end of stream", &[index as u64]);
        self.audit.end_stream(index);
        let (shard, now) = (self.connections[index].shard, self.now());
        self.broker.seats[shard].shard.handle_end_of_stream(now, key);
        self.end_half_closed(shard);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        Ok(())
    }

    fn connection_failed(&mut self, index: usize) -> Result<(), Failure> {
        let Stage::Serving(key) = self.connections[index].stage else { return Ok(()) };
        self.trace.note(self.now, "failed", &[index as u64]);
        self.connections[index].up_end_is_known = true;
        self.connections[index].up_end = Some(End::Reset);
        self.connections[index].up.clear();
        let has_unseen = self.has_unseen(index);
        self.audit.end(&mut self.ledger, self.now, index, None, has_unseen);
        let (shard, now) = (self.connections[index].shard, self.now());
        self.broker.seats[shard].shard.handle_connection_failed(now, key);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        Ok(())
    }

    /// Tells the audit of the packets that the broker has read to their end.
    fn audit_read(&mut self, index: usize) -> Result<(), Failure> {
        let mut has_unseen = self.has_unseen(index);
        while let Some(meaning) = self.connections[index].take_meaning() {
            self.audit.read(&mut self.ledger, self.now, index, &meaning, has_unseen)?;
            // What the packet causes is not taken before those behind it are read.
            has_unseen = true;
        }
        Ok(())
    }

    /// Whether the shard may hold output of the connection that its driver has not taken, or that waits for the log.
    fn has_unseen(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        let seat = &self.broker.seats[connection.shard];
        connection.sending.is_some() || seat.turn_is_scheduled || !seat.shard.is_log_idle()
    }

    /// Mostly drains a shard before something decisive, so that the audit sees as much as possible.
    fn take_turn_perhaps(&mut self, shard: usize) -> Result<(), Failure> {
        if self.random.percent(70) { self.turn(shard) } else { Ok(()) }
    }

    /// Drains the outputs of a shard, in the order that its contract asks for.
    pub(crate) fn turn(&mut self, shard: usize) -> Result<(), Failure> {
        let now = self.now();
        let goes_on = self.broker.seats[shard].shard.poll_lookups(now);
        // What it has answered is output that the audit has not seen.
        self.broker.seats[shard].turn_is_scheduled = true;
        self.end_half_closed(shard);
        self.end_sent_away(shard);
        self.broker.seats[shard].turn_is_scheduled = false;
        if goes_on {
            self.schedule_turn(shard);
        }
        self.post_letters(shard);
        while let Some((key, transmit)) = self.broker.seats[shard].shard.poll_transmit() {
            self.begin_sending(shard, key, transmit)?;
        }
        while let Some(command) = self.broker.seats[shard].shard.poll_command() {
            self.obey(shard, command)?;
        }
        self.drive_log(shard)?;
        self.schedule_timeout(shard);
        Ok(())
    }

    fn post_letters(&mut self, shard: usize) {
        for to in (0..self.broker.seats.len()).filter(|to| *to != shard) {
            loop {
                let seat = &mut self.broker.seats[shard];
                let letters: usize = seat.rings[to].batches.iter().map(Vec::len).sum();
                let room = self.scenario.ring_letters.saturating_sub(letters);
                if room == 0 {
                    break;
                }
                let max = self.random.between(1, room as u64) as usize;
                let Some(batch) = seat.shard.poll_letters(shard_id(to), max) else { break };
                let ring = &mut seat.rings[to];
                self.trace.note(self.now, "letters", &[shard as u64, to as u64, batch.len() as u64]);
                ring.batches.push_back(batch);
                if !std::mem::replace(&mut ring.is_scheduled, true) {
                    self.schedule_soon(Event::Ring(shard, to));
                }
            }
        }
    }

    /// Notes which connections have ended because their clients have shut their sides and wait for nothing more.
    fn end_half_closed(&mut self, shard: usize) {
        // One may be sent away before it has all its answers.
        let reason = self.scenario.may_disconnect().then_some(ReasonCode::QuotaExceeded);
        for index in self.audit.half_closed() {
            let connection = &self.connections[index];
            if connection.shard == shard
                && let Stage::Serving(key) = connection.stage
                && !self.broker.seats[shard].shard.is_open(key)
            {
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, reason, has_unseen);
            }
        }
    }

    /// Notes which connections a shard has ended because their clients do not keep up with what they get.
    fn end_sent_away(&mut self, shard: usize) {
        if !self.scenario.may_disconnect() {
            return;
        }
        for index in self.audit.open_connections() {
            let connection = &self.connections[index];
            if connection.shard == shard
                && let Stage::Serving(key) = connection.stage
                && !self.broker.seats[shard].shard.is_open(key)
            {
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, Some(ReasonCode::QuotaExceeded), has_unseen);
            }
        }
    }

    /// The oldest batch of a ring arrives.
    pub(crate) fn ring(&mut self, from: usize, to: usize) {
        let now = self.now();
        let ring = &mut self.broker.seats[from].rings[to];
        ring.is_scheduled = false;
        let mut batch = ring.batches.pop_front().expect("scheduled because of a batch");
        if !ring.batches.is_empty() {
            ring.is_scheduled = true;
            self.schedule_soon(Event::Ring(from, to));
        }
        self.trace.note(self.now, "ring", &[from as u64, to as u64, batch.len() as u64]);
        for letter in batch.drain(..) {
            self.trace.note_bytes(&[], || format!("{letter:?}"));
            self.broker.seats[to].shard.handle_letter(now, shard_id(from), letter);
        }
        self.broker.seats[from].shard.recycle_letters(batch);
        self.schedule_turn(from);
        // Before the audit hears of connections that have ended: the letters have caused output that it has not seen.
        self.schedule_turn(to);
        self.end_half_closed(to);
        self.end_sent_away(to);
    }

    fn begin_sending(&mut self, shard: usize, key: ConnectionKey, transmit: Transmit) -> Result<(), Failure> {
        let index = self.connection_of(shard, key)?;
        let bytes = transmit.parts().collect::<Vec<_>>().concat();
        self.trace.note(self.now, "transmit", &[index as u64, bytes.len() as u64]);
        self.trace.note_packets(self.clients[self.connections[index].client].version(), &bytes);
        let connection = &mut self.connections[index];
        let is_allowed = connection.sending.is_none()
            && connection.stage == Stage::Serving(key)
            && !bytes.is_empty()
            && bytes.len() == transmit.len();
        if !is_allowed {
            fail!("shard {shard} sends {} bytes on connection {index}, {:?}", bytes.len(), connection.stage);
        }
        self.audit.sent(index, &bytes, self.scenario.limits.max_inflight)?;
        connection.sending = Some(Sending { transmit, bytes, written: 0 });
        connection.write_is_scheduled = true;
        self.schedule_soon(Event::Write(index));
        Ok(())
    }

    /// The kernel takes some bytes, as far as the client has made room.
    pub(crate) fn write(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.write_is_scheduled = false;
        let Stage::Serving(key) = connection.stage else { return Ok(()) };
        let Some(sending) = &mut connection.sending else { return Ok(()) };
        let is_refused =
            (connection.is_abandoned || connection.up_end == Some(End::Reset)) && !connection.is_black_hole;
        if is_refused && self.random.percent(50) && !connection.up_end_is_known {
            return self.connection_failed(index);
        }
        let room =
            if is_refused { usize::MAX } else { self.scenario.socket_bytes.saturating_sub(connection.down.len()) };
        if room == 0 {
            // Goes on when the client reads.
            return Ok(());
        }
        let left = sending.bytes.len() - sending.written;
        let piece = self.piece(left.min(room), 50);
        let connection = &mut self.connections[index];
        let sending = connection.sending.as_mut().expect("looked at above");
        if !is_refused {
            connection.down.extend(&sending.bytes[sending.written..sending.written + piece]);
        }
        sending.written += piece;
        if piece < left {
            connection.write_is_scheduled = true;
            self.schedule_soon(Event::Write(index));
        } else {
            let transmit = connection.sending.take().expect("looked at above").transmit;
            let (shard, now) = (connection.shard, self.now());
            self.broker.seats[shard].shard.handle_sent(now, key, transmit);
            self.schedule_turn(shard);
            self.end_half_closed(shard);
            self.end_sent_away(shard);
        }
        self.schedule_downstream(index, self.scenario.delay_ns_max / 2);
        Ok(())
    }

    fn obey(&mut self, shard: usize, command: Command) -> Result<(), Failure> {
        self.trace.note_bytes(&[], || format!("{command:?} of shard {shard}"));
        let (Command::PauseReceiving(key)
        | Command::ResumeReceiving(key)
        | Command::FinishSending(key)
        | Command::Close(key)) = command;
        let index = self.connection_of(shard, key)?;
        let is_open = self.audit.is_open(index);
        let connection = &mut self.connections[index];
        let is_legal = connection.stage == Stage::Serving(key)
            && match command {
                Command::PauseReceiving(_) => !connection.is_paused,
                Command::ResumeReceiving(_) => connection.is_paused,
                Command::FinishSending(_) => connection.sending.is_none() && connection.down_end != Some(End::Finished),
                Command::Close(_) => true,
            };
        if !is_legal {
            fail!("{command:?} of shard {shard} does not fit connection {index}: {connection:?}");
        }
        self.trace.note(self.now, "command", &[index as u64]);
        if is_open && matches!(command, Command::FinishSending(_) | Command::Close(_)) && self.audit.log_has_failed {
            self.audit.end(&mut self.ledger, self.now, index, None, true);
        }
        match command {
            Command::PauseReceiving(_) => connection.is_paused = true,
            Command::ResumeReceiving(_) => {
                connection.is_paused = false;
                self.audit.does_not_hear(self.now, index);
                self.schedule_upstream(index);
            }
            Command::FinishSending(_) | Command::Close(_) if is_open && !self.audit.log_has_failed => {
                fail!("{command:?} ends connection {index} of an honest client");
            }
            Command::FinishSending(_) => {
                connection.down_end.get_or_insert(End::Finished);
                self.schedule_downstream(index, self.scenario.delay_ns_max);
            }
            Command::Close(_) => {
                connection.stage = Stage::Closing(key);
                self.schedule_upstream(index);
                self.schedule_soon(Event::Close(index));
            }
        }
        Ok(())
    }

    pub(crate) fn close(&mut self, index: usize) {
        self.trace.note(self.now, "close", &[index as u64]);
        let now = self.now();
        let connection = &mut self.connections[index];
        let Stage::Closing(key) = connection.stage else { unreachable!("scheduled with this stage") };
        let seat = &mut self.broker.seats[connection.shard];
        if let Some(Sending { transmit, .. }) = connection.sending.take() {
            seat.shard.handle_sent(now, key, transmit);
        }
        seat.shard.handle_closed(key);
        seat.connections[key.index()] = None;
        connection.stage = Stage::Closed;
        connection.down_end.get_or_insert(End::Reset);
        let shard = connection.shard;
        self.schedule_downstream(index, 0);
        self.schedule_turn(shard);
    }

    fn schedule_timeout(&mut self, shard: usize) {
        let Some(next) = self.broker.seats[shard].shard.next_timeout() else { return };
        let next = next.as_nanos();
        if self.broker.seats[shard].timeout.is_some_and(|(asked, _)| asked == next) {
            return;
        }
        let at = next.max(self.now) + self.random.up_to(20 * MILLISECOND);
        self.broker.seats[shard].timeout = Some((next, at));
        self.schedule(at, Event::Timeout(shard));
    }

    pub(crate) fn timeout(&mut self, shard: usize) -> Result<(), Failure> {
        let Some((asked, at)) = self.broker.seats[shard].timeout.filter(|(_, at)| *at <= self.now) else {
            return Ok(());
        };
        // A deadline just reached may fire now or a tick later; the driver comes late enough for it to be certain.
        let is_uncertain = |(first, last): (u64, u64)| (first..=last + TIMER_SLACK_NS).contains(&self.now);
        let of_connection = |connection: usize| self.connections[connection].shard == shard;
        let of_client = |client: usize| self.broker.shard_of(&self.clients[client].profile.name) == shard;
        if self.audit.deadlines(of_connection, of_client).any(is_uncertain) {
            let at = at.max(self.now) + TIMER_SLACK_NS;
            self.broker.seats[shard].timeout = Some((asked, at));
            self.schedule(at, Event::Timeout(shard));
            return Ok(());
        }
        // So that shard and driver agree on who is paused.
        self.turn(shard)?;
        self.trace.note(self.now, "timeout", &[shard as u64]);
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.shard == shard && connection.is_paused {
                self.audit.does_not_hear(self.now, index);
            }
        }
        for index in self.audit.overdue(self.now) {
            if self.connections[index].shard == shard {
                let reason = Some(ReasonCode::KeepAliveTimeout);
                let has_unseen = self.has_unseen(index);
                self.audit.end(&mut self.ledger, self.now, index, reason, has_unseen);
            }
        }
        for client in 0..self.clients.len() {
            if self.broker.shard_of(&self.clients[client].profile.name) == shard {
                self.audit.expire(&mut self.ledger, self.now, client);
                self.audit.wills_pass(&mut self.ledger, self.now, client);
            }
        }
        let now = self.now();
        let seat = &mut self.broker.seats[shard];
        seat.timeout = None;
        seat.shard.handle_timeout(now);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        Ok(())
    }

    fn connection_of(&self, shard: usize, key: ConnectionKey) -> Result<usize, Failure> {
        match self.broker.seats[shard].connections.get(key.index()) {
            Some(Some(index)) => Ok(*index),
            Some(None) | None => fail!("shard {shard} names {key:?}, which is closed"),
        }
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId::new(index as u16).expect("a run has few shards")
}
