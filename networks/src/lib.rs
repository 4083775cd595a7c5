//! What a network *is*, in pure Rust: architecture, shapes, costs, weights, ONNX.
//!
//! A [`NetworkSpec`] is data, written in TOML. [`NetworkSpec::layers`] expands its preset, infers
//! every shape and refuses what cannot work. Everything else follows from the resolved [`Layer`]s:
//!
//! - [`cost`] counts parameters and multiply-adds;
//! - [`tensors`] names each weight tensor and its shape, in network order;
//! - [`Weights`] holds their values, random at first, later from a safetensors file;
//! - [`fold_batch_norm`] turns a trained network into the cheaper one that is served;
//! - [`onnx::export`] writes it as an ONNX model.
//!
//! What a network *does* is the business of `torch-networks` and `onnx-runtime`.

mod cost;
mod error;
mod fold;
mod initial;
mod layer;
pub mod limits;
mod model_file;
mod model_id;
pub mod onnx;
mod resolve;
mod spec;
mod tensors;
mod values;
mod weights;

pub use cost::{Cost, cost};
pub use error::{Problem, SpecError};
pub use fold::{Folded, fold_batch_norm};
pub use layer::{BATCH_NORM_EPSILON, Conv, Layer, Linear, Operation, Pool, Shape};
pub use model_file::{ModelFile, ModelFileError};
pub use model_id::{InvalidModelId, ModelId, model_id};
pub use spec::{
    Architecture, CnnPreset, LayerSpec, LayerType, MlpPreset, NetworkSpec, ResnetPreset, Shortcut,
};
pub use tensors::{TensorRole, TensorSpec, tensors};
pub use weights::{WeightTensor, Weights, WeightsError};
