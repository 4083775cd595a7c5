//! The ranges with which a run rounds activations to int8 while it trains.

use networks::onnx::Ranges;

use super::Run;
use crate::{
    config::PhaseConfig,
    engine::TorchNetwork,
    run::{checkpoint::Checkpoint, error::RunError},
};

impl Run<'_> {
    /// The ranges of the activations in a quantization-aware phase: those of the checkpoint from which it resumes, or
    /// those of calibration samples with the weights of its start.
    ///
    /// # Errors
    /// If the network cannot be exported or calibrated.
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
        match resumed {
            // Every checkpoint of such a phase has them.
            Some(Checkpoint { phase, .. }) => Ok(phase.ranges.clone()),
            None => {
                let weights = network.weights()?;
                Ok(Some(self.delivery().calibrate(&weights, config)?))
            }
        }
    }
}
