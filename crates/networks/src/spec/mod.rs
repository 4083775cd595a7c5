//! The network spec: an architecture as data.

mod fields;
mod layer;
mod preset;

use serde::{Deserialize, Serialize};

pub use layer::{LayerSpec, LayerType, Padding, Shortcut, Window};
pub(crate) use preset::InvertedResidual;
pub use preset::{
    CnnPreset, Convention, DeepResnet, DeepResnetPreset, EfficientnetLitePreset, MlpPreset,
    MobilenetV2Preset, ResnetPreset, Scaling, Size, Vgg16BnPreset,
};

use crate::{Shape, SpecError};
use fields::NetworkFields;

/// A network: its input shape, number of classes and architecture.
///
/// ```
/// let spec = networks::NetworkSpec::from_toml(r#"
///     input = [1, 28, 28]
///     classes = 10
///     preset = "cnn"
///     widths = [24, 48, 64]
///     strides = [2, 2, 1]
/// "#)?;
/// assert_eq!(networks::cost(&spec)?.parameters, 39_154);
///
/// let spec = networks::NetworkSpec::from_toml(r#"
///     input = [3, 224, 224]
///     classes = 1000
///     preset = "mobilenet_v2"
/// "#)?;
/// assert_eq!(networks::cost(&spec)?.parameters, 3_504_872);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NetworkFields", into = "NetworkFields")]
pub struct NetworkSpec {
    /// One sample's [channels, height, width] or [features].
    pub input: Shape,
    /// Number of logits.
    pub classes: usize,
    /// The layers, or a preset that expands to layers.
    pub architecture: Architecture,
}

/// The layers of a spec: listed, or as a preset.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// A list of all layers.
    Layers(Vec<LayerSpec>),
    /// `resnet` with `widths`: a residual network (He et al. 2015, the CIFAR form).
    Resnet(ResnetPreset),
    /// `resnet` with `width`: a residual student with three stages of 16, 32 and 64 channels times
    /// `width` and `depth` blocks each.
    SizedResnet(Size),
    /// `cnn` with `widths`: plain convolutions.
    Cnn(CnnPreset),
    /// `cnn` with `width`: a plain student with three stages of 32, 64 and 128 channels times `width`
    /// and `depth` convolutions each.
    SizedCnn(Size),
    /// `mlp` with `widths`: fully connected layers.
    Mlp(MlpPreset),
    /// `mlp` with `width`: `depth` hidden layers of 256 features times `width`.
    SizedMlp(Size),
    /// `resnet18`, `resnet34` or `resnet50`: a residual network in torchvision's layout.
    DeepResnet(DeepResnetPreset),
    /// `mobilenet_v2`
    MobilenetV2(MobilenetV2Preset),
    /// `efficientnet_lite` or `efficientnet_lite0`
    EfficientnetLite(EfficientnetLitePreset),
    /// `vgg16_bn`
    Vgg16Bn(Vgg16BnPreset),
}

impl NetworkSpec {
    /// Reads a spec from TOML text (the body of a `[network]` table).
    ///
    /// # Errors
    /// A one-line message that names the key and its layer.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        from_toml(text)
    }

    /// The same network with its preset expanded to layers: the canonical form.
    ///
    /// # Errors
    /// [`SpecError`] if the preset's keys have invalid values.
    pub fn expanded(&self) -> Result<NetworkSpec, SpecError> {
        let architecture = Architecture::Layers(self.expanded_layers()?);
        Ok(NetworkSpec {
            architecture,
            ..*self
        })
    }

    pub(crate) fn expanded_layers(&self) -> Result<Vec<LayerSpec>, SpecError> {
        let (input, classes) = (self.input, self.classes);
        match &self.architecture {
            Architecture::Layers(layers) => Ok(layers.clone()),
            Architecture::Resnet(preset) => preset.layers(classes),
            Architecture::SizedResnet(size) => preset::sized_resnet(size, input, classes),
            Architecture::Cnn(preset) => preset.layers(classes),
            Architecture::SizedCnn(size) => preset::sized_cnn(size, input, classes),
            Architecture::Mlp(preset) => preset.layers(input, classes),
            Architecture::SizedMlp(size) => preset::sized_mlp(size, input, classes),
            Architecture::DeepResnet(preset) => preset.layers(classes),
            Architecture::MobilenetV2(preset) => Ok(preset.network(input)?.layers(classes)),
            Architecture::EfficientnetLite(preset) => Ok(preset.network(input)?.layers(classes)),
            Architecture::Vgg16Bn(preset) => preset.layers(input, classes),
        }
    }
}

/// Reads TOML; the error is one line that names the key's path.
pub(crate) fn from_toml<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    let document = toml::Deserializer::parse(text).map_err(|error| one_line(&error))?;
    serde_path_to_error::deserialize(document).map_err(|error| match error.path().iter().count() {
        0 => one_line(error.inner()),
        _ => format!("{}: {}", error.path(), one_line(error.inner())),
    })
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}
