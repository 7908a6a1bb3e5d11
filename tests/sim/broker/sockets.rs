//! The drivers' part with connections: bytes arrive and leave, in pieces, and connections end.

use bytes::Bytes;
use oncemq::auth::{Claim, judge_certified};
use oncemq::proto::{ReasonCode, decode_connect, frame_length};
use oncemq::shard::{Admission, Command, ConnectionKey, MemoryStage, Transmit};

use crate::client::Meaning;
use crate::event::Event;
use crate::ledger::{Failure, fail};
use crate::network::{End, Sending, Stage};
use crate::web_socket::Unwrapped;
use crate::world::World;

impl World {
    pub(crate) fn schedule_upstream(&mut self, connection: usize) {
        if !std::mem::replace(&mut self.connections[connection].up_is_scheduled, true) {
            self.schedule_soon(Event::Upstream(connection));
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
            Stage::Gate => self.collect_greeting(index)?,
            // Nobody reads while the socket is handed over.
            Stage::Admitting => {}
            // A completion that the command to pause crossed is still handed over.
            Stage::Serving(_) if connection.is_paused && !self.random.percent(20) => {}
            Stage::Serving(key) => self.receive(index, key)?,
            Stage::Closing(key) => {
                if !connection.up.is_empty() && self.random.percent(50) {
                    let bytes = connection.read(connection.up.len());
                    let bytes = connection.wire.wrap(bytes);
                    let (shard, now) = (connection.shard, self.now());
                    self.broker.seats[shard].shard.handle_received(now, key, &bytes);
                }
            }
            Stage::Closed => connection.up.clear(),
        }
        Ok(())
    }

    fn collect_greeting(&mut self, index: usize) -> Result<(), Failure> {
        if self.is_of_bridge(index) {
            return self.collect_connack(index);
        }
        self.collect_connect(index);
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
        if self.is_of_bridge(index) {
            return self.admit_bridge(index);
        }
        let connection = &mut self.connections[index];
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
        let client_id: Box<str> = decode_connect(&connect_frame).expect("an honest client's CONNECT").client_id.into();
        // Each is a user of its own, for who has rules.
        let identity = judge_certified(Some(client_id.clone()), &Claim::Anonymous).expect("it has a name");
        let wire = self.connections[index].wire;
        let admission = Admission {
            connect_frame,
            client_id,
            client_id_assigned: false,
            identity: Some(identity),
            authentication_data: None,
            early_bytes: wire.wrap(gate[length..].to_vec()).into(),
            transport: wire.transport(),
        };
        let now = self.now();
        let seat = &mut self.broker.seats[shard];
        // What becomes of clients without a session is for the shard's own tests: here all are to come in.
        let memory = seat.memory;
        seat.shard.handle_memory(now, MemoryStage::Enough);
        let key = seat.shard.handle_admission(now, admission);
        seat.shard.handle_memory(now, memory);
        self.seat_connection(shard, key, index)?;
        self.end_sent_away(shard);
        Ok(())
    }

    /// A shard serves a connection under a key.
    pub(super) fn seat_connection(&mut self, shard: usize, key: ConnectionKey, index: usize) -> Result<(), Failure> {
        let seat = &mut self.broker.seats[shard];
        if seat.connections.len() <= key.index() {
            seat.connections.resize(key.index() + 1, None);
        }
        if seat.connections[key.index()].replace(index).is_some() {
            fail!("{key:?} of shard {shard} was given out twice");
        }
        self.connections[index].stage = Stage::Serving(key);
        self.schedule_upstream(index);
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
        let bytes = self.connections[index].wire.wrap(bytes);
        self.trace.note(self.now, "received", &[index as u64, piece as u64]);
        self.audit_read(index)?;
        let now = self.now();
        self.broker.seats[shard].shard.handle_received(now, key, &bytes);
        self.schedule_turn(shard);
        self.end_sent_away(shard);
        self.schedule_upstream(index);
        Ok(())
    }

    fn end_of_stream(&mut self, index: usize) -> Result<(), Failure> {
        // The turn before may have told the driver to close.
        let Stage::Serving(key) = self.connections[index].stage else { return Ok(()) };
        self.trace.note(self.now, "end of stream", &[index as u64]);
        self.audit.end_stream(index);
        let (shard, now) = (self.connections[index].shard, self.now());
        match self.connections[index].wire.last_frame() {
            // The end of the connection says nothing new behind it.
            Some(frame) => self.broker.seats[shard].shard.handle_received(now, key, &frame),
            None => self.broker.seats[shard].shard.handle_end_of_stream(now, key),
        }
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

    pub(super) fn begin_sending(
        &mut self,
        shard: usize,
        key: ConnectionKey,
        transmit: Transmit,
    ) -> Result<(), Failure> {
        let index = self.connection_of(shard, key)?;
        let sent = transmit.parts().collect::<Vec<_>>().concat();
        let sent_bytes = sent.len();
        self.trace.note(self.now, "transmit", &[index as u64, sent_bytes as u64]);
        let Unwrapped { packets: bytes, is_closed } = self.connections[index].wire.unwrap(sent)?;
        self.trace.note_packets(self.clients[self.connections[index].client].version(), &bytes);
        let connection = &mut self.connections[index];
        let is_allowed = connection.sending.is_none()
            && connection.stage == Stage::Serving(key)
            && !connection.is_closed_by_frame
            && sent_bytes > 0
            && sent_bytes == transmit.len();
        if !is_allowed {
            fail!("shard {shard} sends {sent_bytes} bytes on connection {index}, {:?}", connection.stage);
        }
        connection.is_closed_by_frame = is_closed;
        let max_inflight = match &self.scenario.bridge {
            Some(plan) if self.is_of_bridge(index) => plan.max_inflight,
            Some(_) | None => self.scenario.limits.max_inflight,
        };
        self.audit.sent(index, &bytes, max_inflight)?;
        let connection = &mut self.connections[index];
        connection.sending = Some(Sending { transmit, bytes, written: 0 });
        connection.write_is_scheduled = true;
        self.schedule_soon(Event::Write(index));
        Ok(())
    }

    /// A send that is under way may go on.
    pub(crate) fn go_on_writing(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.sending.is_some() && !std::mem::replace(&mut connection.write_is_scheduled, true) {
            self.schedule_soon(Event::Write(index));
        }
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

    pub(super) fn obey(&mut self, shard: usize, command: Command) -> Result<(), Failure> {
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
                Command::FinishSending(_) => {
                    connection.sending.is_none()
                        && connection.down_end != Some(End::Finished)
                        && connection.is_closed_by_frame == connection.wire.is_web_socket()
                }
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
        self.note_bridge_closed(index);
    }
}
