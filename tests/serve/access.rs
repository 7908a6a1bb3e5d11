//! Who may connect to the real process: password files, what becomes of those who are not in them, and how they change; and the
//! files that say what clients may do.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use oncemq::auth::{Scheme, StoredPassword};
use oncemq::config::{FREE_FAILURES, NEW_SALT_BYTES, OPEN_ATTEMPTS_MAX};

use crate::broker::{Broker, DataDirectory, refused_start};

/// An account of mosquitto's, with the password `secret`.
pub(crate) const ALICE: &str = "alice:$7$101$rrHbpR4Du5UizrHg$HyN1OtzqSbxNx7qN2JQq528hyB2rksMjJV4VOxKodHD3UjrlJO+279NHuH0MNLP+WlW7NY/b91BPh7f3CeCLqA==";

/// A password file, removed with its directory.
pub(crate) struct People {
    _directory: DataDirectory,
    path: PathBuf,
}

impl People {
    pub(crate) fn new(text: &str) -> Self {
        let directory = DataDirectory::new();
        fs::create_dir(directory.path()).expect("a new directory");
        let path = directory.path().join("people");
        fs::write(&path, text).expect("written");
        Self { _directory: directory, path }
    }

    pub(crate) fn flag(&self) -> String {
        format!("--password-file={}", self.path.display())
    }

    /// Runs `oncemq passwd` on it, with this on standard input.
    fn passwd(&self, flags: &[&str], user: &str, input: &str) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oncemq"));
        command.arg("passwd").args(flags).arg(&self.path).arg(user);
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be started");
        // One that deletes does not read it.
        let _ = process.stdin.take().expect("it is piped").write_all(input.as_bytes());
        process.wait().expect("it was started").success()
    }
}

/// CONNECT with clean start, and with user name and password if there are any.
pub(crate) fn connect_with(level: u8, credentials: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0b10, 0, 60];
    if level == 5 {
        body.push(0); // no properties
    }
    body.extend_from_slice(&[0, 1, b'c']);
    if let Some((user_name, password)) = credentials {
        body[7] |= 0b1100_0000;
        for text in [user_name, password] {
            body.extend_from_slice(&(text.len() as u16).to_be_bytes());
            body.extend_from_slice(text.as_bytes());
        }
    }
    [&[0x10, body.len() as u8], &body[..]].concat()
}

/// The code of the CONNACK that this client gets; the stream ends behind one that refuses it.
fn code_of(broker: &Broker, level: u8, credentials: Option<(&str, &str)>) -> u8 {
    let mut client = broker.connect();
    client.write_all(&connect_with(level, credentials)).expect("sent");
    let mut connack = [0; 4];
    client.read_exact(&mut connack).expect("CONNACK");
    assert_eq!((connack[0], connack[2]), (0x20, 0));
    if connack[3] != 0 {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the broker ends the stream");
        assert_eq!(4 + rest.len(), 2 + usize::from(connack[1]), "nothing comes behind it");
    }
    connack[3]
}

/// The code that each version has for this.
fn codes_of(broker: &Broker, credentials: Option<(&str, &str)>) -> [u8; 2] {
    [4, 5].map(|level| code_of(broker, level, credentials))
}

#[test]
fn who_has_an_account_is_let_in_and_nobody_else() {
    let bob = StoredPassword::new(Scheme::Argon2id, b"hunter2", [1; NEW_SALT_BYTES]);
    let carol = StoredPassword::new(Scheme::Scram, b"pencil", [2; NEW_SALT_BYTES]);
    let people = People::new(&format!("{ALICE}\nbob:{bob}\ncarol:{carol}\n"));
    let broker = Broker::start(&["--shards=1", &people.flag()]);
    broker.wait_for_line("access: 3 accounts of ");
    for (user_name, password) in [("alice", "secret"), ("bob", "hunter2"), ("carol", "pencil")] {
        assert_eq!(codes_of(&broker, Some((user_name, password))), [0, 0], "{user_name}");
    }
    for (credentials, codes) in
        [(Some(("alice", "hunter2")), [4, 0x86]), (Some(("dave", "secret")), [4, 0x86]), (None, [5, 0x87])]
    {
        assert_eq!(codes_of(&broker, credentials), codes, "{credentials:?}");
    }
    broker.signal("USR1");
    let line = broker.wait_for_line("counters gate ");
    assert!(line.contains("identified=6 refused_anonymous=2 refused_credentials=4 "), "{line}");
}

#[test]
fn clients_without_a_name_are_served_beside_accounts_on_request() {
    let people = People::new(ALICE);
    let broker = Broker::start(&["--shards=1", &people.flag(), "--allow-anonymous"]);
    broker.wait_for_line("and clients without a user name");
    assert_eq!(codes_of(&broker, None), [0, 0]);
    assert_eq!(codes_of(&broker, Some(("alice", "wrong"))), [4, 0x86]);
}

#[test]
fn without_accounts_anyone_on_this_machine_is_served() {
    let broker = Broker::start(&["--shards=1"]);
    broker.wait_for_line("access: anyone on this machine");
    for credentials in [None, Some(("anyone", "anything"))] {
        assert_eq!(codes_of(&broker, credentials), [0, 0]);
    }
}

#[test]
fn the_password_file_is_read_again_on_sighup() {
    let people = People::new("");
    let broker = Broker::start(&["--shards=1", &people.flag()]);
    let credentials = Some(("bob", "hunter2"));
    assert_eq!(code_of(&broker, 5, credentials), 0x86);
    assert!(people.passwd(&["--scram"], "bob", "hunter2\n"));
    assert!(people.passwd(&[], "carol", "pencil\n"));
    broker.reload();
    assert_eq!(codes_of(&broker, credentials), [0, 0]);
    assert!(people.passwd(&["-D"], "carol", ""));
    assert!(!people.passwd(&["-D"], "carol", ""), "she is gone");
    assert!(!people.passwd(&[], "carol", "\n"), "an empty password is none");
    // What is wrong changes nothing.
    fs::write(&people.path, "bob:hunter2\n").expect("written");
    broker.signal("HUP");
    let line = broker.wait_for_line("who could connect before still can");
    assert!(line.contains("people: line 1: the password is not hashed"), "{line}");
    assert_eq!(codes_of(&broker, credentials), [0, 0]);
}

#[test]
fn a_password_file_that_can_not_be_read_is_told() {
    let people = People::new(&format!("{ALICE}\nbob:hunter2\n"));
    for (file, told) in [
        (people.path.clone(), "people: line 2: the password is not hashed"),
        (people.path.with_extension("missing"), "people.missing: No such file"),
    ] {
        let file = file.to_str().expect("a readable name");
        let (code, text) = refused_start(&["--listen=127.0.0.1:0", "--durability=none", "--password-file", file]);
        assert_eq!(code, Some(1));
        assert!(text.contains("oncemq: --password-file ") && text.contains(told), "{text}");
    }
}

/// Who tries passwords is slowed, and stopped while many of his answers wait; who knows his is not in his way elsewhere.
#[test]
fn an_address_that_fails_often_is_held_back() {
    let people = People::new(ALICE);
    let broker = Broker::start(&["--shards=1", &people.flag()]);
    for _ in 0..=FREE_FAILURES {
        assert_eq!(code_of(&broker, 5, Some(("alice", "wrong"))), 0x86);
    }
    let mut clients: Vec<_> = (0..4 * OPEN_ATTEMPTS_MAX).map(|_| broker.connect()).collect();
    for client in &mut clients {
        client.write_all(&connect_with(5, Some(("alice", "wrong")))).expect("sent");
    }
    let codes = clients.into_iter().map(|mut client| {
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("CONNACK");
        connack[3]
    });
    let (busy, wrong): (Vec<u8>, Vec<u8>) = codes.partition(|code| *code == 0x89);
    assert!(!busy.is_empty() && wrong.iter().all(|code| *code == 0x86), "{busy:02x?} {wrong:02x?}");
    assert!(wrong.len() >= OPEN_ATTEMPTS_MAX as usize, "{wrong:02x?}");
    broker.signal("USR1");
    let line = broker.wait_for_line("counters gate ");
    assert!(line.contains(&format!("refused_busy={}", busy.len())), "{line}");
}

/// [MQTT-4.12.0-1]: an unknown method, and a known one where there are no accounts.
#[test]
fn an_authentication_method_that_is_not_served_is_refused() {
    let people = People::new(ALICE);
    for (flag, method) in [(people.flag(), "SCRAM-SHA-1"), ("--allow-anonymous".to_owned(), "SCRAM-SHA-256")] {
        let broker = Broker::start(&["--shards=1", &flag]);
        let mut block = vec![0x27, 0, 0, 0, 5, 0x15, 0, method.len() as u8];
        block.extend_from_slice(method.as_bytes());
        let mut greeting = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5, 0b10, 0, 60, block.len() as u8];
        greeting.append(&mut block);
        greeting.extend_from_slice(&[0, 1, b'c']);
        greeting[1] = (greeting.len() - 2) as u8;
        let mut client = broker.connect();
        client.write_all(&greeting).expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the broker ends the stream");
        assert_eq!(answer, [0x20, 3, 0, 0x8C, 0], "{method}");
    }
}

#[test]
fn an_acl_file_that_can_not_be_read_is_told() {
    let rules = People::new("topic read a\ntopic read a#\n");
    for (file, told) in [
        (rules.path.clone(), "people: line 2: + is a whole level of a topic filter, and # the last one"),
        (rules.path.with_extension("missing"), "people.missing: No such file"),
    ] {
        let file = file.to_str().expect("a readable name");
        let (code, text) = refused_start(&["--listen=127.0.0.1:0", "--durability=none", "--acl-file", file]);
        assert_eq!(code, Some(1));
        assert!(text.contains("oncemq: --acl-file ") && text.contains(told), "{text}");
    }
}

/// It holds for the first client, and from SIGHUP on for those who are there.
#[test]
fn the_acl_file_is_read_again_on_sighup() {
    let rules = People::new("topic read a\n");
    let broker = Broker::start(&["--shards=1", &format!("--acl-file={}", rules.path.display())]);
    broker.wait_for_line("acl: 1 rules of ");
    let mut client = broker.connect();
    client.write_all(&connect_with(5, None)).expect("sent");
    let mut connack = vec![0; 2];
    client.read_exact(&mut connack).expect("CONNACK");
    connack.resize(connack[1].into(), 0);
    client.read_exact(&mut connack).expect("CONNACK");
    for (text, line, code) in [
        ("topic read a\n", "acl: 1 rules of ", 0),
        ("topic write a\ntopic read b\n", "acl: 2 rules of ", 0x87),
        ("topic everything\ntopic all of it\n", "the rules that were read before stay in force", 0x87),
        ("topic all\ntopic read +\n", "acl: 2 rules of ", 0),
    ] {
        fs::write(&rules.path, text).expect("written");
        broker.signal("HUP");
        broker.wait_for_line(line);
        // The shard was told before the main thread hears of this.
        broker.signal("USR1");
        broker.wait_for_line("counters shard=0");
        // SUBSCRIBE to "a" with QoS 0, asking for no words.
        client.write_all(&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0]).expect("sent");
        let mut head = [0; 2];
        client.read_exact(&mut head).expect("SUBACK");
        let mut suback = vec![0; head[1].into()];
        client.read_exact(&mut suback).expect("SUBACK");
        assert_eq!((head[0], suback.last()), (0x90, Some(&code)), "{text}");
    }
}

#[test]
fn a_client_id_belongs_to_its_user() {
    let people = People::new(&["c:", "d:"].map(|user| ALICE.replacen("alice:", user, 1)).join("\n"));
    let broker = Broker::start(&["--shards=1", &people.flag(), "--allow-anonymous", "--client-id-rule=user"]);
    // All of them say that they are "c".
    for (credentials, codes) in [(Some(("c", "secret")), [0, 0]), (Some(("d", "secret")), [2, 0x85]), (None, [2, 0x85])]
    {
        assert_eq!(codes_of(&broker, credentials), codes, "{credentials:?}");
    }
    broker.signal("USR1");
    let line = broker.wait_for_line("counters gate ");
    assert!(line.contains(" refused_client_id=4 "), "{line}");
    let (code, text) = refused_start(&["--listen=127.0.0.1:0", "--durability=none", "--client-id-rule=user"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--client-id-rule: nobody has a user name"), "{text}");
}
