//! A resolved layer: its shapes and tensor names are known.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Activation;

/// The epsilon that batch-norm adds to a variance before the root is taken: PyTorch's default.
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
        /// Added to the variance before the root is taken.
        epsilon: f64,
    },
    /// A function of each value.
    Activation(Activation),
    /// Maximum over a window; padding is never the maximum.
    MaxPool(Pool),
    /// Mean over a window; padding counts as zeros, like PyTorch's `AvgPool2d` by default.
    AvgPool(Pool),
    /// Mean over the image; its height and width become 1.
    GlobalAvgPool,
    /// activation(body(x) + shortcut(x)), He et al. 2015.
    Residual {
        /// The residual branch.
        body: Vec<Layer>,
        /// A projection (1×1 convolution and batch-norm), or empty: the identity.
        shortcut: Vec<Layer>,
        /// The function after the sum, if there is one.
        activation: Option<Activation>,
    },
    /// x · gate(x) with one factor per channel: squeeze-and-excitation, Hu et al. 2018.
    Gate {
        /// The layers that compute the factors, [c, h, w] → [c, 1, 1].
        gate: Vec<Layer>,
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

impl Layer {
    /// The layers inside this one, in network order; none for most operations.
    pub fn inner(&self) -> impl Iterator<Item = &Layer> {
        let (first, second): (&[Layer], &[Layer]) = match &self.operation {
            Operation::Residual { body, shortcut, .. } => (body, shortcut),
            Operation::Gate { gate } => (gate, &[]),
            _ => (&[], &[]),
        };
        first.iter().chain(second)
    }
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
    /// Zeros added at the top, left, bottom and right: the order of ONNX's `pads` for images.
    pub padding: [usize; 4],
    /// Groups of channels that are convolved separately; `in_channels` for a depthwise convolution.
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

/// Shape of one sample, without the batch dimension. Serialized as a list of its dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
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

/// A shape that is not an image where only images can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only images are supported here, but the input is a vector of {features} features")]
pub struct NotAnImage {
    /// Length of the vector.
    pub features: usize,
}

impl Shape {
    /// The dimensions: [channels, height, width] or [features].
    pub fn dimensions(self) -> Vec<usize> {
        self.into()
    }

    /// [channels, height, width].
    ///
    /// # Errors
    /// [`NotAnImage`] for a vector.
    pub fn image(self) -> Result<[usize; 3], NotAnImage> {
        match self {
            Shape::Image {
                channels,
                height,
                width,
            } => Ok([channels, height, width]),
            Shape::Vector { features } => Err(NotAnImage { features }),
        }
    }

    /// Number of values in one sample.
    pub fn elements(self) -> usize {
        self.dimensions().iter().product()
    }

    /// The dimension that batch-norm normalizes: an image's channels or a vector's features.
    pub fn channels(self) -> usize {
        match self {
            Shape::Image { channels, .. } => channels,
            Shape::Vector { features } => features,
        }
    }
}

impl From<[usize; 3]> for Shape {
    fn from([channels, height, width]: [usize; 3]) -> Self {
        Shape::Image {
            channels,
            height,
            width,
        }
    }
}

impl From<Shape> for Vec<usize> {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Image {
                channels,
                height,
                width,
            } => vec![channels, height, width],
            Shape::Vector { features } => vec![features],
        }
    }
}

impl TryFrom<Vec<usize>> for Shape {
    type Error = String;

    fn try_from(dimensions: Vec<usize>) -> Result<Self, String> {
        match *dimensions {
            [channels, height, width] => Ok([channels, height, width].into()),
            [features] => Ok(Shape::Vector { features }),
            _ => Err(format!(
                "has {} numbers; allowed: [channels, height, width] for images, [features] for vectors",
                dimensions.len()
            )),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dimensions())
    }
}
