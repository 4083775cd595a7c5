//! A self-contained page about several runs.

use askama::Template;
use proto::runs::v1::EpochFinished;

use super::{Comparison, row};
use crate::{
    page::{Chart, Series, Table, Unit, colour_rules},
    runs::RunHistory,
};

/// What the template `compare.html` shows.
#[derive(Template)]
#[template(path = "compare.html")]
pub(super) struct Page {
    runs: Table,
    /// `None` if the runs have the same settings.
    differences: Option<Table>,
    charts: [Chart; 3],
    colour_rules: String,
}

impl Page {
    pub(super) fn new(comparison: &Comparison) -> Self {
        let runs = || comparison.names.iter().zip(&comparison.runs);
        let chart = |title: &str, unit, value: fn(&EpochFinished) -> Option<f64>| Chart {
            title: title.to_owned(),
            x_label: "epoch",
            series: runs()
                .map(|(name, run)| Series::new(name, over_epochs(&run.history, value)))
                .collect(),
            unit,
        };
        Self {
            runs: Table::new(
                ["state"].into_iter().chain(row::HEADINGS),
                runs().map(|(name, run)| {
                    let state = [row::state(run).to_owned()];
                    (name, state.into_iter().chain(row::cells(run)))
                }),
            ),
            differences: (!comparison.differences.is_empty()).then(|| {
                let rows = comparison.differences.iter();
                let rows = rows.map(|row| (&row.key, row.values.iter().cloned()));
                Table::new(&comparison.names, rows)
            }),
            charts: [
                chart("Validation accuracy", Unit::Percent, |epoch| {
                    epoch.validation_accuracy
                }),
                chart("Training accuracy", Unit::Percent, |epoch| {
                    (!epoch.unlabelled).then_some(epoch.train_accuracy)
                }),
                chart("Training loss", Unit::Number, |epoch| {
                    Some(epoch.train_loss)
                }),
            ],
            colour_rules: colour_rules(),
        }
    }

    /// The whole page.
    pub(super) fn to_html(&self) -> String {
        // Cannot fail: the page is written to a string.
        self.render().expect("the page renders")
    }
}

/// A figure after each epoch; epochs are counted over all phases.
fn over_epochs(history: &RunHistory, value: fn(&EpochFinished) -> Option<f64>) -> Vec<(f64, f64)> {
    let epochs = history.phases.iter().flat_map(|phase| &phase.epochs);
    let numbered = epochs.enumerate();
    numbered
        .filter_map(|(before, epoch)| Some((before as f64 + 1.0, value(epoch)?)))
        .collect()
}
