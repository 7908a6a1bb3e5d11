//! Client ids by which a chosen share of the messages passes between shards of the broker.
//!
//! A OnceMQ broker gives each client to the shard that its id hashes to. Subscribers are dealt out to the shards, and publishers
//! to that of their subscribers or to the next one; whoever's plain id hashes elsewhere gets a number behind it.

use oncemq::shard::shard_of;

use crate::shape::Shape;

/// Which shards publishers and subscribers are to belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    pub(crate) shards: u16,
    /// Publishers of a hundred that publish to another shard.
    pub(crate) percent: u32,
}

impl Crossing {
    /// An id that begins with this text, for a subscriber.
    pub(crate) fn subscriber_id(self, shape: &Shape, subscriber: u32, plain: &str) -> String {
        self.id_on(self.home(shape, subscriber), plain)
    }

    /// An id that begins with this text, for a publisher.
    pub(crate) fn publisher_id(self, shape: &Shape, publisher: u32, plain: &str) -> String {
        let home = self.home(shape, shape.a_listener(publisher));
        self.id_on(if self.crosses(publisher) { (home + 1) % self.shards } else { home }, plain)
    }

    /// So that any run of publishers has about its share.
    fn crosses(self, publisher: u32) -> bool {
        let below = |publishers: u32| u64::from(publishers) * u64::from(self.percent) / 100;
        below(publisher + 1) > below(publisher)
    }

    /// The shard of a subscriber. All are on one where each hears every publisher.
    fn home(self, shape: &Shape, subscriber: u32) -> u16 {
        let number = if shape.listeners() > 1 { 0 } else { subscriber };
        (number % u32::from(self.shards)) as u16
    }

    fn id_on(self, shard: u16, plain: &str) -> String {
        let is_there = |id: &String| shard_of(id, self.shards).number() == shard;
        let numbered = (1u64..).map(|number| format!("{plain}-{number}"));
        std::iter::once(plain.to_owned()).chain(numbered).find(is_there).expect("there is no end of ids")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ShapeKind;

    #[test]
    fn the_share_of_publishers_is_that_which_was_asked_for() {
        let shapes = [(ShapeKind::Pairs, 100, 100), (ShapeKind::FanIn, 100, 3), (ShapeKind::FanOut, 100, 7)];
        for (kind, publishers, subscribers) in shapes {
            let shape = Shape::new(kind, publishers, subscribers, "t".to_owned()).expect("fits");
            for (shards, percent) in [(2, 0), (2, 50), (2, 100), (3, 100), (4, 25)] {
                let crossing = Crossing { shards, percent };
                let shard = |id: &str| shard_of(id, shards);
                let crossed = (0..publishers).filter(|&publisher| {
                    let from = shard(&crossing.publisher_id(&shape, publisher, &format!("p{publisher}")));
                    let hears = |subscriber: &u32| shape.slot(*subscriber, publisher).is_some();
                    let mut to = (0..subscribers).filter(hears).map(|subscriber| {
                        shard(&crossing.subscriber_id(&shape, subscriber, &format!("s{subscriber}")))
                    });
                    let first = to.next().expect("somebody hears it");
                    assert!(to.all(|other| other == first));
                    from != first
                });
                assert_eq!(crossed.count() as u32, percent, "{kind:?} {shards}");
            }
        }
    }
}
