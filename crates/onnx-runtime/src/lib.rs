//! ONNX Runtime: finds its library, checks models before they are loaded, and runs them.
//!
//! - [`check_model`] checks the bytes of a model without loading them;
//! - [`Session::load`] loads a model, [`Session::run`] computes logits.
//!
//! The first session, or [`load_library`], loads the library `libonnxruntime.so`. A program that
//! links this crate starts without it.

mod check;
mod cost;
mod interface;
mod library;
mod names;
mod operators;
mod session;
mod wire;

pub use check::{CheckedModel, Limits, ModelError, check_model};
pub use interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME};
pub use library::{ENVIRONMENT, LibraryError, load_library};
pub use session::{Interrupt, Session, SessionError, SessionOptions};
