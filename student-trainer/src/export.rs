//! ONNX export and its check against libtorch.
