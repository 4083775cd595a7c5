//! ONNX Runtime: finding its library, checking models before they are loaded, running them.
//!
//! - [`check_model`] says whether the bytes of a model are fit to be loaded, without loading them;
//! - [`Session::load`] loads a model, [`Session::run`] computes logits.
//!
//! The library `libonnxruntime.so` is loaded when it is first needed, or by [`load_library`], so a
//! program that links this crate starts without it.

mod check;
mod cost;
mod interface;
mod library;
mod operators;
mod session;
mod wire;

pub use check::{CheckedModel, Limits, ModelError, check_model};
pub use interface::{INPUT_NAME, ModelInterface, OUTPUT_NAME};
pub use library::{ENVIRONMENT, LibraryError, load_library};
pub use session::{Interrupt, Session, SessionError, SessionOptions};
