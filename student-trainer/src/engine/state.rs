//! The state of a phase between two steps.

use std::{collections::BTreeMap, io};

use networks::{WeightTensor, Weights, onnx::Ranges};
use serde::{Deserialize, Serialize};
use soft_targets::consumption::Consumption;

use super::meter::Totals;

/// Everything that the next step depends on, beside configuration and data: random choices are pure
/// functions of the position, so there is no generator here.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseState {
    /// The position in the phase, and what was counted up to it.
    pub progress: PhaseProgress,
    /// The network's weights, including batch-norm's running statistics.
    pub weights: Weights,
    /// The optimizer's state; see `Optimizer::state`.
    pub optimizer: OptimizerState,
    /// The moving average of the weights, if the phase has one.
    pub ema: Option<Weights>,
    /// The weights of the best epoch so far, if the phase stops early.
    pub best: Option<Weights>,
    /// The ranges of the activations, if the phase is quantization-aware. They do not change within a phase.
    pub ranges: Option<Ranges>,
}

/// The tensors of an optimizer, by slot and name of the parameter.
pub type OptimizerState = BTreeMap<String, BTreeMap<String, WeightTensor>>;

/// The position in a phase, and what was counted up to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseProgress {
    /// Epochs done.
    pub epoch: usize,
    /// Optimizer steps done in the current epoch.
    pub step: u64,
    /// Sums of that epoch up to the last report of progress.
    pub reported: Totals,
    /// Sums since that report.
    pub unreported: Totals,
    /// Figures of the last finished epoch.
    pub last_epoch: Option<EpochSummary>,
    /// The best epoch so far, if the phase stops early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<BestEpoch>,
    /// What was trained on.
    pub consumed: Consumption,
    /// Wall-clock time of the current epoch.
    pub epoch_seconds: f64,
    /// Wall-clock time of all epochs.
    pub seconds: f64,
}

/// Figures of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// Mean over the epoch's samples.
    pub train_loss: f64,
    /// Accuracy on the augmented training samples that have a label, 0 to 1; absent if none has one.
    pub train_accuracy: Option<f64>,
    /// Accuracy after the epoch, of the moving average if the phase has one; 0 to 1. Absent without a validation
    /// split.
    pub validation_accuracy: Option<f64>,
}

/// The epoch with the highest validation accuracy of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestEpoch {
    /// 1-based.
    pub epoch: usize,
    /// Its figures.
    pub summary: EpochSummary,
}

/// Stores the states of a phase, so that a run can resume from them.
pub trait Checkpoints {
    /// Steps between two checkpoints within an epoch; 0 for checkpoints at the end of epochs only.
    fn every_steps(&self) -> u64;

    /// Stores `state`.
    ///
    /// # Errors
    /// If it cannot be written; the text names the file. Earlier states stay.
    fn keep(&self, state: PhaseState) -> io::Result<()>;
}
