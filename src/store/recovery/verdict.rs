//! What it means that a log can't be read on at some place: a table.
//!
//! A batch that was being written when the power went may be there in part, or not at all although a later one is; that
//! is a torn tail, nobody was promised anything that lay in it, and it is cut. A batch that had been on stable storage
//! may have been promised; if it is missing, the disk has lost it, and that is damage. Each batch says up to where the
//! log was on stable storage when it was written: what later batches say about the place tells the two apart.

use super::RecoveryMode;

/// Where the log can't be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Nothing was begun here: the end of the file, zeroes, or bytes of an older use of the file.
    End,
    /// The head of a segment can't be read.
    SegmentHeader,
    /// A segment does not begin with the batch that is due.
    SegmentStart,
    /// The head of a batch can't be read, or is out of turn.
    BatchHeader,
    /// The records of a batch are not what was written.
    Records,
    /// The segment belongs to another log.
    OtherLog,
    /// The segment was written by a newer broker.
    NewerVersion,
}

/// What comes behind the place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Follows {
    /// Nothing of this log.
    Nothing,
    /// A later segment, which begins with the batch that is due or will be asked itself what is missing before it.
    Segment,
    /// Later batches; none says that the batch that is due had been on stable storage.
    Unsynced,
    /// Something that shows that the batch that is due had been on stable storage.
    Synced,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go on with the next segment.
    NextSegment,
    /// The log ends here.
    EndOfLog,
    /// The log ends here, and what lies behind is cut.
    Torn,
    /// What is missing may have been promised: refuse to start.
    Damage,
    /// What is missing is given up; go on behind it.
    Skip,
    /// Refuse to read what a newer broker has written.
    NewerVersion,
}

struct Row {
    place: &'static [Place],
    follows: &'static [Follows],
    mode: &'static [RecoveryMode],
    verdict: Verdict,
}

/// Every place that may be the trace of an interrupted write.
const INTERRUPTED: &[Place] = &[Place::SegmentHeader, Place::SegmentStart, Place::BatchHeader, Place::Records];
const ORDINARY: &[Place] = &[Place::End, Place::SegmentHeader, Place::SegmentStart, Place::BatchHeader, Place::Records];
const ANYTHING: &[Follows] = &[Follows::Nothing, Follows::Segment, Follows::Unsynced, Follows::Synced];
const BOTH: &[RecoveryMode] = &[RecoveryMode::Strict, RecoveryMode::Salvage];
const STRICT: &[RecoveryMode] = &[RecoveryMode::Strict];
const SALVAGE: &[RecoveryMode] = &[RecoveryMode::Salvage];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { place: &[Place::End],          follows: &[Follows::Nothing],  mode: BOTH,    verdict: Verdict::EndOfLog },
    Row { place: INTERRUPTED,            follows: &[Follows::Nothing],  mode: BOTH,    verdict: Verdict::Torn },
    Row { place: ORDINARY,               follows: &[Follows::Segment],  mode: BOTH,    verdict: Verdict::NextSegment },
    Row { place: ORDINARY,               follows: &[Follows::Unsynced], mode: BOTH,    verdict: Verdict::Torn },
    Row { place: ORDINARY,               follows: &[Follows::Synced],   mode: STRICT,  verdict: Verdict::Damage },
    Row { place: ORDINARY,               follows: &[Follows::Synced],   mode: SALVAGE, verdict: Verdict::Skip },
    Row { place: &[Place::OtherLog],     follows: ANYTHING,             mode: STRICT,  verdict: Verdict::Damage },
    Row { place: &[Place::OtherLog],     follows: ANYTHING,             mode: SALVAGE, verdict: Verdict::Skip },
    Row { place: &[Place::NewerVersion], follows: ANYTHING,             mode: BOTH,    verdict: Verdict::NewerVersion },
];

impl Row {
    fn matches(&self, place: Place, follows: Follows, mode: RecoveryMode) -> bool {
        self.place.contains(&place) && self.follows.contains(&follows) && self.mode.contains(&mode)
    }
}

/// What to do at a place.
pub(super) fn verdict(place: Place, follows: Follows, mode: RecoveryMode) -> Verdict {
    let row = TABLE.iter().find(|row| row.matches(place, follows, mode));
    row.expect("every case has a row, as the test shows").verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 7] = [
        Place::End,
        Place::SegmentHeader,
        Place::SegmentStart,
        Place::BatchHeader,
        Place::Records,
        Place::OtherLog,
        Place::NewerVersion,
    ];

    #[test]
    fn every_case_matches_exactly_one_row() {
        for place in PLACES {
            for &follows in ANYTHING {
                for &mode in BOTH {
                    let rows = TABLE.iter().filter(|row| row.matches(place, follows, mode)).count();
                    assert_eq!(rows, 1, "{place:?}, {follows:?}, {mode:?}");
                }
            }
        }
    }

    #[test]
    fn every_row_has_a_case() {
        for row in TABLE {
            assert!(PLACES.iter().any(|place| row.place.contains(place)));
            assert!(!row.follows.is_empty() && !row.mode.is_empty());
        }
    }

    #[test]
    fn what_was_on_stable_storage_is_never_cut() {
        for place in PLACES {
            for &mode in BOTH {
                let verdict = verdict(place, Follows::Synced, mode);
                assert!(!matches!(verdict, Verdict::Torn | Verdict::EndOfLog), "{place:?}, {mode:?}");
            }
        }
    }
}
