//! How the gradients of a step update the parameters.

use common::config::Problems;
use serde::{Deserialize, Serialize};

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
        /// L2 penalty, 0 or more.
        #[serde(default)]
        weight_decay: f64,
        /// The parameters that have the penalty; by default all.
        #[serde(
            default = "DecayedParameters::all",
            skip_serializing_if = "DecayedParameters::are_all"
        )]
        decay: DecayedParameters,
    },
    /// Adam with decoupled weight decay, as `torch.optim.AdamW` without AMSGrad.
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay rates of the averages of gradients and of their squares; each from 0 up to, not including, 1.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator; above 0.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Share of each decayed parameter that a step subtracts, times the learning rate; 0 or more.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
        /// The parameters that decay; by default the weights.
        #[serde(default = "DecayedParameters::weights")]
        decay: DecayedParameters,
    },
}

/// The parameters to which weight decay applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayedParameters {
    /// Every parameter.
    All,
    /// The weights of convolutions and linear layers: parameters of two or more dimensions, without biases and
    /// without batch-norm's scale and shift, as in timm.
    Weights,
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    1e-2
}

impl OptimizerConfig {
    /// The most tensors of state that the optimizer has for each parameter.
    pub fn slots(&self) -> usize {
        match self {
            Self::Sgd { .. } => 1,
            Self::AdamW { .. } => 2,
        }
    }

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let below_1 = |problems: &mut Problems, name: &str, value: f64| {
            let fits = (0.0..1.0).contains(&value);
            let key = format!("{key}.{name}");
            problems.require(fits, &key, value, "must be 0 or more and below 1");
        };
        let weight_decay = match *self {
            Self::Sgd {
                momentum,
                nesterov,
                weight_decay,
                ..
            } => {
                below_1(problems, "momentum", momentum);
                let fits = !nesterov || momentum > 0.0;
                let needed = "needs a momentum above 0";
                problems.require(fits, &format!("{key}.nesterov"), nesterov, needed);
                weight_decay
            }
            Self::AdamW {
                betas: [gradient, square],
                eps,
                weight_decay,
                ..
            } => {
                below_1(problems, "betas[0]", gradient);
                below_1(problems, "betas[1]", square);
                problems.require_positive(&format!("{key}.eps"), eps);
                weight_decay
            }
        };
        let fits = weight_decay.is_finite() && weight_decay >= 0.0;
        let allowed = "must be 0 or more";
        problems.require(fits, &format!("{key}.weight_decay"), weight_decay, allowed);
    }
}

impl DecayedParameters {
    fn all() -> Self {
        Self::All
    }

    fn weights() -> Self {
        Self::Weights
    }

    fn are_all(&self) -> bool {
        *self == Self::All
    }
}
