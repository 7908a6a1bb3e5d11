//! Who published a message, as far as others have to know.

use xxhash_rust::xxh3::xxh3_64;

/// Stands for the client that published a retained message, for those of its subscriptions that do not want what it has
/// published itself [MQTT-3.8.3-3]: a hash of its client id.
///
/// It is the same in every run and on every machine, for the log has it. Two clients that share one are as likely as any two
/// equal numbers of 64 bits; who looks for one can only keep his own messages from a subscriber that asked for no local.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Author(pub u64);

impl Author {
    /// The client with this id.
    pub fn of(client_id: &str) -> Self {
        Self(xxh3_64(client_id.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs that are there name authors like this.
    #[test]
    fn an_author_is_the_same_in_every_run() {
        assert_eq!(Author::of("client"), Author(xxh3_64(b"client")));
    }
}
