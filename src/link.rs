//! The link protocol: durable letters from one shard to another, each applied exactly once, whoever crashes when.
//!
//! Letters of an ordered pair of shards are numbered without gaps. The sender logs a letter before it sends it, and keeps it
//! until it is acknowledged; after a restart it sends again what is not. The receiver applies a letter if it is the
//! next one, logs in one batch the effect and that it has been applied, and acknowledges when that batch is stable.
//!
//! | the letter is        | receiver                                           |
//! |----------------------|----------------------------------------------------|
//! | the next one         | applies it                                         |
//! | applied before       | ignores it, and acknowledges again what is stable  |
//! | further ahead        | ignores it, and asks once for what is missing      |
//!
//! Nothing here knows about threads, rings or the log's format: letters may be lost, repeated and reordered on the way. A
//! letter lost behind which nothing follows is resent when the sender is told to send again.

use std::collections::VecDeque;

use crate::store::LetterNumber;

/// The sending end.
#[derive(Debug)]
pub struct Sender<L> {
    acknowledged: LetterNumber,
    /// The letters after that, in order.
    waiting: VecDeque<L>,
}

/// The receiving end.
#[derive(Debug, Default)]
pub struct Receiver {
    applied: LetterNumber,
    /// Applied, and known to the log.
    logged: LetterNumber,
    /// Logged, and stable.
    stable: LetterNumber,
    /// The gap behind this letter has been asked for.
    asked_behind: Option<LetterNumber>,
}

/// What a letter is to the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// To be applied now.
    Next,
    /// It has been applied; everything up to here is stable, and may be acknowledged once more.
    Repeated {
        /// The last letter that is stable.
        stable: LetterNumber,
    },
    /// Letters before it are missing; the first time, the sender is to be asked for all behind this one.
    Ahead {
        /// The last letter that was applied, if it is to be asked.
        ask_behind: Option<LetterNumber>,
    },
}

impl<L> Sender<L> {
    /// A sender whose letters up to this one have been acknowledged.
    pub fn new(acknowledged: LetterNumber) -> Self {
        Self { acknowledged, waiting: VecDeque::new() }
    }

    /// Keeps a letter until it is acknowledged, and numbers it.
    pub fn post(&mut self, letter: L) -> LetterNumber {
        self.waiting.push_back(letter);
        LetterNumber(self.acknowledged.0 + self.waiting.len() as u64)
    }

    /// The receiver has made everything up to this letter its own. Says whether that is news.
    pub fn acknowledge(&mut self, through: LetterNumber) -> bool {
        let news = through.0.saturating_sub(self.acknowledged.0);
        assert!(news <= self.waiting.len() as u64, "only a letter that was sent is acknowledged");
        self.waiting.drain(..news as usize);
        self.acknowledged.0 += news;
        news > 0
    }

    /// Everything up to here has been acknowledged.
    pub fn acknowledged(&self) -> LetterNumber {
        self.acknowledged
    }

    /// The letters behind this one that are not acknowledged, to be sent (again).
    pub fn waiting_behind(&self, number: LetterNumber) -> impl Iterator<Item = (LetterNumber, &L)> {
        let skipped = number.0.saturating_sub(self.acknowledged.0).min(self.waiting.len() as u64);
        let numbers = (self.acknowledged.0 + 1 + skipped..).map(LetterNumber);
        numbers.zip(self.waiting.range(skipped as usize..))
    }

    /// How many letters are not acknowledged.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all letters are acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<L> Default for Sender<L> {
    fn default() -> Self {
        Self::new(LetterNumber::default())
    }
}

impl Receiver {
    /// A receiver whose log says that everything up to this letter was applied.
    pub fn new(applied: LetterNumber) -> Self {
        Self { applied, logged: applied, stable: applied, asked_behind: None }
    }

    /// A letter has come.
    pub fn receive(&mut self, number: LetterNumber) -> Arrival {
        if number <= self.applied {
            return Arrival::Repeated { stable: self.stable };
        }
        if number.0 > self.applied.0 + 1 {
            let ask_behind = (self.asked_behind != Some(self.applied)).then_some(self.applied);
            self.asked_behind = Some(self.applied);
            return Arrival::Ahead { ask_behind };
        }
        self.applied = number;
        Arrival::Next
    }

    /// The last letter that was applied.
    pub fn applied(&self) -> LetterNumber {
        self.applied
    }

    /// Whether letters were applied since the last batch of the log was sealed.
    pub fn has_unlogged(&self) -> bool {
        self.applied > self.logged
    }

    /// A batch of the log is about to be sealed: what it has to say of this link, if there is something new.
    pub fn take_unlogged(&mut self) -> Option<LetterNumber> {
        let is_news = self.has_unlogged();
        self.logged = self.applied;
        is_news.then_some(self.applied)
    }

    /// The batch that was sealed last is stable: what to acknowledge, if there is something new.
    pub fn take_unacknowledged(&mut self) -> Option<LetterNumber> {
        let is_news = self.logged > self.stable;
        self.stable = self.logged;
        is_news.then_some(self.stable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(value: u64) -> LetterNumber {
        LetterNumber(value)
    }

    #[test]
    fn a_receiver_applies_the_next_letter_only() {
        let mut receiver = Receiver::new(number(3));
        assert_eq!(receiver.receive(number(3)), Arrival::Repeated { stable: number(3) });
        assert_eq!(receiver.receive(number(5)), Arrival::Ahead { ask_behind: Some(number(3)) });
        assert_eq!(receiver.receive(number(6)), Arrival::Ahead { ask_behind: None }, "asked already");
        assert_eq!(receiver.receive(number(4)), Arrival::Next);
        assert_eq!(receiver.receive(number(6)), Arrival::Ahead { ask_behind: Some(number(4)) });
        assert_eq!(receiver.receive(number(4)), Arrival::Repeated { stable: number(3) }, "applied, but not stable");
        assert_eq!(receiver.take_unlogged(), Some(number(4)));
        assert_eq!(receiver.take_unlogged(), None);
        assert_eq!(receiver.take_unacknowledged(), Some(number(4)));
        assert_eq!(receiver.take_unacknowledged(), None);
    }

    #[test]
    fn a_sender_keeps_letters_until_they_are_acknowledged() {
        let mut sender = Sender::new(number(7));
        assert_eq!(["a", "b", "c"].map(|letter| sender.post(letter)), [8, 9, 10].map(number));
        assert!(sender.acknowledge(number(8)));
        assert!(!sender.acknowledge(number(8)));
        assert!(!sender.acknowledge(number(2)), "an old acknowledgement is no news");
        assert_eq!(sender.waiting_behind(number(9)).collect::<Vec<_>>(), [(number(10), &"c")]);
        assert_eq!(sender.waiting_behind(number(0)).count(), 2);
        assert!(sender.acknowledge(number(10)));
        assert!(sender.is_empty());
        assert_eq!(sender.post("d"), number(11));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Post,
        Carry { letter: prop::sample::Index, keep: bool, lose: bool },
        Seal,
        CrashReceiver,
        CrashSender,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Post),
            6 => (any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
                .prop_map(|(letter, keep, lose)| Step::Carry { letter, keep, lose }),
            2 => Just(Step::Seal),
            1 => Just(Step::CrashReceiver),
            1 => Just(Step::CrashSender),
        ]
    }

    proptest! {
        /// A network that loses, repeats and reorders, and ends that crash back to what their logs say.
        #[test]
        fn every_letter_is_applied_once_and_in_order(steps in prop::collection::vec(step(), 0..400)) {
            let mut sender: Sender<u64> = Sender::default();
            let mut receiver = Receiver::default();
            let (mut posted, mut network) = (0, Vec::new());
            // What was applied, and how much of that the receiver's log holds.
            let (mut applied, mut durable): (Vec<u64>, usize) = (Vec::new(), 0);
            let heal = [Step::CrashSender, Step::Seal].repeat(2);
            for step in steps.into_iter().chain(heal) {
                match step {
                    Step::Post => {
                        posted += 1;
                        network.push((sender.post(posted), posted));
                    }
                    Step::Carry { .. } if network.is_empty() => {}
                    Step::Carry { letter, keep, lose } => {
                        let index = letter.index(network.len());
                        let (number, letter) = if keep { network[index] } else { network.swap_remove(index) };
                        if lose {
                            continue;
                        }
                        match receiver.receive(number) {
                            Arrival::Next => applied.push(letter),
                            Arrival::Repeated { stable } => drop(sender.acknowledge(stable)),
                            Arrival::Ahead { ask_behind: None } => {}
                            Arrival::Ahead { ask_behind: Some(behind) } => {
                                network.extend(sender.waiting_behind(behind).map(|(number, letter)| (number, *letter)));
                            }
                        }
                    }
                    Step::Seal => {
                        receiver.take_unlogged();
                        durable = applied.len();
                        if let Some(through) = receiver.take_unacknowledged() {
                            sender.acknowledge(through);
                        }
                    }
                    Step::CrashReceiver => {
                        applied.truncate(durable);
                        receiver = Receiver::new(number(durable as u64));
                    }
                    Step::CrashSender => {
                        // All that it posted is in its log, and it sends what is not acknowledged again, in order.
                        for (number, letter) in sender.waiting_behind(sender.acknowledged()) {
                            if receiver.receive(number) == Arrival::Next {
                                applied.push(*letter);
                            }
                        }
                    }
                }
                prop_assert!(applied.iter().copied().eq(1..=applied.len() as u64), "{applied:?}");
            }
            prop_assert_eq!(applied.len() as u64, posted);
            prop_assert!(sender.is_empty());
        }
    }
}
