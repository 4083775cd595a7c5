//! Paths that are sent to other programs as text, in a run's configuration or in `--set`.

use std::path::{Path, PathBuf};

/// A path cannot be sent as text.
#[derive(Debug, thiserror::Error)]
#[error(
    "the path {0:?} is not UTF-8 and cannot be sent to another program as text; use another folder"
)]
pub struct NotText(PathBuf);

/// The path as text.
///
/// # Errors
/// If `path` is not UTF-8.
pub(crate) fn text_path(path: &Path) -> Result<&str, NotText> {
    path.to_str().ok_or_else(|| NotText(path.to_owned()))
}
