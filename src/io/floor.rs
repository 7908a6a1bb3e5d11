//! The loop of a shard without a shard, for `benches/floor`: what the sockets of a broker cost when nothing is decided.
//!
//! The ring, the receive buffers, the sends and the order of a turn are those of `driver`: completions first, then at most one send
//! for each connection, whatever gathered for it, then one entry into the kernel. There is no log, no timer and no other shard,
//! and no receive is ever paused. What to answer is the business of a [`Relay`].
//!
//! No part of the broker uses it, and it is no part of what the crate promises.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use slab::Slab;

use crate::config::RingSizes;
use crate::error::StartError;
use crate::shard::Transmit;

use super::bell::Bell;
use super::buffers::{BUFFER_GROUP, ReceiveBuffers};
use super::connection::{Receive, Step};
use super::doorbell::Doorbell;
use super::operation::Operation;
use super::ring::{Completion, Ring};
use super::send::SendInFlight;
use super::{system, threads};

/// What answers.
pub trait Relay {
    /// Bytes that came on a connection; not whole packets. A connection that was not heard of before is new.
    fn handle_received(&mut self, connection: usize, bytes: &[u8], outputs: &mut Outputs);

    /// A connection has ended. Its number may come again, for another one.
    fn handle_ended(&mut self, connection: usize);
}

/// What gathers for the connections in a turn.
#[derive(Default)]
pub struct Outputs {
    /// By connection.
    outputs: Vec<Output>,
    /// Connections for which something may have gathered.
    dirty: Vec<usize>,
    /// Emptied buffers.
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Output {
    next: Transmit,
    is_dirty: bool,
}

/// The way in for connections that were accepted.
pub struct Entrance {
    arrivals: Sender<OwnedFd>,
    bell: Arc<Bell>,
}

/// Starts a loop on a thread of its own. A failure of the ring ends the process.
pub fn start(sizes: RingSizes, relay: impl Relay + Send + 'static) -> Result<Entrance, StartError> {
    let (ring, buffers) = threads::ring(sizes)?;
    let bell = Bell::new(ring.as_raw_fd()).map_err(|error| StartError::ring("creating the bell", error))?;
    let bell = Arc::new(bell);
    let (arrivals, arrived) = unbounded();
    let entrance = Entrance { arrivals, bell: Arc::clone(&bell) };
    threads::spawn("floor".to_owned(), move || {
        let mut floor = Floor {
            ring,
            buffers,
            bell,
            doorbell: Doorbell::new(),
            arrivals: arrived,
            connections: Slab::new(),
            outputs: Outputs::default(),
            spare_sends: Vec::new(),
            relay,
        };
        floor.ring.enable()?;
        floor.run()
    })?;
    Ok(entrance)
}

impl Entrance {
    /// Hands a connection over, on which no operation is in flight.
    pub fn admit(&self, socket: OwnedFd) {
        // Only a loop whose thread has ended does not listen, and such a thread takes the process with it.
        if self.arrivals.send(socket).is_ok() {
            self.bell.ring_if_sleeping();
        }
    }
}

impl Outputs {
    /// Where to append what is to be sent on a connection that has not ended.
    #[inline]
    pub fn to(&mut self, connection: usize) -> &mut Vec<u8> {
        let output = &mut self.outputs[connection];
        if !output.is_dirty {
            output.is_dirty = true;
            self.dirty.push(connection);
        }
        let buffer = output.next.buffer();
        if buffer.capacity() == 0 {
            *buffer = self.spare.pop().unwrap_or_default();
        }
        buffer
    }
}

struct Floor<R> {
    /// Before the buffers, because it has to be dropped first.
    ring: Ring,
    buffers: ReceiveBuffers,
    bell: Arc<Bell>,
    doorbell: Doorbell,
    arrivals: Receiver<OwnedFd>,
    connections: Slab<Connection>,
    outputs: Outputs,
    #[expect(clippy::vec_box, reason = "the kernel holds addresses inside the boxes")]
    spare_sends: Vec<Box<SendInFlight>>,
    relay: R,
}

struct Connection {
    socket: OwnedFd,
    receive: Receive,
    send: Option<Box<SendInFlight>>,
    is_open: bool,
}

impl<R: Relay> Floor<R> {
    fn run(&mut self) -> io::Result<()> {
        self.doorbell.arm(&mut self.ring, self.bell.eventfd())?;
        loop {
            while let Some(completion) = self.ring.next_completion() {
                self.take_completion(completion)?;
            }
            while let Ok(socket) = self.arrivals.try_recv() {
                self.admit(socket)?;
            }
            self.flush()?;
            self.enter_kernel()?;
        }
    }

    fn take_completion(&mut self, completion: Completion) -> io::Result<()> {
        match completion.operation {
            Operation::Receive(index) => self.received(index, completion),
            Operation::Send(index) => self.sent(index, completion.result),
            Operation::Doorbell => {
                self.doorbell.heard(completion.result)?;
                self.doorbell.arm(&mut self.ring, self.bell.eventfd())
            }
            // A close that failed leaves nothing to do.
            Operation::Close(_) => Ok(()),
            Operation::CancelReceive(_)
            | Operation::BellHeard
            | Operation::BellRung(_)
            | Operation::WriteLog
            | Operation::ReadLog => unreachable!("nothing of the kind was submitted"),
        }
    }

    fn admit(&mut self, socket: OwnedFd) -> io::Result<()> {
        let connection = Connection { socket, receive: Receive::Stopped, send: None, is_open: true };
        let index = self.connections.insert(connection);
        if self.outputs.outputs.len() <= index {
            self.outputs.outputs.resize_with(index + 1, Output::default);
        }
        let step = self.connections[index].receive.resume();
        self.step(index, step)
    }

    fn received(&mut self, index: u32, completion: Completion) -> io::Result<()> {
        let index = index as usize;
        let connection = &mut self.connections[index];
        if let Some(id) = completion.buffer {
            let filled = usize::try_from(completion.result).unwrap_or(0);
            let (is_open, relay, outputs) = (connection.is_open, &mut self.relay, &mut self.outputs);
            self.buffers.lend(id, filled, |bytes| {
                if is_open && !bytes.is_empty() {
                    relay.handle_received(index, bytes, outputs);
                }
            });
        }
        if completion.more {
            return Ok(());
        }
        match completion.result {
            1.. => self.receive_again(index),
            result => match -result {
                libc::ENOBUFS | libc::EINTR | libc::EAGAIN => self.receive_again(index),
                _the_end_of_the_stream_or_a_failure => {
                    connection.receive.ended();
                    self.end(index);
                    self.close_if_due(index)
                }
            },
        }
    }

    fn receive_again(&mut self, index: usize) -> io::Result<()> {
        let step = self.connections[index].receive.completed(true);
        self.step(index, step)
    }

    fn step(&mut self, index: usize, step: Step) -> io::Result<()> {
        match step {
            Step::Nothing => Ok(()),
            Step::Arm => self.ring.receive(self.connections[index].socket.as_fd(), BUFFER_GROUP, index as u32),
            Step::Cancel => unreachable!("no receive is paused"),
        }
    }

    fn sent(&mut self, index: u32, result: i32) -> io::Result<()> {
        let index = index as usize;
        let connection = &mut self.connections[index];
        let mut send = connection.send.take().expect("a send completed that was in flight");
        let goes_on = match result {
            1.. => !send.advance(result as usize),
            _ => match -result {
                libc::EINTR | libc::EAGAIN => true,
                _nothing_or_a_failure => {
                    self.end(index);
                    false
                }
            },
        };
        if goes_on && self.connections[index].is_open {
            return self.submit_send(index, send);
        }
        let mut buffer = std::mem::take(send.unload().buffer());
        buffer.clear();
        self.outputs.spare.push(buffer);
        self.spare_sends.push(send);
        self.start_send(index)?;
        self.close_if_due(index)
    }

    /// At most one send for each connection.
    fn flush(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.outputs.dirty);
        for index in dirty.drain(..) {
            self.outputs.outputs[index].is_dirty = false;
            self.start_send(index)?;
        }
        self.outputs.dirty = dirty;
        Ok(())
    }

    /// Sends what has gathered for a connection, unless a send is in flight: then that starts it when it is complete.
    fn start_send(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get(index) else { return Ok(()) };
        let output = &mut self.outputs.outputs[index];
        if !connection.is_open || connection.send.is_some() || output.next.is_empty() {
            return Ok(());
        }
        let mut send = self.spare_sends.pop().unwrap_or_else(SendInFlight::empty);
        send.load(std::mem::take(&mut output.next));
        self.submit_send(index, send)
    }

    #[allow(unsafe_code, reason = "a send names memory that has to stay in place")]
    fn submit_send(&mut self, index: usize, send: Box<SendInFlight>) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let send = connection.send.insert(send);
        // SAFETY: the box rests in its connection, untouched, until `sent` sees the completion; a connection is removed only
        // when no send is in flight.
        unsafe { send.submit(&mut self.ring, connection.socket.as_fd(), index as u32) }
    }

    /// Nothing more is taken from a connection or given to it; what is in flight comes to its end.
    fn end(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if std::mem::replace(&mut connection.is_open, false) {
            system::end_operations(connection.socket.as_fd());
            self.relay.handle_ended(index);
        }
    }

    fn close_if_due(&mut self, index: usize) -> io::Result<()> {
        let connection = &self.connections[index];
        if connection.is_open || connection.send.is_some() || connection.receive != Receive::Ended {
            return Ok(());
        }
        let connection = self.connections.remove(index);
        self.outputs.outputs[index].next = Transmit::default();
        self.ring.close(connection.socket, index as u32)
    }

    fn enter_kernel(&mut self) -> io::Result<()> {
        self.bell.announce_sleep();
        if !self.arrivals.is_empty() {
            self.bell.announce_awake();
            return self.ring.submit();
        }
        let slept = self.ring.submit_and_sleep(None);
        self.bell.announce_awake();
        slept
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    /// Sends everything back, and tells who has ended.
    struct Echo(mpsc::Sender<usize>);

    impl Relay for Echo {
        fn handle_received(&mut self, connection: usize, bytes: &[u8], outputs: &mut Outputs) {
            outputs.to(connection).extend_from_slice(bytes);
        }

        fn handle_ended(&mut self, connection: usize) {
            self.0.send(connection).expect("the test waits");
        }
    }

    #[test]
    fn bytes_come_back_in_order_and_an_end_is_told() {
        const BYTES: usize = 1 << 20;
        let (ended, ends) = mpsc::channel();
        let sizes = RingSizes { entries: 64, recv_buffers: 16, recv_buffer_bytes: 256, routing_batches: 1 };
        let entrance = start(sizes, Echo(ended)).expect("a loop");
        for _ in 0..2 {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            entrance.admit(theirs.into());
            let sent: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
            let mut received = vec![0; BYTES];
            std::thread::scope(|scope| {
                scope.spawn(|| (&ours).write_all(&sent).expect("all is read"));
                (&ours).read_exact(&mut received).expect("all comes back");
            });
            assert!(received == sent);
            drop(ours);
            ends.recv().expect("its end is told");
        }
    }
}
