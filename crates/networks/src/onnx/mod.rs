//! ONNX: the protobuf messages, the writer, and quantization to int8.

mod export;
mod quantize;
pub mod schema;

pub use export::{
    INPUT, IR_VERSION, OPSET_VERSION, STANDARDIZED_INPUT, Standardization, export,
    export_standardized, output_tensor,
};
pub use quantize::{
    ActivationScale, LARGEST_BIAS, LARGEST_WEIGHT, QuantizeError, Range, Ranges, activation_scale,
    computes_in_f32, quantize, with_all_outputs,
};
