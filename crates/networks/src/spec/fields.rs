//! The serialized form of a network: one flat table with the keys of all architectures. With this
//! form an error names the exact key, which serde's tagged enums cannot do.

use serde::{Deserialize, Serialize};

use super::{
    Architecture, CnnPreset, Convention, DeepResnet, DeepResnetPreset, EfficientnetLitePreset,
    LayerSpec, MlpPreset, MobilenetV2Preset, NetworkSpec, ResnetPreset, Scaling, Size,
    Vgg16BnPreset,
};
use crate::Shape;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkFields {
    input: Shape,
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
    width: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convention: Option<Convention>,
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
    Resnet18,
    Resnet34,
    Resnet50,
    MobilenetV2,
    EfficientnetLite,
    EfficientnetLite0,
    Vgg16Bn,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Preset::Resnet => "resnet",
            Preset::Cnn => "cnn",
            Preset::Mlp => "mlp",
            Preset::Resnet18 => "resnet18",
            Preset::Resnet34 => "resnet34",
            Preset::Resnet50 => "resnet50",
            Preset::MobilenetV2 => "mobilenet_v2",
            Preset::EfficientnetLite => "efficientnet_lite",
            Preset::EfficientnetLite0 => "efficientnet_lite0",
            Preset::Vgg16Bn => "vgg16_bn",
        }
    }
}

impl TryFrom<NetworkFields> for NetworkSpec {
    type Error = String;

    fn try_from(mut fields: NetworkFields) -> Result<Self, String> {
        let (keys, architecture) = match fields.preset {
            None => {
                let layers = fields.layers.take().ok_or(
                    "needs either `preset` (resnet, cnn, mlp, mobilenet_v2, efficientnet_lite, \
                     efficientnet_lite0, resnet18, resnet34, resnet50 or vgg16_bn) or `layers`",
                )?;
                ("layers", Architecture::Layers(layers))
            }
            Some(preset) => fields.take_preset(preset)?,
        };
        if let Some(key) = fields.unknown_key() {
            let architecture = match fields.preset {
                None => "no preset".to_owned(),
                Some(preset) => format!("preset `{}`", preset.name()),
            };
            return Err(format!(
                "`{key}` has no meaning with {architecture}; allowed: input, classes, preset, {keys}"
            ));
        }
        Ok(NetworkSpec {
            input: fields.input,
            classes: fields.classes,
            architecture,
        })
    }
}

impl NetworkFields {
    fn new(input: Shape, classes: usize) -> Self {
        NetworkFields {
            input,
            classes,
            preset: None,
            widths: None,
            depths: None,
            strides: None,
            stem_stride: None,
            width: None,
            depth: None,
            convention: None,
            dropout: None,
            layers: None,
        }
    }

    /// The names of the preset's keys, and the architecture of their values.
    fn take_preset(&mut self, preset: Preset) -> Result<(&'static str, Architecture), String> {
        let deep = |fields: &mut Self, network| {
            let dropout = fields.take_dropout();
            Architecture::DeepResnet(DeepResnetPreset { network, dropout })
        };
        Ok(match preset {
            Preset::Resnet => match self.take_widths()? {
                None => (Size::KEYS, Architecture::SizedResnet(self.take_size())),
                Some(widths) => (
                    ResnetPreset::KEYS,
                    Architecture::Resnet(ResnetPreset {
                        widths,
                        depths: self.depths.take(),
                        stem_stride: self.stem_stride.take().unwrap_or(1),
                        dropout: self.take_dropout(),
                    }),
                ),
            },
            Preset::Cnn => match self.take_widths()? {
                None => (Size::KEYS, Architecture::SizedCnn(self.take_size())),
                Some(widths) => (
                    CnnPreset::KEYS,
                    Architecture::Cnn(CnnPreset {
                        widths,
                        depths: self.depths.take(),
                        strides: self.strides.take(),
                        dropout: self.take_dropout(),
                    }),
                ),
            },
            Preset::Mlp => match self.take_widths()? {
                None => (Size::KEYS, Architecture::SizedMlp(self.take_size())),
                Some(widths) => (
                    MlpPreset::KEYS,
                    Architecture::Mlp(MlpPreset {
                        widths,
                        dropout: self.take_dropout(),
                    }),
                ),
            },
            Preset::Resnet18 => (DeepResnetPreset::KEYS, deep(self, DeepResnet::Resnet18)),
            Preset::Resnet34 => (DeepResnetPreset::KEYS, deep(self, DeepResnet::Resnet34)),
            Preset::Resnet50 => (DeepResnetPreset::KEYS, deep(self, DeepResnet::Resnet50)),
            Preset::MobilenetV2 => (
                MobilenetV2Preset::KEYS,
                Architecture::MobilenetV2(MobilenetV2Preset {
                    size: self.take_size(),
                    convention: self.convention.take().unwrap_or(Convention::Torch),
                }),
            ),
            Preset::EfficientnetLite => (
                EfficientnetLitePreset::KEYS,
                Architecture::EfficientnetLite(EfficientnetLitePreset {
                    scaling: Scaling::Student(self.take_size()),
                    convention: self.convention.take().unwrap_or(Convention::Tensorflow),
                }),
            ),
            Preset::EfficientnetLite0 => (
                EfficientnetLitePreset::LITE0_KEYS,
                Architecture::EfficientnetLite(EfficientnetLitePreset {
                    scaling: Scaling::Lite0 {
                        dropout: self.take_dropout(),
                    },
                    convention: self.convention.take().unwrap_or(Convention::Tensorflow),
                }),
            ),
            Preset::Vgg16Bn => (
                Vgg16BnPreset::KEYS,
                Architecture::Vgg16Bn(Vgg16BnPreset {
                    dropout: self.take_dropout(),
                }),
            ),
        })
    }

    /// The `widths` of a preset that has the size dial, too; `None` if `width` is given instead.
    fn take_widths(&mut self) -> Result<Option<Vec<usize>>, String> {
        match (self.widths.take(), self.width) {
            (None, None) => {
                Err("a preset needs `widths` (a list) or `width` (a multiplier)".to_owned())
            }
            (widths, _) => Ok(widths),
        }
    }

    fn take_size(&mut self) -> Size {
        Size {
            width: self.width.take().unwrap_or(1.0),
            depth: self.depth.take().unwrap_or(1.0),
            dropout: self.take_dropout(),
        }
    }

    fn take_dropout(&mut self) -> f64 {
        self.dropout.take().unwrap_or(0.0)
    }

    fn set_size(&mut self, size: Size) {
        self.width = Some(size.width);
        self.depth = Some(size.depth);
        self.dropout = Some(size.dropout);
    }

    /// A key that the architecture does not have.
    fn unknown_key(&self) -> Option<&'static str> {
        [
            ("widths", self.widths.is_some()),
            ("depths", self.depths.is_some()),
            ("strides", self.strides.is_some()),
            ("stem_stride", self.stem_stride.is_some()),
            ("width", self.width.is_some()),
            ("depth", self.depth.is_some()),
            ("convention", self.convention.is_some()),
            ("dropout", self.dropout.is_some()),
            ("layers", self.layers.is_some()),
        ]
        .into_iter()
        .find_map(|(key, present)| present.then_some(key))
    }
}

impl From<NetworkSpec> for NetworkFields {
    fn from(spec: NetworkSpec) -> Self {
        let mut fields = NetworkFields::new(spec.input, spec.classes);
        let preset = match spec.architecture {
            Architecture::Layers(layers) => {
                fields.layers = Some(layers);
                return fields;
            }
            Architecture::Resnet(preset) => {
                (fields.widths, fields.depths) = (Some(preset.widths), preset.depths);
                fields.stem_stride = Some(preset.stem_stride);
                fields.dropout = Some(preset.dropout);
                Preset::Resnet
            }
            Architecture::Cnn(preset) => {
                (fields.widths, fields.depths) = (Some(preset.widths), preset.depths);
                fields.strides = preset.strides;
                fields.dropout = Some(preset.dropout);
                Preset::Cnn
            }
            Architecture::Mlp(preset) => {
                fields.widths = Some(preset.widths);
                fields.dropout = Some(preset.dropout);
                Preset::Mlp
            }
            Architecture::SizedResnet(size) => {
                fields.set_size(size);
                Preset::Resnet
            }
            Architecture::SizedCnn(size) => {
                fields.set_size(size);
                Preset::Cnn
            }
            Architecture::SizedMlp(size) => {
                fields.set_size(size);
                Preset::Mlp
            }
            Architecture::DeepResnet(preset) => {
                fields.dropout = Some(preset.dropout);
                match preset.network {
                    DeepResnet::Resnet18 => Preset::Resnet18,
                    DeepResnet::Resnet34 => Preset::Resnet34,
                    DeepResnet::Resnet50 => Preset::Resnet50,
                }
            }
            Architecture::MobilenetV2(preset) => {
                fields.set_size(preset.size);
                fields.convention = Some(preset.convention);
                Preset::MobilenetV2
            }
            Architecture::EfficientnetLite(preset) => {
                fields.convention = Some(preset.convention);
                match preset.scaling {
                    Scaling::Lite0 { dropout } => {
                        fields.dropout = Some(dropout);
                        Preset::EfficientnetLite0
                    }
                    Scaling::Student(size) => {
                        fields.set_size(size);
                        Preset::EfficientnetLite
                    }
                }
            }
            Architecture::Vgg16Bn(preset) => {
                fields.dropout = Some(preset.dropout);
                Preset::Vgg16Bn
            }
        };
        fields.preset = Some(preset);
        fields
    }
}
