//! ONNX Runtime: finds its library, checks models before they are loaded, and runs them.
//!
//! - [`check_model`] checks the bytes of a model without loading them;
//! - [`Session::load`] loads a model of Retort's own interface, [`Session::run`] computes logits;
//! - [`Latency::measure`] measures how long a model takes for one sample;
//! - [`Calibration`] learns the ranges of a model's tensors, with which `networks::onnx::quantize` makes it int8;
//! - [`OnnxModel::open`] loads the file of a trusted model of any framework, interface and operators.
//!
//! The first session, or [`load_library`], loads the library `libonnxruntime.so`. A program that
//! links this crate starts without it.

mod calibration;
mod check;
mod cost;
mod data_files;
mod device;
mod interface;
mod latency;
mod library;
mod model;
mod names;
mod operators;
mod session;
mod summary;
mod values;
mod wire;

pub use calibration::{Calibration, CalibrationError};
pub use check::{CheckedModel, Limits, ModelError, check_model};
pub use data_files::DataFileError;
pub use device::DeviceUnavailable;
pub use interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME};
pub use latency::Latency;
pub use library::{ENVIRONMENT, LibraryError, load_library};
pub use model::{OnnxModel, OnnxModelError, OnnxOptions};
pub use session::{Interrupt, Session, SessionError, SessionOptions};
pub use summary::ModelSummary;
pub use values::{Values, ValuesError};
pub use wire::Malformed;
