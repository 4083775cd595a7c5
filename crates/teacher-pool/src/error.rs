//! Why a run cannot get soft targets.

/// Why a run cannot get soft targets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// An endpoint in the configuration is not an address.
    #[error("teacher.endpoints: {0}")]
    Endpoint(String),
    /// No teacher was found when the run started.
    #[error("no teacher for {seconds} s: {teachers}")]
    NoTeacher {
        /// How long the run waited.
        seconds: u64,
        /// Every endpoint with its last error.
        teachers: String,
    },
    /// Teachers were connected before, and none has answered for too long. A caller that can continue without soft
    /// targets may do so: each further ticket fails with this error at once, until a teacher is connected again.
    #[error("the teachers are gone, no answer for {seconds} s: {teachers}")]
    TeachersGone {
        /// How long the run waited.
        seconds: u64,
        /// Every endpoint with its last error.
        teachers: String,
    },
    /// Every endpoint answers, and no teacher can be used.
    #[error("no teacher can be used: {teachers}")]
    AllRefused {
        /// Every endpoint with the reason.
        teachers: String,
    },
    /// A teacher cannot process a batch.
    #[error("teacher {teacher} refused a batch: {reason}")]
    BatchRefused {
        /// The teacher's endpoint.
        teacher: String,
        /// The teacher's message.
        reason: String,
    },
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The pool was dropped before the answer arrived.
    #[error("the teacher pool was closed")]
    Closed,
}
