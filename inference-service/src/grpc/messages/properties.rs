//! Arbitrary messages are rejected, or have as many values as their shape.

use bytes::Bytes;
use onnx_runtime::ModelInterface;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn interface() -> ModelInterface {
    ModelInterface {
        sample: vec![1, 2, 3],
        classes: 4,
    }
}

fn valid() -> Vec<Vec<u8>> {
    let input = InferInputTensor {
        name: "input".into(),
        datatype: "FP32".into(),
        shape: vec![2, 1, 2, 3],
        ..InferInputTensor::default()
    };
    let contents = InferTensorContents {
        fp32_contents: vec![0.5; 12],
        ..InferTensorContents::default()
    };
    let timeout = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(1000)),
    };
    let raw = ModelInferRequest {
        model_name: "m".into(),
        parameters: [(TIMEOUT.to_owned(), timeout)].into(),
        inputs: vec![input.clone()],
        raw_input_contents: vec![Bytes::from_static(&[0; 48])],
        ..ModelInferRequest::default()
    };
    let typed = ModelInferRequest {
        inputs: vec![InferInputTensor {
            contents: Some(contents),
            ..input
        }],
        ..ModelInferRequest::default()
    };
    vec![raw.encode_to_vec(), typed.encode_to_vec()]
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_foreign_message_is_refused_in_few_words_or_gives_as_many_values_as_it_says(
        message in foreign(valid()),
    ) {
        let taken = in_modest_memory(|| {
            let message = proto::bounded::decode(message.into()).ok()?;
            let request = to_request(message, &Caller::default());
            Some(request.and_then(|request| request.check(&interface(), 8)))
        });
        match taken {
            None => {}
            Some(Ok((input, _))) => {
                let values = match input.values {
                    InputValues::Raw(bytes) => bytes.len() / size_of::<f32>(),
                    InputValues::Typed(values) => values.len(),
                };
                prop_assert_eq!(values, input.samples * interface().sample_values());
            }
            Some(Err(error)) => prop_assert!(error.to_string().len() < 1000, "{}", error),
        }
    }
}
