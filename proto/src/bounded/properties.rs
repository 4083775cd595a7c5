//! Decoding equals prost's, except that messages with very many fields are rejected.

use proptest::{collection::vec, prelude::*, sample::select};
use test_support::damage::{cases, foreign, in_modest_memory, nested_messages};

use super::*;
use crate::{
    inference::{
        InferParameter, InferTensorContents, infer_parameter::ParameterChoice,
        model_infer_request::InferInputTensor,
    },
    predict::v1::ClassifyRequest,
    publish::v1::{PublishHeader, PublishRequest, publish_request::Part},
    teacher::v1::{
        Batch, FixedView, SampleReferences, SoftTargets, Tensor, batch::Input, sample_references,
        stream_soft_targets_request, stream_soft_targets_response,
    },
};

fn infer_request() -> ModelInferRequest {
    let timeout = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(5)),
    };
    ModelInferRequest {
        model_name: "model".to_owned(),
        parameters: [("timeout".to_owned(), timeout)].into(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 3, 300],
            contents: Some(InferTensorContents {
                fp32_contents: vec![0.5, -1.0],
                uint64_contents: vec![u64::MAX, 1],
                ..InferTensorContents::default()
            }),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from_static(&[7; 40])],
        ..ModelInferRequest::default()
    }
}

/// Returns a valid message of each type that carries large data. For the other types, it is invalid.
fn valid() -> Vec<Vec<u8>> {
    let batch = Batch {
        id: 3,
        input: Some(Input::Tensor(Tensor {
            data_type: 1,
            shape: vec![2, 1, 2, 3],
            data: Bytes::from_static(&[9; 12]),
        })),
        draw_seeds: Bytes::from_static(&[5; 16]),
    };
    let batch = StreamSoftTargetsRequest {
        message: Some(stream_soft_targets_request::Message::Batch(batch)),
    };
    let references = SampleReferences {
        positions: Bytes::from_static(&[1, 0, 0, 0, 2, 0, 0, 0]),
        view: Some(sample_references::View::FixedView(FixedView {
            seed: 1,
            view: 300,
        })),
    };
    let by_reference = Batch {
        id: 4,
        input: Some(Input::References(references)),
        ..Batch::default()
    };
    let by_reference = StreamSoftTargetsRequest {
        message: Some(stream_soft_targets_request::Message::Batch(by_reference)),
    };
    let targets = SoftTargets {
        id: 3,
        encoding: 1,
        shape: vec![2, 5],
        logits: Bytes::from_static(&[0; 40]),
        ..SoftTargets::default()
    };
    let targets = StreamSoftTargetsResponse {
        message: Some(stream_soft_targets_response::Message::SoftTargets(targets)),
    };
    let header = PublishHeader {
        model_name: "model".to_owned(),
        size: 9,
        ..PublishHeader::default()
    };
    let upload = PublishRequest {
        part: Some(Part::Header(header)),
    };
    vec![
        infer_request().encode_to_vec(),
        batch.encode_to_vec(),
        by_reference.encode_to_vec(),
        targets.encode_to_vec(),
        upload.encode_to_vec(),
    ]
}

/// Checks that a small message is decoded as by prost, and that a decoded message is the same after it
/// is encoded and decoded again.
fn is_as_prost_says<T>(bytes: &[u8]) -> Result<(), TestCaseError>
where
    T: Message + Default + PartialEq + Clone + fmt::Debug + 'static,
{
    let bytes = Bytes::copy_from_slice(bytes);
    let decoded = decode::<T>(bytes.clone());
    match (decoded, T::decode(bytes)) {
        (Ok(message), Ok(expected)) => {
            // A message with a NaN is not equal to itself.
            let equal = |other: &T| *other == message || message != message.clone();
            prop_assert!(equal(&expected));
            prop_assert!(equal(&decode(message.encode_to_vec().into()).unwrap()));
        }
        (Err(DecodeError::Malformed(found)), Err(expected)) => prop_assert_eq!(found, expected),
        (found, expected) => prop_assert!(false, "{:?} instead of {:?}", found, expected),
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn small_messages_are_decoded_as_by_prost(bytes in foreign(valid())) {
        is_as_prost_says::<ModelInferRequest>(&bytes)?;
        is_as_prost_says::<StreamSoftTargetsRequest>(&bytes)?;
        is_as_prost_says::<StreamSoftTargetsResponse>(&bytes)?;
        is_as_prost_says::<PublishRequest>(&bytes)?;
    }
}

/// Wraps `message` in the fields `path`, outermost first.
fn within(path: &[u32], message: Vec<u8>) -> Vec<u8> {
    path.iter().rev().fold(message, |message, field| {
        let mut outer = Vec::new();
        prost::encoding::bytes::encode(*field, &Bytes::from(message), &mut outer);
        outer
    })
}

/// Places in `ModelInferRequest` where fields can repeat: the path, and the number of the field.
const ROOMY: [(&[u32], u32); 6] = [
    (&[], 5),
    (&[], 7),
    (&[5], 4),
    (&[5, 5], 8),
    (&[6], 2),
    (&[5], 1),
];

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_limit_is_exact_wherever_the_fields_are(
        (path, field) in select(&ROOMY[..]),
        around in 0..4usize,
        other in vec(1..20u32, 0..3),
    ) {
        let empty = |field: u32| within(&[field], Vec::new());
        let others: Vec<u8> = other.iter().flat_map(|field| empty(*field)).collect();
        // The fields on the path and the other fields count too.
        let fields = MAX_FIELDS + around - path.len() - other.len() - 1;
        let message = [others, within(path, empty(field).repeat(fields))].concat();
        let mut left = MAX_FIELDS;
        let counted = count(&message, INFER_REQUEST, &mut left);
        let expected = if around <= 1 { Ok(()) } else { Err(DecodeError::TooManyFields) };
        prop_assert_eq!(counted, expected);
    }

    #[test]
    fn four_mebibytes_stay_modest(
        path in vec(1..8u32, 0..3), field in 1..10u32, packed in any::<bool>(),
    ) {
        let content = if packed {
            within(&[field], vec![1; 4 << 20])
        } else {
            within(&[field], Vec::new()).repeat(2 << 20)
        };
        let bytes = Bytes::from(within(&path, content));
        in_modest_memory(|| {
            let _ = decode::<ModelInferRequest>(bytes.clone());
            let _ = decode::<StreamSoftTargetsRequest>(bytes.clone());
            let _ = decode::<StreamSoftTargetsResponse>(bytes.clone());
            let _ = decode::<ClassifyRequest>(bytes.clone());
            let _ = decode::<PublishRequest>(bytes.clone());
        });
    }

    #[test]
    fn messages_within_messages_end_no_thread(cycle in vec(1..10u32, 1..4)) {
        let bytes = Bytes::from(nested_messages(&[], &cycle, 60_000));
        let _ = decode::<ModelInferRequest>(bytes.clone());
        let _ = decode::<StreamSoftTargetsRequest>(bytes);
    }
}
