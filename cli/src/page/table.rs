//! A table of a page.

use askama::Template;

/// A table whose first column has the names of the rows.
#[derive(Debug, Template)]
#[template(path = "table.html")]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    cells: Vec<String>,
}

impl Table {
    /// `headings` are those of all columns but the first. Each row has a name and a cell for each heading.
    pub(crate) fn new<H, N, C>(
        headings: impl IntoIterator<Item = H>,
        rows: impl IntoIterator<Item = (N, C)>,
    ) -> Self
    where
        H: Into<String>,
        N: Into<String>,
        C: IntoIterator<Item = String>,
    {
        let rows = rows.into_iter().map(|(name, cells)| Row {
            name: name.into(),
            cells: cells.into_iter().collect(),
        });
        Self {
            headings: headings.into_iter().map(Into::into).collect(),
            rows: rows.collect(),
        }
    }
}
