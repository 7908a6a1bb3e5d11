//! What the loop knows about one connection: its socket, what is in flight on it, and how far its end has come.
//!
//! An idle connection has one operation in flight, a multishot receive that holds no buffer, and costs the few words below.
//!
//! The receive of a connection, as a machine ("completes" is a completion after which the operation is over):
//!
//! | state      | pause           | resume         | completes, read on  | completes, held     | end or failure |
//! |------------|-----------------|----------------|---------------------|---------------------|----------------|
//! | Stopped    | Stopped         | Armed, *arm*   | (impossible)        | (impossible)        | (impossible)   |
//! | Armed      | Stopping, *cancel* | Armed       | Armed, *arm*        | Stopped             | Ended          |
//! | Stopping   | Stopping        | Restarting     | Stopped             | Stopped             | Ended          |
//! | Restarting | Stopping        | Restarting     | Armed, *arm*        | Stopped             | Ended          |
//! | Ended      | Ended           | Ended          | (impossible)        | (impossible)        | (impossible)   |
//!
//! A cancel is asked for once: a receive that is on its way to its end gets there whether the shard still wants it or not.

use std::os::fd::{AsFd, OwnedFd};

use crate::shard::ConnectionKey;

use super::origin::Origin;
use super::permit::ConnectionPermit;
use super::send::SendInFlight;
use super::system;
use super::turns::Place;

/// One connection.
pub(super) struct Connection {
    pub(super) key: ConnectionKey,
    pub(super) socket: OwnedFd,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    /// Whether the shard wants its bytes.
    pub(super) is_wanted: bool,
    /// Whether it is read one buffer at a time, and not while something of it waits ([`turns`](super::turns)).
    pub(super) is_heavy: bool,
    /// Whether its end has come, and the shard is still to be told.
    pub(super) has_untold_end: bool,
    pub(super) place: Place,
    /// In seconds since the Unix epoch.
    pub(super) connected_at_seconds: u32,
    /// The send in flight, if there is one.
    pub(super) send: Option<Box<SendInFlight>>,
    /// Held until the socket is closed.
    pub(super) permit: ConnectionPermit,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It lives.
    Open,
    /// It has failed and the shard was told so; the shard will say Close.
    Failed,
    /// The shard has said Close; what is in flight is on its way to completion.
    Closing,
}

/// How the receiving side of a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The peer will send no more.
    OfStream,
    /// The connection is broken.
    Failure { errno: i32 },
}

/// The receive of a connection; see the table above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    /// Nothing in the kernel, and none wanted.
    Stopped,
    /// In the kernel.
    Armed,
    /// In the kernel, asked to end, and none wanted after that.
    Stopping,
    /// In the kernel, asked to end, but wanted again after that.
    Restarting,
    /// The peer has ended its stream or the connection has failed: nothing will ever come.
    Ended,
}

/// What a transition of [`Receive`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Submit a receive.
    Arm,
    /// Submit a cancel of the receive.
    Cancel,
}

impl Connection {
    /// Whether the kernel has no operation on this connection.
    pub(super) fn is_idle(&self) -> bool {
        self.send.is_none() && !self.receive.is_in_kernel()
    }

    /// Its bytes are to be read, unless somebody is against it.
    pub(super) fn read_if_wanted(&mut self) -> Step {
        if self.is_wanted && !self.is_held() { self.receive.resume() } else { Step::Nothing }
    }

    /// Whether it is not read because what it has sent already waits for its turn.
    pub(super) fn is_held(&self) -> bool {
        self.is_heavy && self.place.waits()
    }

    /// Where its client comes from; none if the connection has failed.
    pub(super) fn origin(&self) -> Option<Origin> {
        self.permit.address().map(Origin::Address).or_else(|| system::peer_of(self.socket.as_fd()))
    }
}

impl Receive {
    /// The shard wants no more bytes for now, or the connection is being closed.
    pub(super) fn pause(&mut self) -> Step {
        let (next, step) = match *self {
            Receive::Stopped => (Receive::Stopped, Step::Nothing),
            Receive::Armed => (Receive::Stopping, Step::Cancel),
            Receive::Stopping | Receive::Restarting => (Receive::Stopping, Step::Nothing),
            Receive::Ended => (Receive::Ended, Step::Nothing),
        };
        *self = next;
        step
    }

    /// The shard wants bytes.
    pub(super) fn resume(&mut self) -> Step {
        let (next, step) = match *self {
            Receive::Stopped => (Receive::Armed, Step::Arm),
            Receive::Armed => (Receive::Armed, Step::Nothing),
            Receive::Stopping | Receive::Restarting => (Receive::Restarting, Step::Nothing),
            Receive::Ended => (Receive::Ended, Step::Nothing),
        };
        *self = next;
        step
    }

    /// The receive is over, cancelled or not, and the stream is not; whether it is read on at once, if it is wanted.
    ///
    /// # Panics
    /// If there was none in the kernel.
    pub(super) fn completed(&mut self, reads_on: bool) -> Step {
        let (next, step) = match *self {
            Receive::Armed | Receive::Restarting if reads_on => (Receive::Armed, Step::Arm),
            Receive::Armed | Receive::Restarting | Receive::Stopping => (Receive::Stopped, Step::Nothing),
            Receive::Stopped | Receive::Ended => panic!("a receive completed that was not armed"),
        };
        *self = next;
        step
    }

    /// The receive is over, and so is the stream.
    ///
    /// # Panics
    /// If there was none in the kernel.
    pub(super) fn ended(&mut self) {
        assert!(self.is_in_kernel(), "a stream ended that nobody was reading");
        *self = Receive::Ended;
    }

    fn is_in_kernel(self) -> bool {
        match self {
            Receive::Armed | Receive::Stopping | Receive::Restarting => true,
            Receive::Stopped | Receive::Ended => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// As what a shard keeps of each client (tuning.md, "Memory"), it is a decision.
    #[test]
    fn a_connection_is_seven_words() {
        assert_eq!(size_of::<Option<Connection>>(), 56);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Pause,
        Resume,
        Completed,
        Held,
        Ended,
    }

    #[test]
    fn every_state_meets_every_event() {
        use Event::*;
        use Receive::*;
        let illegal = None;
        let to = |state, step| Some((state, step));
        for (state, event, expected) in [
            (Stopped, Pause, to(Stopped, Step::Nothing)),
            (Stopped, Resume, to(Armed, Step::Arm)),
            (Stopped, Completed, illegal),
            (Stopped, Held, illegal),
            (Stopped, Event::Ended, illegal),
            (Armed, Pause, to(Stopping, Step::Cancel)),
            (Armed, Resume, to(Armed, Step::Nothing)),
            (Armed, Completed, to(Armed, Step::Arm)),
            (Armed, Held, to(Stopped, Step::Nothing)),
            (Armed, Event::Ended, to(Receive::Ended, Step::Nothing)),
            (Stopping, Pause, to(Stopping, Step::Nothing)),
            (Stopping, Resume, to(Restarting, Step::Nothing)),
            (Stopping, Completed, to(Stopped, Step::Nothing)),
            (Stopping, Held, to(Stopped, Step::Nothing)),
            (Stopping, Event::Ended, to(Receive::Ended, Step::Nothing)),
            (Restarting, Pause, to(Stopping, Step::Nothing)),
            (Restarting, Resume, to(Restarting, Step::Nothing)),
            (Restarting, Completed, to(Armed, Step::Arm)),
            (Restarting, Held, to(Stopped, Step::Nothing)),
            (Restarting, Event::Ended, to(Receive::Ended, Step::Nothing)),
            (Receive::Ended, Pause, to(Receive::Ended, Step::Nothing)),
            (Receive::Ended, Resume, to(Receive::Ended, Step::Nothing)),
            (Receive::Ended, Completed, illegal),
            (Receive::Ended, Held, illegal),
            (Receive::Ended, Event::Ended, illegal),
        ] {
            let met = catch_unwind(|| {
                let mut receive = state;
                let step = match event {
                    Pause => receive.pause(),
                    Resume => receive.resume(),
                    Completed => receive.completed(true),
                    Held => receive.completed(false),
                    Event::Ended => {
                        receive.ended();
                        Step::Nothing
                    }
                };
                (receive, step)
            });
            assert_eq!(met.ok(), expected, "{state:?} × {event:?}");
        }
    }
}
