//! A report as one HTML page that needs nothing beside it: no network, no script; light or dark as the reader has it.
//!
//! Every figure stands in a `<data>` element that carries its exact value, as `--json` prints it, beside the rounded one that is
//! shown.

pub(crate) mod plot;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plot::Line;

const STYLE: &str = include_str!("page/style.css");

/// A page that is being written from top to bottom.
#[derive(Debug)]
pub(crate) struct Page {
    html: String,
}

/// What stands in a cell of a table.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Text(String),
    Figure { value: f64, shown: String },
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn count(count: u64) -> Self {
        Self::figure(count as f64, grouped(count as f64, 0))
    }

    /// Messages per second.
    pub(crate) fn rate(per_second: f64) -> Self {
        Self::figure(per_second, format!("{} /s", grouped(per_second, 0)))
    }

    /// With as many decimals as tell something.
    pub(crate) fn microseconds(microseconds: f64) -> Self {
        let decimals = if microseconds < 10.0 { 2 } else { 0 };
        Self::figure(microseconds, format!("{} µs", grouped(microseconds, decimals)))
    }

    pub(crate) fn milliseconds(milliseconds: f64) -> Self {
        Self::figure(milliseconds, format!("{} ms", grouped(milliseconds, 0)))
    }

    pub(crate) fn seconds(seconds: f64) -> Self {
        Self::figure(seconds, format!("{} s", grouped(seconds, 2)))
    }

    pub(crate) fn cpus(cpus: f64) -> Self {
        Self::figure(cpus, format!("{cpus:.2} CPUs"))
    }

    /// Shown in MiB from there on.
    pub(crate) fn bytes(bytes: u64) -> Self {
        const MIB: f64 = 1_048_576.0;
        let value = bytes as f64;
        let shown = match value < MIB {
            true => format!("{} bytes", grouped(value, 0)),
            false => format!("{} MiB", grouped(value / MIB, 1)),
        };
        Self::figure(value, shown)
    }

    fn figure(value: f64, shown: String) -> Self {
        Self::Figure { value, shown }
    }

    fn html(&self) -> String {
        match self {
            Self::Text(text) => escaped(text),
            Self::Figure { value, shown } => format!("<data value=\"{value}\">{shown}</data>"),
        }
    }
}

impl Page {
    /// A page with this title, and whether what it reports is good.
    pub(crate) fn new(title: &str, is_good: bool, verdict: &str) -> Self {
        let title = escaped(title);
        let class = if is_good { "balanced" } else { "void" };
        let head = "<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
        let mut html = String::new();
        put(&mut html, format_args!("<!doctype html>\n<html lang=\"en\">\n<head>\n{head}\n<title>{title}</title>\n"));
        put(&mut html, format_args!("<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"));
        put(&mut html, format_args!("<p class=\"verdict {class}\">{}</p>\n", escaped(verdict)));
        Self { html }
    }

    /// When and with which command the report was made.
    pub(crate) fn origin(&mut self, command: &str, now: SystemTime) {
        let time = utc(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        put(
            &mut self.html,
            format_args!("<p class=\"muted\"><time>{time}</time><br><code>{}</code></p>\n", escaped(command)),
        );
    }

    /// The few figures that matter most, large.
    pub(crate) fn key_figures(&mut self, figures: &[(&str, Cell)]) {
        self.html.push_str("<dl class=\"key\">\n");
        for (name, cell) in figures {
            put(&mut self.html, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escaped(name), cell.html()));
        }
        self.html.push_str("</dl>\n");
    }

    pub(crate) fn heading(&mut self, text: &str) {
        put(&mut self.html, format_args!("<h2>{}</h2>\n", escaped(text)));
    }

    /// Names and what they stand for, one to a row.
    pub(crate) fn facts(&mut self, rows: &[(&str, Cell)]) {
        self.html.push_str("<div class=\"scroll\"><table class=\"facts\">\n");
        for (name, cell) in rows {
            put(
                &mut self.html,
                format_args!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(name), cell.html()),
            );
        }
        self.html.push_str("</table></div>\n");
    }

    /// A table whose rows have a name and as many cells as there are columns.
    pub(crate) fn table(&mut self, columns: &[&str], rows: &[(&str, Vec<Cell>)]) {
        self.html.push_str("<div class=\"scroll\"><table>\n<tr><th></th>");
        for column in columns {
            put(&mut self.html, format_args!("<th scope=\"col\">{}</th>", escaped(column)));
        }
        self.html.push_str("</tr>\n");
        for (name, cells) in rows {
            put(&mut self.html, format_args!("<tr><th scope=\"row\">{}</th>", escaped(name)));
            for cell in cells {
                put(&mut self.html, format_args!("<td>{}</td>", cell.html()));
            }
            self.html.push_str("</tr>\n");
        }
        self.html.push_str("</table></div>\n");
    }

    /// Plots side by side where there is room; each with what it shows, its lines, and the SVG if there was anything to draw.
    pub(crate) fn plots(&mut self, plots: &[(&str, &[Line], Option<String>)]) {
        self.html.push_str("<div class=\"plots\">\n");
        for (caption, lines, svg) in plots {
            put(&mut self.html, format_args!("<figure>\n<figcaption><strong>{}</strong><br>", escaped(caption)));
            match svg {
                None => self.html.push_str("Nothing was measured.</figcaption>\n"),
                Some(svg) => {
                    for (number, line) in lines.iter().enumerate() {
                        put(
                            &mut self.html,
                            format_args!(
                                "<span class=\"legend line-{}\"><i></i>{}</span> ",
                                number + 1,
                                escaped(line.name)
                            ),
                        );
                    }
                    put(&mut self.html, format_args!("</figcaption>\n{svg}"));
                }
            }
            self.html.push_str("</figure>\n");
        }
        self.html.push_str("</div>\n");
    }

    /// Short texts, one below the other, if there are any.
    pub(crate) fn list<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_none() {
            return;
        }
        self.html.push_str("<ul>\n");
        for text in texts {
            put(&mut self.html, format_args!("<li>{}</li>\n", escaped(text)));
        }
        self.html.push_str("</ul>\n");
    }

    /// Ends the page with the whole report as `--json` prints it.
    pub(crate) fn finish(mut self, json: &str) -> String {
        put(
            &mut self.html,
            format_args!(
                "<details>\n<summary class=\"muted\">The report as <code>--json</code> prints it</summary>\n\
                 <pre id=\"json\">{}</pre>\n</details>\n</body>\n</html>\n",
                escaped(json)
            ),
        );
        self.html
    }
}

fn put(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("a text takes everything");
}

/// As text or as the value of an attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// With commas between the thousands.
fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let whole_end = plain.find('.').unwrap_or(plain.len());
    let mut grouped = String::with_capacity(plain.len() + whole_end / 3);
    for (place, letter) in plain.char_indices() {
        let left = whole_end.saturating_sub(place);
        if left > 0 && left.is_multiple_of(3) && grouped.ends_with(|before: char| before.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(letter);
    }
    grouped
}

/// The time in UTC, to the second, as ISO 8601 has it.
fn utc(since_epoch: Duration) -> String {
    const SECONDS_PER_DAY: u64 = 86_400;
    let seconds = since_epoch.as_secs();
    // Days in years that begin in March, so that a leap day is the last one, from 1 March of year 0; "chrono-Compatible Low-Level
    // Date Algorithms", civil_from_days.
    let days = seconds / SECONDS_PER_DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds % SECONDS_PER_DAY / 3_600, seconds % 3_600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_break_the_page() {
        let hostile = "</title><script>\"&";
        let mut page = Page::new(hostile, false, hostile);
        page.origin(hostile, UNIX_EPOCH);
        page.key_figures(&[(hostile, Cell::text(hostile))]);
        page.facts(&[(hostile, Cell::text(hostile))]);
        page.table(&[hostile], &[(hostile, vec![Cell::text(hostile)])]);
        page.list(&[hostile.to_owned()]);
        let html = page.finish(hostile);
        assert!(!html.contains("<script"));
        assert_eq!(html.matches("</title>").count(), 1);
        assert!(html.contains("class=\"verdict void\""));
    }

    #[test]
    fn figures_are_shown_rounded_and_kept_exact() {
        assert_eq!(Cell::rate(1_234_567.5).html(), "<data value=\"1234567.5\">1,234,568 /s</data>");
        assert_eq!(Cell::microseconds(1.234).html(), "<data value=\"1.234\">1.23 µs</data>");
        assert_eq!(Cell::bytes(1_572_864).html(), "<data value=\"1572864\">1.5 MiB</data>");
        for (value, decimals, wanted) in
            [(0.0, 0, "0"), (999.0, 0, "999"), (-1_000.0, 1, "-1,000.0"), (123_456.789, 2, "123,456.79")]
        {
            assert_eq!(grouped(value, decimals), wanted);
        }
    }

    #[test]
    fn times_are_in_utc() {
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Duration::from_secs(seconds)), wanted);
        }
    }

    #[test]
    fn a_plot_without_points_says_so() {
        let mut page = Page::new("title", true, "good");
        page.plots(&[("what", &[], None)]);
        assert!(page.finish("{}").contains("Nothing was measured."));
    }
}
