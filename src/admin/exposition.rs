//! The text format of Prometheus, version 0.0.4: families of samples, each with its help and type in front.
//!
//! Names are the callers', and are checked by a test that parses all of it; label values may be anything.

use std::fmt::{Display, Write};

use crate::io::Distribution;

/// The media type of what comes out.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, from the start of the broker on; its name ends in `_total`.
    Counter,
    /// How often something took how long.
    Histogram,
}

/// A text that grows by families.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// The family that samples are added to.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// Labels with their values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

// Writing into a String cannot fail, so that what write! answers is dropped here.
impl Exposition {
    /// Begins a family; its samples come before the next one begins.
    pub(super) fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, name }
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Adds a histogram, in seconds.
    pub(super) fn distribution(&mut self, labels: Labels<'_>, distribution: &Distribution) {
        for (bound, count) in &distribution.within {
            self.line("_bucket", labels, Some(bound), count);
        }
        self.line("_bucket", labels, Some(&"+Inf"), distribution.count);
        self.line("_sum", labels, None, distribution.sum.as_secs_f64());
        self.line("_count", labels, None, distribution.count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&dyn Display>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let bound = bound.map(|bound| ("le", bound));
        let mut opening = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{opening}{label}=\"{value}\"");
            opening = ',';
        }
        let closing = if opening == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{closing} {value}");
    }
}

#[cfg(test)]
pub(super) mod parsing {
    //! A strict reader of the format, for tests.

    use std::collections::{BTreeMap, BTreeSet};

    /// The samples by name and labels as they stand there.
    pub(in super::super) type Samples = BTreeMap<String, f64>;

    /// Reads an exposition.
    ///
    /// # Panics
    /// If something about it is not as the format wants it.
    pub(in super::super) fn parse(text: &str) -> Samples {
        assert!(text.ends_with('\n'), "the last line ends, too");
        let mut samples = Samples::new();
        let mut families = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let (name, help) = help.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect("HELP first");
            assert!(!help.trim().is_empty(), "{name}: a help that says something");
            assert!(is_name(name), "{name}");
            assert!(families.insert(name.to_owned()), "{name}: one family, in one place");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name));
            let kind = kind.expect("TYPE behind HELP").trim();
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{name}: {kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (key, value) = line.rsplit_once(' ').expect("a value");
                let (sample, labels) = key.split_once('{').unwrap_or((key, "}"));
                let suffix = sample.strip_prefix(name).expect("a sample of the family");
                let suffixes: &[_] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                check_labels(labels.strip_suffix('}').expect("labels end"), line);
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(value.is_finite() && (kind == "gauge" || value >= 0.0), "{line}");
                assert!(samples.insert(key.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        check_histograms(&samples);
        samples
    }

    fn is_name(name: &str) -> bool {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    fn check_labels(mut labels: &str, line: &str) {
        while !labels.is_empty() {
            let (name, rest) = labels.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name), "{line}");
            let mut is_escaped = false;
            let end = rest.find(|c| {
                let ends = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends
            });
            labels = &rest[end.unwrap_or_else(|| panic!("{line}")) + 1..];
            if let Some(rest) = labels.strip_prefix(',') {
                assert!(!rest.is_empty(), "{line}");
                labels = rest;
            } else {
                assert!(labels.is_empty(), "{line}");
            }
        }
    }

    fn check_histograms(samples: &Samples) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (key, count) in samples {
            if let Some((name, labels)) = key.split_once("_bucket{") {
                let at = labels.rfind("le=\"").expect("a bound");
                let bound = labels[at + 4..].trim_end_matches("\"}").replace("+Inf", "inf");
                let others = labels[..at].trim_end_matches(',');
                let count_key =
                    if others.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{others}}}") };
                buckets.entry(count_key).or_default().push((bound.parse().expect("a number"), *count));
            }
        }
        for (count_key, mut buckets) in buckets {
            buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{count_key}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, samples[&count_key])), "{count_key}");
            assert!(samples.contains_key(&count_key.replacen("_count", "_sum", 1)), "{count_key}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_is_as_the_format_has_it() {
        let mut exposition = Exposition::default();
        exposition.single(Kind::Gauge, "up", "Whether it is up,\nby a \\ line.", 1);
        let mut family = exposition.family(Kind::Counter, "drops_total", "Drops.");
        family.sample(&[("shard", &0), ("reason", &"a \"b\" \\ c\n")], 7);
        let distribution =
            Distribution { within: vec![(0.00005, 2), (0.5, 3)], count: 4, sum: Duration::from_millis(1500) };
        exposition.family(Kind::Histogram, "took_seconds", "Time.").distribution(&[("shard", &1)], &distribution);
        exposition.family(Kind::Histogram, "bare_seconds", "Time.").distribution(&[], &Distribution::default());
        let text = exposition.into_text();
        let expected = r#"# HELP up Whether it is up,\nby a \\ line.
# TYPE up gauge
up 1
# HELP drops_total Drops.
# TYPE drops_total counter
drops_total{shard="0",reason="a \"b\" \\ c\n"} 7
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{shard="1",le="0.00005"} 2
took_seconds_bucket{shard="1",le="0.5"} 3
took_seconds_bucket{shard="1",le="+Inf"} 4
took_seconds_sum{shard="1"} 1.5
took_seconds_count{shard="1"} 4
# HELP bare_seconds Time.
# TYPE bare_seconds histogram
bare_seconds_bucket{le="+Inf"} 0
bare_seconds_sum 0
bare_seconds_count 0
"#;
        assert_eq!(text, expected);
        assert_eq!(parsing::parse(&text).len(), 10);
    }
}
