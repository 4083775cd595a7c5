//! Tests of network specs, weights and model files through the public interface.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod errors;
mod onnx;
mod presets;
mod public_weights;
mod quantize;
mod specs;
mod weights;
