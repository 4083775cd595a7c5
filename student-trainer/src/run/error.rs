//! Why a run ended early.

use std::{io, path::PathBuf};

use datasets::DatasetError;
use networks::SpecError;
use torch_networks::TorchError;

use super::ArtifactError;
use crate::{config::PhaseKind, export::ExportError, pool::PoolError, publish::PublishError};

/// Why a run ended early. Each text says what is wrong and, where there is something to do, what.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The output folder must not be overwritten.
    #[error(
        "{} already holds a finished run; choose another output folder or remove this one",
        folder.display()
    )]
    AlreadyFinished {
        /// The output folder.
        folder: PathBuf,
    },
    /// The output folder holds something that is not a run.
    #[error(
        "{} is not empty and holds no run; choose another output folder",
        folder.display()
    )]
    ForeignFolder {
        /// The output folder.
        folder: PathBuf,
    },
    /// A file of the run folder cannot be read or written; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The data cannot be used; the text names the file.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A model folder cannot be written; the text names the file.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The network's specification is wrong.
    #[error("network: {0}")]
    Spec(#[from] SpecError),
    /// Data and configuration do not fit together.
    #[error("{key} = {configured}, but the images in {} have {data}", path.display())]
    DataMismatch {
        /// Key of the configuration.
        key: &'static str,
        /// Its value.
        configured: String,
        /// What the data say.
        data: String,
        /// Folder of the data.
        path: PathBuf,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss became {loss} in phase {phase} ({kind}), epoch {epoch}, by step {step}, \
         at learning rate {learning_rate:.2e}; lower the learning rate"
    )]
    Diverged {
        /// NaN or infinite.
        loss: f64,
        /// 0-based.
        phase: usize,
        /// What the phase does.
        kind: PhaseKind,
        /// 1-based.
        epoch: usize,
        /// Step of the epoch, 1-based.
        step: u64,
        /// Of that step.
        learning_rate: f64,
    },
    /// Soft targets cannot be had; the text names the endpoint.
    #[error(transparent)]
    Teacher(PoolError),
    /// A recording cannot be used; the text names it.
    #[error(transparent)]
    SoftTargets(#[from] soft_targets::StoreError),
    /// The configuration says too little to record, or contradicts itself.
    #[error("soft targets cannot be recorded: {0}")]
    CannotRecord(&'static str),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The ONNX model is not what libtorch computes.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The model could not be uploaded. The run folder is complete but for its manifest.
    #[error(transparent)]
    Publish(PublishError),
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<PoolError> for RunError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Cancelled => Self::Cancelled,
            error => Self::Teacher(error),
        }
    }
}

impl From<PublishError> for RunError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Cancelled => Self::Cancelled,
            error => Self::Publish(error),
        }
    }
}
