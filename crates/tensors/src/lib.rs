//! Data types, dimensions and signatures of models.
//!
//! A [`Signature`] describes a model by its named inputs and outputs, as Triton's model metadata and
//! ONNX do. It holds for images, for rows of numbers and for sequences.

mod data_type;
mod dimension;
mod signature;

pub use data_type::{DataType, UnknownDataType};
pub use dimension::{Dimension, Dimensions};
pub use signature::{Signature, TensorSpec};
