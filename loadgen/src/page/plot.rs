//! Plots as inline SVG, with axes that say their units and colours that the page's style sheet changes for a dark one.
//!
//! The crate that draws them knows whole pixels only, so everything is drawn [`SCALE`] times as large as it is meant to be seen.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{
    ChartBuilder, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _, IntoFont as _, IntoLogRange as _,
    LineSeries, RGBColor, SVGBackend, TRANSPARENT,
};
use plotters::style::{Color as _, TextStyle};

/// The size at which a plot is meant to be seen, in pixels.
const WIDTH: u32 = 520;
const HEIGHT: u32 = 270;
const SCALE: u32 = 4;

/// What the crate divides the size of letters by.
const LETTER_FACTOR: f64 = 1.24;

/// Of the lines, in their order: a palette that colour-blind people can tell apart. The style sheet knows these values.
const LINES: [RGBColor; 3] = [RGBColor(0x00, 0x72, 0xB2), RGBColor(0xD5, 0x5E, 0x00), RGBColor(0x00, 0x9E, 0x73)];
const GRID: RGBColor = RGBColor(0xE4, 0xE8, 0xEC);
const LETTERS: RGBColor = RGBColor(0x59, 0x63, 0x6E);

/// Percentiles are drawn up to this share of all values: one of so many.
const SHARE_MAX: f64 = 100_000.0;

/// A line of a plot; a plot has three at most.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Messages per second over seconds, from zero.
pub(crate) fn rates(lines: &[Line]) -> Option<String> {
    let bounds = Bounds::of(lines)?;
    let top = if bounds.y_max > 0.0 { bounds.y_max * 1.05 } else { 1.0 };
    draw(lines, bounds.seconds(), 0.0..top, &seconds_label, &rate_label)
}

/// Microseconds on a logarithmic axis over seconds.
pub(crate) fn latencies(lines: &[Line]) -> Option<String> {
    let bounds = Bounds::of(lines)?;
    draw(lines, bounds.seconds(), bounds.decades().log_scale(), &seconds_label, &microseconds_label)
}

/// Microseconds over percentiles, both on logarithmic axes. An x of n stands for the percentile that one value in n exceeds.
pub(crate) fn distribution(lines: &[Line]) -> Option<String> {
    let bounds = Bounds::of(lines)?;
    let shares = 1.0..decade_above(bounds.x_max.clamp(100.0, SHARE_MAX));
    draw(lines, shares.log_scale(), bounds.decades().log_scale(), &percentile_label, &microseconds_label)
}

/// The x of a distribution's points for so many values: evenly spread over the logarithmic axis.
pub(crate) fn shares(count: u64) -> impl Iterator<Item = f64> {
    const STEPS_PER_DECADE: i32 = 40;
    let most = (count as f64).min(SHARE_MAX);
    (0..).map(|step: i32| 10_f64.powf(f64::from(step) / f64::from(STEPS_PER_DECADE))).take_while(move |&x| x <= most)
}

/// What the points of all lines span.
struct Bounds {
    x_min: f64,
    x_max: f64,
    y_min: f64,
    y_max: f64,
}

impl Bounds {
    fn of(lines: &[Line]) -> Option<Self> {
        let points = || lines.iter().flat_map(|line| &line.points);
        let least = |of: fn(&(f64, f64)) -> f64| points().map(of).reduce(f64::min);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).reduce(f64::max);
        Some(Self {
            x_min: least(|point| point.0)?,
            x_max: most(|point| point.0)?,
            y_min: least(|point| point.1)?,
            y_max: most(|point| point.1)?,
        })
    }

    /// The time from the first to the last point, or some time around the only one.
    fn seconds(&self) -> std::ops::Range<f64> {
        match self.x_min < self.x_max {
            true => self.x_min..self.x_max,
            false => self.x_min - 0.5..self.x_max + 0.5,
        }
    }

    /// Whole powers of ten around all values, one at least.
    fn decades(&self) -> std::ops::Range<f64> {
        let bottom = 10_f64.powf(self.y_min.max(1.0).log10().floor());
        bottom..decade_above(self.y_max).max(bottom * 10.0)
    }
}

fn decade_above(value: f64) -> f64 {
    10_f64.powf(value.max(1.0).log10().ceil())
}

type Label<'a> = &'a dyn Fn(&f64) -> String;

fn draw<X, Y>(
    lines: &[Line],
    x: impl AsRangedCoord<CoordDescType = X, Value = f64>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
    x_label: Label<'_>,
    y_label: Label<'_>,
) -> Option<String>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH * SCALE, HEIGHT * SCALE)).into_drawing_area();
    // Drawing into a text cannot fail; a plot that there is not is better than a report that there is not.
    draw_on(&area, lines, x, y, x_label, y_label).ok()?;
    drop(area);
    Some(svg)
}

fn draw_on<X, Y>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    lines: &[Line],
    x: impl AsRangedCoord<CoordDescType = X, Value = f64>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
    x_label: Label<'_>,
    y_label: Label<'_>,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let letters = TextStyle::from(("sans-serif", 13.0 * f64::from(SCALE) * LETTER_FACTOR).into_font()).color(&LETTERS);
    let mut chart = ChartBuilder::on(area)
        .margin_top(8 * SCALE)
        .margin_right(32 * SCALE)
        .x_label_area_size(28 * SCALE)
        .y_label_area_size(62 * SCALE)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(x_label)
        .y_label_formatter(y_label)
        .label_style(letters)
        .bold_line_style(GRID.stroke_width(SCALE))
        .light_line_style(TRANSPARENT)
        .axis_style(GRID.stroke_width(SCALE))
        .set_all_tick_mark_size(5 * SCALE)
        .draw()?;
    for (line, colour) in lines.iter().zip(LINES) {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2 * SCALE)))?;
    }
    area.present()
}

fn seconds_label(seconds: &f64) -> String {
    format!("{} s", short(*seconds))
}

fn rate_label(rate: &f64) -> String {
    match *rate {
        rate if rate >= 1e6 => format!("{}M/s", short(rate / 1e6)),
        rate if rate >= 1e3 => format!("{}k/s", short(rate / 1e3)),
        rate => format!("{}/s", short(rate)),
    }
}

fn microseconds_label(microseconds: &f64) -> String {
    match *microseconds {
        us if us >= 0.999e6 => format!("{} s", short(us / 1e6)),
        us if us >= 0.999e3 => format!("{} ms", short(us / 1e3)),
        us => format!("{} µs", short(us)),
    }
}

fn percentile_label(share: &f64) -> String {
    let decimals = (share.log10().round() as usize).saturating_sub(2);
    format!("p{:.decimals$}", 100.0 - 100.0 / share)
}

/// With no more decimals than a tick needs.
fn short(value: f64) -> String {
    let rounded = (value * 1e3).round() / 1e3;
    // No "-0".
    format!("{}", rounded + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { name: "line", points: points.to_vec() }
    }

    #[test]
    fn ticks_say_their_units() {
        for (label, of, wanted) in [
            (seconds_label as fn(&f64) -> String, 0.1 + 0.2, "0.3 s"),
            (seconds_label, -0.0, "0 s"),
            (rate_label, 250.0, "250/s"),
            (rate_label, 12_500.0, "12.5k/s"),
            (rate_label, 3e6, "3M/s"),
            (microseconds_label, 100.0, "100 µs"),
            (microseconds_label, 999.999_999, "1 ms"),
            (microseconds_label, 1e7, "10 s"),
            (percentile_label, 1.0, "p0"),
            (percentile_label, 10.0, "p90"),
            (percentile_label, 100.0, "p99"),
            (percentile_label, 99_999.999_999, "p99.999"),
        ] {
            assert_eq!(label(&of), wanted);
        }
    }

    #[test]
    fn every_plot_has_ticks_and_its_lines_whatever_the_points() {
        for points in [&[(0.0, 0.0)][..], &[(1.0, 5.0)], &[(1.0, 1.0), (2.0, 3e9)], &[(0.0, 7.0), (1e7, 7.0)]] {
            for plot in [rates, latencies, distribution] {
                let svg = plot(&[line(points), line(points)]).expect("there are points");
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
                assert!(svg.matches("<text").count() >= 4, "{points:?}: {svg}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        assert_eq!(rates(&[line(&[])]), None);
        assert_eq!(latencies(&[]), None);
    }

    #[test]
    fn the_style_sheet_knows_every_colour() {
        let style = include_str!("style.css");
        for RGBColor(red, green, blue) in LINES.into_iter().chain([GRID]) {
            let rule = format!("[stroke=\"#{red:02X}{green:02X}{blue:02X}\"]");
            assert!(style.contains(&rule), "{rule}");
        }
    }

    #[test]
    fn a_distribution_goes_as_far_as_its_values() {
        assert_eq!(shares(0).count(), 0);
        assert_eq!(shares(1).collect::<Vec<_>>(), [1.0]);
        let all: Vec<_> = shares(u64::MAX).collect();
        assert!(all.is_sorted() && all.last().is_some_and(|last| (SHARE_MAX - last).abs() < 1.0));
    }
}
