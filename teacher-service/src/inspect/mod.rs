//! Inspects a teacher: what it is, how well it fits a data set, what looks wrong.
//!
//! [`inspect`] opens the model as the service does, but fills the gaps of an incomplete card with usual values and
//! describes a model that the service would refuse. With a data set it measures how well the model fits, and tries
//! other cards: a hint is given only for one that is significantly better on the same samples.

mod assignment;
mod completion;
mod confusion;
mod data_report;
mod labels;
mod metrics;
mod model_report;
mod run;
mod samples;
mod search;
mod setting;
mod significance;
mod subject;
mod text;
mod variants;

use std::{num::NonZero, path::PathBuf};

use datasets::{DatasetError, Format, Ground};
use serde::Serialize;

use crate::{
    backend::{BackendError, LoadError},
    config::ComputeConfig,
    model::ModelConfig,
};
use run::Run;
use samples::Samples;

pub use completion::Assumption;
pub use confusion::Confusion;
pub use data_report::{Agreement, ClassShare, Confidence, DataReport, Fit};
pub use labels::{ClassMatch, MatchedBy};
pub use metrics::Calibration;
pub use model_report::ModelReport;
pub use search::{Figures, Hint};
pub use setting::Setting;
pub use variants::HintKind;

/// The data set that a model is tried on.
#[derive(Debug, Clone, PartialEq)]
pub struct DataChoice {
    /// A folder or a file.
    pub path: PathBuf,
    /// How the data is stored; detected if absent.
    pub format: Option<Format>,
    /// Color that shows through transparent pixels of pictures.
    pub ground: Ground,
    /// Most samples to take.
    pub samples: NonZero<usize>,
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What the model is.
    pub model: ModelReport,
    /// How well it fits the data; absent without data.
    pub data: Option<DataReport>,
    /// What looks wrong on the data. Each hint builds on those before it.
    pub hints: Vec<Hint>,
}

/// How far an inspection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Samples or files that are done.
    pub done: usize,
    /// All of them.
    pub total: usize,
}

/// What an inspection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It reads the data set.
    Reading,
    /// It computes the samples with the card as it is.
    Measuring,
    /// It tries another card.
    Trying,
}

/// Why a model cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no model to describe.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The samples are not what the model takes.
    #[error("the model takes {input}, but the data has {samples}")]
    Samples {
        /// What a sample is.
        samples: String,
        /// What the model takes.
        input: String,
    },
    /// The model cannot compute the samples.
    #[error("the model cannot compute the samples: {0}")]
    Model(#[from] BackendError),
}

/// Inspects the configured model, and with `data` how well it fits them.
///
/// A model that cannot compute is described, and [`Report::data`] is absent.
///
/// # Errors
/// See [`InspectError`].
pub fn inspect(
    model: &ModelConfig,
    compute: &ComputeConfig,
    data: Option<&DataChoice>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, InspectError> {
    let samples = data.map(|data| Samples::draw(data, progress));
    let samples = samples.transpose()?;
    let data_classes = samples.as_ref().map_or(&[][..], Samples::class_names);
    let (report, subject) = model_report::describe(model, compute, data_classes)?;
    let (Some(samples), Some(mut subject), Some(choice)) = (&samples, subject, data) else {
        return Ok(Report {
            model: report,
            data: None,
            hints: Vec::new(),
        });
    };
    let mut run = Run {
        subject: &mut subject,
        samples,
        progress,
    };
    let (data, hints) = data_report::measure(&mut run, choice)?;
    Ok(Report {
        model: report,
        data: Some(data),
        hints,
    })
}
