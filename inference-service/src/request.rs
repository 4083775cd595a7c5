//! From a `ModelInferRequest` to checked values, and from logits to a `ModelInferResponse`.

use bytes::Bytes;
use onnx_runtime::{INPUT_NAME, ModelInterface, OUTPUT_NAME};
use proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
};

use crate::{batcher::InputValues, catalog::shorten, error::InferenceError};

/// The protocol's name of f32.
pub(crate) const F32: &str = "FP32";

/// The values of a request that passed every check.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) values: InputValues,
    /// The batch dimension, from 1 to the largest batch.
    pub(crate) samples: usize,
}

/// Takes the values out of `request`. Unknown parameters are ignored.
///
/// # Errors
/// [`InferenceError::Invalid`], naming the field, unless the request holds exactly the model's
/// input and asks for nothing but its output.
pub(crate) fn take_input(
    request: &mut ModelInferRequest,
    interface: &ModelInterface,
    max_batch_size: usize,
) -> Result<Input, InferenceError> {
    let count = request.inputs.len();
    let [input] = request.inputs.as_mut_slice() else {
        let problem = format!("{count} tensors; expected one, `{INPUT_NAME}`");
        return Err(invalid("inputs", problem));
    };
    if input.name != INPUT_NAME {
        let problem = format!("`{}`; expected `{INPUT_NAME}`", shorten(&input.name));
        return Err(invalid("inputs[0].name", problem));
    }
    if input.datatype != F32 {
        let problem = format!("`{}`; expected `{F32}`", shorten(&input.datatype));
        return Err(invalid("inputs[0].datatype", problem));
    }
    let samples = read_batch(&input.shape, interface, max_batch_size)?;
    let values = samples * interface.sample_values();
    let values = match request.raw_input_contents.as_mut_slice() {
        [] => take_typed(input, values)?,
        _ if input.contents.is_some() => {
            let problem = "given beside inputs[0].contents; give one of them";
            return Err(invalid("raw_input_contents", problem.into()));
        }
        [raw] => take_raw(raw, values)?,
        several => {
            let problem = format!("{} buffers for one input", several.len());
            return Err(invalid("raw_input_contents", problem));
        }
    };
    for (index, output) in request.outputs.iter().enumerate() {
        if output.name != OUTPUT_NAME {
            let problem = format!("`{}`; expected `{OUTPUT_NAME}`", shorten(&output.name));
            return Err(invalid(format!("outputs[{index}].name"), problem));
        }
    }
    Ok(Input { values, samples })
}

/// The answer to `request`: `logits` are little-endian f32 [samples, classes].
pub(crate) fn respond(
    request: ModelInferRequest,
    version: u64,
    samples: usize,
    logits: Bytes,
) -> ModelInferResponse {
    let classes = logits.len() / size_of::<f32>() / samples;
    let output = InferOutputTensor {
        name: OUTPUT_NAME.to_owned(),
        datatype: F32.to_owned(),
        shape: vec![samples as i64, classes as i64],
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: request.model_name,
        model_version: version.to_string(),
        id: request.id,
        outputs: vec![output],
        raw_output_contents: vec![logits],
        ..ModelInferResponse::default()
    }
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

fn take_raw(raw: &mut Bytes, values: usize) -> Result<InputValues, InferenceError> {
    let expected = values * size_of::<f32>();
    if raw.len() != expected {
        let found = raw.len();
        let problem = format!("{found} bytes; inputs[0].shape needs {expected}");
        return Err(invalid("raw_input_contents[0]", problem));
    }
    Ok(InputValues::Raw(std::mem::take(raw)))
}

fn take_typed(input: &mut InferInputTensor, values: usize) -> Result<InputValues, InferenceError> {
    let Some(contents) = input.contents.take() else {
        let problem = "no values; give them here or in raw_input_contents";
        return Err(invalid("inputs[0].contents", problem.into()));
    };
    let found = contents.fp32_contents.len();
    let of_other_types = InferTensorContents {
        fp32_contents: Vec::new(),
        ..contents
    };
    if of_other_types != InferTensorContents::default() {
        let problem = format!("values of another type than {F32}");
        return Err(invalid("inputs[0].contents", problem));
    }
    if found != values {
        let problem = format!("{found} values; inputs[0].shape needs {values}");
        return Err(invalid("inputs[0].contents.fp32_contents", problem));
    }
    Ok(InputValues::Typed(contents.fp32_contents))
}

fn invalid(field: impl Into<String>, problem: String) -> InferenceError {
    InferenceError::Invalid {
        field: field.into(),
        problem,
    }
}

#[cfg(test)]
mod tests;
