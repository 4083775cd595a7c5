//! Networks in libtorch, compared with PyTorch and ONNX Runtime.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fake_quantization;
mod golden;
mod onnx_agreement;
mod public_weights;
mod training;
