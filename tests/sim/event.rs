//! What can happen in a run.

/// Something that happens at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Event {
    /// A client does what it likes.
    Act(usize),
    /// A client sends answers on a connection.
    Answer(usize),
    /// A client shows on a connection that it is alive.
    Ping(usize),
    /// Bytes of a connection arrive at the broker.
    Upstream(usize),
    /// Bytes of a connection arrive at the client.
    Downstream(usize),
    /// The kernel takes bytes of a connection.
    Write(usize),
    /// The gate hands a connection over.
    Admit(usize),
    /// The gate tries to reach the remote of the bridge.
    Reach,
    /// A driver closes a connection.
    Close(usize),
    /// A driver asks its shard what to do.
    Turn(usize),
    /// A driver's timer.
    Timeout(usize),
    /// Letters arrive: from one shard at another.
    Ring(usize, usize),
    /// The disk is done with the write of a shard.
    Written(usize),
    /// A read from a log is done.
    Read(usize),
    /// The broker is killed, or the machine is.
    Crash,
    /// The broker comes back.
    Restart,
}

impl Event {
    /// Whether it comes only because time goes by: the world is at rest when nothing else is left.
    pub(crate) fn is_timer(self) -> bool {
        match self {
            Event::Ping(_) | Event::Timeout(_) => true,
            Event::Act(_)
            | Event::Answer(_)
            | Event::Upstream(_)
            | Event::Downstream(_)
            | Event::Write(_)
            | Event::Admit(_)
            | Event::Reach
            | Event::Close(_)
            | Event::Turn(_)
            | Event::Ring(..)
            | Event::Written(_)
            | Event::Read(_)
            | Event::Crash
            | Event::Restart => false,
        }
    }

    /// Whether it happens inside the broker, and so not any more if that is gone.
    pub(crate) fn is_of_broker(self) -> bool {
        match self {
            Event::Write(_)
            | Event::Admit(_)
            | Event::Reach
            | Event::Close(_)
            | Event::Turn(_)
            | Event::Timeout(_)
            | Event::Ring(..)
            | Event::Written(_)
            | Event::Read(_)
            | Event::Crash => true,
            Event::Act(_)
            | Event::Answer(_)
            | Event::Ping(_)
            | Event::Upstream(_)
            | Event::Downstream(_)
            | Event::Restart => false,
        }
    }
}
