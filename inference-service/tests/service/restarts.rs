//! What a service serves after a restart, with interrupted publishes and damaged files in its store.

use std::fs;

use artifacts::model_store::{FolderStore, ModelName, ModelStore};
use proto::inference::ModelReadyRequest;

use crate::support::{
    Artifact, MODEL, Service, ServiceOptions, listed, publish, publish_keeping_active,
    serve_to_the_end,
};

#[tokio::test]
async fn a_restart_serves_the_same_version() {
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

    // An interrupted publish leaves a folder without a manifest.
    let half = models.path().join(MODEL).join("3");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("model.onnx"), b"half").unwrap();

    let service = Service::start(&options);
    assert_eq!(service.serving_version().await, "1");
    assert_eq!(listed(&service).await, [(1, true), (2, false)]);
    assert!(!half.exists());

    let second = serve_to_the_end(models.path(), &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        second.stderr.contains("in use by another process"),
        "{}",
        second.stderr
    );
    let store = models.path().to_str().unwrap();
    assert!(second.stderr.contains(store), "{}", second.stderr);
}

#[tokio::test]
async fn the_next_start_completes_a_publish_that_was_interrupted_before_its_activation() {
    let models = tempfile::tempdir().unwrap();
    let (first, second) = (Artifact::new(1), Artifact::new(2));
    let name = ModelName::new(MODEL).unwrap();
    let store = FolderStore::open(models.path()).unwrap();
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
    assert_eq!(
        publish_keeping_active(&service, &second).await,
        (2, true, 2)
    );
    assert_eq!(publish_keeping_active(&service, &first).await, (1, true, 2));
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test]
async fn a_damaged_model_does_not_affect_the_others() {
    let models = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1);
    let store = FolderStore::open(models.path()).unwrap();
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
async fn a_version_with_a_damaged_manifest_is_listed_and_the_others_can_serve() {
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
    service.activate(MODEL, 3).await.expect("an intact version");
    assert_eq!(service.serving_version().await, "3");
    service.activate(MODEL, 2).await.expect_err("it is damaged");
    assert_eq!(service.serving_version().await, "3");
    drop(service);

    // The active version too is found damaged at the next start.
    damage(3);
    let service = Service::start(&options);
    let expected = [
        (1, false, false),
        (2, false, true),
        (3, true, true),
        (4, false, false),
    ];
    assert_eq!(states(&service).await, expected);
    service.activate(MODEL, 1).await.expect("an intact version");
    assert_eq!(service.serving_version().await, "1");
    service.delete(MODEL, 3).await.expect("it is stored");
}
