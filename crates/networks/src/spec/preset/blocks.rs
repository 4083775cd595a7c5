//! Groups of layers that several presets share.

use crate::{Activation, BATCH_NORM_EPSILON, LayerSpec, Window};

pub(super) fn conv(channels: usize, window: Window) -> LayerSpec {
    LayerSpec::Conv {
        channels,
        window,
        groups: 1,
        bias: false,
    }
}

pub(super) fn batch_norm() -> LayerSpec {
    LayerSpec::BatchNorm {
        epsilon: BATCH_NORM_EPSILON,
    }
}

pub(super) fn relu() -> LayerSpec {
    LayerSpec::Activation(Activation::Relu)
}

pub(super) fn conv_norm_relu(channels: usize, kernel: usize, stride: usize) -> [LayerSpec; 3] {
    let window = Window::centred(kernel, stride);
    [conv(channels, window), batch_norm(), relu()]
}

/// The first 3×3 convolutions of a network. Each halving takes one with stride 2; without halvings there is
/// one with stride 1.
pub(super) fn stem(channels: usize, halvings: u32) -> Vec<LayerSpec> {
    match halvings {
        0 => conv_norm_relu(channels, 3, 1).into(),
        _ => (0..halvings)
            .flat_map(|_| conv_norm_relu(channels, 3, 2))
            .collect(),
    }
}

pub(super) fn linear(features: usize) -> LayerSpec {
    LayerSpec::Linear {
        features,
        bias: true,
    }
}

/// Global average pooling and a linear layer that gives the logits.
pub(super) fn pooled_head(classes: usize, dropout_rate: f64) -> Vec<LayerSpec> {
    let mut layers = vec![LayerSpec::GlobalAvgPool, LayerSpec::Flatten];
    layers.extend(dropout(dropout_rate));
    layers.push(linear(classes));
    layers
}

pub(super) fn dropout(rate: f64) -> Option<LayerSpec> {
    (rate > 0.0).then_some(LayerSpec::Dropout { rate })
}
