//! Publishes that are rejected and change nothing.

use std::fs;

use crate::support::{Artifact, MODEL, Service, ServiceOptions, listed, publish, upload};
use common::digest::Sha256;
use networks::onnx::schema::{AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto};
use prost::Message;
use proto::publish::v1::{PublishHeader, PublishRequest, publish_request::Part};
use tonic::Code;
use tonic_types::StatusExt;

fn start() -> Service {
    Service::start(&ServiceOptions::default())
}

/// For every error: the caller gets the reason, the old version continues to serve, and nothing is stored.
#[tokio::test]
async fn invalid_publishes_are_rejected_with_a_reason_and_change_nothing() {
    let mut service = start();
    let pid = service.pid();
    publish(&service, &Artifact::new(1)).await;
    let good = Artifact::new(2);
    let other_sha256 = Sha256::of(b"something else").to_string();

    let with_header = |change: &dyn Fn(&mut PublishHeader)| {
        let mut header = good.header();
        change(&mut header);
        upload(header, &good.onnx)
    };
    let with_manifest = |pointer: &str, value: serde_json::Value| {
        let mut artifact = good.clone();
        *artifact
            .manifest
            .pointer_mut(pointer)
            .expect("the field is there") = value;
        artifact.upload()
    };
    let with_onnx = |onnx: Vec<u8>| {
        let mut artifact = good.clone();
        artifact.manifest["onnx"] =
            serde_json::json!({"sha256": Sha256::of(&onnx), "size": onnx.len()});
        artifact.onnx = onnx;
        artifact.upload()
    };
    let whole = good.upload();
    let mut damaged = good.onnx.clone();
    damaged[100] ^= 1;

    let cases: Vec<(Vec<PublishRequest>, &str, &str)> = vec![
        (
            vec![],
            "INVALID_UPLOAD",
            "the first message must be the header",
        ),
        (
            whole[1..].to_vec(),
            "INVALID_UPLOAD",
            "the first message must be the header",
        ),
        (
            whole[..2].to_vec(),
            "INVALID_UPLOAD",
            "bytes arrived, header.size is",
        ),
        (
            [&whole[..], &whole[1..]].concat(),
            "INVALID_UPLOAD",
            "bytes arrived, header.size is",
        ),
        (
            [&whole[..1], &whole[..]].concat(),
            "INVALID_UPLOAD",
            "a second header",
        ),
        (
            vec![whole[0].clone(), PublishRequest { part: None }],
            "INVALID_UPLOAD",
            "is empty",
        ),
        (
            with_header(&|h| h.model_name = "../x".into()),
            "INVALID_MODEL_NAME",
            "model_name: `../x`",
        ),
        (
            with_header(&|h| h.sha256 = "abc".into()),
            "INVALID_DIGEST",
            "header.sha256",
        ),
        (
            with_header(&|h| h.sha256 = other_sha256.clone()),
            "MANIFEST_MISMATCH",
            "onnx.sha256",
        ),
        (
            with_header(&|h| h.size = 1 << 40),
            "TOO_LARGE",
            "header.size: 1099511627776 bytes",
        ),
        (
            with_header(&|h| h.size -= 1),
            "MANIFEST_MISMATCH",
            "onnx.size",
        ),
        (
            with_header(&|h| h.manifest_json = "{".into()),
            "INVALID_MANIFEST",
            "manifest",
        ),
        (
            upload(good.header(), &damaged),
            "DIGEST_MISMATCH",
            "header.sha256: is",
        ),
        (
            with_manifest("/format_version", 9.into()),
            "INVALID_MANIFEST",
            "format_version 9",
        ),
        // Quoted in full, it would break the connection: clients accept 16 KiB of headers.
        (
            {
                let mut artifact = good.clone();
                artifact.manifest["k".repeat(100_000)] = 1.into();
                artifact.upload()
            },
            "INVALID_MANIFEST",
            "manifest: kkk",
        ),
        (
            with_onnx(changed(|graph| {
                graph.input[0].name = Some("n".repeat(100_000));
            })),
            "MODEL_REFUSED",
            "inputs `nnn",
        ),
        (
            with_manifest("/format_version", 1.into()),
            "INVALID_MANIFEST",
            "format_version 1 is of an older Retort",
        ),
        (
            with_manifest("/class_names", serde_json::json!(["a", "b"])),
            "INVALID_MANIFEST",
            "signature.outputs",
        ),
        (
            with_manifest(
                "/signature/inputs/0/dimensions",
                serde_json::json!(["batch", 1, 4, 16]),
            ),
            "MANIFEST_MISMATCH",
            "signature: is `input` FP32 [batch, 1, 4, 16] -> `logits` FP32 [batch, 3], but that of the model is \
             `input` FP32 [batch, 1, 8, 8]",
        ),
        (
            with_manifest("/golden_batch/logits/2/1", 1e6.into()),
            "GOLDEN_BATCH_DISAGREES",
            "sample 2, class 1",
        ),
        (
            with_onnx(b"no model at all".to_vec()),
            "MODEL_REFUSED",
            "not an ONNX file",
        ),
        (
            with_onnx(good.onnx[..good.onnx.len() / 2].to_vec()),
            "MODEL_REFUSED",
            "not an ONNX file",
        ),
        (
            with_onnx(changed(|graph| {
                last_node(graph).op_type = Some("Loop".into())
            })),
            "MODEL_REFUSED",
            "operator `Loop`",
        ),
        (
            with_onnx(changed(|graph| {
                last_node(graph).domain = Some("com.evil".into())
            })),
            "MODEL_REFUSED",
            "domain `com.evil`",
        ),
        (
            with_onnx(changed(|graph| graph.input[0].name = Some("image".into()))),
            "MODEL_REFUSED",
            "inputs `image` f32 [?, 1, 8, 8]",
        ),
        (
            with_onnx(changed(|graph| graph.input.push(graph.input[0].clone()))),
            "MODEL_REFUSED",
            "expected one f32 `input`",
        ),
        (
            with_onnx(changed(|graph| {
                graph.initializer[0].data_location = Some(1)
            })),
            "MODEL_REFUSED",
            "external data are not allowed",
        ),
        (
            with_onnx(changed(|graph| {
                last_node(graph).op_type = Some("Softmax".into())
            })),
            "MODEL_REFUSED",
            "expected [64, 3]",
        ),
        (
            with_onnx(changed(pad_widely)),
            "MODEL_REFUSED",
            "bytes of memory; at most",
        ),
        (
            with_onnx(changed(|graph| {
                let unknown = AttributeProto {
                    name: Some("unknown".into()),
                    i: Some(1),
                    r#type: Some(AttributeType::Int as i32),
                    ..AttributeProto::default()
                };
                last_node(graph).attribute.push(unknown);
            })),
            "MODEL_UNUSABLE",
            "ONNX Runtime cannot load",
        ),
    ];
    for (upload, reason, named) in cases {
        let status = service.publish(upload).await.expect_err(named);
        assert_eq!(status.code(), Code::InvalidArgument, "{named}: {status}");
        assert!(status.message().contains(named), "{named}: {status}");
        let info = status
            .get_details_error_info()
            .expect("there is an ErrorInfo");
        assert_eq!(info.reason, reason, "{status}");
    }
    assert_eq!(listed(&service).await, [(1, true)]);
    assert_eq!(service.serving_version().await, "1");
    let stored = fs::read_dir(service.store().join(MODEL)).unwrap().count();
    assert_eq!(stored, 2, "version 1 and active.json");
    assert_eq!(service.statistics().await.len(), 1);
    assert_eq!(publish(&service, &good).await, (2, false));
    assert!(service.is_running() && service.pid() == pid);
    let log = service.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// The second model with a changed graph.
fn changed(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(Artifact::new(2).onnx.as_slice()).expect("it is a model");
    change(model.graph.as_mut().expect("it has a graph"));
    model.encode_to_vec()
}

fn last_node(graph: &mut GraphProto) -> &mut NodeProto {
    graph.node.last_mut().expect("it has nodes")
}

/// Adds a padding of thousands of zeros.
fn pad_widely(graph: &mut GraphProto) {
    let pads = AttributeProto {
        name: Some("pads".into()),
        ints: vec![4096; 4],
        r#type: Some(AttributeType::Ints as i32),
        ..AttributeProto::default()
    };
    let convolution = &mut graph.node[0].attribute;
    convolution.retain(|attribute| attribute.name() != "pads");
    convolution.push(pads);
}

/// A large upload is rejected by its header, before it arrives.
#[tokio::test]
async fn an_upload_above_the_limit_is_refused() {
    let options = ServiceOptions {
        set: &[
            "publish.max_model_bytes=1000",
            "publish.max_manifest_bytes=100",
        ],
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    let artifact = Artifact::new(1);
    let only_header = |header| {
        vec![PublishRequest {
            part: Some(Part::Header(header)),
        }]
    };
    let status = service
        .publish(only_header(artifact.header()))
        .await
        .expect_err("too large");
    assert!(status.message().contains("header.size"), "{status}");
    let small = PublishHeader {
        size: 10,
        ..artifact.header()
    };
    let status = service
        .publish(only_header(small))
        .await
        .expect_err("too large");
    assert!(
        status.message().contains("header.manifest_json"),
        "{status}"
    );
}
