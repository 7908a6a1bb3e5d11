//! A disk that fails under the real process: planted, because no disk does so on request.

use crate::broker::{Broker, DataDirectory, command};
use crate::session::Client;

/// The number of EIO.
const EIO: i32 = 5;

/// A client id of which each shard of two owns one, found by trying.
fn ids_by_shard(broker: &Broker) -> [String; 2] {
    let mut ids = [None, None];
    for number in 0.. {
        let id = format!("client-{number}");
        let client = Client::transient(broker, &id);
        broker.signal("USR1");
        let lines = [0, 1].map(|shard| broker.wait_for_line(&format!("counters shard={shard} ")));
        let owner = lines.iter().position(|line| line.contains(" connections=1 ")).expect("it is connected");
        client.leave();
        ids[owner].get_or_insert(id);
        if let [Some(first), Some(second)] = &ids {
            return [first.clone(), second.clone()];
        }
    }
    unreachable!("ids do not end");
}

#[test]
fn a_failed_write_is_never_acknowledged_and_other_shards_go_on() {
    let data = DataDirectory::new();
    let mut faulty = command(&data, &["--shards", "2"]);
    // Commits of shard 0: the session, its subscription, and no more.
    faulty.env("ONCEMQ_PLANTED_DISK_FAULT", format!("0:2:{EIO}"));
    let broker = Broker::run(faulty);
    let [here, there] = ids_by_shard(&broker);
    let (mut failing, _) = Client::resume(&broker, &here);
    failing.subscribe("t/a");
    failing.publish(1, "t/a", "lost");
    assert!(failing.remaining().is_empty(), "no PUBREC, and the end of the connection");
    let line = broker.wait_for_line("the log of shard 0 failed in ");
    assert!(line.contains("check the disk") && line.contains("Input/output error"), "{line}");
    let (mut healthy, _) = Client::resume(&broker, &there);
    healthy.subscribe("t/b");
    healthy.publish_whole(1, "t/b", "kept");
    assert_eq!(healthy.take_messages(1), ["kept"]);
    broker.kill();
    let broker = Broker::start_in(&data, &["--shards", "2"]);
    assert!(Client::resume(&broker, &here).1, "what was acknowledged is there");
}
