//! What a phase is given.

use datasets::Subset;
use networks::onnx::Ranges;
use tokio_util::sync::CancellationToken;
use torch_distributed::Workers;
use torch_networks::{FakeQuantizedNetwork, Precision, TorchNetwork};

use crate::{
    config::PhaseConfig,
    engine::{
        TorchError,
        state::{Checkpoints, PhaseState},
    },
    events::EventSink,
    loader::BatchPlan,
};

/// The inputs of a phase besides the network.
#[derive(Clone, Copy)]
pub struct PhaseContext<'r> {
    /// Loss, optimizer and learning-rate schedule.
    pub config: &'r PhaseConfig,
    /// Number format of convolutions and linear layers; a quantization-aware phase computes in f32.
    pub precision: Precision,
    /// The ranges of the activations, which make the phase quantization-aware: the network computes as its form in
    /// int8 does.
    pub ranges: Option<&'r Ranges>,
    /// The batches to train on.
    pub batches: BatchPlan<'r>,
    /// Samples that measure accuracy after each epoch.
    pub validation: Option<&'r Subset>,
    /// The workers that train the phase together.
    pub workers: &'r dyn Workers,
    /// State from which an interrupted phase resumes; its weights replace the network's.
    pub resumed: Option<&'r PhaseState>,
    /// Stores checkpoints; without it, none are made.
    pub checkpoints: Option<&'r dyn Checkpoints>,
    /// Receives progress.
    pub events: &'r EventSink,
    /// Checked between steps.
    pub cancel: &'r CancellationToken,
}

impl PhaseContext<'_> {
    /// The form in int8 of `network`, if the phase is quantization-aware.
    pub(super) fn quantized(
        &self,
        network: &TorchNetwork,
    ) -> Result<Option<FakeQuantizedNetwork>, TorchError> {
        let ranges = self.ranges;
        ranges
            .map(|ranges| FakeQuantizedNetwork::new(network, ranges))
            .transpose()
    }
}
