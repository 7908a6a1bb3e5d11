//! What an operation was, written into the 64 bits that come back with its completion.
//!
//! The kind stands in the upper half, an index in the lower one. Indexes need no generation: a connection's index is not
//! reused while one of its operations is in flight (see `connection`).

/// An operation of a shard's ring, as its completion names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// The multishot receive of a connection.
    Receive(u32),
    /// The one send of a connection.
    Send(u32),
    /// A request to end a connection's receive; only its failure completes, and means that the receive ended by itself.
    CancelReceive(u32),
    /// A close; only its failure completes.
    Close(u32),
    /// The read of this shard's own doorbell (an eventfd).
    Doorbell,
    /// A bell that another shard rang through its ring.
    BellHeard,
    /// A bell that this shard tried to ring at the shard named; only its failure completes.
    BellRung(u32),
    /// The one write to the log.
    WriteLog,
    /// The one read from the log.
    ReadLog,
}

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CANCEL_RECEIVE: u64 = 3;
const CLOSE: u64 = 4;
const DOORBELL: u64 = 5;
const BELL_HEARD: u64 = 6;
const BELL_RUNG: u64 = 7;
const WRITE_LOG: u64 = 8;
const READ_LOG: u64 = 9;

impl Operation {
    /// The 64 bits that stand for this operation.
    pub(super) const fn to_user_data(self) -> u64 {
        let (kind, index) = match self {
            Operation::Receive(index) => (RECEIVE, index),
            Operation::Send(index) => (SEND, index),
            Operation::CancelReceive(index) => (CANCEL_RECEIVE, index),
            Operation::Close(index) => (CLOSE, index),
            Operation::Doorbell => (DOORBELL, 0),
            Operation::BellHeard => (BELL_HEARD, 0),
            Operation::BellRung(shard) => (BELL_RUNG, shard),
            Operation::WriteLog => (WRITE_LOG, 0),
            Operation::ReadLog => (READ_LOG, 0),
        };
        kind << 32 | index as u64
    }

    /// The operation that the 64 bits stand for.
    ///
    /// # Panics
    /// If this process never wrote them; only our own rings write here.
    pub(super) fn from_user_data(user_data: u64) -> Self {
        let index = user_data as u32;
        match user_data >> 32 {
            RECEIVE => Operation::Receive(index),
            SEND => Operation::Send(index),
            CANCEL_RECEIVE => Operation::CancelReceive(index),
            CLOSE => Operation::Close(index),
            DOORBELL => Operation::Doorbell,
            BELL_HEARD => Operation::BellHeard,
            BELL_RUNG => Operation::BellRung(index),
            WRITE_LOG => Operation::WriteLog,
            READ_LOG => Operation::ReadLog,
            _ => panic!("the ring completed an operation that was never submitted: {user_data:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_comes_back_as_itself() {
        for operation in [
            Operation::Receive(0),
            Operation::Receive(u32::MAX),
            Operation::Send(7),
            Operation::CancelReceive(8),
            Operation::Close(9),
            Operation::Doorbell,
            Operation::BellHeard,
            Operation::BellRung(63),
            Operation::WriteLog,
            Operation::ReadLog,
        ] {
            assert_eq!(Operation::from_user_data(operation.to_user_data()), operation);
        }
    }
}
