//! What training hands to serving: the manifest beside `model.onnx`, and the store of versions that
//! the inference service, and Triton, read.

pub mod manifest;
pub mod model_store;
