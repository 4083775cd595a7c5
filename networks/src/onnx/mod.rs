//! ONNX: the messages of its files, and the writer.

mod export;
pub mod schema;

pub use export::{IR_VERSION, OPSET_VERSION, export};
