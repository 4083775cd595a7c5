//! Training and evaluation.

use crate::Precision;

/// The purpose of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch-norm uses the batch's statistics and updates the running statistics (momentum 0.1,
    /// unbiased variance, like PyTorch). Dropout drops values as a pure function of the seed.
    Train {
        /// Must differ from step to step.
        dropout_seed: u64,
    },
    /// Batch-norm uses its running statistics; dropout does nothing.
    Evaluate,
}

/// How to run layers.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub mode: Mode,
    pub precision: Precision,
}
