//! The clients of `examples/`, against a real service.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    rows,
    support::{Artifact, MODEL, Service, ServiceOptions, publish, repository},
};

/// All checks except those that require codes that the document does not have, such as 401 or 406.
const SCHEMATHESIS_CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// A service and an artifact for the example clients.
struct Published {
    service: Service,
    artifact: tempfile::TempDir,
}

async fn published(artifact: &Artifact) -> Published {
    let service = Service::start(&ServiceOptions::default());
    publish(&service, artifact).await;
    Published {
        service,
        artifact: folder_of(artifact),
    }
}

/// A folder like that of a run.
pub fn folder_of(artifact: &Artifact) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("model.onnx"), &artifact.onnx).expect("it is written");
    let manifest = artifact.manifest.to_string();
    fs::write(folder.path().join("manifest.json"), manifest).expect("it is written");
    folder
}

impl Published {
    /// Runs a client and returns what it prints.
    fn call(&self, mut client: Command) -> String {
        let artifact = self.artifact.path();
        client.args([
            "--url",
            &self.service.address("grpc"),
            "--model",
            MODEL,
            "--artifact",
        ]);
        let output = client.arg(artifact).output().expect("the client starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client:?}: {text}{errors}");
        text
    }

    /// `(class, name)` lines of a client's output.
    fn predictions(text: &str) -> Vec<&str> {
        let of_a_sample = |line: &&str| line.starts_with("image ") || line.starts_with("row ");
        let lines = text.lines().filter(of_a_sample);
        lines
            .map(|line| line.split(" (").next().unwrap_or(line))
            .collect()
    }
}

/// The Python interpreter with the clients; without proxies.
pub fn python() -> Command {
    let python = repository().join(".deps/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run scripts/setup --tests, which installs the clients that this test calls",
        python.display()
    );
    let mut python = Command::new(python);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy"] {
        python.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    python
}

/// The folder of examples is beside that of the test's executable.
pub fn rust_example() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let built = test.ancestors().nth(2).expect("it is in a target folder");
    let example = built.join("examples/predict");
    let hint = "build it with `cargo test -p inference-service` as a whole";
    assert!(example.exists(), "{} is missing: {hint}", example.display());
    example
}

#[tokio::test]
async fn the_python_and_the_rust_client_agree_with_onnxruntime() {
    for artifact in [Artifact::new(1), rows::artifact()] {
        let published = published(&artifact).await;
        let mut client = python();
        client
            .arg(repository().join("examples/python/predict.py"))
            .arg("--compare");
        let python = published.call(client);
        assert!(
            python.contains("digits, version 1, on onnxruntime_onnx"),
            "{python}"
        );
        assert!(
            python.contains("largest difference to onnxruntime"),
            "{python}"
        );

        let rust = published.call(Command::new(rust_example()));
        let predictions = Published::predictions(&rust);
        assert_eq!(predictions.len(), 5, "{rust}");
        assert_eq!(predictions, Published::predictions(&python));

        let statistics = published.service.statistics().await;
        let [statistics] = statistics.try_into().expect("one version");
        assert_eq!(
            (statistics.inference_count, statistics.execution_count),
            (10, 2)
        );
    }
}

/// Clients that were not written for Retort. The test fails if one is not installed.
#[tokio::test]
async fn foreign_clients_are_served_over_both_protocols() {
    let published = published(&Artifact::new(1)).await;
    let png = published.artifact.path().join("image.png");
    let image = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * 31 + y) as u8]));
    image.save(&png).expect("it is written");
    let service = &published.service;
    let output = python()
        .arg(repository().join("inference-service/tests/service/foreign_clients.py"))
        .args(["--grpc", &service.address("grpc")])
        .args(["--http", &service.address("http")])
        .args(["--model", MODEL])
        .arg("--png")
        .arg(png)
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}\n{}", service.log());
    assert_eq!(text.matches("agree").count(), 12, "{text}");
}

/// Hundreds of valid and invalid requests generated from docs/openapi.yaml: no 5xx, and every response conforms to
/// the document.
#[tokio::test]
async fn schemathesis_finds_only_responses_that_conform_to_the_document() {
    let published = published(&Artifact::new(1)).await;
    let output = python()
        .args(["-m", "schemathesis.cli", "run"])
        .arg(repository().join("docs/openapi.yaml"))
        .arg("--url")
        .arg(format!("http://{}", published.service.address("http")))
        .args(["--checks", SCHEMATHESIS_CHECKS])
        .args(["--max-examples", "25", "--seed", "1", "--no-color"])
        // A slow machine is not a failure.
        .args(["--suppress-health-check", "too_slow"])
        .current_dir(published.artifact.path())
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let log = published.service.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Compares our `.proto` with the descriptors of tritonclient.
#[test]
fn field_numbers_and_types_are_tritons() {
    let descriptors = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(descriptors.path(), proto::FILE_DESCRIPTOR_SET).expect("it is written");
    let output = python()
        .arg(repository().join("inference-service/tests/service/compare_descriptors.py"))
        .arg(descriptors.path())
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("ModelInferRequest"), "{text}");
}
