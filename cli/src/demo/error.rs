//! Errors that end the demo.

use std::path::PathBuf;

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The evaluation's figures are invalid.
    #[error("{} is not a valid result of `student-trainer evaluate`: {problem}", file.display())]
    Evaluation {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
}
