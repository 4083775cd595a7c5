//! The input of a batch that has arrived: values, or references to samples that the teacher has too.

use std::sync::Arc;

use proto::teacher::v1::batch::Input;
use soft_targets::SampleReferences;
use tensors::TensorSpec;

use crate::{
    batch::Batch,
    error::StreamError,
    shared_data::{self, RunSamples},
};

/// The input of a batch that has arrived.
pub(super) enum Incoming {
    Values(Batch),
    References {
        references: SampleReferences,
        samples: Arc<RunSamples>,
    },
}

/// Why a batch is refused. It does not end the stream.
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether the same batch as a tensor may succeed.
    pub(super) send_tensor: bool,
}

impl Incoming {
    /// Checks an input for a teacher that takes `expected`, on a stream that refers to `samples`.
    ///
    /// # Errors
    /// References on a stream without samples end the stream; any other fault refuses the batch.
    pub(super) fn read(
        input: Option<Input>,
        expected: &TensorSpec,
        samples: Option<&Arc<RunSamples>>,
    ) -> Result<Result<Self, String>, StreamError> {
        let tensor = match input {
            Some(Input::References(message)) => {
                let samples = samples.ok_or(StreamError::NotByReference)?;
                let references = SampleReferences::from_wire(message, samples.len());
                return Ok(references.map(|references| Self::References {
                    samples: Arc::clone(samples),
                    references,
                }));
            }
            Some(Input::Tensor(tensor)) => Some(tensor),
            None => None,
        };
        let batch = Batch::from_tensor(tensor, expected).map_err(|problem| problem.to_string());
        Ok(batch.map(Self::Values))
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Values(batch) => batch.samples,
            Self::References { references, .. } => references.len(),
        }
    }

    /// Size of the values in memory, also before they are rendered.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Values(batch) => batch.bytes(),
            Self::References {
                references,
                samples,
            } => samples.bytes(references),
        }
    }

    /// The values. Waits until the samples are read and rendered.
    ///
    /// # Errors
    /// A sample that cannot be read any more.
    pub(super) async fn into_batch(self) -> Result<Batch, Refusal> {
        match self {
            Self::Values(batch) => Ok(batch),
            Self::References {
                references,
                samples,
            } => {
                let rendered = shared_data::render(samples, references).await;
                rendered.map_err(|reason| Refusal {
                    reason,
                    send_tensor: true,
                })
            }
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self {
            reason,
            send_tensor: false,
        }
    }
}
