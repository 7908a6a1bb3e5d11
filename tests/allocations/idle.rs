//! What an idle client costs in its shard: a record, and nothing else that grows with the number of clients. The figures here
//! are those that the shard asks for; what the allocator makes of them, and the socket's own record, stand in tuning.md,
//! "Memory".

use oncemq::proto::Version;

use super::counting::held_bytes;
use super::fleet::{Client, Durability, Fleet};

/// Counts of clients at which the slabs are nearly full, so that the room they have to grow counts little.
const FEW: usize = 1000;
const MANY: usize = 4000;

/// What one more client costs that connects and then does nothing, in bytes.
fn bytes_per_client(version: Version, durability: Durability, filters: usize, rules: Option<&str>) -> i64 {
    let held_by = |clients: usize| {
        let before = held_bytes();
        let mut fleet = Fleet::new(1, durability);
        fleet.keep_alive_seconds = 60;
        rules.iter().for_each(|rules| fleet.set_rules(rules));
        for number in 0..clients {
            let client: Client = fleet.connect_with(0, version, &[]);
            (0..filters).for_each(|filter| fleet.subscribe(client, &format!("sensors/{number}-{filter}"), None));
        }
        let shards = fleet.into_shards();
        let held = held_bytes() - before;
        drop(shards);
        assert_eq!(held_bytes(), before, "all is given back");
        held
    };
    (held_by(MANY) - held_by(FEW)) / (MANY - FEW) as i64
}

/// What every idle client costs is a decision. Who has to raise these numbers says in tuning.md, "Memory", what for. With a log
/// there are the places of its batches, too, until they are cleaned away.
#[test]
fn an_idle_client_costs_its_record() {
    for version in [Version::V311, Version::V5] {
        for (durability, filters, bytes) in [
            (Durability::None, 0, 370),
            (Durability::None, 1, 450),
            (Durability::Logged, 0, 390),
            (Durability::Logged, 1, 480),
        ] {
            let measured = bytes_per_client(version, durability, filters, None);
            assert!(measured <= bytes, "{version:?}, {durability:?}, {filters} filters: {measured} bytes");
        }
    }
}

/// Its rules are a client's own from its first message or subscription on.
#[test]
fn an_idle_client_with_rules_costs_them() {
    for (filters, bytes) in [(0, 370), (1, 610)] {
        let measured =
            bytes_per_client(Version::V5, Durability::None, filters, Some("topic read sensors/#\npattern own/%c/#\n"));
        assert!(measured <= bytes, "{filters} filters: {measured} bytes");
    }
}
