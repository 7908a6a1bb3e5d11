//! A disk that fails under the real process: planted, because no disk does so on request.

use oncemq::shard::shard_of;

use crate::broker::{Broker, DataDirectory, command};
use crate::session::Client;

/// The number of EIO.
const EIO: i32 = 5;

/// A client id that this one of two shards owns.
fn id_at(shard: usize) -> String {
    let mut ids = (0..).map(|number| format!("client-{number}"));
    ids.find(|id| shard_of(id, 2).index() == shard).expect("ids do not end")
}

#[test]
fn a_failed_write_is_never_acknowledged_and_other_shards_go_on() {
    let data = DataDirectory::new();
    let mut faulty = command(&data, &["--shards", "2"]);
    // Commits of shard 0: the session, its subscription, and no more.
    faulty.env("ONCEMQ_PLANTED_DISK_FAULT", format!("0:2:{EIO}"));
    let broker = Broker::run(faulty);
    let (here, there) = (id_at(0), id_at(1));
    let (mut failing, _) = Client::resume(&broker, &here);
    failing.subscribe("t/a");
    failing.publish(1, "t/a", "lost");
    assert!(failing.remaining().is_empty(), "no PUBREC, and the end of the connection");
    let line = broker.wait_for_line("the log of shard 0 failed in ");
    assert!(line.contains("check the disk") && line.contains("Input/output error"), "{line}");
    let (mut healthy, _) = Client::resume(&broker, &there);
    healthy.subscribe("t/b");
    healthy.publish_whole(1, "t/c", "nobody else wants it");
    broker.kill();
    let broker = Broker::start_in(&data, &["--shards", "2"]);
    assert!(Client::resume(&broker, &here).1, "what was acknowledged is there");
}
