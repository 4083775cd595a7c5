//! Readiness while stored models cannot be served.

use std::{fs, path::Path};

use artifacts::model_store::{FolderStore, ModelName, ModelStore};
use proto::inference::{
    ModelReadyRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    repository_index_response::ModelIndex,
};
use tempfile::TempDir;

use crate::support::{
    Artifact, Connection, MODEL, Service, ServiceOptions, infer_request, run_to_the_end, wait_until,
};

/// The name of a model besides [`MODEL`].
const OTHER: &str = "letters";

/// A store with `models`, each with one active version.
fn stored(models: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FolderStore::open(folder.path()).expect("it can be made");
    for model in models {
        commit(&store, model, 1);
    }
    folder
}

/// Stores and activates [`Artifact::constant`] of `n`.
fn commit(store: &FolderStore, model: &str, n: u64) {
    let name = ModelName::new(model).expect("a name");
    let artifact = Artifact::constant(n);
    let version = store.commit(&name, &artifact.onnx, &artifact.parsed());
    let version = version.expect("it is stored");
    store.activate(&name, version).expect("it is activated");
}

fn start(store: &Path, set: &[&str]) -> Service {
    Service::start(&ServiceOptions {
        store: Some(store),
        set,
        ..ServiceOptions::default()
    })
}

/// Flips a bit of a version's model.
fn damage(store: &Path, model: &str, version: u64) {
    let path = store
        .join(model)
        .join(version.to_string())
        .join("model.onnx");
    let mut onnx = fs::read(&path).expect("it is there");
    let middle = onnx.len() / 2;
    onnx[middle] ^= 1;
    fs::write(&path, onnx).expect("it can be written");
}

/// The readiness, which all protocols report alike.
async fn ready(service: &Service) -> bool {
    let http = Connection::to(&service.address("http")).call("GET /v2/health/ready", &[], b"");
    let mut client = service.inference().await;
    let asked = client.server_ready(ServerReadyRequest {}).await;
    let grpc = asked.expect("it answers").into_inner().ready;
    let check = |port| {
        let output = run_to_the_end(&["healthcheck", &service.address(port)]);
        output.status.code() == Some(0)
    };
    let found = [http.status == 200, grpc, check("grpc"), check("admin")];
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    found[0]
}

async fn model_is_ready(service: &Service, model: &str) -> bool {
    let request = ModelReadyRequest {
        name: model.to_owned(),
        version: String::new(),
    };
    let ready = service.inference().await.model_ready(request).await;
    let grpc = ready.expect("it answers").into_inner().ready;
    let line = format!("GET /v2/models/{model}/ready");
    let http = Connection::to(&service.address("http")).call(&line, &[], b"");
    assert_eq!(http.status == 200, grpc);
    grpc
}

async fn index(service: &Service, model: &str) -> Vec<ModelIndex> {
    let request = RepositoryIndexRequest::default();
    let index = service.inference().await.repository_index(request).await;
    let mut models = index.expect("it answers").into_inner().models;
    models.retain(|version| version.name == model);
    models
}

#[tokio::test]
async fn a_damaged_active_version_makes_the_service_not_ready_until_another_serves() {
    let folder = stored(&[MODEL, OTHER]);
    damage(folder.path(), MODEL, 1);
    let service = start(folder.path(), &[]);
    assert!(!ready(&service).await);
    assert!(!model_is_ready(&service, MODEL).await);
    assert!(model_is_ready(&service, OTHER).await);
    let [version] = index(&service, MODEL)
        .await
        .try_into()
        .expect("one version");
    assert_eq!(version.state, "UNAVAILABLE");
    assert!(
        version.reason.contains("digits/1/model.onnx"),
        "{version:?}"
    );
    assert!(version.reason.contains("SHA-256"), "{version:?}");
    let listed = service.versions().await;
    let listed = listed.iter().find(|listed| listed.model_name == MODEL);
    let listed = listed.expect("it is listed");
    assert!(listed.active);
    assert_eq!(
        (&listed.state, &listed.reason),
        (&version.state, &version.reason)
    );

    // The damaged model can be published again, as a new version.
    let published = service.publish(Artifact::constant(1).upload()).await;
    let published = published.expect("it is published");
    assert_eq!((published.version, published.already_published), (2, false));
    assert!(ready(&service).await);
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test]
async fn unloaded_and_deleted_models_do_not_affect_readiness() {
    let folder = stored(&[MODEL, OTHER]);
    for model in [MODEL, OTHER] {
        damage(folder.path(), model, 1);
    }
    let service = start(folder.path(), &[]);
    assert!(!ready(&service).await);
    let mut admin = GrpcInferenceServiceClient::new(service.channel("admin").await);
    let unload = RepositoryModelUnloadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelUnloadRequest::default()
    };
    admin
        .repository_model_unload(unload)
        .await
        .expect("it is unloaded");
    assert!(!ready(&service).await);
    assert_eq!(
        service.delete_model(OTHER).await.expect("it is deleted"),
        [1]
    );
    assert!(ready(&service).await);
    let load = RepositoryModelLoadRequest {
        model_name: MODEL.to_owned(),
        ..RepositoryModelLoadRequest::default()
    };
    admin
        .repository_model_load(load)
        .await
        .expect_err("it is damaged");
    assert!(
        ready(&service).await,
        "a model that never served does not affect readiness"
    );
}

#[tokio::test]
async fn readiness_may_be_independent_of_models() {
    let folder = stored(&[MODEL]);
    damage(folder.path(), MODEL, 1);
    let service = start(folder.path(), &["readiness=server"]);
    assert!(ready(&service).await);
    assert!(!model_is_ready(&service, MODEL).await);
}

#[tokio::test]
async fn a_model_with_a_transient_read_error_is_loaded_later() {
    let folder = stored(&[MODEL, OTHER]);
    // A folder instead of a file is an I/O error for every user, including root.
    let file = folder.path().join(MODEL).join("1/model.onnx");
    let away = folder.path().join("away");
    fs::rename(&file, &away).expect("it can be moved");
    fs::create_dir(&file).expect("it can be made");
    let service = start(folder.path(), &[]);
    assert!(!ready(&service).await);
    assert!(model_is_ready(&service, OTHER).await);
    let status = service.infer(infer_request(1).0).await;
    assert_eq!(
        status.expect_err("it cannot be loaded").code(),
        tonic::Code::Unavailable
    );

    fs::remove_dir(&file).expect("it is empty");
    fs::rename(&away, &file).expect("it can be moved back");
    let check = || run_to_the_end(&["healthcheck", &service.address("grpc")]);
    wait_until(|| check().status.code() == Some(0));
    assert!(ready(&service).await);
    assert_eq!(service.serving_version().await, "1");
}

#[tokio::test]
async fn a_model_that_did_not_fit_into_memory_is_loaded_after_another_is_unloaded() {
    let folder = stored(&[MODEL, OTHER]);
    let service = start(folder.path(), &[]);
    let memory = service.statistics().await[0].memory_usage[0].byte_size;
    drop(service);
    let limit = format!("memory.max_model_bytes={}", memory + memory / 2);
    let service = start(folder.path(), &[&limit]);
    assert!(!ready(&service).await);
    assert!(model_is_ready(&service, MODEL).await);
    let [version] = index(&service, OTHER)
        .await
        .try_into()
        .expect("one version");
    assert!(
        version.reason.contains("memory.max_model_bytes"),
        "{version:?}"
    );
    service.delete_model(MODEL).await.expect("it is deleted");
    let check = || run_to_the_end(&["healthcheck", &service.address("grpc")]);
    wait_until(|| check().status.code() == Some(0));
    assert!(model_is_ready(&service, OTHER).await);
}

#[tokio::test]
async fn a_damaged_active_json_is_reported_and_does_not_affect_other_models() {
    let folder = stored(&[MODEL, OTHER]);
    fs::write(folder.path().join(MODEL).join("active.json"), b"{").expect("it can be written");
    let service = start(folder.path(), &[]);
    assert!(!ready(&service).await);
    let [version] = index(&service, MODEL)
        .await
        .try_into()
        .expect("one version");
    assert!(version.reason.contains("active.json"), "{version:?}");
    assert_eq!(service.versions().await.len(), 2);
    assert!(model_is_ready(&service, OTHER).await);
}
