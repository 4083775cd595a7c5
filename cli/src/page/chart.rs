//! Line charts as inline SVG. The pages' style sheet replaces the colours, so that they also suit dark pages.

use std::{error::Error, ops::Range};

use plotters::prelude::*;

const WIDTH: u32 = 360;
const HEIGHT: u32 = 220;
/// Maximum number of points; longer series are averaged.
const MAX_POINTS: usize = 300;
/// Series with at most this many points get a dot at each point.
const MAX_DOTS: usize = 24;
const X_TICKS: usize = 7;
const Y_TICKS: usize = 6;
const TEXT_SIZE: u32 = 11;

/// The colours of lines, in the order of the series; further series begin again.
const LINES: [RGBColor; 9] = [
    RGBColor(0xb9, 0xc3, 0xd6),
    RGBColor(0x2f, 0x5f, 0xb3),
    RGBColor(0xc2, 0x57, 0x1a),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0x8a, 0x4f, 0xbf),
    RGBColor(0xb8, 0x86, 0x0b),
    RGBColor(0x1f, 0x8f, 0xa3),
    RGBColor(0xb8, 0x33, 0x6a),
    RGBColor(0x5b, 0x5f, 0x66),
];
const TEXT: RGBColor = RGBColor(0x6a, 0x70, 0x78);
const GRID: RGBColor = RGBColor(0xe3, 0xe1, 0xdc);

/// A chart with one horizontal and one vertical axis.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub title: String,
    pub x_label: &'static str,
    /// The lines. Series without points are not drawn, but keep their colour.
    pub series: Vec<Series>,
    pub unit: Unit,
}

/// The unit of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Number,
    /// Fractions, shown in percent.
    Percent,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub name: String,
    /// (x, y); points that are not finite are not drawn.
    pub points: Vec<(f64, f64)>,
}

/// The legend's text about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The index of the line's colour.
    pub colour: usize,
    pub name: String,
    /// The last value.
    pub value: String,
}

impl Chart {
    /// The chart as an `svg` element; `None` if there is nothing to draw.
    pub(crate) fn to_svg(&self) -> Option<String> {
        let lines: Vec<(usize, Vec<(f64, f64)>)> = self.lines().collect();
        let points = || lines.iter().flat_map(|(_, points)| points);
        let x = covering(points().map(|(x, _)| *x).chain([0.0]))?;
        let y = covering(points().map(|(_, y)| *y))?;
        // Cannot fail: the SVG is written to a string.
        let svg = self.draw(&lines, x, y).expect("a string can be written");
        // The namespace is needed in SVG files only.
        Some(svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""))
    }

    /// The legend.
    pub(crate) fn legend(&self) -> Vec<Key> {
        let keys = self.lines().filter_map(|(index, points)| {
            let (_, value) = points.last()?;
            Some(Key {
                colour: index % LINES.len(),
                name: self.series[index].name.clone(),
                value: self.unit.label(*value, 0.001),
            })
        });
        keys.collect()
    }

    /// The points of each line that can be drawn, with the index of its series.
    fn lines(&self) -> impl Iterator<Item = (usize, Vec<(f64, f64)>)> {
        let series = self.series.iter().enumerate();
        series
            .map(|(index, series)| (index, series.drawable()))
            .filter(|(_, points)| !points.is_empty())
    }

    fn draw(
        &self,
        lines: &[(usize, Vec<(f64, f64)>)],
        x: Range<f64>,
        y: Range<f64>,
    ) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            let (x_step, y_step) = (step(&x, X_TICKS), step(&y, Y_TICKS));
            let mut chart = ChartBuilder::on(&area)
                .margin_top(12)
                .margin_right(12)
                .x_label_area_size(34)
                .y_label_area_size(52)
                .build_cartesian_2d(x, y)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .max_light_lines(0)
                .bold_line_style(GRID)
                .axis_style(GRID)
                .label_style(("sans-serif", TEXT_SIZE).into_font().color(&TEXT))
                .x_desc(self.x_label)
                .x_labels(X_TICKS)
                .x_label_formatter(&|value| Unit::Number.label(*value, x_step))
                .y_labels(Y_TICKS)
                .y_label_formatter(&|value| self.unit.label(*value, y_step))
                .draw()?;
            for (index, points) in lines {
                let colour = LINES[index % LINES.len()];
                let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
                chart.draw_series(line)?;
                if points.len() <= MAX_DOTS {
                    let dot = |point: &(f64, f64)| Circle::new(*point, 3, colour.filled());
                    chart.draw_series(points.iter().map(dot))?;
                }
            }
            area.present()?;
        }
        Ok(svg)
    }
}

/// The style sheet's rules that replace the colours of charts by its variables.
pub(crate) fn colour_rules() -> String {
    let lines = LINES.iter().enumerate();
    let colours = lines.map(|(index, colour)| (*colour, format!("s{index}")));
    let others = [(TEXT, "quiet"), (GRID, "rule")];
    let colours = colours.chain(others.map(|(colour, name)| (colour, name.to_owned())));
    let rule = |(RGBColor(red, green, blue), name): (RGBColor, String)| {
        let hex = format!("#{red:02X}{green:02X}{blue:02X}");
        format!(
            "svg [stroke=\"{hex}\"] {{ stroke: var(--{name}); }} \
             svg [fill=\"{hex}\"] {{ fill: var(--{name}); }}\n"
        )
    };
    colours.map(rule).collect()
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        let name = name.into();
        Self { name, points }
    }

    /// The points that are finite, averaged to at most [`MAX_POINTS`].
    fn drawable(&self) -> Vec<(f64, f64)> {
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        let points: Vec<(f64, f64)> = self.points.iter().filter(finite).copied().collect();
        let group = points.len().div_ceil(MAX_POINTS).max(1);
        let mean = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            let sum = |(a, b): (f64, f64), (x, y): &(f64, f64)| (a + x / count, b + y / count);
            points.iter().fold((0.0, 0.0), sum)
        };
        points.chunks(group).map(mean).collect()
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

/// A range around all values; `None` if there are none.
fn covering(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return None;
    }
    let span = match high - low {
        span if span > 0.0 => span,
        _ => (high.abs() / 10.0).max(0.01),
    };
    Some(low..low + span)
}

/// The distance of ticks, at least.
fn step(range: &Range<f64>, ticks: usize) -> f64 {
    (range.end - range.start) / ticks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let series = |name, points| Series::new(name, points);
        Chart {
            title: "Accuracy".to_owned(),
            x_label: "epoch",
            series: vec![series("nothing", Vec::new()), series("training", points)],
            unit: Unit::Percent,
        }
    }

    /// The number of points of the longest line, and of dots. Axes are lines of two points.
    fn points_and_dots(svg: &str) -> (usize, usize) {
        let points = |line: &str| {
            let points = line.split("points=\"").nth(1).unwrap();
            points.split('"').next().unwrap().split_whitespace().count()
        };
        let longest = svg.split("<polyline").skip(1).map(points).max();
        (longest.unwrap(), svg.matches("<circle").count())
    }

    #[test]
    fn points_are_drawn_within_the_axes_in_their_colour() {
        let svg = chart(vec![(1.0, 0.5), (2.0, 1.0)]).to_svg().unwrap();
        let circles: Vec<_> = svg.split("<circle").skip(1).collect();
        assert_eq!(circles.len(), 2, "{svg}");
        for circle in circles {
            let number = |key: &str| -> f64 {
                let value = circle.split(&format!(" {key}=\"")).nth(1).unwrap();
                value.split('"').next().unwrap().parse().unwrap()
            };
            assert!((52.0..=348.0).contains(&number("cx")), "{circle}");
            assert!((12.0..=186.0).contains(&number("cy")), "{circle}");
            assert!(circle.contains("fill=\"#2F5FB3\""), "{circle}");
        }
        for label in ["epoch", "60 %", "100 %"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn the_legend_gives_the_last_value_of_each_line() {
        let legend = chart(vec![(1.0, 0.5), (2.0, 0.912)]).legend();
        let expected = Key {
            colour: 1,
            name: "training".to_owned(),
            value: "91.2 %".to_owned(),
        };
        assert_eq!(legend, [expected]);
    }

    #[test]
    fn the_style_sheet_replaces_every_colour() {
        let rules = colour_rules();
        let svg = chart(vec![(1.0, 0.5), (2.0, 1.0)]).to_svg().unwrap();
        let colours = svg.split(['"', ' ']).filter(|text| text.starts_with('#'));
        let colours: Vec<_> = colours.collect();
        assert!(colours.len() > 4, "{svg}");
        for colour in colours {
            assert!(rules.contains(colour), "{colour}: {svg}");
        }
    }

    #[test]
    fn long_series_are_averaged_and_nan_is_not_drawn() {
        let long = (0..100_000).map(|step| (f64::from(step), 0.5)).collect();
        let (points, dots) = points_and_dots(&chart(long).to_svg().unwrap());
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&points), "{points}");
        assert_eq!(dots, 0);
        assert_eq!(chart(vec![(1.0, f64::NAN)]).to_svg(), None);
    }

    #[test]
    fn labels_have_the_digits_of_their_steps() {
        assert_eq!(Unit::Percent.label(0.85, 0.05), "85 %");
        assert_eq!(Unit::Percent.label(0.85, 0.005), "85.0 %");
        assert_eq!(Unit::Number.label(2.5, 0.5), "2.5");
    }
}
