//! Network specs and files as their users meet them.

mod errors;
mod onnx;
mod specs;
mod weights;
