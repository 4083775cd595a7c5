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
        need: Box<UnmetNeed>,
        /// Folder or URL of the recording.
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
    Recording(StoreError),
    /// A sample cannot be read; the text names its file.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// An error of a named teacher.
    #[error("teacher {name}: {error}")]
    Named {
        /// Its name.
        name: String,
        /// Its error.
        error: Box<SoftTargetError>,
    },
    /// It is not clear which teacher is meant, or it cannot be reached.
    #[error(
        "the configuration has no teacher that can be asked, or several ({names}); name one of them"
    )]
    WhichTeacher {
        /// The teachers of the configuration.
        names: String,
    },
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SoftTargetError {
    /// Whether the same run can continue later, when a teacher or the bucket is available again or the recording is
    /// complete.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Teacher(_) | Self::NotRecorded { .. } | Self::Cancelled => true,
            Self::Named { error, .. } => error.is_temporary(),
            Self::Recording(error) => error.is_temporary(),
            Self::OtherClasses { .. }
            | Self::WhichTeacher { .. }
            | Self::RenamedClasses(_)
            | Self::UnmetNeed { .. }
            | Self::Sample(_) => false,
        }
    }

    /// Adds the name of the teacher, if it has one.
    pub(super) fn of(self, teacher: Option<&str>) -> Self {
        match (self, teacher) {
            (Self::Cancelled, _) => Self::Cancelled,
            (error, None) => error,
            (error, Some(name)) => Self::Named {
                name: name.to_owned(),
                error: Box::new(error),
            },
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

impl From<StoreError> for SoftTargetError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => Self::Cancelled,
            error => Self::Recording(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_is_not_read_because_of_a_stop_is_no_failure() {
        let stopped = SoftTargetError::from(StoreError::Stopped);
        assert!(matches!(stopped, SoftTargetError::Cancelled), "{stopped}");
        let problem = "s3://b/a: no answer".to_owned();
        let unavailable = SoftTargetError::from(StoreError::Unavailable { problem });
        assert!(
            matches!(unavailable, SoftTargetError::Recording(_)),
            "{unavailable}"
        );
        // It stays a stop beside another problem.
        let stopped = SoftTargetError::from(StoreError::Stopped);
        let stopped = stopped.without_teachers(PoolError::Closed).of(Some("big"));
        assert!(matches!(stopped, SoftTargetError::Cancelled), "{stopped}");
    }

    #[test]
    fn an_error_of_a_named_teacher_names_it_and_stays_as_temporary_as_it_was() {
        let gone = || SoftTargetError::Teacher(PoolError::Closed);
        let named = gone().of(Some("big"));
        assert_eq!(named.to_string(), format!("teacher big: {}", gone()));
        assert!(named.is_temporary());
        let lasting = SoftTargetError::RenamedClasses("targets".into());
        assert!(!lasting.of(Some("big")).is_temporary());
        assert_eq!(gone().of(None).to_string(), gone().to_string());
        let cancelled = SoftTargetError::Cancelled.of(Some("big"));
        assert!(matches!(cancelled, SoftTargetError::Cancelled));
    }
}
