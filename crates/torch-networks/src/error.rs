//! Errors of networks in libtorch.

use networks::{SpecError, WeightsError, onnx::QuantizeError};
use tch::TchError;

/// Why a network cannot be built or run.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The network itself is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The weights do not match the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An activation has no form in int8.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// An input does not match the required shape.
    #[error("{what}: {found}, expected {expected}")]
    Input {
        /// The quantity that does not match.
        what: &'static str,
        /// The given value.
        found: String,
        /// The required value.
        expected: String,
    },
    /// libtorch does not accept the settings for the same bits in every run.
    #[error(
        "libtorch does not accept its deterministic algorithms for CUDA; set the device to \"cpu\""
    )]
    NotReproducible,
    /// libtorch returned an error; the text is the first line of its message.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
}

/// Drops the C++ stack trace that libtorch appends to its messages.
fn first_line(error: &TchError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
