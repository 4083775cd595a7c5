//! Why a folder cannot be shown as a run.

use std::path::PathBuf;

/// Why a folder cannot be shown as a run. The message names the folder or the file.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The folder holds no run.
    #[error("{} holds no run: config.toml is missing; give the folder of a run", .0.display())]
    NoRun(PathBuf),
    /// A file is damaged, or of another version.
    #[error("{}: {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
}
