//! Which parameters decay.

use tch::Tensor;

use crate::config::DecayedParameters;

/// The weight decay of each parameter: `weight_decay`, or 0 if the parameter does not decay. Biases and
/// batch-norm's scale and shift have one dimension, as in timm's `param_groups_weight_decay`.
pub(super) fn weight_decays(
    parameters: &[Tensor],
    weight_decay: f64,
    decayed: DecayedParameters,
) -> Vec<f64> {
    let decays = |parameter: &Tensor| match decayed {
        DecayedParameters::All => true,
        DecayedParameters::Weights => parameter.dim() > 1,
    };
    let parameters = parameters.iter();
    parameters
        .map(|parameter| if decays(parameter) { weight_decay } else { 0.0 })
        .collect()
}
