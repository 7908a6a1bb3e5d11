//! A disk that is really full: a file system in memory, in a mount namespace of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::broker::{Broker, DataDirectory, command};
use crate::session::Client;

/// The namespace; it ends when dropped, and the file system with it.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    /// A file system at the place of the data directory; none where this machine lets nobody make namespaces.
    fn mount(data: &DataDirectory, size: &str) -> Option<Self> {
        fs::create_dir(data.path()).expect("a place to mount");
        let script = format!("mount -t tmpfs -o size={size} none \"$0\" && echo mounted && exec sleep 600");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, data.as_str()])
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe");
        let disk = Self { holder };
        (line.trim() == "mounted").then_some(disk)
    }

    /// The same command, as it runs where the file system is.
    fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("nsenter");
        within
            .args(["--preserve-credentials", "--user", "--mount", "--target", &self.holder.id().to_string(), "--"])
            .arg(command.get_program())
            .args(command.get_args());
        within
    }

    fn grow(&self, data: &DataDirectory, size: &str) {
        let mut remount = Command::new("mount");
        remount.args(["-o", &format!("remount,size={size}"), data.as_str()]);
        assert!(self.within(&remount).status().expect("nsenter comes with unshare").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Both fail only if it has ended, as it should not have.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_full_disk_ends_acknowledgements_and_loses_none() {
    let data = DataDirectory::new();
    // Room for two segments and not for three.
    let Some(disk) = SmallDisk::mount(&data, "3m") else {
        // The rest of what a full disk does is tested with limits of file sizes and with planted faults.
        println!("nothing was tested: there is no unshare here, or nobody may use it");
        return;
    };
    let start = || Broker::run(disk.within(&command(&data, &["--shards", "1"])));
    let broker = start();
    let (mut dash, _) = Client::resume(&broker, "dash");
    dash.subscribe("t/a");
    dash.leave();
    let (mut sensor, _) = Client::resume(&broker, "sensor");
    let acknowledged = (0..1000).take_while(|number| sensor.try_publish_whole(1, "t/a", &number.to_string())).count();
    assert!((1..1000).contains(&acknowledged), "{acknowledged}");
    let line = broker.wait_for_line("the log of shard 0 failed in ");
    assert!(line.contains("No space left on device") && line.contains("free space"), "{line}");
    broker.kill();
    disk.grow(&data, "64m");
    let broker = start();
    let (mut dash, is_present) = Client::resume(&broker, "dash");
    assert!(is_present);
    let expected: Vec<_> = (0..acknowledged).map(|number| number.to_string()).collect();
    assert_eq!(dash.take_messages(acknowledged), expected);
    dash.ping();
}
