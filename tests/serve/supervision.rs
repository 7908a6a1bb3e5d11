//! What a service manager hears of the broker.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::{env, fs, process};

use crate::broker::{Broker, DataDirectory, HUNG, command};

/// The service manager's end.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        // The path of a socket has to be short.
        let path = env::temp_dir().join(format!("oncemq-notify-{}", process::id()));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(HUNG)).expect("a socket");
        Self { path, socket }
    }

    /// The next thing that is said, fed watchdogs left out.
    fn hears(&self) -> String {
        loop {
            let said = self.hears_anything();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }

    fn hears_anything(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("the broker says something");
        String::from_utf8_lossy(&message[..length]).trim_end().to_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Left behind it would be in nobody's way but the next process's with this number.
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_manager_hears_when_the_broker_is_ready_reloads_goes_on_and_stops() {
    let data = DataDirectory::new();
    let manager = Manager::new();
    let mut command = command(&data, &["--shards=2"]);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "20000").env_remove("WATCHDOG_PID");
    let broker = Broker::run(command);
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"), "{ready}");
    for _ in 0..3 {
        assert_eq!(manager.hears_anything(), "WATCHDOG=1");
    }
    broker.signal("HUP");
    let reloading = manager.hears();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hears(), ready);
    broker.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=taking leave of clients");
    assert_eq!(broker.wait().0, Some(0));
}
