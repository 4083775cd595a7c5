//! ONNX: the protobuf messages and the writer.

mod export;
pub mod schema;

pub use export::{IR_VERSION, OPSET_VERSION, Standardization, export, export_standardized};
