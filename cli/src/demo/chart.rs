//! Line charts as inline SVG; the page's style sheet defines the colours.

use std::fmt::Write;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Maximum number of points; longer series are averaged.
const MOST_POINTS: usize = 300;
/// Series with at most this many points get a dot at each point.
const MOST_DOTS: usize = 24;
const Y_TICKS: f64 = 4.0;
const X_TICKS: f64 = 6.0;

/// A chart with one horizontal and one vertical axis.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub title: String,
    pub x_label: &'static str,
    /// The lines; empty series are not drawn.
    pub series: Vec<Series>,
    pub unit: Unit,
}

/// The unit of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    /// Fractions, shown in percent.
    Percent,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub name: &'static str,
    /// (x, y); points that are not finite are not drawn.
    pub points: Vec<(f64, f64)>,
}

/// Evenly spaced round numbers that cover a range.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Chart {
    /// The chart as a `figure` with an `svg`, or with a note if there is nothing to draw.
    pub(super) fn to_html(&self) -> String {
        let series: Vec<(usize, Series)> = self
            .series
            .iter()
            .enumerate()
            .map(|(index, series)| (index, series.drawable()))
            .filter(|(_, series)| !series.points.is_empty())
            .collect();
        let title = &self.title;
        let points = || series.iter().flat_map(|(_, series)| &series.points);
        if series.is_empty() {
            return format!("<figure><figcaption>{title}</figcaption><p>no data</p></figure>\n");
        }
        let x = Scale::covering(points().map(|(x, _)| *x).chain([0.0]), X_TICKS);
        let y = Scale::covering(points().map(|(_, y)| *y), Y_TICKS);
        let mut svg = self.axes(x, y);
        for (index, series) in &series {
            svg += &series.to_svg(*index, x, y, self.unit);
        }
        let mut legend = String::new();
        for (index, series) in &series {
            let name = series.name;
            // Writing to a String cannot fail, here and below.
            let _ = write!(legend, "<span class=\"key s{index}\">{name}</span> ");
        }
        format!(
            "<figure><figcaption>{title}</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{svg}</svg>\
             <p class=\"legend\">{legend}</p></figure>\n"
        )
    }

    fn axes(&self, x: Scale, y: Scale) -> String {
        let mut svg = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in y.ticks() {
            let (place, label) = (y_place(y, value), self.unit.label(value, y.step));
            let (text_x, text_y) = (LEFT - 6.0, place + 4.0);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{right}\"/>\
                 <text class=\"y\" x=\"{text_x}\" y=\"{text_y:.1}\">{label}</text>"
            );
        }
        for value in x.ticks() {
            let (place, label) = (x_place(x, value), Unit::Number.label(value, x.step));
            let text_y = bottom + 15.0;
            let _ = write!(
                svg,
                "<text class=\"x\" x=\"{place:.1}\" y=\"{text_y}\">{label}</text>"
            );
        }
        let (middle, text_y) = ((LEFT + right) / 2.0, HEIGHT - 4.0);
        let label = self.x_label;
        svg + &format!("<text class=\"x\" x=\"{middle}\" y=\"{text_y}\">{label}</text>")
    }
}

impl Series {
    /// The series without points that are not finite, averaged to at most [`MOST_POINTS`].
    fn drawable(&self) -> Self {
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        let points: Vec<(f64, f64)> = self.points.iter().filter(finite).copied().collect();
        let group = points.len().div_ceil(MOST_POINTS).max(1);
        let mean = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            let sum = |(a, b): (f64, f64), (x, y): &(f64, f64)| (a + x / count, b + y / count);
            points.iter().fold((0.0, 0.0), sum)
        };
        Self {
            name: self.name,
            points: points.chunks(group).map(mean).collect(),
        }
    }

    fn to_svg(&self, index: usize, x_scale: Scale, y_scale: Scale, unit: Unit) -> String {
        let mut line = String::new();
        let mut dots = String::new();
        for (position, (x, y)) in self.points.iter().enumerate() {
            let (place_x, place_y) = (x_place(x_scale, *x), y_place(y_scale, *y));
            let command = if position == 0 { 'M' } else { 'L' };
            let _ = write!(line, "{command}{place_x:.1} {place_y:.1}");
            if self.points.len() <= MOST_DOTS {
                let (name, value) = (self.name, unit.label(*y, y_scale.step / 100.0));
                let _ = write!(
                    dots,
                    "<circle class=\"s{index}\" cx=\"{place_x:.1}\" cy=\"{place_y:.1}\" r=\"3\">\
                     <title>{name}: {value}</title></circle>"
                );
            }
        }
        format!("<path class=\"line s{index}\" d=\"{line}\"/>{dots}")
    }
}

impl Scale {
    /// A scale with round limits around all values and about `ticks` steps.
    fn covering(values: impl Iterator<Item = f64>, ticks: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let span = match high - low {
            span if span > 0.0 => span,
            _ => (high.abs() / 10.0).max(0.01),
        };
        let raw = span / ticks;
        let power = 10_f64.powf(raw.log10().floor());
        let step = match raw / power {
            ..=1.0 => power,
            ..=2.0 => 2.0 * power,
            ..=5.0 => 5.0 * power,
            _ => 10.0 * power,
        };
        let low = (low / step).floor() * step;
        let high = ((high / step).ceil() * step).max(low + step);
        Self { low, high, step }
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(move |tick| self.low + tick as f64 * self.step)
    }

    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

impl Unit {
    /// Formats a value with the digits that steps of `step` require.
    fn label(self, value: f64, step: f64) -> String {
        let (value, step, unit) = match self {
            Self::Number => (value, step, ""),
            Self::Percent => (100.0 * value, 100.0 * step, " %"),
        };
        let digits = (-step.log10()).ceil().clamp(0.0, 4.0) as usize;
        format!("{value:.digits$}{unit}")
    }
}

fn x_place(scale: Scale, value: f64) -> f64 {
    LEFT + scale.share(value) * (WIDTH - LEFT - RIGHT)
}

fn y_place(scale: Scale, value: f64) -> f64 {
    HEIGHT - BOTTOM - scale.share(value) * (HEIGHT - TOP - BOTTOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_cover_all_values() {
        let cases = [
            (vec![0.0, 12.0], 0.0, 12.0, 2.0),
            (vec![0.803, 0.917], 0.8, 0.95, 0.05),
            (vec![2.3, 0.31], 0.0, 2.5, 0.5),
            (vec![0.5], 0.5, 0.52, 0.02),
        ];
        for (values, low, high, step) in cases {
            let ticks = if step == 2.0 { X_TICKS } else { Y_TICKS };
            let scale = Scale::covering(values.iter().copied(), ticks);
            for (found, expected) in [(scale.low, low), (scale.high, high), (scale.step, step)] {
                assert!((found - expected).abs() < 1e-9, "{values:?}: {scale:?}");
            }
        }
    }

    fn chart(points: Vec<(f64, f64)>) -> String {
        Chart {
            title: "Loss".to_owned(),
            x_label: "epoch",
            series: vec![
                Series {
                    name: "nothing",
                    points: Vec::new(),
                },
                Series {
                    name: "training",
                    points,
                },
            ],
            unit: Unit::Percent,
        }
        .to_html()
    }

    #[test]
    fn points_are_within_the_axes_and_keep_their_colour() {
        let html = chart(vec![(1.0, 0.5), (2.0, 1.0)]);
        assert!(html.contains("d=\"M202.0 157.0L348.0 12.0\""), "{html}");
        assert!(html.contains("<title>training: 50.0 %</title>"), "{html}");
        assert!(
            html.contains("key s1") && !html.contains("nothing"),
            "{html}"
        );
    }

    #[test]
    fn long_series_are_averaged_and_nan_is_not_drawn() {
        let long = (0..100_000).map(|step| (f64::from(step), 0.5)).collect();
        let html = chart(long);
        let line = html.split("class=\"line").nth(1).unwrap();
        let line = line.split('>').next().unwrap();
        let points = 1 + line.matches('L').count();
        assert!(
            (MOST_POINTS / 2..=MOST_POINTS).contains(&points),
            "{points}"
        );
        assert!(!html.contains("<circle"));
        assert!(chart(vec![(1.0, f64::NAN)]).contains("no data"));
    }
}
