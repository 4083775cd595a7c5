//! One `[[phases]]` table of a run.

use std::fmt;

use common::config::Problems;
use serde::{Deserialize, Serialize};

use super::loss::LossConfig;

/// A part of a run with its own loss, optimizer and learning-rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// By default `distill` if the loss needs soft targets, else `supervised`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PhaseKind>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// The loss to minimize.
    pub loss: LossConfig,
    /// Updates the parameters.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each step.
    pub schedule: ScheduleConfig,
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

/// Updates the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent, as `torch.optim.SGD` with dampening 0.
    Sgd {
        /// From 0 up to, not including, 1.
        #[serde(default)]
        momentum: f64,
        /// Nesterov's look-ahead; needs momentum.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty on every parameter, 0 or more.
        #[serde(default)]
        weight_decay: f64,
    },
}

/// The learning rate of each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The same rate for all steps.
    Constant {
        /// Rate of every step; above 0.
        learning_rate: f64,
    },
    /// Half a cosine wave downwards, as `torch.optim.lr_scheduler.CosineAnnealingLR`.
    Cosine {
        /// Rate of the first step; above 0.
        learning_rate: f64,
        /// Rate after the last step; 0 or more.
        #[serde(default)]
        final_learning_rate: f64,
    },
    /// Up to the maximum and down again, as `torch.optim.lr_scheduler.OneCycleLR` with cosine
    /// annealing and without momentum cycling.
    OneCycle {
        /// Above 0.
        max_learning_rate: f64,
        /// Share of the steps in which the rate rises, between 0 and 1; PyTorch's `pct_start`.
        #[serde(default = "default_warm_up")]
        warm_up: f64,
        /// The first rate is the maximum divided by this.
        #[serde(default = "default_initial_divisor")]
        initial_divisor: f64,
        /// The last rate is the first divided by this.
        #[serde(default = "default_final_divisor")]
        final_divisor: f64,
    },
}

fn default_warm_up() -> f64 {
    0.3
}

fn default_initial_divisor() -> f64 {
    25.0
}

fn default_final_divisor() -> f64 {
    1e4
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

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let at_least_one = "must be 1 or more";
        let epochs = self.epochs;
        problems.require(epochs > 0, &format!("{key}.epochs"), epochs, at_least_one);
        let size = self.batch_size;
        let fits = (1..=65_536).contains(&size);
        let allowed = "must be from 1 to 65536";
        problems.require(fits, &format!("{key}.batch_size"), size, allowed);
        self.loss.validate(&format!("{key}.loss"), problems);
        self.optimizer
            .validate(&format!("{key}.optimizer"), problems);
        self.schedule.validate(&format!("{key}.schedule"), problems);
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

impl OptimizerConfig {
    fn validate(&self, key: &str, problems: &mut Problems) {
        let Self::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } = *self;
        let fits = (0.0..1.0).contains(&momentum);
        let allowed = "must be 0 or more and below 1";
        problems.require(fits, &format!("{key}.momentum"), momentum, allowed);
        let fits = !nesterov || momentum > 0.0;
        problems.require(
            fits,
            &format!("{key}.nesterov"),
            nesterov,
            "needs a momentum above 0",
        );
        let fits = weight_decay.is_finite() && weight_decay >= 0.0;
        let allowed = "must be 0 or more";
        problems.require(fits, &format!("{key}.weight_decay"), weight_decay, allowed);
    }
}

impl ScheduleConfig {
    fn validate(&self, key: &str, problems: &mut Problems) {
        let mut positive =
            |name: &str, value| problems.require_positive(&format!("{key}.{name}"), value);
        match *self {
            Self::Constant { learning_rate } => positive("learning_rate", learning_rate),
            Self::Cosine {
                learning_rate,
                final_learning_rate,
            } => {
                positive("learning_rate", learning_rate);
                let fits = (0.0..=learning_rate.max(0.0)).contains(&final_learning_rate);
                let allowed = format!("must be from 0 to {key}.learning_rate = {learning_rate}");
                let key = format!("{key}.final_learning_rate");
                problems.require(fits, &key, final_learning_rate, &allowed);
            }
            Self::OneCycle {
                max_learning_rate,
                warm_up,
                initial_divisor,
                final_divisor,
            } => {
                positive("max_learning_rate", max_learning_rate);
                positive("final_divisor", final_divisor);
                let fits = initial_divisor.is_finite() && initial_divisor >= 1.0;
                let allowed = format!(
                    "must be 1 or more: the first rate would be above {key}.max_learning_rate"
                );
                let divisor_key = format!("{key}.initial_divisor");
                problems.require(fits, &divisor_key, initial_divisor, &allowed);
                let fits = initial_divisor * final_divisor >= 1.0 || final_divisor <= 0.0;
                let allowed = format!(
                    "times {divisor_key} = {initial_divisor} must be 1 or more: the last rate would be above \
                     {key}.max_learning_rate"
                );
                problems.require(
                    fits,
                    &format!("{key}.final_divisor"),
                    final_divisor,
                    &allowed,
                );
                let fits = warm_up > 0.0 && warm_up < 1.0;
                let allowed = "must lie between 0 and 1";
                problems.require(fits, &format!("{key}.warm_up"), warm_up, allowed);
            }
        }
    }
}
