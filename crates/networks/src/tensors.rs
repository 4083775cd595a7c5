//! The weight tensors of a network.

use crate::{Layer, Operation};

/// One weight tensor: its name, shape and role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The layer's name and the tensor's own name, for example `layers.2.body.0.weight`. Tensors
    /// have PyTorch's names: `weight`, `bias`, `running_mean`, `running_var`.
    pub name: String,
    /// Dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// The tensor's role.
    pub role: TensorRole,
}

/// The role of a weight tensor, with the fan that its initial values depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole {
    /// Weight of a convolution.
    ConvWeight {
        /// Outputs that one input value reaches: out_channels / groups × kernel².
        fan_out: usize,
    },
    /// Bias of a convolution.
    ConvBias,
    /// Weight or bias of a linear layer.
    Linear {
        /// Inputs that one output value depends on.
        fan_in: usize,
    },
    /// Batch-norm's scale (γ).
    Scale,
    /// Batch-norm's shift (β).
    Shift,
    /// Batch-norm's running mean.
    RunningMean,
    /// Batch-norm's running variance.
    RunningVariance,
}

impl TensorRole {
    /// Whether training updates the tensor by its gradient.
    pub fn is_trainable(self) -> bool {
        !matches!(self, TensorRole::RunningMean | TensorRole::RunningVariance)
    }
}

impl TensorSpec {
    /// The name of the tensor's layer.
    pub fn layer(&self) -> &str {
        let parts = self.name.rsplit_once('.');
        parts.map_or("", |(layer, _)| layer)
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every weight tensor of these layers, in network order (body before shortcut).
pub fn tensors(layers: &[Layer]) -> Vec<TensorSpec> {
    layers.iter().flat_map(layer_tensors).collect()
}

fn layer_tensors(layer: &Layer) -> Vec<TensorSpec> {
    let tensor = |name: &str, shape: &[usize], role| TensorSpec {
        name: format!("{}.{name}", layer.name),
        shape: shape.to_vec(),
        role,
    };
    match &layer.operation {
        Operation::Conv(conv) => {
            let shape = [
                conv.out_channels,
                conv.in_channels / conv.groups,
                conv.kernel,
                conv.kernel,
            ];
            let fan_out = conv.out_channels / conv.groups * conv.kernel * conv.kernel;
            let weight = tensor("weight", &shape, TensorRole::ConvWeight { fan_out });
            let bias = conv
                .bias
                .then(|| tensor("bias", &[conv.out_channels], TensorRole::ConvBias));
            std::iter::once(weight).chain(bias).collect()
        }
        Operation::Linear(linear) => {
            let role = TensorRole::Linear {
                fan_in: linear.in_features,
            };
            let weight = tensor("weight", &[linear.out_features, linear.in_features], role);
            let bias = linear
                .bias
                .then(|| tensor("bias", &[linear.out_features], role));
            std::iter::once(weight).chain(bias).collect()
        }
        Operation::BatchNorm { channels, .. } => vec![
            tensor("weight", &[*channels], TensorRole::Scale),
            tensor("bias", &[*channels], TensorRole::Shift),
            tensor("running_mean", &[*channels], TensorRole::RunningMean),
            tensor("running_var", &[*channels], TensorRole::RunningVariance),
        ],
        Operation::Residual { .. } | Operation::Gate { .. } => {
            layer.inner().flat_map(layer_tensors).collect()
        }
        Operation::Activation(_)
        | Operation::MaxPool(_)
        | Operation::AvgPool(_)
        | Operation::GlobalAvgPool
        | Operation::Flatten
        | Operation::Dropout { .. } => Vec::new(),
    }
}
