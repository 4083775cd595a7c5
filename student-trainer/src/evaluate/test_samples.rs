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
    if let Some(test) = opened.test {
        return Ok(Subset::whole(test));
    }
    match (config.data.validation_samples, opened.validation) {
        (0, Some(validation)) => Ok(Subset::whole(validation)),
        (0, None) => Err(EvaluateError::NoTestSamples(config.data.path.clone())),
        (count, _) => Ok(Subset::whole(opened.train).hold_out(count)?.1),
    }
}
