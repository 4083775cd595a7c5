//! Batch-norm folding: computes the same function with fewer operations.

use std::collections::BTreeMap;

use crate::{Layer, Operation, WeightTensor, Weights, WeightsError};

/// Layers for inference, and the weights that they refer to by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The layers without dropout, and without the batch-norms that were folded.
    pub layers: Vec<Layer>,
    /// Weights by tensor name.
    pub tensors: BTreeMap<String, WeightTensor>,
}

/// Folds each batch-norm into the convolution or linear layer right before it (Jacob et al. 2018,
/// section 3.2), using its running statistics: w·γ/√(σ²+ε) and β + (b − µ)·γ/√(σ²+ε).
/// Also removes dropout, which is the identity outside training.
///
/// # Errors
/// [`WeightsError::Missing`] if the weights lack a tensor that the layers name.
pub fn fold_batch_norm(layers: &[Layer], weights: &Weights) -> Result<Folded, WeightsError> {
    let mut tensors = BTreeMap::new();
    let layers = fold_sequence(layers, weights, &mut tensors)?;
    Ok(Folded { layers, tensors })
}

fn fold_sequence(
    layers: &[Layer],
    weights: &Weights,
    tensors: &mut BTreeMap<String, WeightTensor>,
) -> Result<Vec<Layer>, WeightsError> {
    let mut folded: Vec<Layer> = Vec::with_capacity(layers.len());
    for layer in layers {
        if matches!(layer.operation, Operation::Dropout { .. }) {
            continue;
        }
        if let (Operation::BatchNorm { channels, epsilon }, Some(before)) =
            (&layer.operation, folded.last_mut())
            && let Some(bias) = before.operation.bias_mut()
        {
            *bias = true;
            Affine::of(&layer.name, *channels, *epsilon, weights)?.fold_into(&before.name, tensors);
            continue;
        }
        let mut layer = layer.clone();
        match &mut layer.operation {
            Operation::Residual { body, shortcut, .. } => {
                *body = fold_sequence(body, weights, tensors)?;
                *shortcut = fold_sequence(shortcut, weights, tensors)?;
            }
            Operation::Gate { gate } => *gate = fold_sequence(gate, weights, tensors)?,
            _ => {
                for spec in crate::tensors(std::slice::from_ref(&layer)) {
                    let tensor = tensor(weights, &spec.name)?.clone();
                    tensors.insert(spec.name, tensor);
                }
            }
        }
        folded.push(layer);
    }
    Ok(folded)
}

/// A batch-norm with fixed statistics: x·scale + shift per channel, in f64.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// The batch-norm in the layer `name`.
    fn of(
        name: &str,
        channels: usize,
        epsilon: f64,
        weights: &Weights,
    ) -> Result<Self, WeightsError> {
        let values = |tensor_name: &str| {
            tensor(weights, &format!("{name}.{tensor_name}")).map(|tensor| &tensor.data)
        };
        let (gamma, beta) = (values("weight")?, values("bias")?);
        let (mean, variance) = (values("running_mean")?, values("running_var")?);
        let scale: Vec<_> = (0..channels)
            .map(|c| f64::from(gamma[c]) / (f64::from(variance[c]) + epsilon).sqrt())
            .collect();
        let shift = (0..channels)
            .map(|c| f64::from(beta[c]) - f64::from(mean[c]) * scale[c])
            .collect();
        Ok(Affine { scale, shift })
    }

    /// Applies this to the weights of layer `name`, which `tensors` already holds.
    fn fold_into(&self, name: &str, tensors: &mut BTreeMap<String, WeightTensor>) {
        let channels = self.scale.len();
        if let Some(weight) = tensors.get_mut(&format!("{name}.weight")) {
            let per_channel = weight.data.len() / channels;
            for (values, scale) in weight.data.chunks_mut(per_channel).zip(&self.scale) {
                values
                    .iter_mut()
                    .for_each(|value| *value = (f64::from(*value) * scale) as f32);
            }
        }
        let bias = tensors
            .entry(format!("{name}.bias"))
            .or_insert_with(|| WeightTensor {
                shape: vec![channels],
                data: vec![0.0; channels],
            });
        for (c, value) in bias.data.iter_mut().enumerate() {
            *value = (f64::from(*value) * self.scale[c] + self.shift[c]) as f32;
        }
    }
}

impl Operation {
    /// The `bias` flag of a layer that batch-norm can be folded into.
    fn bias_mut(&mut self) -> Option<&mut bool> {
        match self {
            Operation::Conv(conv) => Some(&mut conv.bias),
            Operation::Linear(linear) => Some(&mut linear.bias),
            _ => None,
        }
    }
}

fn tensor<'a>(weights: &'a Weights, name: &str) -> Result<&'a WeightTensor, WeightsError> {
    weights
        .get(name)
        .ok_or_else(|| WeightsError::Missing(name.to_owned()))
}
