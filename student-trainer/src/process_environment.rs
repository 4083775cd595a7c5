//! Settings that libraries read from the environment when the process starts.

use std::io;

use common::process_environment::{self, TENSOR_SETTINGS};
use onnx_runtime::ENVIRONMENT;

/// Ensures that this process runs with the settings for training and those that ONNX Runtime needs.
///
/// # Errors
/// When the program cannot be started anew.
pub fn prepare() -> io::Result<()> {
    process_environment::require(&[&TENSOR_SETTINGS[..], &ENVIRONMENT].concat())
}
