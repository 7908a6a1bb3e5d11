//! The durability gate: what an acknowledgement promises must be stable before it leaves.
//!
//! Everything that promises durability to a client (PUBACK, PUBREC, SUBACK, CONNACK's session present) is made as a
//! [`Promise`], which carries the log position it waits for, and only [`Log::redeem`] turns a promise into the value
//! that may be sent. There is no other way to the value, so an early send does not compile.
//!
//! With `--durability none` nothing is logged, every position is stable at once and every promise redeems at once.
//! The log itself is not here yet; the shard already obeys the gate.

/// A position in a shard's log: everything before it has been appended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LogPosition(u64);

/// A value that may be used only once the log is stable up to a position.
#[derive(Debug)]
#[must_use]
pub struct Promise<T> {
    waits_for: LogPosition,
    value: T,
}

/// The shard's view of its log: how far it was appended, and how far that is stable.
#[derive(Debug, Default)]
pub struct Log {
    appended: LogPosition,
    stable: LogPosition,
}

impl Log {
    /// The log of `--durability none`: nothing is appended, so everything that was appended is stable.
    pub fn none() -> Self {
        Self::default()
    }

    /// Promises `value` for the moment when all that has been appended so far is stable.
    pub fn promise<T>(&self, value: T) -> Promise<T> {
        Promise { waits_for: self.appended, value }
    }

    /// The promised value if the log is stable far enough, the promise again if it is not.
    pub fn redeem<T>(&self, promise: Promise<T>) -> Result<T, Promise<T>> {
        if promise.waits_for <= self.stable { Ok(promise.value) } else { Err(promise) }
    }
}

#[cfg(test)]
impl Log {
    /// Stands for a record of one unit appended and not yet stable.
    pub(crate) fn append_unstable(&mut self) {
        self.appended.0 += 1;
    }

    /// Stands for the completion of a sync of all that was appended.
    pub(crate) fn stabilise(&mut self) {
        self.stable = self.appended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_log_every_promise_redeems_at_once() {
        let log = Log::none();
        assert_eq!(log.redeem(log.promise(7)).ok(), Some(7));
    }

    #[test]
    fn a_promise_waits_until_the_log_is_stable_up_to_its_position() {
        let mut log = Log::none();
        let before = log.promise("before");
        log.append_unstable();
        let after = log.promise("after");
        assert_eq!(log.redeem(before).ok(), Some("before"));
        let after = log.redeem(after).expect_err("the record is not stable yet");
        log.stabilise();
        assert_eq!(log.redeem(after).ok(), Some("after"));
    }
}
