//! A moving average of a phase's weights.

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};

/// An exponential moving average of the weights, as timm's `ModelEmaV2`. It becomes the result of the phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the old average that each step keeps; from 0 up to, not including, 1.
    pub decay: f64,
    /// Whether step t, counted from 0, keeps at most (1 + t) / (10 + t), as TensorFlow's
    /// `ExponentialMovingAverage` with `num_updates`: the average forgets the first weights sooner.
    #[serde(default, skip_serializing_if = "is_default")]
    pub warm_up: bool,
}

impl EmaConfig {
    /// The share of the old average that optimizer step `step` of the phase keeps, counted from 0.
    pub fn decay_at(&self, step: u64) -> f64 {
        if self.warm_up {
            let step = step as f64;
            self.decay.min((1.0 + step) / (10.0 + step))
        } else {
            self.decay
        }
    }

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let fits = (0.0..1.0).contains(&self.decay);
        let allowed = "must be 0 or more and below 1";
        problems.require(fits, &format!("{key}.decay"), self.decay, allowed);
    }
}
