//! The learning rate of each step of a phase.

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};

/// The learning rate of each optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The same rate for all steps.
    Constant {
        /// Rate of every step; above 0.
        learning_rate: f64,
    },
    /// Half a cosine wave downwards, as `torch.optim.lr_scheduler.CosineAnnealingLR`, after an optional linear
    /// warm-up, as `LinearLR` before it in a `SequentialLR`.
    Cosine {
        /// Rate of the first step after the warm-up; above 0.
        learning_rate: f64,
        /// Rate after the last step; 0 or more.
        #[serde(default)]
        final_learning_rate: f64,
        /// Epochs in which the rate rises to `learning_rate`; 0 or more and fewer than those of the phase, and
        /// not necessarily a whole number.
        #[serde(default, skip_serializing_if = "is_default")]
        warm_up_epochs: f64,
        /// The first rate of the warm-up as a share of `learning_rate`, above 0 and at most 1; PyTorch's
        /// `start_factor`.
        #[serde(
            default = "default_warm_up_factor",
            skip_serializing_if = "is_default_warm_up_factor"
        )]
        warm_up_factor: f64,
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
    /// Multiplied by `gamma` after every `step_size` epochs, as `torch.optim.lr_scheduler.StepLR`.
    Step {
        /// Rate of the first epochs; above 0.
        learning_rate: f64,
        /// Epochs with the same rate; 1 or more.
        step_size: usize,
        /// Above 0 and at most 1.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// Multiplied by `gamma` at each milestone, as `torch.optim.lr_scheduler.MultiStepLR`.
    MultiStep {
        /// Rate before the first milestone; above 0.
        learning_rate: f64,
        /// Numbers of epochs after which the rate falls, in increasing order.
        milestones: Vec<usize>,
        /// Above 0 and at most 1.
        #[serde(default = "default_gamma")]
        gamma: f64,
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

/// That of torchvision's reference training.
fn default_warm_up_factor() -> f64 {
    0.01
}

fn is_default_warm_up_factor(factor: &f64) -> bool {
    *factor == default_warm_up_factor()
}

fn default_gamma() -> f64 {
    0.1
}

impl ScheduleConfig {
    /// `epochs` are those of the phase.
    pub(super) fn validate(&self, key: &str, epochs: usize, problems: &mut Problems) {
        match *self {
            Self::Constant { learning_rate } => {
                problems.require_positive(&format!("{key}.learning_rate"), learning_rate);
            }
            Self::Cosine {
                learning_rate,
                final_learning_rate,
                warm_up_epochs,
                warm_up_factor,
            } => {
                problems.require_positive(&format!("{key}.learning_rate"), learning_rate);
                let fits = (0.0..=learning_rate.max(0.0)).contains(&final_learning_rate);
                let allowed = format!("must be from 0 to {key}.learning_rate = {learning_rate}");
                let final_key = format!("{key}.final_learning_rate");
                problems.require(fits, &final_key, final_learning_rate, &allowed);
                let fits = warm_up_epochs == 0.0 || (0.0..epochs as f64).contains(&warm_up_epochs);
                let allowed =
                    format!("must be 0 or more and fewer than the phase's epochs, {epochs}");
                let warm_up_key = format!("{key}.warm_up_epochs");
                problems.require(fits, &warm_up_key, warm_up_epochs, &allowed);
                require_factor(problems, &format!("{key}.warm_up_factor"), warm_up_factor);
            }
            Self::OneCycle {
                max_learning_rate,
                warm_up,
                initial_divisor,
                final_divisor,
            } => {
                problems.require_positive(&format!("{key}.max_learning_rate"), max_learning_rate);
                problems.require_positive(&format!("{key}.final_divisor"), final_divisor);
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
            Self::Step {
                learning_rate,
                step_size,
                gamma,
            } => {
                problems.require_positive(&format!("{key}.learning_rate"), learning_rate);
                let allowed = "must be 1 or more";
                problems.require(
                    step_size > 0,
                    &format!("{key}.step_size"),
                    step_size,
                    allowed,
                );
                require_factor(problems, &format!("{key}.gamma"), gamma);
            }
            Self::MultiStep {
                learning_rate,
                ref milestones,
                gamma,
            } => {
                problems.require_positive(&format!("{key}.learning_rate"), learning_rate);
                let increase = milestones.is_sorted_by(|before, after| before < after);
                let inside = milestones.iter().all(|epoch| (1..epochs).contains(epoch));
                let allowed = format!(
                    "must be in increasing order, each 1 or more and below the phase's epochs, {epochs}"
                );
                let shown = format!("{milestones:?}");
                problems.require(
                    increase && inside,
                    &format!("{key}.milestones"),
                    shown,
                    &allowed,
                );
                require_factor(problems, &format!("{key}.gamma"), gamma);
            }
        }
    }
}

fn require_factor(problems: &mut Problems, key: &str, factor: f64) {
    let fits = factor > 0.0 && factor <= 1.0;
    problems.require(fits, key, factor, "must be above 0 and at most 1");
}
