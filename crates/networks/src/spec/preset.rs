//! Presets: well-known families of networks that expand to layers.

mod blocks;
mod checks;
mod cnn;
mod inverted_residual;
mod mlp;
mod resnet;
mod size;
mod vgg;

pub use cnn::CnnPreset;
pub(crate) use cnn::sized as sized_cnn;
pub(crate) use inverted_residual::InvertedResidual;
pub use inverted_residual::{Convention, EfficientnetLitePreset, MobilenetV2Preset, Scaling};
pub use mlp::MlpPreset;
pub(crate) use mlp::sized as sized_mlp;
pub(crate) use resnet::sized as sized_resnet;
pub use resnet::{DeepResnet, DeepResnetPreset, ResnetPreset};
pub use size::Size;
pub use vgg::Vgg16BnPreset;
