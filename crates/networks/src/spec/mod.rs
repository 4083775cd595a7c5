//! The network spec: an architecture as data.

mod layer;
mod preset;

use serde::{Deserialize, Serialize};

pub use layer::{LayerSpec, LayerType, Shortcut};
pub use preset::{CnnPreset, MlpPreset, ResnetPreset};

use crate::SpecError;

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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NetworkFields", into = "NetworkFields")]
pub struct NetworkSpec {
    /// One sample's [channels, height, width].
    pub input: [usize; 3],
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
    /// A residual network (He et al. 2015, the CIFAR form).
    Resnet(ResnetPreset),
    /// Plain convolutions.
    Cnn(CnnPreset),
    /// Fully connected layers.
    Mlp(MlpPreset),
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
        match &self.architecture {
            Architecture::Layers(layers) => Ok(layers.clone()),
            Architecture::Resnet(preset) => preset.layers(self.classes),
            Architecture::Cnn(preset) => preset.layers(self.classes),
            Architecture::Mlp(preset) => preset.layers(self.classes),
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

/// The keys of all architectures, for deserialization. With this flat form an error names the
/// exact key, which serde's tagged enums cannot do.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFields {
    input: [usize; 3],
    classes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    widths: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depths: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strides: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stem_stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<LayerSpec>>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    Resnet,
    Cnn,
    Mlp,
}

impl TryFrom<NetworkFields> for NetworkSpec {
    type Error = String;

    fn try_from(mut fields: NetworkFields) -> Result<Self, String> {
        let (name, keys, architecture) = match fields.preset {
            None => {
                let layers = fields
                    .layers
                    .take()
                    .ok_or("needs either `preset` (resnet, cnn or mlp) or `layers`")?;
                ("no preset", "layers", Architecture::Layers(layers))
            }
            Some(Preset::Resnet) => (
                "preset `resnet`",
                ResnetPreset::KEYS,
                Architecture::Resnet(ResnetPreset {
                    widths: fields.take_widths()?,
                    depths: fields.depths.take(),
                    stem_stride: fields.stem_stride.take().unwrap_or(1),
                    dropout: fields.dropout.take().unwrap_or(0.0),
                }),
            ),
            Some(Preset::Cnn) => (
                "preset `cnn`",
                CnnPreset::KEYS,
                Architecture::Cnn(CnnPreset {
                    widths: fields.take_widths()?,
                    depths: fields.depths.take(),
                    strides: fields.strides.take(),
                    dropout: fields.dropout.take().unwrap_or(0.0),
                }),
            ),
            Some(Preset::Mlp) => (
                "preset `mlp`",
                MlpPreset::KEYS,
                Architecture::Mlp(MlpPreset {
                    widths: fields.take_widths()?,
                    dropout: fields.dropout.take().unwrap_or(0.0),
                }),
            ),
        };
        match fields.unknown_key() {
            Some(key) => Err(format!(
                "`{key}` has no meaning with {name}; allowed: input, classes, preset, {keys}"
            )),
            None => Ok(NetworkSpec {
                input: fields.input,
                classes: fields.classes,
                architecture,
            }),
        }
    }
}

impl NetworkFields {
    fn take_widths(&mut self) -> Result<Vec<usize>, String> {
        self.widths
            .take()
            .ok_or_else(|| "a preset needs `widths`".to_owned())
    }

    /// A key that the architecture does not have.
    fn unknown_key(&self) -> Option<&'static str> {
        [
            ("widths", self.widths.is_some()),
            ("depths", self.depths.is_some()),
            ("strides", self.strides.is_some()),
            ("stem_stride", self.stem_stride.is_some()),
            ("dropout", self.dropout.is_some()),
            ("layers", self.layers.is_some()),
        ]
        .into_iter()
        .find_map(|(key, present)| present.then_some(key))
    }
}

impl From<NetworkSpec> for NetworkFields {
    fn from(spec: NetworkSpec) -> Self {
        let fields = NetworkFields {
            input: spec.input,
            classes: spec.classes,
            ..Default::default()
        };
        match spec.architecture {
            Architecture::Layers(layers) => NetworkFields {
                layers: Some(layers),
                ..fields
            },
            Architecture::Resnet(preset) => NetworkFields {
                preset: Some(Preset::Resnet),
                widths: Some(preset.widths),
                depths: preset.depths,
                stem_stride: Some(preset.stem_stride),
                dropout: Some(preset.dropout),
                ..fields
            },
            Architecture::Cnn(preset) => NetworkFields {
                preset: Some(Preset::Cnn),
                widths: Some(preset.widths),
                depths: preset.depths,
                strides: preset.strides,
                dropout: Some(preset.dropout),
                ..fields
            },
            Architecture::Mlp(preset) => NetworkFields {
                preset: Some(Preset::Mlp),
                widths: Some(preset.widths),
                dropout: Some(preset.dropout),
                ..fields
            },
        }
    }
}
