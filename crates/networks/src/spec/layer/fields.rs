//! The serialized form of a layer: one flat table with the keys of all types. With this form an
//! error names the exact key, which serde's tagged enums cannot do.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IntoDeserializer, Visitor},
};

use super::{LayerSpec, LayerType, Padding, Shortcut, Window};
use crate::{Activation, BATCH_NORM_EPSILON};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerFields {
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
    padding: Option<Padding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shortcut: Option<Shortcut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<ActivationOrNone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Vec<LayerSpec>>,
}

impl TryFrom<LayerFields> for LayerSpec {
    type Error = String;

    fn try_from(mut fields: LayerFields) -> Result<Self, String> {
        let layer_type = fields.r#type;
        let missing = |key: &str| format!("a `{layer_type}` layer needs the key `{key}`");
        let spec = match layer_type {
            LayerType::Conv => LayerSpec::Conv {
                channels: fields.channels.take().ok_or_else(|| missing("channels"))?,
                window: fields.take_conv_window().ok_or_else(|| missing("kernel"))?,
                groups: fields.groups.take().unwrap_or(1),
                bias: fields.bias.take().unwrap_or(false),
            },
            LayerType::DepthwiseConv => LayerSpec::DepthwiseConv {
                window: fields.take_conv_window().ok_or_else(|| missing("kernel"))?,
                bias: fields.bias.take().unwrap_or(false),
            },
            LayerType::MaxPool => {
                LayerSpec::MaxPool(fields.take_pool_window().ok_or_else(|| missing("kernel"))?)
            }
            LayerType::AvgPool => {
                LayerSpec::AvgPool(fields.take_pool_window().ok_or_else(|| missing("kernel"))?)
            }
            LayerType::BatchNorm => LayerSpec::BatchNorm {
                epsilon: fields.epsilon.take().unwrap_or(BATCH_NORM_EPSILON),
            },
            LayerType::Relu => LayerSpec::Activation(Activation::Relu),
            LayerType::Relu6 => LayerSpec::Activation(Activation::Relu6),
            LayerType::Silu => LayerSpec::Activation(Activation::Silu),
            LayerType::HardSwish => LayerSpec::Activation(Activation::HardSwish),
            LayerType::Sigmoid => LayerSpec::Activation(Activation::Sigmoid),
            LayerType::GlobalAvgPool => LayerSpec::GlobalAvgPool,
            LayerType::Flatten => LayerSpec::Flatten,
            LayerType::Residual => LayerSpec::Residual {
                body: fields.body.take().ok_or_else(|| missing("body"))?,
                shortcut: fields.shortcut.take(),
                activation: fields.take_activation(),
            },
            LayerType::SqueezeExcitation => LayerSpec::SqueezeExcitation {
                channels: fields.channels.take().ok_or_else(|| missing("channels"))?,
                activation: fields.take_activation().ok_or(
                    "a `squeeze_excitation` layer needs an activation; allowed: relu, relu6, \
                     silu, hard_swish, sigmoid",
                )?,
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
            groups: None,
            bias: None,
            epsilon: None,
            rate: None,
            shortcut: None,
            activation: None,
            body: None,
        }
    }

    fn take_conv_window(&mut self) -> Option<Window> {
        let kernel = self.kernel.take()?;
        let default = Window::centred(kernel, 1);
        Some(Window {
            kernel,
            stride: self.stride.take().unwrap_or(default.stride),
            padding: self.padding.take().unwrap_or(default.padding),
        })
    }

    fn take_pool_window(&mut self) -> Option<Window> {
        let kernel = self.kernel.take()?;
        Some(Window {
            kernel,
            stride: self.stride.take().unwrap_or(kernel),
            padding: self.padding.take().unwrap_or(Padding::Each(0)),
        })
    }

    fn take_activation(&mut self) -> Option<Activation> {
        let ActivationOrNone(activation) = self.activation.take().unwrap_or_default();
        activation
    }

    fn set_window(&mut self, window: Window) {
        self.kernel = Some(window.kernel);
        self.stride = Some(window.stride);
        self.padding = Some(window.padding);
    }

    /// A key that the layer's type does not have.
    fn unknown_key(&self) -> Option<&'static str> {
        [
            ("channels", self.channels.is_some()),
            ("features", self.features.is_some()),
            ("kernel", self.kernel.is_some()),
            ("stride", self.stride.is_some()),
            ("padding", self.padding.is_some()),
            ("groups", self.groups.is_some()),
            ("bias", self.bias.is_some()),
            ("epsilon", self.epsilon.is_some()),
            ("rate", self.rate.is_some()),
            ("shortcut", self.shortcut.is_some()),
            ("activation", self.activation.is_some()),
            ("body", self.body.is_some()),
        ]
        .into_iter()
        .find_map(|(key, present)| present.then_some(key))
    }
}

/// Later keys are left out where they have their default, so that the canonical form of older specs,
/// and with it their model id, does not change.
impl From<LayerSpec> for LayerFields {
    fn from(spec: LayerSpec) -> Self {
        let mut fields = LayerFields::new(spec.layer_type());
        match spec {
            LayerSpec::Conv {
                channels,
                window,
                groups,
                bias,
            } => {
                fields.channels = Some(channels);
                fields.set_window(window);
                fields.groups = (groups != 1).then_some(groups);
                fields.bias = Some(bias);
            }
            LayerSpec::DepthwiseConv { window, bias } => {
                fields.set_window(window);
                fields.bias = Some(bias);
            }
            LayerSpec::BatchNorm { epsilon } => {
                fields.epsilon = (epsilon != BATCH_NORM_EPSILON).then_some(epsilon);
            }
            LayerSpec::MaxPool(window) | LayerSpec::AvgPool(window) => fields.set_window(window),
            LayerSpec::Residual {
                body,
                shortcut,
                activation,
            } => {
                (fields.body, fields.shortcut) = (Some(body), shortcut);
                fields.set_activation(activation);
            }
            LayerSpec::SqueezeExcitation {
                channels,
                activation,
            } => {
                fields.channels = Some(channels);
                fields.set_activation(Some(activation));
            }
            LayerSpec::Linear { features, bias } => {
                (fields.features, fields.bias) = (Some(features), Some(bias));
            }
            LayerSpec::Dropout { rate } => fields.rate = Some(rate),
            LayerSpec::Activation(_) | LayerSpec::GlobalAvgPool | LayerSpec::Flatten => {}
        }
        fields
    }
}

impl LayerFields {
    fn set_activation(&mut self, activation: Option<Activation>) {
        let activation = ActivationOrNone(activation);
        self.activation = (activation != ActivationOrNone::default()).then_some(activation);
    }
}

/// An activation, or the text `none`; by default ReLU.
#[derive(Clone, Copy, PartialEq)]
struct ActivationOrNone(Option<Activation>);

impl Default for ActivationOrNone {
    fn default() -> Self {
        ActivationOrNone(Some(Activation::Relu))
    }
}

impl Serialize for ActivationOrNone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.map_or("none", Activation::name))
    }
}

impl<'de> Deserialize<'de> for ActivationOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "none" => Ok(ActivationOrNone(None)),
            name => {
                let activation = Activation::deserialize(name.into_deserializer());
                activation.map(|activation| ActivationOrNone(Some(activation)))
            }
        }
    }
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Padding::Each(size) => size.serialize(serializer),
            Padding::Same => serializer.serialize_str("same"),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PaddingVisitor;

        impl Visitor<'_> for PaddingVisitor {
            type Value = Padding;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"same\"")
            }

            fn visit_u64<E: de::Error>(self, size: u64) -> Result<Padding, E> {
                let size = usize::try_from(size);
                size.map(Padding::Each).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, size: i64) -> Result<Padding, E> {
                let invalid = || E::invalid_value(de::Unexpected::Signed(size), &self);
                let size = usize::try_from(size).map_err(|_| invalid())?;
                Ok(Padding::Each(size))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Padding, E> {
                match text {
                    "same" => Ok(Padding::Same),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(PaddingVisitor)
    }
}
