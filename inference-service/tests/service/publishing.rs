//! Publishing models.

use std::{fs, io::Cursor};

use common::digest::Sha256;
use image::{GrayImage, ImageFormat};
use proto::{
    inference::{
        RepositoryModelUnloadRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient},
};
use tonic::Code;

use crate::support::{
    Artifact, MODEL, Service, ServiceOptions, assert_close, infer_request, listed, publish,
    publish_keeping_active,
};

fn start() -> Service {
    Service::start(&ServiceOptions::default())
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
async fn the_same_model_is_stored_once() {
    let service = start();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    assert_eq!(publish(&service, &first).await, (1, false));
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(publish(&service, &second).await, (2, false));
    // A successful publish serves.
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    assert_eq!(service.serving_version().await, "1");
}

#[tokio::test]
async fn a_repeated_publish_with_keep_active_does_not_roll_back() {
    let service = start();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    assert_eq!(
        publish_keeping_active(&service, &first).await,
        (1, false, 1)
    );
    assert_eq!(
        publish_keeping_active(&service, &second).await,
        (2, false, 2)
    );
    // An operator rolls back. Then the publish of version 2 is repeated, because its answer was lost.
    service.activate(MODEL, 1).await.unwrap();
    assert_eq!(
        publish_keeping_active(&service, &second).await,
        (2, true, 1)
    );
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(publish_keeping_active(&service, &first).await, (1, true, 1));
}

#[tokio::test]
async fn a_publish_after_an_unload_serves() {
    let service = start();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    publish(&service, &first).await;
    publish(&service, &second).await;
    for keep_active in [false, true] {
        for (version, artifact) in [(2, &second), (1, &first)] {
            unload(&service).await;
            let status = service.infer(infer_request(1).0).await;
            assert_eq!(
                status.expect_err("it is unloaded").code(),
                Code::Unavailable
            );
            let serving = if keep_active {
                publish_keeping_active(&service, artifact).await.2
            } else {
                publish(&service, artifact).await.0
            };
            assert_eq!(serving, version);
            assert_eq!(service.serving_version().await, version.to_string());
        }
    }
}

async fn unload(service: &Service) {
    let request = RepositoryModelUnloadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    let mut admin = GrpcInferenceServiceClient::new(service.channel("admin").await);
    let response = admin.repository_model_unload(request).await;
    response.expect("it is unloaded");
}

#[tokio::test]
async fn the_same_file_with_another_manifest_is_a_new_version() {
    let service = start();
    let first = Artifact::new(1);
    let mut renamed = first.clone();
    renamed.manifest["class_names"] = serde_json::json!(["null", "eins", "zwei"]);
    assert_eq!(publish(&service, &first).await, (1, false));
    assert_eq!(class_names(&service).await, ["one", "two", "zero"]);
    assert_eq!(publish(&service, &renamed).await, (2, false));
    assert_eq!(class_names(&service).await, ["eins", "null", "zwei"]);

    // Both are stored: the one that is published again serves.
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(class_names(&service).await, ["one", "two", "zero"]);
    assert_eq!(publish(&service, &renamed).await, (2, true));
    assert_eq!(listed(&service).await, [(1, false), (2, true)]);
    assert_eq!(class_names(&service).await, ["eins", "null", "zwei"]);

    // The provenance does not distinguish models.
    let mut of_another_run = renamed.clone();
    of_another_run.manifest["provenance"]["run"] = "another".into();
    assert_eq!(publish(&service, &of_another_run).await, (2, true));
}

/// The class names of the serving version, sorted.
async fn class_names(service: &Service) -> Vec<String> {
    let mut png = Cursor::new(Vec::new());
    let image = GrayImage::new(8, 8);
    image
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory is written");
    let request = ClassifyRequest {
        model_name: MODEL.to_owned(),
        images: vec![png.into_inner().into()],
        ..ClassifyRequest::default()
    };
    let mut predictor = PredictorServiceClient::new(service.channel("grpc").await);
    let answer = predictor.classify(request).await.expect("it answers");
    let answer = answer.into_inner();
    let classes = answer.classifications[0].classes.iter();
    let mut names: Vec<_> = classes.map(|class| class.class_name.clone()).collect();
    names.sort();
    names
}

/// The old version answers until the new one does, and every answer has the logits of the version that it names.
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
