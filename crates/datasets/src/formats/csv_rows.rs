//! Rows of a CSV file to predict, with or without labels.

use std::path::Path;

use super::csv::{LABEL_COLUMNS, Table, label_column};
use crate::DatasetError;

/// The rows of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvRows {
    /// [rows, values], finite.
    pub rows: Vec<f32>,
    /// The label of each row as text, if the table has labels.
    pub labels: Option<Vec<String>>,
}

/// Reads the table in `file` for a model that takes rows of `values` values, in the order of its columns.
///
/// `label` names the label column. Without it, a table of `values` columns has no labels; in any other, the label
/// column is found by its usual names.
///
/// # Errors
/// [`DatasetError`], which names the file, and the line and column of a value that cannot be used.
pub fn read_csv_rows(
    file: &Path,
    values: usize,
    label: Option<&str>,
) -> Result<CsvRows, DatasetError> {
    let table = Table::read_with(file, |header| find_label(header, values, label))?;
    let has_labels = !table.labels.is_empty();
    let labels = table.labels.iter().map(ToString::to_string);
    Ok(CsvRows {
        labels: has_labels.then(|| labels.collect()),
        rows: table.rows,
    })
}

fn find_label(
    header: &[String],
    values: usize,
    wanted: Option<&str>,
) -> Result<Option<usize>, String> {
    let columns = header.len();
    if wanted.is_none() && columns == values {
        return Ok(None);
    }
    let label = match (wanted, label_column(header, wanted)) {
        (Some(_), Err(problem)) => return Err(problem),
        (_, found) => found.ok(),
    };
    if columns - usize::from(label.is_some()) == values {
        return Ok(label);
    }
    let besides = match label {
        Some(label) => format!("besides the label `{}`", header[label]),
        None => format!("and none is called {}", LABEL_COLUMNS.join(", ")),
    };
    let found = columns - usize::from(label.is_some());
    Err(format!(
        "it has {found} columns {besides}; the model takes rows of {values} values"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(content: &str, values: usize, label: Option<&str>) -> Result<CsvRows, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table.csv");
        fs::write(&file, content).unwrap();
        read_csv_rows(&file, values, label).map_err(|error| error.to_string())
    }

    #[test]
    fn tables_with_and_without_labels_are_read() {
        let rows = vec![1.0, 2.0, 3.0, 4.0];
        let labels = |labels: [&str; 2]| Some(labels.map(str::to_owned).to_vec());
        for (content, label, expected) in [
            ("a,b\n1,2\n3,4\n", None, None),
            ("a,b,label\n1,2,x\n3,4,7\n", None, labels(["x", "7"])),
            ("kind,a,b\nx,1,2\ny,3,4\n", Some("kind"), labels(["x", "y"])),
            // A value may be called like a label.
            ("x,y\n1,2\n3,4\n", None, None),
        ] {
            let found = read(content, 2, label).unwrap();
            assert_eq!((found.rows, found.labels), (rows.clone(), expected));
        }
    }

    #[test]
    fn tables_of_another_width_are_refused() {
        for (content, label, expected) in [
            (
                "a,b,c\n1,2,3\n",
                None,
                "it has 3 columns and none is called label",
            ),
            (
                "a,b,c,y\n1,2,3,4\n",
                None,
                "it has 3 columns besides the label `y`",
            ),
            (
                "a,b\n1,2\n",
                Some("a"),
                "besides the label `a`; the model takes rows of 2",
            ),
            ("a,b,c\n1,2,3\n", Some("d"), "it has no column `d`"),
            (
                "a,b\n1,x\n",
                None,
                "line 2, column `b`: `x` is not a finite number",
            ),
        ] {
            let error = read(content, 2, label).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("table.csv"), "{error}");
        }
    }
}
