//! Converts between the protocol's messages and the types of the request path.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use onnx_runtime::OUTPUT_NAME;
use proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadataResponse, ModelStreamInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
};
use tensors::{Dimension, Signature, TensorSpec};
use tonic::metadata::MetadataMap;

use super::deadline::deadline;
use crate::{
    batcher::InputValues,
    error::InferenceError,
    inference::{
        F32, Inference, InferenceRequest, InferenceResponse, InputTensor, RequestId, invalid,
        server_times::TIMING,
        unsupported::{self, ParameterValue},
    },
    loaded_version::LoadedVersion,
    names::shorten,
};

/// Triton's name for ONNX models in ONNX Runtime.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";

/// Header with the caller's id for the request, used if the message has none.
const REQUEST_ID: &str = "x-request-id";

/// Triton's parameter for the longest time of the request, microseconds; 0 for no limit.
const TIMEOUT: &str = "timeout";

/// Deadline and request id from a call's headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// When the caller stops waiting.
    pub(super) deadline: Option<Instant>,
    /// The caller's id for the call.
    pub(super) request_id: Option<String>,
}

impl Caller {
    pub(super) fn of(headers: &MetadataMap) -> Self {
        let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        Self {
            deadline: deadline(headers),
            request_id: request_id.map(shorten),
        }
    }
}

/// Triton's parameter that marks the last response of a request.
const FINAL_RESPONSE: &str = "triton_final_response";

/// Converts a message to a request. Parameters other than [`TIMEOUT`], [`TIMING`] and those of [`unsupported`] are
/// ignored.
///
/// # Errors
/// [`InferenceError::Invalid`] for an invalid parameter or an unsupported one.
pub(super) fn to_request(
    message: ModelInferRequest,
    caller: &Caller,
) -> Result<InferenceRequest, InferenceError> {
    check_parameters(&message)?;
    let timeout = message
        .parameters
        .get(TIMEOUT)
        .map(read_timeout)
        .transpose()?;
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let timeout = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let timing = message
        .parameters
        .get(TIMING)
        .map_or(Ok(false), read_timing)?;
    let mut raw = message.raw_input_contents.into_iter();
    let mut inputs: Vec<_> = message
        .inputs
        .into_iter()
        .map(|input| to_tensor(input, raw.next().map(InputValues::Raw)))
        .collect();
    if let (Some(input), true) = (inputs.first_mut(), raw.next().is_some()) {
        input.values = Err(invalid(
            "raw_input_contents",
            "has more buffers than there are inputs",
        ));
    }
    Ok(InferenceRequest {
        model: message.model_name,
        version: message.model_version,
        id: message.id,
        request_id: RequestId::of(caller.request_id.clone()),
        deadline: [caller.deadline, timeout].into_iter().flatten().min(),
        inputs,
        outputs: message
            .outputs
            .into_iter()
            .map(|output| output.name)
            .collect(),
        timing,
    })
}

/// Answers one request of a stream.
pub(super) async fn answer_in_stream(
    inference: &Inference,
    message: ModelInferRequest,
    caller: &Caller,
) -> ModelStreamInferResponse {
    let failed = ModelInferResponse {
        model_name: shorten(&message.model_name),
        id: message.id.clone(),
        ..ModelInferResponse::default()
    };
    let answer = async { inference.infer(to_request(message, caller)?).await };
    match answer.await {
        Ok(response) => {
            let mut message = to_message(response);
            let last = InferParameter {
                parameter_choice: Some(ParameterChoice::BoolParam(true)),
            };
            message.parameters.insert(FINAL_RESPONSE.to_owned(), last);
            ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(message),
            }
        }
        Err(error) => ModelStreamInferResponse {
            error_message: error.to_string(),
            infer_response: Some(failed),
        },
    }
}

/// Converts a response to a message.
pub(super) fn to_message(response: InferenceResponse) -> ModelInferResponse {
    let output = InferOutputTensor {
        name: OUTPUT_NAME.to_owned(),
        datatype: F32.to_owned(),
        shape: vec![response.samples as i64, response.classes as i64],
        ..InferOutputTensor::default()
    };
    let times = response.times.iter().flat_map(|times| times.parameters());
    let parameters = times.map(|(name, nanoseconds)| {
        let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        let parameter = InferParameter {
            parameter_choice: Some(ParameterChoice::Int64Param(nanoseconds)),
        };
        (name.to_owned(), parameter)
    });
    ModelInferResponse {
        parameters: parameters.collect(),
        model_name: response.model,
        model_version: response.version.to_string(),
        id: response.id,
        outputs: vec![output],
        raw_output_contents: vec![response.logits],
    }
}

/// The metadata of a version: its inputs and outputs.
pub(crate) fn metadata(version: &LoadedVersion) -> ModelMetadataResponse {
    let tensor = |spec: TensorSpec| TensorMetadata {
        name: spec.name,
        datatype: spec.data_type.to_string(),
        shape: spec.dimensions.0.into_iter().map(size).collect(),
    };
    let Signature { inputs, outputs } = version.interface.signature();
    ModelMetadataResponse {
        name: version.model.to_string(),
        versions: vec![version.version.to_string()],
        platform: PLATFORM.to_owned(),
        inputs: inputs.into_iter().map(tensor).collect(),
        outputs: outputs.into_iter().map(tensor).collect(),
    }
}

/// A dimension in metadata; -1 is the batch.
fn size(dimension: Dimension) -> i64 {
    dimension.fixed().map_or(-1, |size| size as i64)
}

fn check_parameters(message: &ModelInferRequest) -> Result<(), InferenceError> {
    check_named("", &message.parameters, &unsupported::OF_REQUESTS)?;
    for (index, input) in message.inputs.iter().enumerate() {
        if !input.parameters.is_empty() {
            let owner = format!("inputs[{index}].");
            check_named(&owner, &input.parameters, &unsupported::OF_INPUTS)?;
        }
    }
    for (index, output) in message.outputs.iter().enumerate() {
        if !output.parameters.is_empty() {
            let owner = format!("outputs[{index}].");
            check_named(&owner, &output.parameters, &unsupported::OF_OUTPUTS)?;
        }
    }
    Ok(())
}

fn check_named(
    owner: &str,
    parameters: &HashMap<String, InferParameter>,
    names: &[&str],
) -> Result<(), InferenceError> {
    if parameters.is_empty() {
        return Ok(());
    }
    for name in names {
        let choice = parameters.get(*name).map(|found| &found.parameter_choice);
        if let Some(Some(choice)) = choice {
            unsupported::check(owner, name, &value(choice))?;
        }
    }
    Ok(())
}

fn value(choice: &ParameterChoice) -> ParameterValue {
    match choice {
        ParameterChoice::BoolParam(on) => ParameterValue::Bool(*on),
        ParameterChoice::Int64Param(number) => ParameterValue::Number(*number as f64),
        ParameterChoice::Uint64Param(number) => ParameterValue::Number(*number as f64),
        ParameterChoice::DoubleParam(number) => ParameterValue::Number(*number),
        ParameterChoice::StringParam(text) => ParameterValue::Text(text.clone()),
    }
}

fn to_tensor(input: InferInputTensor, raw: Option<InputValues>) -> InputTensor {
    let (values, values_field) = match (raw, input.contents) {
        (Some(_), Some(_)) => {
            let problem = "is given in addition to inputs[0].contents; use one of them";
            (Err(invalid("raw_input_contents", problem)), "")
        }
        (Some(raw), None) => (Ok(raw), "raw_input_contents[0]"),
        (None, Some(contents)) => (to_values(contents), "inputs[0].contents.fp32_contents"),
        (None, None) => {
            let problem = "is missing; put the values here or in raw_input_contents";
            (Err(invalid("inputs[0].contents", problem)), "")
        }
    };
    InputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        values,
        values_field,
    }
}

fn to_values(contents: InferTensorContents) -> Result<InputValues, InferenceError> {
    let InferTensorContents { fp32_contents, .. } = contents;
    let of_other_types = InferTensorContents {
        fp32_contents: Vec::new(),
        ..contents
    };
    if of_other_types != InferTensorContents::default() {
        let problem = format!("has values of another type than {F32}");
        return Err(invalid("inputs[0].contents", problem));
    }
    Ok(InputValues::Typed(fp32_contents))
}

fn read_timeout(parameter: &InferParameter) -> Result<Duration, InferenceError> {
    let microseconds = match parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => Some(value),
        _ => None,
    };
    microseconds.map(Duration::from_micros).ok_or_else(|| {
        let problem = "must be an integer of 0 or more, in microseconds";
        invalid("parameters.timeout", problem)
    })
}

fn read_timing(parameter: &InferParameter) -> Result<bool, InferenceError> {
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(on)) => Ok(on),
        _ => Err(invalid("parameters.timing", "must be true or false")),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
