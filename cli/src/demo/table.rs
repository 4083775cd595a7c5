//! The table that compares the demo's models.

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
            grouped(model.parameters),
            bytes(model.bytes),
            count(model.multiply_adds),
            percent(model.agreement),
            format!("{:.0} µs", model.p50_us),
        ],
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// 696,458
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    match number {
        0..10_000 => format!("{} B", grouped(number)),
        10_000..10_000_000 => format!("{} kB", grouped(number / 1_000)),
        _ => format!("{} MB", grouped(number / 1_000_000)),
    }
}

fn count(number: u64) -> String {
    match number {
        0..1_000_000 => grouped(number),
        _ => format!("{:.2} M", number as f64 / 1e6),
    }
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
        for cell in ["90.45 %", "39,154", "157 kB", "1.23 M", "95.00 %", "400 µs"] {
            assert!(lines[6].contains(cell), "{cell}: {text}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(bytes(9_999), "9,999 B");
        assert_eq!(bytes(2_790_000), "2,790 kB");
        assert_eq!(bytes(25_000_000), "25 MB");
    }
}
