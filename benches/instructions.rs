//! Instructions of the processor for one QoS 2 message inside of a shard, counted by valgrind: what changes here has changed in
//! the code, whatever the machine does meanwhile.
//!
//! The shards and clients are those of `tests/allocations`, and only what the shards do is counted: of both hops of each message all
//! eight packets, the records in the log and the letters between shards, but not the loop around them nor the kernel. Each load
//! runs in a process of its own under callgrind, after a warm-up that is not counted. The table sets the counts beside those
//! in `benches/instructions.txt`. They are exact for one compiler, one C library and one valgrind; others move all of them a
//! little. Nothing is judged.
//!
//!     cargo bench --bench instructions               print the table
//!     cargo bench --bench instructions -- --save     and keep the counts as those to compare with
//!
//! valgrind is called without a crate in between: the one that is maintained (gungraun) needs a runner of its own, whose 200
//! packages take longer to build than all of this bench takes. Without `--bench`, as under `cargo test`, a few rounds of each
//! load without valgrind show that it works.

#[path = "../tests/allocations/fleet.rs"]
#[expect(dead_code, reason = "the tests ask for more of it")]
mod fleet;
#[path = "../tests/allocations/loads.rs"]
mod loads;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs, process};

use oncemq::proto::Version;

use fleet::Durability;
use loads::Load;

/// The counts that were kept.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// Rounds until everything has grown.
const WARM_UP_ROUNDS: u64 = 50;

/// Rounds that count.
const ROUNDS: u64 = 50;

/// What the function is called in the program, whatever the compiler adds to that, in which valgrind counts.
const COUNTED: &str = "*counting*inside*";

const LOADS: [(&str, Start); 4] = [
    ("pairs", |version, durability| Load::pairs(version, durability, 1)),
    ("pairs across 2 shards", |version, durability| Load::pairs(version, durability, 2)),
    ("fan-out of 100", Load::fan_out),
    ("fan-in of 100", Load::fan_in),
];

type Start = fn(Version, Durability) -> Load;

/// A load with its name in the table and on the command line.
struct Case {
    name: String,
    start: Start,
    version: Version,
    durability: Durability,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let cases = cases();
    if let [flag, name] = &arguments[..]
        && flag == "--count"
    {
        let case = cases.iter().find(|case| case.name == *name).ok_or("no such load")?;
        let mut load = (case.start)(case.version, case.durability);
        load.repeat(WARM_UP_ROUNDS);
        counting::begin();
        println!("{}", load.repeat(ROUNDS));
        return Ok(());
    }
    if !has("--bench") {
        for case in cases {
            (case.start)(case.version, case.durability).repeat(2);
        }
        return Ok(());
    }
    let baseline = fs::read_to_string(BASELINE).unwrap_or_default();
    let mut kept = format!(
        "# Instructions for each delivered QoS 2 message, kept by `cargo bench --bench instructions -- --save`.\n# {}, {}\n",
        first_line("rustc", &["--version"])?,
        first_line("valgrind", &["--version"])?,
    );
    println!("| QoS 2 load | instructions per delivery | kept before | change |\n|---|---|---|---|");
    for case in cases {
        let count = case.count()?;
        writeln!(kept, "{}: {count:.0}", case.name)?;
        let before: Option<f64> =
            baseline.lines().find_map(|line| line.strip_prefix(&case.name)?.strip_prefix(": ")?.parse().ok());
        match before {
            Some(before) => {
                let change = (count / before - 1.0) * 100.0;
                println!("| {} | {count:.0} | {before:.0} | {change:+.1} % |", case.name);
            }
            None => println!("| {} | {count:.0} | – | – |", case.name),
        }
    }
    if has("--save") {
        fs::write(BASELINE, kept)?;
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (load, start) in LOADS {
        for (version, protocol) in [(Version::V311, "MQTT 3.1.1"), (Version::V5, "MQTT 5.0")] {
            for (durability, log) in [(Durability::None, "no log"), (Durability::Logged, "logged")] {
                cases.push(Case { name: format!("{load}, {protocol}, {log}"), start, version, durability });
            }
        }
    }
    cases
}

impl Case {
    /// Runs the load under valgrind; the instructions for one delivered message.
    fn count(&self) -> Result<f64, Box<dyn Error>> {
        let counts = env::temp_dir().join(format!("oncemq-instructions-{}", process::id()));
        let done = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(format!("--callgrind-out-file={}", counts.display()))
            .arg(env::current_exe()?)
            .args(["--count", &self.name])
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        if !done.status.success() {
            return Err(format!("{}: {}", self.name, String::from_utf8_lossy(&done.stderr)).into());
        }
        let instructions = total(&counts)?;
        fs::remove_file(&counts)?;
        let delivered: u64 = String::from_utf8(done.stdout)?.trim().parse()?;
        Ok(instructions as f64 / delivered as f64)
    }
}

/// The sum in the last lines of what callgrind writes.
fn total(counts: &Path) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(counts)?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind wrote no sum")?;
    match total.trim().parse()? {
        0 => Err(format!("nothing was counted: valgrind knows no function {COUNTED}").into()),
        total => Ok(total),
    }
}

fn first_line(command: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(command).args(arguments).output().map_err(|error| format!("{command}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.lines().next().unwrap_or_default().to_owned())
}

/// Where valgrind counts.
mod counting {
    use std::cell::Cell;
    use std::hint::black_box;

    thread_local! {
        static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    }

    /// From here on what happens inside of [`counted`] counts.
    pub(super) fn begin() {
        IS_COUNTING.set(true);
    }

    /// Runs a piece of code, a call of a shard, where valgrind sees it.
    pub(super) fn counted<R>(code: impl FnOnce() -> R) -> R {
        if !IS_COUNTING.get() {
            return code();
        }
        let mut code = Some(code);
        let mut result = None;
        inside(&mut || result = code.take().map(|code| code()));
        result.expect("the code has run")
    }

    /// The one function that valgrind looks for: not one for each piece of code, and not left before that has come back.
    #[inline(never)]
    fn inside(code: &mut dyn FnMut()) {
        code();
        black_box(());
    }
}
