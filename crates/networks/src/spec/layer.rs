//! One layer of a spec, as written in TOML.

mod fields;
mod layer_type;

use serde::{Deserialize, Serialize};

use crate::Activation;
use fields::LayerFields;
pub use layer_type::LayerType;

/// A layer of a spec: `type = "conv"` and the keys of that type.
/// A spec never contains input channels and features; they follow from the previous layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LayerFields", into = "LayerFields")]
pub enum LayerSpec {
    /// `conv`: square 2-D convolution. Keys `channels`, those of [`Window`], `groups` and `bias`.
    Conv {
        /// Output channels.
        channels: usize,
        /// The kernel and how it moves.
        window: Window,
        /// Groups of channels that are convolved separately; default 1. The number divides the
        /// input channels and the output channels.
        groups: usize,
        /// Whether a bias is added; default false, because batch-norm usually follows.
        bias: bool,
    },
    /// `depthwise_conv`: convolves each channel separately. Keys of [`Window`], and `bias`.
    DepthwiseConv {
        /// The kernel and how it moves.
        window: Window,
        /// Whether a bias is added; default false.
        bias: bool,
    },
    /// `batch_norm`: batch normalization with scale and shift.
    BatchNorm {
        /// Added to the variance before the root is taken; default
        /// [`BATCH_NORM_EPSILON`](crate::BATCH_NORM_EPSILON). Networks from TensorFlow often use 0.001.
        epsilon: f64,
    },
    /// `relu`, `relu6`, `silu`, `hard_swish` or `sigmoid`.
    Activation(Activation),
    /// `max_pool`: keys of [`Window`]; `padding` is a number, at most half the kernel.
    MaxPool(Window),
    /// `avg_pool`: keys of `max_pool`.
    AvgPool(Window),
    /// `global_avg_pool`: the mean over the image, [c, h, w] → [c, 1, 1].
    GlobalAvgPool,
    /// `residual`: activation(body(x) + shortcut(x)).
    Residual {
        /// The residual branch.
        body: Vec<LayerSpec>,
        /// Default: the identity if the body keeps the shape, otherwise a projection.
        shortcut: Option<Shortcut>,
        /// The function after the sum; default `relu`. `None` is written as `"none"`.
        activation: Option<Activation>,
    },
    /// `squeeze_excitation`: multiplies each channel by a gate between 0 and 1 that two 1×1
    /// convolutions compute from the channels' means (Hu et al. 2018):
    /// x · sigmoid(expand(activation(reduce(mean(x))))).
    SqueezeExcitation {
        /// Channels between the two convolutions.
        channels: usize,
        /// The function between the two convolutions; default `relu`.
        activation: Activation,
    },
    /// `flatten`: [c, h, w] → [c·h·w].
    Flatten,
    /// `linear`: fully connected.
    Linear {
        /// Length of the output.
        features: usize,
        /// Whether a bias is added; default true.
        bias: bool,
    },
    /// `dropout`
    Dropout {
        /// Probability of zeroing a value, in [0, 1).
        rate: f64,
    },
}

/// A square window that moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the window.
    pub kernel: usize,
    /// Step in both directions; default 1 for convolutions, `kernel` for pooling.
    pub stride: usize,
    /// Default (kernel − 1) / 2 for convolutions, 0 for pooling.
    pub padding: Padding,
}

/// What surrounds the image under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// This many values on each side. Written as a number.
    Each(usize),
    /// TensorFlow's `SAME`: as much as makes the output ⌈size / stride⌉ long. If the number is odd,
    /// the bottom and the right side get the extra row. Written as `"same"`.
    Same,
}

/// The shortcut of a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// Adds the input unchanged.
    Identity,
    /// Applies a strided 1×1 convolution and batch-norm to the input.
    Projection,
}

impl Window {
    /// A convolution's window with the default padding: with stride 1 it keeps the image's size.
    pub fn centred(kernel: usize, stride: usize) -> Self {
        let padding = Padding::Each(kernel.saturating_sub(1) / 2);
        Window {
            kernel,
            stride,
            padding,
        }
    }
}
