//! How values of flags are written into a configuration file, so that reading it gives them back.

use std::fmt::Write;

/// One value: bare where TOML has it as a boolean or a number that reads back the same, otherwise a string.
pub(super) fn value(text: &str) -> String {
    let is_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    if is_number || matches!(text, "true" | "false") { text.to_owned() } else { string(text) }
}

/// Several values of one key.
pub(super) fn array<T: AsRef<str>>(texts: &[T]) -> String {
    let values: Vec<String> = texts.iter().map(|text| value(text.as_ref())).collect();
    format!("[{}]", values.join(", "))
}

/// A basic string.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                // Writing into a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A text that can stand in a comment behind a value.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, "\u{FFFD}")
}

/// A text as comments, broken between words where a line would get longer than a screen is wide.
pub(super) fn comment(text: &str) -> String {
    const COLUMNS: usize = 100;
    let mut lines = String::new();
    let mut columns = usize::MAX;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if columns.saturating_add(1 + length) > COLUMNS {
            if !lines.is_empty() {
                lines.push('\n');
            }
            lines.push('#');
            columns = 1;
        }
        lines.push(' ');
        lines.push_str(&one_line(word));
        columns += 1 + length;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in [
            "",
            "a b",
            "say \"no\"",
            "C:\\x",
            "tab\tline\nbell\u{7}\u{85}",
            "007",
            "-1",
            "+1",
            "1.2",
            "true",
            "ünï",
            "#",
        ] {
            let line = format!("key = {}\n", value(text));
            let table = DeTable::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}")).into_inner();
            let read = table.values().next().expect("a value").get_ref();
            let read = read.as_str().map(str::to_owned).unwrap_or_else(|| match read.as_bool() {
                Some(truth) => truth.to_string(),
                None => read.as_integer().expect("a number").to_string(),
            });
            assert_eq!(read, text);
        }
        assert_eq!(array(&["a", "2"]), r#"["a", 2]"#);
    }

    #[test]
    fn comments_are_broken_between_words() {
        let text = comment(&"word ".repeat(40));
        assert!(
            text.lines().count() > 1 && text.lines().all(|line| line.starts_with("# word") && line.len() <= 100),
            "{text}"
        );
        assert_eq!(comment("one\n two\u{7}"), "# one two\u{FFFD}\n");
    }
}
