//! A run as a worker does it that only trains: one with another rank than 0.

use tracing::warn;

use super::{Run, RunOutcome};
use crate::{
    engine::TorchNetwork,
    run::{agreement::WorkersError, error::RunError},
};

impl Run<'_> {
    /// Trains all phases together with the other workers, and waits until the one with rank 0 has completed the run.
    ///
    /// # Errors
    /// See [`RunError`]; [`WorkersError::Lost`] if another worker fails.
    pub(super) fn follow(&self, network: &TorchNetwork) -> Result<RunOutcome, RunError> {
        let supplies = self.soft_targets()?;
        let teachers = self.agreed_teachers(&supplies)?;
        supplies.while_training(|sources| self.train(network, sources, &teachers))?;
        drop(supplies);
        let completed = self.context.workers.gather_bytes(&[]);
        completed.map_err(WorkersError::Lost)?;
        Ok(RunOutcome::of_follower())
    }

    /// Tells the workers that wait in [`Self::follow`] that the run is complete.
    pub(super) fn release_followers(&self) {
        if let Err(error) = self.context.workers.gather_bytes(&[]) {
            // The run needs no worker any more.
            warn!(%error, "the run is complete, but another worker does not know it");
        }
    }
}

impl RunOutcome {
    /// Of a worker that only trains.
    pub(super) fn of_follower() -> Self {
        Self {
            onnx_sha256: None,
            published_version: None,
            validation_accuracy: None,
        }
    }
}
