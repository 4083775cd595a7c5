//! Why the bounds of `[publish.gate]` cannot be measured.

use std::{io, path::PathBuf};

/// Why the bounds of a run cannot be measured. The run is refused before it trains.
#[derive(Debug, thiserror::Error)]
pub enum PublishGateError {
    /// There is nothing to measure on.
    #[error(
        "{key} is measured on validation samples, and there are none; set data.validation_samples"
    )]
    NoValidation {
        /// Key of the bound.
        key: &'static str,
    },
    /// No validation sample has a label.
    #[error(
        "{key} is measured on labelled validation samples, and none has a label; use publish.gate.min_agreement, \
         or label the data"
    )]
    NoLabels {
        /// Key of the bound.
        key: &'static str,
    },
    /// The baseline has no manifest that can be read.
    #[error("publish.gate.baseline = {}: holds no finished run that can be read: {error}", folder.display())]
    UnreadableBaseline {
        /// Folder of the run.
        folder: PathBuf,
        /// The problem; names the file.
        error: io::Error,
    },
    /// The baseline cannot be compared with this run.
    #[error(
        "publish.gate.baseline = {}: {what} {found}, and this run has {wanted}; a baseline has the same number of \
         parameters and the same validation samples",
        folder.display()
    )]
    OtherBaseline {
        /// Folder of the run.
        folder: PathBuf,
        /// What differs.
        what: &'static str,
        /// The baseline's value.
        found: String,
        /// This run's value.
        wanted: String,
    },
    /// The baseline's manifest lacks what is compared.
    #[error(
        "publish.gate.baseline = {}: its manifest has no {what}, because the run had no validation samples or is of \
         an older version of Retort; repeat it with the validation samples of this run",
        folder.display()
    )]
    IncompleteBaseline {
        /// Folder of the run.
        folder: PathBuf,
        /// Key of the manifest.
        what: &'static str,
    },
}
