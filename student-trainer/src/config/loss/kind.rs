//! The formulas of a loss's terms, with their parameters.

use common::config::{Problems, is_default};
use serde::{Deserialize, Serialize};

use super::{Needs, TargetClasses};

/// The formula of a term, with its parameters. T is the temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LossKind {
    /// Cross-entropy with the hard labels, as `torch.nn.CrossEntropyLoss`.
    CrossEntropy {
        /// Share of the target that is spread over all classes, 0 to 1.
        #[serde(default, skip_serializing_if = "is_default")]
        label_smoothing: f64,
    },
    /// Cross-entropy with the teacher's softened probabilities, times T².
    SoftCrossEntropy {
        /// Above 0; 1 leaves the teacher's probabilities unchanged.
        temperature: f64,
    },
    /// Hinton et al. 2015: T²·KL(teacher ‖ student).
    Kd {
        /// Above 0.
        temperature: f64,
        /// Required outside of a list: the loss is α times this term + (1 − α) times cross-entropy with the hard
        /// labels; 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alpha: Option<f64>,
    },
    /// Decoupled knowledge distillation: Zhao et al., CVPR 2022.
    Dkd(DkdConfig),
    /// Correlations instead of a divergence: Huang et al., NeurIPS 2022.
    Dist(DistConfig),
    /// Weighted transformed teacher matching: Zheng and Yang, ICLR 2024.
    Wttm {
        /// Exponent of the teacher's probabilities, above 0; the inverse of a temperature.
        gamma: f64,
    },
    /// Refined logit distillation: Sun et al., ICCV 2025.
    Rld(RldConfig),
    /// Mean squared error of the logits, as `torch.nn.MSELoss`.
    MseLogits {},
    /// Instance level of multi-level logit distillation (Jin et al., CVPR 2023): `kd`, averaged over temperatures.
    MlkdInstance {
        /// Each above 0.
        temperatures: Vec<f64>,
    },
    /// Batch level of multi-level logit distillation: similarities of the samples in a batch.
    MlkdBatch {
        /// Each above 0.
        temperatures: Vec<f64>,
    },
    /// Class level of multi-level logit distillation: similarities of the classes in a batch.
    MlkdClass {
        /// Each above 0.
        temperatures: Vec<f64>,
    },
}

/// Parameters of [`LossKind::Dkd`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkdConfig {
    /// Above 0.
    pub temperature: f64,
    /// Factor of the divergence between the label and all other classes, 0 or more.
    #[serde(default = "one")]
    pub alpha: f64,
    /// Factor of the divergence among the other classes, 0 or more.
    #[serde(default = "eight")]
    pub beta: f64,
    /// Number of epochs in which the term's weight rises to its full value in equal steps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub warm_up: usize,
}

/// Parameters of [`LossKind::Dist`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistConfig {
    /// Factor of the inter-class relation, over the classes of a sample; 0 or more.
    #[serde(default = "one")]
    pub beta: f64,
    /// Factor of the intra-class relation, over the samples of a class; 0 or more.
    #[serde(default = "one")]
    pub gamma: f64,
    /// Temperature, above 0.
    #[serde(default = "one")]
    pub tau: f64,
}

/// Parameters of [`LossKind::Rld`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RldConfig {
    /// Temperature of the masked correlation, above 0.
    pub temperature: f64,
    /// Temperature of the sample confidence, above 0.
    #[serde(default = "one")]
    pub confidence_temperature: f64,
    /// Factor of the sample confidence, 0 or more.
    #[serde(default = "one")]
    pub alpha: f64,
    /// Factor of the masked correlation, 0 or more.
    #[serde(default = "eight")]
    pub beta: f64,
    /// Number of epochs in which the term's weight rises to its full value in equal steps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub warm_up: usize,
}

impl LossKind {
    /// The name in configurations and events.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::SoftCrossEntropy { .. } => "soft_cross_entropy",
            Self::Kd { .. } => "kd",
            Self::Dkd(_) => "dkd",
            Self::Dist(_) => "dist",
            Self::Wttm { .. } => "wttm",
            Self::Rld(_) => "rld",
            Self::MseLogits {} => "mse_logits",
            Self::MlkdInstance { .. } => "mlkd_instance",
            Self::MlkdBatch { .. } => "mlkd_batch",
            Self::MlkdClass { .. } => "mlkd_class",
        }
    }

    /// What the formula needs besides the student's logits.
    ///
    /// Only sums over outcomes are well-defined on the kept classes and the tail bucket of top-k soft targets. A
    /// label may be in the tail bucket, and the samples of a batch keep different classes, so that there are no
    /// correlations and similarities of classes or samples. Drawn classes estimate the teacher's probabilities at
    /// one temperature, without bias in what is linear in them: cross-entropy, and the gradient of its difference
    /// from the teacher's entropy.
    pub(super) fn needs(&self) -> Needs {
        let (labels, soft_targets) = match self {
            Self::CrossEntropy { .. } => (true, None),
            Self::SoftCrossEntropy { temperature } | Self::Kd { temperature, .. } => {
                let temperature = *temperature;
                (false, Some(TargetClasses::Drawn { temperature }))
            }
            Self::Wttm { .. } | Self::MlkdInstance { .. } => (false, Some(TargetClasses::Kept)),
            Self::Dist(_)
            | Self::MseLogits {}
            | Self::MlkdBatch { .. }
            | Self::MlkdClass { .. } => (false, Some(TargetClasses::All)),
            Self::Dkd(_) | Self::Rld(_) => (true, Some(TargetClasses::All)),
        };
        Needs {
            labels,
            soft_targets,
        }
    }

    /// Whether the formula treats the class of the label unlike the others, so that a mixed sample, which has two
    /// labels, has no value.
    pub(super) fn needs_one_label(&self) -> bool {
        matches!(self, Self::Dkd(_) | Self::Rld(_))
    }

    /// Factor of the term's weight in `epoch`, counted from 1: min(epoch / `warm_up`, 1).
    pub fn warm_up(&self, epoch: usize) -> f64 {
        match self {
            Self::Dkd(DkdConfig { warm_up, .. }) | Self::Rld(RldConfig { warm_up, .. })
                if epoch < *warm_up =>
            {
                epoch as f64 / *warm_up as f64
            }
            _ => 1.0,
        }
    }

    pub(super) fn validate(&self, key: &str, problems: &mut Problems) {
        let key = |name: &str| format!("{key}.{name}");
        let mut positive = |name: &str, value| problems.require_positive(&key(name), value);
        match self {
            Self::CrossEntropy { label_smoothing } => {
                problems.require_within(&key("label_smoothing"), *label_smoothing, 0.0..=1.0);
            }
            Self::SoftCrossEntropy { temperature } | Self::Kd { temperature, .. } => {
                positive("temperature", *temperature);
            }
            Self::Dkd(dkd) => {
                positive("temperature", dkd.temperature);
                require_factors(problems, key, [("alpha", dkd.alpha), ("beta", dkd.beta)]);
            }
            Self::Dist(dist) => {
                positive("tau", dist.tau);
                require_factors(problems, key, [("beta", dist.beta), ("gamma", dist.gamma)]);
            }
            Self::Wttm { gamma } => positive("gamma", *gamma),
            Self::Rld(rld) => {
                positive("temperature", rld.temperature);
                positive("confidence_temperature", rld.confidence_temperature);
                require_factors(problems, key, [("alpha", rld.alpha), ("beta", rld.beta)]);
            }
            Self::MseLogits {} => {}
            Self::MlkdInstance { temperatures }
            | Self::MlkdBatch { temperatures }
            | Self::MlkdClass { temperatures } => {
                for (index, temperature) in temperatures.iter().enumerate() {
                    positive(&format!("temperatures[{index}]"), *temperature);
                }
                let any = !temperatures.is_empty();
                problems.require(any, &key("temperatures"), "[]", "needs at least one");
            }
        }
    }
}

/// Requires both factors to be 0 or more, and one of them to be above 0.
fn require_factors(
    problems: &mut Problems,
    key: impl Fn(&str) -> String,
    factors: [(&str, f64); 2],
) {
    for (name, factor) in factors {
        let fits = factor.is_finite() && factor >= 0.0;
        problems.require(fits, &key(name), factor, "must be 0 or more");
    }
    let [(first, _), (second, _)] = factors;
    let all_are_zero = factors.iter().all(|(_, factor)| *factor == 0.0);
    let message = format!("must be above 0 if {} is 0", key(second));
    problems.require(!all_are_zero, &key(first), 0, &message);
}

fn one() -> f64 {
    1.0
}

fn eight() -> f64 {
    8.0
}
