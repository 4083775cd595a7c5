//! The clients of `examples/`, against a real service.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Artifact, MODEL, Service, ServiceOptions};

/// The example clients and what they are pointed at.
struct Published {
    service: Service,
    artifact: tempfile::TempDir,
}

async fn published() -> Published {
    let service = Service::start(&ServiceOptions::default());
    let artifact = Artifact::new(1);
    service
        .publish(artifact.upload())
        .await
        .expect("it is published");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("model.onnx"), &artifact.onnx).expect("it is written");
    let manifest = artifact.manifest.to_string();
    fs::write(folder.path().join("manifest.json"), manifest).expect("it is written");
    Published {
        service,
        artifact: folder,
    }
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
        let lines = text.lines().filter(|line| line.starts_with("image "));
        lines
            .map(|line| line.split(" (").next().unwrap_or(line))
            .collect()
    }
}

pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package is in the repository")
        .to_owned()
}

pub fn python() -> PathBuf {
    let python = repository().join(".deps/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run scripts/setup --tests, which installs the clients that this test calls",
        python.display()
    );
    python
}

/// Examples lie beside the folder of the test's own executable.
fn rust_example() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let built = test.ancestors().nth(2).expect("it is in a target folder");
    let example = built.join("examples/predict");
    let hint = "build it with `cargo test -p inference-service` as a whole";
    assert!(example.exists(), "{} is missing: {hint}", example.display());
    example
}

#[tokio::test]
async fn the_python_and_the_rust_client_predict_alike_and_onnxruntime_agrees() {
    let published = published().await;
    let mut client = Command::new(python());
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

    let [statistics] = published
        .service
        .statistics()
        .await
        .try_into()
        .expect("one version");
    assert_eq!(
        (statistics.inference_count, statistics.execution_count),
        (10, 2)
    );
}

/// Our `.proto` against the descriptors that tritonclient carries.
#[test]
fn field_numbers_and_types_are_tritons() {
    let descriptors = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(descriptors.path(), proto::FILE_DESCRIPTOR_SET).expect("it is written");
    let output = Command::new(python())
        .arg(repository().join("inference-service/tests/service/compare_descriptors.py"))
        .arg(descriptors.path())
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("ModelInferRequest"), "{text}");
}
