//! A request as the protocols' edges hand it over, and the checks that it must pass.

use std::time::Instant;

use onnx_runtime::{INPUT_NAME, ModelInterface, OUTPUT_NAME};

use super::request_id::{RequestId, RequestName};
use crate::{batcher::InputValues, catalog::shorten, error::InferenceError};

/// The protocol's name of f32.
pub(crate) const F32: &str = "FP32";

/// A request for inference. Texts are as they came: nothing has been checked yet.
#[derive(Debug)]
pub(crate) struct InferenceRequest {
    pub(crate) model: String,
    /// Empty for the active version.
    pub(crate) version: String,
    /// Of the caller's choice; in the answer again.
    pub(crate) id: String,
    /// For logs, where there is no `id`.
    pub(crate) request_id: RequestId,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    pub(crate) inputs: Vec<InputTensor>,
    /// Names of the wanted outputs; empty for all.
    pub(crate) outputs: Vec<String>,
}

/// A tensor of a request.
#[derive(Debug)]
pub(crate) struct InputTensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    /// With the batch dimension.
    pub(crate) shape: Vec<i64>,
    /// The values, or why there are none that can be used.
    pub(crate) values: Result<InputValues, InferenceError>,
    /// Where the protocol has the values; errors name it.
    pub(crate) values_field: &'static str,
}

/// The values of a request that passed every check.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) values: InputValues,
    /// The batch dimension, from 1 to the largest batch.
    pub(crate) samples: usize,
}

/// What the answer repeats from a request.
#[derive(Debug)]
pub(crate) struct Named {
    pub(super) model: String,
    pub(super) id: String,
}

impl InferenceRequest {
    /// What logs call the request: its id, else what it is called outside its message.
    pub(super) fn name(&self) -> RequestName<'_> {
        match self.id.as_str() {
            "" => self.request_id.name(),
            id => RequestName::Named(id),
        }
    }

    /// Takes the values out of the request.
    ///
    /// # Errors
    /// [`InferenceError::Invalid`], naming the field, unless the request holds exactly the model's
    /// input and asks for nothing but its output.
    pub(crate) fn check(
        mut self,
        interface: &ModelInterface,
        max_batch_size: usize,
    ) -> Result<(Input, Named), InferenceError> {
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
        let named = Named {
            model: self.model,
            id: self.id,
        };
        Ok((input, named))
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

/// The first value that is infinite or no number: nothing but such values would come out.
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
    // Without a branch a value, so that the processor takes many at a time.
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
    let sample = interface.input_shape.map(|size| size as i64);
    let batch = match shape {
        [batch, rest @ ..] if rest == sample => usize::try_from(*batch).unwrap_or(0),
        _ => 0,
    };
    if (1..=max_batch_size).contains(&batch) {
        return Ok(batch);
    }
    let [channels, height, width] = sample;
    let shown: Vec<_> = shape.iter().take(8).map(i64::to_string).collect();
    let problem = format!(
        "[{}{}]; expected [batch, {channels}, {height}, {width}] with a batch of 1 to \
         {max_batch_size}",
        shown.join(", "),
        if shape.len() > shown.len() {
            ", …"
        } else {
            ""
        },
    );
    Err(invalid("inputs[0].shape", problem))
}

/// A field of a request that cannot be used, and why.
pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> InferenceError {
    InferenceError::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}
