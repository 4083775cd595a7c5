//! A request for inference, independent of the protocol, and its checks.

use std::time::Instant;

use onnx_runtime::{INPUT_NAME, ModelInterface, OUTPUT_NAME};

use super::request_id::{RequestId, RequestName};
use crate::{batcher::InputValues, error::InferenceError, names::shorten};

/// The name of f32 in the protocol.
pub(crate) const F32: &str = "FP32";

/// A request for inference, not yet checked.
#[derive(Debug)]
pub(crate) struct InferenceRequest {
    pub(crate) model: String,
    /// The version; empty for the active one.
    pub(crate) version: String,
    /// The caller's id for the request, repeated in the response.
    pub(crate) id: String,
    /// Names the request in logs if `id` is empty.
    pub(crate) request_id: RequestId,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    pub(crate) inputs: Vec<InputTensor>,
    /// Names of the requested outputs; empty for all.
    pub(crate) outputs: Vec<String>,
    /// Whether the response has the server's times.
    pub(crate) timing: bool,
}

/// A tensor of a request.
#[derive(Debug)]
pub(crate) struct InputTensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    /// The shape, including the batch.
    pub(crate) shape: Vec<i64>,
    /// The values, or why they cannot be used.
    pub(crate) values: Result<InputValues, InferenceError>,
    /// The field of the protocol's message that holds the values, for errors.
    pub(crate) values_field: &'static str,
}

/// The input of a request that passed every check.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) values: InputValues,
    /// The batch dimension, from 1 to `max_batch_size`.
    pub(crate) samples: usize,
}

/// The fields of a request that the response repeats.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(super) model: String,
    pub(super) id: String,
}

impl InferenceRequest {
    /// The request's name in logs: its id, or its [`RequestId`].
    pub(super) fn name(&self) -> RequestName<'_> {
        match self.id.as_str() {
            "" => self.request_id.name(),
            id => RequestName::Named(id),
        }
    }

    /// Checks the request and takes its input.
    ///
    /// # Errors
    /// [`InferenceError::Invalid`], which names the field, unless the request has exactly the model's input
    /// and requests no other output than the model's.
    pub(crate) fn check(
        mut self,
        interface: &ModelInterface,
        max_batch_size: usize,
    ) -> Result<(Input, Echo), InferenceError> {
        let count = self.inputs.len();
        let (1, Some(input)) = (count, self.inputs.pop()) else {
            let problem = format!("{count} tensors; expected one, `{INPUT_NAME}`");
            return Err(invalid("inputs", problem));
        };
        let input = input.check(interface, max_batch_size)?;
        for (index, name) in self.outputs.iter().enumerate() {
            if name != OUTPUT_NAME {
                let problem = format!("`{}`; expected `{OUTPUT_NAME}`", shorten(name));
                return Err(invalid(format!("outputs[{index}].name"), problem));
            }
        }
        let echo = Echo {
            model: self.model,
            id: self.id,
        };
        Ok((input, echo))
    }
}

impl InputTensor {
    fn check(
        self,
        interface: &ModelInterface,
        max_batch_size: usize,
    ) -> Result<Input, InferenceError> {
        if self.name != INPUT_NAME {
            let problem = format!("`{}`; expected `{INPUT_NAME}`", shorten(&self.name));
            return Err(invalid("inputs[0].name", problem));
        }
        if self.datatype != F32 {
            let problem = format!("`{}`; expected `{F32}`", shorten(&self.datatype));
            return Err(invalid("inputs[0].datatype", problem));
        }
        let samples = read_batch(&self.shape, interface, max_batch_size)?;
        let expected = samples * interface.sample_values();
        let values = self.values?;
        let problem = match &values {
            InputValues::Raw(bytes) if bytes.len() != expected * size_of::<f32>() => {
                let expected = expected * size_of::<f32>();
                format!("{} bytes; inputs[0].shape needs {expected}", bytes.len())
            }
            InputValues::Typed(values) if values.len() != expected => {
                format!("{} values; inputs[0].shape needs {expected}", values.len())
            }
            InputValues::Raw(_) | InputValues::Typed(_) => match find_not_finite(&values) {
                None => return Ok(Input { values, samples }),
                Some((index, value)) => {
                    format!("value {index} is {value}; every value must be finite")
                }
            },
        };
        Err(invalid(self.values_field, problem))
    }
}

/// Finds the first value that is infinite or not a number. Such a value would make the logits meaningless.
fn find_not_finite(values: &InputValues) -> Option<(usize, f32)> {
    match values {
        InputValues::Raw(bytes) => {
            let (values, _) = bytes.as_chunks();
            first_not_finite(values.iter().map(|value| f32::from_le_bytes(*value)))
        }
        InputValues::Typed(values) => first_not_finite(values.iter().copied()),
    }
}

fn first_not_finite(values: impl Iterator<Item = f32> + Clone) -> Option<(usize, f32)> {
    // Without a branch per value, so that the compiler can vectorize the loop.
    let all_finite = |so_far: bool, value: f32| so_far & value.is_finite();
    if values.clone().fold(true, all_finite) {
        return None;
    }
    values.enumerate().find(|(_, value)| !value.is_finite())
}

fn read_batch(
    shape: &[i64],
    interface: &ModelInterface,
    max_batch_size: usize,
) -> Result<usize, InferenceError> {
    let sample = interface.sample.iter().map(|size| *size as i64);
    let batch = match shape {
        [batch, rest @ ..] if rest.iter().copied().eq(sample) => {
            usize::try_from(*batch).unwrap_or(0)
        }
        _ => 0,
    };
    if (1..=max_batch_size).contains(&batch) {
        return Ok(batch);
    }
    let expected = interface.input().dimensions;
    let shown: Vec<_> = shape.iter().take(8).map(i64::to_string).collect();
    let problem = format!(
        "[{}{}]; expected {expected} with a batch of 1 to {max_batch_size}",
        shown.join(", "),
        if shape.len() > shown.len() {
            ", …"
        } else {
            ""
        },
    );
    Err(invalid("inputs[0].shape", problem))
}

/// An error about a field of a request.
pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> InferenceError {
    InferenceError::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}
