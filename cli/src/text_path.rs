//! Paths that other programs get as text: in a run's configuration, in a command line of `--set`.

use std::path::{Path, PathBuf};

/// A path cannot be sent as text.
#[derive(Debug, thiserror::Error)]
#[error(
    "the path {0:?} is not UTF-8, and is to be sent to another program as text; use another folder"
)]
pub struct NotText(PathBuf);

/// `path` as it is.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn text_path(path: &Path) -> Result<&str, NotText> {
    path.to_str().ok_or_else(|| NotText(path.to_owned()))
}
