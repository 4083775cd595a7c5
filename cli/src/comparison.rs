//! The table that compares models.

use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use crate::text_table::text_table;

/// Figures of one model; a figure that is unknown is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Share of correct predictions, 0 to 1.
    pub accuracy: Option<f64>,
    /// Trainable parameters, including those of batch-norm.
    pub parameters: Option<u64>,
    /// Multiply-adds for one sample.
    pub multiply_adds: Option<u64>,
    /// Size of the file, bytes.
    pub bytes: Option<u64>,
    /// Share of samples for which the teacher predicts the same class, 0 to 1.
    pub agreement: Option<f64>,
    /// Median latency of one sample, microseconds.
    pub p50_us: Option<f64>,
}

/// One model of the comparison, with every figure as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Name of the model.
    pub name: String,
    /// Figures in the order of [`HEADINGS`].
    pub cells: [String; 6],
}

/// The headings of the columns.
pub(crate) const HEADINGS: [&str; 6] = [
    "accuracy",
    "parameters",
    "file size",
    "multiply-adds",
    "as teacher",
    "latency",
];

impl Row {
    /// The row of one model; an unknown figure is a dash.
    pub(crate) fn new(name: impl Into<String>, figures: &Figures) -> Self {
        let cells = [
            figures.accuracy.map(percent),
            figures
                .parameters
                .map(|count| HumanCount(count).to_string()),
            figures.bytes.map(|bytes| DecimalBytes(bytes).to_string()),
            figures
                .multiply_adds
                .map(|count| format!("{:.2} M", count as f64 / 1e6)),
            figures.agreement.map(percent),
            figures.p50_us.map(|latency| format!("{latency:.0} µs")),
        ];
        Self {
            name: name.into(),
            cells: cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())),
        }
    }
}

/// The table for a terminal, each line indented by two.
pub(crate) fn table(rows: &[Row]) -> String {
    let headings = [""].iter().chain(&HEADINGS).map(|it| (*it).to_owned());
    let mut lines = vec![headings.collect()];
    lines.extend(rows.iter().map(|row| {
        let mut cells = vec![row.name.clone()];
        cells.extend(row.cells.iter().cloned());
        cells
    }));
    text_table(&lines)
}

/// A share, 0 to 1, in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_unknown_figures_are_dashes() {
        let known = Figures {
            accuracy: Some(0.9045),
            parameters: Some(39_154),
            bytes: Some(157_000),
            multiply_adds: Some(1_234_567),
            agreement: Some(0.95),
            p50_us: Some(400.4),
        };
        let rows = [
            Row::new("teacher", &Figures::default()),
            Row::new("student", &known),
        ];
        assert_eq!(rows[0].cells, ["–"; 6]);
        let cells = [
            "90.45 %",
            "39,154",
            "157.00 kB",
            "1.23 M",
            "95.00 %",
            "400 µs",
        ];
        assert_eq!(rows[1].cells, cells);
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let width = lines[0].chars().count();
        assert!(
            lines.iter().all(|line| line.chars().count() == width),
            "{text}"
        );
    }
}
