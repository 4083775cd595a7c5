//! One layer of a spec, as written in TOML.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A layer of a spec: `type = "conv"` and the keys of that type.
/// A spec never contains input channels and features; they follow from the previous layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LayerFields", into = "LayerFields")]
pub enum LayerSpec {
    /// `conv`: square 2-D convolution.
    Conv {
        /// Output channels.
        channels: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Step; default 1.
        stride: usize,
        /// Zeros on each side; default (kernel − 1) / 2.
        padding: usize,
        /// Whether a bias is added; default false, because batch-norm usually follows.
        bias: bool,
    },
    /// `depthwise_conv`: convolves each channel separately. Keys of `conv`, without `channels`.
    DepthwiseConv {
        /// Height and width of the kernel.
        kernel: usize,
        /// Step; default 1.
        stride: usize,
        /// Zeros on each side; default (kernel − 1) / 2.
        padding: usize,
        /// Whether a bias is added; default false.
        bias: bool,
    },
    /// `batch_norm`: batch normalization with scale and shift.
    BatchNorm,
    /// `relu`
    Relu,
    /// `max_pool`
    MaxPool {
        /// Height and width of the window.
        kernel: usize,
        /// Step; default `kernel`.
        stride: usize,
        /// Padding on each side; default 0.
        padding: usize,
    },
    /// `avg_pool`: keys of `max_pool`.
    AvgPool {
        /// Height and width of the window.
        kernel: usize,
        /// Step; default `kernel`.
        stride: usize,
        /// Zeros on each side; default 0.
        padding: usize,
    },
    /// `global_avg_pool`: the mean over the image, [c, h, w] → [c, 1, 1].
    GlobalAvgPool,
    /// `residual`: relu(body(x) + shortcut(x)).
    Residual {
        /// The residual branch.
        body: Vec<LayerSpec>,
        /// Default: the identity if the body keeps the shape, otherwise a projection.
        shortcut: Option<Shortcut>,
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

/// The shortcut of a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// Adds the input unchanged.
    Identity,
    /// Applies a strided 1×1 convolution and batch-norm to the input.
    Projection,
}

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
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    Residual,
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
            LayerType::Relu => "relu",
            LayerType::MaxPool => "max_pool",
            LayerType::AvgPool => "avg_pool",
            LayerType::GlobalAvgPool => "global_avg_pool",
            LayerType::Residual => "residual",
            LayerType::Flatten => "flatten",
            LayerType::Linear => "linear",
            LayerType::Dropout => "dropout",
        }
    }

    fn keys(self) -> &'static str {
        match self {
            LayerType::Conv => "channels, kernel, stride, padding, bias",
            LayerType::DepthwiseConv => "kernel, stride, padding, bias",
            LayerType::MaxPool | LayerType::AvgPool => "kernel, stride, padding",
            LayerType::Residual => "body, shortcut",
            LayerType::Linear => "features, bias",
            LayerType::Dropout => "rate",
            LayerType::BatchNorm
            | LayerType::Relu
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
            LayerSpec::BatchNorm => LayerType::BatchNorm,
            LayerSpec::Relu => LayerType::Relu,
            LayerSpec::MaxPool { .. } => LayerType::MaxPool,
            LayerSpec::AvgPool { .. } => LayerType::AvgPool,
            LayerSpec::GlobalAvgPool => LayerType::GlobalAvgPool,
            LayerSpec::Residual { .. } => LayerType::Residual,
            LayerSpec::Flatten => LayerType::Flatten,
            LayerSpec::Linear { .. } => LayerType::Linear,
            LayerSpec::Dropout { .. } => LayerType::Dropout,
        }
    }
}

/// The keys of all layer types, for deserialization.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerFields {
    r#type: LayerType,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shortcut: Option<Shortcut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Vec<LayerSpec>>,
}

impl TryFrom<LayerFields> for LayerSpec {
    type Error = String;

    fn try_from(mut fields: LayerFields) -> Result<Self, String> {
        let layer_type = fields.r#type;
        let missing = |key: &str| format!("a `{layer_type}` layer needs the key `{key}`");
        let spec = match layer_type {
            LayerType::Conv => {
                let channels = fields.channels.take().ok_or_else(|| missing("channels"))?;
                let kernel = fields.kernel.take().ok_or_else(|| missing("kernel"))?;
                LayerSpec::Conv {
                    channels,
                    kernel,
                    stride: fields.stride.take().unwrap_or(1),
                    padding: fields
                        .padding
                        .take()
                        .unwrap_or(kernel.saturating_sub(1) / 2),
                    bias: fields.bias.take().unwrap_or(false),
                }
            }
            LayerType::DepthwiseConv => {
                let kernel = fields.kernel.take().ok_or_else(|| missing("kernel"))?;
                LayerSpec::DepthwiseConv {
                    kernel,
                    stride: fields.stride.take().unwrap_or(1),
                    padding: fields
                        .padding
                        .take()
                        .unwrap_or(kernel.saturating_sub(1) / 2),
                    bias: fields.bias.take().unwrap_or(false),
                }
            }
            LayerType::MaxPool | LayerType::AvgPool => {
                let kernel = fields.kernel.take().ok_or_else(|| missing("kernel"))?;
                let stride = fields.stride.take().unwrap_or(kernel);
                let padding = fields.padding.take().unwrap_or(0);
                match layer_type {
                    LayerType::MaxPool => LayerSpec::MaxPool {
                        kernel,
                        stride,
                        padding,
                    },
                    _ => LayerSpec::AvgPool {
                        kernel,
                        stride,
                        padding,
                    },
                }
            }
            LayerType::BatchNorm => LayerSpec::BatchNorm,
            LayerType::Relu => LayerSpec::Relu,
            LayerType::GlobalAvgPool => LayerSpec::GlobalAvgPool,
            LayerType::Flatten => LayerSpec::Flatten,
            LayerType::Residual => LayerSpec::Residual {
                body: fields.body.take().ok_or_else(|| missing("body"))?,
                shortcut: fields.shortcut.take(),
            },
            LayerType::Linear => LayerSpec::Linear {
                features: fields.features.take().ok_or_else(|| missing("features"))?,
                bias: fields.bias.take().unwrap_or(true),
            },
            LayerType::Dropout => LayerSpec::Dropout {
                rate: fields.rate.take().ok_or_else(|| missing("rate"))?,
            },
        };
        match fields.unknown_key() {
            Some(key) => Err(format!(
                "`{key}` has no meaning in a `{layer_type}` layer; allowed: {}",
                layer_type.keys()
            )),
            None => Ok(spec),
        }
    }
}

impl LayerFields {
    fn new(layer_type: LayerType) -> Self {
        LayerFields {
            r#type: layer_type,
            channels: None,
            features: None,
            kernel: None,
            stride: None,
            padding: None,
            bias: None,
            rate: None,
            shortcut: None,
            body: None,
        }
    }

    /// A key that the layer's type does not have.
    fn unknown_key(&self) -> Option<&'static str> {
        [
            ("channels", self.channels.is_some()),
            ("features", self.features.is_some()),
            ("kernel", self.kernel.is_some()),
            ("stride", self.stride.is_some()),
            ("padding", self.padding.is_some()),
            ("bias", self.bias.is_some()),
            ("rate", self.rate.is_some()),
            ("shortcut", self.shortcut.is_some()),
            ("body", self.body.is_some()),
        ]
        .into_iter()
        .find_map(|(key, present)| present.then_some(key))
    }
}

impl From<LayerSpec> for LayerFields {
    fn from(spec: LayerSpec) -> Self {
        let mut fields = LayerFields::new(spec.layer_type());
        match spec {
            LayerSpec::Conv {
                channels,
                kernel,
                stride,
                padding,
                bias,
            } => {
                fields.channels = Some(channels);
                (fields.kernel, fields.stride, fields.padding) =
                    (Some(kernel), Some(stride), Some(padding));
                fields.bias = Some(bias);
            }
            LayerSpec::DepthwiseConv {
                kernel,
                stride,
                padding,
                bias,
            } => {
                (fields.kernel, fields.stride, fields.padding) =
                    (Some(kernel), Some(stride), Some(padding));
                fields.bias = Some(bias);
            }
            LayerSpec::MaxPool {
                kernel,
                stride,
                padding,
            }
            | LayerSpec::AvgPool {
                kernel,
                stride,
                padding,
            } => {
                (fields.kernel, fields.stride, fields.padding) =
                    (Some(kernel), Some(stride), Some(padding));
            }
            LayerSpec::Residual { body, shortcut } => {
                (fields.body, fields.shortcut) = (Some(body), shortcut)
            }
            LayerSpec::Linear { features, bias } => {
                (fields.features, fields.bias) = (Some(features), Some(bias))
            }
            LayerSpec::Dropout { rate } => fields.rate = Some(rate),
            LayerSpec::BatchNorm
            | LayerSpec::Relu
            | LayerSpec::GlobalAvgPool
            | LayerSpec::Flatten => {}
        }
        fields
    }
}
