//! A resolved layer: its shapes and tensor names are known.

use std::fmt;

/// The epsilon that batch-norm adds to a variance before taking the root: PyTorch's default.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// A layer at its position in a network, with known shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The layer's path, for example `layers.2.body.0`; the names of its tensors start with it.
    pub name: String,
    /// Shape of one input sample.
    pub input: Shape,
    /// Shape of one output sample.
    pub output: Shape,
    /// What it computes.
    pub operation: Operation,
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// 2-D cross-correlation, like PyTorch's `Conv2d`.
    Conv(Conv),
    /// Normalization over batch (and image) per channel, then scale and shift.
    BatchNorm {
        /// Channels of an image, or features of a vector.
        channels: usize,
    },
    /// max(x, 0).
    Relu,
    /// Maximum over a window; padding is never the maximum.
    MaxPool(Pool),
    /// Mean over a window; padding counts as zeros, like PyTorch's `AvgPool2d` by default.
    AvgPool(Pool),
    /// Mean over the image; its height and width become 1.
    GlobalAvgPool,
    /// relu(body(x) + shortcut(x)), He et al. 2015.
    Residual {
        /// The residual branch.
        body: Vec<Layer>,
        /// A projection (1×1 convolution and batch-norm), or empty: the identity.
        shortcut: Vec<Layer>,
    },
    /// Flattens an image to a vector, channels first.
    Flatten,
    /// x·Wᵀ + b, like PyTorch's `Linear`.
    Linear(Linear),
    /// In training, zeroes values at this rate and scales the other values by 1 / (1 − rate).
    Dropout {
        /// Probability of zeroing, in [0, 1).
        rate: f64,
    },
}

/// A convolution with square kernels. Weight: [out_channels, in_channels / groups, kernel, kernel].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Zeros added on each of the four sides.
    pub padding: usize,
    /// 1, or `in_channels` for a depthwise convolution.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// A pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Height and width of the window.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Padding on each of the four sides, at most half the kernel.
    pub padding: usize,
}

/// A fully connected layer. Weight: [out_features, in_features].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Length of the input vector.
    pub in_features: usize,
    /// Length of the output vector.
    pub out_features: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// Shape of one sample, without the batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// [channels, height, width]
    Image {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// [features]
    Vector {
        /// Length.
        features: usize,
    },
}

impl Shape {
    /// Number of values in one sample.
    pub fn elements(self) -> usize {
        match self {
            Shape::Image {
                channels,
                height,
                width,
            } => channels * height * width,
            Shape::Vector { features } => features,
        }
    }

    /// The dimension that batch-norm normalizes: an image's channels or a vector's features.
    pub fn channels(self) -> usize {
        match self {
            Shape::Image { channels, .. } => channels,
            Shape::Vector { features } => features,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Image {
                channels,
                height,
                width,
            } => write!(f, "[{channels}, {height}, {width}]"),
            Shape::Vector { features } => write!(f, "[{features}]"),
        }
    }
}
