//! Holds the statement tables, `v311.md` and `v5.md`, against the tree.
//!
//! A table has one row for each numbered statement of its standard: number, whom it binds, what it says in our words, and
//! the tests that prove it. The checks here show that every row is well formed, that the tests which it names are there, that
//! each number cited in `src/` and `tests/` is one of a table, and that the statements without a test are as many as
//! `deviations.md` says, so that their number changes on purpose only.
//!
//! They do not show that a test proves its statement: that is for the reader.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const README: &str = "README.md";
const DEVIATIONS: &str = "tests/spec/deviations.md";
const TABLES: [Table; 2] =
    [Table { version: "3.1.1", path: "tests/spec/v311.md" }, Table { version: "5.0", path: "tests/spec/v5.md" }];

/// Where the statements of one version stand.
struct Table {
    version: &'static str,
    path: &'static str,
}

/// The number of a statement: chapter, section, subsection, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number([u16; 4]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Binds {
    Server,
    Both,
    Client,
}

#[derive(PartialEq, Eq, Debug)]
enum Proof {
    /// `path::function` each.
    Tests(Vec<String>),
    /// No test yet; the row says what is missing.
    Open,
    /// It binds clients only.
    NotOurs,
}

struct Row {
    number: Number,
    binds: Binds,
    proof: Proof,
}

#[test]
fn rows_are_well_formed_and_in_order() {
    for table in &TABLES {
        let numbers: Vec<Number> = rows_of(table).iter().map(|row| row.number).collect();
        let misplaced: Vec<_> = numbers.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
        assert!(misplaced.is_empty(), "{}: twice or out of order: {misplaced:?}", table.path);
    }
}

#[test]
fn named_tests_exist() {
    let missing: Vec<String> = named_tests().into_iter().filter(|test| !is_test(test)).collect();
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn cited_numbers_exist() {
    let known: BTreeSet<Number> = TABLES.iter().flat_map(rows_of).map(|row| row.number).collect();
    let mut unknown = Vec::new();
    for file in ["src", "tests"].into_iter().flat_map(|directory| files_below(&root().join(directory))) {
        let text = fs::read_to_string(&file).expect("sources are text");
        let cited =
            text.lines().enumerate().flat_map(|(index, line)| citations(line).map(move |number| (index, number)));
        unknown.extend(
            cited
                .filter(|(_, number)| !known.contains(number))
                .map(|(index, number)| format!("{}:{}: {number:?}", file.display(), index + 1)),
        );
    }
    assert!(unknown.is_empty(), "cited, but in no table:\n{}", unknown.join("\n"));
}

#[test]
fn open_rows_are_as_many_as_the_deviations_say() {
    let text = read(DEVIATIONS);
    let stated = text.lines().find_map(|line| line.strip_prefix("Open rows: ")).expect("a line `Open rows: n`");
    assert_eq!(open_rows().to_string(), stated, "change the number in {DEVIATIONS} if you mean it");
}

/// The README states the sizes; whoever changes them finds the new sentence in the failure.
#[test]
fn the_readme_states_the_sizes() {
    let [old, new] = TABLES.each_ref().map(rows_of);
    let ours = old.iter().chain(&new).filter(|row| row.binds != Binds::Client).count();
    let open = open_rows();
    let sentence = format!(
        "`tests/spec` lists the {} numbered statements of MQTT {} and the {} of MQTT {}: of the {ours} that bind a server, {} \
         are proven by {} named tests, {open} are open, and {} deviations are explained.",
        old.len(),
        TABLES[0].version,
        new.len(),
        TABLES[1].version,
        ours - open,
        named_tests().len(),
        deviations(),
    );
    println!("{sentence}");
    let readme = read(README).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(readme.contains(&sentence), "README.md should say:\n{sentence}");
}

fn open_rows() -> usize {
    TABLES.iter().flat_map(rows_of).filter(|row| row.proof == Proof::Open).count()
}

/// Rows of the table of deviations: those that begin with a number.
fn deviations() -> usize {
    read(DEVIATIONS).lines().filter(|line| line.starts_with("| MQTT-")).count()
}

fn named_tests() -> BTreeSet<String> {
    let tests = TABLES.iter().flat_map(rows_of).filter_map(|row| match row.proof {
        Proof::Tests(tests) => Some(tests),
        Proof::Open | Proof::NotOurs => None,
    });
    tests.flatten().collect()
}

fn rows_of(table: &Table) -> Vec<Row> {
    let text = read(table.path);
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with("| MQTT-"));
    rows.map(|(index, line)| Row::parse(line).unwrap_or_else(|why| panic!("{}:{}: {why}", table.path, index + 1)))
        .collect()
}

impl Row {
    fn parse(line: &str) -> Result<Self, String> {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, binds, words, proof] = cells[..] else {
            return Err(format!("{} cells instead of 4", cells.len()));
        };
        let number = match Number::parse(number.trim_start_matches("MQTT-")) {
            Some((number, "")) => number,
            Some(_) | None => return Err(format!("`{number}` is no number")),
        };
        if words.is_empty() {
            return Err("it says nothing".into());
        }
        let binds = match binds {
            "server" => Binds::Server,
            "both" => Binds::Both,
            "client" => Binds::Client,
            other => return Err(format!("it binds `{other}`")),
        };
        let proof = Proof::parse(proof)?;
        if (binds == Binds::Client) != (proof == Proof::NotOurs) {
            return Err("exactly the statements that bind clients only have no test".into());
        }
        Ok(Self { number, binds, proof })
    }
}

impl Proof {
    fn parse(cell: &str) -> Result<Self, String> {
        if cell == "–" {
            return Ok(Self::NotOurs);
        }
        if let Some(missing) = cell.strip_prefix("open: ") {
            return if missing.is_empty() { Err("open, but why?".into()) } else { Ok(Self::Open) };
        }
        let name = |test: &str| {
            let test = test.strip_prefix('`')?.strip_suffix('`')?;
            test.contains("::").then(|| test.to_owned())
        };
        let tests: Option<Vec<String>> = cell.split(", ").map(name).collect();
        tests.map(Self::Tests).ok_or_else(|| format!("`{cell}` names no tests"))
    }
}

impl Number {
    /// The number at the start of `text`, behind `MQTT-`, and what follows it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (chapter, text) = leading_integer(text)?;
        let (section, text) = leading_integer(text.strip_prefix('.')?)?;
        let (subsection, text) = leading_integer(text.strip_prefix('.')?)?;
        let (place, text) = leading_integer(text.strip_prefix('-')?)?;
        Some((Self([chapter, section, subsection, place]), text))
    }
}

/// As the standard writes it.
impl fmt::Debug for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [chapter, section, subsection, place] = self.0;
        write!(formatter, "MQTT-{chapter}.{section}.{subsection}-{place}")
    }
}

fn leading_integer(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// The statements that a line cites; `MQTT-4.6.0-2..4` stands for three.
fn citations(line: &str) -> impl Iterator<Item = Number> + '_ {
    line.split("MQTT-").skip(1).filter_map(Number::parse).flat_map(|(first, rest)| {
        let [chapter, section, subsection, place] = first.0;
        let last = rest.strip_prefix("..").and_then(leading_integer).map_or(place, |(last, _)| last);
        (place..=last).map(move |place| Number([chapter, section, subsection, place]))
    })
}

/// Whether `path::function` is a test: in Rust a function under `#[test]`, in Python a method that unittest finds.
fn is_test(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let Ok(text) = fs::read_to_string(root().join(path)) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if path.ends_with(".py") {
        let definition = format!("def {name}(");
        return name.starts_with("test_") && lines.iter().any(|line| line.starts_with(&definition));
    }
    let definition = format!("fn {name}(");
    lines.iter().position(|line| line.starts_with(&definition)).is_some_and(|index| {
        let attributes = lines[..index].iter().rev().take_while(|line| line.starts_with("#["));
        attributes.into_iter().any(|line| *line == "#[test]")
    })
}

/// The files that may cite a statement, without what tools have put there, and without the tables themselves.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let is_table = TABLES.iter().any(|table| path == root().join(table.path));
        if name.starts_with('.') || is_table {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if [".rs", ".py", ".cjs", ".md"].iter().any(|ending| name.ends_with(ending)) {
            files.push(path);
        }
    }
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
