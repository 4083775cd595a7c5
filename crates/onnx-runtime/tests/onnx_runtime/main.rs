//! Sessions on the real ONNX Runtime.

mod batch_sizes;
mod model;
mod quantized;
mod session;
