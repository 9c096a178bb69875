//! The plot of `docs/performance.md`: requests a second by the number of connections, as SVG.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 270.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 610.0;

/// A line for the rate (left axis, from 0) over the connections (logarithmic).
pub(crate) fn growth(row: &Value) -> String {
    let mut points = points(row);
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let most = points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max) * 1.1;
    let (least, greatest) =
        (points.first().map_or(1.0, |point| point.0), points.last().map_or(10.0, |point| point.0));
    let span = (greatest / least).ln().max(1e-9);
    let x = |connections: f64| LEFT + (connections / least).ln() / span * (RIGHT - LEFT);
    let y = |rate: f64| BOTTOM - rate / most * (BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">API GET of 1 kB, one core: requests a second by connections</text>\n"
    );
    for step in 0..=4 {
        let rate = most * f64::from(step) / 4.0;
        let height = y(rate);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}</text>",
            LEFT - 8.0,
            height + 4.0
        );
    }
    let line: Vec<_> = points.iter().map(|(at, rate)| format!("{:.1},{:.1}", x(*at), y(*rate))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#c05000\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for (at, rate) in &points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#c05000\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0}</text>",
            x(*at),
            y(*rate),
            x(*at),
            BOTTOM + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">connections</text>",
        340.0, 310.0
    );
    svg.push_str("</svg>\n");
    svg
}

/// Connections and requests a second of each series whose name begins with a number.
fn points(row: &Value) -> Vec<(f64, f64)> {
    let series = row.get("series").and_then(Value::as_array).into_iter().flatten();
    series
        .filter_map(|one| {
            let connections = one.get("name")?.as_str()?.split(' ').next()?.parse().ok()?;
            Some((connections, one.pointer("/figures/0/median")?.as_f64()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn() {
        let one = |name: &str, rate: f64| serde_json::json!({"name": name, "figures": [{"median": rate}]});
        let row = serde_json::json!({"series": [one("100 connections", 20.0), one("10 connections", 10.0)]});
        let svg = growth(&row);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("points=\"70.0,") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
