//! Publishing, rolling back, deleting, restarting.

use std::fs;

use crate::support::{
    Artifact, MODEL, Service, ServiceOptions, assert_close, infer_request, run_to_the_end, upload,
};
use common::{
    digest::Sha256,
    model_store::{ModelName, ModelStore},
};
use networks::onnx::schema::{AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto};
use prost::Message;
use proto::{
    inference::ModelReadyRequest,
    publish::v1::{PublishHeader, PublishRequest, publish_request::Part},
};
use tonic::Code;
use tonic_types::StatusExt;

fn start() -> Service {
    Service::start(&ServiceOptions::default())
}

async fn publish(service: &Service, artifact: &Artifact) -> (u64, bool) {
    let published = service
        .publish(artifact.upload())
        .await
        .expect("it is published");
    (published.version, published.already_published)
}

async fn listed(service: &Service) -> Vec<(u64, bool)> {
    let versions = service.versions().await;
    versions
        .iter()
        .map(|version| (version.version, version.active))
        .collect()
}

#[tokio::test]
async fn a_published_model_serves_and_the_store_has_tritons_layout() {
    let service = start();
    let artifact = Artifact::new(1);
    assert_eq!(publish(&service, &artifact).await, (1, false));
    assert_eq!(service.serving_version().await, "1");

    let folder = service.store().join(MODEL);
    assert_eq!(
        fs::read(folder.join("1/model.onnx")).unwrap(),
        artifact.onnx
    );
    assert_eq!(
        fs::read(folder.join("1/manifest.json")).unwrap(),
        artifact.parsed().to_json()
    );
    let [listed] = service.versions().await.try_into().expect("one version");
    assert_eq!(listed.model_name, MODEL);
    assert_eq!(listed.sha256, Sha256::of(&artifact.onnx).to_string());
    assert_eq!(listed.size, artifact.onnx.len() as u64);
    assert_eq!(listed.manifest_json, artifact.parsed().to_json());
    assert_eq!(service.statistics().await[0].inference_count, 1);
}

#[tokio::test]
async fn the_same_file_twice_is_one_version() {
    let service = start();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    assert_eq!(publish(&service, &first).await, (1, false));
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(publish(&service, &second).await, (2, false));
    // A late repetition is no roll-back.
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(listed(&service).await, [(1, false), (2, true)]);
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test]
async fn versions_are_activated_rolled_back_and_deleted() {
    let service = start();
    for seed in 1..=3 {
        publish(&service, &Artifact::new(seed)).await;
    }
    assert_eq!(service.activate(MODEL, 1).await.unwrap(), 3);
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(service.activate(MODEL, 1).await.unwrap(), 1);

    let active = service.delete(MODEL, 1).await.expect_err("it serves");
    assert_eq!(active.code(), Code::FailedPrecondition);
    assert!(active.message().contains("version 1 is active"), "{active}");
    service.delete(MODEL, 3).await.unwrap();
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    for result in [
        service.delete(MODEL, 3).await,
        service.activate(MODEL, 3).await.map(drop),
    ] {
        assert_eq!(result.expect_err("it is gone").code(), Code::NotFound);
    }
    let unknown = service
        .activate("cats", 1)
        .await
        .expect_err("there is no such model");
    assert_eq!(unknown.code(), Code::NotFound);
    let path = service
        .activate("../digits", 1)
        .await
        .expect_err("it is no name");
    assert_eq!(path.code(), Code::InvalidArgument);
    // The number of a deleted version is not used again.
    assert_eq!(publish(&service, &Artifact::new(4)).await, (4, false));

    let counted: Vec<_> = service
        .statistics()
        .await
        .into_iter()
        .map(|statistics| (statistics.version, statistics.inference_count))
        .collect();
    let expected = [("1", 1), ("2", 0), ("3", 0), ("4", 0)];
    assert_eq!(
        counted,
        expected.map(|(version, count)| (version.to_owned(), count))
    );
}

/// The old version answers until the new one does, and every answer is that of the version it names.
#[tokio::test]
async fn a_swap_under_load_loses_no_request() {
    const CALLERS: usize = 8;
    let service = start();
    let artifacts = [Artifact::new(1), Artifact::new(2)];
    publish(&service, &artifacts[0]).await;
    let (request, values) = infer_request(1);
    let expected = artifacts
        .each_ref()
        .map(|artifact| artifact.logits(&values));
    let client = service.inference().await;
    let callers = (0..CALLERS).map(|_| {
        let (mut client, request, expected) = (client.clone(), request.clone(), expected.clone());
        tokio::spawn(async move {
            loop {
                let response = client
                    .model_infer(request.clone())
                    .await
                    .expect("it answers");
                let response = response.into_inner();
                let version: usize = response.model_version.parse().expect("it is a number");
                assert_close(&response.raw_output_contents[0], &expected[version - 1]);
                if version == 2 {
                    return;
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    assert_eq!(publish(&service, &artifacts[1]).await, (2, false));
    for caller in callers {
        caller.await.expect("the caller is content");
    }
}

#[tokio::test]
async fn a_restart_serves_what_served_before() {
    let models = tempfile::tempdir().unwrap();
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::new(1)).await;
    publish(&service, &Artifact::new(2)).await;
    service.activate(MODEL, 1).await.unwrap();
    drop(service);

    // What a publish that was cut off leaves.
    let half = models.path().join(MODEL).join("3");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("model.onnx"), b"half").unwrap();

    let service = Service::start(&options);
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    assert!(!half.exists());

    let store = models.path().to_str().unwrap();
    let second = run_to_the_end(&[
        "serve",
        "--store",
        store,
        "--set",
        "grpc.listen=127.0.0.1:0",
        "--set",
        "admin.listen=127.0.0.1:0",
        "--set",
        "http.listen=127.0.0.1:0",
        "--set",
        "metrics.listen=127.0.0.1:0",
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        second.stderr.contains("in use by another process"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains(store), "{}", second.stderr);
}

#[tokio::test]
async fn a_publish_cut_off_before_its_activation_is_completed_by_the_next_start() {
    let models = tempfile::tempdir().unwrap();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    let name = ModelName::new(MODEL).unwrap();
    let store = ModelStore::open(models.path()).unwrap();
    store.commit(&name, &first.onnx, &first.parsed()).unwrap();
    store.activate(&name, 1).unwrap();
    store.commit(&name, &second.onnx, &second.parsed()).unwrap();
    drop(store);
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    assert_eq!(service.serving_version().await, "2");
    assert_eq!(publish(&service, &second).await, (2, true));
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test]
async fn a_damaged_model_is_left_out_and_the_others_serve() {
    let models = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1);
    let store = ModelStore::open(models.path()).unwrap();
    for name in [MODEL, "damaged"] {
        let name = ModelName::new(name).unwrap();
        store
            .commit(&name, &artifact.onnx, &artifact.parsed())
            .unwrap();
        store.activate(&name, 1).unwrap();
    }
    drop(store);
    fs::write(models.path().join("damaged/1/model.onnx"), b"damage").unwrap();
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    assert_eq!(service.serving_version().await, "1");
    let request = ModelReadyRequest {
        name: "damaged".to_owned(),
        version: String::new(),
    };
    let ready = service
        .inference()
        .await
        .model_ready(request)
        .await
        .unwrap();
    assert!(!ready.into_inner().ready);
    assert!(
        service.log().contains("damaged/1/model.onnx"),
        "{}",
        service.log()
    );
}

/// Whatever is wrong: the caller learns what, the version before serves on, nothing is stored.
#[tokio::test]
async fn what_is_wrong_with_a_publish_is_said_and_changes_nothing() {
    let service = start();
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
        (
            with_manifest("/class_names", serde_json::json!(["a", "b"])),
            "INVALID_MANIFEST",
            "golden_batch.logits",
        ),
        (
            with_manifest("/input_shape", serde_json::json!([1, 4, 16])),
            "MANIFEST_MISMATCH",
            "input_shape: is [1, 4, 16], but the model takes [1, 8, 8]",
        ),
        (
            with_manifest("/golden_batch/logits/2/1", 1e6.into()),
            "GOLDEN_BATCH_DISAGREES",
            "image 2, class 1",
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
}

/// The second model with a change in its graph.
fn changed(change: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(Artifact::new(2).onnx.as_slice()).expect("it is a model");
    change(model.graph.as_mut().expect("it has a graph"));
    model.encode_to_vec()
}

fn last_node(graph: &mut GraphProto) -> &mut NodeProto {
    graph.node.last_mut().expect("it has nodes")
}

/// Thousands of zeros around every image.
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

/// The header alone decides: a huge upload is refused before it has arrived.
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
