//! Why a run ended early.

use std::{
    io,
    path::{Path, PathBuf},
};

use datasets::DatasetError;
use networks::SpecError;
use soft_targets::ClassesDiffer;
use soft_targets::human_bytes;
use teacher_pool::PoolError;
use torch_networks::TorchError;

use super::{ArtifactError, CheckpointError};
use crate::{config::PhaseKind, export::ExportError, publish::PublishError};

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
    /// Another process is at work in the folder.
    #[error(
        "another trainer is at work in {}; wait for it, or choose another output folder",
        folder.display()
    )]
    FolderInUse {
        /// The output folder.
        folder: PathBuf,
    },
    /// The interrupted run in the folder is another one.
    #[error(
        "cannot go on from the checkpoint: {key} was {before} and is now {now}; put it back, or \
         choose another output folder"
    )]
    ConfigChanged {
        /// Key of the configuration.
        key: String,
        /// Its value in the interrupted run.
        before: String,
        /// Its value now.
        now: String,
    },
    /// The interrupted run's configuration is damaged, or of another version of Retort.
    #[error("cannot go on with the interrupted run: {}: {problem}", file.display())]
    UnreadableConfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Thread count or numerics would change the bits.
    #[error(
        "cannot go on from the checkpoint with the same bits: it was made with {before}, here are \
         {now}; make them alike, or give --allow-other-bits and the run is marked as not \
         bit-reproducible"
    )]
    OtherCircumstances {
        /// Those of the interrupted run.
        before: String,
        /// Those now.
        now: String,
    },
    /// The images are not those of the interrupted run.
    #[error(
        "cannot go on from the checkpoint: the training images have fingerprint {now}, those of \
         the interrupted run had {before}"
    )]
    OtherData {
        /// Fingerprint in the checkpoint.
        before: String,
        /// Fingerprint now.
        now: String,
    },
    /// The teachers are not those of the interrupted run.
    #[error(
        "cannot go on from the checkpoint: the teachers are {now}, those of the interrupted run \
         were {before}"
    )]
    OtherTeacher {
        /// Model and numerics in the checkpoint.
        before: String,
        /// Model and numerics now.
        now: String,
    },
    /// There are checkpoints, and none is whole.
    #[error(
        "no checkpoint in {} can be used ({problem}); put a whole one there, or remove them and \
         the run begins anew",
        folder.display()
    )]
    NoUsableCheckpoint {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the newest.
        problem: String,
    },
    /// A checkpoint cannot be made.
    #[error("{}: {error}", file.display())]
    Checkpoint {
        /// The file.
        file: PathBuf,
        /// Why.
        error: CheckpointError,
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
    /// The disk would not hold what the run leaves.
    #[error(
        "{} has {} free, but the checkpoints and weights of this run take about {}; free some space, or lower \
         checkpoints.keep_last and checkpoints.keep_best",
        folder.display(), human_bytes(*free), human_bytes(*needed)
    )]
    NoSpace {
        /// The run's folder.
        folder: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
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
    /// The loss, or a weight, is no longer a number.
    #[error(
        "{what} in phase {phase} ({kind}), epoch {epoch}, step {step}, \
         at learning rate {learning_rate:.2e}; lower the learning rate{}",
        last_good(checkpoint)
    )]
    Diverged {
        /// What it was that showed it.
        what: NotFinite,
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
        /// The last one before.
        checkpoint: Option<PathBuf>,
    },
    /// Soft targets are of other classes than the data.
    #[error(
        "{whose} {differ}; give data.class_names the same names, or set soft_targets.class_names = \"ignore\" \
         where they mean the same"
    )]
    OtherClasses {
        /// Who has the classes, for people.
        whose: String,
        /// How they differ.
        differ: ClassesDiffer,
    },
    /// A recording's teacher has other class names now, or has them in another order.
    #[error(
        "the teacher's class names are not those that it had when {} was made; give the teacher its names \
         back, or choose another soft_targets.folder",
        .0.display()
    )]
    RenamedClasses(PathBuf),
    /// Soft targets cannot be had; the text names the endpoint.
    #[error("{error}{}", to_go_on(checkpoint))]
    Teacher {
        /// Why.
        error: PoolError,
        /// Of the last step done.
        checkpoint: Option<PathBuf>,
    },
    /// All teachers are gone, and the recording that should take their place lacks what is needed.
    #[error("{error}; and {recording}{}", to_go_on(checkpoint))]
    NotRecorded {
        /// Why there are no teachers.
        error: PoolError,
        /// What the recording lacks.
        recording: Box<soft_targets::StoreError>,
        /// Of the last step done.
        checkpoint: Option<PathBuf>,
    },
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
    /// A recording, ahead of any run, has no teacher any more, or found none; the text names the endpoint.
    #[error("{0}; the same command goes on from the shards that are whole")]
    RecordingWithoutTeacher(PoolError),
    /// A recording, ahead of any run, was asked to stop.
    #[error("stopped; the same command goes on from the shards that are whole")]
    RecordingStopped,
    /// The run was asked to stop.
    #[error("stopped{}", to_go_on(checkpoint))]
    Cancelled {
        /// Of the last step done.
        checkpoint: Option<PathBuf>,
    },
}

/// What became infinite or NaN.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotFinite {
    /// The loss of a batch.
    #[error("the loss became {0}")]
    Loss(f64),
    /// A weight of this tensor, by the step named.
    #[error("`{0}` became infinite or NaN")]
    Weight(String),
}

impl RunError {
    /// What is wrong with a recording that should take the place of teachers, and why there are none.
    pub(crate) fn in_place_of_teachers(self, error: PoolError) -> Self {
        match self {
            Self::SoftTargets(recording) => Self::NotRecorded {
                error,
                recording: Box::new(recording),
                checkpoint: None,
            },
            other => other,
        }
    }

    /// What ended a recording ahead of any run, which goes on from shards and has no checkpoints.
    pub(crate) fn of_recording(self) -> Self {
        match self {
            Self::Teacher { error, .. } => Self::RecordingWithoutTeacher(error),
            Self::Cancelled { .. } => Self::RecordingStopped,
            other => other,
        }
    }

    /// Names the checkpoint that the run left, where that is of use.
    pub(super) fn with_checkpoint(mut self, newest: Option<&Path>) -> Self {
        if let Self::Diverged { checkpoint, .. }
        | Self::Teacher { checkpoint, .. }
        | Self::NotRecorded { checkpoint, .. }
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

fn to_go_on(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(file) => format!(
            "; do the same run again and it goes on from {}",
            file.display()
        ),
        None => "; there is no checkpoint yet, so the same run begins anew".to_owned(),
    }
}

impl From<PoolError> for RunError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Cancelled => Self::Cancelled { checkpoint: None },
            error => Self::Teacher {
                error,
                checkpoint: None,
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_says_that_it_goes_on_and_a_run_that_it_begins_anew() {
        for error in [PoolError::Cancelled, PoolError::Closed] {
            let run = RunError::from(error.clone()).to_string();
            assert!(run.contains("the same run begins anew"), "{run}");
            let recording = RunError::from(error).of_recording().to_string();
            let how = "the same command goes on from the shards that are whole";
            assert!(recording.contains(how), "{recording}");
            assert!(!recording.contains("checkpoint"), "{recording}");
        }
    }
}
