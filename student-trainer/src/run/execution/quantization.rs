//! The ranges with which a run rounds activations to int8 while it trains.

use networks::onnx::Ranges;

use super::Run;
use crate::{
    config::PhaseConfig,
    engine::TorchNetwork,
    run::{agreement, checkpoint::Checkpoint, error::RunError},
};

impl Run<'_> {
    /// The ranges of the activations in a quantization-aware phase: those of the checkpoint from which it resumes, or
    /// those of calibration samples with the weights of its start. The worker with rank 0 calibrates for all.
    ///
    /// # Errors
    /// If the network cannot be exported or calibrated, or a worker is lost.
    pub(super) fn ranges(
        &self,
        phase: &PhaseConfig,
        network: &TorchNetwork,
        resumed: Option<&Checkpoint>,
    ) -> Result<Option<Ranges>, RunError> {
        let int8 = self.config.export.int8;
        let Some(config) = int8.filter(|_| phase.quantization_aware) else {
            return Ok(None);
        };
        // Every checkpoint of such a phase has them, and all workers resume from the same one.
        if let Some(Checkpoint { phase, .. }) = resumed {
            return Ok(phase.ranges.clone());
        }
        let workers = self.context.workers;
        let own = if workers.rank() == 0 {
            self.delivery().calibrate(&network.weights()?, config)?
        } else {
            Ranges::new()
        };
        Ok(Some(agreement::shared_ranges(workers, own)?))
    }
}
