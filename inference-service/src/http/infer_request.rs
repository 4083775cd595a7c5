//! Parses a request for inference: JSON, with the values of tensors in it or after it.
//!
//! Formats: the REST part of the Open Inference Protocol, and the binary tensor data extension as
//! documented by Triton (`docs/protocol/extension_binary_data.md`).

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    bounded_vec::BoundedVec,
    error::HttpError,
    json_body::{self, shorten},
    tensor_data::TensorData,
};
use crate::{
    batcher::InputValues,
    error::InferenceError,
    inference::{
        InferenceRequest, InputTensor, RequestId, invalid,
        unsupported::{self, OF_INPUTS, OF_OUTPUTS, OF_REQUESTS, ParameterValue},
    },
};

/// Length of the JSON in a body with binary data.
pub(super) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// The caller's id for the request, for logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A parsed request and the format of its response.
#[derive(Debug)]
pub(super) struct HttpInference {
    pub(super) request: InferenceRequest,
    /// Whether the logits are bytes after the JSON rather than numbers in it.
    pub(super) binary_output: bool,
}

#[derive(Deserialize)]
struct RequestJson {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: RequestParameters,
    inputs: BoundedVec<InputJson>,
    #[serde(default)]
    outputs: BoundedVec<OutputJson>,
}

/// The known parameters; others are ignored.
#[derive(Default, Deserialize)]
struct RequestParameters {
    binary_data_output: Option<bool>,
    /// Triton's longest time for the request, microseconds; 0 for no limit.
    timeout: Option<u64>,
    /// Whether the response has the server's times.
    timing: Option<bool>,
    sequence_id: Option<ParameterValue>,
    sequence_start: Option<ParameterValue>,
    sequence_end: Option<ParameterValue>,
}

#[derive(Deserialize)]
struct InputJson {
    name: String,
    datatype: String,
    shape: BoundedVec<i64>,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<TensorData>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<ParameterValue>,
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
    classification: Option<ParameterValue>,
    shared_memory_region: Option<ParameterValue>,
}

/// Parses `body`, a request to `version` of `model`; an empty version selects the active one.
///
/// # Errors
/// An error that names the invalid field.
pub(super) fn parse(
    (model, version): (String, String),
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<HttpInference, HttpError> {
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
            timing: request.parameters.timing.unwrap_or(false),
        },
        binary_output,
    })
}

impl RequestJson {
    /// Rejects unsupported parameters.
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
            let values = [&parameters.classification, &parameters.shared_memory_region];
            check(&owner, OF_OUTPUTS, values)?;
        }
        Ok(())
    }
}

fn check<const N: usize>(
    owner: &str,
    names: [&str; N],
    values: [&Option<ParameterValue>; N],
) -> Result<(), InferenceError> {
    let mut pairs = names.into_iter().zip(values);
    pairs.try_for_each(|(name, value)| match value {
        Some(value) => unsupported::check(owner, name, value),
        None => Ok(()),
    })
}

/// The caller's id for the request, if the headers have one.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    Some(id.to_owned())
}

/// Splits a body into its JSON and the binary data after it.
fn split(headers: &HeaderMap, body: &Bytes) -> Result<(Bytes, Bytes), InferenceError> {
    let field = "inference-header-content-length";
    let mut lengths = headers.get_all(JSON_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok((body.clone(), Bytes::new())),
        (Some(_), Some(_)) => return Err(invalid(field, "is given more than once")),
        (Some(length), None) => length,
    };
    let digits = length.to_str().unwrap_or_default();
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.parse::<usize>().ok().filter(|_| all_digits);
    match length {
        None => Err(invalid(field, "is not a number of bytes")),
        Some(length) if length > body.len() => {
            let problem = format!("is {length}, but the body has {} bytes", body.len());
            Err(invalid(field, problem))
        }
        Some(length) => Ok((body.slice(..length), body.slice(length..))),
    }
}

fn take_inputs(
    inputs: BoundedVec<InputJson>,
    mut binary: Bytes,
) -> Result<Vec<InputTensor>, InferenceError> {
    let mut taken = Vec::new();
    for (index, input) in inputs.0.into_iter().enumerate() {
        let values = match (input.data, input.parameters.binary_data_size) {
            (Some(_), Some(_)) => {
                let problem =
                    "is given in addition to parameters.binary_data_size; use one of them";
                Err(invalid(format!("inputs[{index}].data"), problem))
            }
            (Some(data), None) => check_nesting(index, data, &input.shape.0),
            (None, Some(size)) => {
                let available = usize::try_from(size)
                    .ok()
                    .filter(|size| *size <= binary.len());
                let available = available.ok_or_else(|| {
                    let found = binary.len();
                    let problem =
                        format!("is {size}, but only {found} bytes are left after the JSON");
                    invalid(
                        format!("inputs[{index}].parameters.binary_data_size"),
                        problem,
                    )
                })?;
                Ok(InputValues::Raw(binary.split_to(available)))
            }
            (None, None) => {
                let problem = "is missing; put the values here or after the JSON as binary data";
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
        let problem = format!("has {} bytes more than the inputs", binary.len());
        return Err(invalid("binary data", problem));
    }
    Ok(taken)
}

/// Nested data must have the nesting of the shape; flat data is allowed for any shape.
fn check_nesting(
    index: usize,
    data: TensorData,
    shape: &[i64],
) -> Result<InputValues, InferenceError> {
    let nested = data.nesting.len() > 1;
    let sizes = data.nesting.iter().map(|size| i64::try_from(*size).ok());
    if nested && !sizes.eq(shape.iter().copied().map(Some)) {
        let problem = format!(
            "is nested as {:?}, but the shape is {shape:?}",
            data.nesting
        );
        return Err(invalid(format!("inputs[{index}].data"), shorten(&problem)));
    }
    Ok(InputValues::Typed(data.values))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
