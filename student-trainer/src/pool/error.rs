//! Why there are no soft targets.

/// Why a run cannot have soft targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// An endpoint in the configuration is no address.
    #[error("teacher.endpoints: {0}")]
    Endpoint(String),
    /// Nobody was connected for too long.
    #[error("no teacher for {seconds} s: {teachers}")]
    NoTeacher {
        /// How long the run waited.
        seconds: u64,
        /// Every endpoint with its last error.
        teachers: String,
    },
    /// Everybody answers and nobody can be used.
    #[error("no teacher can be used: {teachers}")]
    AllRefused {
        /// Every endpoint with the reason.
        teachers: String,
    },
    /// A teacher could not make sense of a batch.
    #[error("teacher {teacher} refused a batch: {reason}")]
    BatchRefused {
        /// The teacher's endpoint.
        teacher: String,
        /// The teacher's words.
        reason: String,
    },
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The pool was dropped before the answer came.
    #[error("the teacher pool was closed")]
    Closed,
}
