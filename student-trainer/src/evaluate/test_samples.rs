//! The samples that models are evaluated on.

use std::{path::Path, sync::Arc};

use datasets::{DatasetError, Split, Subset, load_idx};

use super::EvaluateError;
use crate::config::RunConfig;

/// The test split of IDX files.
pub(super) fn of_idx(folder: &Path, class_names: &[String]) -> Result<Subset, DatasetError> {
    let images = load_idx(folder, Split::Test, class_names)?;
    Ok(Subset::whole(Arc::new(images)))
}

/// The test split of a run's data; without one, the samples that the run validates on.
pub(super) fn of_config(config: &RunConfig) -> Result<Subset, EvaluateError> {
    let opened = datasets::open(&config.data.spec(), &|_| {})?;
    let samples = opened.to_evaluate(config.data.validation_samples)?;
    samples.ok_or_else(|| EvaluateError::NoTestSamples(config.data.path.clone()))
}
