//! Networks in libtorch, compared with PyTorch and ONNX Runtime.

mod golden;
mod onnx_agreement;
mod public_weights;
mod training;
