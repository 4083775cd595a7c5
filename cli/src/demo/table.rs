//! The table that compares the demo's models.

use indicatif::{DecimalBytes, HumanCount};

use super::summary::{Model, Summary};

/// One model of the comparison, with every figure as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Name of the model.
    pub name: &'static str,
    /// Figures in the order of [`HEADINGS`].
    pub cells: [String; 6],
}

/// The headings of the columns.
pub(super) const HEADINGS: [&str; 6] = [
    "accuracy",
    "parameters",
    "file size",
    "multiply-adds",
    "as teacher",
    "latency",
];

/// One row per model, in the order of their creation.
pub(super) fn rows(summary: &Summary) -> Vec<Row> {
    // The exported file, called over the network.
    let served = Model {
        accuracy: summary.served.accuracy,
        agreement: summary.served.agreement,
        p50_us: summary.served.p50_us,
        ..summary.exported
    };
    let models = [
        ("teacher", summary.teacher),
        ("same student, no teacher", summary.baseline),
        ("student, distilled", summary.distilled),
        ("student, fine-tuned", summary.student),
        ("student, exported (ONNX)", summary.exported),
        ("student, served (gRPC)", served),
    ];
    models.map(|(name, model)| row(name, &model)).to_vec()
}

/// The table for a terminal, each line indented by two.
pub(super) fn text(rows: &[Row]) -> String {
    let name_width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.max().unwrap_or(0).max(HEADINGS[column].len())
    };
    let line = |name: &str, cells: [&str; 6]| {
        let mut line = format!("  {name:<name_width$}");
        for (column, cell) in cells.into_iter().enumerate() {
            line += &format!("  {cell:>0$}", width(column));
        }
        line + "\n"
    };
    let mut text = line("", HEADINGS);
    for row in rows {
        text += &line(row.name, row.cells.each_ref().map(String::as_str));
    }
    text
}

fn row(name: &'static str, model: &Model) -> Row {
    Row {
        name,
        cells: [
            percent(model.accuracy),
            HumanCount(model.parameters).to_string(),
            DecimalBytes(model.bytes).to_string(),
            format!("{:.2} M", model.multiply_adds as f64 / 1e6),
            percent(model.agreement),
            format!("{:.0} µs", model.p50_us),
        ],
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::{super::summary::tests::example, *};

    #[test]
    fn columns_are_aligned_and_every_model_has_a_row() {
        let text = text(&rows(&example()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        let width = lines[0].chars().count();
        assert!(
            lines.iter().all(|line| line.chars().count() == width),
            "{text}"
        );
        assert!(lines[6].contains("student, served (gRPC)"), "{text}");
        for cell in [
            "90.45 %",
            "39,154",
            "157.00 kB",
            "1.23 M",
            "95.00 %",
            "400 µs",
        ] {
            assert!(lines[6].contains(cell), "{cell}: {text}");
        }
    }
}
