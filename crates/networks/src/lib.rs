//! Network specs in pure Rust: architecture, shape inference, costs, weights, ONNX export.
//!
//! A [`NetworkSpec`] is data, written in TOML. [`NetworkSpec::layers`] expands its preset, infers
//! every shape and rejects invalid networks. The other functions work on the resolved [`Layer`]s:
//!
//! - [`cost`] counts parameters and multiply-adds;
//! - [`tensors`] names each weight tensor and its shape, in network order;
//! - [`Weights`] holds the values, initialized randomly or read from a safetensors file;
//! - [`weights::public`] reads the published weights of well-known networks;
//! - [`fold_batch_norm`] converts a trained network into a cheaper one for inference;
//! - [`onnx::export`] writes a network as an ONNX model, and [`onnx::quantize`] makes it int8.
//!
//! The crates `torch-networks` and `onnx-runtime` compute networks.

mod activation;
mod cost;
mod error;
mod fold;
mod initialization;
mod layer;
pub mod limits;
mod model_file;
mod model_id;
pub mod onnx;
mod resolve;
mod spec;
mod tensors;
mod validation;
pub mod weights;

pub use activation::Activation;
pub use cost::{Cost, cost};
pub use error::{Problem, SpecError};
pub use fold::{Folded, fold_batch_norm};
pub use layer::{BATCH_NORM_EPSILON, Conv, Layer, Linear, NotAnImage, Operation, Pool, Shape};
pub use model_file::{ModelFile, ModelFileError};
pub use model_id::{InvalidModelId, ModelId, model_id};
pub use spec::{
    Architecture, CnnPreset, Convention, DeepResnet, DeepResnetPreset, EfficientnetLitePreset,
    LayerSpec, LayerType, MlpPreset, MobilenetV2Preset, NetworkSpec, Padding, ResnetPreset,
    Scaling, Shortcut, Size, Vgg16BnPreset, Window,
};
pub use tensors::{TensorRole, TensorSpec, tensors};
pub use weights::{WeightTensor, Weights, WeightsError};
