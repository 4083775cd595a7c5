//! Predictions for the rows of CSV files.

use std::path::{Path, PathBuf};

use common::output::{Messages, Results};
use datasets::{CsvRows, read_csv_rows};
use serde::Serialize;

use crate::{CliError, client::Remote, inference::ServedModel, prediction::most_probable};

/// The files and the model that predicts their rows.
pub(crate) struct Request<'r> {
    /// Name of the model.
    pub(crate) model: &'r str,
    /// `None` for the active version.
    pub(crate) version: Option<u64>,
    /// CSV files.
    pub(crate) files: &'r [PathBuf],
    /// Name of their label column, if it is not a usual one.
    pub(crate) label_column: Option<&'r str>,
    /// Number of classes to print per row.
    pub(crate) top: usize,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Prediction<'p> {
    file: &'p Path,
    /// From 0.
    row: usize,
    /// As in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'p str>,
    /// Most probable first.
    classes: Vec<Class<'p>>,
}

#[derive(Debug, Serialize)]
struct Class<'p> {
    class_name: &'p str,
    probability: f64,
}

/// Prints the most probable classes of every row as one line of JSON.
pub(crate) async fn predict(remote: Remote, request: Request<'_>) -> Result<(), CliError> {
    let model = ServedModel::connect(remote, request.model, request.version).await?;
    let &[values] = model.shape() else {
        return Err(CliError::Usage(format!(
            "model `{}` takes images, [channels, height, width] = {:?}, and no rows of numbers",
            request.model,
            model.shape()
        )));
    };
    let class_names = model.description().await?.class_names;
    let largest_batch = model.largest_batch().await?;
    for file in request.files {
        let CsvRows { rows, labels } = read_csv_rows(file, values, request.label_column)?;
        let mut table = Table {
            file,
            class_names: &class_names,
            labels: labels.as_deref(),
            top: request.top,
            correct: 0,
        };
        let mut printed = 0;
        for batch in rows.chunks(values * largest_batch) {
            let logits = model.infer(batch).await?;
            for logits in logits.chunks(class_names.len().max(1)) {
                table.print_row(printed, logits)?;
                printed += 1;
            }
        }
        table.print_summary();
    }
    Ok(())
}

/// A table whose predictions are printed.
struct Table<'p> {
    file: &'p Path,
    /// In the order of the logits.
    class_names: &'p [String],
    labels: Option<&'p [String]>,
    /// Number of classes to print per row.
    top: usize,
    /// Rows whose label is the most probable class.
    correct: usize,
}

impl Table<'_> {
    fn print_row(&mut self, row: usize, logits: &[f32]) -> Result<(), CliError> {
        let ranked = most_probable(logits, self.top.max(1)).into_iter();
        let named = ranked.filter_map(|(class, probability)| {
            Some(Class {
                class_name: self.class_names.get(class)?,
                probability,
            })
        });
        let classes: Vec<_> = named.collect();
        let label = self.labels.map(|labels| labels[row].as_str());
        let best = classes.first().map(|class| class.class_name);
        self.correct += usize::from(label.is_some() && label == best);
        let prediction = Prediction {
            file: self.file,
            row,
            label,
            classes,
        };
        // Fails if the file's name is not UTF-8.
        let line = serde_json::to_string(&prediction);
        let line = line.map_err(|error| CliError::file(self.file)(error.into()))?;
        Ok(writeln!(Results, "{line}")?)
    }

    fn print_summary(&self) {
        let Some(labels) = self.labels else {
            return;
        };
        let share = 100.0 * self.correct as f64 / labels.len() as f64;
        writeln!(
            Messages,
            "{}: {} of {} rows are predicted as labelled ({share:.2} %)",
            self.file.display(),
            self.correct,
            labels.len()
        );
    }
}
