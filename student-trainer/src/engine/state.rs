//! The state of a phase between two steps.

use std::collections::BTreeMap;

use networks::{WeightTensor, Weights};
use serde::{Deserialize, Serialize};
use soft_targets::consumption::Consumption;

use super::meter::Totals;
use crate::run::RunError;

/// Everything that the next step depends on, beside configuration and data: random choices are pure
/// functions of the position, so there is no generator here.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseState {
    /// Where the phase is.
    pub progress: PhaseProgress,
    /// Of the network, batch-norm's running statistics among them.
    pub weights: Weights,
    /// The optimizer's state, by the parameter's name; see `Sgd::velocities`.
    pub velocities: BTreeMap<String, WeightTensor>,
}

/// Where a phase is, and what it counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseProgress {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done in the epoch after those.
    pub step: u64,
    /// Sums of that epoch up to the last report of progress.
    pub reported: Totals,
    /// Sums since that report.
    pub unreported: Totals,
    /// What the last of the epochs done came to.
    pub last_epoch: Option<EpochSummary>,
    /// What was trained on.
    pub consumed: Consumption,
    /// Wall-clock time of the epoch under way.
    pub epoch_seconds: f64,
    /// Wall-clock time of all epochs.
    pub seconds: f64,
}

/// What an epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// Mean over the epoch's samples.
    pub train_loss: f64,
    /// Against the hard labels, on augmented images; 0 to 1.
    pub train_accuracy: f64,
    /// After the epoch, where there is a validation split.
    pub validation_accuracy: Option<f64>,
}

/// Where the states of a phase go, so that a run can go on from them.
pub trait Checkpoints {
    /// Steps between two checkpoints within an epoch; 0 for none but those at the end of epochs.
    fn every_steps(&self) -> u64;

    /// Keeps `state`.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before is intact.
    fn keep(&self, state: PhaseState) -> Result<(), RunError>;
}
