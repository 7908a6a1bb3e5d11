//! What outlives the process: the data directory, its lock, recovery, and the tools that look into it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use crate::broker::{Broker, DataDirectory, command, refused_start};
use crate::session::Client;

/// Length of a block, of which headers and batches take whole ones.
const BLOCK_BYTES: usize = 4096;

/// Leaves a subscriber "dash" of `t/+` with this many messages in its queue, one of them not released, and kills the broker.
fn leave_messages(data: &DataDirectory, flags: &[&str], messages: u8) {
    let broker = Broker::start_in(data, flags);
    let (mut subscriber, was_there) = Client::resume(&broker, "dash");
    assert!(!was_there);
    subscriber.subscribe("t/+");
    subscriber.leave();
    let (mut publisher, _) = Client::resume(&broker, "sensor");
    for id in 1..messages {
        publisher.publish_whole(id, "t/a", &id.to_string());
    }
    publisher.publish(messages, "t/a", &messages.to_string());
    publisher.expect(0x50, &[0, messages]);
    broker.kill();
}

/// The subscriber's messages, until a PING comes back before another one.
fn take_messages(broker: &Broker, messages: u8) -> Vec<String> {
    let (mut subscriber, was_there) = Client::resume(broker, "dash");
    assert!(was_there, "the session outlives the broker");
    let taken = subscriber.take_messages(messages.into());
    subscriber.ping();
    taken
}

fn numbers(messages: u8) -> Vec<String> {
    (1..=messages).map(|number| number.to_string()).collect()
}

/// The segments of the only shard, oldest first, without those that were only made ahead.
fn segments(data: &DataDirectory) -> Vec<PathBuf> {
    let directory = data.path().join("log-000001/shard-000");
    let entries = fs::read_dir(directory).expect("a log");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .filter(|path| fs::read(path).expect("a segment").starts_with(b"OnceMQLg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn everything_acknowledged_outlives_kill_9() {
    for durability in ["sync", "write"] {
        let data = DataDirectory::new();
        let flags = ["--shards", "1", "--durability", durability];
        leave_messages(&data, &flags, 3);
        let broker = Broker::start_in(&data, &flags);
        broker.wait_for_line("recovered in ");
        let (mut publisher, was_there) = Client::resume(&broker, "sensor");
        assert!(was_there);
        // The PUBREC may have been lost, for all that the publisher knows.
        publisher.publish_again(3, "t/a", "3");
        publisher.expect(0x50, &[0, 3]);
        publisher.release(3);
        assert_eq!(take_messages(&broker, 3), numbers(3), "{durability}: each once, and in order");
    }
}

/// The commits that the broker's only shard has counted.
fn commits(broker: &Broker) -> u64 {
    broker.signal("USR1");
    let line = broker.wait_for_line("log shard=0 ");
    let count = line.split("commits=").nth(1).and_then(|rest| rest.split_whitespace().next());
    count.and_then(|count| count.parse().ok()).expect("a count of commits")
}

/// By the broker's own count of writes that the disk has confirmed: each PUBREC and each PUBCOMP of a durable session comes
/// behind one more, and those of a transient session need none.
#[test]
fn no_acknowledgement_of_a_durable_exchange_leaves_before_its_sync() {
    let data = DataDirectory::new();
    let broker = Broker::start_in(&data, &["--shards", "1", "--durability", "sync"]);
    let (mut publisher, _) = Client::resume(&broker, "sensor");
    for id in 1..=20 {
        let before = commits(&broker);
        publisher.publish(id, "t/a", "22.5");
        publisher.expect(0x50, &[0, id]);
        let behind_pubrec = commits(&broker);
        assert!(behind_pubrec > before, "PUBREC {id} came behind commit {behind_pubrec}, as all before it");
        publisher.release(id);
        assert!(commits(&broker) > behind_pubrec, "PUBCOMP {id} came without a commit of its own");
    }
    let before = commits(&broker);
    Client::transient(&broker, "passer-by").publish_whole(1, "t/a", "22.5");
    assert_eq!(commits(&broker), before, "nothing of this is to outlive the broker");
}

#[test]
fn retained_messages_outlive_kill_9() {
    let data = DataDirectory::new();
    let flags = ["--shards", "2"];
    let broker = Broker::start_in(&data, &flags);
    Client::transient(&broker, "sensor").retain(1, "t/a", "22.5");
    broker.kill();
    let broker = Broker::start_in(&data, &flags);
    let mut subscriber = Client::transient(&broker, "dash");
    subscriber.subscribe("t/a");
    // It comes with the QoS that it was published with, which is 1.
    subscriber.expect(0x33, b"\0\x03t/a\0\x0122.5");
}

#[test]
fn nothing_is_kept_without_durability() {
    let data = DataDirectory::new();
    let flags = ["--shards", "1", "--durability", "none"];
    leave_messages(&data, &flags, 2);
    assert!(!data.path().exists());
    let broker = Broker::start_in(&data, &flags);
    assert!(!Client::resume(&broker, "dash").1);
}

#[test]
fn another_number_of_shards_finds_the_same_state() {
    let data = DataDirectory::new();
    leave_messages(&data, &["--shards", "1"], 5);
    for (shards, generation) in [("3", "log-000002"), ("2", "log-000003")] {
        let broker = Broker::start_in(&data, &["--shards", shards]);
        broker.wait_for_line("was dealt out to ");
        broker.kill();
        let entries = fs::read_dir(data.path()).expect("a data directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["lock", generation]);
    }
    let broker = Broker::start_in(&data, &["--shards", "2"]);
    assert_eq!(take_messages(&broker, 5), numbers(5));
}

#[test]
fn an_orderly_end_loses_nothing_either() {
    let data = DataDirectory::new();
    let broker = Broker::start_in(&data, &["--shards", "1"]);
    let (mut subscriber, _) = Client::resume(&broker, "dash");
    subscriber.subscribe("t/a");
    broker.signal("TERM");
    drop(subscriber);
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("log shard=0 records=") && log.contains(" failure=none commits="), "{log}");
    let broker = Broker::start_in(&data, &["--shards", "1"]);
    assert!(Client::resume(&broker, "dash").1);
}

#[test]
fn a_data_directory_has_one_broker() {
    let data = DataDirectory::new();
    let broker = Broker::start_in(&data, &["--shards", "1"]);
    let (code, text) = refused_start(&["--listen", "127.0.0.1:0", "--data-dir", data.as_str()]);
    assert_eq!(code, Some(1), "{text}");
    for part in [data.as_str(), &format!("held by process {}", broker.process()), "--data-dir"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = refused_start(&["log", "verify", data.as_str()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("held by process"), "{text}");
}

#[test]
fn a_data_directory_has_to_be_writable() {
    // Where not even root can make one.
    let (code, text) = refused_start(&["--listen", "127.0.0.1:0", "--data-dir", "/proc/oncemq"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/proc/oncemq is not writable") && text.contains("--durability none"), "{text}");
}

#[test]
fn damage_before_the_tail_is_refused_and_can_be_salvaged() {
    let data = DataDirectory::new();
    leave_messages(&data, &["--shards", "1"], 9);
    let segment = segments(&data).remove(0);
    let file = OpenOptions::new().read(true).write(true).open(&segment).expect("a segment");
    // In the second batch: the one that follows the first, behind the header of the segment.
    let mut bytes = [0; 3 * BLOCK_BYTES];
    file.read_exact_at(&mut bytes, 0).expect("several batches");
    let place = 2 * BLOCK_BYTES + 100;
    file.write_all_at(&[bytes[place] ^ 0x10], place as u64).expect("written");
    let text = refused_in(&data);
    for part in [&*segment.to_string_lossy(), "damaged at offset 8192", "--recover salvage"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let verified = inspect(&["verify", data.as_str()]);
    assert!(!verified.0 && verified.1.contains("damaged at offset 8192"), "{verified:?}");
    let broker = Broker::start_in(&data, &["--shards", "1", "--recover", "salvage"]);
    broker.wait_for_line("from offset 8192 to 12288 is lost");
    broker.wait_for_line("the damaged logs are kept in ");
    broker.kill();
    assert!(data.path().join("damaged-000001/COMPLETE").exists());
    Broker::start_in(&data, &["--shards", "1"]).kill();
}

#[test]
fn a_torn_tail_is_cut_off() {
    let data = DataDirectory::new();
    leave_messages(&data, &["--shards", "1"], 4);
    let segment = segments(&data).pop().expect("a segment");
    let used = fs::read(&segment).expect("a segment").iter().rposition(|&byte| byte != 0).expect("a batch");
    let file = OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.write_all_at(&[0xFF], used as u64 - 8).expect("written");
    let broker = Broker::start_in(&data, &["--shards", "1"]);
    let line = broker.wait_for_line("ends in an interrupted write");
    assert!(line.contains(&*segment.to_string_lossy()), "{line}");
    broker.kill();
    assert!(fs::metadata(&segment).expect("a segment").len() < used as u64);
    Broker::start_in(&data, &["--shards", "1"]).kill();
}

#[test]
fn a_log_of_a_newer_version_is_refused() {
    let data = DataDirectory::new();
    leave_messages(&data, &["--shards", "1"], 2);
    let segment = segments(&data).remove(0);
    let mut header = fs::read(&segment).expect("a segment");
    header.truncate(64);
    header[8..10].copy_from_slice(&7u16.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    let file = OpenOptions::new().write(true).open(&segment).expect("a segment");
    file.write_all_at(&header, 0).expect("written");
    let text = refused_in(&data);
    assert!(text.contains("has format 7, which only a newer version"), "{text}");
}

#[test]
fn a_limit_of_file_sizes_fails_the_log_and_nothing_else() {
    let data = DataDirectory::new();
    // A segment finds no space from the first on; the shell counts in blocks of 512 or 1,024 bytes.
    let broker = command(&data, &["--shards", "1"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 256 && exec \"$@\"", "sh"]).arg(broker.get_program()).args(broker.get_args());
    let broker = Broker::run(limited);
    let mut refused = Client::connecting(&broker, "sensor", false);
    assert!(!refused.remaining().starts_with(&[0x20, 2, 0, 0]), "no session that cannot be kept");
    let line = broker.wait_for_line("the log of shard 0 failed in ");
    assert!(line.contains("0000000001.segment") && line.contains("free space"), "{line}");
    let mut transient = Client::transient(&broker, "dash");
    transient.subscribe("t/a");
    let mut publisher = Client::transient(&broker, "other");
    publisher.publish_whole(1, "t/a", "22.5");
    assert_eq!(transient.take_messages(1), ["22.5"]);
}

#[test]
fn whole_logs_are_verified_and_shown() {
    let data = DataDirectory::new();
    leave_messages(&data, &["--shards", "1"], 3);
    let (is_whole, text) = inspect(&["verify", data.as_str()]);
    assert!(is_whole && text.starts_with("shard 0: whole; segments="), "{text}");
    let (_, dumped) = inspect(&["dump", data.as_str()]);
    assert!(dumped.contains("dash") && dumped.contains("t/a"), "{dumped}");
    let (_, json) = inspect(&["dump", "--json", data.as_str()]);
    assert!(json.lines().count() == dumped.lines().count() && json.starts_with('{'), "{json}");
    let (_, statistics) = inspect(&["stats", data.as_str()]);
    assert!(statistics.contains("records"), "{statistics}");
    let nothing = DataDirectory::new();
    let (code, text) = refused_start(&["log", "stats", nothing.as_str()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is not the data directory of a broker"), "{text}");
}

/// What a broker says that has to refuse this data directory.
fn refused_in(data: &DataDirectory) -> String {
    let output = command(data, &["--shards", "1"]).output().expect("the broker can be started");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `oncemq log`; whether it succeeded, and what it printed.
fn inspect(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oncemq")).arg("log").args(arguments).output().expect("it runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}
