//! Why there are no soft targets.

/// Why a run cannot have soft targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// An endpoint in the configuration is no address.
    #[error("teacher.endpoints: {0}")]
    Endpoint(String),
    /// No teacher was found when the run began.
    #[error("no teacher for {seconds} s: {teachers}")]
    NoTeacher {
        /// How long the run waited.
        seconds: u64,
        /// Every endpoint with its last error.
        teachers: String,
    },
    /// There were teachers, and for too long none of them answered. A caller that can do without
    /// soft targets may go on: each further ticket fails like this at once, until one is back.
    #[error("the teachers are gone, no answer for {seconds} s: {teachers}")]
    TeachersGone {
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
