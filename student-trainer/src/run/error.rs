//! Why a run ended early.

use std::{io, path::PathBuf};

use datasets::DatasetError;
use networks::SpecError;

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
    /// The network's specification is wrong.
    #[error("network: {0}")]
    Spec(#[from] SpecError),
    /// Data and network do not fit together.
    #[error("{key} is {network}, but the images of {} have {data}", path.display())]
    DataMismatch {
        /// Key of the configuration.
        key: &'static str,
        /// What the network says.
        network: String,
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
        kind: crate::config::PhaseKind,
        /// 1-based.
        epoch: usize,
        /// Step of the epoch, 1-based.
        step: u64,
        /// Of that step.
        learning_rate: f64,
    },
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}
