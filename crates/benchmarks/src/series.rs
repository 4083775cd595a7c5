//! A figure with several measurements.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Median, minimum and maximum over the turns of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub median: f64,
    pub minimum: f64,
    pub maximum: f64,
}

impl Series {
    /// The series of `values`; `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&minimum, &maximum) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self {
            median,
            minimum,
            maximum,
        })
    }
}

/// The series of `figure` over `rounds`.
///
/// # Panics
/// If `rounds` is empty.
pub(crate) fn series<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Series {
    Series::of(rounds.iter().map(figure)).expect("at least one round")
}

/// `median (minimum to maximum)`, with the formatter's precision.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.minimum, self.maximum
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two() {
        let cases: [(&[f64], f64); 3] = [
            (&[3.0], 3.0),
            (&[3.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 2.5),
        ];
        for (values, median) in cases {
            assert_eq!(
                Series::of(values.iter().copied()).unwrap().median,
                median,
                "{values:?}"
            );
        }
        assert_eq!(Series::of([]), None);
        let series = Series::of([2.0, 1.0, 4.0]).unwrap();
        assert_eq!(format!("{series:.1}"), "2.0 (1.0 to 4.0)");
    }
}
