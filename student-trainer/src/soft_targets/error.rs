//! Why a run has no soft targets.

use std::path::PathBuf;

use datasets::SampleError;
use soft_targets::{ClassesDiffer, Encoding, StoreError};
use teacher_pool::PoolError;

use crate::config::UnmetNeed;

/// Why a run has no soft targets. Each text says what is wrong and, if possible, what to do.
#[derive(Debug, thiserror::Error)]
pub enum SoftTargetError {
    /// The soft targets have other classes than the data.
    #[error(
        "{whose} {differ}; give data.class_names the same names, or set soft_targets.class_names = \"ignore\" \
         if they mean the same"
    )]
    OtherClasses {
        /// The teacher or the recording that has the classes.
        whose: String,
        /// How they differ.
        differ: ClassesDiffer,
    },
    /// The teacher's class names are no longer those of its recording, or are in another order.
    #[error(
        "the teacher's class names are not those that it had when {} was made; give the teacher its names \
         back, or choose another soft_targets.folder",
        .0.display()
    )]
    RenamedClasses(PathBuf),
    /// A recording does not have what a term of a loss needs.
    #[error(
        "{term} needs {}, but the recording {} {} ({encoding}); record with teacher.encoding = {}",
        need.needed, recording.display(), need.found, need.instead
    )]
    UnmetNeed {
        /// Key and kind of the term.
        term: String,
        /// What the term needs.
        need: UnmetNeed,
        /// Folder of the recording.
        recording: PathBuf,
        /// Its encoding.
        encoding: Encoding,
    },
    /// No teacher answers; the text names the endpoints.
    #[error(transparent)]
    Teacher(PoolError),
    /// No teacher is left, and the recording that replaces them lacks shards.
    #[error("{error}; and {recording}")]
    NotRecorded {
        /// Why there are no teachers.
        error: PoolError,
        /// The error of the recording.
        recording: Box<StoreError>,
    },
    /// A recording cannot be used; the text names it.
    #[error(transparent)]
    Recording(#[from] StoreError),
    /// A sample cannot be read; the text names its file.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SoftTargetError {
    /// Whether the same run can continue later, when a teacher is available again or the recording is complete.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Teacher(_) | Self::NotRecorded { .. } | Self::Cancelled => true,
            Self::OtherClasses { .. }
            | Self::RenamedClasses(_)
            | Self::UnmetNeed { .. }
            | Self::Recording(_)
            | Self::Sample(_) => false,
        }
    }

    /// Adds why there are no teachers to the error of the recording that should replace them.
    pub(super) fn without_teachers(self, error: PoolError) -> Self {
        match self {
            Self::Recording(recording) => Self::NotRecorded {
                error,
                recording: Box::new(recording),
            },
            other => other,
        }
    }
}

impl From<PoolError> for SoftTargetError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Cancelled => Self::Cancelled,
            error => Self::Teacher(error),
        }
    }
}
