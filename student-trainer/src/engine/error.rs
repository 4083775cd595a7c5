//! Why training ended early.

use std::io;

use datasets::SampleError;
use torch_distributed::LostWorker;
use torch_networks::TorchError;
use traces::Span;

use crate::{config::PhaseKind, soft_targets::SoftTargetError};

/// Why a phase ended early.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The loss, or a weight, is no longer finite.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// A batch has no soft targets.
    #[error(transparent)]
    SoftTargets(#[from] SoftTargetError),
    /// A sample cannot be read; the text names its file.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A checkpoint cannot be written; the text names the file.
    #[error(transparent)]
    Checkpoint(io::Error),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Another worker is lost, so that no step can be done.
    #[error(transparent)]
    LostWorker(#[from] LostWorker),
    /// The run was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl EngineError {
    /// Marks the work of `span` as failed, unless the run was asked to stop.
    pub fn mark(&self, span: &Span) {
        let is_stop = matches!(
            self,
            Self::Cancelled | Self::SoftTargets(SoftTargetError::Cancelled)
        );
        if !is_stop {
            span.fail(self);
        }
    }
}

/// Where training diverged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} in phase {phase} ({kind}), epoch {epoch}, step {step}, at learning rate {learning_rate:.2e}; lower \
     phases[{phase}]'s learning rate or set its gradient_clip_norm, and choose another output folder, because a run \
     with other settings does not resume"
)]
pub struct Divergence {
    /// The value that is not finite.
    pub what: NotFinite,
    /// Position of the phase, 0-based.
    pub phase: usize,
    /// What the phase does.
    pub kind: PhaseKind,
    /// Epoch of the phase, 1-based.
    pub epoch: usize,
    /// Step of the epoch, 1-based.
    pub step: u64,
    /// Learning rate of that step.
    pub learning_rate: f64,
}

/// A value that became infinite or NaN.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotFinite {
    /// The loss of a batch.
    #[error("the loss became {0}")]
    Loss(f64),
    /// A weight of this tensor, at the latest in the step that the error names.
    #[error("`{0}` became infinite or NaN")]
    Weight(String),
}

// Here and not in the public API of the crate: libtorch's types stay within the engine.
impl From<tch::TchError> for EngineError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error.into())
    }
}
