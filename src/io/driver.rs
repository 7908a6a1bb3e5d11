//! The loop of one shard. A turn:
//!
//! 1. sleep in the kernel until something completes, the shard's next timeout, or a bell;
//! 2. feed the shard: completions (those of a busy connection in rounds, `turns`), requests from the gate, the main and the
//!    admin thread, letters (bounded), the timeout; let it look up a piece of what new subscriptions want, and answer what is
//!    asked (`answering`);
//! 3. drain the shard: letters out, at most one transmit per connection, commands, the next write to the log;
//! 4. enter the kernel once, with all that was queued; with `--spin-us`, look for work for a while before sleeping there.
//!
//! The clock is read when a turn begins, for all that happens in it, and once more when it ends, to know how long it took;
//! beside that only where busy connections are heard at length. Whatever this loop cannot do now (a full routing ring) waits
//! inside the shard. A failure of the ring itself ends the loop, and its thread ends the process.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tracing::{debug, error, warn};

use crate::config::LETTERS_PER_BATCH_MAX;
use crate::route::{Letter, ShardId};
use crate::shard::{Command, ConnectionKey, Shard, Transmit};
use crate::time::Timestamp;

use super::answering::OpenQuestions;
use super::bell::Bell;
use super::buffers::{BUFFER_GROUP, ReceiveBuffers};
use super::clock::Clock;
use super::connection::{Connection, End, Phase, Receive, Step};
use super::disk::{LogDisk, Written};
use super::door::{Arrival, Peer, Request};
use super::doorbell::Doorbell;
use super::figures::TurnTimes;
use super::log_reader::Read;
use super::operation::Operation;
use super::ring::Ring;
use super::routes::{Routes, shard_id};
use super::send::SendInFlight;
use super::system;
use super::turns::{Place, Turns};

/// Batches of letters taken from one other shard in a turn, so that a flood of letters does not starve the clients.
const BATCHES_PER_TURN_MAX: usize = 8;

/// Requests taken in a turn, so that a storm of new clients does not starve those who are there.
const REQUESTS_PER_TURN_MAX: usize = 64;

/// Pauses of the processor between two looks for work: a fraction of a microsecond, in which a sibling hardware thread has the core.
const SPINS_PER_LOOK: usize = 8;

/// Boxes kept for the sends to come; more than this were only needed in a burst.
const SPARE_SENDS_MAX: usize = 4096;

/// A shard with all that makes it run.
pub(super) struct Driver {
    /// Before the buffers, because it has to be dropped first.
    pub(super) ring: Ring,
    pub(super) buffers: ReceiveBuffers,
    pub(super) id: ShardId,
    pub(super) shard: Shard,
    pub(super) clock: Clock,
    /// How long to look for work before sleeping.
    pub(super) spin: Duration,
    pub(super) requests: Receiver<Request>,
    pub(super) routes: Routes<Letter>,
    /// Every shard's bell, this one's included.
    pub(super) bells: Arc<[Arc<Bell>]>,
    pub(super) doorbell: Doorbell,
    /// The log; none with `--durability none`.
    pub(super) disk: Option<LogDisk>,
    /// Where to say that the shutdown is complete.
    pub(super) drained: Sender<ShardId>,
    /// Whose bytes are heard when.
    pub(super) turns: Turns,
    /// What the admin thread wants to know.
    pub(super) questions: OpenQuestions,
    /// How long turns took.
    pub(super) turn_times: TurnTimes,
    pub(super) state: State,
}

/// What the loop itself keeps.
#[derive(Default)]
pub(super) struct State {
    /// By the index that the shard picked.
    connections: Vec<Option<Connection>>,
    /// How many of them there are.
    open: usize,
    #[expect(clippy::vec_box, reason = "the kernel holds addresses inside the boxes")]
    spare_sends: Vec<Box<SendInFlight>>,
    /// Ends of which the shard is still to be told, and the connections.
    pub(super) ends: VecDeque<(u32, End)>,
    shutdown: Shutdown,
    pub(super) counters: LoopCounters,
}

/// How far the shutdown has come.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Shutdown {
    /// Nobody has asked for one.
    #[default]
    NotAsked,
    /// The shard was told.
    Draining,
    /// No connection is left, and the main thread was told.
    Drained,
}

/// What the loop counts, beside the shard's own counters.
#[derive(Clone, Copy, Default)]
pub(super) struct LoopCounters {
    /// Receives that found no buffer; many of them ask for more `--recv-buffers`.
    pub(super) receives_starved: u64,
    /// Sends that the kernel took only in part.
    pub(super) sends_continued: u64,
}

impl Driver {
    /// Runs until the ring fails.
    pub(super) fn run(&mut self) -> io::Result<()> {
        self.arm_doorbell()?;
        loop {
            let now = self.clock.now();
            self.turns.begin();
            self.take_completions(now)?;
            self.hear_waiting(now)?;
            self.tell_ends(now);
            self.take_requests(now)?;
            self.take_letters(now)?;
            self.take_prepared_segment(now)?;
            if self.shard.next_timeout().is_some_and(|due| due <= now) {
                self.shard.handle_timeout(now);
            }
            let is_behind = self.turns.is_behind() || !self.state.ends.is_empty();
            let goes_on = self.shard.poll_lookups(now) | self.answer_open_questions() | is_behind;
            self.drain_shard()?;
            self.drain_log(now)?;
            self.finish_shutdown();
            let end = self.clock.now();
            self.turn_times.note(end.since(now));
            self.shard.end_turn(end);
            self.enter_kernel(now, goes_on)?;
        }
    }

    // --- Step 2: feed the shard.

    fn take_completions(&mut self, now: Timestamp) -> io::Result<()> {
        // The kernel posts only while the ring is entered, so this ends.
        while let Some(completion) = self.ring.next_completion() {
            match completion.operation {
                Operation::Receive(index) => self.received(now, index, completion)?,
                Operation::Send(index) => self.sent(now, index, completion.result)?,
                Operation::CancelReceive(_) => {} // the receive had completed by itself, or is about to
                Operation::Close(index) => warn!(
                    "closing the socket of connection {index} failed: {}",
                    io::Error::from_raw_os_error(-completion.result)
                ),
                Operation::Doorbell => {
                    self.doorbell.heard(completion.result)?;
                    self.arm_doorbell()?;
                }
                Operation::BellHeard => {} // to be awake is all that was wanted
                Operation::BellRung(shard) => self.bells[shard as usize].ring_by_eventfd(),
                Operation::WriteLog => {
                    let disk = self.disk.as_mut().expect("only a log is written to");
                    let written = disk.completed(&mut self.ring, completion.result)?;
                    self.log_written(now, written);
                }
                Operation::ReadLog => {
                    let disk = self.disk.as_mut().expect("only a log is read");
                    let read = disk.reader.completed(&mut self.ring, completion.result)?;
                    self.log_read(now, read);
                }
            }
        }
        Ok(())
    }

    fn sent(&mut self, now: Timestamp, index: u32, result: i32) -> io::Result<()> {
        let connection = self.state.connection(index);
        let key = connection.key;
        let mut send = connection.send.take().expect("a send completed that was in flight");
        let goes_on = match result {
            // A transmit is never empty, so to send nothing is no progress.
            0 => {
                self.fail(now, index, libc::EPIPE);
                false
            }
            1.. => !send.advance(result as usize),
            _ => match -result {
                libc::EINTR | libc::EAGAIN => true,
                errno => {
                    self.fail(now, index, errno);
                    false
                }
            },
        };
        let connection = self.state.connection(index);
        if goes_on && connection.phase != Phase::Closing {
            self.state.counters.sends_continued += 1;
            return self.submit_send(index, send);
        }
        let transmit = send.unload();
        self.state.keep_spare(send);
        self.shard.handle_sent(now, key, transmit);
        self.close_if_due(index)
    }

    /// Tells the shard, once, that a connection has failed.
    pub(super) fn fail(&mut self, now: Timestamp, index: u32, errno: i32) {
        let connection = self.state.connection(index);
        match connection.phase {
            Phase::Open => {
                debug!("connection {index} failed: {}", io::Error::from_raw_os_error(errno));
                connection.phase = Phase::Failed;
                self.shard.handle_connection_failed(now, connection.key);
            }
            Phase::Failed | Phase::Closing => {}
        }
    }

    fn take_requests(&mut self, now: Timestamp) -> io::Result<()> {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            match self.requests.try_recv() {
                Ok(Request::Admit(arrival)) => self.admit(now, arrival)?,
                // Whoever has asked may have ended with the process.
                Ok(Request::AskBridge(bridge, answer)) => drop(answer.send(self.shard.is_bridge_shared(&bridge))),
                Ok(Request::ReplaceAccessRules(rules)) => self.shard.handle_access_rules(now, rules),
                Ok(Request::Memory(stage)) => self.shard.handle_memory(now, stage),
                Ok(Request::LogCounters) => self.log_counters(),
                Ok(Request::Question(question)) => self.handle_question(now, question),
                Ok(Request::ShutDown) => {
                    if self.state.shutdown == Shutdown::NotAsked {
                        self.log_counters();
                        self.state.shutdown = Shutdown::Draining;
                        self.shard.handle_shutdown(now);
                    }
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn admit(&mut self, now: Timestamp, arrival: Arrival) -> io::Result<()> {
        if self.state.shutdown != Shutdown::NotAsked {
            return Ok(()); // dropping the arrival closes its socket
        }
        let key = match arrival.peer {
            Peer::Client(admission) => self.shard.handle_admission(now, admission),
            Peer::Remote(opened) => self.shard.handle_bridge(now, opened),
        };
        let index = self.state.insert(Connection {
            key,
            socket: arrival.socket,
            phase: Phase::Open,
            receive: Receive::Stopped,
            is_wanted: true,
            is_heavy: false,
            has_untold_end: false,
            place: Place::default(),
            connected_at_seconds: seconds(now),
            send: None,
            permit: arrival.permit,
        });
        let step = self.state.connection(index).read_if_wanted();
        self.step(index, step)
    }

    fn take_letters(&mut self, now: Timestamp) -> io::Result<()> {
        for from in self.routes.others() {
            for _ in 0..BATCHES_PER_TURN_MAX {
                let Some((mut batch, producer_waited)) = self.routes.pop(from) else {
                    break;
                };
                for letter in batch.drain(..) {
                    self.shard.handle_letter(now, shard_id(from), letter);
                }
                self.routes.give_back(from, batch);
                if producer_waited {
                    self.ring_bell_of(from)?;
                }
            }
        }
        Ok(())
    }

    fn take_prepared_segment(&mut self, now: Timestamp) -> io::Result<()> {
        if let Some(disk) = &mut self.disk {
            let written = disk.take_prepared(&mut self.ring)?;
            self.log_written(now, written);
        }
        Ok(())
    }

    fn log_written(&mut self, now: Timestamp, written: Option<Written>) {
        if let Some((write, result)) = written {
            self.shard.handle_log_written(now, write, result);
        }
    }

    fn log_read(&mut self, now: Timestamp, read: Option<Read>) {
        let (Some((read, result)), Some(disk)) = (read, &self.disk) else { return };
        if let Err(damage) = self.shard.handle_log_read(now, &read, result.map(|()| disk.reader.bytes())) {
            error!(
                "the log of shard {} has changed on the disk: {damage}. Until a restart this shard acknowledges nothing that \
                 has to be durable",
                self.id.number()
            );
        }
    }

    // --- Step 3: drain the shard.

    fn drain_shard(&mut self) -> io::Result<()> {
        // A connection without operations in flight is closed on the spot, which is one more event for the shard.
        let mut closed_one = true;
        while closed_one {
            self.send_letters()?;
            while let Some((key, transmit)) = self.shard.poll_transmit() {
                self.start_send(key, transmit)?;
            }
            closed_one = false;
            while let Some(command) = self.shard.poll_command() {
                closed_one |= self.obey(command)?;
            }
            while let Some(notice) = self.shard.poll_notice() {
                warn!("{notice}");
            }
        }
        Ok(())
    }

    /// Behind all that causes records, so that they enter the kernel with the sends of their turn.
    fn drain_log(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        if let Some(write) = self.shard.poll_log_write(now) {
            disk.begin(&mut self.ring, write)?;
        }
        while let Some(segment) = self.shard.poll_obsolete_segment() {
            disk.retire(segment, self.shard.segments_until_cleaned());
        }
        if let Some(read) = self.shard.poll_log_read() {
            let failed = disk.reader.begin(&mut self.ring, read)?;
            self.log_read(now, failed);
        }
        Ok(())
    }

    fn send_letters(&mut self) -> io::Result<()> {
        for to in self.routes.others() {
            let mut pushed = false;
            while self.routes.has_room(to) {
                let Some(batch) = self.shard.poll_letters(shard_id(to), LETTERS_PER_BATCH_MAX) else {
                    break;
                };
                self.routes.push(to, batch);
                if let Some(emptied) = self.routes.take_back(to) {
                    self.shard.recycle_letters(emptied);
                }
                pushed = true;
            }
            if pushed {
                self.ring_bell_of(to)?;
            }
        }
        Ok(())
    }

    fn start_send(&mut self, key: ConnectionKey, transmit: Transmit) -> io::Result<()> {
        let index = key.index() as u32;
        let mut send = self.state.spare_sends.pop().unwrap_or_else(SendInFlight::empty);
        send.load(transmit);
        self.submit_send(index, send)
    }

    #[allow(unsafe_code, reason = "a send names memory that has to stay in place")]
    fn submit_send(&mut self, index: u32, send: Box<SendInFlight>) -> io::Result<()> {
        let connection = self.state.connection(index);
        assert!(
            connection.phase != Phase::Closing && connection.send.is_none(),
            "one send at a time, and none after Close"
        );
        let send = connection.send.insert(send);
        // SAFETY: the box rests in its connection, untouched, until `sent` sees the completion; a connection is removed only
        // when no send is in flight.
        unsafe { send.submit(&mut self.ring, connection.socket.as_fd(), index) }
    }

    /// Obeys a command; says whether that has closed the connection.
    fn obey(&mut self, command: Command) -> io::Result<bool> {
        match command {
            Command::PauseReceiving(key) => {
                let index = key.index() as u32;
                let connection = self.state.connection(index);
                connection.is_wanted = false;
                let step = connection.receive.pause();
                self.step(index, step)?;
                Ok(false)
            }
            Command::ResumeReceiving(key) => {
                let index = key.index() as u32;
                let connection = self.state.connection(index);
                connection.is_wanted = true;
                let step = connection.read_if_wanted();
                self.step(index, step)?;
                Ok(false)
            }
            Command::FinishSending(key) => {
                system::finish_sending(self.state.connection(key.index() as u32).socket.as_fd());
                Ok(false)
            }
            Command::Close(key) => {
                let index = key.index() as u32;
                self.forget(index);
                let connection = self.state.connection(index);
                connection.phase = Phase::Closing;
                if connection.send.is_some() {
                    system::end_operations(connection.socket.as_fd());
                }
                let step = connection.receive.pause();
                self.step(index, step)?;
                let due = self.state.connection(index).is_idle();
                self.close_if_due(index)?;
                Ok(due)
            }
        }
    }

    // --- Step 4, and what the steps share.

    /// Sleeps, unless something is to be done in the next turn already.
    fn enter_kernel(&mut self, now: Timestamp, goes_on: bool) -> io::Result<()> {
        if !self.spin.is_zero() && !goes_on && self.spin()? {
            return self.ring.submit();
        }
        self.own_bell().announce_sleep();
        let is_prepared = self.disk.as_ref().is_some_and(LogDisk::has_prepared);
        if goes_on || is_prepared || self.routes.have_work() || !self.requests.is_empty() {
            self.own_bell().announce_awake();
            return self.ring.submit();
        }
        let timeout = self.shard.next_timeout().map(|due| due.since(now));
        let slept = self.ring.submit_and_sleep(timeout);
        self.own_bell().announce_awake();
        slept
    }

    /// Submits what was queued, and looks for work until there is some or the time for that is over; whether there is some.
    fn spin(&mut self) -> io::Result<bool> {
        self.ring.submit()?;
        let began = self.clock.now();
        let due = self.shard.next_timeout();
        loop {
            for _ in 0..SPINS_PER_LOOK {
                std::hint::spin_loop();
            }
            let has_work = self.ring.has_completions() || self.routes.have_work() || !self.requests.is_empty();
            let time = self.clock.now();
            if has_work || time.since(began) >= self.spin || due.is_some_and(|due| due <= time) {
                return Ok(has_work);
            }
        }
    }

    pub(super) fn step(&mut self, index: u32, step: Step) -> io::Result<()> {
        match step {
            Step::Nothing => Ok(()),
            Step::Arm => {
                let connection = self.state.connection(index);
                let socket = connection.socket.as_fd();
                if connection.is_heavy {
                    self.ring.receive_once(socket, BUFFER_GROUP, index)
                } else {
                    self.ring.receive(socket, BUFFER_GROUP, index)
                }
            }
            Step::Cancel => self.ring.cancel_receive(index),
        }
    }

    /// Closes the socket if the shard has said so and no operation is in flight any more.
    pub(super) fn close_if_due(&mut self, index: u32) -> io::Result<()> {
        let connection = self.state.connection(index);
        if connection.phase != Phase::Closing || !connection.is_idle() {
            return Ok(());
        }
        let connection = self.state.remove(index);
        self.ring.close(connection.socket, index)?;
        drop(connection.permit);
        self.shard.handle_closed(connection.key);
        Ok(())
    }

    fn own_bell(&self) -> &Bell {
        &self.bells[self.id.index()]
    }

    fn arm_doorbell(&mut self) -> io::Result<()> {
        let eventfd = self.bells[self.id.index()].eventfd();
        self.doorbell.arm(&mut self.ring, eventfd)
    }

    fn ring_bell_of(&mut self, shard: usize) -> io::Result<()> {
        let bell = &self.bells[shard];
        if bell.must_ring() {
            self.ring.ring_bell(bell.ring_descriptor(), shard as u32)?;
        }
        Ok(())
    }

    fn finish_shutdown(&mut self) {
        if self.state.shutdown == Shutdown::Draining && self.state.open == 0 && self.shard.is_drained() {
            self.state.shutdown = Shutdown::Drained;
            // The main thread may have given up waiting and be gone.
            let _ = self.drained.send(self.id);
        }
    }
}

/// A moment in seconds since the Unix epoch; it is past what fits in 2106.
fn seconds(moment: Timestamp) -> u32 {
    u32::try_from(moment.since(Timestamp::default()).as_secs()).unwrap_or(u32::MAX)
}

impl State {
    /// A connection, to look at.
    pub(super) fn peek(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key.index())?.as_ref()
    }

    /// How many sockets are open.
    pub(super) fn open_sockets(&self) -> usize {
        self.open
    }

    /// The connection at `index`.
    ///
    /// # Panics
    /// If there is none: an index lives from its admission to its close, and everything in flight lies in between.
    pub(super) fn connection(&mut self, index: u32) -> &mut Connection {
        self.connections.get_mut(index as usize).and_then(Option::as_mut).expect("an index in use names a connection")
    }

    fn insert(&mut self, connection: Connection) -> u32 {
        let index = connection.key.index();
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        let before = self.connections[index].replace(connection);
        assert!(before.is_none(), "a key is reused only after its connection was closed");
        self.open += 1;
        u32::try_from(index).expect("no more connections than MAX_CONNECTIONS")
    }

    fn remove(&mut self, index: u32) -> Connection {
        self.open -= 1;
        self.connections[index as usize].take().expect("an index in use names a connection")
    }

    fn keep_spare(&mut self, send: Box<SendInFlight>) {
        if self.spare_sends.len() < SPARE_SENDS_MAX {
            self.spare_sends.push(send);
        }
    }
}
