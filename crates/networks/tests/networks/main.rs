//! Tests of network specs, weights and model files through the public interface.

mod errors;
mod onnx;
mod presets;
mod public_weights;
mod specs;
mod weights;
