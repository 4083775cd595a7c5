//! Standardization of logits.

use tch::{Kind, TchError, Tensor};

/// Added to the deviation, as in the authors' code: logits that are all equal become 0.
const EPSILON: f64 = 1e-7;

/// (z − mean(z)) / std(z) over the classes of each sample, with the unbiased deviation: Sun et al., CVPR 2024, "Logit
/// Standardization in Knowledge Distillation". The temperature divides the result, the factor T² of the loss stays,
/// and gradients flow through mean and deviation. `logits` is f32 [batch, classes].
pub(super) fn standardized(logits: &Tensor) -> Result<Tensor, TchError> {
    let mean = logits.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
    let deviation = logits.f_std_dim([1i64].as_slice(), true, true)?;
    let deviation = deviation.f_add_scalar(EPSILON)?;
    logits.f_sub(&mean)?.f_div(&deviation)
}
