//! ONNX: the protobuf messages, the writer, and quantization to int8.

mod export;
mod quantize;
pub mod schema;

pub use export::{IR_VERSION, OPSET_VERSION, Standardization, export, export_standardized};
pub use quantize::{QuantizeError, Range, quantize, with_all_outputs};
