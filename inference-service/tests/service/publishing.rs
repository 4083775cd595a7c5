//! Publishing, rolling back, deleting, restarting.

use std::{fs, io::Cursor};

use crate::support::{
    Artifact, MODEL, Service, ServiceOptions, assert_close, infer_request, run_to_the_end, upload,
};
use artifacts::model_store::{ModelName, ModelStore};
use common::digest::Sha256;
use image::{GrayImage, ImageFormat};
use proto::{
    inference::{
        ModelReadyRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient},
    publish::v1::{ListVersionsRequest, PublishHeader, PublishResponse},
};
use tonic::Code;

fn start() -> Service {
    Service::start(&ServiceOptions::default())
}

pub async fn publish(service: &Service, artifact: &Artifact) -> (u64, bool) {
    let published = service
        .publish(artifact.upload())
        .await
        .expect("it is published");
    (published.version, published.already_published)
}

pub async fn listed(service: &Service) -> Vec<(u64, bool)> {
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
    // It succeeds: then it serves.
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    assert_eq!(service.serving_version().await, "1");
}

/// The version that was published, whether it was stored already, and the one that serves.
async fn publish_again(service: &Service, artifact: &Artifact) -> (u64, bool, u64) {
    let header = PublishHeader {
        keep_active: true,
        ..artifact.header()
    };
    let published = service.publish(upload(header, &artifact.onnx)).await;
    let published = published.expect("it is published");
    let PublishResponse {
        version,
        already_published,
        active_version,
        ..
    } = published;
    (version, already_published, active_version)
}

#[tokio::test]
async fn a_late_repetition_of_an_unattended_publish_is_no_roll_back() {
    let service = start();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    assert_eq!(publish_again(&service, &first).await, (1, false, 1));
    assert_eq!(publish_again(&service, &second).await, (2, false, 2));
    // An operator rolls back; then the publish of version 2 comes again, for its answer was lost.
    service.activate(MODEL, 1).await.unwrap();
    assert_eq!(publish_again(&service, &second).await, (2, true, 1));
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(publish_again(&service, &first).await, (1, true, 1));
}

#[tokio::test]
async fn what_is_published_after_an_unload_serves() {
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
            let serving = match keep_active {
                true => publish_again(&service, artifact).await.2,
                false => publish(&service, artifact).await.0,
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
async fn a_deleted_model_is_gone_and_may_be_published_again() {
    let models = tempfile::tempdir().unwrap();
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let service = Service::start(&options);
    publish(&service, &Artifact::constant(1)).await;
    publish(&service, &Artifact::constant(2)).await;
    let version_only = service.delete(MODEL, 2).await.expect_err("it is active");
    assert!(version_only.message().contains("--all"), "{version_only}");
    for bad in ["", "../digits"] {
        let status = service.delete_model(bad).await.expect_err("it is no name");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(service.delete_model(MODEL).await.unwrap(), [1, 2]);
    for status in [
        service.infer(infer_request(1).0).await.map(drop),
        service.delete_model(MODEL).await.map(drop),
        service.activate(MODEL, 1).await.map(drop),
    ] {
        assert_eq!(status.expect_err("it is gone").code(), Code::NotFound);
    }
    assert!(service.versions().await.is_empty());
    assert!(service.statistics().await.is_empty());
    assert!(!models.path().join(MODEL).exists());
    assert!(!service.metrics().contains(MODEL));
    drop(service);

    let service = Service::start(&options);
    assert!(service.versions().await.is_empty());
    // A client may still know the numbers of those that were deleted.
    assert_eq!(publish(&service, &Artifact::constant(3)).await, (3, false));
    assert_eq!(service.serving_version().await, "3");
}

/// They were taken before, and wait for a batch that does not fill.
#[tokio::test]
async fn requests_in_flight_on_a_deleted_model_are_answered() {
    let service = Service::start(&ServiceOptions {
        set: &["batching.max_queue_delay_microseconds=1000000"],
        ..ServiceOptions::default()
    });
    publish(&service, &Artifact::constant(1)).await;
    let mut client = service.inference().await;
    let call = tokio::spawn(async move { client.model_infer(infer_request(1).0).await });
    let pending =
        format!("nv_inference_pending_request_count{{model=\"{MODEL}\",version=\"1\"}} 1");
    while !call.is_finished() && !service.metrics().lines().any(|line| line == pending) {
        tokio::task::yield_now().await;
    }
    service.delete_model(MODEL).await.expect("it is deleted");
    let answer = call.await.expect("it ends").expect("it is answered");
    assert_eq!(answer.get_ref().model_version, "1");
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

    // Both are there: what is published again serves.
    assert_eq!(publish(&service, &first).await, (1, true));
    assert_eq!(class_names(&service).await, ["one", "two", "zero"]);
    assert_eq!(publish(&service, &renamed).await, (2, true));
    assert_eq!(listed(&service).await, [(1, false), (2, true)]);
    assert_eq!(class_names(&service).await, ["eins", "null", "zwei"]);

    // What another run made is the same model still.
    let mut of_another_run = renamed.clone();
    of_another_run.manifest["provenance"]["run"] = "another".into();
    assert_eq!(publish(&service, &of_another_run).await, (2, true));
}

/// What the version that serves calls its classes, sorted.
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

#[tokio::test]
async fn a_listing_may_leave_manifests_out_or_be_of_one_version() {
    let service = start();
    let artifacts = [Artifact::new(1), Artifact::new(2)];
    for artifact in &artifacts {
        publish(&service, artifact).await;
    }
    let list = async |version, omit_manifests| {
        let request = ListVersionsRequest {
            model_name: MODEL.to_owned(),
            version,
            omit_manifests,
        };
        let response = service.publisher().await.list_versions(request).await;
        response.expect("versions are listed").into_inner().versions
    };
    let whole = service.versions().await;
    assert_eq!(list(0, false).await, whole);
    assert_eq!(whole[0].manifest_json, artifacts[0].parsed().to_json());
    assert_eq!(list(2, false).await, whole[1..]);
    let mut short = whole;
    for version in &mut short {
        version.manifest_json.clear();
    }
    assert_eq!(list(0, true).await, short);
    assert_eq!(list(1, true).await, short[..1]);
    assert!(list(3, false).await.is_empty());
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
    assert_eq!(publish_again(&service, &second).await, (2, true, 2));
    assert_eq!(publish_again(&service, &first).await, (1, true, 2));
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
    service.log_once(|log| log.contains("damaged/1/model.onnx"));
}

#[tokio::test]
async fn a_damaged_manifest_is_listed_and_the_other_versions_can_serve() {
    let models = tempfile::tempdir().unwrap();
    let options = ServiceOptions {
        store: Some(models.path()),
        ..ServiceOptions::default()
    };
    let damage = |version: u64| {
        let folder = models.path().join(MODEL).join(version.to_string());
        fs::write(folder.join("manifest.json"), b"{").unwrap();
    };
    let states = async |service: &Service| {
        let versions = service.versions().await;
        let states = versions
            .iter()
            .map(|version| (version.version, version.active, version.damaged));
        states.collect::<Vec<_>>()
    };
    let service = Service::start(&options);
    for seed in 1..=4 {
        publish(&service, &Artifact::new(seed)).await;
    }
    damage(2);
    let expected = [
        (1, false, false),
        (2, false, true),
        (3, false, false),
        (4, true, false),
    ];
    assert_eq!(states(&service).await, expected);
    service.log_once(|log| log.contains("digits/2/manifest.json"));
    service.activate(MODEL, 3).await.expect("it is whole");
    assert_eq!(service.serving_version().await, "3");
    service.activate(MODEL, 2).await.expect_err("it is damaged");
    assert_eq!(service.serving_version().await, "3");
    drop(service);

    // Also the one that served, found at the next start.
    damage(3);
    let service = Service::start(&options);
    let expected = [
        (1, false, false),
        (2, false, true),
        (3, true, true),
        (4, false, false),
    ];
    assert_eq!(states(&service).await, expected);
    service.activate(MODEL, 1).await.expect("it is whole");
    assert_eq!(service.serving_version().await, "1");
    service.delete(MODEL, 3).await.expect("it is stored");
}
