//! Sessions on the real ONNX Runtime.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod batch_sizes;
mod model;
mod quantized;
mod session;
