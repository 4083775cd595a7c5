//! One run, from its start or from a checkpoint, and its folder.

mod agreement;
mod baseline;
mod checkpoint;
mod checkpoints;
mod delivery;
mod disk_space;
mod error;
mod execution;
mod folder;
mod gate_error;
mod gate_verdict;
mod in_bucket;
mod initial_weights;
mod manifest;
mod metrics;
mod model_folder;
mod output;
mod publish_gate;
mod resume;
mod resumed_teachers;
mod teachers;
mod tensorboard;

use std::{io, path::Path};

pub use agreement::WorkersError;
pub use checkpoints::CheckpointsError;
pub use disk_space::DiskSpaceError;
pub use error::RunError;
pub use execution::{RunContext, RunOutcome, execute};
pub use folder::{FolderError, RunFolder};
pub use gate_error::PublishGateError;
pub use gate_verdict::{Bound, GateCheck, GateVerdict, Withheld};
pub use initial_weights::InitialWeightsError;
pub use manifest::{PhaseRecord, RunManifest};
pub use model_folder::{ModelFolder, ModelFolderError};
pub use output::RunOutput;
pub use resume::{ResumeError, ResumePolicy};
pub use teachers::UsedTeacher;

use crate::events::RunEvent;

#[cfg(test)]
pub(crate) use manifest::tests;

/// Whether `folder` has a finished run of this resolved configuration.
pub fn is_finished(folder: &Path, config_toml: &str) -> bool {
    RunManifest::read(folder).is_ok_and(|manifest| manifest.is_of(config_toml))
}

/// The finished run in `folder`, if its publish gate withheld its model.
pub fn withheld(folder: &Path) -> Option<Withheld> {
    let manifest = RunManifest::read(folder).ok()?;
    Withheld::of(manifest.publish_gate.as_ref(), folder)
}

/// The events of the run in `folder` so far.
///
/// # Errors
/// If its log exists and cannot be read.
pub fn past_events(folder: &Path) -> io::Result<Vec<RunEvent>> {
    metrics::read(&folder::metrics(folder))
}
