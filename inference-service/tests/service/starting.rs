//! A service that answers while it loads its stored models.

use std::process::Command;

use proto::inference::{
    ServerLiveRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    Artifact, BINARY, Connection, FREE_PORTS, MODEL, Service, ServiceOptions, infer_request,
    publish, run_to_the_end, wait_until,
};
use test_support::{Process, eventually, held_file::HeldFile, wrapper::on_one_cpu};

/// Returns the address of `port` in the log.
fn listens(log: &str, port: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("listening"))?;
    let name = format!("{port}=");
    let address = line.split(' ').find_map(|word| word.strip_prefix(&name))?;
    Some(address.to_owned())
}

#[tokio::test]
async fn while_models_load_the_service_is_live_but_not_ready_and_rejects_calls() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("models");
    {
        let service = Service::start(&ServiceOptions {
            store: Some(&store),
            ..ServiceOptions::default()
        });
        publish(&service, &Artifact::new(1)).await;
    }
    let model = store.join(MODEL).join("1").join("model.onnx");
    let held = HeldFile::hold(&model);

    let ready_file = folder.path().join("ready.json");
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--store").arg(&store);
    command.arg("--ready-file").arg(&ready_file);
    command.args(FREE_PORTS);
    let process = Process::start(command);
    let [http, grpc, metrics] = ["http", "grpc", "metrics"]
        .map(|port| eventually("an address in the log", || listens(&process.stderr(), port)));

    let status = |path: &str| Connection::to(&http).call(path, &[], b"").status;
    assert_eq!(status("GET /v2/health/live"), 200);
    assert_eq!(status("GET /v2/health/ready"), 503);
    let refused = Connection::to(&http).call(&format!("POST /v2/models/{MODEL}/infer"), &[], b"{}");
    assert_eq!(refused.status, 503);
    let body = String::from_utf8(refused.body).unwrap();
    assert!(body.contains("STARTING"), "{body}");
    let scraped = Connection::to(&metrics).call("GET /metrics", &[], b"");
    assert_eq!(scraped.status, 200);
    let checked = run_to_the_end(&["healthcheck", &grpc]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(checked.stderr.contains("NOT_SERVING"), "{}", checked.stderr);
    let channel = server::grpc::endpoint(&grpc)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    let live = client.server_live(ServerLiveRequest {}).await.unwrap();
    assert!(live.get_ref().live);
    let ready = client.server_ready(ServerReadyRequest {}).await.unwrap();
    assert!(!ready.get_ref().ready);
    let refused = client.model_infer(infer_request(1).0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let info = refused.get_details_error_info().expect("a reason");
    assert_eq!(info.reason, "STARTING");
    wait_until(|| process.stderr().contains("loading the stored models"));
    assert!(!ready_file.exists());

    drop(held);
    wait_until(|| ready_file.exists());
    assert_eq!(status("GET /v2/health/ready"), 200);
    client
        .model_infer(infer_request(1).0)
        .await
        .expect("it is answered");
}

#[test]
fn more_threads_than_cpus_are_reported_by_the_key_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, settings: &[&str]| {
        let ready_file = folder.path().join(name);
        let mut command = Command::new(BINARY);
        command
            .arg("serve")
            .arg("--store")
            .arg(folder.path().join("models"));
        command.arg("--ready-file").arg(&ready_file);
        command.args(FREE_PORTS).args(settings);
        let process = Process::start(on_one_cpu(&command));
        // It is logged after the warnings.
        eventually("a line in the log", || {
            Some(process.stderr()).filter(|log| log.contains("listening"))
        })
    };
    let log = said(
        "more",
        &["--set=runtime.threads=2", "--set=models.large.threads=3"],
    );
    for warning in [
        "runtime.threads = 2, but this process may use 1 CPU (",
        "models.large.threads = 3, but this process may use 1 CPU (",
    ] {
        assert!(log.contains(warning), "{warning} is not in: {log}");
    }
    let log = said("as many", &["--set=runtime.threads=1"]);
    assert!(!log.contains("this process may use"), "{log}");
}
