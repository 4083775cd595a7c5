//! The cost of a network: parameters and multiply-adds.

use serde::{Deserialize, Serialize};

use crate::{Conv, Layer, Linear, NetworkSpec, Operation, SpecError, tensors};

/// The size of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Trainable values, without batch-norm's running statistics.
    pub parameters: u64,
    /// Multiply-adds of convolutions and linear layers for one sample; other layers do not count.
    pub multiply_adds: u64,
}

/// Counts parameters and multiply-adds.
///
/// # Errors
/// [`SpecError`] if the spec is invalid.
pub fn cost(spec: &NetworkSpec) -> Result<Cost, SpecError> {
    let layers = spec.layers()?;
    let parameters = tensors(&layers)
        .iter()
        .filter(|tensor| tensor.role.is_trainable())
        .map(|tensor| tensor.elements() as u64)
        .sum();
    Ok(Cost {
        parameters,
        multiply_adds: layers.iter().map(multiply_adds).sum(),
    })
}

// At most limits::ACTIVATIONS (2^26) positions for each of limits::WEIGHTS (2^28) weights: no overflow.
fn multiply_adds(layer: &Layer) -> u64 {
    match &layer.operation {
        Operation::Conv(conv) => {
            conv.weight_count() * (layer.output.elements() / conv.out_channels) as u64
        }
        Operation::Linear(linear) => linear.weight_count(),
        _ => layer.inner().map(multiply_adds).sum(),
    }
}

impl Conv {
    /// Values in the weight tensor.
    pub fn weight_count(&self) -> u64 {
        (self.out_channels * (self.in_channels / self.groups) * self.kernel * self.kernel) as u64
    }
}

impl Linear {
    /// Values in the weight tensor.
    pub fn weight_count(&self) -> u64 {
        (self.out_features * self.in_features) as u64
    }
}
