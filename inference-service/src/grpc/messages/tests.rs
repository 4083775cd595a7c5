use bytes::Bytes;
use onnx_runtime::ModelInterface;
use proto::inference::model_infer_request::InferRequestedOutputTensor;

use super::*;
use crate::inference::{Input, server_times};

fn interface() -> ModelInterface {
    ModelInterface {
        sample: vec![1, 2, 3],
        classes: 4,
    }
}

fn request() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        id: "an id".into(),
        inputs: vec![InferInputTensor {
            name: "input".into(),
            datatype: "FP32".into(),
            shape: vec![2, 1, 2, 3],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![vec![0_u8; 48].into()],
        ..ModelInferRequest::default()
    }
}

fn typed(values: usize) -> Option<InferTensorContents> {
    Some(InferTensorContents {
        fp32_contents: vec![0.5; values],
        ..InferTensorContents::default()
    })
}

fn take(message: ModelInferRequest) -> Result<Input, InferenceError> {
    let request = to_request(message, &Caller::default())?;
    Ok(request.check(&interface(), 8)?.0)
}

#[test]
fn raw_and_typed_values_are_accepted() {
    let input = take(request()).unwrap();
    assert_eq!(input.samples, 2);
    assert!(matches!(input.values, InputValues::Raw(bytes) if bytes.len() == 48));

    let mut request = request();
    request.raw_input_contents.clear();
    request.inputs[0].contents = typed(12);
    let input = take(request).unwrap();
    assert!(matches!(input.values, InputValues::Typed(values) if values == [0.5; 12]));
}

#[test]
fn unknown_parameters_are_ignored() {
    let mut request = request();
    let value = InferParameter {
        parameter_choice: Some(ParameterChoice::BoolParam(true)),
    };
    request.parameters.insert("surprise".into(), value.clone());
    request.inputs[0]
        .parameters
        .insert("surprise".into(), value);
    assert!(take(request).is_ok());
}

#[test]
fn the_earlier_of_deadline_and_timeout_counts() {
    let timeout = |choice| {
        let mut request = request();
        let parameter_choice = Some(choice);
        let value = InferParameter { parameter_choice };
        request.parameters.insert("timeout".into(), value);
        request
    };
    let soon = Instant::now() + Duration::from_secs(600);
    let hour = ParameterChoice::Int64Param(3_600_000_000);
    let instant = ParameterChoice::Uint64Param(1);
    let none = ParameterChoice::Int64Param(0);
    let deadline = |choice: &ParameterChoice, deadline| {
        let caller = Caller {
            deadline,
            request_id: None,
        };
        let request = to_request(timeout(choice.clone()), &caller).unwrap();
        request.deadline
    };
    assert_eq!(deadline(&hour, Some(soon)), Some(soon));
    assert!(deadline(&instant, Some(soon)).unwrap() < soon);
    assert!(deadline(&hour, None).unwrap() > soon);
    assert_eq!(deadline(&none, None), None);
    for bad in [
        ParameterChoice::Int64Param(-1),
        ParameterChoice::StringParam("1 s".into()),
    ] {
        let error = to_request(timeout(bad), &Caller::default())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("parameters.timeout: "), "{error}");
    }
}

#[test]
fn errors_name_the_field() {
    type Change = fn(&mut ModelInferRequest);
    let cases: [(Change, &str); 19] = [
        (|r| r.inputs.clear(), "inputs: 0 tensors"),
        (|r| r.inputs.push(r.inputs[0].clone()), "inputs: 2 tensors"),
        (
            |r| r.inputs[0].name = "image".into(),
            "inputs[0].name: `image`",
        ),
        (
            |r| r.inputs[0].datatype = "UINT8".into(),
            "inputs[0].datatype: `UINT8`",
        ),
        (
            |r| r.inputs[0].datatype = String::new(),
            "inputs[0].datatype",
        ),
        (|r| r.inputs[0].shape = vec![], "inputs[0].shape: []"),
        (
            |r| r.inputs[0].shape = vec![1, 2, 3],
            "inputs[0].shape: [1, 2, 3]",
        ),
        (
            |r| r.inputs[0].shape = vec![2, 1, 3, 2],
            "inputs[0].shape: [2, 1, 3, 2]",
        ),
        (
            |r| r.inputs[0].shape[0] = 0,
            "inputs[0].shape: [0, 1, 2, 3]",
        ),
        (
            |r| r.inputs[0].shape[0] = -1,
            "inputs[0].shape: [-1, 1, 2, 3]",
        ),
        (|r| r.inputs[0].shape[0] = 9, "a batch of 1 to 8"),
        (
            |r| r.inputs[0].shape[0] = i64::MAX,
            "inputs[0].shape: [9223372036854775807",
        ),
        (|r| r.inputs[0].shape = vec![1; 1000], "1, …]"),
        (
            |r| r.raw_input_contents[0].truncate(47),
            "raw_input_contents[0]: 47 bytes",
        ),
        (
            |r| r.raw_input_contents.push(Bytes::new()),
            "raw_input_contents: has more buffers than there are inputs",
        ),
        (
            |r| r.inputs[0].contents = typed(12),
            "raw_input_contents: is given in addition",
        ),
        (
            |r| r.raw_input_contents.clear(),
            "inputs[0].contents: is missing",
        ),
        (
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].contents = typed(11);
            },
            "inputs[0].contents.fp32_contents: 11 values; inputs[0].shape needs 12",
        ),
        (
            |r| {
                r.raw_input_contents.clear();
                let contents = r.inputs[0].contents.insert(InferTensorContents::default());
                contents.int_contents = vec![1; 12];
            },
            "inputs[0].contents: has values of another type",
        ),
    ];
    for (change, named) in cases {
        let mut changed = request();
        change(&mut changed);
        let error = take(changed).expect_err(named).to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn outputs_may_be_named_and_long_names_are_truncated() {
    let mut asked = request();
    let output = |name: &str| InferRequestedOutputTensor {
        name: name.into(),
        ..InferRequestedOutputTensor::default()
    };
    asked.outputs = vec![output("logits")];
    assert!(take(asked.clone()).is_ok());
    asked.outputs.push(output(&"x".repeat(1_000_000)));
    let error = take(asked).unwrap_err().to_string();
    assert!(
        error.starts_with("outputs[1].name: `xxx") && error.len() < 200,
        "{error}"
    );
}

#[test]
fn the_response_has_the_id_and_the_version() {
    let logits = Bytes::from(vec![7_u8; 2 * 4 * 4]);
    let response = to_message(InferenceResponse {
        model: "m".into(),
        version: 12,
        id: "an id".into(),
        samples: 2,
        classes: 4,
        logits: logits.clone(),
        times: None,
    });
    assert!(response.parameters.is_empty());
    assert_eq!(
        (response.id.as_str(), response.model_name.as_str()),
        ("an id", "m")
    );
    assert_eq!(response.model_version, "12");
    assert_eq!(response.outputs[0].shape, [2, 4]);
    assert_eq!(response.outputs[0].datatype, "FP32");
    assert_eq!(response.raw_output_contents, [logits]);
}

#[test]
fn the_servers_times_are_parameters_of_the_response() {
    let response = to_message(InferenceResponse {
        model: "m".into(),
        version: 1,
        id: String::new(),
        samples: 0,
        classes: 4,
        logits: Bytes::new(),
        times: Some(server_times::example()),
    });
    let time = |name: &str| match response.parameters[name].parameter_choice {
        Some(ParameterChoice::Int64Param(nanoseconds)) => nanoseconds,
        ref other => panic!("{name}: {other:?}"),
    };
    let names = ["queue", "compute_input", "compute_infer", "compute_output"];
    let times = names.map(|name| time(&format!("{name}_ns")));
    assert_eq!((times, time("request_ns")), ([1, 2, 3, 4], 15));
    assert_eq!(response.parameters.len(), 5);
}

#[test]
fn timing_is_a_boolean() {
    for (choice, expected) in [
        (Some(ParameterChoice::BoolParam(true)), Some(true)),
        (Some(ParameterChoice::BoolParam(false)), Some(false)),
        (Some(ParameterChoice::Int64Param(1)), None),
        (Some(ParameterChoice::StringParam("true".into())), None),
        (None, None),
    ] {
        let parameter = InferParameter {
            parameter_choice: choice.clone(),
        };
        match (read_timing(&parameter), expected) {
            (Ok(timing), Some(expected)) => assert_eq!(timing, expected),
            (Err(error), None) => {
                let problem = "parameters.timing: must be true or false";
                assert_eq!(error.to_string(), problem);
            }
            (other, _) => panic!("{choice:?}: {other:?}"),
        }
    }
}

#[test]
fn unsupported_parameters_are_rejected_by_name() {
    let parameter = |choice| InferParameter {
        parameter_choice: Some(choice),
    };
    let on = || parameter(ParameterChoice::BoolParam(true));
    let count = |count| parameter(ParameterChoice::Int64Param(count));
    let output = |name: &str, value| InferRequestedOutputTensor {
        name: "logits".into(),
        parameters: [(name.to_owned(), value)].into(),
    };
    type Change<'c> = Box<dyn Fn(&mut ModelInferRequest) + 'c>;
    let cases: [(&str, Change<'_>); 5] = [
        (
            "parameters.sequence_id",
            Box::new(|r| _ = r.parameters.insert("sequence_id".into(), count(7))),
        ),
        (
            "parameters.sequence_start",
            Box::new(|r| _ = r.parameters.insert("sequence_start".into(), on())),
        ),
        (
            "inputs[0].parameters.shared_memory_region",
            Box::new(|r| {
                let name = "shared_memory_region".to_owned();
                let region = parameter(ParameterChoice::StringParam("region".into()));
                r.inputs[0].parameters.insert(name, region);
            }),
        ),
        (
            "outputs[0].parameters.classification",
            Box::new(|r| r.outputs.push(output("classification", count(3)))),
        ),
        (
            "outputs[0].parameters.shared_memory_region",
            Box::new(|r| r.outputs.push(output("shared_memory_region", on()))),
        ),
    ];
    for (field, change) in cases {
        let mut request = request();
        change(&mut request);
        let error = take(request).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: ")), "{error}");
    }
    // Default values, and parameters that do not affect the response.
    let mut request = request();
    request.outputs.push(output("classification", count(0)));
    for (name, value) in [("sequence_id", count(0)), ("priority", count(2))] {
        request.parameters.insert(name.into(), value);
    }
    take(request).unwrap();
}
