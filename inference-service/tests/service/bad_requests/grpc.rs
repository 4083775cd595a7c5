//! Over gRPC.

use proto::inference::{
    InferTensorContents, ModelInferRequest, model_infer_request::InferRequestedOutputTensor,
};
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_types::StatusExt;

use super::Target;
use crate::support::infer_request;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

type Change = fn(&mut ModelInferRequest);

/// (change to a good request, code, reason, what the message begins with)
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
            "inputs[0].shape: [1, 64]",
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
            |r| r.inputs[0].shape = vec![1; 100_000],
            INVALID,
            REQUEST,
            "inputs[0].shape: [1, 1",
        ),
        (
            |r| r.raw_input_contents[0].truncate(255),
            INVALID,
            REQUEST,
            "raw_input_contents[0]: 255 bytes",
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
            "inputs[0].contents: no values",
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
async fn each_has_its_code_its_reason_and_its_field_and_the_connection_goes_on() {
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
        assert_eq!(info.reason, reason, "{begins}");
        // The same connection.
        client
            .model_infer(infer_request(1).0)
            .await
            .expect("it answers");
    }
    target.is_well().await;
}

/// Bytes that no client library would send.
#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let mut target = Target::start().await;
    let channel = target.service.channel("grpc").await;
    let bad_utf8 = [0x0a, 2, 0xff, 0xfe];
    let cut_off = [0x0a, 100, b'x'];
    // Empty inputs, empty images: two bytes each.
    let (inputs, images) = ([0x2a, 0].repeat(70_000), [0x1a, 0].repeat(70_000));
    let cases: [(&str, &[u8], Code); 8] = [
        (INFER, &inputs, Code::InvalidArgument),
        (
            "/retort.predict.v1.PredictorService/Classify",
            &images,
            Code::InvalidArgument,
        ),
        (INFER, &bad_utf8, Code::InvalidArgument),
        (INFER, &cut_off, Code::InvalidArgument),
        (INFER, &[0xff; 100], Code::InvalidArgument),
        (INFER, &[0; 2 << 20], Code::OutOfRange),
        (
            "/inference.GRPCInferenceService/ModelReady",
            &bad_utf8,
            Code::Internal,
        ),
        (
            "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
            &[],
            Code::Unimplemented,
        ),
    ];
    for (path, bytes, code) in cases {
        let status = send_raw(&channel, path, bytes).await.expect_err(path);
        assert_eq!(
            status.code(),
            code,
            "{path} {:?}: {status}",
            &bytes[..bytes.len().min(9)]
        );
        target.is_well().await;
    }
}

async fn send_raw(channel: &Channel, path: &'static str, bytes: &[u8]) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the connection is there");
    let path = PathAndQuery::from_static(path);
    let answer = client.unary(Request::new(bytes.to_vec()), path, raw::Codec);
    answer.await.map(drop)
}

/// Sends bytes as they are.
mod raw {
    use tonic::{
        Status,
        codec::{self, DecodeBuf, EncodeBuf},
    };

    pub struct Codec;
    pub struct Bytes;

    impl codec::Codec for Codec {
        type Encode = Vec<u8>;
        type Decode = ();
        type Encoder = Bytes;
        type Decoder = Bytes;

        fn encoder(&mut self) -> Bytes {
            Bytes
        }

        fn decoder(&mut self) -> Bytes {
            Bytes
        }
    }

    impl codec::Encoder for Bytes {
        type Item = Vec<u8>;
        type Error = Status;

        fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            bytes::BufMut::put_slice(buffer, &item);
            Ok(())
        }
    }

    impl codec::Decoder for Bytes {
        type Item = ();
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
            bytes::Buf::advance(buffer, bytes::Buf::remaining(buffer));
            Ok(Some(()))
        }
    }
}
