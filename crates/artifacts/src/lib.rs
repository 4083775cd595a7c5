//! The artifact manifest beside `model.onnx`, and the model store, which the inference service and Triton read.

pub mod manifest;
pub mod model_store;
