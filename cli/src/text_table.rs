//! Tables for a terminal.

/// The rows in columns, each line indented by two: the first column to the left, the others to the right. All rows
/// have the same number of cells.
pub(crate) fn text_table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &match column {
                0 => format!("  {cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

/// The cells of each line that are not empty. A cell contains no two spaces in a row.
#[cfg(test)]
pub(crate) fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().map(|line| {
        let cells = line.split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).collect()
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["", "a"], ["größte", "12.5 µs"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(text_table(&rows), "                a\n  größte  12.5 µs\n");
    }
}
