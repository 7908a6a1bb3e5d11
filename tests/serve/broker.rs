//! A real broker process for one test, on a port and with a data directory of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long anything may take before the test counts as hung. Not a measure: everything here takes milliseconds.
pub(crate) const HUNG: Duration = Duration::from_secs(60);

/// Segments of the tests' logs: the smallest, so that they are quickly made.
const SEGMENT_BYTES: &str = "1MiB";

/// A data directory, removed when dropped.
pub(crate) struct DataDirectory {
    path: PathBuf,
}

impl DataDirectory {
    /// A directory that does not exist yet.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("oncemq-serve-{}-{number}", std::process::id());
        Self { path: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn as_str(&self) -> &str {
        self.path.to_str().expect("a readable name")
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // A broker that was refused has made none.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    process: Child,
    /// Of plain TCP, and behind it those of WebSockets and of TLS.
    addresses: Vec<String>,
    log: Receiver<String>,
    /// Dropped after the process was killed.
    _data: Option<DataDirectory>,
}

impl Broker {
    /// Starts a broker with these flags on a free loopback port and waits until it is ready.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let data = DataDirectory::new();
        let mut broker = Self::start_in(&data, flags);
        broker._data = Some(data);
        broker
    }

    /// As [`start`](Self::start), with a data directory that outlives it.
    pub(crate) fn start_in(data: &DataDirectory, flags: &[&str]) -> Self {
        Self::run(command(data, flags))
    }

    /// Waits until the broker that the command starts is ready.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the broker can be started");
        let stderr = process.stderr.take().expect("standard error is piped");
        let (lines, log) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut seen = Vec::new();
        let addresses = loop {
            let line = log.recv_timeout(HUNG).unwrap_or_else(|_| panic!("not ready: {seen:?}"));
            if let Some((_, addresses)) = line.split_once("ready on ") {
                break addresses.trim().to_owned();
            }
            seen.push(line);
        };
        // What came before the ready line is part of the log, too.
        let (lines, replayed) = channel();
        for line in seen.into_iter().chain([format!("ready on {addresses}")]) {
            lines.send(line).expect("the receiver is here");
        }
        thread::spawn(move || log.iter().try_for_each(|line| lines.send(line)));
        let addresses = addresses.split(' ').map(str::to_owned).collect();
        Self { process, addresses, log: replayed, _data: None }
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> TcpStream {
        Self::connect_to(&self.addresses[0])
    }

    /// A connection to where it serves WebSockets.
    pub(crate) fn connect_web_socket(&self) -> TcpStream {
        self.connect_as("ws")
    }

    /// A connection to where it serves this scheme.
    pub(crate) fn connect_as(&self, scheme: &str) -> TcpStream {
        let rest = |address: &'_ String| {
            let rest = address.strip_prefix(scheme)?.strip_prefix("://")?;
            Some(rest.split('/').next().unwrap_or_default().to_owned())
        };
        Self::connect_to(&self.addresses.iter().find_map(rest).expect("such an address"))
    }

    fn connect_to(address: &str) -> TcpStream {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(HUNG)).expect("a socket");
        stream
    }

    /// Sends it a signal, by name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.process.id())]).status().expect("a shell");
        assert!(status.success());
    }

    /// Has it read its files again, and waits until that is done.
    pub(crate) fn reload(&self) {
        self.signal("HUP");
        self.wait_for_line("what could be read again is in force");
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started");
    }

    /// Waits for a line of its log that contains `part`.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(HUNG).unwrap_or_else(|_| panic!("no line with {part}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Waits until it has ended; its exit code and its log.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let code = self.process.wait().expect("it was started").code();
        (code, self.log.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What starts a broker with these flags on a free loopback port.
pub(crate) fn command(data: &DataDirectory, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncemq"));
    command
        .args(["--listen", "127.0.0.1:0", "--segment-bytes", SEGMENT_BYTES, "--data-dir", data.as_str()])
        .args(flags);
    command
}

/// Starts a broker that has to refuse these flags, with no others; its exit code and what it said.
pub(crate) fn refused_start(flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oncemq")).args(flags).output().expect("the broker can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// CONNECT with clean start, keep-alive 60 and no properties, at any protocol level.
pub(crate) fn connect(level: u8, client_id: &str) -> Vec<u8> {
    connect_as(b"MQTT", level, client_id)
}

/// As [`connect`], under any protocol name.
pub(crate) fn connect_as(protocol_name: &[u8], level: u8, client_id: &str) -> Vec<u8> {
    let mut body = vec![0, protocol_name.len() as u8];
    body.extend_from_slice(protocol_name);
    body.extend_from_slice(&[level, 0b10, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
    body.extend_from_slice(client_id.as_bytes());
    let mut frame = vec![0x10, body.len() as u8];
    frame.append(&mut body);
    frame
}

/// The next `N` bytes.
pub(crate) fn read_exactly<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).expect("an answer");
    bytes
}
