//! Invalid gRPC requests that can be decoded.

use proto::inference::{
    InferTensorContents, ModelInferRequest, model_infer_request::InferRequestedOutputTensor,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::Target;
use crate::support::infer_request;

type Change = fn(&mut ModelInferRequest);

/// (change to a valid request, code, reason, beginning of the message)
const CASES: [(Change, Code, &str, &str); 32] = {
    const INVALID: Code = Code::InvalidArgument;
    const REQUEST: &str = "INVALID_REQUEST";
    [
        (
            |r| r.model_name = "cats".into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model `cats`",
        ),
        (
            |r| r.model_name.clear(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model ``",
        ),
        (
            |r| r.model_name = "../digits".into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model `../",
        ),
        (
            |r| r.model_name = "/etc/passwd".into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model `/",
        ),
        (
            |r| r.model_name = "digits\0".into(),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model `digits",
        ),
        (
            |r| r.model_name = "x".repeat(100_000),
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "no model `xxx",
        ),
        (
            |r| r.model_version = "2".into(),
            Code::NotFound,
            "VERSION_NOT_FOUND",
            "model `digits`: version `2`",
        ),
        (
            |r| r.model_version = "01".into(),
            Code::NotFound,
            "VERSION_NOT_FOUND",
            "model `digits`: version `01`",
        ),
        (
            |r| r.model_version = "-1".into(),
            Code::NotFound,
            "VERSION_NOT_FOUND",
            "model `digits`: version `-1`",
        ),
        (
            |r| r.model_version = "1/../1".into(),
            Code::NotFound,
            "VERSION_NOT_FOUND",
            "model `digits`: version `1/",
        ),
        (
            |r| r.model_version = "9".repeat(40),
            Code::NotFound,
            "VERSION_NOT_FOUND",
            "model `digits`: version `999",
        ),
        (|r| r.inputs.clear(), INVALID, REQUEST, "inputs: 0 tensors"),
        (
            |r| r.inputs.push(r.inputs[0].clone()),
            INVALID,
            REQUEST,
            "inputs: 2 tensors",
        ),
        (
            |r| r.inputs[0].name = "image".into(),
            INVALID,
            REQUEST,
            "inputs[0].name: `image`",
        ),
        (
            |r| r.inputs[0].name = "x".repeat(100_000),
            INVALID,
            REQUEST,
            "inputs[0].name: `xxx",
        ),
        (
            |r| r.inputs[0].datatype = "UINT8".into(),
            INVALID,
            REQUEST,
            "inputs[0].datatype: `UINT8`",
        ),
        (
            |r| r.inputs[0].datatype.clear(),
            INVALID,
            REQUEST,
            "inputs[0].datatype: ``",
        ),
        (
            |r| r.inputs[0].shape.clear(),
            INVALID,
            REQUEST,
            "inputs[0].shape: []",
        ),
        (
            |r| r.inputs[0].shape = vec![1, 64],
            INVALID,
            REQUEST,
            "inputs[0].shape: [1, 64]; expected [batch, 1, 8, 8]",
        ),
        (
            |r| r.inputs[0].shape.push(1),
            INVALID,
            REQUEST,
            "inputs[0].shape: [1, 1, 8, 8, 1]",
        ),
        (
            |r| r.inputs[0].shape[0] = 0,
            INVALID,
            REQUEST,
            "inputs[0].shape: [0, 1, 8, 8]",
        ),
        (
            |r| r.inputs[0].shape[0] = -1,
            INVALID,
            REQUEST,
            "inputs[0].shape: [-1, 1, 8, 8]",
        ),
        (
            |r| r.inputs[0].shape[0] = 65,
            INVALID,
            REQUEST,
            "inputs[0].shape: [65, 1, 8, 8]",
        ),
        (
            |r| r.inputs[0].shape[0] = i64::MIN,
            INVALID,
            REQUEST,
            "inputs[0].shape: [-9223372036854775808",
        ),
        // 2^58 + 1 samples of 64 values: the product wraps to the right number.
        (
            |r| r.inputs[0].shape[0] = (1 << 58) + 1,
            INVALID,
            REQUEST,
            "inputs[0].shape: [288230376151711745",
        ),
        (
            |r| r.inputs[0].shape = vec![1; 60_000],
            INVALID,
            REQUEST,
            "inputs[0].shape: [1, 1",
        ),
        (
            |r| r.raw_input_contents[0].truncate(255),
            INVALID,
            REQUEST,
            "raw_input_contents[0]: 255 bytes; inputs[0].shape needs 256",
        ),
        (
            |r| r.raw_input_contents[0] = vec![0; 257].into(),
            INVALID,
            REQUEST,
            "raw_input_contents[0]: 257 bytes",
        ),
        (
            |r| r.inputs[0].contents = Some(InferTensorContents::default()),
            INVALID,
            REQUEST,
            "raw_input_contents",
        ),
        (
            |r| r.raw_input_contents.clear(),
            INVALID,
            REQUEST,
            "inputs[0].contents: is missing",
        ),
        (
            |r| {
                let nan = f32::NAN.to_le_bytes();
                r.raw_input_contents[0] = [&[0; 12], &nan[..], &[0; 240]].concat().into();
            },
            INVALID,
            REQUEST,
            "raw_input_contents[0]: value 3 is NaN",
        ),
        (
            |r| {
                let name = "scores".to_owned();
                let output = InferRequestedOutputTensor {
                    name,
                    ..Default::default()
                };
                r.outputs.push(output);
            },
            INVALID,
            REQUEST,
            "outputs[0].name: `scores`",
        ),
    ]
};

#[tokio::test]
async fn each_gets_its_code_its_reason_and_its_field_and_the_connection_stays_open() {
    let mut target = Target::start().await;
    let mut client = target.service.inference().await;
    for (change, code, reason, begins) in CASES {
        let (mut request, _) = infer_request(1);
        change(&mut request);
        let status = client.model_infer(request).await.expect_err(begins);
        assert_eq!(status.code(), code, "{begins}: {status}");
        assert!(status.message().starts_with(begins), "{begins}: {status}");
        assert!(status.message().len() < 500, "{status}");
        let info = status
            .get_details_error_info()
            .expect("there is an ErrorInfo");
        let found = (info.reason.as_str(), info.domain.as_str());
        assert_eq!(found, (reason, "retort"), "{begins}");
        // The same connection.
        client
            .model_infer(infer_request(1).0)
            .await
            .expect("it answers");
    }
    target.is_well().await;
}
