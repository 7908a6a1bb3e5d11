//! Clients on the Unix socket of the real process, and what becomes of its file.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::broker::{Broker, DataDirectory, HUNG, connect, refused_start};
use crate::http::get;
use crate::session::Client;
use crate::{CONNACK_V311, PINGREQ, PINGRESP};

/// A directory with a short name, as a socket's path may not be long.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("oncemq-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("a new directory");
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("mqtt")
    }

    fn flag(&self) -> String {
        format!("--unix-listen={}", self.path().display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is the temporary directory's to clean.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn reach(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the broker accepts");
    stream.set_read_timeout(Some(HUNG)).expect("a socket");
    stream
}

/// The first four bytes of the answer to a CONNECT of this version.
fn connack(stream: &mut UnixStream, level: u8, client_id: &str) -> [u8; 4] {
    stream.write_all(&connect(level, client_id)).expect("sent");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK");
    connack
}

#[test]
fn clients_of_both_versions_are_served_on_a_unix_socket_alone() {
    let place = Place::new("served");
    let broker = Broker::start(&["--shards=2", "--admin-listen=127.0.0.1:0", &place.flag()]);
    broker.wait_for_line(&format!(" unix:{}", place.path().display()));
    let mut old = reach(&place.path());
    assert_eq!(connack(&mut old, 4, "old"), CONNACK_V311);
    let mut new = reach(&place.path());
    assert_eq!(connack(&mut new, 5, "new")[2..], [0, 0]);
    let found = get(&broker, "/api/v1/clients/old").json();
    assert_eq!(found["connection"]["address"], "unix", "{found}");
    let (mut subscriber, _) = Client::resume_over(reach(&place.path()), "dashboard");
    subscriber.subscribe("t");
    let (mut publisher, _) = Client::resume(&broker, "sensor");
    for id in 1..=20 {
        publisher.publish_whole(id, "t", &id.to_string());
    }
    let expected: Vec<String> = (1..=20).map(|id| id.to_string()).collect();
    assert_eq!(subscriber.take_messages(20), expected);
    old.write_all(&PINGREQ).expect("sent");
    let mut answer = [0; 2];
    old.read_exact(&mut answer).expect("PINGRESP");
    assert_eq!(answer, PINGRESP);
}

#[test]
fn the_socket_is_there_as_long_as_the_broker() {
    let place = Place::new("there");
    let path = place.path();
    let broker = Broker::start(&["--unix-mode=0600", &place.flag()]);
    let metadata = fs::symlink_metadata(&path).expect("a file");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut client = reach(&path);
    assert_eq!(connack(&mut client, 4, "sensor"), CONNACK_V311);
    broker.signal("TERM");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("the broker ends the stream");
    drop(client);
    assert_eq!(broker.wait().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn what_a_killed_broker_has_left_is_replaced_and_a_live_one_is_not() {
    let place = Place::new("left");
    let killed = Broker::start(&[&place.flag()]);
    let mut client = reach(&place.path());
    assert_eq!(connack(&mut client, 4, "sensor"), CONNACK_V311);
    killed.kill();
    assert!(place.path().exists(), "nobody was there to remove it");
    let broker = Broker::start(&[&place.flag()]);
    let mut client = reach(&place.path());
    assert_eq!(connack(&mut client, 4, "sensor"), CONNACK_V311);
    let (code, text) = refused_start(&["--listen=127.0.0.1:0", "--durability=none", &place.flag()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--unix-listen ") && text.contains("somebody listens there already"), "{text}");
    client.write_all(&PINGREQ).expect("sent");
    let mut answer = [0; 2];
    client.read_exact(&mut answer).expect("PINGRESP");
    drop(broker);
    fs::remove_file(place.path()).expect("a killed broker leaves it");
    fs::write(place.path(), "precious").expect("a file");
    let (code, text) = refused_start(&["--listen=127.0.0.1:0", "--durability=none", &place.flag()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("something else than a socket is there"), "{text}");
    assert_eq!(fs::read_to_string(place.path()).expect("it is still there"), "precious");
}

/// A broker that has no address at all.
#[test]
fn a_unix_socket_is_enough() {
    let place = Place::new("alone");
    let data = DataDirectory::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_oncemq"));
    command.args(["--listen=none", "--data-dir", data.as_str(), &place.flag()]);
    let broker = Broker::run(command);
    broker.wait_for_line(&format!("ready on unix:{}", place.path().display()));
    assert_eq!(connack(&mut reach(&place.path()), 4, "sensor"), CONNACK_V311);
}

/// Those are for clients of the network.
#[test]
fn connections_of_a_unix_socket_are_not_counted_by_address() {
    let place = Place::new("counted");
    let broker = Broker::start(&["--max-connections-per-address=1", &place.flag()]);
    let mut clients: Vec<UnixStream> = (0..3).map(|_| reach(&place.path())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(connack(client, 4, &format!("local-{number}")), CONNACK_V311);
    }
    let mut first = broker.connect();
    first.write_all(&connect(4, "first")).expect("sent");
    assert_eq!(crate::read_exactly::<4>(&mut first), CONNACK_V311);
}
