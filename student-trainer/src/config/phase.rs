//! One `[[phases]]` table of a run.

use std::fmt;

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};

use super::{
    early_stopping::EarlyStoppingConfig, ema::EmaConfig, loss::LossConfig,
    optimizer::OptimizerConfig, schedule::ScheduleConfig,
};

/// A part of a run with its own loss, optimizer and learning-rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// By default `distill` if the loss needs soft targets, else `supervised`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PhaseKind>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Batches per optimizer step, 1 or more; the last step of an epoch may have fewer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Largest norm of all gradients together, as in `torch.nn.utils.clip_grad_norm_`; larger gradients are
    /// scaled down. Above 0; by default they are not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clip_norm: Option<f64>,
    /// Quantization-aware training: whether the network computes as its form in int8 does, which `export.int8` writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quantization_aware: bool,
    /// The loss to minimize.
    pub loss: LossConfig,
    /// Updates the parameters.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each optimizer step.
    pub schedule: ScheduleConfig,
    /// A moving average of the weights, which becomes the phase's result; by default there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Ends the phase when its validation accuracy no longer improves; by default all epochs are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStoppingConfig>,
}

fn one() -> usize {
    1
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

/// What a phase does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// Trains on hard labels.
    Supervised,
    /// Trains on a teacher's soft targets.
    Distill,
    /// Trains on hard labels with a low learning rate, after another phase.
    FineTune,
}

impl PhaseConfig {
    /// The configured name, or the one that follows from the loss.
    pub fn kind(&self) -> PhaseKind {
        self.name.unwrap_or(if self.loss.needs_soft_targets() {
            PhaseKind::Distill
        } else {
            PhaseKind::Supervised
        })
    }

    /// Optimizer steps in an epoch of `samples` training samples.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        samples.div_ceil(self.batch_size).div_ceil(self.accumulate) as u64
    }

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let at_least_one = "must be 1 or more";
        let epochs = self.epochs;
        problems.require(epochs > 0, &format!("{key}.epochs"), epochs, at_least_one);
        let size = self.batch_size;
        let fits = (1..=65_536).contains(&size);
        let allowed = "must be from 1 to 65536";
        problems.require(fits, &format!("{key}.batch_size"), size, allowed);
        problems.require_within(&format!("{key}.accumulate"), self.accumulate, 1..=65_536);
        if let Some(norm) = self.gradient_clip_norm {
            problems.require_positive(&format!("{key}.gradient_clip_norm"), norm);
        }
        self.loss.validate(&format!("{key}.loss"), problems);
        self.optimizer
            .validate(&format!("{key}.optimizer"), problems);
        self.schedule
            .validate(&format!("{key}.schedule"), epochs, problems);
        if let Some(ema) = &self.ema {
            ema.validate(&format!("{key}.ema"), problems);
        }
        if let Some(early_stopping) = &self.early_stopping {
            early_stopping.validate(&format!("{key}.early_stopping"), problems);
        }
    }
}

impl PhaseKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Supervised, Self::Distill, Self::FineTune];

    /// The name used in files and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::Distill => "distill",
            Self::FineTune => "fine_tune",
        }
    }
}

impl fmt::Display for PhaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
