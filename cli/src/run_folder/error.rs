//! Why a folder cannot be shown as a run.

use std::path::{Path, PathBuf};

/// Why a folder cannot be shown as a run. The message names the folder or the file.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The folder holds no run.
    #[error("{} holds no run: config.toml is missing; give the folder of a run", .0.display())]
    NoRun(PathBuf),
    /// The run is in a bucket.
    #[error(
        "{} is in a bucket; download it first: student-trainer fetch {} FOLDER",
        .0.display(), .0.display()
    )]
    InBucket(PathBuf),
    /// A file is damaged, or of another version.
    #[error("{}: {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The problem.
        problem: String,
    },
}

impl RunFolderError {
    /// The error about `path`, if it is the URL of a bucket and not a folder.
    pub(crate) fn of_url(path: &Path) -> Option<Self> {
        let is_url = path.to_string_lossy().contains("://");
        is_url.then(|| Self::InBucket(path.to_owned()))
    }
}
