//! A chart of the last quarter of an hour as inline SVG.

use std::fmt::Write as _;

use super::html::Html;
use crate::metrics::units;

/// The coordinates of the drawing. A chart has room for 90 intervals.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 100.0;
const STEP: f64 = WIDTH / 89.0;

/// A chart with one or two curves.
pub(super) struct Chart<'a> {
    pub(super) title: &'static str,
    pub(super) format: ValueFormat,
    /// the value now, and its unit
    pub(super) now: (String, &'static str),
    pub(super) series: Vec<Series<'a>>,
    /// sentences below it
    pub(super) notes: Vec<String>,
}

/// One curve.
pub(super) struct Series<'a> {
    /// the column of the history
    pub(super) column: &'static str,
    pub(super) name: &'static str,
    pub(super) values: Values<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Values<'a> {
    Counts(&'a [u64]),
    Rates(&'a [f64]),
    Times(&'a [Option<f64>]),
}

#[derive(Clone, Copy)]
pub(super) enum ValueFormat {
    Count,
    Rate,
    Time,
}

impl ValueFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Rate => "rate",
            Self::Time => "time",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Rate => units::rate(value),
            Self::Time => units::milliseconds(value),
        }
    }

    /// The same without digits that are always zero, for the end of an axis.
    fn show_end(self, value: f64) -> String {
        match self {
            Self::Rate if value >= 1.0 => format!("{value:.0}"),
            Self::Time if value < 1000.0 => format!("{value} ms"),
            Self::Time => format!("{} s", value / 1000.0),
            Self::Count | Self::Rate => self.show(value),
        }
    }
}

impl Values<'_> {
    fn all(self) -> Vec<Option<f64>> {
        match self {
            Self::Counts(counts) => counts.iter().map(|count| Some(units::float(*count))).collect(),
            Self::Rates(rates) => rates.iter().copied().map(Some).collect(),
            Self::Times(times) => times.to_vec(),
        }
    }
}

impl Chart<'_> {
    pub(super) fn render(&self, html: &mut Html) {
        let curves: Vec<_> = self.series.iter().map(|series| series.values.all()).collect();
        let most = axis_end(curves.iter().flatten().flatten().copied().fold(0.0, f64::max));
        html.raw("<figure class=\"card chart\" data-format=\"").text(self.format.name());
        html.raw("\"><figcaption><h3>").text(self.title).raw("</h3><p class=\"now\">");
        html.text(&self.now.0).raw(" <small>").text(self.now.1).raw("</small></p></figcaption>");
        html.raw(
            "<div class=\"plot\"><input data-own type=\"range\" min=\"0\" value=\"0\" hidden aria-label=\"",
        );
        html.text(self.title).raw(": values by time\"><svg viewBox=\"0 0 300 100\" ");
        html.raw("preserveAspectRatio=\"none\" role=\"img\" aria-label=\"").text(self.summary(&curves));
        html.raw("\"><path class=\"grid\" d=\"M0 0H300M0 50H300M0 100H300M100 0V100M200 0V100\"/>");
        for (curve, class) in curves.iter().zip(["one", "two"]) {
            let path = Path::new(curve, most);
            if class == "one" {
                html.raw("<path class=\"area\" d=\"").text(&path.area).raw("\"/>");
            }
            html.raw("<path class=\"curve ").text(class).raw("\" d=\"").text(&path.line).raw("\"/>");
        }
        html.raw("<line data-own class=\"cursor\" y1=\"0\" y2=\"100\" visibility=\"hidden\"/></svg>");
        if curves.iter().flatten().any(Option::is_some) {
            html.raw("<span class=\"most\" aria-hidden=\"true\">")
                .text(self.format.show_end(most))
                .raw("</span>");
        }
        html.raw("<p class=\"axis\" aria-hidden=\"true\"><span>15 min ago</span><span>10</span>");
        html.raw("<span>5</span><span>now</span></p></div>");
        html.raw("<div class=\"values\"><p class=\"reading\" data-own aria-hidden=\"true\"></p>");
        self.legend(html, &curves);
        html.raw("</div>");
        for note in &self.notes {
            html.raw("<p>").text(note).raw("</p>");
        }
        html.raw("</figure>");
    }

    fn legend(&self, html: &mut Html, curves: &[Vec<Option<f64>>]) {
        html.raw("<ul class=\"legend\">");
        for ((series, curve), class) in self.series.iter().zip(curves).zip(["one", "two"]) {
            html.raw("<li class=\"").text(class).raw("\" data-column=\"").text(series.column);
            html.raw("\" data-name=\"").text(series.name).raw("\">").text(series.name).raw(" <b>");
            html.text(self.last(curve)).raw("</b></li>");
        }
        html.raw("</ul>");
    }

    fn last(&self, curve: &[Option<f64>]) -> String {
        curve.last().copied().flatten().map_or_else(|| "–".to_owned(), |value| self.format.show(value))
    }

    /// The chart in words.
    fn summary(&self, curves: &[Vec<Option<f64>>]) -> String {
        let mut text = format!("{} of the last 15 minutes", self.title);
        for (series, curve) in self.series.iter().zip(curves) {
            let values = || curve.iter().flatten().copied();
            if values().next().is_none() {
                let _ = write!(text, "; {}: no values", series.name);
                continue;
            }
            let [least, most] = [values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max)]
                .map(|it| self.format.show(it));
            let _ = write!(text, "; {}: {least} to {most}, last {}", series.name, self.last(curve));
        }
        text
    }
}

struct Path {
    line: String,
    /// the line with the surface below it
    area: String,
}

impl Path {
    /// The last value is at the right edge. A gap in the values is a gap in the line.
    fn new(curve: &[Option<f64>], most: f64) -> Self {
        let (mut line, mut area) = (String::new(), String::new());
        let ages = (0..curve.len()).rev().map(|age| units::float(u64::try_from(age).unwrap_or_default()));
        let points = curve.iter().zip(ages).map(|(value, age)| {
            let x = WIDTH - age * STEP;
            value.map(|value| (x, HEIGHT - value / most * HEIGHT))
        });
        let mut before: Option<f64> = None;
        for point in points {
            match (point, before) {
                (Some((x, y)), None) => {
                    // A dot, if there is no next point.
                    let _ = write!(line, "M{x:.1} {y:.1}h0");
                    let _ = write!(area, "M{x:.1} 100V{y:.1}");
                }
                (Some((x, y)), Some(_)) => {
                    let _ = write!(line, "L{x:.1} {y:.1}");
                    let _ = write!(area, "L{x:.1} {y:.1}");
                }
                (None, Some(_)) => area.push_str("V100Z"),
                (None, None) => (),
            }
            before = point.map(|(x, _)| x);
        }
        if before.is_some() {
            area.push_str("V100Z");
        }
        Self { line, area }
    }
}

/// The next of 1, 2, 5, 10, 20 … that holds the value.
fn axis_end(value: f64) -> f64 {
    let mut end = 1.0;
    while end < value {
        end =
            [end * 2.0, end * 5.0, end * 10.0].into_iter().find(|next| *next >= value).unwrap_or(end * 10.0);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (value, end) in
            [(0.0, 1.0), (1.0, 1.0), (1.5, 2.0), (2.1, 5.0), (7.0, 10.0), (10.1, 20.0), (420.0, 500.0)]
        {
            assert!((axis_end(value) - end).abs() < f64::EPSILON, "{value}: {}", axis_end(value));
        }
    }

    #[test]
    fn missing_values_interrupt_the_line() {
        let path = Path::new(&[Some(0.0), None, Some(1.0), Some(2.0)], 2.0);
        assert_eq!(path.line, "M289.9 100.0h0M296.6 50.0h0L300.0 0.0");
        assert_eq!(path.area, "M289.9 100V100.0V100ZM296.6 100V50.0L300.0 0.0V100Z");
        assert_eq!(Path::new(&[], 1.0).line, "");
    }

    #[test]
    fn the_summary_has_the_values_in_words() {
        let (times, rates) = ([None, Some(2.0), Some(8.0)], [1.0, 3.0, 2.0]);
        let chart = Chart {
            title: "Times",
            format: ValueFormat::Time,
            now: ("8 ms".to_owned(), "median"),
            series: vec![
                Series { column: "p50_ms", name: "median", values: Values::Times(&times) },
                Series { column: "p99_ms", name: "99 of 100", values: Values::Times(&times[..1]) },
            ],
            notes: Vec::new(),
        };
        let curves: Vec<_> = chart.series.iter().map(|series| series.values.all()).collect();
        assert_eq!(
            chart.summary(&curves),
            "Times of the last 15 minutes; median: 2.0 ms to 8.0 ms, last 8.0 ms; 99 of 100: no values"
        );
        let mut html = Html::default();
        chart.render(&mut html);
        assert!(html.into_string().contains("10 ms</span>"), "the end of the axis");
        assert_eq!(Values::Rates(&rates).all().len(), 3);
        assert_eq!(ValueFormat::Time.show_end(2000.0), "2 s");
    }
}
