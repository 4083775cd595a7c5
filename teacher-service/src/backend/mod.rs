//! The trait of the backends that compute logits.

mod retort_network;

use artifacts::manifest::TeacherIdentity;

use crate::batch::Batch;

pub use retort_network::{LoadError, RetortNetwork};

/// A teacher model, used by the compute thread only.
pub trait Backend {
    /// The description of the teacher and its input.
    fn description(&self) -> &Description;

    /// Computes the raw logits of one batch, row-major [batch, classes].
    ///
    /// # Errors
    /// If the computation fails; a later batch may succeed.
    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError>;
}

/// The description of a teacher and its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Weights, architecture and numerics, which determine the bits of the logits.
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

/// The backend could not compute a batch.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);
