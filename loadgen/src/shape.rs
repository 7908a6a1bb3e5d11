//! Who publishes where and who listens to whom.
//!
//! A shape is a pure function of its kind and its two counts: topics, filters, and for every subscriber the
//! publishers it hears, numbered densely (its *slots*) so that the ledger needs no map.

use clap::ValueEnum;
use thiserror::Error;

/// How publishers and subscribers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShapeKind {
    /// Publisher i publishes to topic i, to which subscriber i alone is subscribed.
    Pairs,
    /// Many publishers, few subscribers: publisher i publishes to the topic of subscriber i modulo their number.
    FanIn,
    /// Every subscriber is subscribed to the topic of every publisher, each by its name.
    FanOut,
    /// Every subscriber is subscribed to everything by one wildcard.
    Mesh,
}

impl ShapeKind {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::FanIn => "fan-in",
            Self::FanOut => "fan-out",
            Self::Mesh => "mesh",
        }
    }
}

/// A shape with its counts, checked to fit one another.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    kind: ShapeKind,
    publishers: u32,
    subscribers: u32,
    topic_prefix: String,
}

/// Counts that don't make the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ShapeError {
    #[error(
        "--shape pairs needs as many subscribers as publishers; given --publishers {publishers} --subscribers {subscribers}"
    )]
    UnequalPairs { publishers: u32, subscribers: u32 },
    #[error(
        "--shape fan-in needs at least one publisher for each subscriber; given --publishers {publishers} --subscribers {subscribers}"
    )]
    IdleSubscribers { publishers: u32, subscribers: u32 },
}

impl Shape {
    pub(crate) fn new(
        kind: ShapeKind,
        publishers: u32,
        subscribers: u32,
        topic_prefix: String,
    ) -> Result<Self, ShapeError> {
        match kind {
            ShapeKind::Pairs if publishers != subscribers => Err(ShapeError::UnequalPairs { publishers, subscribers }),
            ShapeKind::FanIn if publishers < subscribers => {
                Err(ShapeError::IdleSubscribers { publishers, subscribers })
            }
            ShapeKind::Pairs | ShapeKind::FanIn | ShapeKind::FanOut | ShapeKind::Mesh => {
                Ok(Self { kind, publishers, subscribers, topic_prefix })
            }
        }
    }

    pub(crate) fn publishers(&self) -> u32 {
        self.publishers
    }

    pub(crate) fn subscribers(&self) -> u32 {
        self.subscribers
    }

    /// The topic to which a publisher publishes.
    pub(crate) fn topic(&self, publisher: u32) -> String {
        let name = match self.kind {
            ShapeKind::Pairs | ShapeKind::FanOut | ShapeKind::Mesh => publisher,
            ShapeKind::FanIn => publisher % self.subscribers,
        };
        format!("{}/{name}", self.topic_prefix)
    }

    /// The filters to which a subscriber subscribes.
    pub(crate) fn filters(&self, subscriber: u32) -> Vec<String> {
        match self.kind {
            ShapeKind::Pairs | ShapeKind::FanIn => {
                vec![format!("{}/{subscriber}", self.topic_prefix)]
            }
            ShapeKind::FanOut => (0..self.publishers).map(|publisher| self.topic(publisher)).collect(),
            ShapeKind::Mesh => vec![format!("{}/#", self.topic_prefix)],
        }
    }

    /// How many subscribers hear one publisher; the same for all of them.
    pub(crate) fn listeners(&self) -> u32 {
        match self.kind {
            ShapeKind::Pairs | ShapeKind::FanIn => 1,
            ShapeKind::FanOut | ShapeKind::Mesh => self.subscribers,
        }
    }

    /// One of those who hear a publisher.
    pub(crate) fn a_listener(&self, publisher: u32) -> u32 {
        match self.kind {
            ShapeKind::Pairs => publisher,
            ShapeKind::FanIn => publisher % self.subscribers,
            ShapeKind::FanOut | ShapeKind::Mesh => 0,
        }
    }

    /// How many publishers one subscriber hears, that is, how many slots it has.
    pub(crate) fn sources(&self, subscriber: u32) -> u32 {
        match self.kind {
            ShapeKind::Pairs => 1,
            // Publishers subscriber, subscriber + n, subscriber + 2n, ... for n subscribers.
            ShapeKind::FanIn => (self.publishers - subscriber).div_ceil(self.subscribers),
            ShapeKind::FanOut | ShapeKind::Mesh => self.publishers,
        }
    }

    /// The slot in which `subscriber` accounts for `publisher`; `None` when it should hear nothing from it.
    pub(crate) fn slot(&self, subscriber: u32, publisher: u32) -> Option<usize> {
        if publisher >= self.publishers {
            return None;
        }
        match self.kind {
            ShapeKind::Pairs => (publisher == subscriber).then_some(0),
            ShapeKind::FanIn => {
                (publisher % self.subscribers == subscriber).then_some((publisher / self.subscribers) as usize)
            }
            ShapeKind::FanOut | ShapeKind::Mesh => Some(publisher as usize),
        }
    }

    /// The publisher of a slot: the inverse of [`Self::slot`].
    pub(crate) fn source(&self, subscriber: u32, slot: usize) -> u32 {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        match self.kind {
            ShapeKind::Pairs => subscriber,
            ShapeKind::FanIn => slot * self.subscribers + subscriber,
            ShapeKind::FanOut | ShapeKind::Mesh => slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: ShapeKind, publishers: u32, subscribers: u32) -> Shape {
        Shape::new(kind, publishers, subscribers, "t".to_owned()).expect("fits")
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let refused = |kind, publishers, subscribers| Shape::new(kind, publishers, subscribers, "t".to_owned()).err();
        assert_eq!(refused(ShapeKind::Pairs, 2, 3), Some(ShapeError::UnequalPairs { publishers: 2, subscribers: 3 }));
        assert_eq!(
            refused(ShapeKind::FanIn, 2, 3),
            Some(ShapeError::IdleSubscribers { publishers: 2, subscribers: 3 })
        );
        assert_eq!(refused(ShapeKind::FanOut, 1, 500), None);
        assert_eq!(refused(ShapeKind::Mesh, 5, 2), None);
    }

    /// A subscriber's filters match a publisher's topic exactly when it has a slot for it, the slots are dense, and
    /// the counts agree.
    #[test]
    fn slots_follow_the_subscriptions() {
        for shape in [
            shape(ShapeKind::Pairs, 5, 5),
            shape(ShapeKind::FanIn, 10, 4),
            shape(ShapeKind::FanIn, 4, 4),
            shape(ShapeKind::FanOut, 3, 7),
            shape(ShapeKind::Mesh, 3, 2),
        ] {
            let mut routes = 0;
            for subscriber in 0..shape.subscribers() {
                let filters = shape.filters(subscriber);
                let mut slots = Vec::new();
                for publisher in 0..shape.publishers() {
                    let topic = shape.topic(publisher);
                    let matches = filters.iter().any(|filter| match filter.strip_suffix('#') {
                        Some(parent) => topic.starts_with(parent),
                        None => *filter == topic,
                    });
                    let slot = shape.slot(subscriber, publisher);
                    assert_eq!(matches, slot.is_some(), "{shape:?} {subscriber} {publisher}");
                    if let Some(slot) = slot {
                        assert_eq!(shape.source(subscriber, slot), publisher);
                        slots.push(slot);
                    }
                }
                slots.sort_unstable();
                let sources = shape.sources(subscriber) as usize;
                assert_eq!(slots, (0..sources).collect::<Vec<_>>());
                routes += shape.sources(subscriber);
            }
            assert_eq!(routes, shape.publishers() * shape.listeners());
            assert_eq!(shape.slot(0, shape.publishers()), None);
        }
    }
}
