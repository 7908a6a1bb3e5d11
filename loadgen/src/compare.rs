//! `compare`: two reports that were printed with `--json`, side by side: only what differs, and figures with their ratio.
//!
//! It does not judge what is better, nor whether the two runs were of the same load: what was asked of them differs in the
//! table, too, where it does.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::CompareArguments;
use crate::command::CommandError;

/// Runs the command; there is nothing that could be void.
pub(crate) fn run(arguments: &CompareArguments) -> Result<bool, CommandError> {
    let (first, second) = (read(&arguments.first)?, read(&arguments.second)?);
    let rows = rows(&first, &second);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for Row { name, first, second, ratio } in &rows {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("  x{ratio:.3}"));
        println!("{name:<width$}  {first:>16}  {second:>16}{ratio}");
    }
    Ok(true)
}

fn read(path: &Path) -> Result<Value, CommandError> {
    let unreadable = |reason: String| CommandError::Usage(format!("cannot read {}: {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    match serde_json::from_str(&text) {
        Ok(report @ Value::Object(_)) => Ok(report),
        Ok(_) => Err(unreadable("it is no report".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// One line: a value that differs.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    first: String,
    second: String,
    /// Of the second to the first, where both are numbers.
    ratio: Option<f64>,
}

/// What differs, in the order of the first report; what only the second has stands at its end.
fn rows(first: &Value, second: &Value) -> Vec<Row> {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    flatten("", first, &mut firsts);
    flatten("", second, &mut seconds);
    let find = |leaves: &[(String, &Value)], name: &str| -> Value {
        leaves.iter().find(|(other, _)| other == name).map_or(Value::Null, |(_, value)| (*value).clone())
    };
    let names = firsts.iter().chain(seconds.iter().filter(|(name, _)| firsts.iter().all(|(other, _)| other != name)));
    names
        .map(|(name, _)| (name, find(&firsts, name), find(&seconds, name)))
        .filter(|(_, first, second)| first != second)
        .map(|(name, first, second)| Row {
            name: name.clone(),
            ratio: ratio(&first, &second),
            first: shown(&first),
            second: shown(&second),
        })
        .collect()
}

/// The values that are no objects, by their names with dots between.
fn flatten<'a>(name: &str, value: &'a Value, into: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            into.push((name.to_owned(), value));
        }
    }
}

fn ratio(first: &Value, second: &Value) -> Option<f64> {
    let (first, second) = (first.as_f64()?, second.as_f64()?);
    (first != 0.0).then(|| second / first)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(fraction) if fraction.fract() != 0.0 => format!("{fraction:.2}"),
            Some(_) | None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_shown_and_figures_have_a_ratio() {
        let first = json!({"shape": "pairs", "window": 10, "latency": {"p50_us": 200.0, "p99_us": 1}, "broker": null});
        let second = json!({"shape": "mesh", "window": 10, "latency": {"p50_us": 50.5, "p99_us": 1}, "rate": 5});
        let row = |name: &str, first: &str, second: &str, ratio| Row {
            name: name.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
            ratio,
        };
        let mut found = rows(&first, &second);
        found.sort_by(|left, right| left.name.cmp(&right.name));
        assert_eq!(
            found,
            [
                row("latency.p50_us", "200.0", "50.50", Some(0.2525)),
                row("rate", "-", "5", None),
                row("shape", "pairs", "mesh", None)
            ]
        );
        assert_eq!(rows(&first, &first), []);
    }
}
