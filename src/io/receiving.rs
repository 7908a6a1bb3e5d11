//! What the loop does with received bytes: shows them to the shard, at once or when it is their connection's turn
//! ([`turns`](super::turns)), and keeps a receive in the kernel for every connection that is wanted.

use std::io;
use std::mem;
use std::time::Duration;

use crate::time::Timestamp;

use super::connection::{Connection, End, Phase};
use super::driver::Driver;
use super::ring::Completion;
use super::turns::{Filled, ROUND_BUFFERS, TURN_MAX};

/// Ends that the shard is told of in a turn.
const ENDS_PER_TURN_MAX: usize = 64;

impl Driver {
    /// A receive has completed, with bytes, the end of the stream, or an error.
    pub(super) fn received(&mut self, now: Timestamp, index: u32, completion: Completion) -> io::Result<()> {
        if let Some(buffer) = completion.buffer {
            let filled = Filled { buffer, bytes: u32::try_from(completion.result).unwrap_or(0) };
            self.hear_or_wait(now, index, filled);
        }
        if completion.more {
            return Ok(());
        }
        match completion.result {
            1.. => self.receive_again(index)?,
            0 => self.ended(index, End::OfStream),
            _ => match -completion.result {
                // Buffers come back soon: within this very turn, or with the rounds of those who wait.
                libc::ENOBUFS => {
                    self.state.counters.receives_starved += 1;
                    self.receive_again(index)?;
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive_again(index)?,
                errno => self.ended(index, End::Failure { errno }),
            },
        }
        self.close_if_due(index)
    }

    /// Tells the shard of connections whose ends have come: a few in a turn, for when a network fails, thousands come at once,
    /// and each has the kernel take a socket down.
    pub(super) fn tell_ends(&mut self, now: Timestamp) {
        for _ in 0..ENDS_PER_TURN_MAX {
            let Some((index, end)) = self.state.ends.pop_front() else { break };
            let connection = self.state.connection(index);
            if connection.place.waits() {
                // It comes behind the last of the bytes.
                self.state.ends.push_back((index, end));
                continue;
            }
            connection.has_untold_end = false;
            match (connection.phase, end) {
                (Phase::Open, End::OfStream) => self.shard.handle_end_of_stream(now, connection.key),
                (Phase::Open, End::Failure { errno }) => self.fail(now, index, errno),
                (Phase::Failed | Phase::Closing, _) => {}
            }
        }
    }

    /// Nothing of a connection that is being closed waits any more.
    pub(super) fn forget(&mut self, index: u32) {
        self.forget_waiting(index);
        let connection = self.state.connection(index);
        if mem::take(&mut connection.has_untold_end) {
            self.state.ends.retain(|(ended, _)| *ended != index);
        }
    }

    /// Goes round those who wait while the turn is short; at least one is heard.
    pub(super) fn hear_waiting(&mut self, now: Timestamp) -> io::Result<()> {
        let was_short = self.turns.was_short();
        let mut age = Duration::ZERO;
        while let Some(index) = self.turns.next_round() {
            self.hear_round(now, index, was_short)?;
            age = self.clock.now().since(now);
            if age >= TURN_MAX {
                self.hold_waiting()?;
                break;
            }
        }
        self.turns.end(age);
        Ok(())
    }

    fn forget_waiting(&mut self, index: u32) {
        let connection = self.state.connection(index);
        if connection.place.waits() {
            while let Some(Filled { buffer, .. }) = self.turns.take(&mut connection.place) {
                self.buffers.lend(buffer, 0, |_| {});
            }
            self.turns.forget(index);
        }
    }

    fn hear_or_wait(&mut self, now: Timestamp, index: u32, filled: Filled) {
        let connection = self.state.connection(index);
        match connection.phase {
            Phase::Open
                if connection.is_heavy
                    || !self.turns.is_heard_at_once(&mut connection.place, || self.clock.now().since(now)) =>
            {
                self.turns.wait(index, &mut connection.place, filled);
            }
            // What comes for one that is being closed is dropped, and does not keep it.
            Phase::Open | Phase::Failed | Phase::Closing => self.show(now, index, filled),
        }
    }

    fn hear_round(&mut self, now: Timestamp, index: u32, was_short: bool) -> io::Result<()> {
        let mut was_full = false;
        for _ in 0..ROUND_BUFFERS {
            let Some(filled) = self.turns.take(&mut self.state.connection(index).place) else { break };
            was_full = self.buffers.is_full(filled.bytes);
            self.show(now, index, filled);
        }
        let connection = self.state.connection(index);
        if connection.place.waits() {
            self.turns.go_on(index, &connection.place);
            return Ok(());
        }
        connection.is_heavy &= was_full && !was_short;
        match connection.phase {
            Phase::Open => {
                let step = connection.read_if_wanted();
                self.step(index, step)
            }
            Phase::Failed | Phase::Closing => Ok(()),
        }
    }

    /// The turn is over: whoever still waits is heavy, and not read any more until it was heard.
    fn hold_waiting(&mut self) -> io::Result<()> {
        for place in 0..self.turns.waiting() {
            let index = self.turns.waiting_at(place);
            let connection = self.state.connection(index);
            if !connection.is_heavy {
                connection.is_heavy = true;
                let step = connection.receive.pause();
                self.step(index, step)?;
            }
        }
        Ok(())
    }

    /// Shows bytes to the shard, if it still wants to hear of the connection, and gives their buffer back.
    fn show(&mut self, now: Timestamp, index: u32, filled: Filled) {
        let Connection { key, phase, .. } = *self.state.connection(index);
        let shard = &mut self.shard;
        self.buffers.lend(filled.buffer, filled.bytes as usize, |bytes| match phase {
            Phase::Open if !bytes.is_empty() => shard.handle_received(now, key, bytes),
            Phase::Open | Phase::Failed | Phase::Closing => {}
        });
    }

    /// Nothing will come any more.
    fn ended(&mut self, index: u32, end: End) {
        let connection = self.state.connection(index);
        connection.receive.ended();
        match connection.phase {
            Phase::Open => {
                connection.has_untold_end = true;
                self.state.ends.push_back((index, end));
            }
            Phase::Failed | Phase::Closing => {}
        }
    }

    fn receive_again(&mut self, index: u32) -> io::Result<()> {
        let connection = self.state.connection(index);
        let step = connection.receive.completed(!connection.is_held());
        self.step(index, step)
    }
}
