//! Why a run ended early.

use std::{
    io,
    path::{Path, PathBuf},
};

use model_signing::{KeyFileError, SigningError};
use networks::{SpecError, WeightsError};
use torch_networks::{DeviceUnavailable, TorchError};

use super::{
    agreement::WorkersError, checkpoints::CheckpointsError, disk_space::DiskSpaceError,
    folder::FolderError, gate_error::PublishGateError, gate_verdict::Withheld,
    initial_weights::InitialWeightsError, model_folder::ModelFolderError, resume::ResumeError,
};
use crate::{
    bucket_run::BucketRunError,
    engine::{Divergence, EngineError},
    export::ExportError,
    publish::PublishError,
    soft_targets::SoftTargetError,
    training_data::DataError,
};

/// Why a run ended early. Each text says what is wrong and, if possible, what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configured device does not exist.
    #[error(transparent)]
    Device(#[from] DeviceUnavailable),
    /// The output folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The run cannot have its output in the bucket, or the bucket lacks its last state.
    #[error(transparent)]
    Bucket(#[from] BucketRunError),
    /// The interrupted run in the folder differs from this one.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// There are checkpoints, but none can be used.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointsError),
    /// The workers cannot train together, or one of them is lost.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// A file of the run folder cannot be read or written; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The disk has too little space for the run.
    #[error(transparent)]
    DiskSpace(#[from] DiskSpaceError),
    /// The initial weights cannot be used; the text names the file.
    #[error(transparent)]
    InitialWeights(#[from] InitialWeightsError),
    /// The images cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model folder cannot be written; the text names the file.
    #[error(transparent)]
    ModelFolder(#[from] ModelFolderError),
    /// The network's specification is wrong.
    #[error("network: {0}")]
    Spec(#[from] SpecError),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The loss, or a weight, is no longer finite.
    #[error("{error}{}", last_good(checkpoint))]
    Diverged {
        /// The value that is not finite, and its position.
        error: Box<Divergence>,
        /// The last checkpoint before.
        checkpoint: Option<PathBuf>,
    },
    /// The run cannot have the soft targets that its configuration names.
    #[error(transparent)]
    SoftTargets(SoftTargetError),
    /// The run has no soft targets for now; the text names the teachers.
    #[error("{error}{}", how_to_continue(checkpoint))]
    NoSoftTargets {
        /// Why there are none.
        error: SoftTargetError,
        /// Checkpoint of the last step.
        checkpoint: Option<PathBuf>,
    },
    /// The model cannot be exported, or ONNX Runtime does not compute what libtorch does.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The key that signs the model cannot be used; the text names the file.
    #[error("publish.signing_key: {0}")]
    SigningKey(#[from] KeyFileError),
    /// The model cannot be signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The bounds that the model must meet cannot be measured.
    #[error(transparent)]
    PublishGate(#[from] PublishGateError),
    /// The model misses a bound and was not published. The run folder is complete.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// The model could not be uploaded. The run folder is complete except for its manifest.
    #[error(transparent)]
    Publish(PublishError),
    /// A worker that has no checkpoints, because it only trains, cannot continue.
    #[error("worker {rank}: {problem}")]
    Follower {
        /// The worker.
        rank: usize,
        /// What is wrong, and if possible what to do.
        problem: String,
    },
    /// The run was asked to stop.
    #[error("stopped{}", how_to_continue(checkpoint))]
    Cancelled {
        /// Checkpoint of the last step.
        checkpoint: Option<PathBuf>,
    },
}

impl RunError {
    /// The error of a worker with another rank than 0: it does not know whether there are checkpoints.
    pub(super) fn of_follower(self, rank: usize) -> Self {
        match self {
            Self::Diverged { error, .. } => Self::Follower {
                rank,
                problem: error.to_string(),
            },
            Self::NoSoftTargets { error, .. } => Self::Follower {
                rank,
                problem: error.to_string(),
            },
            error => error,
        }
    }

    /// The error of a run that was `asked_to_stop`: if all workers are, those that stop first are lost to the others.
    pub(super) fn if_stopped(self, asked_to_stop: bool) -> Self {
        match self {
            Self::Workers(WorkersError::Lost(_)) if asked_to_stop => {
                Self::Cancelled { checkpoint: None }
            }
            error => error,
        }
    }

    /// Names the checkpoint that the run left, if the error depends on it.
    pub(super) fn with_checkpoint(mut self, newest: Option<&Path>) -> Self {
        if let Self::Diverged { checkpoint, .. }
        | Self::NoSoftTargets { checkpoint, .. }
        | Self::Cancelled { checkpoint } = &mut self
        {
            *checkpoint = newest.map(Path::to_owned);
        }
        self
    }
}

fn last_good(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(file) => format!("; the last good checkpoint is {}", file.display()),
        None => "; there is no checkpoint yet".to_owned(),
    }
}

fn how_to_continue(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(file) => format!(
            "; start the same run again to resume from {}",
            file.display()
        ),
        None => {
            "; there is no checkpoint yet, so the same run starts from the beginning".to_owned()
        }
    }
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Diverged(error) => Self::Diverged {
                error,
                checkpoint: None,
            },
            EngineError::SoftTargets(error) => error.into(),
            EngineError::Checkpoint(error) => Self::Io(error),
            EngineError::Torch(error) => Self::Torch(error),
            EngineError::Sample(error) => Self::Data(DataError::Dataset(error.into())),
            EngineError::LostWorker(error) => Self::Workers(error.into()),
            EngineError::Cancelled => Self::Cancelled { checkpoint: None },
        }
    }
}

impl From<SoftTargetError> for RunError {
    fn from(error: SoftTargetError) -> Self {
        match error {
            SoftTargetError::Cancelled => Self::Cancelled { checkpoint: None },
            error if error.is_temporary() => Self::NoSoftTargets {
                error,
                checkpoint: None,
            },
            error => Self::SoftTargets(error),
        }
    }
}

impl From<PublishError> for RunError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Cancelled => Self::Cancelled { checkpoint: None },
            error => Self::Publish(error),
        }
    }
}

impl From<WeightsError> for RunError {
    fn from(error: WeightsError) -> Self {
        Self::Torch(error.into())
    }
}

#[cfg(test)]
mod tests {
    use teacher_pool::PoolError;
    use torch_distributed::LostWorker;

    use super::*;

    #[test]
    fn a_worker_that_is_lost_while_the_run_stops_is_no_failure() {
        let lost = || {
            RunError::from(EngineError::LostWorker(LostWorker {
                rank: 0,
                count: 2,
                problem: "connection closed".to_owned(),
            }))
        };
        assert!(matches!(
            lost().if_stopped(true),
            RunError::Cancelled { .. }
        ));
        let text = lost().if_stopped(false).to_string();
        assert!(text.contains("lost contact"), "{text}");
        let indivisible = || WorkersError::Indivisible {
            phase: 0,
            accumulate: 4,
            workers: 3,
        };
        let error = RunError::from(indivisible()).if_stopped(true);
        assert_eq!(error.to_string(), indivisible().to_string());
    }

    #[test]
    fn a_worker_that_only_trains_says_nothing_of_checkpoints() {
        let error = RunError::from(SoftTargetError::from(PoolError::Closed));
        let text = error.of_follower(3).to_string();
        assert!(text.starts_with("worker 3: "), "{text}");
        assert!(!text.contains("checkpoint"), "{text}");
    }

    #[test]
    fn a_run_that_ends_early_says_how_it_continues() {
        for error in [PoolError::Cancelled, PoolError::Closed] {
            let error = RunError::from(SoftTargetError::from(error));
            let text = error.to_string();
            assert!(
                text.contains("the same run starts from the beginning"),
                "{text}"
            );
            let file = Path::new("run/checkpoints/step-0000000007.safetensors");
            let text = error.with_checkpoint(Some(file)).to_string();
            assert!(text.contains("resume from run/checkpoints/step-"), "{text}");
        }
    }
}
