//! A request for inference and its answer.

use std::{collections::HashMap, time::Duration};

use proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};

use crate::tensor::Tensor;

/// The request's parameter that asks for the server's times.
const TIMING: &str = "timing";

/// A request for inference.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// Name of the model.
    pub model: String,
    /// Version of the model; `None` for the one that the service has activated.
    pub version: Option<u64>,
    /// Repeated in the answer, and named in the service's log; may be empty.
    pub id: String,
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// Whether the answer has the server's times. Services other than Retort's ignore this.
    pub timing: bool,
}

/// The answer to an [`InferRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct InferResponse {
    /// Name of the model.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The id in the request.
    pub id: String,
    /// The model's outputs.
    pub outputs: Vec<Tensor>,
    /// The server's times, if the request asked for them and the service knows them.
    pub times: Option<ServerTimes>,
}

/// Where a request spent its time in the service, in the terms of Triton's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTimes {
    /// From the request's arrival to its answer.
    pub request: Duration,
    /// In the queue.
    pub queue: Duration,
    /// To assemble the batch.
    pub compute_input: Duration,
    /// In the model.
    pub compute_infer: Duration,
    /// To split the result.
    pub compute_output: Duration,
}

impl InferRequest {
    pub(crate) fn to_message(&self) -> ModelInferRequest {
        let on = InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(true)),
        };
        let parameters = self.timing.then(|| (TIMING.to_owned(), on));
        let input = |tensor: &Tensor| InferInputTensor {
            name: tensor.name().to_owned(),
            datatype: tensor.data_type().to_string(),
            // Does not truncate: memory holds the values.
            shape: tensor.shape().iter().map(|size| *size as i64).collect(),
            ..InferInputTensor::default()
        };
        ModelInferRequest {
            model_name: self.model.clone(),
            model_version: version_text(self.version),
            id: self.id.clone(),
            parameters: parameters.into_iter().collect(),
            inputs: self.inputs.iter().map(input).collect(),
            raw_input_contents: self.inputs.iter().map(Tensor::data).collect(),
            ..ModelInferRequest::default()
        }
    }
}

impl InferResponse {
    /// Checks an answer.
    ///
    /// # Errors
    /// What is wrong, in words for the user.
    pub(crate) fn from_message(message: ModelInferResponse) -> Result<Self, String> {
        let (outputs, raw) = (message.outputs, message.raw_output_contents);
        if outputs.len() != raw.len() {
            let (outputs, raw) = (outputs.len(), raw.len());
            return Err(format!("{outputs} outputs and {raw} raw contents"));
        }
        let outputs = outputs.into_iter().zip(raw);
        let outputs = outputs.map(|(output, data)| {
            Tensor::from_wire(output.name, &output.datatype, &output.shape, data)
        });
        Ok(Self {
            model: message.model_name,
            version: message.model_version,
            id: message.id,
            outputs: outputs.collect::<Result<_, _>>()?,
            times: ServerTimes::of(&message.parameters),
        })
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        self.outputs.iter().find(|output| output.name() == name)
    }
}

impl ServerTimes {
    fn of(parameters: &HashMap<String, InferParameter>) -> Option<Self> {
        let time = |name: &str| match parameters.get(name)?.parameter_choice {
            Some(ParameterChoice::Int64Param(nanoseconds)) => {
                u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
            }
            _ => None,
        };
        Some(Self {
            request: time("request_ns")?,
            queue: time("queue_ns")?,
            compute_input: time("compute_input_ns")?,
            compute_infer: time("compute_infer_ns")?,
            compute_output: time("compute_output_ns")?,
        })
    }
}

/// A version in the protocol's messages; empty for the active one.
pub(crate) fn version_text(version: Option<u64>) -> String {
    version
        .map(|version| version.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::inference::model_infer_response::InferOutputTensor;

    use super::*;

    #[test]
    fn a_request_names_model_version_and_inputs() {
        let request = InferRequest {
            model: "digits".to_owned(),
            version: Some(3),
            inputs: vec![Tensor::new("input", &[1, 2], &[1.0_f32, 2.0]).unwrap()],
            timing: true,
            ..InferRequest::default()
        };
        let message = request.to_message();
        assert_eq!(
            (&*message.model_name, &*message.model_version),
            ("digits", "3")
        );
        let on = Some(ParameterChoice::BoolParam(true));
        assert_eq!(message.parameters["timing"].parameter_choice, on);
        let [input] = &message.inputs[..] else {
            panic!("{:?}", message.inputs);
        };
        assert_eq!((&*input.name, &*input.datatype), ("input", "FP32"));
        assert_eq!(
            (&input.shape[..], message.raw_input_contents[0].len()),
            (&[1, 2][..], 8)
        );
        let plain = InferRequest::default().to_message();
        assert!(plain.parameters.is_empty() && plain.model_version.is_empty());
    }

    fn answer(raw: usize) -> ModelInferResponse {
        ModelInferResponse {
            model_name: "digits".to_owned(),
            model_version: "3".to_owned(),
            outputs: vec![InferOutputTensor {
                name: "logits".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, 2],
                ..InferOutputTensor::default()
            }],
            raw_output_contents: vec![Bytes::from(vec![0; 8]); raw],
            ..ModelInferResponse::default()
        }
    }

    #[test]
    fn an_answer_has_typed_outputs_and_perhaps_times() {
        let response = InferResponse::from_message(answer(1)).unwrap();
        let logits = response.output("logits").unwrap();
        assert_eq!(logits.values::<f32>(), Ok(vec![0.0, 0.0]));
        assert_eq!((response.output("other"), response.times), (None, None));
        let error = InferResponse::from_message(answer(0)).unwrap_err();
        assert_eq!(error, "1 outputs and 0 raw contents");

        let mut timed = answer(1);
        let names = [
            "request",
            "queue",
            "compute_input",
            "compute_infer",
            "compute_output",
        ];
        for (name, nanoseconds) in names.into_iter().zip(1..) {
            let parameter = InferParameter {
                parameter_choice: Some(ParameterChoice::Int64Param(nanoseconds)),
            };
            timed.parameters.insert(format!("{name}_ns"), parameter);
        }
        let times = InferResponse::from_message(timed).unwrap().times.unwrap();
        assert_eq!(times.request, Duration::from_nanos(1));
        assert_eq!(times.compute_output, Duration::from_nanos(5));
    }
}
