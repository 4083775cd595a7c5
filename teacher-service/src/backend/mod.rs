//! What computes logits, behind one trait.

mod retort_network;

use artifacts::manifest::TeacherIdentity;

use crate::batch::Batch;

pub use retort_network::{LoadError, RetortNetwork};

/// A teacher. It lives on one thread, which need not be the one that it was asked for on.
pub trait Backend {
    /// What this teacher is and what it expects.
    fn description(&self) -> &Description;

    /// Raw logits of one batch, computed as it came: row-major [batch, classes].
    ///
    /// # Errors
    /// When the engine refuses the batch; the next one may go well.
    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError>;
}

/// What a teacher is and what it expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Decides the bits of every logit.
    pub identity: TeacherIdentity,
    /// Shape of one sample: [channels, height, width].
    pub input_shape: [usize; 3],
    /// Per channel; applied to u8 input as `(x / 255 - mean) / std`.
    pub normalization_mean: Vec<f32>,
    /// Per channel, above 0.
    pub normalization_std: Vec<f32>,
    /// In logit order.
    pub class_names: Vec<String>,
}

/// An engine could not compute a batch.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);
