//! The samples that a run's models were evaluated on.

use std::path::PathBuf;

use datasets::{DataSpec, Format, Source, Subset};
use serde::Deserialize;

use crate::{data_set::with_bar, local::Evaluation, run_folder::RunFolder};

/// The keys of a run's `[data]` that say which samples those are.
#[derive(Debug, Deserialize)]
struct DataConfig {
    path: PathBuf,
    format: Option<String>,
    class_names: Vec<String>,
    label_column: Option<String>,
    max_unreadable: Option<f64>,
    #[serde(default)]
    validation_samples: usize,
}

/// The class names of the run's data, in label order.
pub(super) fn class_names(run: &RunFolder) -> Vec<String> {
    config(run).map_or_else(|_| Vec::new(), |config| config.class_names)
}

/// The samples of `evaluation`.
///
/// # Errors
/// Why they cannot be shown: the data is elsewhere, or has changed.
pub(super) fn evaluated(run: &RunFolder, evaluation: &Evaluation) -> Result<Subset, String> {
    let config = config(run)?;
    let mut spec = DataSpec {
        class_names: Some(config.class_names),
        label_column: config.label_column,
        ..DataSpec::new(config.path)
    };
    if let Some(format) = config.format.filter(|format| format != "auto") {
        spec.format = Some(format.parse::<Format>().map_err(text)?);
    }
    if let Some(share) = config.max_unreadable {
        spec.max_unreadable = share;
    }
    let opened = with_bar("reading the data", |progress| {
        datasets::open(&spec, progress)
    });
    let samples = opened.and_then(|opened| opened.to_evaluate(config.validation_samples));
    let changed = || "the data is not what the models were evaluated on".to_owned();
    let mut samples = samples.map_err(text)?.ok_or_else(changed)?;
    if samples.len() > evaluation.samples {
        samples = samples.sample(evaluation.samples).map_err(text)?;
    }
    let label = |sample| samples.label(sample).map(|label| label as usize);
    let labels: Vec<_> = (0..samples.len() as u32).map(label).collect();
    if labels != evaluation.labels {
        return Err(changed());
    }
    Ok(samples)
}

fn config(run: &RunFolder) -> Result<DataConfig, String> {
    let data = run.config.get("data").cloned();
    let data = data.ok_or_else(|| "config.toml has no [data]".to_owned())?;
    DataConfig::deserialize(data).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
