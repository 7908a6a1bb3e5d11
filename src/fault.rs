//! Faults planted on purpose, to show that the simulator finds what it is there to find.
//!
//! Without the feature `planted-faults` a [`PlantedFault`] is a type without a value to ask, every question is `false`
//! at compile time, and nothing of this is in the binary.

/// A way to break exactly-once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The ids that await PUBREL are forgotten when a session is resumed.
    ReceivedIdsForgottenOnResume,
    /// What waits for the log leaves when its batch is written, before it is stable.
    LogAcknowledgedBeforeSync,
    /// Recovery believes records whose checksum is wrong.
    LogTailChecksumIgnored,
    /// Segments of the log are removed before the checkpoint that replaces them is stable.
    SegmentRemovedTooEarly,
    /// The sender resends the PUBLISH, although the PUBREC had come.
    PublishResentAfterPubrec,
    /// An id is given to the next message between PUBREC and PUBCOMP.
    IdReusedBeforePubcomp,
    /// Every 64th letter to another shard is dropped.
    LetterDropped,
    /// Which letters were applied is logged in the batch behind the one with their effects.
    LettersAppliedLoggedLate,
    /// The ids that await PUBREL are forgotten when the broker restarts.
    ReceivedIdsLostAtRestart,
    /// The ids that await the PUBREL of a remote are forgotten when its bridge is connected again.
    ReceivedIdsForgottenByBridge,
}

/// The fault that a shard was built with, normally none.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlantedFault {
    #[cfg(feature = "planted-faults")]
    fault: Option<Fault>,
}

impl PlantedFault {
    /// Whether this fault was planted.
    #[inline]
    pub fn is(self, fault: Fault) -> bool {
        #[cfg(feature = "planted-faults")]
        return self.fault == Some(fault);
        #[cfg(not(feature = "planted-faults"))]
        {
            let _ = fault;
            false
        }
    }

    /// Plants a fault.
    #[cfg(feature = "planted-faults")]
    pub fn plant(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }
}
