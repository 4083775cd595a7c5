//! The types of layer that a spec may name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LayerSpec;
use crate::Activation;

/// The types of layer a spec may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the LayerSpec variants of the same names have the documentation"
)]
pub enum LayerType {
    Conv,
    DepthwiseConv,
    BatchNorm,
    Relu,
    Relu6,
    Silu,
    HardSwish,
    Sigmoid,
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    Residual,
    SqueezeExcitation,
    Flatten,
    Linear,
    Dropout,
}

impl LayerType {
    /// The name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            LayerType::Conv => "conv",
            LayerType::DepthwiseConv => "depthwise_conv",
            LayerType::BatchNorm => "batch_norm",
            LayerType::Relu => Activation::Relu.name(),
            LayerType::Relu6 => Activation::Relu6.name(),
            LayerType::Silu => Activation::Silu.name(),
            LayerType::HardSwish => Activation::HardSwish.name(),
            LayerType::Sigmoid => Activation::Sigmoid.name(),
            LayerType::MaxPool => "max_pool",
            LayerType::AvgPool => "avg_pool",
            LayerType::GlobalAvgPool => "global_avg_pool",
            LayerType::Residual => "residual",
            LayerType::SqueezeExcitation => "squeeze_excitation",
            LayerType::Flatten => "flatten",
            LayerType::Linear => "linear",
            LayerType::Dropout => "dropout",
        }
    }

    /// The keys of this type, for messages.
    pub(super) fn keys(self) -> &'static str {
        match self {
            LayerType::Conv => "channels, kernel, stride, padding, groups, bias",
            LayerType::DepthwiseConv => "kernel, stride, padding, bias",
            LayerType::BatchNorm => "epsilon",
            LayerType::MaxPool | LayerType::AvgPool => "kernel, stride, padding",
            LayerType::Residual => "body, shortcut, activation",
            LayerType::SqueezeExcitation => "channels, activation",
            LayerType::Linear => "features, bias",
            LayerType::Dropout => "rate",
            LayerType::Relu
            | LayerType::Relu6
            | LayerType::Silu
            | LayerType::HardSwish
            | LayerType::Sigmoid
            | LayerType::GlobalAvgPool
            | LayerType::Flatten => "none but type",
        }
    }
}

impl fmt::Display for LayerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl LayerSpec {
    /// The layer's type.
    pub fn layer_type(&self) -> LayerType {
        match self {
            LayerSpec::Conv { .. } => LayerType::Conv,
            LayerSpec::DepthwiseConv { .. } => LayerType::DepthwiseConv,
            LayerSpec::BatchNorm { .. } => LayerType::BatchNorm,
            LayerSpec::Activation(Activation::Relu) => LayerType::Relu,
            LayerSpec::Activation(Activation::Relu6) => LayerType::Relu6,
            LayerSpec::Activation(Activation::Silu) => LayerType::Silu,
            LayerSpec::Activation(Activation::HardSwish) => LayerType::HardSwish,
            LayerSpec::Activation(Activation::Sigmoid) => LayerType::Sigmoid,
            LayerSpec::MaxPool(_) => LayerType::MaxPool,
            LayerSpec::AvgPool(_) => LayerType::AvgPool,
            LayerSpec::GlobalAvgPool => LayerType::GlobalAvgPool,
            LayerSpec::Residual { .. } => LayerType::Residual,
            LayerSpec::SqueezeExcitation { .. } => LayerType::SqueezeExcitation,
            LayerSpec::Flatten => LayerType::Flatten,
            LayerSpec::Linear { .. } => LayerType::Linear,
            LayerSpec::Dropout { .. } => LayerType::Dropout,
        }
    }
}
