//! Settings that libraries read from the environment when the process starts.

use std::io;

use common::process_environment::{self, ONE_HEAP, TENSOR_SETTINGS};
use onnx_runtime::ENVIRONMENT;

/// Ensures that this process runs with the settings for training and those that ONNX Runtime and
/// NCCL need.
///
/// # Errors
/// When the program cannot be started anew.
pub fn prepare() -> io::Result<()> {
    let settings = [
        &TENSOR_SETTINGS[..],
        &[ONE_HEAP],
        &ENVIRONMENT,
        &torch_distributed::ENVIRONMENT,
    ];
    process_environment::require(&settings.concat())
}
