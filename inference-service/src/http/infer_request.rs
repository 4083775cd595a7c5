//! A request for inference as JSON, with the tensors' values in it or behind it.
//!
//! Formats: the Open Inference Protocol's REST part, and its binary tensor data extension as Triton
//! documents it (`docs/protocol/extension_binary_data.md`).

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    few::Few,
    json_body::{self, shorten},
    tensor_data::TensorData,
};
use crate::{
    batcher::InputValues,
    error::{InferenceError, ServiceError},
    inference::{
        InferenceRequest, InputTensor, RequestId,
        behaviour::{self, Asked, OF_INPUTS, OF_OUTPUTS, OF_REQUESTS},
        invalid,
    },
};

/// Says where, in a body with binary data, the JSON ends.
pub(super) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// The caller's name of a request, for logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A parsed request, and how its answer is wanted.
#[derive(Debug)]
pub(super) struct HttpInference {
    pub(super) request: InferenceRequest,
    /// Logits as bytes behind the JSON rather than as numbers in it.
    pub(super) binary_output: bool,
}

#[derive(Deserialize)]
struct RequestJson {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: RequestParameters,
    inputs: Few<InputJson>,
    #[serde(default)]
    outputs: Few<OutputJson>,
}

/// Those that are known; others are ignored.
#[derive(Default, Deserialize)]
struct RequestParameters {
    binary_data_output: Option<bool>,
    /// Triton's: how long the request may take, microseconds; 0 for no limit.
    timeout: Option<u64>,
    sequence_id: Option<Asked>,
    sequence_start: Option<Asked>,
    sequence_end: Option<Asked>,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    datatype: String,
    shape: Few<i64>,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<TensorData>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<Asked>,
}

#[derive(Deserialize)]
struct OutputJson {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<Asked>,
    shared_memory_region: Option<Asked>,
}

/// Parses `body`, a request to `version` (empty: the active one) of `model`.
///
/// # Errors
/// Why the body is no such request, naming the field.
pub(super) fn parse(
    (model, version): (String, String),
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<HttpInference, ServiceError> {
    let (json, binary) = split(headers, body)?;
    let request: RequestJson = json_body::parse(&json)?;
    request.check_parameters()?;
    let timeout = request.parameters.timeout.filter(|timeout| *timeout > 0);
    let deadline =
        timeout.and_then(|timeout| Instant::now().checked_add(Duration::from_micros(timeout)));
    let by_default = request.parameters.binary_data_output.unwrap_or(false);
    let first_output = request.outputs.0.first();
    let binary_output = first_output
        .and_then(|output| output.parameters.binary_data)
        .unwrap_or(by_default);
    Ok(HttpInference {
        request: InferenceRequest {
            model,
            version,
            id: request.id,
            request_id: RequestId::of(request_id(headers)),
            deadline,
            inputs: take_inputs(request.inputs, binary)?,
            outputs: request
                .outputs
                .0
                .into_iter()
                .map(|output| output.name)
                .collect(),
        },
        binary_output,
    })
}

impl RequestJson {
    /// Refuses what asks for something that the service does not do.
    fn check_parameters(&self) -> Result<(), InferenceError> {
        let RequestParameters {
            sequence_id,
            sequence_start,
            sequence_end,
            ..
        } = &self.parameters;
        check("", OF_REQUESTS, [sequence_id, sequence_start, sequence_end])?;
        for (index, input) in self.inputs.0.iter().enumerate() {
            let owner = format!("inputs[{index}].");
            check(&owner, OF_INPUTS, [&input.parameters.shared_memory_region])?;
        }
        for (index, output) in self.outputs.0.iter().enumerate() {
            let owner = format!("outputs[{index}].");
            let parameters = &output.parameters;
            let asked = [&parameters.classification, &parameters.shared_memory_region];
            check(&owner, OF_OUTPUTS, asked)?;
        }
        Ok(())
    }
}

fn check<const N: usize>(
    owner: &str,
    names: [&str; N],
    asked: [&Option<Asked>; N],
) -> Result<(), InferenceError> {
    let mut pairs = names.into_iter().zip(asked);
    pairs.try_for_each(|(name, asked)| match asked {
        Some(asked) => behaviour::check(owner, name, asked),
        None => Ok(()),
    })
}

/// The caller's name of the request, where it has one.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    Some(id.to_owned())
}

/// The JSON of a body, and what follows it.
fn split(headers: &HeaderMap, body: &Bytes) -> Result<(Bytes, Bytes), InferenceError> {
    let field = "inference-header-content-length";
    let mut lengths = headers.get_all(JSON_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok((body.clone(), Bytes::new())),
        (Some(_), Some(_)) => return Err(invalid(field, "given more than once")),
        (Some(length), None) => length,
    };
    let digits = length.to_str().unwrap_or_default();
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.parse::<usize>().ok().filter(|_| all_digits);
    match length {
        None => Err(invalid(field, "is no number of bytes")),
        Some(length) if length > body.len() => {
            let problem = format!("is {length}, but the body has {} bytes", body.len());
            Err(invalid(field, problem))
        }
        Some(length) => Ok((body.slice(..length), body.slice(length..))),
    }
}

fn take_inputs(
    inputs: Few<InputJson>,
    mut binary: Bytes,
) -> Result<Vec<InputTensor>, InferenceError> {
    let mut taken = Vec::new();
    for (index, input) in inputs.0.into_iter().enumerate() {
        let values = match (input.data, input.parameters.binary_data_size) {
            (Some(_), Some(_)) => {
                let problem = "given beside parameters.binary_data_size; give one of them";
                Err(invalid(format!("inputs[{index}].data"), problem))
            }
            (Some(data), None) => check_nesting(index, data, &input.shape.0),
            (None, Some(size)) => {
                let size = usize::try_from(size)
                    .ok()
                    .filter(|size| *size <= binary.len());
                let size = size.ok_or_else(|| {
                    let problem = format!("{} bytes follow the JSON for it", binary.len());
                    invalid(
                        format!("inputs[{index}].parameters.binary_data_size"),
                        problem,
                    )
                })?;
                Ok(InputValues::Raw(binary.split_to(size)))
            }
            (None, None) => {
                let problem = "no values; give them here or as binary data";
                Err(invalid(format!("inputs[{index}].data"), problem))
            }
        };
        let values_field = match &values {
            Ok(InputValues::Raw(_)) => "inputs[0].parameters.binary_data_size",
            _ => "inputs[0].data",
        };
        taken.push(InputTensor {
            name: input.name,
            datatype: input.datatype,
            shape: input.shape.0,
            values,
            values_field,
        });
    }
    if !binary.is_empty() {
        let problem = format!("{} bytes follow what the inputs ask for", binary.len());
        return Err(invalid("binary data", problem));
    }
    Ok(taken)
}

/// Nested data must be nested as the shape says; flat data need not.
fn check_nesting(
    index: usize,
    data: TensorData,
    shape: &[i64],
) -> Result<InputValues, InferenceError> {
    let nested = data.nesting.len() > 1;
    let sizes = data.nesting.iter().map(|size| i64::try_from(*size).ok());
    if nested && !sizes.eq(shape.iter().copied().map(Some)) {
        let problem = format!("nested as {:?}, but the shape is {shape:?}", data.nesting);
        return Err(invalid(format!("inputs[{index}].data"), shorten(&problem)));
    }
    Ok(InputValues::Typed(data.values))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
