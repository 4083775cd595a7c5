//! What can go wrong in libtorch.

use networks::{SpecError, WeightsError};
use tch::TchError;

/// Why a network cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// The network itself is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The weights do not fit the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Pixels whose number or channels do not fit the shape asked for.
    #[error("{what}: {found}, expected {expected}")]
    Input {
        /// What does not fit.
        what: &'static str,
        /// What was given.
        found: String,
        /// What fits.
        expected: String,
    },
    /// libtorch refused; the first line of its message.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
}

/// libtorch appends a C++ stack trace to its messages.
fn first_line(error: &TchError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
