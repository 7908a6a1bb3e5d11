//! Checks `traps.md`: every trap has its row, and every test that a row names is in the tree.
//!
//! A row says `file::test`, in Rust and in Python alike; in Python the class stands between the two. What a test proves is
//! not judged here: that is for who reads it.

use std::collections::BTreeMap;
use std::path::Path;

const TRAPS: u32 = 54;

/// A row of the table.
#[derive(PartialEq, Eq, Debug)]
struct Row {
    number: u32,
    tests: Vec<String>,
    /// What has to be built before the rest of the trap can be tested.
    open: Option<String>,
}

#[test]
fn every_trap_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = read(root, "tests/spec/traps.md").expect("the table is in the tree");
    let rows: Vec<Row> = table.lines().filter_map(row).collect();
    let faults = faults(&rows, |file| read(root, file));
    assert!(faults.is_empty(), "tests/spec/traps.md:\n{}", faults.join("\n"));
}

fn read(root: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok()
}

/// The row on a line, if it begins with a number: `| 7 | words | tests |`.
fn row(line: &str) -> Option<Row> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let number = cells.next()?.parse().ok()?;
    let evidence = cells.nth(1).unwrap_or_default();
    // `open` comes last, behind a semicolon if there are tests too.
    let (tests, open) = match evidence.split_once("open: ") {
        Some((tests, open)) => (tests, Some(open.to_owned())),
        None => (evidence, None),
    };
    let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some(Row { number, tests, open })
}

/// All that is wrong with the rows, in words. `read` gives the text of a file of the tree.
fn faults(rows: &[Row], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut count_of = BTreeMap::new();
    for Row { number, tests, open } in rows {
        *count_of.entry(*number).or_insert(0) += 1;
        if tests.is_empty() && open.as_ref().is_none_or(String::is_empty) {
            faults.push(format!("trap {number} has no test and does not say what is open"));
        }
        for test in tests.iter().filter(|test| !exists(test, &read)) {
            faults.push(format!("trap {number} names {test}, which is not there"));
        }
    }
    for number in 1..=TRAPS {
        match count_of.remove(&number) {
            Some(1) => {}
            Some(count) => faults.push(format!("trap {number} has {count} rows")),
            None => faults.push(format!("trap {number} has no row")),
        }
    }
    faults.extend(count_of.keys().map(|number| format!("there is no trap {number}")));
    faults
}

/// Whether the file of `file::test` or `file::Class::test` has such a function.
fn exists(test: &str, read: impl Fn(&str) -> Option<String>) -> bool {
    let Some((file, path)) = test.split_once("::") else { return false };
    let Some(text) = read(file) else { return false };
    let has = |definition: String, ends: [char; 2]| {
        text.lines().filter_map(|line| line.trim_start().strip_prefix(&definition)).any(|rest| rest.starts_with(ends))
    };
    match path.split_once("::") {
        None => has(format!("fn {path}"), ['(', '<']),
        Some((class, method)) => has(format!("class {class}"), [':', '(']) && has(format!("def {method}"), ['(', ' ']),
    }
}

/// Each way in which the table may go wrong is noticed.
#[test]
fn faults_are_found() {
    let tree = |file: &str| match file {
        "a.rs" => Some("    fn first() {\n        fn longer_name() {"),
        "b.py" => Some("class Case(Base):\n    def test_it(self):"),
        _ => None,
    };
    let good = |number: u32| format!("| {number} | words | `a.rs::first` |");
    let whole: Vec<String> = (1..=TRAPS).map(good).collect();
    let check = |changed: usize, line: &str| {
        let mut lines = whole.clone();
        lines[changed - 1] = line.to_owned();
        let rows: Vec<Row> = lines.iter().flat_map(|lines| lines.lines()).filter_map(row).collect();
        faults(&rows, |file| tree(file).map(str::to_owned)).join("; ")
    };
    for line in [
        "| 3 | words | `a.rs::first`, `b.py::Case::test_it`; open: bridges |",
        "| 3 | words | open: bridges |",
        "no row\n| 3 | words | `a.rs::longer_name` |",
    ] {
        assert_eq!(check(3, line), "", "{line}");
    }
    for (line, expected) in [
        ("", "trap 3 has no row"),
        ("| 3 | words | `a.rs::first` |\n| 3 | words | open: bridges |", "trap 3 has 2 rows"),
        ("| 3 | words | |", "trap 3 has no test and does not say what is open"),
        ("| 3 | words | open: |", "trap 3 has no test and does not say what is open"),
        ("| 3 | words |", "trap 3 has no test and does not say what is open"),
        ("| 3 | words | `a.rs::longer` |", "trap 3 names a.rs::longer, which is not there"),
        ("| 3 | words | `c.rs::first` |", "trap 3 names c.rs::first, which is not there"),
        ("| 3 | words | `first` |", "trap 3 names first, which is not there"),
        ("| 3 | words | `b.py::Other::test_it` |", "trap 3 names b.py::Other::test_it, which is not there"),
        ("| 3 | words | `b.py::Case::test` |", "trap 3 names b.py::Case::test, which is not there"),
        ("| 3 | words | `a.rs::first` |\n| 55 | words | `a.rs::first` |", "there is no trap 55"),
    ] {
        assert_eq!(check(3, line), expected, "{line}");
    }
}
